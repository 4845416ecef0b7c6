"""What test_fork.py runs in workers, and what it has in its own process before they are forked."""

from __future__ import annotations

import ctypes
import logging
import mmap
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from multiprocessing import resource_tracker, shared_memory
from pathlib import Path

# ---- at-fork handlers, counted ----

forks = {"before": 0, "after_in_parent": 0, "after_in_child": 0}
LOCK = threading.Lock()
RENEWED = threading.Lock()  # a fork renews it, as libraries do that know of forks
HANDLER = logging.StreamHandler(open(os.devnull, "w"))  # noqa: SIM115
LOGGER = logging.getLogger("test_fork")
LOGGER.propagate = False
LOGGER.addHandler(HANDLER)


def _count(which: str) -> None:
    forks[which] += 1


def _renew() -> None:
    global RENEWED
    RENEWED = threading.Lock()
    _count("after_in_child")


os.register_at_fork(
    before=lambda: _count("before"),
    after_in_parent=lambda: _count("after_in_parent"),
    after_in_child=_renew,
)


def pid_and_forks():
    return os.getpid(), forks


def take_locks():
    """Takes what the parent's threads hold, if a fork has copied it as held."""
    for lock in (LOCK, RENEWED, HANDLER.lock):
        if not lock.acquire(timeout=10):
            return f"{lock} stayed locked"
        lock.release()
    LOGGER.error("a word from a worker")
    return sum(len(bytes(n)) for n in range(0, 100_000, 1000))


# ---- the identity of a worker ----


def identity():
    return {
        "pid": os.getpid(),
        "parent": os.getppid(),
        "name": multiprocessing.current_process().name,
        "number": multiprocessing.current_process()._identity,
        "parent process": multiprocessing.parent_process().pid,
        "parent is alive": multiprocessing.parent_process().is_alive(),
        "children": multiprocessing.active_children(),
        "native id": threading.get_native_id(),
        "main thread": threading.main_thread().native_id,
        "is main": threading.current_thread() is threading.main_thread(),
        "threads": [t.name for t in threading.enumerate()],
        "method": multiprocessing.get_start_method(),
        "stdin": sys.stdin.read(),
    }


def random_number():
    return os.getpid(), random.random()


def signal_main_thread():
    """Sends a signal to the main thread by pthread_kill(), which goes by the thread id that the C library keeps."""
    got = []
    signal.signal(signal.SIGUSR1, lambda *_: got.append(threading.get_native_id()))
    thread = threading.Thread(target=signal.pthread_kill, args=(threading.main_thread().ident, signal.SIGUSR1))
    thread.start()
    thread.join()
    return got == [os.getpid()]


class RobustMutex:
    """A pthread mutex in memory that forks share, of the kind that tells when its holder has died."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 4096)
        self._at = ctypes.byref(ctypes.c_char.from_buffer(self._memory))
        self._libc = ctypes.CDLL(None)
        attributes = ctypes.create_string_buffer(64)
        for call, *args in [
            (self._libc.pthread_mutexattr_init,),
            (self._libc.pthread_mutexattr_setpshared, 1),
            (self._libc.pthread_mutexattr_setrobust, 1),
        ]:
            assert call(attributes, *args) == 0
        assert self._libc.pthread_mutex_init(self._at, attributes) == 0

    def lock(self) -> int:
        return self._libc.pthread_mutex_trylock(self._at)


ROBUST = RobustMutex()


def lock_and_die():
    os._exit(9 if ROBUST.lock() == 0 else 1)


def lock():
    return ROBUST.lock()


# ---- signals ----


def signals():
    return {
        "handlers": {s: signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)},
        "ignored": signal.getsignal(signal.SIGUSR2) == signal.SIG_IGN,
        "mask": signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        "wakeup": signal.set_wakeup_fd(-1),
    }


# ---- tasks ----


def touch_and_wait(path, until):
    Path(path).touch()
    while not Path(until).exists():
        time.sleep(0.002)
    return "done"


def blob(n):
    return b"x" * n


def fork_and(how):
    """Forks a child that leaves the task in some way; its exit code."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    sys.stderr = open(os.devnull, "w")  # noqa: SIM115
    if how == "exit":
        sys.exit(7)
    if how == "raise":
        raise ValueError("from a child of a task")
    if how == "_exit":
        os._exit(7)
    return "the child returns"


def own_pool(method):
    from ringpool import ProcessPoolExecutor

    with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as executor:
        executor.submit(os._exit, 3).exception(30)
        return list(executor.map(abs, range(-5, 0))), executor.submit(os.getppid).result(30) == os.getpid()


_initialized = None


def initialize_and_fork(how):
    global _initialized
    _initialized = fork_and(how)


def initialized():
    return _initialized


# ---- what multiprocessing tracks ----


def make_block(text):
    """Makes a SharedMemory for others to unlink. Its name, and the processes that this one has started so far."""
    block = shared_memory.SharedMemory(create=True, size=len(text))
    block.buf[:] = text
    block.close()
    return block.name, Path("/proc/thread-self/children").read_text().split()


def tracks_in_fork():
    """Whether what this process forks has a way to the tracker that this one has."""
    pid = os.fork()
    if pid == 0:
        os._exit(resource_tracker._resource_tracker._fd is not None)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
