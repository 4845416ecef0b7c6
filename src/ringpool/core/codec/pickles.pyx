# pickles.pyx - values that have no compact form: see pickles.pxd.

cdef object encode(object o, int *kind, Parcel parcel=None, Py_ssize_t size=UNMEASURED):
    """The compact form, or what pack() makes of what has none; *kind says which: KIND_ARGS, KIND_VALUE, or those with
    _PICKLE. `size` is what compact_size() or encode_or_measure() has said, if it has been asked."""
    cdef Sharing sharing
    cdef Sharing *its = NULL
    cdef Py_ssize_t n = size
    sharing.shared = NULL
    if parcel is not None and parcel.client is not None:
        sharing.client = <PyObject *>parcel.client
        its = &sharing
    if size == UNMEASURED:
        n = compact_size(o, its)
    if n >= 0:
        data = PyBytes_FromStringAndSize(NULL, n)
        prepare(PyBytes_AS_STRING(data), n)
        if encode_value(<unsigned char *>PyBytes_AS_STRING(data), n, o, its, True) == n:  # to make room may have changed o
            kind[0] = KIND_VALUE
            if sharing.shared != NULL:
                parcel.keep(<object>sharing.shared)
            return data
    kind[0] = KIND_VALUE_PICKLE
    return pack(o, parcel)


cdef object pack(object o, Parcel parcel=None, object scope=None):
    """Pickles o, as dumps(), or in a scope; but gives a Parcel if there are large buffers in it."""
    cdef Outside outside
    step_out_here(&outside)
    if parcel is None:
        parcel = new_parcel()
    data = dumps(o, parcel) if scope is None else cloudpickle_dumps(o, parcel, scope)
    if parcel.count == 0:
        return data
    parcel.hold(data)
    return parcel


cdef bytes joined(object data):
    """What pack() has made, in one."""
    return (<Parcel>data).join() if type(data) is Parcel else data


# The module, when it has been needed; its reducers, which stay the same dict; and whether that of arrays is among them. Each is
# written once, or again with the same.
cdef object _pickling = None
cdef dict _reducers = None
cdef bint _reduces_arrays = False


cdef object pickling():
    """ringpool.pickling. A worker that only sees compact values never imports it."""
    global _pickling, _reducers
    if _pickling is None:
        from ringpool import pickling as module

        module.set_memory(Received, memoryview_of, LARGE_BUFFER)
        _reducers = module.reducers
        _pickling = module
    return _pickling


cdef dict own_reducers():
    global _reduces_arrays
    if _pickling is None:
        pickling()
    if not _reduces_arrays and numpy_array_type() is not None:
        _reducers[numpy_array_type()] = _pickling.reduce_array
        _reduces_arrays = True
    return _reducers


cdef object loads_at(const unsigned char *p, Py_ssize_t n):
    """What n bytes hold that dumps() or pack() have written, and that stay as they are meanwhile."""
    cdef Outside outside
    step_out_here(&outside)
    if n and read_once8(p) == RP_PARCEL:
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
    cdef dict table = {**own_reducers(), **copyreg.dispatch_table, **ForkingPickler._extra_reducers}
    if parcel is not None and parcel.client is not None:
        parcel.client.add_reducers(table, parcel)
    pickler.dispatch_table = table
    try:
        pickler.dump(o)
        return buffer.getvalue()
    except Exception as error:
        if task_is_ending():  # that may be what was raised
            raise
        first = error
    # Not within the handler: what Cython makes of a return there crashes where a traceback finds no memory.
    if parcel is not None:
        parcel.reset()
    try:
        return cloudpickle_dumps(o, parcel)
    except Exception as error:
        second = error
    raise (second if isinstance(first, (AttributeError, pickle.PicklingError)) else first) from None


cdef bytes cloudpickle_dumps(object o, Parcel parcel=None, object scope=None):
    """Pickles o, and by value what cannot be imported. What a scope is: see session.py. If there is none, the parcel, or
    that this is a worker, says which it should be."""
    cdef Sender client = parcel.client if parcel is not None else None
    if scope is None and not functions.main_is_importable():
        if client is not None:
            scope = client.scope()
        elif works_here():
            from ringpool import replay

            scope = replay.ResultScope()
    own_reducers()
    cdef dict more = {}
    if client is not None:
        client.add_reducers(more, parcel)
    data = pickling().dumps_by_value(o, more, parcel, scope)
    if client is not None and scope is not None and scope.handles:
        for handle in scope.handles:
            parcel.keep(handle)
    return data


def encode_compact(object value, Py_ssize_t room=RP_SLOT_INLINE):
    """The compact form of a value, or None if it has none or needs more than `room` bytes. For tests."""
    learn_numpy()
    cdef Py_ssize_t n = encode_value(NULL, room, value)
    if n < 0:
        return None
    data = PyBytes_FromStringAndSize(NULL, n)
    if encode_value(<unsigned char *>PyBytes_AS_STRING(data), n, value, NULL, True) != n:
        raise RuntimeError("the value changed its size while it was encoded")
    return data


def try_compact(object value, Py_ssize_t room):
    """What encode_or_measure() says, and what it has written if that is all. For tests."""
    learn_numpy()
    data = PyBytes_FromStringAndSize(NULL, room)
    cdef Py_ssize_t n = encode_or_measure(<unsigned char *>PyBytes_AS_STRING(data), room, value)
    return n, data[:n] if 0 <= n <= room else None


def decode_compact(bytes data):
    """The value of a compact form. Raises ValueError for any other bytes. For tests."""
    return decode_whole(<const unsigned char *>PyBytes_AS_STRING(data), len(data), True)


def encode_pickled(object value):
    """What carries a value that has no compact form. For tests."""
    return joined(pack(value))


def decode_pickled(bytes data):
    """The value of that. Raises ValueError if it is a parcel that cannot be what it says. For tests."""
    return loads_at(<const unsigned char *>PyBytes_AS_STRING(data), len(data))


def encode_error(exc, text=None):
    """An exception as the payload of a result: itself, if it pickles, and what can be said of it."""
    return pickling().encode_error(exc, text, dumps_error)


def dumps_error(exc):
    return dumps(exc)


cdef object decode_error(object data):
    """The exception of a result, or a RemoteError that stands for it."""
    cdef Outside outside
    step_out_here(&outside)
    return pickling().decode_error(data)
