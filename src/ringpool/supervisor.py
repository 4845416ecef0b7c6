"""Starts the workers of a pool, watches them, buries and replaces them, and ends the pool.

One thread a pool waits on the workers' deaths: on a pidfd of each, and on the wait status that `multiprocessing` hands
on. Neither can be kept open by a child that a task has forked, as the end of a pipe could. The core reports what the
dead worker held; what becomes of it is decided here.

  worker ended            and the pool            then
  --------------------    --------------------    -----------------------------------------------------------------
  as it was told          has stopped             nothing: it is the end
  after max_tasks         goes on                 a successor starts
  in the initializer      goes on                 the pool breaks; the initializer's exception is the cause
  before it was ready     goes on                 a successor starts; the pool breaks at the third such death in a row
  otherwise               on_worker_death         its task fails with WorkerDied; a successor starts ("replace"), or the
                                                  pool breaks and every pending task fails ("break")
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
import weakref
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from dataclasses import dataclass
from multiprocessing import connection, context, process
from typing import Any

from ringpool import _core, machine, worker, zygote
from ringpool.errors import WorkerDied, how_it_ended

# Deaths before being ready, one after the other, that break a pool: a machine short of memory may lose one or two, a
# broken program loses all.
START_TRIES = 3

# The pool maps an arena for each worker and one for the parent. Where address space is limited, it leaves three
# quarters of it to threads' stacks, libraries and the tasks.
AS_SHARE = 4

ARENA_MAX = 64 << 30  # address space a process may reserve for payloads; arbitrary

_made: weakref.WeakSet[Supervisor] = weakref.WeakSet()  # pools of this process, for its forked children to forget
_live: weakref.WeakSet[Supervisor] = weakref.WeakSet()  # pools with processes, to be ended before the interpreter is
_exiting = False


@dataclass
class _Place:
    index: int
    process: process.BaseProcess
    pidfd: int | None
    ready: bool = False  # as far as _has_new_starts has looked


class Supervisor:
    """The processes of one pool.

    Args:
        mp_context: Makes the processes.
        orders: What each worker is told, but for its index and the descriptors.
        on_worker_death: "replace" or "break".
    """

    def __init__(
        self,
        mp_context: context.BaseContext,
        n_workers: int,
        initializer: Any,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
        on_worker_death: str,
    ) -> None:
        self.client = _core.Client(n_workers, machine.usable_cpus(), _arena_bytes(n_workers))
        self._context = mp_context
        self._n_workers = n_workers
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks = max_tasks
        self._breaks = on_worker_death == "break"
        self._places: dict[int, _Place] = {}
        self._wanted = 0
        self._start_failures = 0
        self._ending = False
        self._lock = threading.Lock()  # of the places
        self._owner: weakref.ref[Any] | None = None
        self._wake = -1
        self._parent = -1
        self._zygote: zygote.Zygote | None = None  # with fork: makes the workers
        self._main_file: str | None = None
        self._threads: list[threading.Thread] = []
        _made.add(self)

    # ---- what the executor asks for ----

    @property
    def processes(self) -> list[process.BaseProcess]:
        """The workers that have not been buried."""
        with self._lock:
            return [place.process for place in self._places.values()]

    def begin(self, owner: Any) -> None:
        """Starts the first workers and the threads, once. With fork, all workers: a fork is cheap. Otherwise one;
        the others as tasks ask for them, as the stdlib does."""
        with self._lock:
            if self._threads:
                return
            self._main_file = getattr(sys.modules.get("__main__"), "__file__", None)
            self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._parent = os.pidfd_open(os.getpid())
            self._wanted = self._n_workers if self._context.get_start_method() == "fork" else 1
            try:
                self._start_missing()
            except BaseException:
                if not self._places:  # with fewer than wanted, the pool works; the others are tried again later
                    self._close_descriptors()
                    raise
            # The pool outlives its executor by what is pending; the threads hold the pool, never the executor.
            self._owner = weakref.ref(owner, lambda _: self.close())
            self.client.grow = self._grow
            _live.add(self)
            self._threads = [
                threading.Thread(target=self._collect, name="ringpool-collector", daemon=True),
                threading.Thread(target=self._watch, name="ringpool-supervisor", daemon=True),
            ]
            try:
                for thread in self._threads:
                    thread.start()
            except RuntimeError:  # no room for another thread's stack: there can be no pool
                self._give_up()
                raise

    def _give_up(self) -> None:
        """Undoes a beginning that failed. Needs the lock."""
        self._ending = True
        self.client.close(_refuse)
        self.client.stop()
        for place in self._places.values():
            place.process.kill()
            place.process.join()
            if place.pidfd is not None:
                os.close(place.pidfd)
        self._places.clear()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._threads = []
        self._let_go()

    def close(self) -> None:
        """Takes no more tasks; the workers leave when none is pending. Takes no lock: it may run in the midst of
        anything, when the executor is garbage."""
        self.client.close(_refuse_at_exit if _exiting else _refuse)

    def abort(self, kill: bool) -> None:
        """Closes the pool, cancels what has not started and ends the workers.

        Args:
            kill: With SIGKILL rather than SIGTERM.
        """
        processes = self.processes
        self._ending = True
        self.close()
        self.client.cancel_all()
        for each in processes:
            with contextlib.suppress(ProcessLookupError, ValueError):  # gone, or buried
                if kill:
                    each.kill()
                else:
                    each.terminate()

    def join(self) -> None:
        """Waits until the closed pool has ended. Returns at once in the pool's own threads, which cannot wait for
        themselves."""
        with self._lock:
            threads = list(self._threads)
        if not threads:
            self._let_go()
        elif threading.current_thread() not in threads:
            for thread in threads:
                thread.join()

    def forget(self) -> None:
        """In a forked child: the processes are the parent's, and its threads are not here, whatever they had locked."""
        process._children.difference_update(place.process for place in self._places.values())  # type: ignore[attr-defined]
        self._places = {}
        self._threads = []
        self._lock = threading.Lock()
        self._zygote = None
        self._wake = self._parent = -1  # left open: in a worker they are its own

    # ---- the two threads ----

    def _collect(self) -> None:
        try:
            self.client.serve()
        finally:
            os.eventfd_write(self._wake, 1)  # the pool has stopped, perhaps when there was no worker left to end

    def _watch(self) -> None:
        while self._places or not self.client.stopped:
            places = list(self._places.values())
            watched: list[int] = [self._wake]
            for place in places:
                watched.append(place.process.sentinel)
                if place.pidfd is not None:
                    watched.append(place.pidfd)
            ready = set(connection.wait(watched))
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._wake)
            for place in places:
                if place.process.sentinel in ready or place.pidfd in ready:
                    self._bury(place)
            self._replace()
        self._threads[0].join()
        self._let_go()

    def _replace(self) -> None:
        try:
            with self._lock:
                self._start_missing()
        except Exception as error:
            if not self._places:
                self._break_off("no worker could be started", error)

    def _bury(self, place: _Place) -> None:
        client = self.client
        place.process.join()
        exitcode = place.process.exitcode
        pid = place.process.pid or 0
        with self._lock:
            del self._places[place.index]
            client.n_started = len(self._places)
        if place.pidfd is not None:
            os.close(place.pidfd)
        if client.stopped:  # it left as it was told, with nothing pending; no successor needs its place
            return
        started, retired = client.worker_started(place.index), client.worker_retired(place.index)
        if started or self._has_new_starts():
            self._start_failures = 0
        lost = client.bury(place.index)
        deaths = [WorkerDied(place.index, pid, exitcode, client.describe(future)) for future in lost]
        for future, death in zip(lost, deaths, strict=True):
            abruptly: Any = f"the process with pid {pid} terminated abruptly with exit code {exitcode}"
            death.__cause__ = _RemoteTraceback(abruptly)
            client.fail(future, death)
        client.rouse()
        if retired and not lost:
            return
        ended = f"worker {place.index} (pid {pid}) {how_it_ended(exitcode)}"
        if client.start_error is not None:
            self._break_off("the initializer of a worker raised an exception", client.start_error)
        elif not started:
            self._start_failures += 1
            if self._start_failures >= START_TRIES:
                self._break_off(
                    f"{START_TRIES} workers in a row died while they started",
                    BrokenProcessPool(f"{ended} before it was ready for tasks"),
                )
        elif self._breaks:
            self._break_off("a worker died", deaths[0] if deaths else BrokenProcessPool(ended))

    def _has_new_starts(self) -> bool:
        """Whether a living worker has become ready since the last call."""
        new = [p for p in self._places.values() if not p.ready and self.client.worker_started(p.index)]
        for place in new:
            place.ready = True
        return bool(new)

    def _break_off(self, why: str, cause: BaseException) -> None:
        """The pool is broken: all that is pending fails, and nothing is taken any more."""

        def broken() -> BrokenProcessPool:
            error = BrokenProcessPool(f"the process pool is broken: {why}: {cause}")
            error.__cause__ = cause
            return error

        self._ending = True
        self.client.close(broken)
        self.client.fail_all(broken())
        for each in self.processes:
            with contextlib.suppress(ProcessLookupError, ValueError):
                each.terminate()

    def _let_go(self) -> None:
        _live.discard(self)
        self.client.grow = None
        self.client.retire()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None
        for fd in (self._wake, self._parent):
            if fd >= 0:
                os.close(fd)
        self._wake = self._parent = -1

    # ---- processes ----

    def _grow(self) -> None:
        """Asks for as many workers as there are tasks. Called by submit, so it only leaves word."""
        wanted = min(self._n_workers, self.client.pending)
        if wanted > self._wanted:
            self._wanted = wanted
            os.eventfd_write(self._wake, 1)

    def _start_missing(self) -> None:
        """Fills the vacant places among those wanted, if there is or may be work for them. Needs the lock."""
        if self._ending or self.client.stopped or (self.client.closed and not self.client.pending):
            return
        for index in range(self._wanted):
            if index not in self._places:
                self._places[index] = self._start(index)
                self.client.n_started = len(self._places)

    def _start(self, index: int) -> _Place:
        orders = worker.Orders(
            memfd=worker.Descriptor(self.client.memfd),
            parent=worker.Descriptor(self._parent),
            n_workers=self._n_workers,
            n_cpus=self.client.n_cpus,
            arena_bytes=self.client.arena_bytes,
            place=index,
            initializer=self._initializer,
            initargs=self._initargs,
            max_tasks=self._max_tasks,
        )
        started: process.BaseProcess = self._context.Process(  # type: ignore[attr-defined]
            target=worker.main, args=(orders,), name=f"ringpool-worker-{index}"
        )
        # Python deletes __main__.__file__ after a script's last line, and multiprocessing tells a new process by it
        # where the script's functions are: a pool left open would lose its tasks.
        main = sys.modules.get("__main__")
        if self._main_file is not None and main is not None and not hasattr(main, "__file__"):
            main.__file__ = self._main_file
        if self._context.get_start_method() == "fork":
            if self._zygote is None:
                self._zygote = zygote.Zygote(started, orders, self._parent)
            started._Popen = functools.partial(self._zygote.popen, place=index)  # type: ignore[attr-defined]
        started.start()
        assert started.pid is not None
        try:
            pidfd: int | None = os.pidfd_open(started.pid)
        except OSError:  # it has died already, or no descriptor is left: its sentinel says enough
            pidfd = None
        return _Place(index, started, pidfd)


