# codec.pyx - how arguments and results become bytes.
#
# None, bool, int, float, str, bytes and bytearray, NumPy's numbers and its arrays of numbers, and tuples, lists and dicts of
# these have a compact form that needs no pickle and no Python code: it is written straight into a slot or a block, and read
# where it lies. Everything else is a pickle (protocol 5) that honours the reducers multiprocessing knows, and where pickle fails, cloudpickle's. So is a value
# in which one list, dict or bytearray occurs twice: the receiver is to see that it is one. And so is one in which a string or
# a tuple recurs so often that the compact form, which has no memo, would be much longer for it.
#
# The bytes, the tags and the kinds: see csrc/wire.h. A reader looks once at each tag and length, checks it against the end, and
# looks at characters when it has copied them: the bytes may be a wild worker's, who writes them while they are read.

cdef enum:
    MAX_BUFFERS = 256       # of a parcel; what is beyond them goes with the pickle
    LARGE_BUFFER = 16384    # bytes; a smaller one costs less as part of the pickle

cdef enum:
    MAX_DEPTH = 8     # of nested containers in the compact form; arbitrary
    MAX_MUTABLE = 16  # lists, dicts, bytearrays and arrays in it: each is compared with those before it
    MAX_ARRAY = 65536 # bytes of an array in it: a larger one is better used where it lies
    MAX_DIMENSIONS = 32
    WRITEABLE = 0x400 # of an array's flags: NPY_ARRAY_WRITEABLE
    LEAST_NOTED = 16  # bytes of a form. A pickle takes two to five for what recurs, so at most eight times as many do here
    MAX_AGAIN = 1024  # bytes of a form that stand for what stands before: with fewer, it is done sooner than a pickle
    NOTES_BITS = 10
    NOTES = 1024      # places for what is noted. A value with more than half as many of that is a pickle

# Long strings, bytes and arrays are copied twice, once by each side. So that the two copies do not add up, a task with such
# arguments is published first and written then, and the worker reads what has been written: a *stream*. The parent stores
# how much that is ("written" to "read": the bytes are there before they count). It holds the GIL from the publication to the
# last byte, so nothing can become of the task meanwhile that would free the block; if it dies, so does the worker, by its
# guard. Where the worker may take the processor from the parent, nothing is streamed. (64 KB in: 9 us, not 12. 16 MB: 85% of
# the speed of a bare copy, not 45.)
cdef enum:
    LEAST_STREAM = 32768   # bytes; less is written before a worker that is awake has seen the task
    PIECE = 16384          # bytes that are written between two stores, and what a reader lags behind
    FORETOLD = 320         # bytes: no tag, with its lengths and dimensions, is longer
    ALWAYS_MAPPED = 33554432  # bytes: malloc() of the C library takes nothing larger from its heap. See mallopt(3)

cdef struct Stream:
    const unsigned char *begin   # of the value; NULL: there is no stream
    const unsigned char *end
    rp_stream_head *head
    uint64_t seen                # by the reader

cdef Stream _outgoing  # of the task that is being submitted
cdef Stream _incoming  # of the task whose arguments are being decoded


cdef inline void move(unsigned char *to, const void *source, Py_ssize_t n) noexcept:
    """memcpy() of a part of a value, which may be a stream."""
    cdef Py_ssize_t at = 0, piece
    if _outgoing.begin == NULL or n < PIECE:
        memcpy(to, source, n)
        return
    while at < n:
        piece = min(n - at, <Py_ssize_t>PIECE)
        memcpy(to + at, <const char *>source + at, piece)
        at += piece
        rp_store_release(&_outgoing.head.written, to + at - _outgoing.begin)
        RP_STEP(b"stream: written")


cdef inline void arrive(const unsigned char *p, Py_ssize_t n) noexcept:
    """Waits until n bytes at p, or all that there will be, have been written, if they are a stream's."""
    cdef uint64_t want
    if p < _incoming.begin or p >= _incoming.end:
        return
    want = min(p + n, _incoming.end) - _incoming.begin
    if _incoming.seen < want:
        RP_STEP(b"stream: waits")
        _incoming.seen = rp_pool_await_bytes(&_incoming.head.written, want)


cdef inline void prepare(void *p, Py_ssize_t n) noexcept:
    """Asks for huge pages for memory of an object that has just been made. The C library maps so large a piece anew each
    time, and to touch its pages one by one would cost several times as much as to copy into them."""
    cdef uint64_t begin = whole_pages(<uint64_t>p), end = (<uint64_t>p + n) & ~<uint64_t>4095
    if n >= ALWAYS_MAPPED:
        rp_os_ask_huge(<void *>begin, end - begin, True)


