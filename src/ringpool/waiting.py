"""Waiting for descriptors, in threads, and in the greenlets that stand for threads in some programs.

`gevent.monkey.patch_all()`, and its like, has `threading.Thread` start a greenlet. All greenlets of a thread run by
turns, and only what the library has replaced gives the turn away: what sleeps in the kernel holds up all. So in such a
program the pool's threads are greenlets too, as those of the stdlib's executor are, and wait by the functions of this
module. They use what the library has replaced, by its name, when they are called. No library is known here by its own.
"""

from __future__ import annotations

import contextlib
import os
import posix
import select
import sys
import threading

from ringpool import _core, machine

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn


def threads_are_greenlets() -> bool:
    """Whether a `threading.Thread` that is started now runs in the thread that starts it."""
    if "greenlet" not in sys.modules:  # what all such libraries are built on
        return False
    seen: list[int] = []
    thread = threading.Thread(target=lambda: seen.append(_core.thread_id()))
    thread.start()
    thread.join()
    return seen == [_core.thread_id()]


def readable(fds: list[int], seconds: float | None, green: bool) -> tuple[set[int], int]:
    """Waits until one of the descriptors can be read, or is at its end.

    Args:
        seconds: How long at most; None for no limit.
        green: Whether other greenlets are to run meanwhile.

    Returns:
        Those that can be, none if the time is up; and by how many nanoseconds longer than `seconds` it took. (0 if
        green: other greenlets may take any time.)
    """
    if green:
        return set(select.select(fds, [], [], seconds)[0]), 0
    return _core.wait_ready(fds, seconds)


def for_ever() -> NoReturn:
    """Of a greenlet in a forked child, where greenlets go on and the descriptors that they wait for are the parent's as
    well. It cannot end as a thread does: threading does not know it there."""
    while True:
        threading.Event().wait()


def serve_in_greenlet(client: _core.Client) -> None:
    """Runs `client.serve` in a greenlet: another thread, which is a real one, sleeps in its place."""
    alarm = Alarm()
    try:
        herald = _core.Herald(client, alarm.tell_fd)

        def sleep() -> None:
            herald.send()
            while not readable([alarm.fd], None, True)[0]:
                pass
            if client.segment.inherited:
                for_ever()
            alarm.clear()

        try:
            client.serve(sleep)
        finally:
            herald.end()
    finally:
        alarm.close()


class Alarm:
    """What one thread, or another process, tells by a descriptor, and another waits for: an eventfd, or a pipe where
    the system refuses one.

    Attributes:
        fd: Can be read when something has been told.
        tell_fd: To be written to, 8 bytes at a time; a write that finds it full has been told before.
    """

    def __init__(self) -> None:
        try:
            self.fd = self.tell_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as error:
            if not machine.is_refused(error):
                raise
            self.fd, self.tell_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def clear(self) -> None:
        """Forgets what has been told. At once; what a library has put in the place of os.read may wait for more."""
        with contextlib.suppress(BlockingIOError):
            while len(posix.read(self.fd, 4096)) == 4096:
                pass

    def close(self) -> None:
        for fd in {self.fd, self.tell_fd}:
            os.close(fd)


class Lifeline:
    """Tells other processes that this one has ended: a pidfd, or a pipe where the system refuses one.

    Attributes:
        fd: For the others to wait on. It can be read, or is at its end, when this process has ended.
        held: The pipe's other end, which no other process may keep open; -1 if there is none.
    """

    def __init__(self) -> None:
        self.held = -1
        try:
            self.fd = os.pidfd_open(os.getpid())
        except OSError as error:
            if not machine.is_refused(error):
                raise
            self.fd, self.held = os.pipe2(os.O_CLOEXEC)

    def let_go(self) -> None:
        """In a forked child. The descriptor for the others stays: in a worker it is its own."""
        if self.held >= 0:
            os.close(self.held)
            self.held = -1

    def close(self) -> None:
        os.close(self.fd)
        self.let_go()
