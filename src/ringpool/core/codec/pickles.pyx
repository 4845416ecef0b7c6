# pickles.pyx - values that have no compact form.

cdef enum:
    WRITEABLE = 0x400 # of an array's flags: NPY_ARRAY_WRITEABLE


cdef object encode(object o, int *kind, Parcel parcel=None):
    """The compact form, or what pack() makes of what has none; *kind says which: KIND_ARGS, KIND_VALUE, or those with
    _PICKLE."""
    cdef Sharing sharing
    sharing.client = <PyObject *>parcel.client if parcel is not None else NULL
    sharing.shared = NULL
    cdef Py_ssize_t n = compact_size(o, &sharing)
    if n >= 0:
        data = PyBytes_FromStringAndSize(NULL, n)
        prepare(PyBytes_AS_STRING(data), n)
        if put(<unsigned char *>PyBytes_AS_STRING(data), n, o, &sharing, True) == n:  # to make room may have changed o
            kind[0] = KIND_VALUE
            if sharing.shared != NULL:
                parcel.shared = [<object>sharing.shared]
            return data
    kind[0] = KIND_VALUE_PICKLE
    return pack(o, parcel)


cdef object pack(object o, Parcel parcel=None, object scope=None):
    """Pickles o, as dumps(), or in a scope; but gives a Parcel if there are large buffers in it."""
    if parcel is None:
        parcel = Parcel()
    data = dumps(o, parcel) if scope is None else cloudpickle_dumps(o, parcel, scope)
    if parcel.count == 0:
        return data
    parcel.hold(data)
    return parcel


cdef bytes joined(object data):
    """What pack() has made, in one."""
    return (<Parcel>data).join() if type(data) is Parcel else data


cdef dict own_reducers():
    own = {memoryview: reduce_memoryview}
    if _ndarray is not None:
        own[_ndarray] = reduce_array
    return own


def reduce_array(array):
    """What a pickler is to make of an array of NumPy's. NumPy knows, but leaves the elements in the pickle, where they are
    copied again and again, if they are dates, for which there is no buffer, or not contiguous. A large array of these goes
    as numbers, or as a contiguous copy. And it would have an array that is read-only here be so at the receiver's, though
    that owns the memory; protocol 4, which the stdlib uses, would not."""
    if array.nbytes >= LARGE_BUFFER:
        if array.dtype.kind in "mM":
            return array_as, (array.view("i8"), array.dtype)
        if not array.flags.forc and not array.dtype.hasobject and not is_dense(array):
            array = array.copy("C")
    reduced = array.__reduce_ex__(5)
    if array.flags.num & WRITEABLE:  # flags.writeable warns of what broadcast_arrays() gives
        return reduced
    function, args, *rest = reduced
    return function, tuple([Received.buffer(arg) if type(arg) is pickle.PickleBuffer else arg for arg in args]), *rest


def array_as(array, dtype):
    """What an array of dates is in a pickle."""
    return array.view(dtype)


cdef bint is_dense(array):
    """Are the elements contiguous in some order of the dimensions? NumPy leaves those out of a pickle from 2.3 on."""
    strides = array.strides
    return array.transpose(sorted(range(len(strides)), key=strides.__getitem__, reverse=True)).flags.c_contiguous


def reduce_memoryview(view):
    """What a pickler is to make of a memoryview: a buffer, large or small, and how to see it."""
    if "O" in without_names(view.format):
        raise TypeError("cannot pickle a memoryview of references to objects: they mean nothing to another process")
    data = view
    if not view.c_contiguous:
        data = bytes(view)
    # Not the memoryview itself: the garbage collector of CPython before 3.12.6 crashes where it finds both (gh-77894).
    return memoryview_of, (Received.buffer(data), view.format, view.itemsize, view.shape)


