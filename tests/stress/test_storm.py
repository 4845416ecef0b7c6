"""A storm: workers are killed, stopped and continued, tasks are cancelled, at random and every few milliseconds, while
several threads submit tasks with payloads of all sizes. Each future ends right, or with WorkerDied, or cancelled; no
more tasks are lost than workers were killed; nothing leaks. The counts and the seed are in the output.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import itertools
import os
import random
import signal
import sys
import threading
import time
import zlib
from concurrent.futures import CancelledError, ThreadPoolExecutor, as_completed
from multiprocessing import get_context

import pytest
import tasks_storm as tasks
from levels import METHODS
from words import Words

from ringpool import ProcessPoolExecutor, WorkerDied

LIMIT = 60.0  # s; for what should take milliseconds, on a machine that may be busy
SIZES = [0, 1, 40, 60, 88, 89, 100, 200, 201, 1000, 5000, 70_000, 300_000, 2_000_000, 5_000_000]
LARGE = 1_000_000
WINDOW = 100  # tasks that a thread has under way, of which
LARGE_WINDOW = 6  # may be large


class Storm:
    """Weather, and the books of what becomes of the tasks.

    Args:
        executor: With "replace" on_worker_death.
        seed: Of all that is random.
        kill_s: Mean time between two kills; 0 for none.
        stop_s: Mean time between two stops; 0 for none.
        cancels: Share of the tasks that are cancelled, or tried to be, right after another has been submitted.
    """

    def __init__(self, executor, seed: int, kill_s: float, stop_s: float = 0.0, cancels: float = 0.0) -> None:
        self.executor = executor
        self.client = executor._client
        self.seed = seed
        self.kill_s = kill_s
        self.stop_s = stop_s
        self.cancels = cancels
        self.over = threading.Event()
        self.count: collections.Counter[str] = collections.Counter()  # changed under the lock
        self.lock = threading.Lock()

    def note(self, what: str) -> None:
        with self.lock:
            self.count[what] += 1

    # ---- weather ----

    def started(self) -> list[int]:
        """Workers that are ready. Three that fail to start, one after the other, would break the pool, as they
        should."""
        places = [(int(p.name.rpartition("-")[2]) - 1, p.pid) for p in self.executor._supervisor.processes]
        return [pid for place, pid in places if self.client.segment.worker_started(place)]

    def send(self, rng: random.Random, number: signal.Signals) -> int | None:
        while not (pids := self.started()):
            if self.over.wait(0.001):
                return None
        pid = rng.choice(pids)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self.note(number.name)
            return pid
        return None

    def kill(self) -> None:
        rng = random.Random(self.seed + 1)
        while not self.over.wait(rng.uniform(0.5, 1.5) * self.kill_s):
            self.send(rng, signal.SIGKILL)

    def stop_and_continue(self) -> None:
        rng = random.Random(self.seed + 2)
        while not self.over.wait(rng.uniform(0.5, 1.5) * self.stop_s):
            pid = self.send(rng, signal.SIGSTOP)
            if pid is not None:
                self.over.wait(rng.choice([0.0, 0.001, 0.01, 0.05]))
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    # ---- tasks ----

    def submit_all(self, thread: int, numbers) -> None:
        """Submits a task for each number, and sees how each ends."""
        rng = random.Random(self.seed + 10 + thread)
        pending: dict = {}  # future -> number, size
        large = 0
        for i in numbers:
            there, back = (rng.choices(SIZES, range(len(SIZES), 0, -1))[0] for _ in range(2))
            payload = tasks.fill(i, there)
            seconds = rng.choice([0.0] * 8 + [0.0005, 0.003])
            future = self.executor.submit(tasks.exchange, i, zlib.crc32(payload), payload, back, seconds)
            pending[future] = i, back
            large += back >= LARGE or there >= LARGE
            if rng.random() < self.cancels:
                self.note("tried to cancel")
                rng.choice(list(pending)).cancel()
            if len(pending) >= WINDOW or large >= LARGE_WINDOW:
                self.check_some(rng, pending, 0 if large >= LARGE_WINDOW else WINDOW // 2)
                large = 0
        self.check_some(rng, pending, 0)

    def check_some(self, rng: random.Random, pending: dict, keep: int) -> None:
        """Waits until `keep` are left: for the oldest first, or for those that are done first."""
        if rng.random() < 0.5:
            futures = list(pending)[: len(pending) - keep]
            done = iter(futures)
        else:
            done = as_completed(list(pending), LIMIT)
        while len(pending) > keep:
            future = next(done)
            self.check(future, *pending.pop(future))

    def check(self, future, i: int, size: int) -> None:
        try:
            error = future.exception(LIMIT)
        except CancelledError:
            assert future.cancelled()
            self.note("cancelled")
            return
        assert not future.cancelled()
        if error is None:
            tasks.check(i, size, future.result(LIMIT))
            self.note("right")
        else:
            assert type(error) is WorkerDied, error
            assert error.exitcode == -signal.SIGKILL
            self.note("died")

    # ---- all of it ----

    def run(self, numbers_of_threads: list) -> None:
        weather = [work for work, mean_s in ((self.kill, self.kill_s), (self.stop_and_continue, self.stop_s)) if mean_s]
        with ThreadPoolExecutor(len(weather) + len(numbers_of_threads)) as threads:
            storms = [threads.submit(work) for work in weather]
            submitters = [threads.submit(self.submit_all, t, n) for t, n in enumerate(numbers_of_threads)]
            try:
                for each in submitters:
                    each.result()
            finally:
                self.over.set()
            for each in storms:
                each.result()

    def check_after(self, n: int, blocks: int) -> None:
        """All n tasks are accounted for, and the pool is as good as new."""
        assert self.count["right"] + self.count["died"] + self.count["cancelled"] == n
        assert self.count["died"] <= self.count["SIGKILL"]
        assert self.count["cancelled"] <= self.count["tried to cancel"]
        squares = [self.executor.submit(tasks.square, i) for i in range(200)]
        assert [f.result(LIMIT) for f in squares] == [i * i for i in range(200)]
        del squares
        gc.collect()
        assert self.client.segment.blocks == blocks
        assert self.client.intake.strays == 0
        assert self.client.pending == 0


@contextlib.contextmanager
def storm(method: str, n_workers: int, capsys, **weather):
    """A pool and its storm; at the end their counts are printed."""
    seed = random.randrange(1 << 32)
    switch_s = sys.getswitchinterval()
    sys.setswitchinterval(
        0.0002
    )  # so that the weather is not held up by those it is made for, and they meet more often
    with ProcessPoolExecutor(n_workers, get_context(method)) as executor:
        executor.submit(tasks.square, 1).result(LIMIT)
        executor.submit(tasks.exchange, 0, 0, b"", 0, 0.0).result(LIMIT)
        current = Storm(executor, seed, **weather)
        began = time.monotonic()
        try:
            yield current, executor._client.segment.blocks
        except BaseException:
            with contextlib.suppress(Exception), Words(executor._client) as words:
                print(words)
            raise
        finally:
            sys.setswitchinterval(switch_s)
            with capsys.disabled():
                counts = ", ".join(f"{n} {what}" for what, n in sorted(current.count.items()))
                print(f"\n    storm ({method}), seed {seed}, {time.monotonic() - began:.1f} s: {counts}")


@pytest.mark.ci
@pytest.mark.parametrize(
    ("method", "n_tasks", "kill_s"),
    [
        ("fork", 5000, 0.02),
        ("spawn", 1000, 0.3),  # a worker takes so long to start, where every processor is busy
        pytest.param("fork", 100_000, 0.01, marks=[pytest.mark.slow, pytest.mark.deadline(1800)]),
        pytest.param("spawn", 10_000, 0.3, marks=[pytest.mark.slow, pytest.mark.deadline(1800)]),
        pytest.param("forkserver", 20_000, 0.1, marks=[pytest.mark.slow, pytest.mark.deadline(1800)]),
    ],
)
def test_in_a_storm_of_kills_stops_and_cancels_each_task_ends_right_or_lost_or_cancelled(
    method, n_tasks, kill_s, capsys
):
    n_threads = 3
    taken = []
    with storm(method, 3, capsys, kill_s=kill_s, stop_s=0.01, cancels=0.1) as (weather, blocks):

        def numbers(first):
            """n_tasks numbers, and as many more as it takes until each kind of weather has struck."""
            for i in itertools.count(first, n_threads):
                if i >= n_tasks and all(weather.count[what] for what in ("SIGKILL", "SIGSTOP", "cancelled")):
                    return
                taken.append(i)
                yield i

        weather.run([numbers(t) for t in range(n_threads)])
        weather.check_after(len(taken), blocks)


@pytest.mark.parametrize(
    ("method", "seconds"),
    [
        ("fork", 5),
        *(pytest.param(m, 60, marks=[pytest.mark.slow, pytest.mark.deadline(300)]) for m in METHODS),
    ],
)
def test_a_kill_every_20_ms_under_load_costs_the_tasks_that_were_hit_and_loses_no_memory(method, seconds, capsys):
    taken = []

    def until(end):
        i = 0
        while time.monotonic() < end:
            taken.append(i)
            yield i
            i += 1

    with storm(method, 3, capsys, kill_s=0.02) as (weather, blocks):
        weather.run([until(time.monotonic() + seconds) for _ in range(2)])
        assert weather.count["SIGKILL"] > 0
        weather.check_after(len(taken), blocks)


def test_the_report_of_the_shared_words_reads_the_words_of_the_running_pool():
    with ProcessPoolExecutor(2, get_context("fork")) as executor:
        futures = [executor.submit(tasks.square, i) for i in range(100)]
        assert [f.result(LIMIT) for f in futures] == [i * i for i in range(100)]
        client = executor._client
        deadline = time.monotonic() + LIMIT
        with Words(client) as words:
            while (words.shared()["ready"], words.shared()["sleepers"]) != (0b11, 0b11):
                assert time.monotonic() < deadline, str(words)
            shared, workers = words.shared(), [words.worker(w) for w in range(2)]
            assert shared["claim_pos"] == 100
            assert shared["stop"] == shared["waking"] == 0
            assert words.board() == {"free": 1024}
            assert sum(w["results written"] for w in workers) == 100
            assert {w["state"] for w in workers} == {2}
            assert sorted(w["turn"] for w in workers) == [1, 2]
            assert {(w["current"], w["waits_space"], w["wants_memory"]) for w in workers} == {(0, 0, 0)}
            while sum(words.worker(w)["results read"] for w in range(2)) != 100:
                assert time.monotonic() < deadline, str(words)
