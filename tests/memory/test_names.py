"""A pool has no names in a file system or in the kernel: nothing is left of it, however its processes end."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from levels import METHODS
from limits import LIMIT
from pools import pool
from programs import SUPPORT, environment
from waiting import wait_until

# What has no name although the kernel shows one: memory without a file system, pipes, sockets without an address (see
# named_sockets()), and what stands for a process, a clock, a set of descriptors and so on.
UNNAMED = re.compile(r"/memfd:|/dev/zero \(deleted\)|/dev/null$|pipe:\[|socket:\[|anon_inode:")


def descriptors(pid: int) -> set[str]:
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(entry))
        except OSError:  # closed meanwhile
            continue
    return found


def shared_mappings(pid: int) -> set[str]:
    """What a process shares: the names of all mappings with the flag of shared ones; "" for one without a name."""
    found = set()
    for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
        _, flags, _, _, _, *name = line.split(maxsplit=5)
        if flags.endswith("s"):
            found.add(name[0] if name else "")
    return found


def named_sockets() -> set[str]:
    """The sockets of the machine that have a name in a file system, or one that begins with @; as descriptors are."""
    lines = Path("/proc/net/unix").read_text().splitlines()[1:]
    return {f"socket:[{words[6]}]" for words in map(str.split, lines) if len(words) > 7}


def things_of(pid: int) -> set[str]:
    return descriptors(pid) | shared_mappings(pid)


def named(things: set[str]) -> set[str]:
    return {each for each in things - {""} if not UNNAMED.match(each)} | (things & named_sockets())


@pytest.mark.parametrize("method", METHODS)
def test_nothing_that_a_pool_opens_or_shares_has_a_name(method):
    before = things_of(os.getpid())  # such as the output of this run, and semaphores of multiprocessing's own
    with pool(2, method) as executor:
        shared = executor.share(bytearray(1 << 20))
        assert executor.submit(len, shared).result(LIMIT) == 1 << 20
        assert len(executor.submit(bytes, 1 << 20).result(LIMIT)) == 1 << 20
        workers = [process.pid for process in executor._supervisor.processes]
        for pid in os.getpid(), *workers:
            assert any(each.startswith("/memfd:ringpool") for each in shared_mappings(pid))
            # A file of the system's that is being read is closed in a moment.
            wait_until(
                lambda pid=pid: not named(things_of(pid) - before),
                f"no name among what {'a worker' if pid in workers else 'the parent'} has",
            )


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_makes_no_file_or_object_of_the_kernel_that_has_a_name(method, tmp_path):
    """Where nothing else does: with file systems for temporary files and objects of System V of the test's own."""
    command = [sys.executable, str(SUPPORT / "names_driver.py"), method, str(tmp_path)]
    done = subprocess.run(command, env=environment(TMPDIR=str(tmp_path)), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, ""), f"{done.returncode}\n{done.stdout}\n{done.stderr}"
    report = json.loads(done.stdout)
    if refused := report.get("refused"):
        pytest.skip(f"the system gives no namespaces: {refused}")
    assert report == {"made": [], "there": [], "objects": []}
