"""What a pool raises, and the sentences that say what happened."""

from __future__ import annotations

import signal
from concurrent.futures.process import BrokenProcessPool


class WorkerDied(BrokenProcessPool):
    """A worker process died while it ran this task. The pool goes on without it, unless it was told to break.

    Attributes:
        worker: Index of the worker in its pool, from 0.
        pid: Its process id.
        exitcode: Its exit code; negative, the number of the signal that killed it; None if nobody could tell.
        task: Name of the function it ran.
    """

    def __init__(self, worker: int, pid: int, exitcode: int | None, task: str) -> None:
        self.worker = worker
        self.pid = pid
        self.exitcode = exitcode
        self.task = task
        super().__init__(f"worker {worker} (pid {pid}) {how_it_ended(exitcode)} while it ran {task}")

    def __reduce__(self) -> tuple[type[WorkerDied], tuple[int, int, int | None, str]]:
        return type(self), (self.worker, self.pid, self.exitcode, self.task)


class TaskTimeout(TimeoutError):
    """A task has taken longer than its time limit. Raised in the task at that moment, and later by its future.

    Attributes:
        task: Name of the task, or of the function it called; None in the task itself.
        timeout: The limit, in seconds; None in the task itself.
        killed: Whether its worker had to be killed, since it went on when its grace was over.
    """

    task: str | None = None
    timeout: float | None = None
    killed: bool = False

    def __init__(self, message: str = "the task has taken longer than its time limit") -> None:
        super().__init__(message)

    @classmethod
    def of(cls, task: str, timeout: float, killed: bool) -> TaskTimeout:
        """The exception of a future, with all that is known."""
        how = ", and its worker was killed since it went on after its grace" if killed else ""
        error = cls(f"{task} took longer than {timeout:g} s{how}")
        error.task, error.timeout, error.killed = task, timeout, killed
        return error


def how_it_ended(exitcode: int | None) -> str:
    """Words for an exit code as `multiprocessing.Process.exitcode` gives it.

    Args:
        exitcode: Of a process that has ended; negative for a signal; None if unknown.

    Returns:
        For example "was killed by SIGKILL (often: out of memory)" or "exited with code 7".
    """
    if exitcode is None:
        return "ended (its exit code went to somebody else)"
    if exitcode >= 0:
        return f"exited with code {exitcode}"
    try:
        name = signal.Signals(-exitcode).name
    except ValueError:
        name = f"signal {-exitcode}"
    hint = {"SIGKILL": " (often: the system ran out of memory)", "SIGSEGV": " (a crash in native code)"}.get(name, "")
    return f"was killed by {name}{hint}"