def memoryview_of(buffer, str format, Py_ssize_t itemsize, tuple shape):
    """What a memoryview is in a pickle: a view of the receiver's own memory, with the elements in C's order."""
    view = memoryview(buffer)
    if view.nbytes:  # cast() takes no dimension of 0
        try:
            return view.cast(format, shape)
        except ValueError:  # nor a format but those of the machine's own numbers
            pass
    return memoryview(Formatted(view, format, itemsize, shape))


cdef str without_names(str format):
    """A format without the names of fields, which stand between colons."""
    return "".join(format.split(":")[::2])


cdef object loads_at(const unsigned char *p, Py_ssize_t n):
    """What n bytes hold that dumps() or pack() have written, and that stay as they are meanwhile."""
    if n and look8(p) == RP_PARCEL:
        data, buffers = take_apart(p, n)
        return pickle.loads(data, buffers=buffers)
    return pickle.loads(PyMemoryView_FromMemory(<char *>p, n, PyBUF_READ))


cdef bytes dumps(object o, Parcel parcel=None):
    """Pickles o, by cloudpickle where pickle alone fails or __main__ cannot be imported by workers. If neither
    can, raises what pickle raised, unless that is only that it found no name for something: cloudpickle looked inside.
    A parcel takes large buffers out."""
    learn_numpy()
    if not functions.main_is_importable():
        return cloudpickle_dumps(o, parcel)
    cdef object buffer = BytesIO()
    cdef object pickler = Pickler(buffer, 5, buffer_callback=parcel)
    # One dict, which the C pickler looks up fastest; made each time, since any part may change.
    pickler.dispatch_table = {**own_reducers(), **copyreg.dispatch_table, **ForkingPickler._extra_reducers}
    if parcel is not None and parcel.client is not None:
        pickler.dispatch_table[Shared] = parcel.reduce
    try:
        pickler.dump(o)
        return buffer.getvalue()
    except Exception as error:
        if task_is_ending():  # that may be what was raised
            raise
        first = error
    # Not within the handler: what Cython makes of a return there crashes where a traceback finds no memory.
    if parcel is not None:
        parcel.clear()
        parcel.shared = None
    try:
        return cloudpickle_dumps(o, parcel)
    except Exception as error:
        second = error
    raise (second if isinstance(first, (AttributeError, pickle.PicklingError)) else first) from None


cdef bytes cloudpickle_dumps(object o, Parcel parcel=None, object scope=None):
    """Pickles o, and by value what cannot be imported. What a scope is: see session.py. If there is none, the parcel, or
    that this is a worker, says which it should be."""
    cdef object buffer = BytesIO()
    cdef Client client = parcel.client if parcel is not None else None
    if scope is None and not functions.main_is_importable():
        if client is not None:
            scope = client.functions.scope()
        elif _here is not None:
            from ringpool import session

            scope = session.ResultScope()
    # Before cloudpickle's own, which would send a memoryview as bytes; but behind what a user has registered.
    more = {kind: copyreg.dispatch_table.get(kind, reducer) for kind, reducer in own_reducers().items()}
    more.update(ForkingPickler._extra_reducers)
    if parcel is not None and parcel.client is not None:
        more[Shared] = parcel.reduce
    functions.by_value_pickler()(buffer, more, parcel, scope).dump(o)
    if client is not None and scope is not None and scope.handles:
        if parcel.shared is None:
            parcel.shared = []
        parcel.shared += scope.handles
    return buffer.getvalue()


def encode_compact(object value, Py_ssize_t room=RP_SLOT_INLINE):
    """The compact form of a value, or None if it has none or needs more than `room` bytes. For tests."""
    learn_numpy()
    cdef Py_ssize_t n = put(NULL, room, value)
    if n < 0:
        return None
    data = PyBytes_FromStringAndSize(NULL, n)
    if put(<unsigned char *>PyBytes_AS_STRING(data), n, value, NULL, True) != n:
        raise RuntimeError("a value has changed its size")
    return data


