"""What tests/stress/test_threads.py has workers do."""

from __future__ import annotations

import os
import time
from typing import Any


def twice(n: int) -> int:
    return 2 * n


def same(value: Any) -> Any:
    return value


def fail(text: str) -> None:
    raise ValueError(text)


def wait_then_fill(gate: str, n: int) -> list[bytes]:
    while not os.path.exists(gate):
        time.sleep(0.001)
    return [bytes(n)]
