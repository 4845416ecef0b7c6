"""Runs a pool where nothing else makes names, and says which names were made: see tests/memory/test_names.py.

    python names_driver.py METHOD FOLDER

The folder is also TMPDIR. It and /dev/shm are empty file systems in a mount namespace, where each name that is made is
seen, however soon it goes. Objects of System V are in a namespace, too.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import struct
import sys
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.forkserver import ensure_running
from pathlib import Path

import tasks_memory as tasks
from limits import LIMIT

from ringpool import ProcessPoolExecutor

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWIPC = 0x0002_0000, 0x1000_0000, 0x0800_0000
MS_REC, MS_PRIVATE = 1 << 14, 1 << 18
IN_MOVED_TO, IN_CREATE = 0x80, 0x100
SHM = "/dev/shm"

libc = ctypes.CDLL(None, use_errno=True)


def call(function: Callable[..., int], *arguments: object) -> int:
    result = function(*arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), function.__name__)
    return result


def enter_namespaces(*folders: str) -> None:
    """Empty file systems on the folders, for this process and its children alone.

    Raises:
        OSError: The system does not allow it.
    """
    user, group = os.getuid(), os.getgid()
    call(libc.unshare, CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWIPC)
    # Without its user and group in the new namespace, a process can make no file there.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    call(libc.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)
    for folder in folders:
        os.makedirs(folder, exist_ok=True)  # it may be below the one before
        call(libc.mount, b"tmpfs", folder.encode(), b"tmpfs", 0, None)


class Watch:
    """Sees each name that is made in some folders, but not in those below them.

    Args:
        folders: The folders.
    """

    def __init__(self, *folders: str) -> None:
        self._fd = call(libc.inotify_init1, os.O_NONBLOCK | os.O_CLOEXEC)
        self._folders = {
            call(libc.inotify_add_watch, self._fd, folder.encode(), IN_CREATE | IN_MOVED_TO): folder
            for folder in folders
        }

    def made(self) -> list[str]:
        """The names that were made since this was last asked."""
        found = []
        try:
            while data := os.read(self._fd, 1 << 16):
                while data:
                    watch, _, _, n = struct.unpack_from("iIII", data)
                    name = data[16 : 16 + n].rstrip(b"\0").decode()
                    found.append(os.path.join(self._folders[watch], name))
                    data = data[16 + n :]
        except BlockingIOError:
            return found
        return found


def names(*folders: str) -> set[str]:
    return {os.path.join(folder, name) for folder in folders for name in os.listdir(folder)}


def objects() -> list[str]:
    return [line for kind in ("shm", "sem", "msg") for line in Path("/proc/sysvipc", kind).read_text().splitlines()[1:]]


def work(executor: ProcessPoolExecutor) -> None:
    """What makes shared memory, wakes processes and starts some."""
    data = tasks.pattern(1 << 20)
    shared = executor.share(bytearray(data))
    assert executor.submit(len, shared).result(LIMIT) == len(data)
    assert list(executor.map(tasks.same, [data] * 8, timeout=LIMIT)) == [data] * 8
    assert list(executor.map(tasks.same, range(1000), timeout=LIMIT)) == list(range(1000))
    executor.submit(os.kill, os.getpid(), 0).result(LIMIT)
    died = executor.submit(signal.raise_signal, signal.SIGKILL)
    assert died.exception(LIMIT) is not None
    assert executor.submit(tasks.same, data).result(LIMIT) == data


def main() -> None:
    method, folder = sys.argv[1:]
    try:
        enter_namespaces(SHM, folder)
    except OSError as error:
        print(json.dumps({"refused": str(error)}))
        return
    if method == "forkserver":
        ensure_running()  # multiprocessing's own process, which listens at a socket in TMPDIR
    before = names(SHM, folder)
    watch = Watch(SHM, folder)
    with ProcessPoolExecutor(2, get_context(method)) as executor:
        work(executor)
        there = sorted(names(SHM, folder) - before)
        print(json.dumps({"made": watch.made(), "there": there, "objects": objects()}))


if __name__ == "__main__":
    main()
