"""When the pools of a process end: with its interpreter, after a Ctrl-C, and in a child that it forks.

Guarantees: a pool that has processes is closed and joined before the interpreter ends, by `threading`'s hooks or
`atexit`'s, or by `multiprocessing`'s finalizers in one of its children. In a forked child the pools that its parent has
used are forgotten. Does not: know how a pool ends; it calls `close`, `abort`, `join` and `forget`. It keeps no pool
alive.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
import weakref
from multiprocessing import util

# A program pays for these imports before its first task.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Protocol

    from ringpool import _core

    class Pool(Protocol):
        """What is asked of a pool here: see `supervisor.Supervisor`."""

        client: _core.Client

        def close(self) -> None: ...
        def abort(self) -> None: ...
        def join(self) -> None: ...
        def forget(self) -> None: ...


# Among multiprocessing's finalizers: before those of its own pools and managers, which a pending task may use.
EXIT_PRIORITY = 100

_made: weakref.WeakSet[Pool] = weakref.WeakSet()  # all pools, for forked children to forget those that were used
_live: weakref.WeakSet[Pool] = weakref.WeakSet()  # pools with processes, to be ended before the interpreter is
exiting = False  # the interpreter is about to end: no pool begins. A variable, since a call may run signal handlers


def note_made(pool: Pool) -> None:
    _made.add(pool)


def note_begun(pool: Pool) -> None:
    """The pool has processes from now on."""
    _live.add(pool)


def note_ended(pool: Pool) -> None:
    _live.discard(pool)


def _end_all() -> None:
    """Before the interpreter ends: finishes pending tasks and lets the workers leave, as the stdlib does. If a Ctrl-C
    ends the program, running tasks are not waited for; the stdlib's workers get the signal themselves."""
    global exiting
    interrupted = exiting  # the first call was, or there would be no pool for this one to end
    exiting = True
    # last_type: the exception that the interpreter has just printed. A session with a prompt keeps an older one there.
    # exc_info: the exception that ends the target of a multiprocessing.Process (before 3.13; from then on it has been
    # printed and forgotten by now).
    if getattr(sys, "last_type", None) is KeyboardInterrupt and not hasattr(sys, "ps1"):
        interrupted = True
    if interrupted or isinstance(sys.exc_info()[1], KeyboardInterrupt):
        _abort_all()
    for each in list(_live):
        each.close()
    for each in list(_live):
        each.join()


def _abort_all() -> None:
    """Ends the pools that a Ctrl-C has left, because it interrupted `_end_all` or came just before it."""
    if not exiting and any(each.client.waiters.green for each in list(_live)):
        _end_all()  # a library that has replaced threads has replaced threading's hooks with them
    for each in list(_live):
        each.abort()
    for each in list(_live):
        each.join()


# The stdlib's executors end the same way: before threads are joined, which is before atexit.
try:
    threading._register_atexit(_end_all)  # type: ignore[attr-defined]
except RuntimeError:  # the interpreter is ending by now: a pool that is made takes no task
    exiting = True
# Before multiprocessing.util's, which was registered earlier and would wait for the workers.
atexit.register(_abort_all)


# A child of multiprocessing waits for its own children before it runs the hooks of threading (before 3.13), and runs
# none of atexit's. It runs its finalizers before it waits.
_finalizer: util.Finalize | None = None


def finalize_in_time() -> None:
    """Makes multiprocessing end the pools of this process before it waits for their workers. A child of multiprocessing
    forgets the finalizers of its parent, so this is checked each time a pool begins."""
    global _finalizer
    if _finalizer is None or not _finalizer.still_active():
        _finalizer = util.Finalize(None, _end_all_at_exit, exitpriority=EXIT_PRIORITY)


def _end_all_at_exit() -> None:
    if util.is_exiting():  # else multiprocessing only cleans up, which test suites ask for
        _end_all()


def _forget_all() -> None:
    global exiting, _finalizer
    exiting, _finalizer = False, None
    _live.clear()
    for each in list(_made):
        each.forget()


os.register_at_fork(after_in_child=_forget_all)