cdef inline void fetch(void *to, const unsigned char *p, Py_ssize_t n) noexcept:
    """memcpy() of a part of a value, which may be a stream, as it comes."""
    cdef Py_ssize_t at = 0, piece
    prepare(to, n)
    if p < _incoming.begin or p >= _incoming.end:
        memcpy(to, p, n)
        return
    while at < n:
        piece = min(n - at, <Py_ssize_t>PIECE)
        arrive(p + at, piece)
        memcpy(<char *>to + at, p + at, piece)
        at += piece


cdef bytes NUMBERS = b"dlfiB?qbhHILQeFDgG"  # the types that have no reference to anything else, as NumPy's characters

# NumPy's, once it is known that the program uses it.
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


cdef struct Sharing:  # of shared objects, while arguments are encoded
    PyObject *client  # whose there may be among them
    PyObject *shared  # the one that is, or NULL

cdef struct Note:
    uint64_t value
    PyObject *object

cdef struct Tally:       # of strings, tuples and so on that may recur in a value
    uint64_t value       # the number of the value. An entry with another number is of an earlier one, and free
    uint32_t noted
    Py_ssize_t again     # bytes so far that stand for what stands before; in a tuple that does, some count more than once
    Note notes[NOTES]    # hashed by the address of the object

cdef Tally _tally        # of the value that is being put: no two are at a time

cdef struct Seen:        # of a value, while it is put
    uint32_t n
    PyObject *each[MAX_MUTABLE]  # lists, dicts, bytearrays and arrays
    Tally *tally         # or NULL: nothing that recurs is looked for
    Sharing sharing


cdef inline bint tally(Seen *seen, object o, Py_ssize_t n) noexcept:
    """Looks whether o, whose form takes n bytes, stands before in the value: not if only one container refers to it. False if
    too much of the form stands there twice."""
    return n < LEAST_NOTED or seen.tally == NULL or Py_REFCNT(<PyObject *>o) == 1 or note(seen.tally, <PyObject *>o, n)


cdef bint note(Tally *tally, PyObject *o, Py_ssize_t n) noexcept:
    """Notes o. False if the value is better a pickle: too much recurs, or there is too much to note."""
    cdef uint64_t i = (<uint64_t>o >> 4) * <uint64_t>0x9e3779b97f4a7c15 >> (64 - NOTES_BITS)
    while tally.notes[i].value == tally.value:
        if tally.notes[i].object == o:
            tally.again += n
            return tally.again <= MAX_AGAIN
        i = (i + 1) & (NOTES - 1)
    if tally.noted == NOTES // 2:
        return False
    tally.notes[i].value = tally.value
    tally.notes[i].object = o
    tally.noted += 1
    return True


cdef bint see(Seen *seen, PyObject *o) noexcept:
    """Notes a list or dict; False if it has been seen before, or there are too many."""
    cdef uint32_t i
    for i in range(seen.n):
        if seen.each[i] == o:
            return False
    if seen.n == MAX_MUTABLE:
        return False
    seen.each[seen.n] = o
    seen.n += 1
    return True


cdef inline Py_ssize_t put(unsigned char *p, Py_ssize_t room, object o, Sharing *sharing=NULL, bint measured=False) noexcept:
    """Writes the compact form of o; its length, or -1 if it has none or does not fit. Runs no Python code and creates
    no object, so it may stand between the reservation of a slot and its publication. `measured` says that compact_size()
    has looked at it before."""
    cdef Seen seen
    cdef Py_ssize_t n
    seen.n = 0
    seen.tally = NULL
    if room > MAX_AGAIN and not measured:
        seen.tally = &_tally
        _tally.value += 1
        _tally.noted = 0
        _tally.again = 0
    seen.sharing.client = sharing.client if sharing != NULL else NULL
    seen.sharing.shared = NULL
    n = put_part(p, room, o, &seen, 0)
    if sharing != NULL and n >= 0:
        sharing.shared = seen.sharing.shared
    return n


cdef inline Py_ssize_t compact_size(object o, Sharing *sharing=NULL) noexcept:
    """The length of the compact form, however long; -1 if there is none."""
    return put(NULL, PY_SSIZE_T_MAX, o, sharing)


