"""Which tests run when: the levels of the suite, decided here alone.

    pytest              default  what a change is tried with: each promise once, with one start method
    pytest --ci         ci       what CI adds on its main Python: sanitizers on the C protocols, the debug build's
                                 invariants, models, crash points, CPython's own tests, packages, the other start
                                 methods, the stdlib's executor, benchmarks
    pytest --matrix     matrix   what CI runs on every other Python: the default level, and what is marked `matrix`
    pytest --run-slow            everything, with what takes minutes a test: among it the default level once more, with
                                 the core under AddressSanitizer

A test is of the level `slow` or `ci` if it is marked so, and of the default level otherwise, with two exceptions, which
are of the level `ci`:

- Of cases that differ in nothing but start methods, the default level has one: that with the method that this Python
  uses when it is not told. `@pytest.mark.every_method` keeps them all, where the start method is the subject.
- Cases that run on the stdlib's executor test the tests, not ringpool.

Without an option, a file or a test that is named on the command line runs whatever its level is, unless it is slow. So
each test that is not slow runs in exactly one of `pytest` and `pytest --ci`.
"""

from __future__ import annotations

import concurrent.futures
import re
import sys
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import TypeGuard

import pytest

METHODS = ("fork", "forkserver", "spawn")
# Not get_start_method(), which would settle it for the tests.
USUAL_METHOD = "fork" if sys.version_info < (3, 14) else "forkserver"

# The parameters by which a test is told to run on the stdlib's executor, and their values.
_CLASS_PARAMETERS = {"executor_class", "shared_pool", "module"}
_STDLIB = ("stdlib", "concurrent.futures", concurrent.futures.ProcessPoolExecutor)

MARKERS = (
    "ci: runs in CI, on its main Python: pytest --ci",
    "matrix: of the level ci, but runs on each Python: pytest --matrix",
    "slow: takes minutes; runs with --run-slow",
    "every_method: the start method is the subject: each runs in the default level",
)


def add_options(parser: pytest.Parser) -> None:
    parser.addoption("--ci", action="store_true", help="run what CI adds to the default level on its main Python")
    parser.addoption("--matrix", action="store_true", help="run what CI runs on every other Python")
    parser.addoption("--run-slow", action="store_true", help="run everything, also what takes minutes")


def select(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the tests of the level that was asked for."""
    chosen = [name for name in ("--ci", "--matrix", "--run-slow") if config.getoption(name)]
    if len(chosen) > 1:
        raise pytest.UsageError(f"{' and '.join(chosen)} exclude each other")
    if chosen == ["--run-slow"]:
        return
    named = {Path(argument.split("::")[0]).resolve() for argument in config.args if ".py" in argument}
    other_methods = _other_methods(items)
    kept, left_out = [], []
    for item in items:
        level = _level(item, other_methods)
        if chosen == ["--ci"]:
            runs = level == "ci"
        elif chosen == ["--matrix"]:
            runs = level == "default" or (level == "ci" and item.get_closest_marker("matrix") is not None)
        else:
            runs = level == "default" or (level == "ci" and item.path in named)
        (kept if runs else left_out).append(item)
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = kept


def _level(item: pytest.Item, other_methods: set[pytest.Item]) -> str:
    if item.get_closest_marker("slow"):
        return "slow"
    if item.get_closest_marker("ci") or item in other_methods or _is_stdlib(item):
        return "ci"
    return "default"


def _parameters(item: pytest.Item) -> dict[str, object]:
    callspec = getattr(item, "callspec", None)
    return callspec.params if callspec else {}


def _is_stdlib(item: pytest.Item) -> bool:
    return any(
        name in _CLASS_PARAMETERS and isinstance(value, Hashable) and value in _STDLIB
        for name, value in _parameters(item).items()
    )


def _other_methods(items: Iterable[pytest.Item]) -> set[pytest.Item]:
    """The cases that differ from another one in start methods alone, and have less usual ones."""
    alike: dict[str, list[tuple[list[str], pytest.Item]]] = {}
    for item in items:
        methods = [value for value in _parameters(item).values() if _is_method(value)]
        if methods and not item.get_closest_marker("every_method"):
            # The id, and not the other parameters: these need not be comparable.
            alike.setdefault(re.sub(r"\b(fork|forkserver|spawn)\b", "*", item.nodeid), []).append((methods, item))
    preference = [USUAL_METHOD, *(method for method in ("forkserver", "fork", "spawn") if method != USUAL_METHOD)]
    found: set[pytest.Item] = set()
    for cases in alike.values():
        cases.sort(key=lambda case: [preference.index(method) for method in case[0]])
        found.update(item for _, item in cases[1:])
    return found


def _is_method(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value in METHODS