def decode_compact(bytes data):
    """The value of a compact form. Raises ValueError for any other bytes. For tests."""
    return get_whole_importing(<const unsigned char *>PyBytes_AS_STRING(data), len(data))


def encode_pickled(object value):
    """What carries a value that has no compact form. For tests."""
    return joined(pack(value))


def decode_pickled(bytes data):
    """The value of that. Raises ValueError if it is a parcel that cannot be what it says. For tests."""
    return loads_at(<const unsigned char *>PyBytes_AS_STRING(data), len(data))


# What follows handles exceptions of tasks, any method of which may raise anything. So what can be had of them without their
# methods is had by C; all else may fail.

def encode_error(exc, text=None):
    """An exception as the payload of a result: itself, if it pickles, and what can be said of it."""
    reason = ""
    functions.explain_missing(exc)
    if text is None:
        text = traceback_of(exc)
    try:
        pickled = dumps(exc)
    except BaseException as error:
        pickled = None
        reason = f"it cannot be pickled: {words_of(error)}"
        text = f"{text}\nThe exception could not be pickled:\n\n{traceback_of(error)}"
    return pickle.dumps((pickled, text, type_name(exc), text_of(exc), reason), 5)


def decode_error(data):
    """The exception of a result, or a RemoteError that stands for it, with the remote traceback as its __cause__."""
    from ringpool.errors import RemoteError, _RemoteTraceback

    if not data:  # there was no room for more
        return MemoryError("the result, or the exception, of the task found no room in its worker: see RLIMIT_AS")
    pickled, text, name, words, reason = pickle.loads(data)
    exc = None
    if pickled is not None:
        try:
            exc = pickle.loads(pickled)
        except KeyboardInterrupt:  # the user's, most likely: the future stays as it is
            raise
        except BaseException as error:
            reason = f"it cannot be unpickled: {words_of(error)}"
        else:
            if not PyExceptionInstance_Check(exc):
                reason = f"it unpickles as {type_name(exc)}, which is no exception"
    if not PyExceptionInstance_Check(exc):
        exc = RemoteError(name, words, reason)
    cause = _RemoteTraceback(f'\n"""\n{text}"""')  # as the stdlib frames it
    Py_INCREF(cause)
    PyException_SetCause(exc, cause)  # which takes the reference over
    return exc


cdef str traceback_of(exc):
    """What Python prints of an exception, or what can be had of that."""
    import traceback

    cdef PyObject *at = PyException_GetTraceback(exc)
    frames = None
    if at != NULL:
        frames = <object>at
        Py_DECREF(frames)
    try:
        return plain("".join(traceback.format_exception(type(exc), exc, frames)))
    except BaseException as error:
        reason = words_of(error)
    try:
        shown = plain("".join(traceback.format_tb(frames)))
    except BaseException:
        shown = ""
    return f"Traceback (most recent call last):\n{shown}{words_of(exc)}\n\nThe exception cannot be formatted: {reason}\n"


cdef str words_of(exc):
    """The last line of its traceback."""
    name, text = type_name(exc), text_of(exc)
    return f"{name}: {text}" if text else name


def text_of(exc):
    """str(exc), or that there is none."""
    try:
        return plain(str(exc))
    except BaseException:
        return f"<str() of {type_name(exc)} failed>"


cdef str type_name(o):
    """The full name of its type, past what the type and its metaclass make of it."""
    kind = type(o)
    try:
        module = plain(type.__getattribute__(kind, "__module__"))
        name = plain(type.__getattribute__(kind, "__qualname__"))
        return name if module == "builtins" else f"{module}.{name}"
    except BaseException:
        return (<PyTypeObject *>kind).tp_name.decode("utf-8", "replace")


cdef str plain(text):
    """A string of the class str itself, of whatever subclass `text` is."""
    return "".join((text, ""))


def safe_repr(o):
    """repr(o), or its type's name where repr fails."""
    try:
        return repr(o)
    except BaseException:
        return f"<{type(o).__name__}>"