cdef Py_ssize_t put_part(unsigned char *p, Py_ssize_t room, object o, Seen *seen, int depth) noexcept:
    """put() for a part of a value. p is NULL if it is only to be measured."""
    cdef long long i
    cdef double d
    cdef int overflow = 0
    cdef Py_ssize_t n, used, k, size
    cdef PyObject *key
    cdef PyObject *value
    cdef int width
    if room < 1:
        return -1
    if o is None or o is True or o is False:
        if p != NULL:
            p[0] = TAG_NONE if o is None else TAG_TRUE if o is True else TAG_FALSE
        return 1
    if PyLong_CheckExact(o):
        i = PyLong_AsLongLongAndOverflow(o, &overflow)
        if overflow or room < 9:
            return -1
        if p != NULL:
            p[0] = TAG_INT
            memcpy(p + 1, &i, 8)
        return 9
    if PyFloat_CheckExact(o):
        if room < 9:
            return -1
        if p != NULL:
            d = PyFloat_AS_DOUBLE(o)
            p[0] = TAG_FLOAT
            memcpy(p + 1, &d, 8)
        return 9
    if PyUnicode_CheckExact(o):
        n = PyUnicode_GET_LENGTH(o)
        width = PyUnicode_KIND(o)
        used = 4 if n <= 0xffff else 10
        if used + n * width > room or not tally(seen, o, used + n * width):
            return -1
        if p != NULL:
            p[1] = 0 if PyUnicode_IS_ASCII(o) else <unsigned char>width
            put_length(p, TAG_STR, TAG_LONG_STR, 2, n)
            move(p + used, PyUnicode_DATA(o), n * width)
        return used + n * width
    if PyBytes_CheckExact(o):
        n = PyBytes_GET_SIZE(o)
        used = 3 if n <= 0xffff else 9
        if used + n > room or not tally(seen, o, used + n):
            return -1
        if p != NULL:
            put_length(p, TAG_BYTES, TAG_LONG_BYTES, 1, n)
            move(p + used, PyBytes_AS_STRING(o), n)
        return used + n
    if PyTuple_CheckExact(o):
        n = PyTuple_GET_SIZE(o)
        if n > 0xff or room < 2 or depth >= MAX_DEPTH:
            return -1
        if p != NULL:
            p[0] = TAG_TUPLE
            p[1] = <unsigned char>n
        used = 2
        for k in range(n):
            size = put_part(later(p, used), room - used, <object>PyTuple_GET_ITEM(o, k), seen, depth + 1)
            if size < 0:
                return -1
            used += size
        return used if tally(seen, o, used) else -1
    if PyList_CheckExact(o):
        n = PyList_GET_SIZE(o)
        if n > 0xff or room < 2 or depth >= MAX_DEPTH or not see(seen, <PyObject *>o):
            return -1
        if p != NULL:
            p[0] = TAG_LIST
            p[1] = <unsigned char>n
        used = 2
        for k in range(n):
            size = put_part(later(p, used), room - used, <object>PyList_GET_ITEM(o, k), seen, depth + 1)
            if size < 0:
                return -1
            used += size
        return used
    if PyDict_CheckExact(o):
        n = PyDict_Size(o)
        if n > 0xff or room < 2 or depth >= MAX_DEPTH or not see(seen, <PyObject *>o):
            return -1
        if p != NULL:
            p[0] = TAG_DICT
            p[1] = <unsigned char>n
        used = 2
        k = 0
        while PyDict_Next(o, &k, &key, &value):
            size = put_part(later(p, used), room - used, <object>key, seen, depth + 1)
            if size < 0:
                return -1
            used += size
            size = put_part(later(p, used), room - used, <object>value, seen, depth + 1)
            if size < 0:
                return -1
            used += size
        return used
    if PyByteArray_CheckExact(o):
        n = PyByteArray_GET_SIZE(o)
        if 9 + n > room or not see(seen, <PyObject *>o):
            return -1
        if p != NULL:
            p[0] = TAG_BYTEARRAY
            memcpy(p + 1, &n, 8)
            move(p + 9, PyByteArray_AS_STRING(o), n)
        return 9 + n
    if _ndarray is not None:
        if type(o) is _ndarray:
            return put_array(p, room, o, seen)
        k = place(_number_types, <PyObject *>Py_TYPE(o))
        if k >= 0:
            return put_number(p, room, o, k, seen)
    if type(o) is Shared:
        if room < 25 or <PyObject *>(<Shared>o).client != seen.sharing.client:
            return -1
        if seen.sharing.shared != NULL and seen.sharing.shared != <PyObject *>o:  # one can be noted
            return -1
        seen.sharing.shared = <PyObject *>o
        if p != NULL:
            p[0] = TAG_SHARED
            memcpy(p + 1, &(<Shared>o).id, 8)
            memcpy(p + 9, &(<Shared>o).parcel.block, 8)
            memcpy(p + 17, &(<Shared>o).parcel.block_bytes, 8)
        return 25
    return -1


