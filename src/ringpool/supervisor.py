"""Starts the workers of a pool, watches them, replaces those that end, and ends the pool.

One thread a pool, the supervisor thread, waits for workers to end: on a pidfd of each, and on the wait status that
`multiprocessing` gives. A child that a task has forked can keep neither open, as it could the end of a pipe. The core
reports what a dead worker held; `recovery` decides what becomes of it, and has the table of all cases.

The same thread keeps time. It interrupts a task that must end, because the task has exceeded its limit, was cancelled
while it ran, or the pool ends; when the grace period is over, it kills the worker. The core reports which are due.

Guarantees: no future stays pending because a worker has died or one of the pool's two threads has failed, and `join`
returns when all workers that this process may signal have ended. Does not: make processes (see `launcher`), know how
one is signalled or watched (see `places`), or decide when pools end with the interpreter (see `lifecycle`).
"""

from __future__ import annotations

import contextlib
import functools
import math
import signal
import threading
import time
import weakref

from ringpool import _core, budget, failures, lifecycle, machine, waiting
from ringpool.launcher import Launcher
from ringpool.places import Place, Places

# A program pays for these imports before its first task. What only one start method needs is imported when it starts a
# worker; what a death needs, at the first one. (concurrent.futures.process takes half as long as all of the rest.)
TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing import context, process
    from typing import Any

# After a Ctrl-C: how long running tasks have to clean up. The program should be back at the prompt within two seconds.
ABORT_GRACE_S = 0.5

# With fork: how long the first worker is alone, unless a second task comes sooner. So the others do not compete with
# its start, and a program that has one task starts no others. Longer than such a program takes to end the pool;
# arbitrary.
ALONE_S = 0.005

LONGEST_S = 3600.0  # of a sleep; arbitrary

# How the supervisor notices that the program was stopped, by a Ctrl-Z: while tasks have time limits it sleeps at most
# TURN_S at a time, and a sleep that has lasted STOPPED_NS longer than that was a stop (or the machine was that busy).
TURN_S = 0.25
STOPPED_NS = 100_000_000

# Where there are no pidfds: how often the supervisor asks whether a worker has died, at a system call a worker.
LOOK_S = 0.05


