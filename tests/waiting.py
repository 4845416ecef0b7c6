"""Waiting for what only a look can tell."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable

from ringpool import ProcessPoolExecutor


def wait_until(condition: Callable[[], object], what: str = "what was waited for", limit: float = 30.0) -> None:
    """Returns when the condition holds; fails after `limit` seconds, for what should take milliseconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"never came to be: {what}"
        time.sleep(0.002)


def kill_one(executor: ProcessPoolExecutor, chance: random.Random) -> None:
    """Kills a worker, and waits until all are ready: three in a row that are killed before that break the pool."""
    victim = chance.choice(executor._supervisor.processes)
    os.kill(victim.pid, signal.SIGKILL)
    n = executor._client.n_workers
    wait_until(
        lambda: (
            victim not in executor._supervisor.processes and all(executor._client.worker_started(w) for w in range(n))
        ),
        "a worker in the place of one that was killed",
    )


def await_file(path: str | os.PathLike[str]) -> None:
    """Returns when the file is there. A task that runs until its test says so, on a machine of any speed."""
    wait_until(lambda: os.path.exists(path), f"the file {path}")
