"""What the workers of test_crash_points.py run; importable, for workers that start afresh."""

from __future__ import annotations

import ctypes
import os
import pickle
import threading
import time
from multiprocessing import current_process
from pathlib import Path
from pickle import PickleBuffer

from files import await_file

from ringpool import _core


def steps():
    """The functions of csrc/step.h, or None in an ordinary build."""
    library = ctypes.CDLL(_core.__file__)
    if not hasattr(library, "rp_step_arm"):
        return None
    library.rp_step_name.argtypes = [ctypes.c_uint32]
    library.rp_step_name.restype = ctypes.c_char_p
    library.rp_step_arm.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint64]
    library.rp_step_hold.argtypes = [ctypes.c_char_p, ctypes.c_uint64]
    return library


def set_trap(first, after, point, nth, hold, hold_s):
    """From the passing of `first` on, this process dies at a point. It sleeps at another."""
    library = steps()
    library.rp_step_hold(hold.encode(), int(hold_s * 1e9))
    library.rp_step_arm(first.encode(), after.encode(), point.encode(), nth)


def meet(folder, n, places, trap):
    """One task for each of n workers, which wait for each other. Those at the places set the trap for themselves.

    Returns:
        Its place and its pid.
    """
    mine = int(current_process().name.rpartition("-")[2]) - 1
    Path(folder, str(mine)).touch()
    for other in range(n):
        await_file(os.path.join(folder, str(other)))
    if mine in places:
        set_trap(*trap)
    return mine, os.getpid()


def meet_large(folder, n, size):
    """As meet, but only for a result of that size."""
    meet(folder, n, (), None)
    return b"L" * size


def trap_the_nth(folder, n, trap):
    """An initializer: the nth worker that calls it sets the trap."""
    for i in range(1, n + 1):
        try:
            os.close(os.open(os.path.join(folder, f"start.{i}"), os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            continue
        if i == n:
            open(os.path.join(folder, f"trap.{os.getpid()}"), "w").close()
            set_trap(*trap)
        return


def square(i):
    return i * i


def slow_square(i, seconds):
    time.sleep(seconds)
    return i * i


def gate(path, value):
    """Ends when the file is there."""
    await_file(path)
    return value


def echo(i, payload):
    return i, payload


def lengths(i, *values):
    return i, *map(len, values)


def make(i, size):
    return bytes([i % 256]) * size


def make_buffer(size):
    """Not compact: its receiver uses it where it lies."""
    return pickle.PickleBuffer(bytearray(b"B" * size))


def keep(buffer):
    """Uses the argument until some time after this is answered."""
    threading.Timer(0.002, [buffer].clear).start()
    return PickleBuffer(buffer)


def fail(text):
    raise LookupError(text)
