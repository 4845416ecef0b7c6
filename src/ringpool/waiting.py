"""Waiting for descriptors, in threads, and in the greenlets that replace threads in some programs.

`gevent.monkey.patch_all()` and its like make `threading.Thread` start a greenlet. The greenlets of a thread take turns,
and only functions that the library has replaced yield to the others: a call that sleeps in the kernel blocks them all.
In such a program the pool's threads are greenlets too, as the threads of the stdlib's executor are, and wait by the
functions of this module. These look up what the library has replaced when they are called, and know no library by name.
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
        The descriptors that can be read, none if the time is up; and by how many nanoseconds the wait exceeded
        `seconds`. (0 if green: other greenlets may take any time.)
    """
    if green:
        return set(select.select(fds, [], [], seconds)[0]), 0
    return _core.wait_ready(fds, seconds)


def for_ever() -> NoReturn:
    """Suspends a greenlet in a forked child. Greenlets go on there, but the descriptors that they wait for are also the
    parent's. A greenlet cannot end as a thread does: threading does not know it in the child."""
    while True:
        threading.Event().wait()


def serve_in_greenlet(client: _core.Client) -> None:
    """Runs `client.run_collector` in a greenlet: another thread, which is a real one, sleeps in its place."""
    alarm = Alarm()
    try:
        herald = _core.Herald(client, alarm.notify_fd)

        def sleep() -> None:
            herald.send()
            while not readable([alarm.fd], None, True)[0]:
                pass
            if client.segment.forked:
                for_ever()
            alarm.clear()

        try:
            client.run_collector(sleep)
        finally:
            herald.end()
    finally:
        alarm.close()


class Alarm:
    """Wakes a thread that waits for a descriptor: an eventfd, or a pipe where the system refuses one.

    Attributes:
        fd: Can be read when the alarm has been rung.
        notify_fd: Rings it, by a write of 8 bytes. A write that finds it full is not needed: it has been rung.
    """

    def __init__(self) -> None:
        try:
            self.fd = self.notify_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        except OSError as error:
            if not machine.is_refused(error):
                raise
            self.fd, self.notify_fd = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def clear(self) -> None:
        """Resets it, without waiting: the function that a library puts in place of os.read may wait for more."""
        with contextlib.suppress(BlockingIOError):
            while len(posix.read(self.fd, 4096)) == 4096:
                pass

    def close(self) -> None:
        for fd in {self.fd, self.notify_fd}:
            os.close(fd)


class Lifeline:
    """Tells other processes that this one has ended: a pidfd, or a pipe where the system refuses one.

    Attributes:
        fd: The others wait on it. It can be read, or is at its end, when this process has ended.
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
        """Closes the pipe's other end, in a forked child. `fd` stays open: a worker inherits it as its own."""
        if self.held >= 0:
            os.close(self.held)
            self.held = -1

    def close(self) -> None:
        os.close(self.fd)
        self.let_go()
