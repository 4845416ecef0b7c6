"""Workers under the "fork" start method, all made by one process that was forked when the pool began.

  this process                     the zygote                       worker 0, and later its successor
  ------------------------------   ------------------------------   -------------------------------------------------
  at the first submit: fork   -->  waits in C, runs no Python
  make worker 0               -->  copies itself               -->  wakes up as of the first submit, a child of this
                              <--  its pid                          process; runs `Process._bootstrap`
  worker 0 has died
  make worker 0 again         -->  copies itself               -->  the same

So a successor is not forked from a process with threads, whatever they lock; it begins with what the worker began with
that it succeeds; and the handlers of `os.register_at_fork` run once in this process and once in each worker.

The zygote keeps what a fork keeps as long as a worker would: copies of the descriptors, and of the memory as it was.

Where the system refuses its way of copying itself (a seccomp filter that forbids CLONE_PARENT, a kernel that does not
know it), this process forks the workers and their successors itself, as the stdlib does.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import pickle
import signal
import sys
import threading
import warnings
from multiprocessing import popen_fork, process, resource_tracker, util

from ringpool import _core, machine, worker

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, NoReturn

    from ringpool.waiting import Lifeline


class Zygote:
    """Makes the worker processes of one pool.

    Args:
        like: The first worker, not started. All others are like it but for their names and numbers.
        config: What it is told.
        parent: Of this process.

    Raises:
        OSError: The system refuses another process or descriptor.
    """

    def __init__(self, like: process.BaseProcess, config: worker.WorkerConfig, parent: Lifeline) -> None:
        self.refused = False  # to copy itself
        if sys.version_info >= (3, 12) and _threads() > 1:  # what os.fork says
            warnings.warn(
                f"This process (pid={os.getpid()}) is multi-threaded, "
                "use of fork() may lead to deadlocks in the child.",
                DeprecationWarning,
                stacklevel=2,
            )
        sys.audit("os.fork")
        _start_tracker()
        util._flush_std_streams()  # type: ignore[attr-defined]
        # A forked child lets go of the pool's own descriptors, and that is what a worker is at first.
        with contextlib.ExitStack() as stack:
            memfd = _duplicate(config.memfd, stack)
            stacks = None if config.stacks is None else _duplicate(config.stacks, stack)
            with _workers_keep_the_tracker():
                self._core = _core.Zygote(parent.fd, parent.held)
            if self._core.order is not None:
                config.memfd, config.stacks = memfd, stacks
                _become(like, config, self._core.order)  # does not return

    def popen(self, started: process.BaseProcess, config: worker.WorkerConfig) -> popen_fork.Popen:
        """What `Process._Popen` is to give.

        Args:
            started: The process, as this one sees it.
            config: What the worker is told. Its place and ticket, and where its stack goes, are its own; the rest is as
                for the first.
        """
        if not self.refused:
            try:
                return _Popen(self._core, started, config)
            except OSError as error:
                # EINVAL: the kernel does not know a clone with CLONE_PARENT.
                if not machine.is_refused(error) and error.errno != errno.EINVAL:
                    raise
                self.refused = True  # for good: nothing changes what the zygote may do
        return _ForkPopen(started, config)

    def dismiss(self) -> None:
        """Has the zygote end, and does not wait for that. It makes no more processes; those it has made live on."""
        self._core.dismiss()

    def close(self) -> None:
        """Ends the zygote. The workers live on."""
        self._core.close()


class _Popen(popen_fork.Popen):
    """A child that the zygote has made. Its sentinel is a pidfd, which no child of a task can keep open."""

    pidfd: int | None = None  # the sentinel, unless it was dead before it had one
    by_number = False  # the system refuses pidfds: the sentinel tells nothing

    def __init__(self, zygote: _core.Zygote, started: process.BaseProcess, config: worker.WorkerConfig) -> None:
        self._zygote = zygote
        self._config = config
        super().__init__(started)

    def _launch(self, process_obj: process.BaseProcess) -> None:
        # A descriptor that is readable for ever, as a sentinel of the dead is. Made first: once the worker is there,
        # nothing may fail that would leave it unknown to the supervisor.
        dead, other = os.pipe()
        try:
            config = self._config
            own = (str(process_obj.name), process_obj._identity, config.place, config.ticket, config.stack_at)
            self.pid = self._zygote.make(pickle.dumps(own))
        except BaseException:
            os.close(dead)
            os.close(other)
            raise
        fds = [dead]
        self.sentinel = dead
        try:
            self.sentinel = self.pidfd = os.pidfd_open(self.pid)
            os.close(fds.pop())
            fds = [self.sentinel]
        except ProcessLookupError:  # it has died, and the system has reaped it, because SIGCHLD is ignored
            pass
        except OSError as error:
            if machine.is_refused(error):
                self.by_number = True
                fds.append(other)  # its end is never told: the supervisor looks now and then
            else:  # another thread has taken the last descriptor: what cannot be watched must not be
                os.kill(self.pid, signal.SIGKILL)
        if other not in fds:
            os.close(other)
        self.finalizer = util.Finalize(self, util.close_fds, tuple(fds))  # type: ignore[attr-defined]


def _threads() -> int:
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:  # there is no /proc
        return threading.active_count()


class _ForkPopen(popen_fork.Popen):
    """A child that this process has forked itself."""

    def __init__(self, started: process.BaseProcess, config: worker.WorkerConfig) -> None:
        self._config = config
        super().__init__(started)

    def _launch(self, process_obj: process.BaseProcess) -> None:
        config = self._config
        with contextlib.ExitStack() as stack:  # as in Zygote
            config.memfd = _duplicate(config.memfd, stack)
            config.stacks = None if config.stacks is None else _duplicate(config.stacks, stack)
            # Until the worker has reset the handlers, which are this process's affairs.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
            stack.callback(signal.pthread_sigmask, signal.SIG_SETMASK, mask)
            super()._launch(process_obj)  # type: ignore[misc]


def _start_tracker() -> None:
    """Starts multiprocessing's tracker of what must be unlinked (SharedMemory, locks), in this process, so that workers
    inherit the way to it, as in the stdlib. One that a worker had to start would end with the worker, and unlink what
    its tasks have made."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        # Without it, a pool can do all the rest. (RuntimeError: this interrupts a call that is about to start it.)
        with contextlib.suppress(OSError, RuntimeError):
            resource_tracker.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # before 3.14, it unblocks SIGINT and SIGTERM


