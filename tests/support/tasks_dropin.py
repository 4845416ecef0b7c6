"""What the workers of test_dropin.py run; importable, for workers that start afresh."""

from __future__ import annotations

import multiprocessing
import os
import signal
from multiprocessing import forkserver


class Reduced:
    """Pickled by whatever reducer is registered for it."""

    def __init__(self, by="default"):
        self.by = by


def reduce_first(_):
    return Reduced, ("first",)


def reduce_second(_):
    return Reduced, ("second",)


def reduced_by(value):
    return value.by


def greet(connection):
    """Sends a word through a Connection or a socket, and closes it."""
    with connection:
        (connection.send_bytes if hasattr(connection, "send_bytes") else connection.sendall)(b"hello")


def number_in_name():
    """The number of the worker, as programs take it from its name."""
    name = multiprocessing.current_process().name
    assert "Process-" in name
    return int(name.split("-")[1])


def apply(fn, *args):
    return fn(*args)


def nine():
    return 9


def ten():
    return 10


def square(x):
    return x * x


def kill_self():
    os.kill(os.getpid(), signal.SIGKILL)


def touch_and_hang(path, ignore_sigterm=False):
    """Writes its process's id there, and then waits to be killed."""
    if ignore_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with open(path + ".part", "w") as file:
        file.write(str(os.getpid()))
    os.rename(path + ".part", path)
    while True:
        signal.pause()


def on_error():
    """What a fork server that this process starts makes of errors in what it preloads."""
    return forkserver._forkserver._preload_on_error