class Supervisor:
    """The processes and threads of one pool.

    Args:
        mp_context: Makes the processes.
        n_workers: How many of them run tasks at a time.
        initializer: Called in each worker, unless None.
        initargs: Its arguments.
        max_tasks: How many tasks a worker runs before it is replaced; None for no limit.
        max_memory: How many bytes of its own it may have after a task; None for no limit.
        on_worker_death: "replace" or "break".
        shared_memory_limit: Bytes; None for half of what the machine has.

    Attributes:
        breakage: Why the pool is broken; None if it is not.
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
        recycles = max_tasks is not None or max_memory is not None
        n_places = 2 * n_workers if recycles else n_workers  # each worker's successor starts beside it
        sizes = budget.sizes(n_places, shared_memory_limit)
        self.client = _core.Client(n_workers, n_places, machine.usable_cpus(), sizes)
        self.breakage: failures.Breakage | None = None
        self._launcher = Launcher(self.client, mp_context, initializer, initargs, max_tasks, max_memory)
        self._places = Places(self.client, self._launcher.start)
        self._n_workers = n_workers
        self._breaks = on_worker_death == "break"
        self._ending = False
        self._abort_at = math.inf  # then all pending tasks are cancelled, running ones too
        self._kill_at = math.inf  # then all workers are killed
        self._lock = threading.RLock()  # of the beginning. A thread that holds it waits for no other
        self._begun = False
        self._said: set[str] = set()  # warnings that were logged
        self._joining: set[int] = set()  # threads in Thread.join
        self._owner: weakref.ref[Any] | None = None
        self._wake: waiting.Alarm | None = None
        self._threads: list[threading.Thread] = []
        lifecycle.note_made(self)

    # ---- what the executor asks for ----

    @property
    def processes(self) -> list[process.BaseProcess]:
        """The workers whose end has not been noticed."""
        return [place.process for place in self._places]

    def create(self) -> None:
        """Makes the shared memory, unless it has been made.

        Raises:
            OSError: The system refuses it.
        """
        try:
            self.client.create()
        except OSError as error:
            raise failures.explained(error, "memfd_create") from None

    def begin(self, owner: Any) -> bool:
        """Starts the first workers and the threads, once.

        Returns:
            False if the pool is being begun: by another thread, or by this one, which has been interrupted by a signal
            handler or a __del__. A task that is submitted now waits for the workers that are starting. If none can be
            started, the call that begins the pool fails the task.
        """
        self.create()
        if not self._begun:  # here, since each thread that submits calls this before it can wait
            self.client.waiters.green = waiting.threads_are_greenlets()
        me = threading.get_ident()
        if self.client.staff.beginner == me or not self._lock.acquire(blocking=False):
            return False
        failure: BaseException | None = None
        try:
            # From this look to the assignment of `beginner` no Python function is called, so no signal handler runs.
            if self._begun or (self.client.closed and not self.client.pending):
                return True
            if lifecycle.exiting:
                raise failures.refuse_at_exit()
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
            if failure is not None:  # after the release: a later submit must find that no thread is beginning it
                self.client.fail_all(functools.partial(failures.another, failure))
                self.client.flush_notifications()
                failure = None

    def _begin(self, owner: Any) -> None:
        """Starts one worker, which takes the first task. The supervisor thread starts the others when tasks need them,
        as the stdlib does; with fork, which is cheap, it starts all of them soon. Needs the lock."""
        lifecycle.finalize_in_time()
        self.client.staff.want(1)
        self._launcher.prepare()
        try:
            self._wake = waiting.Alarm()
            self._launcher.open(self._wake)
            self._start_missing()
            if self._launcher.forks_here:
                self.client.staff.want(self._n_workers)  # now: a fork should come before there are threads
                self._start_missing()
        except Exception as error:
            if not self._places:  # with fewer than wanted, the pool works; the others are tried again later
                self._close_descriptors()
                better = failures.explained(error)
                if better is error:
                    raise
                raise better from error
        except BaseException as error:  # perhaps during a start: there may be a process that is in no place
            self._give_up(error)
            raise
        # While tasks are pending, the pool outlives its executor; the threads hold the pool, never the executor.
        self._owner = weakref.ref(owner, lambda _: self.close())
        assert self._wake is not None
        self.client.staff.set_alarm(self._wake.notify_fd)
        self.client.staff.ask_for_workers()  # for tasks that came meanwhile
        lifecycle.note_begun(self)
        if lifecycle.exiting:  # since it began: _end_all may not have seen it
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
            better = failures.explained(error)
            self._give_up(better)
            raise better from None

    def _give_up(self, error: BaseException) -> None:
        """Undoes a beginning that failed for good. Needs the lock."""
        self._ending = True
        self.client.close(failures.refuse)
        self.client.fail_all(functools.partial(failures.another, error))
        self.client.stop()
        self._places.kill_all()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
        self._threads = []
        self._begun = False
        self._let_go()
        self.client.end()

    def close(self) -> None:
        """Stops accepting tasks; the workers leave when none is pending. Takes no lock: when the executor is garbage,
        it may interrupt any other call."""
        self.client.close(failures.refuse_at_exit if lifecycle.exiting else failures.refuse)

    def terminate(self, signum: int) -> None:
        """Closes the pool, cancels what has not started and ends the workers at once.

        Args:
            signum: SIGTERM or SIGKILL.
        """
        if self.client.segment.forked:
            return
        self._ending = True  # before the processes are listed: one that is being started is then terminated
        how = "kill_workers" if signum == signal.SIGKILL else "terminate_workers"
        self.client.close(functools.partial(failures.refuse_ended, how))
        self.client.cancel_all()
        self._places.signal_all(signum)

    def abort(self, grace: float | None = None) -> None:
        """Closes the pool, cancels what has not started and ends what runs.

        Args:
            grace: Seconds that running tasks have to clean up, before their workers are killed; ABORT_GRACE_S if None.
        """
        if grace is None:
            grace = ABORT_GRACE_S
        if self.client.segment.forked:
            return
        self._ending = True
        self.close()
        self.client.cancel_all(grace)
        self._kill_at = min(self._kill_at, time.monotonic() + grace)
        self.client.staff.alarm()

    def abort_in(self, seconds: float) -> None:
        """Aborts the pool after this time, if it has not ended by then."""
        self._abort_at = min(self._abort_at, time.monotonic() + seconds)
        self.client.staff.alarm()

    def join(self) -> None:
        """Waits until the closed pool has ended. Returns at once in a forked child, and where it would wait for itself:
        in the pool's own threads, and in a signal handler or a __del__ that interrupts its beginning."""
        me = threading.get_ident()
        if self.client.segment.forked or self.client.staff.beginner == me:
            return
        if not self._begun:
            with self._lock:
                if not self._begun:
                    self.client.fail_all(failures.refuse)
                    self._let_go()
                    return
        if threading.current_thread() in self._threads:
            return
        if not self.client.waiters.green:  # greenlets give way to others in Thread.join alone
            self.client.wait_end()
        # The threads are at their last instructions. A signal handler within Thread.join must not call it again.
        if me not in self._joining:
            self._joining.add(me)
            try:
                for thread in self._threads:
                    thread.join()
            finally:
                self._joining.discard(me)

    def forget(self) -> None:
        """In a forked child: the processes are the parent's, and threads that held locks do not exist."""
        self._places.forget()
        self._launcher.forget()
        self._threads = []
        self._lock = threading.RLock()
        self._wake = None  # left open: in a worker it is its own

    # ---- the two threads ----

    def _collect(self) -> None:
        try:
            if self.client.waiters.green:
                waiting.serve_in_greenlet(self.client)
            else:
                self.client.run_collector()
        except BaseException as error:
            self._fail(error)
        finally:
            self.client.staff.alarm()  # the pool has stopped, perhaps when there was no worker left to end

    def _watch(self) -> None:
        try:
            self._watch_workers()
        except BaseException as error:
            self._fail(error)
            self._places.kill_all()
        finally:  # whatever fails, no thread waits for this one forever
            try:
                self._threads[0].join()
                self._let_go()
            finally:
                self.client.end()

    def _fail(self, error: BaseException) -> None:
        """One of the two threads has failed, most likely out of memory. Fails everything that is pending."""
        try:
            self._break_off("A thread of the pool has failed", error)
        finally:
            self.client.flush_notifications()
            self.client.stop()

    def _watch_workers(self) -> None:
        """Returns when the pool has stopped and the last worker has ended."""
        assert self._wake is not None
        if self._launcher.forks:
            waiting.readable([self._wake.fd], ALONE_S, self.client.waiters.green)
            self.client.staff.want(self._n_workers)
        self._replace()  # more workers may have been asked for since the first was started
        seconds: float | None = 0.0
        now_ns, used_ns = time.monotonic_ns(), time.process_time_ns()
        while self._places or not self.client.workers_stopped:
            if self.client.workers_stopped:
                self._launcher.dismiss()  # what makes the workers ends while they do
            # What these variables name keeps its descriptors open. Until here, on purpose, that may be a dead worker:
            # out of descriptors, `_replace` then fails at once, and does not start workers that must be killed.
            places = list(self._places)
            watched = {self._wake.fd}
            if any(place.by_number for place in places):
                seconds = LOOK_S if seconds is None else min(seconds, LOOK_S)
            for place in places:
                watched |= place.watched()
            # At most TURN_S at a time: an event that ends the sleep early hides a stop only if that was shorter.
            turn_s = None if seconds is None else min(seconds, TURN_S)
            # Since the last sleep, the program has been stopped for as long as it has used no processor.
            held_ns = time.monotonic_ns() - now_ns - (time.process_time_ns() - used_ns)
            _, late_ns = waiting.readable(list(watched), turn_s, self.client.waiters.green)
            if self.client.segment.forked:
                waiting.for_ever()
            # Before the workers are looked at: one that is found alive was alive at this time, by which is judged.
            now_ns, used_ns = time.monotonic_ns(), time.process_time_ns()
            ready, _ = waiting.readable(list(watched), 0, self.client.waiters.green)
            self._wake.clear()
            for place in places:
                if place.has_ended(ready):
                    self._recover(place)
            self._replace()
            seconds = self._enforce(now_ns, sum(each for each in (held_ns, late_ns) if each >= STOPPED_NS))

    def _enforce(self, now_ns: int, lost_ns: int) -> float | None:
        """Interrupts tasks and kills workers that are due.

        Args:
            now_ns: Of the monotonic clock.
            lost_ns: How long the program was just stopped.

        Returns:
            After how many seconds more may be due; None if not before the next alarm.
        """
        now = now_ns / 1e9
        if now >= self._abort_at:
            self._abort_at = math.inf
            self.abort(_core.DEFAULT_GRACE_S)
        due, seconds = self.client.enforce_deadlines(now_ns, lost_ns)
        for index, kill in due:
            place = self._places.get(index)
            if place is not None:
                try:
                    place.signal(signal.SIGKILL if kill else self._launcher.interrupt)
                except PermissionError as error:
                    self.client.spare(index)
                    self._warn_once(f"{error}; its task continues, although it should end")
        if now >= self._kill_at:
            self._kill_at = math.inf
            for place in self._places:
                try:
                    place.signal(signal.SIGKILL)
                except PermissionError as error:
                    self._places.abandon(place)
                    self.client.fail_all(functools.partial(failures.another, error))
        next_s = min(self._abort_at, self._kill_at) - time.monotonic()
        if seconds is not None:
            next_s = min(next_s, seconds)
        return None if next_s == math.inf else min(max(next_s, 0.0), LONGEST_S)

    def _warn_once(self, text: str) -> None:
        if text not in self._said:
            import logging

            self._said.add(text)
            logging.getLogger("concurrent.futures").warning(text)

    def _replace(self) -> None:
        try:
            self._start_missing()
        except Exception as error:
            if all(self.client.segment.worker_retired(place.index) for place in self._places):
                self._break_off("No worker could be started", failures.explained(error))
        self._places.dismiss_succeeded()

    def _start_missing(self) -> None:
        """Called by begin(), and then by the supervisor thread alone."""
        self._places.start_missing(lambda: self._ending)

    def _recover(self, place: Place) -> None:
        """A worker has ended: its place becomes free, and what it held is recovered."""
        self._places.reap(place)
        if self.client.workers_stopped:  # it left as it was told, with nothing pending, and has no successor
            return
        from ringpool import recovery

        stack = self._launcher.crash_log(place)
        may_retry = not self._breaks and not self._ending
        if recovery.recover(self.client, self._places, place, stack, may_retry, self._breaks, self._close_broken):
            self._end_broken()

    def _break_off(self, why: str, cause: BaseException) -> None:
        """Breaks the pool: no more tasks are accepted, and all pending ones fail."""
        self._close_broken(why, cause)
        self._end_broken()

    def _close_broken(self, why: str, cause: BaseException) -> None:
        self.breakage = failures.Breakage(why, cause)
        self._ending = True
        self.client.close(self.breakage.refusal)

    def _end_broken(self) -> None:
        assert self.breakage is not None
        self.client.fail_all(self.breakage.loss)
        for each in self.processes:
            with contextlib.suppress(OSError, ValueError):
                each.terminate()

    def _let_go(self) -> None:
        lifecycle.note_ended(self)
        self._owner = (
            None  # its end is nothing to the pool any more, and may come when the interpreter has no modules left
        )
        self.client.detach()
        self._close_descriptors()

    def _close_descriptors(self) -> None:
        self.client.staff.set_alarm(-1)  # a late alarm must not be written to a file that gets the same number
        self._launcher.close()
        wake = self._wake
        self._wake = None
        if wake is not None:
            wake.close()
