"""Starts the workers of a pool, watches them, buries and replaces them, and ends the pool.

One thread a pool waits on the workers' deaths: on a pidfd of each, and on the wait status that `multiprocessing` hands
on. Neither can be kept open by a child that a task has forked, as the end of a pipe could. The core reports what the
dead worker held; what becomes of it is decided here.

  worker ended            and the pool            then
  --------------------    --------------------    -----------------------------------------------------------------
  as it was told          has stopped             nothing: it is the end
  recycled                goes on                 nothing: its successor has started before and takes its tasks
  in the initializer      goes on                 the pool breaks; the initializer's exception is the cause
  before it was ready     goes on                 a successor starts; the pool breaks at the third such death in a row
  killed, its task was    goes on                 that future raises TaskTimeout or CancelledError; a successor starts
    to end and went on
  otherwise               on_worker_death         its task runs anew if its `retries` allow, else fails with WorkerDied;
                                                  a successor starts ("replace"), or the pool breaks and every pending
                                                  task fails ("break")

The same thread keeps time. A task that is to end, because it has overrun its limit, or was cancelled while it runs, or
because the pool is to end, is interrupted, and its worker killed when its grace is over. The core says who is due.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import math
import os
import re
import signal
import sys
import threading
import time
import weakref
from multiprocessing import process, util

from ringpool import _core, functions, machine, pickling, waiting, worker

# A program pays for these imports before its first task. What one start method alone needs is imported when it starts a
# worker; what a death needs, at the first one. (concurrent.futures.process takes half as long as all of the rest.)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing import context, popen_fork
    from typing import Any

    from ringpool import zygote
    from ringpool.errors import BrokenProcessPool

# Deaths before being ready, one after the other, that break a pool: a machine short of memory may lose one or two, a
# broken program loses all.
START_TRIES = 3

# After a Ctrl-C: how long running tasks have to clean up. The program should be back at the prompt within two seconds.
ABORT_GRACE_S = 0.5

# With fork: how long the first worker is alone, unless a second task comes sooner. So the others do not start in its
# way, and not at all in a program that has one task. Longer than such a program takes to end the pool; arbitrary.
ALONE_S = 0.005

LONGEST_S = 3600.0  # of a sleep; arbitrary

# How the supervisor notices that the program was stopped, by a Ctrl-Z: while tasks have time limits it sleeps no longer
# than a turn, and one that has lasted so much longer than asked was a stop (or the machine was that busy).
TURN_S = 0.25
STOPPED_NS = 100_000_000

# Of the memory that the program may use, what a pool takes at most if nobody says how much: the rest is for what its
# tasks compute.
SHARE = 0.5

# Among multiprocessing's finalizers: before those of its own pools and managers, which a pending task may use.
EXIT_PRIORITY = 100

# Where there are no pidfds: between two looks whether a worker has died. It costs a system call a worker.
LOOK_S = 0.05

QUOTA_MIN = 1 << 19  # bytes of payloads that each process of a pool must have room for; arbitrary
ARENA_MAX = 64 << 30  # bytes from the beginning of one arena to the next's, in a sparse file; arbitrary
ROOMY = 4  # so much more of that than memory: blocks are found, however those in use lie

# Bytes of a crashed worker's stack that are kept; faulthandler writes 100 frames a thread at most, some 50 bytes each.
STACK_BYTES = 64 << 10
STACK_STRIDE = 256 << 10  # from one worker's to the next, so that more does not run into that; arbitrary

NAME = "RingpoolProcess-"

# Of these faulthandler writes. After another end, what it wrote is of a process that the worker had forked.
FAULTS = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL}

_BELOW_MAIN = r'(  File "[^"\n]*ringpool/worker\.py", line \d+ in main\n)(?:  .*\n?)+'

# How the stdlib begins to say that a pool is broken, to those who wait and to those who come later.
_LOST = "A process in the process pool was terminated abruptly while the future was running or pending."
_UNUSABLE = "A child process terminated abruptly, the process pool is not usable anymore"

_made: weakref.WeakSet[Supervisor] = weakref.WeakSet()  # all pools, for forked children to forget those that were used
_live: weakref.WeakSet[Supervisor] = weakref.WeakSet()  # pools with processes, to be ended before the interpreter is
_exiting = False


class _Place:
    """A worker process, and what is known of it.

    Args:
        index: Which place of the pool it has.
        process: The process, started.
        pidfd: Of the process; None if it has died already, or the system refuses pidfds.
        by_number: Whether the system refuses them. The process is then watched and signalled by its number.
        owns_pidfd: Whether it is to be closed here. Else it is the process's sentinel, which multiprocessing closes.
        oom_kills: How many the kernel had counted when it started; None if it does not count.
        inherited: Of the peak memory that its wait status tells, the bytes that may be this process's: an exec passes
            it on.
        ticket: Of this start.
        home: The process group that it was born in; 0 if it has died in no time.
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
        predecessor: _Place | None,
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
        self.successor: _Place | None = None
        self.ready = False  # as far as _has_new_starts has looked
        self.killed = False  # by us, with what it was running
        self.closed = False
        self.lock = threading.RLock()  # of the descriptor

    def signal(self, signum: int) -> None:
        """Sends the worker a signal; one that ends it, also to the processes that its tasks have started and that have
        not left it (see tree.h). Where the system refuses pidfds, the worker alone gets it.

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
        """As `signal`, without what is to be noted.

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
                f"worker {self.index} (pid {self.process.pid}) cannot be signalled: it was started as another user "
                "than this program is now",
            ) from None

    def has_ended(self) -> bool:
        """Asks the system; for a worker by number."""
        if self.process.exitcode is not None:
            return True
        assert self.process.pid is not None
        try:
            os.kill(self.process.pid, 0)
        except OSError as error:
            return error.errno == errno.ESRCH
        return False

    def close(self) -> None:
        """Waits for nobody: a signal handler of who holds the lock may wait for the supervisor. He closes later."""
        self.closed = True
        if self.lock.acquire(blocking=False):
            pidfd = self.pidfd
            self.pidfd = None
            self.lock.release()
            if pidfd is not None and self.owns_pidfd:
                os.close(pidfd)


