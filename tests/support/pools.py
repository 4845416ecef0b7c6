"""The pools of the tests. What must hold for all of them, such as the invariants of a debug build, is checked here."""

from __future__ import annotations

from multiprocessing import get_context
from typing import Any

from ringpool import ProcessPoolExecutor


def pool(n: int = 1, method: str = "fork", **options: Any) -> ProcessPoolExecutor:
    """A pool of n workers, with a start method."""
    return ProcessPoolExecutor(n, get_context(method), **options)
