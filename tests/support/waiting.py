"""Waiting for what only a look can tell."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator

from files import await_file
from limits import LIMIT
from words import Words

from ringpool import ProcessPoolExecutor


def wait_until(condition: Callable[[], object], what: str = "what was waited for", limit: float = LIMIT) -> None:
    """Returns when the condition holds; fails after `limit` seconds, for what should take milliseconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"never came to be: {what}"
        time.sleep(0.002)


def kill_one(executor: ProcessPoolExecutor, chance: random.Random) -> None:
    """Kills a worker, when there are any, and waits until all are ready: three in a row that are killed before that
    break the pool."""
    wait_until(lambda: executor._supervisor.processes, "the first worker")
    victim = chance.choice(executor._supervisor.processes)
    with contextlib.suppress(ProcessLookupError):  # it has left by itself
        os.kill(victim.pid, signal.SIGKILL)
    n = executor._client.staff.n_workers

    def replaced() -> bool:
        living = executor._supervisor.processes
        return (
            victim not in living
            and len(living) == n
            and all(executor._client.segment.worker_started(w) for w in range(n))
        )

    wait_until(replaced, "a worker in the place of one that was killed")


def make_overdue(executor: ProcessPoolExecutor, worker: int = 0) -> None:
    """The task with a time limit that a worker runs has run for an hour. So a limit can be long, and yet be over at a
    point that the task has reached, on a machine of any speed."""
    with Words(executor._client) as words:
        words.age(worker, 3600)
    executor._client.staff.alarm()


@contextlib.contextmanager
def collector_held_up(executor: ProcessPoolExecutor) -> Iterator[None]:
    """No thread gives a worker memory that it asks for meanwhile, unless a thread waits for a result for a second."""
    held, go_on = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        held.set()
        go_on.wait(60)

    with tempfile.TemporaryDirectory() as folder:
        gate = os.path.join(folder, "gate")
        # It cannot be done before it has the callback, which would then be called here.
        executor.submit(await_file, gate).add_done_callback(hold)
        open(gate, "w").close()
        assert held.wait(60)
    try:
        yield
    finally:
        go_on.set()


def await_borrowers(executor: ProcessPoolExecutor, n: int) -> None:
    """Returns when n workers wait for a loan."""
    with Words(executor._client) as words:
        wait_until(
            lambda: sum(words.worker(w)["loan_bytes"] > 0 for w in range(words.n_workers)) == n, "requests for loans"
        )
