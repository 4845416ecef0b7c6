"""One question a test, with every result checked, for ringpool's executor and the stdlib's.

    pytest benchmarks --benchmark-autosave              # before a change
    pytest benchmarks --benchmark-compare               # after it, against the last one saved
    pytest benchmarks --benchmark-group-by=func         # the executors side by side
    pytest benchmarks -k ringpool --benchmark-compare   # ringpool only

They run one after the other here, so on a machine whose speed drifts trust `python -m ringpool bench`, where contenders
take turns, and `instructions.py`, which counts, more than these.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Executor, as_completed

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

KIB = 1024


def nap() -> None:
    """Keep a worker busy for so long that the next task goes to another."""
    time.sleep(0.05)


def nop() -> None:
    """Do nothing."""


def square(number: int) -> int:
    """Return the square."""
    return number * number


def echo(payload: bytes) -> bytes:
    """Send the argument back."""
    return payload


def double(values: np.ndarray) -> np.ndarray:
    """Return twice the values."""
    return values * 2


def fail(number: int) -> None:
    """Raise an exception which carries the argument."""
    raise ValueError(number)


def test_round_trip(benchmark: BenchmarkFixture, pool: Executor) -> None:
    """How long does submit(nop).result() take?"""
    assert benchmark(lambda: pool.submit(nop).result()) is None


def test_burst_of_2000(benchmark: BenchmarkFixture, pool: Executor) -> None:
    """How long do 2,000 submits and then 2,000 results take?"""

    def burst() -> list[int]:
        futures = [pool.submit(square, number) for number in range(2000)]
        return [future.result() for future in futures]

    assert benchmark(burst) == [number * number for number in range(2000)]


@pytest.mark.parametrize("chunksize", [1, 64])
def test_map_of_2000(benchmark: BenchmarkFixture, pool: Executor, chunksize: int) -> None:
    """How long does map() over 2,000 numbers take?"""
    answers = benchmark(lambda: list(pool.map(square, range(2000), chunksize=chunksize)))
    assert answers == [number * number for number in range(2000)]


@pytest.mark.parametrize("kib", [64, 4096], ids=["64KiB", "4MiB"])
def test_payload_there_and_back(benchmark: BenchmarkFixture, pool: Executor, kib: int) -> None:
    """How long does it take to send bytes to a worker and have them sent back?"""
    payload = bytes(range(256)) * (kib * KIB // 256)
    assert benchmark(lambda: pool.submit(echo, payload).result()) == payload


@pytest.mark.parametrize("kib", [1, 64, 4096], ids=["1KiB", "64KiB", "4MiB"])
def test_array_there_and_back(benchmark: BenchmarkFixture, pool: Executor, kib: int) -> None:
    """How long does it take to send a float64 array to a worker and have another sent back?"""
    values = np.arange(kib * KIB // 8, dtype=np.float64)
    assert np.array_equal(benchmark(lambda: pool.submit(double, values).result()), values * 2)


def test_exception(benchmark: BenchmarkFixture, pool: Executor) -> None:
    """How long does the round trip of a task that raises take?"""

    def failing() -> tuple[object, ...]:
        try:
            pool.submit(fail, 7).result()
        except ValueError as error:
            return error.args
        return ()

    assert benchmark(failing) == (7,)


def test_as_completed_of_500(benchmark: BenchmarkFixture, pool: Executor) -> None:
    """How long do 500 tasks take when they are collected by as_completed()?"""

    def collect() -> list[int]:
        futures = [pool.submit(square, number) for number in range(500)]
        return sorted(future.result() for future in as_completed(futures))

    assert benchmark(collect) == [number * number for number in range(500)]


def test_start_up(benchmark: BenchmarkFixture, open_pool: Callable[[], Executor]) -> None:
    """How long do construction, one result and shutdown take?"""

    def start() -> int:
        with open_pool() as executor:
            return executor.submit(abs, -7).result()

    assert benchmark.pedantic(start, rounds=10, warmup_rounds=1) == 7  # type: ignore[no-untyped-call]
