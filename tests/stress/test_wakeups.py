"""No wake-up is lost: very many round trips while other programs keep every processor busy.

A wake-up is lost when a sleeper looks, finds nothing, and the other side's look for sleepers comes before it lies down
(csrc/bell.h). On an idle machine the window is nanoseconds; where processes wait for their turn it is milliseconds. So
there are more busy processes than processors, of two priorities, and pauses of all lengths between submits, which find
each side spinning, lying down, asleep, getting up. Nothing may take longer than STUCK_S: then the shared words and all
stacks are in the report.
"""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, as_completed, wait
from multiprocessing import get_context

import pytest
import tasks_storm as tasks
from words import Words

from ringpool import ProcessPoolExecutor

STUCK_S = 20.0
# A pause is anything up to one of these: none; as long as a spin on a crowded machine; as a spin on another; long
# enough to be asleep. So some end in the very instant in which the other side lies down: without the worker's second
# look, one in some 7,000 round trips hung.
PAUSES = [0.0, 10e-6, 10e-6, 10e-6, 100e-6, 500e-6]


class Stuck(Exception):
    """A round trip has not come to its end."""


def pause(rng: random.Random) -> None:
    """Some microseconds, sometimes asleep and sometimes not."""
    seconds = rng.choice(PAUSES) * rng.random()
    if seconds and rng.random() < 0.1:
        time.sleep(seconds)
        return
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


@contextlib.contextmanager
def overload() -> Iterator[None]:
    """Two busy processes for each processor; half of them as important as this one."""
    busy = "import os, sys\nos.nice(int(sys.argv[1]))\nwhile os.getppid() == int(sys.argv[2]):\n    pass"
    cpus = len(os.sched_getaffinity(0))
    hogs = [
        subprocess.Popen([sys.executable, "-c", busy, nice, str(os.getpid())], stdin=subprocess.DEVNULL)
        for _ in range(cpus)
        for nice in ("0", "10")
    ]
    try:
        yield
    finally:
        for hog in hogs:
            hog.kill()
        for hog in hogs:
            hog.wait()


def report(executor: ProcessPoolExecutor) -> str:
    """All stacks and the shared words."""
    with tempfile.TemporaryFile("w+") as file, Words(executor._client) as words:
        faulthandler.dump_traceback(file)
        file.seek(0)
        return f"{words}\n{file.read()}"


# ---- ways to wait ----


def result(executor: ProcessPoolExecutor, n: int, rng: random.Random) -> None:
    """One at a time."""
    for i in range(n):
        assert executor.submit(tasks.busy_square, i, rng.choice(PAUSES) * rng.random()).result(STUCK_S) == i * i
        pause(rng)


def several_threads(executor: ProcessPoolExecutor, n: int, rng: random.Random) -> None:
    """One at a time in each of four: one leads, and the lead changes hands."""
    with ThreadPoolExecutor(4) as threads:
        for each in [threads.submit(result, executor, n // 4, random.Random(rng.random())) for _ in range(4)]:
            each.result()


def bursts(executor: ProcessPoolExecutor, n: int, rng: random.Random) -> None:
    """A few at a time: workers wake each other."""
    while n > 0:
        size = rng.randrange(1, 8)
        futures = []
        for i in range(size):
            futures.append(executor.submit(tasks.square, i))
            if rng.random() < 0.2:
                pause(rng)
        assert [f.result(STUCK_S) for f in futures] == [i * i for i in range(size)]
        n -= size


def as_they_complete(executor: ProcessPoolExecutor, n: int, rng: random.Random) -> None:
    """The collector sleeps, and no leader does."""
    while n > 0:
        size = rng.randrange(1, 50)
        futures = {executor.submit(tasks.square, i): i for i in range(size)}
        for future in as_completed(futures, STUCK_S):
            assert future.result(0) == futures.pop(future) ** 2
        assert not futures
        n -= size
        pause(rng)


def one_of_many(executor: ProcessPoolExecutor, n: int, rng: random.Random) -> None:
    """A window of tasks, refilled as they are done."""
    pending = set()
    while n > 0 or pending:
        while n > 0 and len(pending) < 20:
            pending.add(executor.submit(tasks.square, 7))
            n -= 1
        done, pending = wait(pending, STUCK_S, FIRST_COMPLETED)
        if not done:
            raise Stuck
        assert {f.result(0) for f in done} == {49}


def callbacks(executor: ProcessPoolExecutor, n: int, rng: random.Random) -> None:
    """No thread waits for the future; the callback frees the next."""
    room = threading.Semaphore(3)
    wrong = []

    def told(future) -> None:
        if future.result(0) != 81:
            wrong.append(future)
        room.release()

    for _ in range(n):
        if not room.acquire(timeout=STUCK_S):
            raise Stuck
        executor.submit(tasks.square, 9).add_done_callback(told)
        pause(rng)
    for _ in range(3):
        if not room.acquire(timeout=STUCK_S):
            raise Stuck
    assert not wrong


def event_loop(executor: ProcessPoolExecutor, n: int, rng: random.Random) -> None:
    """Coroutines, each one at a time."""

    async def one(count: int) -> None:
        loop = asyncio.get_running_loop()
        for i in range(count):
            assert await asyncio.wait_for(loop.run_in_executor(executor, tasks.square, i), STUCK_S) == i * i

    async def some() -> None:
        await asyncio.gather(*(one(n // 8) for _ in range(8)))

    asyncio.run(some())


# ---- tests ----

ROUNDS = {
    result: 6_000,
    several_threads: 4_000,
    bursts: 10_000,
    as_they_complete: 20_000,
    one_of_many: 20_000,
    callbacks: 8_000,
    event_loop: 5_000,
}
WAYS = [
    *ROUNDS.items(),
    *(
        pytest.param(way, n * 100, marks=[pytest.mark.slow, pytest.mark.deadline(3600)], id=f"{way.__name__}-{n * 100}")
        for way, n in ROUNDS.items()
    ),
]


# One worker: no other takes the task that it has missed. Three: they wake each other.
@pytest.mark.ci
@pytest.mark.xdist_group("overload")
@pytest.mark.parametrize("n_workers", [1, 3])
@pytest.mark.parametrize(("way", "n"), WAYS, ids=lambda value: getattr(value, "__name__", None))
def test_no_wake_up_is_lost_while_other_programs_keep_every_processor_busy(way, n, n_workers, capsys):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    began = time.monotonic()
    with ProcessPoolExecutor(n_workers, get_context("fork")) as executor:
        assert executor.submit(tasks.square, 3).result(STUCK_S) == 9
        with overload():
            try:
                way(executor, n, random.Random(seed))
            except (TimeoutError, Stuck) as error:
                what = report(executor)
                executor.kill_workers()  # the end must not wait for what never comes
                pytest.fail(f"stuck: {error!r}, seed {seed}\n{what}")
    with capsys.disabled():
        print(
            f"\n    {way.__name__}, {n_workers} workers: {n} round trips in {time.monotonic() - began:.1f} s", end=" "
        )
