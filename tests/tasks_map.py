"""What the tests of map run in workers."""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
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
    """One item waits at the gate; the first takes so many seconds."""
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
