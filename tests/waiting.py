"""Waiting for what only a look can tell."""

from __future__ import annotations

import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], what: str = "what was waited for", limit: float = 30.0) -> None:
    """Returns when the condition holds; fails after `limit` seconds, for what should take milliseconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"never came to be: {what}"
        time.sleep(0.002)
