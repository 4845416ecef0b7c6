"""What the workers of test_share.py run; importable, for workers that start afresh."""

from __future__ import annotations

import os
import time
from typing import Any

from files import await_file
from tasks_views import crc


def same(value: Any, **more: Any) -> Any:
    return (value, *more.values()) if more else value


def look_up(table: Any, key: Any) -> Any:
    return table[key]


def sleep(seconds: float) -> None:
    time.sleep(seconds)


def die(value: Any) -> None:
    os.kill(os.getpid(), 9)


_decoded = 0


class Counted:
    """Counts how often it is decoded in this process."""

    def __reduce__(self) -> Any:
        return _count, ()


def _count() -> Counted:
    global _decoded
    _decoded += 1
    return Counted()


def count_of(value: Counted) -> tuple[int, int]:
    return os.getpid(), _decoded


class Undecodable:
    def __reduce__(self) -> Any:
        return _refuse, ()


def _refuse() -> None:
    raise ArithmeticError("not here")


def sum_up(value: Any) -> tuple[bool, int]:
    (buffer,) = value.buffers
    return memoryview(buffer).readonly, crc(buffer)


def hold(value: Any, until: str) -> int:
    await_file(until)
    return crc(value.buffers[0]) if value else 0


def column(table: Any, name: str) -> tuple[float, bool]:
    return float(table[name].sum()), table[name].flags.writeable


_kept: Any = None


def keep(value: Any) -> None:
    global _kept
    _kept = value and value.buffers[0]


def kept(_: Any) -> int:
    return crc(_kept) if _kept else 0


def share_in_a_pool_of_ones_own(value: Any) -> Any:
    from ringpool import ProcessPoolExecutor

    with ProcessPoolExecutor(1) as pool:
        return value, pool.submit(same, pool.share([6])).result()