@contextlib.contextmanager
def _workers_keep_the_tracker() -> Iterator[None]:
    """Tells the at-fork handler of `resource_tracker` in the workers that they are `multiprocessing`'s, as
    `popen_fork.Popen._launch` does: else it closes their way to the tracker. (3.13.15, 3.14 and later.)"""
    intent: Any = getattr(resource_tracker, "_fork_intent", None)  # of this thread
    if intent is None:
        yield
        return
    intent.preserve_fd = True
    try:
        yield
    finally:  # in each worker, too: what tasks fork is not multiprocessing's
        intent.preserve_fd = False


def _duplicate(descriptor: worker.Descriptor, stack: contextlib.ExitStack) -> worker.Descriptor:
    """A copy, closed with the stack."""
    fd = os.dup(descriptor.fd)
    stack.callback(os.close, fd)
    return worker.Descriptor(fd)


def _become(like: process.BaseProcess, config: worker.WorkerConfig, order: bytearray) -> NoReturn:
    """Runs a worker, in a process that the zygote has made, as `popen_fork.Popen._launch` does in a forked one."""
    code = 1
    try:
        like.name, like._identity, config.place, config.ticket, config.stack_at = pickle.loads(order)
        if sys.version_info >= (3, 13):
            atexit._clear()
            atexit.register(util._exit_function)  # type: ignore[attr-defined]
        code = like._bootstrap(parent_sentinel=os.dup(config.parent.fd))  # type: ignore[attr-defined]
    finally:
        try:
            if sys.version_info >= (3, 13):
                atexit._run_exitfuncs()
        finally:
            os._exit(code)