cdef Py_ssize_t place(tuple among, PyObject *o) noexcept:
    """Where o itself is; -1 if it is not there."""
    cdef Py_ssize_t i
    for i in range(PyTuple_GET_SIZE(among)):
        if <PyObject *>PyTuple_GET_ITEM(among, i) == o:
            return i
    return -1


cdef Py_ssize_t put_array(unsigned char *p, Py_ssize_t room, object o, Seen *seen) noexcept:
    """put_part() for an array. One whose type only equals one of ours may differ in what pickle knows of."""
    cdef Py_buffer view
    cdef Py_ssize_t used, n = -1
    dtype = o.dtype
    cdef Py_ssize_t code = place(_dtypes, <PyObject *>dtype)
    if code < 0 or not see(seen, <PyObject *>o):
        return -1
    try:
        PyObject_GetBuffer(o, &view, PyBUF_STRIDES)
    except Exception:  # no memory
        return -1
    used = 3 + 8 * view.ndim
    if view.ndim <= MAX_DIMENSIONS and view.len <= MAX_ARRAY and used + view.len <= room:
        if PyBuffer_IsContiguous(&view, b"C"):
            n = used + view.len
            if p != NULL:
                p[0] = TAG_ARRAY
                p[1] = <unsigned char>code
                p[2] = <unsigned char>view.ndim
                if view.ndim:
                    memcpy(p + 3, view.shape, 8 * view.ndim)
                move(p + used, view.buf, view.len)
    PyBuffer_Release(&view)
    return n


cdef Py_ssize_t put_number(unsigned char *p, Py_ssize_t room, object o, Py_ssize_t code, Seen *seen) noexcept:
    """put_part() for a number of NumPy's."""
    cdef Py_buffer view
    cdef Py_ssize_t n = -1
    try:
        PyObject_GetBuffer(o, &view, PyBUF_SIMPLE)
    except Exception:
        return -1
    if 2 + view.len <= room and tally(seen, o, 2 + view.len):
        n = 2 + view.len
        if p != NULL:
            p[0] = TAG_NUMBER
            p[1] = <unsigned char>code
            memcpy(p + 2, view.buf, view.len)
    PyBuffer_Release(&view)
    return n


cdef inline unsigned char *later(unsigned char *p, Py_ssize_t used) noexcept:
    return p + used if p != NULL else NULL


cdef inline void put_length(unsigned char *p, unsigned char tag, unsigned char long_tag, int at, Py_ssize_t n) noexcept:
    """Writes the tag, and the length at p + at: short or long."""
    if n <= 0xffff:
        p[0] = tag
        p[at] = <unsigned char>(n & 0xff)
        p[at + 1] = <unsigned char>(n >> 8)
    else:
        p[0] = long_tag
        memcpy(p + at, &n, 8)


