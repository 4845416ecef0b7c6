"""What the workers of test_storm.py and test_wakeups.py run; importable, for workers that start afresh."""

from __future__ import annotations

import time
import zlib


def fill(i: int, size: int) -> bytes:
    """The payload number i: no two of one size are alike."""
    return (i.to_bytes(8, "little") * (size // 8 + 1))[:size]


def answer(i: int, size: int) -> tuple[int, int, bytes]:
    """A result that carries a payload, with its checksum."""
    data = fill(i, size)
    return i, zlib.crc32(data), data


def exchange(i: int, crc: int, payload: bytes, size: int, seconds: float) -> tuple[int, int, bytes]:
    """Checks the payload that came, takes its time, and answers with one of another size."""
    if zlib.crc32(payload) != crc:
        raise ValueError(f"task {i}: {len(payload)} bytes that are not those that were sent")
    if seconds:
        time.sleep(seconds)
    return answer(i, size)


def check(i: int, size: int, found: tuple[int, int, bytes]) -> None:
    """Raises AssertionError unless the result is the one of this task, to the byte."""
    number, crc, data = found
    assert (number, len(data)) == (i, size)
    assert zlib.crc32(data) == crc
    assert data == fill(i, size)


def busy_square(i: int, seconds: float) -> int:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return i * i


def square(i: int) -> int:
    return i * i
