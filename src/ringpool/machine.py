"""What this process may use of the machine, processors and memory, as affinity and control groups leave it; and how
often the kernel has killed when memory ran out."""

from __future__ import annotations

import errno
import math
import os
from collections.abc import Iterator

# Strings: to import pathlib takes longer than all that is done here.
_CGROUPS = "/sys/fs/cgroup"
_SELF = "/proc/self/cgroup"
_VMSTAT = "/proc/vmstat"
_UNKNOWN_MEMORY = 4 << 30  # arbitrary

# How a system call fails that a sandbox (seccomp, as container engines use it) does not allow, or the kernel lacks.
_REFUSALS = frozenset({errno.EPERM, errno.EACCES, errno.ENOSYS})


def is_refused(error: OSError) -> bool:
    """Whether a system call failed because it is not allowed at all. (Here, not in `refusals`: that is imported when
    something has failed, and cannot be while no descriptor is left.)"""
    return error.errno in _REFUSALS


def usable_cpus() -> int:
    """Processors that this process may use: those of its affinity, but no more than its control group's quota buys.

    Returns:
        At least 1; a quota of 1.5 processors counts as 2.
    """
    try:
        cpus = len(os.sched_getaffinity(0))
    except OSError:  # a sandbox may refuse
        cpus = os.cpu_count() or 1
    for folder in _own_cgroups("cpu"):
        quota = _cpu_quota(folder)
        if quota is not None:
            cpus = min(cpus, math.ceil(quota))
    return max(cpus, 1)


def usable_memory() -> int:
    """Bytes of memory that this process may use: the machine's, but no more than its control group's limit."""
    try:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):  # a sandbox may refuse
        memory = _UNKNOWN_MEMORY
    for folder in _own_cgroups("memory"):
        for name in ("memory.max", "memory.limit_in_bytes"):  # version 2, version 1
            words = _read(f"{folder}/{name}")
            if words and words[0].isascii() and words[0].isdigit():
                memory = min(memory, int(words[0]))
    return memory


def oom_kills() -> int | None:
    """How many processes the kernel has killed because memory ran out: of this process's control group, even if it was
    the memory of another group; of the whole machine, where the group has no such count. It only grows. None if none
    is kept."""
    for folder in _own_cgroups("memory"):  # the innermost is the first, and the one that a child of ours belongs to
        for name in ("memory.events", "memory.oom_control"):  # version 2, version 1
            kills = _counter(f"{folder}/{name}", "oom_kill")
            if kills is not None:
                return kills
    return _counter(_VMSTAT, "oom_kill")


def peak_rss() -> int:
    """The most memory, in bytes, that this process has had in use, and at least what it passes on by an exec to what it
    starts as a child's. (It may be what this one's own exec has passed on. Not VmHWM: the kernel sums it up more
    exactly, so it may be a little less than what is passed on.)"""
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _own_cgroups(controller: str) -> Iterator[str]:
    """The folders of this process's control group and all above it, under either version of the interface.

    In a container the path of /proc/self/cgroup may be the host's, with the group itself mounted at the root; so the
    root is always among them. See cgroups(7).
    """
    for line in _read_lines(_SELF):
        _, colon, rest = line.partition(":")
        controllers, second, path = rest.partition(":")
        if not (colon and second):
            continue
        if controllers == "":
            root = f"{_CGROUPS}"
        elif controller in controllers.split(","):
            root = f"{_CGROUPS}/{controller}"
        else:
            continue
        names = [name for name in path.split("/") if name]
        for n in range(len(names), -1, -1):
            yield "/".join((root, *names[:n]))


def _cpu_quota(folder: str) -> float | None:
    words = _read(f"{folder}/cpu.max")  # version 2: "quota period" or "max period"
    if len(words) == 2:
        return _ratio(*words)
    quota, period = _read(f"{folder}/cpu.cfs_quota_us"), _read(f"{folder}/cpu.cfs_period_us")  # version 1
    return _ratio(quota[0], period[0]) if quota and period else None


def _ratio(quota: str, period: str) -> float | None:
    try:
        parts = int(quota), int(period)
    except ValueError:  # "max", or nothing that we know
        return None
    return parts[0] / parts[1] if parts[0] >= 0 and parts[1] > 0 else None


def _counter(path: str, name: str) -> int | None:
    for line in _read_lines(path):
        words = line.split()
        if len(words) == 2 and words[0] == name and words[1].isascii() and words[1].isdigit():
            return int(words[1])
    return None


def _read(path: str) -> list[str]:
    lines = _read_lines(path)
    return lines[0].split() if lines else []


def _read_lines(path: str) -> list[str]:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read().splitlines()
    except (OSError, ValueError):
        return []
