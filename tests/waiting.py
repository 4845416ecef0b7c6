"""Waiting for what only a look can tell."""

from __future__ import annotations

import os
import time
from collections.abc import Callable


def wait_until(condition: Callable[[], object], what: str = "what was waited for", limit: float = 30.0) -> None:
    """Returns when the condition holds; fails after `limit` seconds, for what should take milliseconds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"never came to be: {what}"
        time.sleep(0.002)


def await_file(path: str | os.PathLike[str]) -> None:
    """Returns when the file is there. A task that runs until its test says so, on a machine of any speed."""
    wait_until(lambda: os.path.exists(path), f"the file {path}")