cdef object get(const unsigned char **at, const unsigned char *end, int depth):
    """Reads one compact value; ValueError if the bytes are not the compact form of anything."""
    cdef const unsigned char *p = at[0]
    cdef Py_ssize_t left = end - p, n, k
    cdef unsigned char tag
    cdef long long i
    cdef double d
    cdef int width
    cdef object item, items
    cdef dict pairs
    if left < 1:
        raise ValueError("a compact value is cut off")
    arrive(p, FORETOLD)
    tag = look8(p)
    if tag == TAG_NONE:
        at[0] = p + 1
        return None
    if tag == TAG_TRUE:
        at[0] = p + 1
        return True
    if tag == TAG_FALSE:
        at[0] = p + 1
        return False
    if tag == TAG_INT and left >= 9:
        memcpy(&i, p + 1, 8)
        at[0] = p + 9
        return PyLong_FromLongLong(i)
    if tag == TAG_FLOAT and left >= 9:
        memcpy(&d, p + 1, 8)
        at[0] = p + 9
        return PyFloat_FromDouble(d)
    if tag == TAG_STR and left >= 4:
        at[0] = p + 4
        return get_string(at, left - 4, look8(p + 1), look8(p + 2) | <Py_ssize_t>look8(p + 3) << 8)
    if tag == TAG_BYTES and left >= 3:
        n = look8(p + 1) | <Py_ssize_t>look8(p + 2) << 8
        if left - 3 >= n:
            at[0] = p + 3 + n
            arrive(p, 3 + n)
            return PyBytes_FromStringAndSize(<const char *>p + 3, n)
    if tag == TAG_TUPLE and left >= 2 and depth < MAX_DEPTH:
        n = look8(p + 1)
        items = PyTuple_New(n)
        at[0] = p + 2
        for k in range(n):
            item = get(at, end, depth + 1)
            Py_INCREF(item)
            PyTuple_SET_ITEM(items, k, item)
        return items
    if tag == TAG_LIST and left >= 2 and depth < MAX_DEPTH:
        n = look8(p + 1)
        at[0] = p + 2
        items = []
        for k in range(n):
            items.append(get(at, end, depth + 1))
        return items
    if tag == TAG_DICT and left >= 2 and depth < MAX_DEPTH:
        n = look8(p + 1)
        at[0] = p + 2
        pairs = {}
        for k in range(n):
            item = get(at, end, depth + 1)
            try:
                pairs[item] = get(at, end, depth + 1)
            except TypeError:
                raise ValueError("a compact dict has a key that can be none") from None
        return pairs
    if tag == TAG_LONG_STR and left >= 10:
        width = look8(p + 1)
        at[0] = p + 10
        return get_string(at, left - 10, width, look64(p + 2))
    if (tag == TAG_LONG_BYTES or tag == TAG_BYTEARRAY) and left >= 9:
        n = look64(p + 1)
        if 0 <= n <= left - 9:
            at[0] = p + 9 + n
            if tag == TAG_BYTEARRAY:
                item = PyByteArray_FromStringAndSize(NULL, n)
                fetch(PyByteArray_AS_STRING(item), p + 9, n)
            else:
                item = PyBytes_FromStringAndSize(NULL, n)
                fetch(PyBytes_AS_STRING(item), p + 9, n)
            return item
    if (tag == TAG_ARRAY and left >= 3) or (tag == TAG_NUMBER and left >= 2):
        return get_array(at, left, tag)
    if tag == TAG_SHARED and left >= 25:
        at[0] = p + 25
        return shared_at(look64(p + 1), look64(p + 9), look64(p + 17))
    raise ValueError("a compact value is malformed")


cdef object get_array(const unsigned char **at, Py_ssize_t left, int tag):
    """Reads an array or a number of NumPy's."""
    cdef const unsigned char *p = at[0]
    cdef Py_buffer view
    cdef Py_ssize_t used = 2, size = 1, n, k
    cdef int code = look8(p + 1)
    cdef int ndim = 0
    cdef bint fits
    if _ndarray is None:
        raise NumPyIsNeeded
    if code >= PyTuple_GET_SIZE(_dtypes):
        raise ValueError("a compact array has an unknown type")
    if tag == TAG_ARRAY:
        ndim = look8(p + 2)
        used = 3 + 8 * ndim
        if ndim > MAX_DIMENSIONS or used > left:
            raise ValueError("a compact array is cut off")
    shape = PyTuple_New(ndim)
    for k in range(ndim):
        n = look64(p + 3 + 8 * k)
        if n < 0:
            raise ValueError("a compact array has a negative dimension")
        # Elements: at most as many as there are bytes, or one more for "too many". None, if any dimension is 0.
        size = size * n if n == 0 or size <= left // n else left + 1
        item = PyLong_FromLongLong(n)
        Py_INCREF(item)
        PyTuple_SET_ITEM(shape, k, item)
    if size > left:
        raise ValueError("a compact array is cut off")
    array = _ndarray(shape, <object>PyTuple_GET_ITEM(_dtypes, code))
    PyObject_GetBuffer(array, &view, PyBUF_STRIDES)
    n = view.len
    fits = n <= left - used
    if fits:
        fetch(view.buf, p + used, n)
    PyBuffer_Release(&view)
    if not fits:
        raise ValueError("a compact array is cut off")
    at[0] = p + used + n
    if tag == TAG_NUMBER:
        return array[()]
    return array


cdef object get_string(const unsigned char **at, Py_ssize_t left, int code, Py_ssize_t n):
    """Reads n characters. They are copied once, and looked at in the copy."""
    cdef int width = code if code else 1
    cdef uint32_t most = 0x7f if code == 0 else 0xff if code == 1 else 0xffff if code == 2 else 0x10ffff
    cdef object text
    if code not in (0, 1, 2, 4) or n < 0 or n > left // width:
        raise ValueError("a compact string is malformed")
    if n == 0:
        return ""
    text = PyUnicode_New(n, most)
    fetch(PyUnicode_DATA(text), at[0], n * width)
    at[0] += n * width
    if not is_canonical(PyUnicode_DATA(text), n, code):
        raise ValueError("a compact string holds other characters than it says")
    return text


