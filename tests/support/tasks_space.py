"""Tasks of test_space.py: what a process with little address space does."""

from __future__ import annotations

import mmap
import os
import resource
import sys
import threading
from pathlib import Path

MIB = 1 << 20


def space() -> int:
    """Bytes of address space that this process takes."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def leave(room: int) -> None:
    """This process may have `room` bytes more than it has."""
    resource.setrlimit(resource.RLIMIT_AS, (space() + room, resource.getrlimit(resource.RLIMIT_AS)[1]))


def limit_to(total: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (total, resource.getrlimit(resource.RLIMIT_AS)[1]))


def lift() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.getrlimit(resource.RLIMIT_AS)[1]))


def room() -> int:
    """MiB that this process can allocate in one piece, to 16."""
    low, high = 0, 1 << 16
    while high - low > 16:
        middle = (low + high) // 2
        try:
            mmap.mmap(-1, middle * MIB).close()
            low = middle
        except OSError:
            high = middle
    return low


def does_what_programs_do() -> str:
    """Allocates, starts a thread and imports a library that is in no process yet."""
    assert len(bytearray(32 * MIB)) == 32 * MIB
    told: list[int] = []
    thread = threading.Thread(target=told.append, args=(1,))
    thread.start()
    thread.join()
    assert told == [1] and "_elementtree" not in sys.modules
    import xml.etree.ElementTree as tree

    return tree.fromstring("<a>right</a>").text or ""


def there_and_back(data: bytes) -> bytes:
    return data[::-1]


def blob(n: int, seed: int) -> bytes:
    return bytes([seed % 251]) * n


def put_file_everywhere(path: str) -> None:
    """As careless programs that make a daemon of themselves: the numbers of what was open are another file's."""
    fd = os.open(path, os.O_RDWR)
    for other in map(int, os.listdir("/proc/self/fd")):
        name = os.readlink(f"/proc/self/fd/{other}") if os.path.exists(f"/proc/self/fd/{other}") else ""
        if "memfd:ringpool" in name:
            os.dup2(fd, other)


def pool_files_in_a_child(told: str) -> int:
    pid = os.fork()
    if pid == 0:
        open_files = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if fd_is_open(fd)]
        Path(told).write_text(str([name for name in open_files if name.startswith("/memfd:ringpool (")]))
        os._exit(0)
    return os.waitpid(pid, 0)[1]


def fd_is_open(fd: str) -> bool:
    return os.path.lexists(f"/proc/self/fd/{fd}")
