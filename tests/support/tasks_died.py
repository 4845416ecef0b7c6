"""Tasks that die, for test_died.py."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import threading
import time


def fault(*_):
    ctypes.string_at(0)  # reads address 0


def abort():
    os.abort()


def fault_in_a_thread():
    thread = threading.Thread(target=fault)
    thread.start()
    thread.join()


def fault_in_a_fork():
    child = os.fork()
    if child == 0:
        fault()
    os.waitpid(child, 0)


def fault_in_a_fork_and(last):
    fault_in_a_fork()
    last()


def fault_in_a_pool_of_its_own():
    from multiprocessing import get_context

    from ringpool import ProcessPoolExecutor

    with ProcessPoolExecutor(1, get_context("fork")) as executor:
        return executor.submit(fault).exception().stack


def fault_below(depth, *_):
    return fault_below(depth - 1) if depth else fault()


def exit_7(*_):
    os._exit(7)


def kill_self(number=signal.SIGKILL):
    os.kill(os.getpid(), number)
    time.sleep(60)


def take_and_kill_self(size, give_back=False):
    """Has `size` bytes in use, and perhaps no more, then is killed."""
    taken = b"x" * size
    if give_back:
        del taken
    kill_self()


def take_and_sleep(size):
    taken = b"x" * size
    time.sleep(60)
    return len(taken)


def take(size):
    return len(b"x" * size)


def enable_faulthandler(path):
    file = open(path, "a")  # noqa: SIM115 - faulthandler wants it open, and so will the successor's
    enable_faulthandler.file = file
    faulthandler.enable(file)


def disable_faulthandler():
    faulthandler.disable()
