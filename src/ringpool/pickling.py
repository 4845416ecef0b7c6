"""What has no compact form on its way into a pickle, and out of it: all of that which is not on a hot path.

The core encodes (see core/codec/pickles.pyx) and comes here for what its picklers are to do with memory, for functions
and classes that travel by value, and for exceptions. It imports this when it first needs it: a worker that only sees
compact values never does.

What handles exceptions of tasks stands last. Any method of such an exception may raise anything. So what can be had
without its methods is taken from the base classes; all else may fail.
"""

from __future__ import annotations

import copyreg
import pickle
from collections.abc import Callable, Mapping
from io import BytesIO
from multiprocessing.reduction import ForkingPickler

from ringpool import functions

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing is the largest import a new worker would have
    from types import TracebackType
    from typing import Any

    Reducer = Callable[[Any], Any]

_WRITEABLE = 0x400  # of an array's flags: NPY_ARRAY_WRITEABLE

# What picklers are to do with memory: rather than what they know of, but behind what a user has registered. The core
# adds NumPy's arrays once the program uses them.
reducers: dict[type, Reducer] = {}

# Of the core's, which says here what they are. Before 3.12, no class of Python's can offer memory.
_received: Any = None
_memoryview_of: Any = None
_large_buffer = 0  # bytes


def set_memory(received: Any, memoryview_of: Any, large_buffer: int) -> None:
    """Tells what the core alone can make: see core/codec/buffers.pyx.

    Args:
        received: Makes, of memory, memory as it will be at its receiver, which owns it.
        memoryview_of: What a memoryview is in a pickle.
        large_buffer: Bytes from which on a buffer is taken out of a pickle.
    """
    global _received, _memoryview_of, _large_buffer
    _received, _memoryview_of, _large_buffer = received, memoryview_of, large_buffer


def dumps_by_value(value: object, more: Mapping[type, Reducer], buffer_callback: Any, scope: Any) -> bytes:
    """Pickles a value, and by value what cannot be imported.

    Args:
        value: What is pickled.
        more: Reducers that go before all others.
        buffer_callback: Takes large buffers out, as `pickle.Pickler` has it; or None.
        scope: What becomes of functions and classes of a session: see session.py. Or None.

    Returns:
        The pickle.
    """
    buffer = BytesIO()
    # Before cloudpickle's own, which would send a memoryview as bytes; but behind what a user has registered.
    ours = {kind: copyreg.dispatch_table.get(kind, reducer) for kind, reducer in reducers.items()}
    ours.update(ForkingPickler._extra_reducers)  # type: ignore[attr-defined]
    ours.update(more)
    functions.by_value_pickler()(buffer, ours, buffer_callback, scope).dump(value)
    return buffer.getvalue()


def reduce_array(array: Any) -> Any:
    """What a pickler is to make of an array of NumPy's. NumPy knows, but leaves the elements in the pickle, where they
    are copied again and again, if they are dates, for which there is no buffer, or not contiguous. A large array of
    these goes as numbers, or as a contiguous copy. And it would have an array that is read-only here be so at the
    receiver's, though that owns the memory; protocol 4, which the stdlib uses, would not."""
    if array.nbytes >= _large_buffer:
        if array.dtype.kind in "mM":
            return array_as, (array.view("i8"), array.dtype)
        if not array.flags.forc and not array.dtype.hasobject and not _is_dense(array):
            array = array.copy("C")
    reduced = array.__reduce_ex__(5)
    if array.flags.num & _WRITEABLE:  # flags.writeable warns of what broadcast_arrays() gives
        return reduced
    function, args, *rest = reduced
    return function, tuple([_as_received(arg) if type(arg) is pickle.PickleBuffer else arg for arg in args]), *rest


def array_as(array: Any, dtype: Any) -> Any:
    """What an array of dates is in a pickle."""
    return array.view(dtype)


def _is_dense(array: Any) -> bool:
    """Are the elements contiguous in some order of the dimensions? NumPy leaves those out of a pickle from 2.3 on."""
    strides = array.strides
    order = sorted(range(len(strides)), key=strides.__getitem__, reverse=True)
    return bool(array.transpose(order).flags.c_contiguous)


def reduce_memoryview(view: memoryview) -> Any:
    """What a pickler is to make of a memoryview: a buffer, large or small, and how to see it."""
    if "O" in _without_names(view.format):
        raise TypeError("cannot pickle a memoryview of references to objects: they mean nothing to another process")
    data = view if view.c_contiguous else bytes(view)
    # Not the memoryview itself: the garbage collector of CPython before 3.12.6 crashes where it finds both (gh-77894).
    return _memoryview_of, (_as_received(data), view.format, view.itemsize, view.shape)


