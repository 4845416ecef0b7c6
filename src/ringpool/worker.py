"""What a worker process runs. A worker that starts afresh imports this and what it needs, so it stays small."""

from __future__ import annotations

import contextlib
import faulthandler
import operator
import os
import signal
import sys
import threading
from multiprocessing import process, reduction

from ringpool import _core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType
    from typing import Any


class Descriptor:
    """An open file descriptor that can be an argument of a `multiprocessing.Process` under every start method.

    Args:
        fd: The descriptor. The receiver's own copy, of whatever number, is its `fd`.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def __reduce__(self) -> tuple[Callable[[Any], Descriptor], tuple[Any]]:
        return _receive, (reduction.DupFd(self.fd),)


def _receive(duplicate: Any) -> Descriptor:
    return Descriptor(duplicate.detach())


class _Ignore:
    """Unpickled, it has SIGINT ignored."""

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return signal.signal, (signal.SIGINT, signal.SIG_IGN)


class Name(str):
    """The name of a worker's process. It is among the first things that a new process unpickles, before the user's main
    module is imported, which may take long; and as that is done, SIGINT is ignored. So a Ctrl-C prints no traceback of
    a worker that has not come to its own handler. (Names of the standard library only: `sys.path` is not set by then.)
    """

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return operator.getitem, ((str(self), _Ignore()), 0)


class Encoded:
    """The call of an initializer, as the pool's tasks have theirs: by value if need be, and if it does not unpickle, it
    is as if the initializer had raised that.

    Args:
        encode: Makes the bytes, when a worker is started.
    """

    data = b""

    def __init__(self, encode: Callable[[], bytes]) -> None:
        self._encode = encode

    def __reduce__(self) -> tuple[Callable[[bytes], Encoded], tuple[bytes]]:
        return _encoded, (self._encode(),)


def _encoded(data: bytes) -> Encoded:
    made = Encoded.__new__(Encoded)
    made.data = data
    return made


class WorkerConfig:
    """All that a worker is told when it starts.

    Args:
        memfd: The pool's shared memory.
        parent: A pidfd of the process that owns the pool.
        notify_fd: An eventfd of the supervisor's, if workers are recycled.
        n_places, n_cpus, sizes: Those of the `_core.Client`.
        stacks: The file that `faulthandler` writes to if the worker crashes; None for nowhere.
        stack_at: Where in it.
        place: Which of the workers it is, from 0.
        ticket: The number of this start: it takes tasks when that is called.
        initializer: Called with `initargs` before the first task, unless None; or that call, Encoded.
        initargs: Its arguments.
        max_tasks: How many tasks it runs before it leaves; None for no limit.
        max_memory: It is succeeded when it has more bytes of memory to itself after a task; None for no limit.
        interrupt: The signal by which the parent ends a task: see `signal_for_interrupts`.
    """

    def __init__(
        self,
        memfd: Descriptor,
        parent: Descriptor,
        notify_fd: Descriptor | None,
        n_places: int,
        stacks: Descriptor | None,
        stack_at: int,
        n_cpus: int,
        sizes: tuple[int, int, int, int],
        place: int,
        ticket: int,
        initializer: Callable[..., object] | Encoded | None,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
        max_memory: int | None,
        interrupt: int,
    ) -> None:
        self.memfd = memfd
        self.parent = parent
        self.notify_fd = notify_fd
        self.n_places = n_places
        self.stacks = stacks
        self.stack_at = stack_at
        self.n_cpus = n_cpus
        self.sizes = sizes
        self.place = place
        self.ticket = ticket
        self.initializer = initializer
        self.initargs = initargs
        self.max_tasks = max_tasks
        self.max_memory = max_memory
        self.interrupt = interrupt


def signal_for_interrupts() -> int:
    """SIGINT, but where this program ignores that, as the background job of a script does. Then its workers have to
    ignore it too, since what tasks start inherits that; and nothing happens at SIGURG where nothing handles it."""
    return signal.SIGURG if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else signal.SIGINT


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Ctrl-C is the parent's affair. A handler, not SIG_IGN, which programs that a task starts would inherit. When
    there can be tasks, `Worker.interrupt` takes its place."""


