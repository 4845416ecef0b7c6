"""What a pool raises, and the sentences that say what happened."""

from __future__ import annotations

import signal

try:
    from concurrent.futures.process import BrokenProcessPool as BrokenProcessPool
    from concurrent.futures.process import _RemoteTraceback as _RemoteTraceback
except RuntimeError:
    # The interpreter is ending, and that module, which has to be told of it, cannot be imported any more: by no part of
    # the program, so none can name these classes.
    from concurrent.futures import BrokenExecutor

    class BrokenProcessPool(BrokenExecutor):  # type: ignore[no-redef]
        pass

    class _RemoteTraceback(Exception):  # type: ignore[no-redef]
        def __init__(self, tb: str) -> None:
            self.tb = tb

        def __str__(self) -> str:
            return self.tb


TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class WorkerDied(BrokenProcessPool):
    """A worker process died while it ran this task. The pool goes on without it, unless it was told to break.

    Attributes:
        worker: Index of the worker in its pool, from 0.
        pid: Its process id.
        exitcode: Its exit code; negative, the number of the signal that killed it; None if unknown.
        signal: The signal that killed it, a `signal.Signals` or, where that has no name, its number; None if none did.
        task: Name of the function it ran.
        peak_rss: The most memory it had in use at any time, in bytes; None if unknown. Under fork it is exact,
            and under spawn where it is more than the parent had; otherwise it is what the worker noted last, which it
            does once a second.
        stack: What `faulthandler` wrote of a crash: the Python stacks of all threads. None where there was none, or
            where the program itself had `faulthandler` enabled, which then wrote to where it was told.
        out_of_memory: Whether the kernel probably killed it because memory ran out: it died by a SIGKILL that its pool
            had not sent, while the kernel's count of such kills rose. None if unknown.
    """

    def __init__(
        self,
        worker: int,
        pid: int,
        exitcode: int | None,
        task: str,
        peak_rss: int | None = None,
        stack: str | None = None,
        out_of_memory: bool | None = None,
    ) -> None:
        self.worker = worker
        self.pid = pid
        self.exitcode = exitcode
        self.signal = signal_of(exitcode)
        self.task = task
        self.peak_rss = peak_rss
        self.stack = stack
        self.out_of_memory = out_of_memory
        peak = "" if peak_rss is None else f" (peak memory: {peak_rss / 2**20:.0f} MiB)"
        super().__init__(
            f"worker {worker} (pid {pid}) {how_it_ended(exitcode, out_of_memory)} while it ran {task}{peak}"
        )

    def __reduce__(self) -> tuple[type[WorkerDied], tuple[Any, ...]]:
        facts = self.worker, self.pid, self.exitcode, self.task, self.peak_rss, self.stack, self.out_of_memory
        return type(self), facts


class RemoteError(RuntimeError):
    """Replaces an exception of a task, or of an initializer, that cannot be pickled or unpickled. Its ``__cause__`` has
    the remote traceback.

    Attributes:
        type_name: The full name of the exception's type, ``package.module.Name``; of a built-in one ``Name``.
        text: The exception as `str` gives it.
        reason: Why it could not be sent.
    """

    def __init__(self, type_name: str, text: str, reason: str) -> None:
        self.type_name = type_name
        self.text = text
        self.reason = reason
        shown = f"{type_name}: {text}" if text else type_name
        super().__init__(f"{shown} (replaced by this RemoteError: {reason})")

    def __reduce__(self) -> tuple[type[RemoteError], tuple[str, str, str]]:
        return type(self), (self.type_name, self.text, self.reason)


class TaskTimeout(TimeoutError):
    """A task has exceeded its time limit. Raised in the task at that moment, and later by its future.

    Attributes:
        task: Name of the task, or of the function it called; None in the task itself.
        timeout: The limit, in seconds; None in the task itself.
        killed: Whether its worker had to be killed, because the task did not stop within its grace period.
    """

    task: str | None = None
    timeout: float | None = None
    killed: bool = False

    def __init__(self, message: str = "the task exceeded its time limit") -> None:
        super().__init__(message)

    @classmethod
    def of(cls, task: str, timeout: float, killed: bool) -> TaskTimeout:
        """The exception of a future, with all that is known."""
        how = "; it did not stop within its grace period, so its worker was killed" if killed else ""
        error = cls(f"{task} took longer than {timeout:g} s{how}")
        error.task, error.timeout, error.killed = task, timeout, killed
        return error


def signal_of(exitcode: int | None) -> signal.Signals | int | None:
    """The signal in an exit code as `multiprocessing.Process.exitcode` gives it; its number if it has no name."""
    if exitcode is None or exitcode >= 0:
        return None
    try:
        return signal.Signals(-exitcode)
    except ValueError:
        return -exitcode


def how_it_ended(exitcode: int | None, out_of_memory: bool | None) -> str:
    """Words for the end of a process.

    Args:
        exitcode: As `multiprocessing.Process.exitcode` gives it: negative for a signal; None if unknown.
        out_of_memory: Whether the kernel's counters say so; None if they say nothing.

    Returns:
        For example "was killed by SIGKILL (probably out of memory)" or "exited with code 7".
    """
    if exitcode is None:
        return "ended (its exit code is unknown: another part of the program waited for it)"
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    number = signal_of(exitcode)
    hint = ""
    if out_of_memory:
        hint = " (probably out of memory)"
    elif number == signal.SIGKILL and out_of_memory is None:
        hint = " (often: the system ran out of memory)"
    elif number == signal.SIGSEGV:
        hint = " (a crash in native code)"
    return f"was killed by {number.name if isinstance(number, signal.Signals) else f'signal {number}'}{hint}"
