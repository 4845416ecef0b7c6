"""Threads of one program use one pool at once: each finds what it would find alone, and nothing is left over.

With the GIL their turns end between any two bytecodes. Without, they run in the core at the same time: what keeps them
apart there is the lock of the pool, and its engine (core/lock.pxd).
"""

from __future__ import annotations

import concurrent.futures
import functools
import random
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import tasks_threads as tasks
from limits import LIMIT, PATIENCE
from waiting import wait_until

from ringpool import ProcessPoolExecutor
from ringpool._core import decode_compact, encode_compact

THREADS = 16


class Watched:
    """A callable that tells when its last reference goes: with its task, in the thread that takes the result in."""

    def __init__(self, gone: Callable[[], object]) -> None:
        self.gone = gone

    def __call__(self) -> int:
        raise AssertionError("this is for the worker")

    def __reduce__(self) -> tuple[Any, ...]:
        return functools.partial, (tasks.twice, 1)

    def __del__(self) -> None:
        self.gone()


class Thread:
    """What one thread does, over and over, by its own random numbers."""

    def __init__(self, executor: ProcessPoolExecutor, shared: Any, rounds: int, seed: int) -> None:
        self.executor = executor
        self.shared = shared
        self.rounds = rounds
        self.rng = random.Random(seed)
        self.error: BaseException | None = None
        self.watched = self.gone = 0
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        try:
            for _ in range(self.rounds):
                self.rng.choice(WAYS)(self)
        except BaseException as error:
            self.error = error

    def submit(self) -> None:
        futures = [self.executor.submit(tasks.twice, i) for i in range(50)]
        assert [future.result(LIMIT) for future in futures] == [2 * i for i in range(50)]

    def cancel(self) -> None:
        futures = [self.executor.submit(tasks.twice, i) for i in range(50)]
        cancelled = [future.cancel() for future in futures]
        concurrent.futures.wait(futures, LIMIT)
        assert [future.cancelled() for future in futures] == cancelled
        assert all(cancelled[i] or future.result(LIMIT) == 2 * i for i, future in enumerate(futures))

    def map(self) -> None:
        n = self.rng.randrange(400)
        assert list(self.executor.map(tasks.twice, range(n), timeout=LIMIT)) == [2 * i for i in range(n)]

    def leave_a_map(self) -> None:
        results = self.executor.map(tasks.twice, range(400), chunksize=self.rng.choice([1, 7, 100]), timeout=LIMIT)
        assert next(results) == 0
        results.close()

    def submit_many(self) -> None:
        futures = self.executor.submit_many(tasks.twice, zip(range(100)), chunksize=self.rng.choice([1, 30]))
        taken_back = futures[50].cancel()
        assert all(future.result(LIMIT) == 2 * i for i, future in enumerate(futures) if i != 50 or not taken_back)

    def share(self) -> None:
        assert self.executor.submit(len, self.shared).result(LIMIT) == 1000
        shared = self.executor.share(bytes(50_000))
        future = self.executor.submit(len, shared)
        del shared
        assert future.result(LIMIT) == 50_000

    def call_back(self) -> None:
        told: list[int] = []
        all_told = threading.Event()

        def tell(future: concurrent.futures.Future[int]) -> None:
            told.append(future.result())
            if len(told) == 20:
                all_told.set()

        for i in range(20):
            self.executor.submit(tasks.twice, i).add_done_callback(tell)
        assert all_told.wait(LIMIT) and sorted(told) == [2 * i for i in range(20)]

    def wait(self) -> None:
        futures = [self.executor.submit(tasks.twice, i) for i in range(20)]
        assert len({future.result() for future in concurrent.futures.as_completed(futures, LIMIT)}) == 20

    def send_much(self) -> None:
        data = self.rng.randbytes(self.rng.randrange(200_000))
        assert self.executor.submit(tasks.same, data).result(LIMIT) == data
        values = [bytearray(data), {"key": [data]}]
        assert self.executor.submit(tasks.same, values).result(LIMIT) == values

    def fail(self) -> None:
        assert isinstance(self.executor.submit(tasks.fail, "so").exception(LIMIT), ValueError)

    def drop(self) -> None:
        for i in range(30):
            self.executor.submit(tasks.twice, i)

    def let_go(self) -> None:
        """What a task called goes in some thread, and waits then for another thread's use of the pool."""

        def gone() -> None:
            other = threading.Thread(target=lambda: self.executor.submit(tasks.twice, 1).result(LIMIT))
            other.start()
            other.join(LIMIT)
            assert not other.is_alive()
            self.gone += 1

        self.watched += 1
        self.executor.submit(Watched(gone))


