"""What the workers of test_views.py run; importable, for workers that start afresh."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import time
import zlib
from pathlib import Path
from typing import Any

from files import await_file


def crc(data: Any) -> int:
    return zlib.crc32(data)


def filled(n: int, seed: int) -> bytearray:
    """n bytes that tell which buffer they belong to, and where."""
    word = seed.to_bytes(4, "little")
    data = bytearray(word * (n // 4 + 1))[:n]
    for at in range(0, n - 8, 1024):
        data[at : at + 8] = at.to_bytes(8, "little")
    return data


class Buffers:
    """Its buffers pickle apart from it."""

    def __init__(self, *buffers: Any) -> None:
        self.buffers = list(buffers)

    def __reduce_ex__(self, protocol: int) -> tuple[type[Buffers], tuple[Any, ...]]:
        return type(self), tuple(pickle.PickleBuffer(buffer) for buffer in self.buffers)


def make(*sizes: int, seed: int = 0) -> Buffers:
    return Buffers(*(filled(n, seed + i) for i, n in enumerate(sizes)))


def same(value: Any) -> Any:
    return value


def overwrite(value: Buffers) -> Buffers:
    for buffer in value.buffers:
        buffer[:] = bytes(len(buffer))
    return value


_kept: list[Any] = []


def keep(value: Any) -> int:
    """Keeps the argument until it is told otherwise."""
    _kept.append(value)
    return os.getpid()


def kept() -> list[int]:
    return [crc(buffer) for value in _kept for buffer in value.buffers]


def write_to_kept(byte: int) -> None:
    for value in _kept:
        for buffer in value.buffers:
            buffer[:] = bytes([byte]) * len(buffer)


def forget(n: int | None = None) -> None:
    """Lets the first n go of what has been kept, or all."""
    del _kept[:n]


def forget_when(path: str) -> None:
    """The same, when this has been answered and the file is there."""

    def run() -> None:
        await_file(path)
        _kept.clear()

    threading.Thread(target=run).start()


def fail(value: Any) -> None:
    raise ValueError("no")


def fork_and_look(value: Buffers, folder: str) -> tuple[list[int], list[int], int]:
    """What a child of the task sees in the argument, though the task writes to it after the fork; what the task then
    has; and how the child ended."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(write)
            os.read(read, 1)  # until the parent has overwritten its own
            Path(folder, "seen").write_text(repr([crc(buffer) for buffer in value.buffers]))
            overwrite(value)
            Path(folder, "written").write_text(repr([crc(buffer) for buffer in value.buffers]))
        finally:
            os._exit(0)
    for buffer in value.buffers:
        buffer[:] = b"\1" * len(buffer)
    os.close(write)
    os.close(read)
    status = os.waitpid(pid, 0)[1]
    return eval(Path(folder, "seen").read_text()), [crc(buffer) for buffer in value.buffers], status


def read_only(value: Buffers) -> list[bool]:
    return [memoryview(buffer).readonly for buffer in value.buffers]


def die(value: Any) -> None:
    os.kill(os.getpid(), 9)


def sleep(seconds: float, value: Any = None) -> None:
    time.sleep(seconds)


def modules() -> list[str]:
    return sorted(sys.modules)


# ---- of test_loans.py ----


def make_compact(n: int, seed: int) -> list[bytearray]:
    return [filled(n, seed)]


def text(n: int) -> str:
    return "\u20ac" * (n // 2)


def fail_with(n: int) -> None:
    raise LookupError("x" * n)


def fill_or_die(n: int) -> bytearray:
    """Dies where there is nothing to fill."""
    if n == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return filled(n, n)


def note_and_make(path: str, n: int) -> bytes:
    Path(path).write_text(str(os.getpid()))
    return bytes(n)


def make_growing(path: str, n: int) -> list[bytearray]:
    """Grows after its task has returned it, when the file is there, and says so in another."""
    data = bytearray(n)

    def grow() -> None:
        await_file(path)
        data.extend(bytes(1000))
        Path(path + ".grown").touch()

    threading.Thread(target=grow).start()
    return [data]


def make_or_wait(n: int | str) -> bytes | None:
    """Where it is given a path, waits until something is there. Else it is done before results are due to be sent."""
    return bytes(n) if isinstance(n, int) else await_file(n)
