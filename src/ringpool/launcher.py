"""Starts the worker processes of a pool, by each of the start methods of `multiprocessing`.

It makes a worker's config, its name, the pidfd that the supervisor watches and the file for its crash log, and does
what one start method alone needs: with fork, a process that makes the workers (see `zygote`); with forkserver, the
imports that all workers share; otherwise, a correction of what `multiprocessing` says of the main module.

Guarantees: a worker that `start` returns can be watched and ended, by its pidfd or, where the system refuses pidfds, by
its number; one that cannot is killed at once. No parent's end of a pipe stays open in another worker. Does not: decide
when to start a worker, or wait for one. Only one thread at a time starts workers: the one that begins the pool, and
then the supervisor thread.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import signal
import sys
import threading
import weakref
from multiprocessing import process, util

from ringpool import _core, functions, machine, waiting, worker
from ringpool.places import Place

# What one start method alone needs is imported when it starts a worker.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from multiprocessing import context, popen_fork
    from typing import Any

    from ringpool import zygote

# Bytes of a crashed worker's stack that are read; faulthandler writes 100 frames a thread at most, some 50 bytes each.
STACK_BYTES = 64 << 10
STACK_STRIDE = 256 << 10  # from one worker's to the next, so that more does not run into that; arbitrary

NAME = "RingpoolProcess-"

# Signals that faulthandler writes a log of. After another end, a log is that of a process that the worker had forked.
FAULTS = {-signal.SIGSEGV, -signal.SIGABRT, -signal.SIGBUS, -signal.SIGFPE, -signal.SIGILL}

_BELOW_MAIN = r'(  File "[^"\n]*ringpool/worker\.py", line \d+ in main\n)(?:  .*\n?)+'


class CrashLogs:
    """A file that the workers' faulthandlers write to, each at an offset of its own.

    Args:
        n_places: How many workers there may be.

    Raises:
        OSError: The system refuses the file.
    """

    def __init__(self, n_places: int) -> None:
        self.fd = _core.memfd("ringpool-stacks", n_places * STACK_STRIDE)

    def clear(self, index: int) -> None:
        """Removes what an earlier worker in this place, or a process that it had forked, has written."""
        if os.pread(self.fd, 1, index * STACK_STRIDE) not in (b"", b"\0"):
            os.pwrite(self.fd, bytes(STACK_STRIDE), index * STACK_STRIDE)

    def read(self, index: int, exitcode: int | None) -> str | None:
        """What the dead worker's faulthandler has written; None if nothing."""
        if exitcode not in FAULTS:
            return None
        text = os.pread(self.fd, STACK_BYTES, index * STACK_STRIDE).rstrip(b"\0").decode(errors="replace")
        # Earlier logs are of processes that the worker had forked.
        text = text[max(text.rfind("Fatal Python error"), 0) :]
        # Without the callers of worker.main: they say nothing of the task (under fork, they are the first submit).
        return re.sub(_BELOW_MAIN, r"\1", text) or None

    def close(self) -> None:
        os.close(self.fd)