WAYS = [
    *(Thread.submit, Thread.cancel, Thread.map, Thread.leave_a_map, Thread.submit_many, Thread.share, Thread.call_back),
    *(Thread.wait, Thread.send_much, Thread.fail, Thread.drop, Thread.let_go),
]


@pytest.mark.deadline(600 * PATIENCE)
@pytest.mark.parametrize(
    ("n_workers", "rounds"),
    [(1, 20), (2, 20), pytest.param(2, 1000, marks=[pytest.mark.slow, pytest.mark.deadline(3600 * PATIENCE)])],
)
def test_threads_that_use_one_pool_at_once_find_what_each_would_alone(n_workers, rounds):
    with ProcessPoolExecutor(n_workers) as executor:
        shared = executor.share(list(range(1000)))
        threads = [Thread(executor, shared, rounds, seed) for seed in range(THREADS)]
        for each in threads:
            each.thread.start()
        for each in threads:
            each.thread.join()
        assert [each.error for each in threads if each.error is not None] == []
        wait_until(lambda: executor._client.pending == 0, "the end of all tasks")
        wait_until(lambda: all(each.gone == each.watched for each in threads), "the end of all calls")
        executor._client.check_invariants()
        del shared
    assert executor._client.segment.blocks == 0


@pytest.mark.parametrize("kind", [list, dict])
def test_what_is_encoded_while_another_thread_changes_it_is_whole(kind):
    """A list may have some items of before a change and some of after. (Pickles of such are CPython's affair.)"""

    def make(n: int) -> Any:
        return [b"x" * 50] * n if kind is list else {i: [i] for i in range(n)}

    value = make(100)
    done = threading.Event()

    def change() -> None:
        rng = random.Random(1)
        while not done.is_set():
            other = make(rng.randrange(200))
            if kind is dict:
                value.clear()
                value.update(other)
            else:
                value[:] = other

    changer = threading.Thread(target=change)
    changer.start()
    encoded = 0
    try:
        deadline = time.monotonic() + LIMIT
        while encoded < 300:
            assert time.monotonic() < deadline
            try:
                data = encode_compact(value, 1 << 20)
            except RuntimeError as error:
                assert "changed its size" in str(error)
                continue
            if data is not None:  # else it has been changed meanwhile: it would be pickled
                found = decode_compact(data)
                assert found == make(len(found)) if kind is list else all(found[key] == [key] for key in found)
                encoded += 1
    finally:
        done.set()
        changer.join()


@pytest.mark.parametrize("n", [10, 1000, 300_000])
def test_one_result_that_many_threads_read_is_one_object(n, tmp_path):
    gate = tmp_path / "gate"
    found: list[Any] = []
    with ProcessPoolExecutor(1) as executor:
        future = executor.submit(tasks.wait_then_fill, str(gate), n)
        threads = [threading.Thread(target=lambda: found.append(future.result(LIMIT))) for _ in range(THREADS)]
        for each in threads:
            each.start()
        gate.touch()
        for each in threads:
            each.join()
    assert len(found) == THREADS and found[0] == [bytes(n)]
    assert {id(each) for each in found} == {id(found[0])}
