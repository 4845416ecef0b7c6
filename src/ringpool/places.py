"""The places of a pool: the worker process that sits in each, and the one that follows it.

`Place` is one worker process: it signals it, waits for its end and closes its descriptor. `Places` is all places of a
pool: which are free, which worker succeeds which, and which are to be started.

Guarantees: a signal reaches the worker or no process at all. It goes by the pidfd or, where the system refuses pidfds,
by the number, as long as that is the worker's own. Only `Places.reap` and `Place.kill` block. Does not: decide how many
workers there should be (`Staff.wanted`), make processes (see `launcher`), or decide what follows a worker's end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import threading
from multiprocessing import process

from ringpool import _core, machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Place:
    """A worker process.

    Args:
        index: Its place in the pool.
        process: The process, started.
        pidfd: Of the process; None if it has died already, or the system refuses pidfds.
        by_number: Whether the system refuses pidfds. The process is then watched and signalled by its number.
        owns_pidfd: Whether `close` closes the pidfd. Else it is the process's sentinel, which multiprocessing closes.
        oom_kills: How many kills for memory the kernel had counted when it started; None if it does not count.
        inherited: Bytes of the peak memory in its wait status that may be this process's: an exec passes them on.
        ticket: The number of this start.
        home: The process group that it was started in; 0 if it had ended before that was known.
        predecessor: The worker whose tasks it takes over when that one has left; None if it takes tasks at once.
    """

    def __init__(
        self,
        index: int,
        process: process.BaseProcess,
        pidfd: int | None,
        by_number: bool,
        owns_pidfd: bool,
        oom_kills: int | None,
        inherited: int,
        ticket: int,
        home: int,
        predecessor: Place | None,
    ) -> None:
        self.index = index
        self.process = process
        self.pidfd = pidfd
        self.by_number = by_number
        self.owns_pidfd = owns_pidfd
        self.oom_kills = oom_kills
        self.inherited = inherited
        self.ticket = ticket
        self.home = home
        self.predecessor = predecessor
        self.successor: Place | None = None
        self.ready = False  # as far as Places.has_new_starts has looked
        self.killed = False  # by us, with what it was running
        # When it has been reaped:
        self.exitcode: int | None = None  # negative: a signal's number; None: another part of the program has taken it
        self.peak_rss = 0  # in bytes, by its wait status; 0 where that does not tell
        self.out_of_memory: bool | None = None  # whether the kernel killed it for that; None if it does not tell
        self.closed = False
        self.lock = threading.RLock()  # of the descriptor

    def signal(self, signum: int) -> None:
        """Sends the worker a signal. A signal that ends it is also sent to the processes that its tasks have started
        and that have not left it (see tree.h); where the system refuses pidfds, the worker alone gets it.

        Raises:
            PermissionError: It is another user's than this process by now.
        """
        with self.lock, contextlib.suppress(ProcessLookupError):
            self._send(0)  # it is there
            if signum == signal.SIGKILL:
                self.killed = True
            try:
                self._send(signum)
            except PermissionError:
                self.killed = False
                raise
        if self.closed:
            self.close()

    def _send(self, signum: int) -> None:
        """As `signal`, without setting `killed`.

        Raises:
            ProcessLookupError: It has ended.
            PermissionError: See `signal`.
        """
        assert self.process.pid is not None
        if self.pidfd is not None:
            try:
                if signum in (signal.SIGTERM, signal.SIGKILL):
                    _core.signal_tree(self.pidfd, self.process.pid, self.home, signum)
                else:
                    signal.pidfd_send_signal(self.pidfd, signum)
                return
            except OSError as error:  # perhaps the call alone is refused
                if not machine.is_refused(error):
                    raise
        elif not self.by_number:
            raise ProcessLookupError
        if self.process.exitcode is not None:  # until then, its number is its own
            raise ProcessLookupError
        try:
            os.kill(self.process.pid, signum)
        except PermissionError as error:
            raise PermissionError(
                error.errno,
                f"worker {self.index} (pid {self.process.pid}) cannot be signalled: it runs as another user than this "
                "program does now",
            ) from None

    def watched(self) -> set[int]:
        """Descriptors of which one can be read when the process has ended. (Where the system refuses pidfds, it may
        keep that to itself: see `has_ended`.)"""
        return {self.process.sentinel} if self.pidfd is None else {self.process.sentinel, self.pidfd}

    def has_ended(self, ready: set[int]) -> bool:
        """Whether the process has ended.

        Args:
            ready: What can be read of `watched`. Where the system refuses pidfds, it is asked besides.
        """
        if not ready.isdisjoint(self.watched()):
            return True
        return self.by_number and self._is_gone()

    def _is_gone(self) -> bool:
        if self.process.exitcode is not None:
            return True
        assert self.process.pid is not None
        try:
            os.kill(self.process.pid, 0)
        except OSError as error:
            return error.errno == errno.ESRCH
        return False

    def reap(self) -> None:
        """Waits for the end of the process, closes its descriptor, and notes how it has ended."""
        # Exact, but of a child only. Before the join, which takes the status.
        peak = 0 if self.pidfd is None else _core.wait_peak_rss(self.pidfd)
        self.peak_rss = peak if peak > self.inherited else 0
        self.process.join()
        self.close()
        self.exitcode = self.process.exitcode
        self.out_of_memory = self._was_out_of_memory()

    def _was_out_of_memory(self) -> bool | None:
        """Whether the kernel killed the worker because memory ran out, by its counters; None if they do not tell."""
        if self.killed or self.exitcode != -signal.SIGKILL:
            return False
        now = machine.oom_kills()
        return None if now is None or self.oom_kills is None else now > self.oom_kills

    def kill(self) -> None:
        """Ends the process, at once and alone, and waits until it has ended.

        Raises:
            PermissionError: It is another user's than this process by now.
        """
        self.process.kill()
        self.process.join()
        self.close()

    def close(self) -> None:
        """Closes the pidfd. Does not wait for the lock: the thread that holds it may be running a signal handler that
        waits for the supervisor. That thread closes the pidfd when it has released the lock."""
        self.closed = True
        if self.lock.acquire(blocking=False):
            pidfd = self.pidfd
            self.pidfd = None
            self.lock.release()
            if pidfd is not None and self.owns_pidfd:
                os.close(pidfd)


class Places:
    """All places of a pool.

    Args:
        client: The pool's.
        launch: Starts the worker of a place: with its index, its ticket, and the worker that it is to succeed, if any.

    Only one thread at a time adds and removes: the one that begins the pool, and then the supervisor thread. Others may
    iterate: they see those that were there when they began.
    """

    def __init__(self, client: _core.Client, launch: Callable[[int, int, Place | None], Place]) -> None:
        self.starts = 0
        self.start_failures = 0  # workers that died before they were ready, since the last one that became ready
        self._client = client
        self._launch = launch
        self._by_index: dict[int, Place] = {}

    def __iter__(self) -> Iterator[Place]:
        return iter(list(self._by_index.values()))

    def __len__(self) -> int:
        return len(self._by_index)

    def get(self, index: int) -> Place | None:
        return self._by_index.get(index)

    def start_missing(self, is_ending: Callable[[], bool]) -> None:
        """Starts the successors that workers have asked for, and the workers that are missing, while there is or may be
        work for them.

        Args:
            is_ending: Whether no worker should start any more. A worker whose start has begun by then is terminated.
        """
        client = self._client
        predecessors: list[Place | None] = [
            place for place in self if place.successor is None and client.segment.worker_retiring(place.index)
        ]
        for predecessor in predecessors + [None] * (client.staff.wanted - self.count()):
            if is_ending() or client.workers_stopped or (client.closed and not client.pending):
                return
            place = self._start(predecessor)
            if place is not None and is_ending():  # since its start began
                place.process.terminate()

    def _start(self, predecessor: Place | None) -> Place | None:
        """Starts a worker, which takes tasks at once or as the successor of another. None if all places are taken: a
        worker that leaves will be removed soon, and then this is called again."""
        index = next((i for i in range(self._client.segment.n_places) if i not in self._by_index), None)
        if index is None:
            return None
        self.starts += 1
        ticket = self.starts
        if predecessor is None:
            self._client.segment.give_turn(index, ticket)
        else:
            self._client.segment.name_successor(predecessor.index, index, ticket)
        place = self._launch(index, ticket, predecessor)
        if predecessor is not None:
            predecessor.successor = place
        self._by_index[index] = place
        self._client.staff.n_started = self.count()
        return place

    def count(self) -> int:
        """How many workers take tasks, or will when they have started."""
        return sum(place.predecessor is None for place in self)

    def dismiss_succeeded(self) -> None:
        """Lets the workers go whose successors are ready."""
        for place in self:
            if place.successor is not None:
                self._client.segment.dismiss(place.index, place.successor.index)

    def signal_all(self, signum: int) -> None:
        """Sends all workers a signal: see `Place.signal`.

        Raises:
            PermissionError: One of them is another user's than this process by now. The others have got it.
        """
        failure = None
        for place in self:
            try:
                place.signal(signum)
            except PermissionError as error:
                failure = error
        if failure is not None:
            raise failure

    def has_new_starts(self) -> bool:
        """Whether a living worker has become ready since the last call."""
        new = [place for place in self if not place.ready and self._client.segment.worker_started(place.index)]
        for place in new:
            place.ready = True
        return bool(new)

    def reap(self, place: Place) -> None:
        """Waits for the end of a worker. Its place is then free, and its successor takes tasks."""
        place.reap()
        del self._by_index[place.index]
        if place.predecessor is not None:
            place.predecessor.successor = None
        if place.successor is not None:
            place.successor.predecessor = None
        self._client.staff.n_started = self.count()

    def abandon(self, place: Place) -> None:
        """Gives up a worker that cannot be killed when the pool ends. It ends with this process; until then it keeps
        its mapping of the shared memory, which no other pool uses."""
        process._children.discard(place.process)  # type: ignore[attr-defined]
        self._by_index.pop(place.index, None)
        place.close()

    def kill_all(self) -> None:
        """Ends all workers, at once. Raises nothing: what cannot be killed is left to end with this process."""
        for place in self:
            try:
                place.kill()
            except OSError:
                self.abandon(place)
        self._by_index.clear()

    def forget(self) -> None:
        """In a forked child: the processes are the parent's."""
        process._children.difference_update(place.process for place in self)  # type: ignore[attr-defined]
        for place in self:
            if place.pidfd is not None:
                os.close(place.pidfd)
        self._by_index = {}