class Launcher:
    """Starts the workers of one pool.

    Args:
        client: The pool's.
        mp_context: Makes the processes.
        initializer: Called in each worker, unless None.
        initargs: Its arguments.
        max_tasks: How many tasks a worker runs before it is replaced; None for no limit.
        max_memory: How many bytes it may have to itself after a task; None for no limit.
    """

    def __init__(
        self,
        client: _core.Client,
        mp_context: context.BaseContext,
        initializer: Any,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
        max_memory: int | None,
    ) -> None:
        if mp_context.get_start_method() != "fork":
            functions.expect_fresh_workers()
        self.zygote: zygote.Zygote | None = None  # with fork: makes the workers
        self._client = client
        self._context = mp_context
        self._initializer = initializer
        self._initargs = initargs
        self._max_tasks = max_tasks
        self._max_memory = max_memory
        self._alarm: waiting.Alarm | None = None
        self._parent: waiting.Lifeline | None = None  # of this process
        self._logs: CrashLogs | None = None
        self._main_file: str | None = None
        self.interrupt = int(signal.SIGINT)  # the signal that ends the task that a worker runs

    @property
    def recycles(self) -> bool:
        """Whether workers are replaced while they live, each by a successor that starts beside it."""
        return self._max_tasks is not None or self._max_memory is not None

    @property
    def forks(self) -> bool:
        """Whether the start method is fork, which is cheap."""
        return self._context.get_start_method() == "fork"

    @property
    def forks_here(self) -> bool:
        """Whether this process forks the workers itself, because the system refuses the process that should. (Known
        when one has been started.)"""
        return self.zygote is not None and self.zygote.refused

    def prepare(self) -> None:
        """To be called before `open`, in the thread that begins the pool."""
        self._main_file = getattr(sys.modules.get("__main__"), "__file__", None)
        self.interrupt = worker.signal_for_interrupts()
        method = self._context.get_start_method()
        if method != "fork":
            _leave_out_main()
        if method == "forkserver":
            _preload()

    def open(self, alarm: waiting.Alarm) -> None:
        """Opens the descriptors that all workers inherit.

        Args:
            alarm: Wakes the supervisor thread.

        Raises:
            OSError: The system refuses it.
        """
        self._alarm = alarm
        self._parent = waiting.Lifeline()
        with contextlib.suppress(OSError):  # better workers without a crash log than none
            self._logs = CrashLogs(self._client.segment.n_places)

    def start(self, index: int, ticket: int, predecessor: Place | None) -> Place:
        """Starts the worker of a place.

        Args:
            index: Which place.
            ticket: Of this start.
            predecessor: The worker whose tasks it takes over; None if it takes tasks at once.
        """
        if self._logs is not None:
            self._logs.clear(index)
        oom_kills = machine.oom_kills()
        started = self._start_process(index, ticket)
        assert started.pid is not None
        home = 0
        with contextlib.suppress(ProcessLookupError):
            home = os.getpgid(started.pid)
        method = self._context.get_start_method()
        pidfd: int | None = None
        by_number = False
        if self.zygote is not None and not self.zygote.refused:
            pidfd = started._popen.pidfd  # type: ignore[attr-defined]
            by_number = started._popen.by_number  # type: ignore[attr-defined]
        else:
            try:
                pidfd = os.pidfd_open(started.pid)
            except ProcessLookupError:  # it has died already: its sentinel says so
                pass
            except OSError as error:
                by_number = machine.is_refused(error)
                if not by_number:  # out of descriptors: without a pidfd the worker cannot be killed safely
                    started.kill()
            _close_parents_ends(started, None if method == "forkserver" else pidfd)
        inherited = machine.peak_rss() if method == "spawn" else 0
        owns_pidfd = method == "forkserver"
        return Place(index, started, pidfd, by_number, owns_pidfd, oom_kills, inherited, ticket, home, predecessor)

    def crash_log(self, place: Place) -> str | None:
        """What the faulthandler of a worker that has been reaped has written of its crash; None if nothing."""
        return None if self._logs is None else self._logs.read(place.index, place.exitcode)

    def dismiss(self) -> None:
        """No more workers will be started: the process that makes them may end."""
        if self.zygote is not None:
            self.zygote.dismiss()

    def close(self) -> None:
        """Closes what `open` has opened. No worker may be started after it."""
        if self.zygote is not None:
            self.zygote.close()
            self.zygote = None
        parent, logs = self._parent, self._logs
        self._alarm = self._parent = self._logs = None
        if parent is not None:
            parent.close()
        if logs is not None:
            logs.close()

    def forget(self) -> None:
        """In a forked child: closes what is the parent's alone."""
        worker.disown_forkserver()
        if self._logs is not None:
            self._logs.close()
        self._logs = None
        self.zygote = None
        if self._parent is not None:
            self._parent.let_go()
        self._alarm = self._parent = None  # left open: in a worker they are its own

    def _start_process(self, index: int, ticket: int) -> process.BaseProcess:
        assert self._parent is not None and self._alarm is not None
        method = self._context.get_start_method()
        initializer, initargs = self._initializer, self._initargs
        if initializer is not None and method != "fork":
            encode = functools.partial(self._client.functions.encode_initializer, (initializer, initargs))
            initializer, initargs = worker.Encoded(encode), ()
        config = worker.WorkerConfig(
            memfd=worker.Descriptor(self._client.segment.memfd),
            parent=worker.Descriptor(self._parent.fd),
            notify_fd=worker.Descriptor(self._alarm.notify_fd) if self.recycles else None,
            stacks=None if self._logs is None else worker.Descriptor(self._logs.fd),
            stack_at=index * STACK_STRIDE,
            n_places=self._client.segment.n_places,
            n_cpus=self._client.segment.n_cpus,
            sizes=self._client.segment.sizes,
            place=index,
            ticket=ticket,
            initializer=initializer,
            initargs=initargs,
            max_tasks=self._max_tasks,
            max_memory=self._max_memory,
            interrupt=self.interrupt,
        )
        started: process.BaseProcess = self._context.Process(  # type: ignore[attr-defined]
            target=worker.main, args=(config,), name=worker.Name(_name(index))
        )
        # Python deletes __main__.__file__ after a script's last line, but by that multiprocessing tells a new process
        # where the script's functions are: without it, a pool left open would lose its tasks.
        main = sys.modules.get("__main__")
        if self._main_file is not None and main is not None and not hasattr(main, "__file__"):
            main.__file__ = self._main_file
        if main is not None and not hasattr(main, "__spec__"):  # as pdb leaves it before 3.13; multiprocessing reads it
            main.__spec__ = None
        if method == "fork":
            from ringpool import zygote

            if self.zygote is None:
                self._client.functions.fork_session()
                self.zygote = zygote.Zygote(started, config, self._parent)
            started._Popen = functools.partial(self.zygote.popen, config=config)  # type: ignore[attr-defined]
        if method == "forkserver":
            from multiprocessing import forkserver

            forkserver.ensure_running()  # before the mask, which its processes would inherit, ours or not
            started.start()
        else:
            if method == "spawn":
                from multiprocessing import resource_tracker

                resource_tracker.ensure_running()  # before the mask, which it would remove
            # The new process inherits the mask, and removes it when it has installed its handler.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            try:
                started.start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        _have_polled_in_turn(started._popen)  # type: ignore[attr-defined]
        return started


