"""What the workers of test_contract.py run. Spawned workers import this module, so it imports nothing of pytest."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

Point = collections.namedtuple("Point", "x y")


@dataclasses.dataclass
class Record:
    name: str
    values: list[int]
    inner: Record | None = None


@dataclasses.dataclass(frozen=True)
class Adder:
    """A callable object that also has methods to be called."""

    base: int

    def __call__(self, x: int, *, times: int = 1) -> int:
        return (self.base + x) * times

    def plus(self, x: int) -> int:
        return self.base + x

    @classmethod
    def of_ten(cls, x: int) -> int:
        return cls(10)(x)

    @staticmethod
    def double(x: int) -> int:
        return 2 * x

    class Nested:
        @staticmethod
        def triple(x: int) -> int:
            return 3 * x


class Odd(Exception):
    """An exception with an attribute that its arguments do not show."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.detail: Any = None


class Stop(BaseException):
    """Not an Exception."""


def echo(value: Any) -> Any:
    return value


def nothing() -> None:
    pass


def identify(*args: Any, **kwargs: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return args, kwargs


def square(x: int) -> int:
    return x * x


def add(x: int, y: int) -> int:
    return x + y


def pid(_: Any = None) -> int:
    return os.getpid()


def size_and_ends(value: Any) -> tuple[int, Any, Any]:
    return len(value), value[:1], value[-1:]


def make(unit: Any, n: int) -> Any:
    return unit * n


# ---- gates: see Gate in test_contract.py ----


def pass_gate(gate: str, value: Any = None) -> Any:
    """Says that it runs, and returns the value when the gate opens."""
    report(gate)
    await_gate(gate)
    return value


def report(gate: str) -> None:
    fd = os.open(f"{gate}.entered", os.O_WRONLY)
    os.write(fd, b"x")
    os.close(fd)


def await_gate(gate: str) -> None:
    fd = os.open(f"{gate}.door", os.O_RDONLY)
    os.read(fd, 1)
    os.close(fd)


def pass_gate_and_raise(gate: str, error: BaseException) -> None:
    pass_gate(gate)
    raise error


# ---- marks ----


def note(path: str, text: Any) -> Any:
    """Appends a line to the file: one write, which O_APPEND makes whole."""
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{text}\n".encode())
    os.close(fd)
    return text


def note_pid(path: str) -> None:
    note(path, os.getpid())


_initialized: list[Any] = []


def initialize(path: str, value: Any) -> None:
    _initialized.append(value)
    note(path, os.getpid())


def initialized() -> tuple[int, list[Any]]:
    return os.getpid(), list(_initialized)


def initialized_at_gate(gate: str) -> tuple[int, list[Any]]:
    pass_gate(gate)
    return initialized()


# ---- errors ----


def fail_or_pass_or_note(what: str, about: Any, i: int) -> Any:
    if what == "fail":
        raise about
    return pass_gate(about) if what == "pass" else note(about, i)


def fail_on(bad: int, x: int) -> int:
    if x == bad:
        raise ValueError(f"bad item {x}")
    return x


def fail_with(error: BaseException) -> None:
    raise error


def fail_at_a_line_to_be_seen() -> None:
    raise LookupError("see my line")  # a line to be seen


def fail_with_notes() -> None:
    error = Odd("with notes")
    error.detail = {"code": 7, "items": [1, 2]}
    error.add_note("first note")
    error.add_note("second note")
    raise error


def fail_in_a_chain() -> None:
    try:
        raise KeyError("inner")
    except KeyError as error:
        raise RuntimeError("outer") from error


def fail_with_a_group() -> None:
    raise ExceptionGroup("several", [ValueError("one"), TypeError("two")])


def interrupt() -> None:
    raise KeyboardInterrupt("by the task")


def leave(code: Any) -> None:
    raise SystemExit(code)


def give_a_lock() -> Any:
    return threading.Lock()


def ignores_sigint() -> str:
    signal.raise_signal(signal.SIGINT)
    return "still here"


# ---- load ----


def burn(seconds: float) -> float:
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return seconds


def kind_of_load(kind: int, i: int) -> Any:
    """One of several kinds of work, whose result depends on i alone."""
    if kind == 0:
        return i
    if kind == 1:
        return "é" * (i % 300)
    if kind == 2:
        return [i, {i: str(i)}]
    if kind == 3:
        raise Odd(str(i))
    if kind == 4:
        return bytes(i % 9000)
    return (i, None, (float(i), True))


def read_lines(path: str | Path) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return Path(path).read_text().split()
    return []