cdef object get_whole(const unsigned char *p, Py_ssize_t n):
    cdef const unsigned char *at = p
    value = get(&at, p + n, 0)
    if at != p + n:
        raise ValueError("bytes are left over behind a compact value")
    return value


cdef object get_importing(const unsigned char **at, const unsigned char *end, int depth):
    """get(), where user code may run: NumPy is imported if need be."""
    cdef const unsigned char *begin = at[0]
    try:
        return get(at, end, depth)
    except NumPyIsNeeded:
        pass
    learn_numpy(True)
    at[0] = begin
    return get(at, end, depth)


cdef object get_whole_importing(const unsigned char *p, Py_ssize_t n):
    """get_whole(), in the same way."""
    try:
        return get_whole(p, n)
    except NumPyIsNeeded:
        pass
    learn_numpy(True)
    return get_whole(p, n)


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


@cython.final
@cython.no_gc_clear
cdef class Parcel:
    """A pickle and the large buffers that it leaves out, which are copied once, into blocks."""

    cdef bytes pickle
    cdef Py_buffer *buffers  # room for MAX_BUFFERS, or NULL. It stays where it is: a Py_buffer may point into itself
    cdef uint32_t count
    cdef uint64_t bytes    # of all of it, as write() lays it out
    cdef uint64_t block    # the one that leads to the others, when it is spread; else 0
    cdef uint64_t block_bytes
    cdef uint64_t before   # bytes of it before that: of a shared object
    cdef Client client     # whose shared objects may be in it; None if none may
    cdef list shared       # those that are, and what else it refers to: these must live as long. Or None
    cdef uint64_t *at      # the blocks of the buffers; 0 once freed
    cdef uint32_t blocks   # how many there were
    cdef uint32_t holder   # who still holds some of them
    cdef PyObject *next    # of those whose tasks are answered, and that are held

    def __call__(self, buffer):
        """What a pickler's buffer_callback is to do: takes the buffer, or leaves it to the pickle."""
        cdef Py_buffer *view
        if self.count == MAX_BUFFERS:
            return True
        if self.buffers == NULL:
            self.buffers = <Py_buffer *>PyMem_RawMalloc(MAX_BUFFERS * sizeof(Py_buffer))
            if self.buffers == NULL:
                raise MemoryError
        view = &self.buffers[self.count]
        try:
            PyObject_GetBuffer(buffer, view, PyBUF_ANY_CONTIGUOUS)
        except BufferError:
            return True
        if view.len < LARGE_BUFFER:
            PyBuffer_Release(view)
            return True
        self.count += 1
        return False

    cdef int hold(self, bytes data) except -1:
        """Takes the pickle, when all buffers are there."""
        cdef uint32_t k
        self.pickle = data
        if self.count:
            self.at = <uint64_t *>PyMem_RawCalloc(self.count, sizeof(uint64_t))
            if self.at == NULL:
                raise MemoryError
        self.bytes = rp_parcel_pickle_at(self.count) + PyBytes_GET_SIZE(self.pickle)
        for k in range(self.count):
            self.bytes = rp_buffer_aligned(self.bytes) + self.buffers[k].len
        return 0

    cdef void write(self, unsigned char *p) noexcept:
        cdef uint64_t at = rp_parcel_pickle_at(self.count), n = PyBytes_GET_SIZE(self.pickle)
        cdef uint32_t k
        rp_parcel_begin(p, RP_PARCEL, self.count, n)
        memcpy(p + at, PyBytes_AS_STRING(self.pickle), n)
        at += n
        for k in range(self.count):
            n = self.buffers[k].len
            rp_parcel_set_extent(p, k, rp_extent(n, self.buffers[k].readonly != 0))
            at = rp_buffer_aligned(at)
            memcpy(p + at, self.buffers[k].buf, n)
            at += n

    cdef uint64_t head_bytes(self) noexcept:
        """What leads to the blocks, when it is spread."""
        return rp_spread_pickle_at(self.count) + PyBytes_GET_SIZE(self.pickle)

    cdef int spread(self, rp_arena *arena) noexcept:
        """Finds blocks, all or none. 0, -ENOMEM or -E2BIG."""
        cdef uint64_t n
        cdef uint32_t k
        cdef int err
        self.block_bytes = self.before + self.head_bytes()
        err = rp_arena_alloc(arena, self.block_bytes, &self.block)
        if err:
            self.block = 0
            return err
        for k in range(self.count):
            err = rp_arena_alloc(arena, self.buffers[k].len, &self.at[k])
            if err:
                while k:
                    k -= 1
                    rp_arena_free(arena, self.at[k], &n)
                rp_arena_free(arena, self.block, &n)
                self.block = 0
                return err
        self.blocks = self.count
        return 0

    cdef bint store(self, rp_pool *pool, bint joined) noexcept:
        """Goes into the parent's arena, if there is room now: spread, or in one block. It may have no buffers. Creates no
        object."""
        cdef unsigned char *p
        if self.count and not joined:
            if self.spread(&pool.arena):
                return False
            self.fill(pool)
            return True
        if rp_arena_alloc(&pool.arena, self.bytes, &self.block):
            return False
        self.block_bytes = self.bytes
        p = rp_pool_writable(pool, self.block, self.bytes)
        if self.count:
            self.write(p)
        else:
            memcpy(p, PyBytes_AS_STRING(self.pickle), self.bytes)
        return True

    cdef uint64_t within(self, uint64_t offset) noexcept:
        """Is spread in one block at `offset`, each buffer where a block of its own could be. Gives the bytes that this takes."""
        cdef uint64_t end = offset + self.head_bytes()
        cdef uint32_t k
        self.block = offset
        self.block_bytes = self.head_bytes()
        for k in range(self.count):
            self.at[k] = (end + LARGE_BUFFER - 1) & ~<uint64_t>(LARGE_BUFFER - 1)
            end = self.at[k] + self.buffers[k].len
        return end - offset

    cdef void fill(self, rp_pool *pool) noexcept:
        """Writes into the blocks."""
        cdef unsigned char *p = rp_pool_writable(pool, self.block, self.block_bytes)
        cdef uint64_t n = PyBytes_GET_SIZE(self.pickle)
        cdef uint32_t k
        memset(p, 0, self.before)
        p += self.before
        rp_parcel_begin(p, RP_SPREAD, self.count, n)
        memcpy(p + rp_spread_pickle_at(self.count), PyBytes_AS_STRING(self.pickle), n)
        for k in range(self.count):
            n = self.buffers[k].len
            rp_spread_set(p, k, rp_extent(n, self.before != 0 or self.buffers[k].readonly != 0), self.at[k])
            memcpy(rp_pool_writable(pool, self.at[k], n), self.buffers[k].buf, n)

    cdef bytes join(self):
        data = PyBytes_FromStringAndSize(NULL, self.bytes)
        prepare(PyBytes_AS_STRING(data), self.bytes)
        self.write(<unsigned char *>PyBytes_AS_STRING(data))
        return data

    def reduce(self, Shared shared):
        """What a pickler is to make of a shared object."""
        if shared.client is not self.client:
            raise ValueError("an object that another pool has shared cannot be an argument of this one's tasks")
        if self.shared is None:
            self.shared = []
        self.shared.append(shared)
        return shared_here, (shared.id, shared.parcel.block, shared.parcel.block_bytes)

    cdef void clear(self) noexcept:
        while self.count:
            self.count -= 1
            PyBuffer_Release(&self.buffers[self.count])
        PyMem_RawFree(self.buffers)
        self.buffers = NULL

    def __dealloc__(self):
        self.clear()
        PyMem_RawFree(self.at)


