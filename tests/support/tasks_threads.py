"""What tests/stress/test_threads.py has workers do."""

from __future__ import annotations

from typing import Any

from files import await_file


def twice(n: int) -> int:
    return 2 * n


def same(value: Any) -> Any:
    return value


def fail(text: str) -> None:
    raise ValueError(text)


def wait_then_fill(gate: str, n: int) -> list[bytes]:
    await_file(gate)
    return [bytes(n)]
