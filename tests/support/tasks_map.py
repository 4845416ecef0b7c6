"""What the tests of map run in workers."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any


def square(x: int) -> int:
    return x * x


def echo(x: Any) -> Any:
    return x


def pair(x: Any, y: Any) -> tuple[Any, Any]:
    return x, y


def fail_on(bad: int, x: int) -> int:
    if x == bad:
        raise LookupError(x)
    return x


def unpicklable_on(bad: int, x: int) -> Any:
    return threading.Lock() if x == bad else x


def die_on(bad: int, x: int) -> int:
    if x == bad:
        os._exit(3)
    return x


def note(path: str, x: int) -> int:
    """Runs are counted in a file a run: no two write to one."""
    Path(path, f"{x}.{os.getpid()}.{time.monotonic_ns()}").touch()
    return x


def note_and_die_once(path: str, bad: int, x: int) -> int:
    note(path, x)
    if x == bad and len(list(Path(path).glob(f"{x}.*"))) == 1:
        os._exit(3)
    return x


def note_and_wait_on(path: str, bad: int, gate: str, first_s: float, x: int) -> int:
    """One item waits at the gate; the first takes `first_s` seconds."""
    note(path, x)
    if x == 0:
        time.sleep(first_s)
    if x == bad:
        wait_for(gate)
    return x


def wait_for(gate: str) -> None:
    deadline = time.monotonic() + 40
    while not os.path.exists(gate):
        if time.monotonic() > deadline:
            raise TimeoutError(gate)
        time.sleep(0.001)


def sleep_at_random(x: int) -> int:
    time.sleep(random.Random(x).choice([0, 0, 0, 0.0001, 0.001, 0.005]))
    return x


def blow_up(x: int) -> bytes:
    return bytes(x)


def wait_or_die_once(path: str, gate: str, x: int) -> int:
    """One item waits; some others die at their first run."""
    note(path, x)
    if x == 500:
        wait_for(gate)
    if x % 100 == 99 and len(list(Path(path).glob(f"{x}.*"))) == 1:
        os._exit(3)
    return x


def sleep_if(x: int, seconds: float) -> int:
    time.sleep(seconds)
    return x


def never_end() -> None:
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(10)


def sleep_or_wait_on(bad: int, gate: str, x: int) -> int:
    time.sleep(0.02)
    if x == bad:
        wait_for(gate)
    return x


def stop_iteration_on(bad: int, x: int) -> int:
    if x == bad:
        raise StopIteration("of the item")
    return x


class SlowToLoad:
    """Takes a while to unpickle, and notes it each time in a folder."""

    def __init__(self, folder: str, seconds: float) -> None:
        self.folder = folder
        self.seconds = seconds

    def __reduce__(self) -> tuple[Any, ...]:
        return load_slowly, (self.folder, self.seconds)


def load_slowly(folder: str, seconds: float) -> SlowToLoad:
    time.sleep(seconds)
    with open(os.path.join(folder, f"{os.getpid()}.{time.monotonic_ns()}"), "x"):
        return SlowToLoad(folder, seconds)


def first_of_two(_: Any, x: int) -> int:
    return x


class StopsInPickle:
    def __reduce__(self) -> tuple[Any, ...]:
        raise StopIteration

    def __call__(self, x: int) -> int:
        return x


def make_echo() -> Callable[[Any], Any]:
    return echo


def describe(value: Any) -> Any:
    """What tells a value from others, and the parts of a list or tuple: type, shape, whether it is writable, CRC."""
    if isinstance(value, (list, tuple)):
        return [describe(each) for each in value]
    if isinstance(value, (str, bytes, bytearray)):
        data = value.encode() if isinstance(value, str) else value
        return type(value).__name__, len(value), zlib.crc32(data)
    if hasattr(value, "dtype"):
        return str(value.dtype), value.shape, value.flags.writeable, zlib.crc32(value.tobytes())
    return value


def describe_pair(x: Any, y: Any) -> Any:
    return describe((x, y))


def describe_or_die(bad: int, x: tuple[int, Any]) -> Any:
    if x[0] == bad:
        os._exit(3)
    return describe(x)


def overwrite_and_die_once(path: str, i: int, values: Any) -> Any:
    """Spoils an argument before the worker dies over it, the first time."""
    told = describe(values)
    values[:] = -1
    if not os.path.exists(os.path.join(path, str(i))):
        Path(path, str(i)).touch()
        os._exit(3)
    return told


kept: list[Any] = []


def keep(n: int, value: Any) -> int:
    """Keeps the last n arguments."""
    kept.append(value)
    del kept[: max(len(kept) - n, 0)]
    return len(kept)


def keep_then_wait(gate: str, i: int, value: Any) -> int:
    """The first call keeps its argument, and takes so long that its result is sent at once. The second lets go of that
    argument. The third waits."""
    kept[:] = [value] if i == 0 else []
    if i == 0:
        time.sleep(0.02)
    if i == 2:
        wait_for(gate)
    return i


def wait_then_size(gate: str, value: Any) -> int:
    wait_for(gate)
    return len(value)


def size(value: Any) -> int:
    return len(value)


def fill(i: int, n: int) -> Any:
    """A large result of one of several kinds."""
    if i % 4 == 0:
        return bytes([i % 256]) * n
    if i % 4 == 1:
        return "\u20ac" * (n // 3)
    import numpy as np

    values = np.full(n // 8, i)
    return values if i % 4 == 2 else {"values": values, "again": [values], "more": np.arange(n // 8)}


def fill_or_die(bad: int, i: int, n: int) -> Any:
    if i == bad:
        os._exit(3)
    return fill(i, n)


def outlast(gate: str, i: int, n: int) -> Any:
    """The second call swallows what is to end it."""
    if i == 1:
        with contextlib.suppress(BaseException):
            Path(gate).touch()
            time.sleep(60)
    return bytes(n)


class StopsAsItIsDecoded:
    def __init__(self, value: Any) -> None:
        self.value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return stop_with, (self.value.copy(),)


def stop_with(value: Any) -> Any:
    raise StopIteration