cdef struct Entry:  # of a buffer that was spread
    uint64_t size
    uint64_t offset
    bint readonly
    rp_word *holder  # where it is said who holds it


cdef uint32_t read_head(unsigned char *p, uint64_t n, Entry *entries, uint64_t *pickle_at) except? 99:
    """Reads what leads to a parcel's blocks, from a block of n bytes. Gives how many there are; none is looked at."""
    cdef uint64_t count, size, extent, k
    if n >= sizeof(rp_parcel_head):
        count = rp_parcel_buffers(p)
        size = rp_parcel_pickle_bytes(p)
        pickle_at[0] = rp_spread_pickle_at(count)
        if count <= MAX_BUFFERS and pickle_at[0] <= n and size == n - pickle_at[0]:
            for k in range(count):
                extent = rp_spread_extent(p, k)
                entries[k].size = rp_extent_bytes(extent)
                entries[k].readonly = rp_extent_readonly(extent)
                entries[k].offset = rp_spread_offset(p, k)
                entries[k].holder = rp_spread_holder(p, k)
            return <uint32_t>count
    raise ValueError("a parcel is cut off")


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


cdef tuple take_apart(const unsigned char *p, Py_ssize_t n):
    """The pickle and the buffers of a parcel, each in memory of its own, writable unless it was sent as read-only. Runs no user
    code while no garbage is collected."""
    cdef uint64_t at, size, left = n, extent
    cdef uint64_t count, k
    cdef list buffers = []
    if left < sizeof(rp_parcel_head):
        raise ValueError("a parcel is cut off")
    count = rp_parcel_buffers(p)
    size = rp_parcel_pickle_bytes(p)
    at = rp_parcel_pickle_at(count)
    if count > MAX_BUFFERS or at > left or size > left - at:
        raise ValueError("a parcel is cut off")
    data = PyBytes_FromStringAndSize(<const char *>p + at, size)
    at += size
    for k in range(count):
        extent = rp_parcel_extent(p, k)
        size = rp_extent_bytes(extent)
        at = rp_buffer_aligned(at)
        if at > left or size > left - at:
            raise ValueError("a parcel is cut off")
        buffers.append(own_copy(p + at, size, rp_extent_readonly(extent)))
        at += size
    return data, buffers


