"""What the tests of recycling run in workers."""

from __future__ import annotations

import os
import time
from pathlib import Path

_kept: list[bytearray] = []


def note_start(path: str) -> None:
    """An initializer: writes which process starts, and which of those that started before are still there."""
    with open(path, "a+") as file:
        file.seek(0)
        before = [int(line.split()[0]) for line in file]
        there = [pid for pid in before if is_there(pid)]
        file.write(f"{os.getpid()} {' '.join(map(str, there))}\n")


def is_there(pid: int) -> bool:
    """Whether the process is there and not about to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def pid_of(_: int = 0) -> int:
    return os.getpid()


def alone(path: str) -> int:
    """Fails if another task is in here."""
    fd = os.open(path, os.O_CREAT | os.O_EXCL)
    time.sleep(0.0005)
    os.close(fd)
    os.unlink(path)
    return os.getpid()


def grow(n: int) -> int:
    """Keeps n bytes of memory for good."""
    _kept.append(bytearray(b"x" * n))
    return os.getpid()


def wait_long(path: str) -> None:
    Path(path).touch()
    time.sleep(60)