class Supervisor:
    """The processes of one pool.

    Args:
        mp_context: Makes the processes.
        orders: What each worker is told, but for its index and the descriptors.
        on_worker_death: "replace" or "break".
        shared_memory_limit: Bytes; None for half of what the machine has.
    """

    def __init__(
        self,
        mp_context: context.BaseContext,
        n_workers: int,
        initializer: Any,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
        max_memory: int | None,
        on_worker_death: str,
        shared_memory_limit: int | None,
    ) -> None:
        self._recycles = max_tasks is not None or max_memory is not None
        n_places = 2 * n_workers if self._recycles else n_workers  # each worker's successor starts beside it
        self.client = _core.Client(n_workers, n_places, machine.usable_cpus(), _sizes(n_places, shared_memory_limit))
        if mp_context.get_start_method() != "fork":
            functions.expect_fresh_workers()
        self._context = mp_context
        self._n_workers = n_workers
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks = max_tasks
        self._max_memory = max_memory
        self._breaks = on_worker_death == "break"
        self._places: dict[int, _Place] = {}
        self._starts = 0
        self._start_failures = 0
        self.broken: str | None = None  # why the pool is
        self._ending = False
        self.loss: Callable[[], BrokenProcessPool] | None = None  # of a broken pool: makes what its futures raise
        self._abort_at = math.inf  # what is pending then is cancelled, whether it runs or not
        self._kill_at = math.inf  # the workers that are there then are killed
        self._lock = threading.RLock()  # of the beginning. Nobody who holds it waits for anybody
        self._begun = False
        self._said: set[str] = set()  # warnings
        self._joining: set[int] = set()  # threads in Thread.join
        self._owner: weakref.ref[Any] | None = None
        self._wake: waiting.Alarm | None = None
        self._parent: waiting.Lifeline | None = None  # of this process
        self._stacks: int | None = None  # a memfd that the workers' faulthandlers write to, each to its own stretch
        self._zygote: zygote.Zygote | None = None  # with fork: makes the workers
        self._main_file: str | None = None
        self._interrupt = int(signal.SIGINT)  # ends the task that a worker runs
        self._threads: list[threading.Thread] = []
        _made.add(self)

    # ---- what the executor asks for ----

    @property
    def processes(self) -> list[process.BaseProcess]:
        """The workers that have not been buried."""
        return [place.process for place in list(self._places.values())]

    def create(self) -> None:
        """Makes the shared memory, unless it is there.

        Raises:
            OSError: The system refuses it.
        """
        try:
            self.client.create()
        except OSError as error:
            raise _explained(error, "memfd_create") from None

    def begin(self, owner: Any) -> bool:
        """Starts the first workers and the threads, once.

        Returns:
            False if somebody else is at it: another thread, or this very one, which then runs a signal handler or a
            __del__ in the midst of it. A task that is submitted now waits for the workers that are coming; whoever
            begins fails it if none can be started.
        """
        self.create()
        if not self._begun:  # here, since all who submit come by before they can wait
            self.client.waiters.green = waiting.threads_are_greenlets()
        me = threading.get_ident()
        if self.client.staff.beginner == me or not self._lock.acquire(blocking=False):
            return False
        failure: BaseException | None = None
        try:
            # Between this look and the next line nothing is called, so no signal handler runs.
            if self._begun or (self.client.closed and not self.client.pending):
                return True
            if _exiting:
                raise _refuse_at_exit()
            self.client.staff.beginner = me
            try:
                self._begin(owner)
            finally:
                self.client.staff.beginner = 0
            return True
        except BaseException as error:
            failure = error
            raise
        finally:
            self._lock.release()
            if failure is not None:  # after the release: whoever submits later finds that nobody is at it
                self.client.fail_all(functools.partial(_another, failure))
                self.client.tell_news()
                failure = None

    def _begin(self, owner: Any) -> None:
        """Starts one worker, which takes the first task. The supervisor thread starts the others: as tasks ask for
        them, as the stdlib does, and with fork, which is cheap, all of them soon. Needs the lock."""
        _finalize_in_time()
        self._main_file = getattr(sys.modules.get("__main__"), "__file__", None)
        self._interrupt = worker.signal_for_interrupts()
        method = self._context.get_start_method()
        self.client.staff.wanted = max(self.client.staff.wanted, 1)
        if method != "fork":
            _leave_out_main()
        if method == "forkserver":
            _preload()
        try:
            self._wake = waiting.Alarm()
            self._parent = waiting.Lifeline()
            with contextlib.suppress(OSError):  # the workers are worth more than their last words
                self._stacks = _core.memfd("ringpool-stacks", self.client.segment.n_places * STACK_STRIDE)
            self._start_missing()
            if self._zygote is not None and self._zygote.refused:
                self.client.staff.wanted = self._n_workers  # now: a fork should come before there are threads
                self._start_missing()
        except Exception as error:
            if not self._places:  # with fewer than wanted, the pool works; the others are tried again later
                self._close_descriptors()
                better = _explained(error)
                if better is error:
                    raise
                raise better from error
        except BaseException as error:  # perhaps in the midst of a start: there may be a process that nobody knows of
            self._give_up(error)
            raise
        # The pool outlives its executor by what is pending; the threads hold the pool, never the executor.
        self._owner = weakref.ref(owner, lambda _: self.close())
        assert self._wake is not None
        self.client.staff.alarm_fd = self._wake.tell_fd
        self.client.staff.ask_for_workers()  # for tasks that came meanwhile
        _live.add(self)
        if _exiting:  # since it began: _end_all may not have seen it
            self.close()
        self._threads = [
            threading.Thread(target=self._collect, name="ringpool-collector", daemon=True),
            threading.Thread(target=self._watch, name="ringpool-supervisor", daemon=True),
        ]
        self._begun = True  # before they run: a pool that is closed by now may end at once
        try:
            for thread in self._threads:
                thread.start()
        except RuntimeError as error:  # no room for another thread's stack: there can be no pool
            better = _explained(error)
            self._give_up(better)
            raise better from None

    def _give_up(self, error: BaseException) -> None:
        """Undoes a beginning that failed for good. Needs the lock."""
        self._ending = True
        self.client.close(_refuse)
        self.client.fail_all(functools.partial(_another, error))
        self.client.stop()
        for place in self._places.values():
            place.process.kill()
            place.process.join()
            place.close()
        self._places.clear()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._threads = []
        self._begun = False
        self._let_go()
        self.client.end()

    def close(self) -> None:
        """Takes no more tasks; the workers leave when none is pending. Takes no lock: it may run in the midst of
        anything, when the executor is garbage."""
        self.client.close(_refuse_at_exit if _exiting else _refuse)

    def terminate(self, signum: int) -> None:
        """Closes the pool, cancels what has not started and ends the workers at once.

        Args:
            signum: SIGTERM or SIGKILL.
        """
        if self.client.segment.inherited:
            return
        self._ending = True  # before the processes are listed: one that is being started ends itself
        how = "kill_workers" if signum == signal.SIGKILL else "terminate_workers"
        self.client.close(functools.partial(_refuse_ended, how))
        self.client.cancel_all()
        failure = None
        for place in list(self._places.values()):
            try:
                place.signal(signum)
            except PermissionError as error:
                failure = error
        if failure is not None:
            raise failure

    def abort(self, grace: float | None = None) -> None:
        """Closes the pool, cancels what has not started and ends what runs.

        Args:
            grace: Seconds that running tasks have to clean up, before their workers are killed; ABORT_GRACE_S if None.
        """
        if grace is None:
            grace = ABORT_GRACE_S
        if self.client.segment.inherited:
            return
        self._ending = True
        self.close()
        self.client.cancel_all(grace)
        self._kill_at = min(self._kill_at, time.monotonic() + grace)
        self.client.staff.alarm()

    def abort_in(self, seconds: float) -> None:
        """Aborts the pool in so many seconds, if it has not ended by then."""
        self._abort_at = min(self._abort_at, time.monotonic() + seconds)
        self.client.staff.alarm()

    def join(self) -> None:
        """Waits until the closed pool has ended. Returns at once where it would wait for itself: in the pool's own
        threads, and in a signal handler or a __del__ in the midst of its beginning. And in a forked child."""
        me = threading.get_ident()
        if self.client.segment.inherited or self.client.staff.beginner == me:
            return
        if not self._begun:
            with self._lock:
                if not self._begun:
                    self.client.fail_all(_refuse)
                    self._let_go()
                    return
        if threading.current_thread() in self._threads:
            return
        if not self.client.waiters.green:  # greenlets give way to others in Thread.join alone
            self.client.wait_end()
        # The threads are at their last instructions. Thread.join cannot be entered again by a signal handler within it.
        if me not in self._joining:
            self._joining.add(me)
            try:
                for thread in self._threads:
                    thread.join()
            finally:
                self._joining.discard(me)

    def forget(self) -> None:
        """In a forked child: the processes are the parent's, and its threads are not here, whatever they had locked."""
        process._children.difference_update(place.process for place in self._places.values())  # type: ignore[attr-defined]
        worker.disown_forkserver()
        for fd in (self._stacks, *(place.pidfd for place in self._places.values())):
            if fd is not None:
                os.close(fd)
        self._stacks = None
        self._places = {}
        self._threads = []
        self._lock = threading.RLock()
        self._zygote = None
        if self._parent is not None:
            self._parent.let_go()
        self._wake = self._parent = None  # left open: in a worker they are its own

    # ---- the two threads ----

    def _collect(self) -> None:
        try:
            if self.client.waiters.green:
                self._collect_as_greenlet()
            else:
                self.client.serve()
        except BaseException as error:
            self._fail(error)
        finally:
            self.client.staff.alarm()  # the pool has stopped, perhaps when there was no worker left to end

    def _collect_as_greenlet(self) -> None:
        alarm = waiting.Alarm()
        try:
            herald = _core.Herald(self.client, alarm.tell_fd)

            def sleep() -> None:
                herald.send()
                while not waiting.readable([alarm.fd], None, True)[0]:
                    pass
                if self.client.segment.inherited:
                    waiting.for_ever()
                alarm.clear()

            try:
                self.client.serve(sleep)
            finally:
                herald.end()
        finally:
            alarm.close()

    def _watch(self) -> None:
        try:
            self._watch_workers()
        except BaseException as error:
            self._fail(error)
            for place in list(self._places.values()):
                try:
                    place.process.kill()
                    place.process.join()
                except OSError:
                    self._abandon(place)
                else:
                    place.close()
            self._places.clear()
        finally:  # whatever fails, nobody waits for this thread in vain
            try:
                self._threads[0].join()
                self._let_go()
            finally:
                self.client.end()

    def _fail(self, error: BaseException) -> None:
        """One of the two threads has failed, most likely for want of memory. Nobody shall wait for it."""
        try:
            self._break_off("A thread of the pool has failed", error)
        finally:
            self.client.tell_news()
            self.client.stop()

    def _watch_workers(self) -> None:
        """Returns when the pool has stopped and the last worker is buried."""
        assert self._wake is not None
        if self._context.get_start_method() == "fork":
            waiting.readable([self._wake.fd], ALONE_S, self.client.waiters.green)
            self.client.staff.wanted = self._n_workers
        self._replace()  # more workers may have been asked for since the first was started
        seconds: float | None = 0.0
        while self._places or not self.client.stopped:
            if self.client.stopped and self._zygote is not None:
                self._zygote.dismiss()  # it ends while the workers do
            places = list(self._places.values())
            watched = {self._wake.fd}
            if any(place.by_number for place in places):
                seconds = LOOK_S if seconds is None else min(seconds, LOOK_S)
            for place in places:
                watched.add(place.process.sentinel)
                if place.pidfd is not None:
                    watched.add(place.pidfd)
            # In turns: a stop that an event ends unnoticed, by an early return, is one of less than that.
            turn_s = None if seconds is None else min(seconds, TURN_S)
            _, late_ns = waiting.readable(list(watched), turn_s, self.client.waiters.green)
            if self.client.segment.inherited:
                waiting.for_ever()
            # Before the look: so who is found alive has not died in time for what is judged overdue by then.
            now_ns = time.monotonic_ns()
            ready, _ = waiting.readable(list(watched), 0, self.client.waiters.green)
            self._wake.clear()
            for place in places:
                if place.process.sentinel in ready or place.pidfd in ready or (place.by_number and place.has_ended()):
                    self._bury(place)
            self._replace()
            seconds = self._enforce(now_ns, late_ns if late_ns >= STOPPED_NS else 0)

    def _enforce(self, now_ns: int, lost_ns: int) -> float | None:
        """Ends what is to end by now. Returns after how many seconds there may be more to do; None if not before an
        alarm.

        Args:
            lost_ns: For so long, just before, the program was stopped.
        """
        now = now_ns / 1e9
        if now >= self._abort_at:
            self._abort_at = math.inf
            self.abort(_core.GRACE_S)
        due, seconds = self.client.enforce(now_ns, lost_ns)
        for index, kill in due:
            place = self._places.get(index)
            if place is not None:
                try:
                    place.signal(signal.SIGKILL if kill else self._interrupt)
                except PermissionError as error:
                    self.client.spare(index)
                    self._say_once(f"{error}; its task goes on though it is to end")
        if now >= self._kill_at:
            self._kill_at = math.inf
            for place in list(self._places.values()):
                try:
                    place.signal(signal.SIGKILL)
                except PermissionError as error:
                    self._abandon(place)
                    self.client.fail_all(functools.partial(_another, error))
        next_s = min(self._abort_at, self._kill_at) - time.monotonic()
        if seconds is not None:
            next_s = min(next_s, seconds)
        return None if next_s == math.inf else min(max(next_s, 0.0), LONGEST_S)

    def _abandon(self, place: _Place) -> None:
        """When the pool ends: a worker that cannot be killed is not waited for. It ends with this process. (What it has
        of the shared memory until then is its own alone.)"""
        process._children.discard(place.process)  # type: ignore[attr-defined]
        self._places.pop(place.index, None)
        place.close()

    def _say_once(self, text: str) -> None:
        if text not in self._said:
            import logging

            self._said.add(text)
            logging.getLogger("concurrent.futures").warning(text)

    def _replace(self) -> None:
        try:
            self._start_missing()
        except Exception as error:
            if all(self.client.segment.worker_retired(index) for index in self._places):
                self._break_off("No worker could be started", _explained(error))
        for place in self._places.values():
            if place.successor is not None:
                self.client.segment.dismiss(place.index, place.successor.index)

    def _bury(self, place: _Place) -> None:
        client = self.client
        # Exact, but of a child only. Before the join, which takes the status.
        peak = 0 if place.pidfd is None else _core.wait_peak_rss(place.pidfd)
        place.process.join()
        exitcode = place.process.exitcode
        pid = place.process.pid or 0
        del self._places[place.index]
        if place.predecessor is not None:
            place.predecessor.successor = None
        if place.successor is not None:
            place.successor.predecessor = None
        client.staff.n_started = self._count()
        stack = self._stack_of(place, exitcode)
        place.close()
        if client.stopped:  # it left as it was told, with nothing pending; no successor needs its place
            return
        from ringpool.errors import BrokenProcessPool, WorkerDied, _RemoteTraceback, how_it_ended

        started, retired = client.segment.worker_started(place.index), client.segment.worker_retired(place.index)
        if started or self._has_new_starts():
            self._start_failures = 0
        peak = max(client.segment.worker_peak_rss(place.index), peak if peak > place.inherited else 0)
        lost = client.bury(place.index)
        if not self._breaks and not self._ending:
            lost = [future for future in lost if not client.retry(future)]
        starved = False if place.killed else _out_of_memory(place, exitcode)
        deaths = [
            WorkerDied(place.index, pid, exitcode, client.describe(future), peak or None, stack, starved)
            for future in lost
        ]
        for future, death in zip(lost, deaths, strict=True):
            abruptly: Any = f"the process with pid {pid} terminated abruptly with exit code {exitcode}"
            if stack is not None:
                abruptly += f"\n\n{stack}"
            death.__cause__ = _RemoteTraceback(abruptly)
            client.fail(future, death)
        if place.successor is not None:
            client.segment.give_turn(place.successor.index, place.successor.ticket)
        client.rouse()
        if (retired and not lost) or place.killed:
            return
        ended = f"worker {place.index} (pid {pid}) {how_it_ended(exitcode, starved)}"
        if client.intake.start_error is not None:
            self._break_off("The initializer of a worker raised an exception", client.intake.start_error)
        elif not started:
            self._start_failures += 1
            if self._start_failures >= START_TRIES:
                self._break_off(
                    f"{START_TRIES} workers in a row died while they started",
                    BrokenProcessPool(f"{ended} before it was ready for tasks"),
                )
        elif self._breaks:
            self._break_off("A worker died", deaths[0] if deaths else BrokenProcessPool(ended))

    def _has_new_starts(self) -> bool:
        """Whether a living worker has become ready since the last call."""
        new = [p for p in self._places.values() if not p.ready and self.client.segment.worker_started(p.index)]
        for place in new:
            place.ready = True
        return bool(new)

    def _break_off(self, why: str, cause: BaseException) -> None:
        """The pool is broken: all that is pending fails, and nothing is taken any more."""
        from ringpool.errors import BrokenProcessPool

        text = pickling.text_of(cause)  # the cause is the user's exception

        def broken(words: str) -> BrokenProcessPool:
            error = BrokenProcessPool(f"{words} {why}: {text}")
            error.__cause__ = cause
            return error

        self.broken = f"{_UNUSABLE}. {why}: {text}"
        self._ending = True
        self.loss = functools.partial(broken, _LOST)
        self.client.close(functools.partial(broken, f"{_UNUSABLE}."))
        self.client.fail_all(self.loss)
        for each in self.processes:
            with contextlib.suppress(OSError, ValueError):
                each.terminate()

    def _let_go(self) -> None:
        _live.discard(self)
        self.client.retire()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        self.client.staff.alarm_fd = -1  # an alarm that comes late must not go to whoever gets the number next
        if self._zygote is not None:
            self._zygote.close()
            self._zygote = None
        wake, parent, stacks = self._wake, self._parent, self._stacks
        self._wake = self._parent = self._stacks = None
        if wake is not None:
            wake.close()
        if parent is not None:
            parent.close()
        if stacks is not None:
            os.close(stacks)

    # ---- processes ----

    def _start_missing(self) -> None:
        """Starts the successors that are asked for, and the workers that are wanting, while there is or may be work for
        them. Called by begin(), and then by the supervisor thread alone."""
        predecessors: list[_Place | None] = [
            place
            for place in self._places.values()
            if place.successor is None and self.client.segment.worker_retiring(place.index)
        ]
        for predecessor in predecessors + [None] * (self.client.staff.wanted - self._count()):
            if self._ending or self.client.stopped or (self.client.closed and not self.client.pending):
                return
            place = self._start(predecessor)
            if place is not None and self._ending:  # since its start began
                place.process.terminate()

    def _count(self) -> int:
        """How many workers take tasks, or will when they have started."""
        return sum(place.predecessor is None for place in self._places.values())

    def _start(self, predecessor: _Place | None) -> _Place | None:
        """Starts a worker, which takes tasks at once or as the successor of another. None if all places are taken: then
        one that leaves will be buried soon, and this is called again."""
        index = next((i for i in range(self.client.segment.n_places) if i not in self._places), None)
        if index is None:
            return None
        self._starts += 1
        ticket = self._starts
        if predecessor is None:
            self.client.segment.give_turn(index, ticket)
        else:
            self.client.segment.name_successor(predecessor.index, index, ticket)
        self._clear_stack(index)
        oom_kills = machine.oom_kills()
        started = self._start_process(index, ticket)
        assert started.pid is not None
        home = 0
        with contextlib.suppress(ProcessLookupError):
            home = os.getpgid(started.pid)
        method = self._context.get_start_method()
        pidfd: int | None = None
        by_number = False
        if self._zygote is not None and not self._zygote.refused:
            pidfd = started._popen.pidfd  # type: ignore[attr-defined]
            by_number = started._popen.by_number  # type: ignore[attr-defined]
        else:
            try:
                pidfd = os.pidfd_open(started.pid)
            except ProcessLookupError:  # it has died already: its sentinel says so
                pass
            except OSError as error:
                by_number = machine.is_refused(error)
                if not by_number:  # no descriptor is left: nobody could end what it runs
                    started.kill()
            _close_parents_ends(started, None if method == "forkserver" else pidfd)
        inherited = machine.peak_rss() if method == "spawn" else 0
        owns_pidfd = method == "forkserver"
        place = _Place(index, started, pidfd, by_number, owns_pidfd, oom_kills, inherited, ticket, home, predecessor)
        if predecessor is not None:
            predecessor.successor = place
        self._places[index] = place
        self.client.staff.n_started = self._count()
        return place

    def _clear_stack(self, index: int) -> None:
        """Nothing is left of what an earlier worker in this place, or a process that it had forked, has written."""
        if self._stacks is not None and os.pread(self._stacks, 1, index * STACK_STRIDE) not in (b"", b"\0"):
            os.pwrite(self._stacks, bytes(STACK_STRIDE), index * STACK_STRIDE)

    def _stack_of(self, place: _Place, exitcode: int | None) -> str | None:
        """What the dead worker's faulthandler has written."""
        if self._stacks is None or exitcode not in FAULTS:
            return None
        text = os.pread(self._stacks, STACK_BYTES, place.index * STACK_STRIDE).rstrip(b"\0").decode(errors="replace")
        # What stands before the last is of processes that the worker had forked.
        text = text[max(text.rfind("Fatal Python error"), 0) :]
        # What called worker.main is no affair of the task's; under fork, it is the program at its first submit.
        return re.sub(_BELOW_MAIN, r"\1", text) or None

    def _start_process(self, index: int, ticket: int) -> process.BaseProcess:
        assert self._parent is not None and self._wake is not None
        method = self._context.get_start_method()
        initializer, initargs = self._initializer, self._initargs
        if initializer is not None and method != "fork":
            encode = functools.partial(self.client.functions.encode_initializer, (initializer, initargs))
            initializer, initargs = worker.Encoded(encode), ()
        orders = worker.Orders(
            memfd=worker.Descriptor(self.client.segment.memfd),
            parent=worker.Descriptor(self._parent.fd),
            tell=worker.Descriptor(self._wake.tell_fd) if self._recycles else None,
            stacks=None if self._stacks is None else worker.Descriptor(self._stacks),
            stack_at=index * STACK_STRIDE,
            n_places=self.client.segment.n_places,
            n_cpus=self.client.segment.n_cpus,
            sizes=self.client.segment.sizes,
            place=index,
            ticket=ticket,
            initializer=initializer,
            initargs=initargs,
            max_tasks=self._max_tasks,
            max_memory=self._max_memory,
            interrupt=self._interrupt,
        )
        started: process.BaseProcess = self._context.Process(  # type: ignore[attr-defined]
            target=worker.main, args=(orders,), name=worker.Name(_name(index))
        )
        # Python deletes __main__.__file__ after a script's last line, and multiprocessing tells a new process by it
        # where the script's functions are: a pool left open would lose its tasks.
        main = sys.modules.get("__main__")
        if self._main_file is not None and main is not None and not hasattr(main, "__file__"):
            main.__file__ = self._main_file
        if main is not None and not hasattr(main, "__spec__"):  # as pdb leaves it before 3.13; multiprocessing reads it
            main.__spec__ = None
        if method == "fork":
            from ringpool import zygote

            if self._zygote is None:
                self.client.functions.fork_session()
                self._zygote = zygote.Zygote(started, orders, self._parent)
            started._Popen = functools.partial(self._zygote.popen, orders=orders)  # type: ignore[attr-defined]
        if method == "forkserver":
            from multiprocessing import forkserver

            forkserver.ensure_running()  # before the mask, which it would hand on to processes that are not ours
            started.start()
        else:
            if method == "spawn":
                from multiprocessing import resource_tracker

                resource_tracker.ensure_running()  # before the mask, which it would take off
            # The new process inherits the mask, and takes it off when its handler is there.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            try:
                started.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _have_polled_in_turn(started._popen)  # type: ignore[attr-defined]
        return started


