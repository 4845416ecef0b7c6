# arrays.pyx - the compact form of NumPy's arrays and numbers: see arrays.pxd.

cdef bytes NUMBERS = b"dlfiB?qbhHILQeFDgG"  # the types that have no reference to anything else, as NumPy's characters

# NumPy's, once it is known that the program uses it. Written once, _ndarray last: what finds it finds the others. Without a
# GIL, that is to be a release, and each look an acquire.
cdef type _ndarray = None
cdef tuple _dtypes = None       # of NUMBERS
cdef tuple _number_types = None


class NumPyIsNeeded(Exception):
    """A compact value cannot be read before NumPy is imported: that runs code, which is not right everywhere."""


cdef object learn_numpy(bint imports=False):
    """Looks whether the program has NumPy, or imports it."""
    global _ndarray, _dtypes, _number_types
    if _ndarray is not None:
        return
    if imports:
        import numpy
    else:
        numpy = sys.modules.get("numpy")
        if numpy is None or not hasattr(numpy, "ndarray") or not hasattr(numpy, "dtype"):  # or it is being imported
            return
    dtypes = tuple([numpy.dtype(chr(c)) for c in NUMBERS])
    types = tuple([each.type for each in dtypes])
    _dtypes, _number_types, _ndarray = dtypes, types, numpy.ndarray


cdef Py_ssize_t place(tuple among, PyObject *o) noexcept:
    """Where o itself is; -1 if it is not there."""
    cdef Py_ssize_t i
    for i in range(PyTuple_GET_SIZE(among)):
        if <PyObject *>PyTuple_GET_ITEM(among, i) == o:
            return i
    return -1


cdef object numpy_array_type():
    return _ndarray


cdef inline bint is_array(object o) noexcept:
    return <PyObject *>Py_TYPE(o) == <PyObject *>_ndarray


cdef inline Py_ssize_t number_code(object o) noexcept:
    return -1 if _ndarray is None else place(_number_types, <PyObject *>Py_TYPE(o))


cdef Py_ssize_t encode_array(unsigned char *p, Py_ssize_t room, object o, Seen *seen, Stream *out) noexcept:
    """One whose type only equals one of ours may differ in what pickle knows of."""
    cdef Py_buffer view
    cdef Py_ssize_t used, n = NO_FORM
    dtype = o.dtype
    cdef Py_ssize_t code = place(_dtypes, <PyObject *>dtype)
    if code < 0 or not note_mutable(seen, <PyObject *>o):
        return NO_FORM
    try:
        PyObject_GetBuffer(o, &view, PyBUF_STRIDES)
    except Exception:  # no memory
        return NO_FORM
    used = 3 + 8 * view.ndim
    if view.ndim <= MAX_DIMENSIONS and view.len <= MAX_ARRAY:
        if used + view.len > room:
            n = NO_ROOM
        elif PyBuffer_IsContiguous(&view, b"C"):
            n = used + view.len
            if p != NULL:
                p[0] = TAG_ARRAY
                p[1] = <unsigned char>code
                p[2] = <unsigned char>view.ndim
                if view.ndim:
                    memcpy(p + 3, view.shape, 8 * view.ndim)
                stream_out(out, p + used, view.buf, view.len)
    PyBuffer_Release(&view)
    return n


cdef Py_ssize_t encode_number(unsigned char *p, Py_ssize_t room, object o, Py_ssize_t code, Seen *seen) noexcept:
    cdef Py_buffer view
    cdef Py_ssize_t n
    try:
        PyObject_GetBuffer(o, &view, PyBUF_SIMPLE)
    except Exception:
        return NO_FORM
    n = 2 + view.len if tally(seen, o, 2 + view.len, 0) else NO_FORM
    if n > room:
        n = NO_ROOM
    elif n >= 0:
        if p != NULL:
            p[0] = TAG_NUMBER
            p[1] = <unsigned char>code
            memcpy(p + 2, view.buf, view.len)
    PyBuffer_Release(&view)
    return n


cdef object decode_array(const unsigned char **at, Py_ssize_t left, int tag, Stream *source, bint imports):
    cdef const unsigned char *p = at[0]
    cdef Py_buffer view
    cdef Py_ssize_t used = 2, size = 1, n, k
    cdef int code = read_once8(p + 1)
    cdef int ndim = 0
    cdef bint fits
    if _ndarray is None:
        if not imports:
            raise NumPyIsNeeded
        learn_numpy(True)
    if code >= PyTuple_GET_SIZE(_dtypes):
        raise ValueError("a compact array has an unknown type")
    if tag == TAG_ARRAY:
        ndim = read_once8(p + 2)
        used = 3 + 8 * ndim
        if ndim > MAX_DIMENSIONS or used > left:
            raise ValueError("a compact array is truncated")
    shape = PyTuple_New(ndim)
    for k in range(ndim):
        n = read_once64(p + 3 + 8 * k)
        if n < 0:
            raise ValueError("a compact array has a negative dimension")
        # Elements: at most as many as there are bytes, or one more for "too many". None, if any dimension is 0.
        size = size * n if n == 0 or size <= left // n else left + 1
        item = PyLong_FromLongLong(n)
        Py_INCREF(item)
        PyTuple_SET_ITEM(shape, k, item)
    if size > left:
        raise ValueError("a compact array is truncated")
    array = _ndarray(shape, <object>PyTuple_GET_ITEM(_dtypes, code))
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    n = view.len
    fits = n <= left - used
    if fits:
        stream_in(source, view.buf, p + used, n)
    PyBuffer_Release(&view)
    if not fits:
        raise ValueError("a compact array is truncated")
    at[0] = p + used + n
    if tag == TAG_NUMBER:
        return array[()]
    return array