_writes_stacks = False  # faulthandler is enabled, and by us; true also in what a task forks


def _write_stack_to(fd: int, at: int) -> None:
    """Lets `faulthandler` write to a file, but where the program has enabled it itself: with -X faulthandler, or before
    a fork. What is enabled then goes on writing to where the user looks. Takes fd over."""
    global _writes_stacks
    if _writes_stacks or not faulthandler.is_enabled():
        # fd itself has one position for all workers. Where there is no /proc, or no room for the handler's own stack,
        # the worker is worth more than its last words.
        with contextlib.suppress(MemoryError, OSError, RuntimeError):
            own = os.open(f"/proc/self/fd/{fd}", os.O_WRONLY | os.O_CLOEXEC)
            os.lseek(own, at, os.SEEK_SET)
            faulthandler.enable(own)
            _writes_stacks = True
    os.close(fd)


def disown_forkserver() -> None:
    """In a forked process, multiprocessing would take its parent's fork server for a child of its own, and fail to wait
    for it, when the process is to start others by that method. (The module is not imported for this.)"""
    module = sys.modules.get("multiprocessing.forkserver")
    server: Any = getattr(module, "_forkserver", None)
    if getattr(server, "_forkserver_pid", None) is not None:
        # What the user has set stays: the modules and, from 3.15 on, what becomes of errors.
        kept = {name: value for name, value in vars(server).items() if name.startswith("_preload")}
        type(server).__init__(server)
        vars(server).update(kept)


def _reset_signals(interrupt: int) -> None:
    """A forked worker has the handlers and the mask of the thread that made the pool. They have to do with the parent's
    affairs (its event loop, its lock files), so signals do here what they do in a new program, but for Ctrl-C. What the
    parent ignores stays ignored, but for SIGTERM, which ends a worker."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, _ignore if interrupt == signal.SIGINT else signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for number in range(1, signal.NSIG):
        handler = signal.getsignal(number)
        if callable(handler) and handler is not _ignore:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def main(config: WorkerConfig) -> None:
    """Runs a worker from its first instruction to its last."""
    # All workers wait on one descriptor (see `waiting.Lifeline`), not each on the end of a pipe of its own: that would
    # cost the parent a descriptor a worker.
    parent = process.parent_process()
    assert parent is not None
    os.dup2(config.parent.fd, parent.sentinel, inheritable=False)
    try:
        _core.guard(config.parent.fd)
    except OSError as error:  # no room for a thread
        from ringpool import refusals

        raise refusals.explained(error) from None
    if config.stacks is not None:
        _write_stack_to(config.stacks.fd, config.stack_at)
    disown_forkserver()
    _reset_signals(config.interrupt)
    core = _core.Worker(config.memfd.fd, config.n_places, config.n_cpus, config.sizes, config.place)
    if config.initializer is not None:
        try:
            initializer, initargs = config.initializer, config.initargs
            if isinstance(initializer, Encoded):
                initializer, initargs = _core.decode_pickled(initializer.data)
            initializer(*initargs)
        except BaseException as error:
            import logging

            with contextlib.suppress(BaseException):  # of the exception's own methods
                logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            core.report_start_error(error)
            sys.exit(1)
    signal.signal(config.interrupt, core.interrupt)
    notify_fd = -1 if config.notify_fd is None else config.notify_fd.fd
    core.run(config.ticket, config.max_tasks, config.max_memory, notify_fd)
    # Ends the pools that tasks have left open, as the end of any interpreter does. multiprocessing would first wait for
    # their processes.
    threading._shutdown()  # type: ignore[attr-defined]
