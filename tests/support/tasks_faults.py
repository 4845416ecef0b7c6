"""Objects and functions that fail in every way, for test_faults.py; importable, for workers that start afresh."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import os
import signal
import sys
import threading
import time
from pathlib import Path

from files import await_file

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


# ---- exceptions that misbehave ----


def misbehave(*_):
    """For a method, or the getter or the setter of a property."""
    raise ValueError("misbehaves")


def leave(*_):
    raise SystemExit(3)


@dataclasses.dataclass(frozen=True)
class BadFrozen(Exception):
    """Its attributes cannot be set, and so it does not unpickle."""

    number: int = 1


class BadMeta(type):
    def __getattribute__(cls, name):
        return leave() if name in ("__module__", "__name__", "__qualname__") else super().__getattribute__(name)


class BadlyNamed(Exception, metaclass=BadMeta):
    pass


class EndlessError(Exception):
    def __str__(self):
        while True:
            signal.pause()


class BadText(str):
    __add__ = __format__ = __eq__ = misbehave
    __hash__ = str.__hash__


class BadLoop(Exception):
    def __init__(self):
        super().__init__()
        self.__cause__ = self
        self.__context__ = BadLoop.__new__(BadLoop)
        self.__context__.__cause__ = self


def bad(name, base=Exception, **namespace):
    """A class of exceptions that can be imported."""
    made = type(f"Bad{name}", (base,), {"__module__": __name__, **namespace})
    globals()[f"Bad{name}"] = made
    return made


# Of each name: the class, and whether it arrives itself.
BAD_ERRORS = {
    "frozen": (BadFrozen, False),
    "__setattr__ raises": (bad("Fixed", __setattr__=misbehave), True),
    "__getattribute__ leaves": (bad("Hidden", __getattribute__=leave), False),
    "__reduce_ex__ raises": (bad("Pickle", __reduce_ex__=misbehave), False),
    "__reduce__ leaves": (bad("Leaves", __reduce__=leave), False),
    "__reduce__ gives nonsense": (bad("Nonsense", __reduce__=lambda self: 7), False),
    "__reduce__ gives a number": (bad("Number", __reduce__=lambda self: (int, (7,))), False),
    "__reduce__ gives what leaves": (bad("Unpickle", __reduce__=lambda self: (leave, ())), False),
    "__setstate__ raises": (bad("State", __reduce__=lambda self: (type(self), (), 1), __setstate__=misbehave), False),
    "__str__ raises": (bad("Str", __str__=misbehave), True),
    "__str__ and __repr__ leave": (bad("Words", __str__=leave, __repr__=leave), True),
    "__str__ gives no string": (bad("Number7", __str__=lambda self: 7), True),
    "__str__ gives a string that misbehaves": (bad("Odd", __str__=lambda self: BadText("odd")), True),
    "nothing works": (bad("All", __str__=leave, __repr__=leave, __reduce_ex__=leave, __bool__=leave), False),
    "__traceback__ raises": (bad("Traceback", __traceback__=property(misbehave, leave)), True),
    "__traceback__ is a number": (bad("Traceback7", __traceback__=7), True),
    "__traceback__ cannot be set": (bad("TracebackFixed", __traceback__=property(lambda self: None)), True),
    "with_traceback raises": (bad("With", with_traceback=misbehave), True),
    "__cause__ raises": (bad("Cause", __cause__=property(misbehave, misbehave)), True),
    "__cause__ is a number": (bad("Cause7", __cause__=7), True),
    "__cause__ cannot be set": (bad("CauseFixed", __cause__=property(lambda self: None, leave)), True),
    "__context__ leaves": (bad("Context", __context__=property(leave, leave)), True),
    "__suppress_context__ leaves": (bad("Suppress", __suppress_context__=property(leave, leave)), True),
    "__cause__ and __context__ go round": (BadLoop, True),
    "__class__ lies": (bad("Class7", __class__=property(lambda self: int)), True),
    "__class__ raises": (bad("Class", __class__=property(misbehave)), True),
    "__notes__ is a number": (bad("Notes7", __notes__=7), True),
    "__notes__ leaves": (bad("Notes", __notes__=property(leave)), True),
    "__bool__ leaves": (bad("Bool", __bool__=leave), True),
    "__eq__ leaves": (bad("Equal", __eq__=leave, __hash__=None), True),
    "__module__ is a number": (bad("Module", __module__=7), True),
    "the class has no name": (BadlyNamed, False),
    "exceptions raises": (bad("Group", ExceptionGroup, exceptions=property(misbehave)), True),
    "text raises": (bad("Syntax", SyntaxError, text=property(misbehave)), True),
    "no Exception, __reduce__ raises": (bad("Base", BaseException, __reduce__=misbehave), False),
    "KeyboardInterrupt, __reduce__ raises": (bad("Interrupt", KeyboardInterrupt, __reduce__=misbehave), False),
    "SystemExit, __str__ raises": (bad("Exit", SystemExit, __str__=misbehave), True),
    "GeneratorExit, __cause__ raises": (bad("Generator", GeneratorExit, __cause__=property(misbehave)), True),
}


def throw_bad(name):
    kind = BAD_ERRORS[name][0]
    raise kind("several", [ValueError()]) if issubclass(kind, ExceptionGroup) else kind()


def throw_bad_at(name, i, at):
    if i == at:
        throw_bad(name)
    return i


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
