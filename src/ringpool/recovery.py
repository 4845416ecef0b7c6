"""What follows the end of a worker.

  worker ended            and the pool            then
  --------------------    --------------------    -----------------------------------------------------------------
  as it was told          has stopped             nothing: the pool ends
  recycled                goes on                 nothing: its successor has started before and takes its tasks
  in the initializer      goes on                 the pool breaks; the initializer's exception is the cause
  before it was ready     goes on                 a successor starts; the pool breaks at the third such death in a row
  killed, its task was    goes on                 that future raises TaskTimeout or CancelledError; a successor starts
    to end and went on
  otherwise               on_worker_death         its task runs again if `retries` allows, else fails with WorkerDied;
                                                  a successor starts ("replace"), or the pool breaks and every pending
                                                  task fails ("break")

`recover` is this table but for its first line. A pool that breaks is closed before the first of its futures is done.
`Recovery` is how the core is asked, in the one order that is right.

Guarantees: no task that a dead worker held stays pending: each is sent again or fails, or the recovery raises an error,
which ends the pool. Does not: wait for the process, start its successor, or break the pool; the supervisor does. This
module is imported at the first death, since `errors` takes long to import.
"""

from __future__ import annotations

from ringpool.errors import BrokenProcessPool, WorkerDied, _RemoteTraceback, how_it_ended

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Any

    from ringpool import _core
    from ringpool.future import Future
    from ringpool.places import Place, Places

# Deaths before being ready, one after the other, that break a pool: a machine short of memory may lose one or two, a
# broken program loses all.
START_TRIES = 3


class Recovery:
    """The recovery of what one dead worker held, from its beginning to its end.

        with Recovery(client, index) as recovery:
            for task in recovery.lost:
                if not recovery.retry(task):
                    recovery.fail(task, error)

    The constructor begins it: it learns the facts about the worker, takes in its results and recovers its memory; the
    place is then ready for another worker. Each lost task must then be sent again or fail. `end` sends waiting tasks to
    the workers, and repeats wake-ups that the dead worker may have owed.

    Args:
        client: The pool's.
        index: The worker's place. Its process must have ended.

    Raises:
        RuntimeError: From every method and attribute: the recovery has ended. From `end`: a lost task was neither
            retried nor failed, and would be pending forever.
        ValueError: A task is not one of `lost`, or has been retried or failed before.

    If the block raises, the recovery is broken off: lost tasks stay pending, and the caller must fail them.
    """

    def __init__(self, client: _core.Client, index: int) -> None:
        self._client = client
        self._ended = False
        self._lost, self._started, self._retired, self._peak_rss = client.begin_recovery(index)
        self._undecided = list(self._lost)

    @property
    def started(self) -> bool:
        """Whether the worker had become ready for tasks."""
        self._check()
        return self._started

    @property
    def retired(self) -> bool:
        """Whether it left as it was told."""
        self._check()
        return self._retired

    @property
    def peak_rss(self) -> int:
        """The most memory that it noted to have had in use, in bytes; 0 if it noted none."""
        self._check()
        return self._peak_rss

    @property
    def lost(self) -> list[Future[Any]]:
        """The tasks that it held. One at most, unless it has corrupted the shared memory."""
        self._check()
        return list(self._lost)

    def retry(self, task: Future[Any]) -> bool:
        """Sends a lost task to another worker, if its options allow it.

        Returns:
            Whether it was sent. If not, it must fail.
        """
        self._check(task)
        sent = self._client.retry(task)
        if sent:
            self._undecided.remove(task)
        return sent

    def describe(self, task: Future[Any]) -> str:
        """The name of a lost task that has been neither retried nor failed."""
        self._check(task)
        return self._client.describe(task)

    def fail(self, task: Future[Any], error: BaseException) -> None:
        """Ends a lost task with an exception, unless it has been cancelled meanwhile."""
        self._check(task)
        self._undecided.remove(task)
        self._client.fail(task, error)

    def hand_over(self, index: int, ticket: int) -> None:
        """Lets the successor of the worker, in that place and with that ticket, take tasks."""
        self._check()
        self._client.segment.give_turn(index, ticket)

    def end(self) -> None:
        """Sends waiting tasks to the workers and repeats wake-ups."""
        self._check()
        if self._undecided:
            raise RuntimeError(f"{len(self._undecided)} lost tasks were neither retried nor failed")
        self._ended = True
        self._client.end_recovery()

    def __enter__(self) -> Recovery:
        self._check()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.end()
        else:
            self._ended = True

    def _check(self, task: Future[Any] | None = None) -> None:
        if self._ended:
            raise RuntimeError("the recovery has ended")
        if task is not None and task not in self._undecided:
            raise ValueError("the task is not one of those lost, or has been retried or failed before")


def recover(
    client: _core.Client,
    places: Places,
    place: Place,
    stack: str | None,
    may_retry: bool,
    breaks: bool,
    close: Callable[[str, BaseException], None],
) -> bool:
    """Retries or fails what a worker held that has ended while its pool goes on.

    Args:
        client, places: The pool's.
        place: The worker's, which has been reaped.
        stack: Its crash log.
        may_retry: Whether tasks are sent to other workers if their options allow it.
        breaks: Whether any death breaks the pool.
        close: Called if the pool breaks, with why, and the cause: before a future tells of it, so that a thread that
            learns of it finds the pool closed.

    Returns:
        Whether the pool breaks.
    """
    pid, exitcode, out_of_memory = place.process.pid or 0, place.exitcode, place.out_of_memory
    with Recovery(client, place.index) as recovery:
        if recovery.started or places.has_new_starts():
            places.start_failures = 0
        peak = max(recovery.peak_rss, place.peak_rss) or None
        lost = [task for task in recovery.lost if not (may_retry and recovery.retry(task))]
        # All names first: a task that has failed has none.
        deaths = [
            WorkerDied(place.index, pid, exitcode, recovery.describe(task), peak, stack, out_of_memory) for task in lost
        ]
        for death in deaths:
            abruptly: Any = f"the process with pid {pid} terminated abruptly with exit code {exitcode}"
            if stack is not None:
                abruptly += f"\n\n{stack}"
            death.__cause__ = _RemoteTraceback(abruptly)
        broken = None
        if not place.killed and (lost or not recovery.retired):
            broken = _breakage(client, places, place, recovery.started, breaks, deaths)
        if broken is not None:
            close(*broken)
        for task, death in zip(lost, deaths, strict=True):
            recovery.fail(task, death)
        if place.successor is not None:
            recovery.hand_over(place.successor.index, place.successor.ticket)
    return broken is not None


def _breakage(
    client: _core.Client, places: Places, place: Place, started: bool, breaks: bool, deaths: list[WorkerDied]
) -> tuple[str, BaseException] | None:
    """Why the end of a worker that was not told to leave breaks the pool, and the cause; None if the pool goes on."""
    ended = f"worker {place.index} (pid {place.process.pid}) {how_it_ended(place.exitcode, place.out_of_memory)}"
    if client.intake.start_error is not None:
        return "The initializer of a worker raised an exception", client.intake.start_error
    if not started:
        places.start_failures += 1
        if places.start_failures < START_TRIES:
            return None
        why = f"{START_TRIES} workers in a row died while they started"
        return why, BrokenProcessPool(f"{ended} before it was ready for tasks")
    if breaks:
        return "A worker died", deaths[0] if deaths else BrokenProcessPool(ended)
    return None