def _name(index: int) -> str:
    """The name of the process in a place: its number from 1, after the number of the process that starts it.

    In the stdlib it is the count of processes, which `Process._identity` has here too. Programs take the number for
    that of a GPU, of a port or of a line on the screen: a worker that replaces another must not go beyond the last, nor
    share one with a living worker.
    """
    outer = process.current_process()
    numbers = ":".join(map(str, outer._identity))
    above = outer.name.removeprefix(NAME) if outer.name.startswith(NAME) else numbers
    return f"{NAME}{above}:{index + 1}" if above else f"{NAME}{index + 1}"


@functools.cache
def _leave_out_main() -> None:
    """In what multiprocessing tells a new process of ours. It would have it run a main file that is none, such as
    "<stdin>", or that is not there. What workers need of such a main module travels by value."""
    from multiprocessing import spawn

    whole = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        data = whole(name)
        if isinstance(name, worker.Name) and not functions.main_is_importable():
            data.pop("init_main_from_path", None)
        return data

    spawn.get_preparation_data = get_preparation_data


def _have_polled_in_turn(popen: popen_fork.Popen) -> None:
    """Only one thread at a time asks how a process has ended. multiprocessing asks for all that it knows, whenever some
    thread starts another or lists them: of two threads that ask at once, one learns nothing, or that it was 255."""
    # Nothing here holds popen, which closes a descriptor when it goes.
    poll, this, lock = type(popen).poll, weakref.ref(popen), threading.Lock()

    def polled_in_turn(flag: int = os.WNOHANG) -> int | None:
        popen = this()
        assert popen is not None
        if not lock.acquire(blocking=flag != os.WNOHANG):  # not where a forked child could find it held for ever
            return popen.returncode
        try:
            return poll(popen, flag)
        finally:
            lock.release()

    popen.poll = polled_in_turn  # type: ignore[method-assign]


