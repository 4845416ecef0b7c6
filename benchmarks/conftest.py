"""Lend a running pool of ringpool's and of the stdlib's to the same tests.

`--workers` and `--start-method` apply to both.
"""

from __future__ import annotations

import concurrent.futures
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import Executor

import pytest

import ringpool

EXECUTORS = {"ringpool": ringpool.ProcessPoolExecutor, "stdlib": concurrent.futures.ProcessPoolExecutor}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ringpool")
    group.addoption("--workers", type=int, default=2, help="worker processes of each pool (default: 2)")
    group.addoption(
        "--start-method",
        choices=multiprocessing.get_all_start_methods(),
        default="forkserver",
        help="how workers are started (default: forkserver)",
    )


@pytest.fixture(params=EXECUTORS)
def open_pool(request: pytest.FixtureRequest) -> Callable[[], Executor]:
    """Return what opens a pool of one of the executors."""
    workers, method = (request.config.getoption(name) for name in ("--workers", "--start-method"))
    executor = EXECUTORS[request.param]
    return lambda: executor(workers, multiprocessing.get_context(method))


@pytest.fixture
def pool(open_pool: Callable[[], Executor], request: pytest.FixtureRequest) -> Iterator[Executor]:
    """Lend a pool whose workers have all been at work, and have loaded the module of the test."""
    with open_pool() as executor:
        for nap in [executor.submit(request.module.nap) for _ in range(2 * request.config.getoption("--workers"))]:
            nap.result()
        yield executor
