"""What the workers of the benchmark run. Workers import this file, so it imports little."""

from __future__ import annotations

import os
import signal
import time
from typing import TypeVar

_T = TypeVar("_T")


def nop() -> None:
    """Do nothing."""


def square(number: int) -> int:
    """Return the square of a number."""
    return number * number


def echo(payload: _T) -> _T:
    """Return the argument."""
    return payload


def pid_after(pause_s: float) -> int:
    """Sleep, so that other workers get the next task, and return the process id."""
    time.sleep(pause_s)
    return os.getpid()


def square_after_10_ms(number: int) -> int:
    """Wait for 10 ms, as for an answer from a network, and return the square of a number."""
    time.sleep(0.01)
    return number * number


def spin(loops: int) -> int:
    """Compute for a fixed number of steps (Marsaglia's generator 69069), and return where it ends."""
    value = 1
    for _ in range(loops):
        value = (value * 69069 + 1) & 0xFFFFFFFF
    return value


def timed_spin(loops: int) -> tuple[int, int]:
    """Return what `spin` returns, and how long it took, in nanoseconds."""
    begin = time.perf_counter_ns()
    value = spin(loops)
    return value, time.perf_counter_ns() - begin


def die() -> None:
    """Kill the process that runs this, as the kernel does when memory runs out."""
    os.kill(os.getpid(), signal.SIGKILL)


def hold(folder: str) -> int:
    """Note in a folder that this worker is busy, and stay busy while the file "closed" is there.

    It ends as well when the folder is removed, so nothing holds a worker whose parent is gone.
    """
    with open(os.path.join(folder, f"held-{os.getpid()}"), "w"):
        pass
    while os.path.exists(os.path.join(folder, "closed")):
        time.sleep(0.005)
    return os.getpid()