cdef object own_copy(const unsigned char *p, Py_ssize_t n, bint readonly):
    if readonly:
        copy = PyBytes_FromStringAndSize(NULL, n)
        fetch(PyBytes_AS_STRING(copy), p, n)
    else:
        copy = PyByteArray_FromStringAndSize(NULL, n)
        fetch(PyByteArray_AS_STRING(copy), p, n)
    return copy


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


@cython.final
@cython.no_gc
cdef class Received:
    """Memory as it will be at its receiver, which owns it: writable, though here it may not be. Only for picklers, which
    read it: from a PickleBuffer of read-only memory they would have the receiver make read-only memory."""

    cdef Py_buffer memory

    def __cinit__(self, memory):
        PyObject_GetBuffer(memory, &self.memory, PyBUF_ANY_CONTIGUOUS)

    @staticmethod
    def buffer(memory):
        return pickle.PickleBuffer(Received(memory))

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.memory.buf, self.memory.len, False, flags)

    def __dealloc__(self):
        PyBuffer_Release(&self.memory)


@cython.final
@cython.no_gc
cdef class Formatted:
    """Memory as elements of any format, in any shape, of which cast() makes only some."""

    cdef Py_buffer memory
    cdef bytes format
    cdef Py_ssize_t itemsize
    cdef int ndim
    cdef Py_ssize_t shape[PyBUF_MAX_NDIM]
    cdef Py_ssize_t strides[PyBUF_MAX_NDIM]

    def __cinit__(self, memory, str format, Py_ssize_t itemsize, tuple shape):
        cdef Py_ssize_t size = itemsize, n
        cdef int k
        if len(shape) > PyBUF_MAX_NDIM or itemsize < 0:
            raise ValueError("a memoryview has a shape that cannot be")
        self.format = format.encode()
        self.itemsize = itemsize
        self.ndim = <int>len(shape)
        for k in range(self.ndim - 1, -1, -1):
            n = shape[k]
            if n < 0 or (n and size > PY_SSIZE_T_MAX // n):
                raise ValueError("a memoryview has a shape that cannot be")
            self.shape[k] = n
            self.strides[k] = size
            size *= n
        PyObject_GetBuffer(memory, &self.memory, PyBUF_SIMPLE)
        if size != self.memory.len:
            raise ValueError("a memoryview has another size than its shape says")

    def __getbuffer__(self, Py_buffer *view, int flags):
        if flags & PyBUF_WRITABLE and self.memory.readonly:
            raise BufferError("this memory cannot be written to")
        if flags & PyBUF_F_CONTIGUOUS == PyBUF_F_CONTIGUOUS and self.ndim > 1:
            raise BufferError("this memory has the elements in C's order")
        view.obj = self
        view.buf = self.memory.buf
        view.len = self.memory.len
        view.readonly = self.memory.readonly
        view.itemsize = self.itemsize
        view.format = <char *>self.format if flags & PyBUF_FORMAT else NULL
        view.ndim = self.ndim if flags & PyBUF_ND else 1
        view.shape = self.shape if flags & PyBUF_ND and self.ndim else NULL
        view.strides = self.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES and self.ndim else NULL
        view.suboffsets = NULL
        view.internal = NULL

    def __dealloc__(self):
        PyBuffer_Release(&self.memory)


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
            from ringpool import replay

            scope = replay.ResultScope()
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
