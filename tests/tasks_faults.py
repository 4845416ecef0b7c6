"""Objects and functions that fail in every way, for test_faults.py; importable, for workers that start afresh."""

from __future__ import annotations

import ctypes
import functools
import os
import signal
import sys
import threading
import time
from pathlib import Path

from waiting import await_file

# ---- objects that do something bad while they are pickled or unpickled ----


def _fail(text: str) -> None:
    raise ValueError(text)


def _exit_9() -> None:
    os._exit(9)


def _fault() -> None:
    ctypes.string_at(0)  # reads address 0


class FailsToPickle:
    def __reduce__(self):
        raise ValueError("does not want to leave")

    def __call__(self):
        return self


class FailsToUnpickle:
    def __reduce__(self):
        return _fail, ("does not want to arrive",)

    def __call__(self):
        return self


class ExitsAtPickle:
    def __reduce__(self):
        os._exit(9)


class ExitsAtUnpickle:
    def __reduce__(self):
        return _exit_9, ()

    def __call__(self):
        return self


class FaultsAtPickle:
    def __reduce__(self):
        _fault()


class FaultsAtUnpickle:
    def __reduce__(self):
        return _fault, ()

    def __call__(self):
        return self


class HoldsALock:
    def __init__(self):
        self.lock = threading.Lock()

    def __call__(self):
        return self


# ---- exceptions that do ----


class CannotSayWhatItIs(Exception):
    def __str__(self):
        return self.what_was_not_pickled


class NeedsTwo(Exception):
    """Does not unpickle: its args are one, its __init__ wants two."""

    def __init__(self, one, two):
        super().__init__(f"{one} and {two}")


class CarriesALock(Exception):
    def __init__(self):
        super().__init__("the exception with a lock")
        self.lock = threading.Lock()


class ErrorThatFailsToPickle(FailsToPickle, Exception):
    pass


class ErrorThatFailsToUnpickle(FailsToUnpickle, Exception):
    pass


class ErrorThatExitsAtPickle(ExitsAtPickle, Exception):
    pass


class ErrorThatFaultsAtPickle(FaultsAtPickle, Exception):
    pass


class ErrorThatBecomesANumber(Exception):
    def __reduce__(self):
        return int, (5,)


class ErrorWithoutWords(Exception):
    def __str__(self):
        raise ValueError("no words")

    __repr__ = __str__


# ---- tasks ----


def take(obj):
    """For objects that never arrive."""
    return 0


def make(cls):
    return cls()


def throw(cls, *args):
    raise cls(*args)


def exit_7(*_):
    os._exit(7)


def sys_exit_3(*_):
    sys.exit(3)


def kill_self(*_):
    os.kill(os.getpid(), signal.SIGKILL)


def fault(*_):
    _fault()


def abort(*_):
    os.abort()


def die_at(path):
    """Dies when there is such a file."""
    await_file(path)
    kill_self()


def fail(*_):
    raise LookupError("the initializer's own words")


def count_and_exit(path):
    with open(path, "a") as file:
        file.write("x")
    os._exit(5)


def exit_once(path):
    """Exits if the file is there, and removes it."""
    if os.path.exists(path):
        os.unlink(path)
        os._exit(5)


def kill_self_at(i, fatal):
    if i == fatal:
        os.kill(os.getpid(), signal.SIGKILL)
    return i * i


def pid(*_):
    return os.getpid()


def touch(path):
    Path(path).touch()


def touch_and_wait(path, release):
    """Says by a file that it runs; ends when the other file is there."""
    touch(path)
    while not os.path.exists(release):
        time.sleep(0.002)
    return os.getpid()


def touch_and_sleep(path, seconds):
    touch(path)
    time.sleep(seconds)


def touch_and_hold_the_gil(path):
    touch(path)
    ctypes.PyDLL(None).pause()


def fork_and_die(path):
    """Leaves a child behind that holds every descriptor of this process."""
    read, _write = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read, 1)  # it holds the other end itself: waits until it is killed
        os._exit(0)
    Path(path + ".part").write_text(str(child))
    os.rename(path + ".part", path)
    os._exit(7)


def echo(i, payload):
    return i, payload


def after(seconds, value):
    time.sleep(seconds)
    return value


class Holder:
    """Holds a function by a dotted name."""

    @staticmethod
    def held():
        return "held"


def rebind(name, to):
    """Binds a name of this module, in the worker, to what another has."""
    globals()[name] = globals()[to]


def rebind_in_class(to):
    Holder.held = staticmethod(globals()[to])


def rebound_once(*_):
    return "once"


def rebound_twice(*_):
    return "twice"


def _tell(what, *_):
    return what


rebound_partially = functools.partial(_tell, "partially")
