"""Lend a running pool of each contender to the same tests.

`pytest benchmarks --benchmark-group-by=func` is the comparison. `--workers` and `--start-method` apply to
both.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import Executor

import pytest

from ringpool.bench.cases import CONTENDERS, Contender, Setting


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("ringpool")
    group.addoption("--workers", type=int, default=2, help="worker processes of each pool (default: 2)")
    group.addoption(
        "--start-method",
        choices=multiprocessing.get_all_start_methods(),
        default=multiprocessing.get_context().get_start_method(),
        help="how workers are started (default: what this Python does)",
    )


@pytest.fixture(params=CONTENDERS, ids=lambda contender: contender.name)
def contender(request: pytest.FixtureRequest) -> Contender:
    """Return one of the executors to compare."""
    chosen: Contender = request.param
    return chosen


@pytest.fixture
def setting(contender: Contender, request: pytest.FixtureRequest) -> Setting:
    """Return how pools of this contender are started."""
    return Setting(contender, request.config.getoption("--workers"), request.config.getoption("--start-method"))


@pytest.fixture
def pool(setting: Setting) -> Iterator[Executor]:
    """Lend a pool whose workers are all running."""
    with setting.pool() as executor:
        yield executor