def _close_parents_ends(started: Any, pidfd: int | None) -> None:
    """Of the pipes between this process and one that it has spawned, or had the fork server make, leaves those that are
    needed. The end that would tell the worker of this process's death is not: see `worker.main`.

    Args:
        started: The process.
        pidfd: Of the worker: becomes the sentinel. None leaves the sentinel as it is: the end that the fork server
            tells exit codes through.
    """
    popen = started._popen
    sentinel = popen.sentinel if pidfd is None else pidfd
    fds = set(popen.finalizer._args) - {sentinel}
    popen.finalizer.cancel()
    started._sentinel = popen.sentinel = sentinel
    popen.finalizer = util.Finalize(popen, util.close_fds, (sentinel,))  # type: ignore[attr-defined]
    for fd in fds:
        os.close(fd)


def _out_of_memory(place: _Place, exitcode: int | None) -> bool | None:
    if exitcode != -signal.SIGKILL:
        return False
    now = machine.oom_kills()
    return None if now is None or place.oom_kills is None else now > place.oom_kills


def _preload() -> None:
    """Has the fork server import, once for all its workers, ringpool and what multiprocessing needs to import the main
    module, unless it runs already or the user has said what it should import. A worker then starts in a sixth of the
    processor time."""
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    if getattr(server, "_preload_modules", None) == ["__main__"]:
        main = ["__main__"] if functions.main_is_importable() else []
        # set_forkserver_preload() would also reset, from 3.15 on, what the user has said of errors.
        server._preload_modules = [*main, "ringpool.executor", "pkgutil"]