def _arena_bytes(n_workers: int) -> int:
    limit = machine.address_space()
    most = min(machine.usable_memory(), ARENA_MAX)
    return most if limit is None else min(most, limit // (AS_SHARE * (n_workers + 1)))


def _refuse() -> RuntimeError:
    return RuntimeError("cannot schedule new futures after shutdown")


def _refuse_at_exit() -> RuntimeError:
    return RuntimeError("cannot schedule new futures after interpreter shutdown")


def _end_all() -> None:
    """Before the interpreter ends: pending tasks are finished and their workers leave, as the stdlib has it. If a
    Ctrl-C ends the program, what runs is not waited for; the stdlib's workers get the signal themselves."""
    global _exiting
    _exiting = True
    # What the interpreter has just printed. A session keeps it from long ago, and has a prompt.
    interrupted = getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1")
    for each in list(_live):
        if interrupted:
            each.abort(kill=False)
        else:
            each.close()
    for each in list(_live):
        each.join()


# The stdlib's executors end the same way: before threads are joined, which is before atexit.
threading._register_atexit(_end_all)  # type: ignore[attr-defined]


def _forget_all() -> None:
    _live.clear()
    for each in list(_made):
        each.forget()
    _made.clear()


os.register_at_fork(after_in_child=_forget_all)
