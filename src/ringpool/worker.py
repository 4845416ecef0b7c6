"""What a worker process runs. A worker that starts afresh imports this and what it needs, so it stays small."""

from __future__ import annotations

import signal
import sys
import threading
from multiprocessing import reduction

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


class Orders:
    """All that a worker is told when it starts.

    Args:
        memfd: The pool's shared memory.
        parent: A pidfd of the process that owns the pool.
        n_workers, n_cpus, arena_bytes: Those of the `_core.Client`.
        place: Which of the workers it is, from 0.
        initializer: Called with `initargs` before the first task, unless None.
        initargs: Its arguments.
        max_tasks: How many tasks it runs before it leaves; None for no limit.
    """

    def __init__(
        self,
        memfd: Descriptor,
        parent: Descriptor,
        n_workers: int,
        n_cpus: int,
        arena_bytes: int,
        place: int,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        max_tasks: int | None,
    ) -> None:
        self.memfd = memfd
        self.parent = parent
        self.n_workers = n_workers
        self.n_cpus = n_cpus
        self.arena_bytes = arena_bytes
        self.place = place
        self.initializer = initializer
        self.initargs = initargs
        self.max_tasks = max_tasks


def _ignore(signum: int, frame: FrameType | None) -> None:
    """Ctrl-C is the parent's affair. A handler, not SIG_IGN, which programs that a task starts would inherit."""


def _disown_forkserver() -> None:
    """In a forked worker, multiprocessing would take its parent's fork server for a child of its own, and fail to wait
    for it, when a task starts processes by that method. (The module is not imported for this.)"""
    module = sys.modules.get("multiprocessing.forkserver")
    server: Any = getattr(module, "_forkserver", None)
    if getattr(server, "_forkserver_pid", None) is not None:
        preload = server._preload_modules
        type(server).__init__(server)
        server._preload_modules = preload


def main(orders: Orders) -> None:
    """Runs a worker from its first instruction to its last."""
    _core.guard(orders.parent.fd)
    _disown_forkserver()
    signal.signal(signal.SIGINT, _ignore)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    core = _core.Worker(orders.memfd.fd, orders.n_workers, orders.n_cpus, orders.arena_bytes, orders.place)
    if orders.initializer is not None:
        try:
            orders.initializer(*orders.initargs)
        except BaseException as error:
            import logging

            logging.getLogger("concurrent.futures").critical("Exception in initializer:", exc_info=True)
            core.report_start_error(error)
            sys.exit(1)
    core.run(orders.max_tasks)
    # Ends the pools that tasks have left open, as the end of any interpreter does. multiprocessing would first wait for
    # their processes.
    threading._shutdown()  # type: ignore[attr-defined]