def _name(index: int) -> str:
    """The name of the process in a place: its number from 1, after the number of the process that starts it.

    In the stdlib the number counts processes, as `Process._identity` does here too. Programs use it to choose a GPU, a
    port or a line on the screen: a worker that replaces another must not get a number above the highest, nor share one
    with a living worker.
    """
    outer = process.current_process()
    numbers = ":".join(map(str, outer._identity))
    above = outer.name.removeprefix(NAME) if outer.name.startswith(NAME) else numbers
    return f"{NAME}{above}:{index + 1}" if above else f"{NAME}{index + 1}"


@functools.cache
def _leave_out_main() -> None:
    """Corrects what multiprocessing tells our processes of the main module: it would make them run a file that does not
    exist, such as "<stdin>". What workers need of such a main module travels by value."""
    from multiprocessing import spawn

    whole = spawn.get_preparation_data

    def get_preparation_data(name: str) -> dict[str, Any]:
        data = whole(name)
        if isinstance(name, worker.Name) and not functions.main_is_importable():
            data.pop("init_main_from_path", None)
        return data

    spawn.get_preparation_data = get_preparation_data


def _have_polled_in_turn(popen: popen_fork.Popen) -> None:
    """Lets only one thread at a time ask how a process has ended. multiprocessing asks for all its processes whenever a
    thread starts or lists some, and of two concurrent waitpid() calls the loser reports None or 255."""
    # Nothing here refers to popen, which closes a descriptor when it is deallocated.
    poll, this, lock = type(popen).poll, weakref.ref(popen), threading.Lock()

    def polled_in_turn(flag: int = os.WNOHANG) -> int | None:
        popen = this()
        assert popen is not None
        if not lock.acquire(blocking=flag != os.WNOHANG):  # a forked child would find it held forever
            return popen.returncode
        try:
            return poll(popen, flag)
        finally:
            lock.release()

    popen.poll = polled_in_turn  # type: ignore[method-assign]


def _close_parents_ends(started: Any, pidfd: int | None) -> None:
    """Closes the ends of pipes to a process, spawned or made by the fork server, that are not needed: also the end that
    would tell the worker of this process's death (see `worker.main`).

    Args:
        started: The process.
        pidfd: The worker's; becomes the sentinel. None leaves the sentinel as it is: the pipe through which the fork
            server reports exit codes.
    """
    popen = started._popen
    sentinel = popen.sentinel if pidfd is None else pidfd
    fds = set(popen.finalizer._args) - {sentinel}
    popen.finalizer.cancel()
    started._sentinel = popen.sentinel = sentinel
    popen.finalizer = util.Finalize(popen, util.close_fds, (sentinel,))  # type: ignore[attr-defined]
    for fd in fds:
        os.close(fd)


def _preload() -> None:
    """Makes the fork server import ringpool, and what multiprocessing needs to import the main module, once for all its
    workers, unless it runs already or the user has chosen what it imports. A worker then starts in a sixth of the
    processor time."""
    from multiprocessing import forkserver

    server: Any = forkserver._forkserver
    if getattr(server, "_preload_modules", None) == ["__main__"]:
        main = ["__main__"] if functions.main_is_importable() else []
        # set_forkserver_preload() would also reset, from 3.15 on, what the user has chosen for errors.
        server._preload_modules = [*main, "ringpool.executor", "pkgutil"]