def _sizes(n_places: int, shared_memory_limit: int | None = None) -> tuple[int, int, int, int]:
    """The `sizes` of a `_core.Client` that takes no more than the limit.

    Half of it is for arguments, a quarter for large results, whoever they are of. The rest is for other results: a
    worker's quota for each, and half a quota for each arena to spare, which is what a dead worker can have left in use.
    """
    halves = 2 * n_places + _core.arenas(n_places) - n_places - 2
    least = _core.fixed_bytes(n_places) + 2 * halves * QUOTA_MIN
    if shared_memory_limit is None:
        shared_memory_limit = max(least, int(SHARE * machine.usable_memory()))
    elif shared_memory_limit < least:
        raise ValueError(
            f"shared_memory_limit={shared_memory_limit} is too little for {n_places} workers and their successors: "
            f"it must be at least {least}"
        )
    room = min(shared_memory_limit, 1 << 62) - _core.fixed_bytes(n_places)
    arena = min(ARENA_MAX, 1 << (ROOMY * (room // 2) - 1).bit_length())
    return arena, room // 2, room // (2 * halves), room // 4


def _explained(error: Exception, call: str | None = None) -> Exception:
    """See `refusals.explained`."""
    try:
        from ringpool import refusals
    except (ImportError, OSError):  # no descriptor is left, which is then what the error says
        return error
    return refusals.explained(error, call)


def _refuse() -> RuntimeError:
    return RuntimeError("cannot schedule new futures after shutdown")


def _another(error: BaseException) -> BaseException:
    """An exception like this one, for a future of its own."""
    try:
        import copy

        again = copy.copy(error)
    except Exception:  # of the user's class
        return error
    if type(again) is not type(error):
        return error
    again.__cause__ = error
    return again


def _refuse_ended(how: str) -> BrokenProcessPool:
    from ringpool.errors import BrokenProcessPool

    return BrokenProcessPool(f"{_UNUSABLE}: {how}() has ended its workers")


def _refuse_at_exit() -> RuntimeError:
    return RuntimeError("cannot schedule new futures after interpreter shutdown")


def _end_all() -> None:
    """Before the interpreter ends: pending tasks are finished and their workers leave, as the stdlib has it. If a
    Ctrl-C ends the program, what runs is not waited for; the stdlib's workers get the signal themselves."""
    global _exiting
    interrupted = _exiting  # the first call was, or there would be no pool for this one to end
    _exiting = True
    # What the interpreter has just printed; a session keeps it from long ago, and has a prompt. Or what ends the target
    # of a multiprocessing.Process (before 3.13; from then on it is printed and forgotten by now).
    if getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        interrupted = True
    if interrupted or isinstance(sys.exc_info()[1], KeyboardInterrupt):
        _abort_all()
    for each in list(_live):
        each.close()
    for each in list(_live):
        each.join()


def _abort_all() -> None:
    """Ends the pools that are still there because a Ctrl-C broke off `_end_all`, or came just before it."""
    if not _exiting and any(each.client.waiters.green for each in list(_live)):
        _end_all()  # a library that has replaced threads has replaced threading's hooks with them
    for each in list(_live):
        each.abort()
    for each in list(_live):
        each.join()


# The stdlib's executors end the same way: before threads are joined, which is before atexit.
try:
    threading._register_atexit(_end_all)  # type: ignore[attr-defined]
except RuntimeError:  # the interpreter is ending by now: a pool that is made takes no task
    _exiting = True
atexit.register(
    _abort_all
)  # before multiprocessing.util's, which was registered earlier and would wait for the workers


# A child of multiprocessing waits for its own children before it comes to the hooks of threading (before 3.13), and
# has none of atexit's. What it does before it waits are its finalizers.
_finalizer: util.Finalize | None = None


def _finalize_in_time() -> None:
    """Has multiprocessing end the pools of this process before it waits for their workers. A child of multiprocessing
    forgets what its parent has arranged, hence the look each time that a pool begins."""
    global _finalizer
    if _finalizer is None or not _finalizer.still_active():
        _finalizer = util.Finalize(None, _end_all_at_exit, exitpriority=EXIT_PRIORITY)


def _end_all_at_exit() -> None:
    if util.is_exiting():  # else multiprocessing only cleans up, as test suites have it do
        _end_all()


def _forget_all() -> None:
    global _exiting, _finalizer
    _exiting, _finalizer = False, None
    _live.clear()
    for each in list(_made):
        each.forget()


os.register_at_fork(after_in_child=_forget_all)