def _without_names(format: str) -> str:
    """A format without the names of fields, which stand between colons."""
    return "".join(format.split(":")[::2])


def _as_received(memory: Any) -> pickle.PickleBuffer:
    """A buffer that the receiver is to own, and so may write to, though here it may be read-only."""
    return pickle.PickleBuffer(_received(memory))


reducers[memoryview] = reduce_memoryview


# ---- exceptions of tasks ----


def encode_error(exc: BaseException, text: str | None, dumps: Callable[[object], bytes]) -> bytes:
    """An exception as the payload of a result: itself, if it pickles, and what can be said of it.

    Args:
        exc: The exception.
        text: What stands for its traceback; None: what Python prints of it.
        dumps: Pickles it.
    """
    reason = ""
    functions.explain_missing(exc)
    if text is None:
        text = traceback_of(exc)
    pickled: bytes | None
    try:
        pickled = dumps(exc)
    except BaseException as error:
        pickled = None
        reason = f"it cannot be pickled: {_words_of(error)}"
        text = f"{text}\nThe exception could not be pickled:\n\n{traceback_of(error)}"
    return pickle.dumps((pickled, text, type_name(exc), text_of(exc), reason), 5)


def decode_error(data: Any) -> BaseException:
    """The exception of a result, or a RemoteError that stands for it, with the remote traceback as its __cause__."""
    from ringpool.errors import RemoteError, _RemoteTraceback

    if not data:  # there was no room for more
        return MemoryError("out of memory in the worker: no room for the result, or its exception (see RLIMIT_AS)")
    pickled, text, name, words, reason = pickle.loads(data)
    exc: Any = None
    if pickled is not None:
        try:
            exc = pickle.loads(pickled)
        except KeyboardInterrupt:  # the user's, most likely: the future stays as it is
            raise
        except BaseException as error:
            reason = f"it cannot be unpickled: {_words_of(error)}"
        else:
            if not _is_exception(exc):
                reason = f"it unpickles as {type_name(exc)}, which is no exception"
    if not _is_exception(exc):
        exc = RemoteError(name, words, reason)
    _set_cause(exc, _RemoteTraceback(f'\n"""\n{text}"""'))  # type: ignore[arg-type]  # as the stdlib frames it
    made: BaseException = exc
    return made


# What BaseException itself makes of its attributes, past any class that has its own.
_traceback_of: Callable[[Any], TracebackType | None] = BaseException.__dict__["__traceback__"].__get__
_set_cause: Callable[[Any, BaseException], None] = BaseException.__dict__["__cause__"].__set__
_name_of: Callable[[type], str] = type.__dict__["__name__"].__get__


def _is_exception(o: object) -> bool:
    return issubclass(type(o), BaseException)


def traceback_of(exc: BaseException) -> str:
    """What Python prints of an exception, or what can be had of that."""
    import traceback

    frames = _traceback_of(exc)
    try:
        return _plain("".join(traceback.format_exception(type(exc), exc, frames)))
    except BaseException as error:
        reason = _words_of(error)
    try:
        shown = _plain("".join(traceback.format_tb(frames)))
    except BaseException:
        shown = ""
    words = _words_of(exc)
    return f"Traceback (most recent call last):\n{shown}{words}\n\nThe exception cannot be formatted: {reason}\n"


def _words_of(exc: BaseException) -> str:
    """The last line of its traceback."""
    name, text = type_name(exc), text_of(exc)
    return f"{name}: {text}" if text else name


def text_of(exc: BaseException) -> str:
    """str(exc), or that there is none."""
    try:
        return _plain(str(exc))
    except BaseException:
        return f"<str() of {type_name(exc)} failed>"


def type_name(o: object) -> str:
    """The full name of its type, past what the type and its metaclass make of it."""
    kind = type(o)
    try:
        module = _plain(type.__getattribute__(kind, "__module__"))
        name = _plain(type.__getattribute__(kind, "__qualname__"))
        return name if module == "builtins" else f"{module}.{name}"
    except BaseException:
        return _name_of(kind)


def _plain(text: str) -> str:
    """A string of the class str itself, of whatever subclass `text` is."""
    return "".join((text, ""))


def safe_repr(o: object) -> str:
    """repr(o), or its type's name where repr fails."""
    try:
        return repr(o)
    except BaseException:
        return f"<{type(o).__name__}>"
