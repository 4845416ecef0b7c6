# codec.pxi - how arguments and results become bytes.
#
# None, bool, int, float, short str and bytes, and tuples, lists and dicts of these have a compact form that needs no
# pickle and no Python code: it is written straight into a slot. Everything else is a pickle (protocol 5) that honours the
# reducers multiprocessing knows, and where pickle fails, cloudpickle's. So is a value in which one list or dict occurs
# twice: the receiver is to see that it is one.
#
# compact value := tag byte, then
#   NONE, TRUE, FALSE   nothing
#   INT                 8 bytes, signed              (others: pickle)
#   FLOAT               8 bytes
#   STR                 u8 bytes a character (1, 2, 4), u16 characters, the characters as CPython holds them
#   BYTES               u16 length, the bytes
#   TUPLE, LIST         u8 length, that many values
#   DICT                u8 length, that many times a key and a value
# All in the byte order of the machine. A reader checks every length against the end: the bytes may be a wild worker's.

cdef enum:
    TAG_NONE = 0
    TAG_TRUE = 1
    TAG_FALSE = 2
    TAG_INT = 3
    TAG_FLOAT = 4
    TAG_STR = 5
    TAG_BYTES = 6
    TAG_TUPLE = 7
    TAG_LIST = 8
    TAG_DICT = 9

# What a payload holds. Tasks:
cdef enum:
    KIND_ARGS = 1          # compact: the tuple of positional arguments
    KIND_ARGS_PICKLE = 2   # pickle of that tuple
    KIND_KWARGS_PICKLE = 3 # pickle of (args, kwargs)
    KIND_CALL_PICKLE = 4   # pickle of (fn, args, kwargs)
    KIND_CHUNK = 5         # many items: see batch.pxi
    KIND_MASK = 15
    KIND_NAMED = 32        # flag: the function's block holds a pickle of (module, qualified name), not of itself
    KIND_TIMED = 64        # flag: the worker notes when the call starts
# Results:
    KIND_VALUE = 1         # compact
    KIND_VALUE_PICKLE = 2
    KIND_ERROR = 3         # pickle of (pickle of the exception or None, traceback text, repr)
    KIND_START_ERROR = 4   # the same, of an initializer
    KIND_PART = 5          # results of a chunk: a tray, see batch.pxi
    KIND_LAST = 6          # the same, and the worker is done with the chunk

# Why a task is to end that runs:
cdef enum:
    WHY_OVERRUN = 1        # it has taken longer than its time limit
    WHY_CANCELLED = 2

cdef enum:
    MAX_DEPTH = 8     # of nested containers in the compact form; arbitrary
    MAX_MUTABLE = 16  # lists and dicts in it: each is compared with those before it

cdef struct Seen:     # the lists and dicts of a value
    uint32_t n
    PyObject *each[MAX_MUTABLE]


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


cdef inline Py_ssize_t put(unsigned char *p, Py_ssize_t room, object o) noexcept:
    """Writes the compact form of o; its length, or -1 if it has none or does not fit. Runs no Python code and creates
    no object, so it may stand between the reservation of a slot and its publication."""
    cdef Seen seen
    seen.n = 0
    return put_part(p, room, o, &seen, 0)


cdef Py_ssize_t put_part(unsigned char *p, Py_ssize_t room, object o, Seen *seen, int depth) noexcept:
    cdef long long i
    cdef double d
    cdef int overflow = 0
    cdef Py_ssize_t n, used, k, size
    cdef PyObject *key
    cdef PyObject *value
    cdef int width
    if room < 1:
        return -1
    if o is None:
        p[0] = TAG_NONE
        return 1
    if o is True:
        p[0] = TAG_TRUE
        return 1
    if o is False:
        p[0] = TAG_FALSE
        return 1
    if PyLong_CheckExact(o):
        i = PyLong_AsLongLongAndOverflow(o, &overflow)
        if overflow or room < 9:
            return -1
        p[0] = TAG_INT
        memcpy(p + 1, &i, 8)
        return 9
    if PyFloat_CheckExact(o):
        if room < 9:
            return -1
        d = PyFloat_AS_DOUBLE(o)
        p[0] = TAG_FLOAT
        memcpy(p + 1, &d, 8)
        return 9
    if PyUnicode_CheckExact(o):
        n = PyUnicode_GET_LENGTH(o)
        width = PyUnicode_KIND(o)
        if n > 0xffff or 4 + n * width > room:
            return -1
        p[0] = TAG_STR
        p[1] = <unsigned char>width
        p[2] = <unsigned char>(n & 0xff)
        p[3] = <unsigned char>(n >> 8)
        memcpy(p + 4, PyUnicode_DATA(o), n * width)
        return 4 + n * width
    if PyBytes_CheckExact(o):
        n = PyBytes_GET_SIZE(o)
        if n > 0xffff or 3 + n > room:
            return -1
        p[0] = TAG_BYTES
        p[1] = <unsigned char>(n & 0xff)
        p[2] = <unsigned char>(n >> 8)
        memcpy(p + 3, PyBytes_AS_STRING(o), n)
        return 3 + n
    if PyTuple_CheckExact(o):
        n = PyTuple_GET_SIZE(o)
        if n > 0xff or room < 2 or depth >= MAX_DEPTH:
            return -1
        p[0] = TAG_TUPLE
        p[1] = <unsigned char>n
        used = 2
        for k in range(n):
            size = put_part(p + used, room - used, <object>PyTuple_GET_ITEM(o, k), seen, depth + 1)
            if size < 0:
                return -1
            used += size
        return used
    if PyList_CheckExact(o):
        n = PyList_GET_SIZE(o)
        if n > 0xff or room < 2 or depth >= MAX_DEPTH or not see(seen, <PyObject *>o):
            return -1
        p[0] = TAG_LIST
        p[1] = <unsigned char>n
        used = 2
        for k in range(n):
            size = put_part(p + used, room - used, <object>PyList_GET_ITEM(o, k), seen, depth + 1)
            if size < 0:
                return -1
            used += size
        return used
    if PyDict_CheckExact(o):
        n = PyDict_Size(o)
        if n > 0xff or room < 2 or depth >= MAX_DEPTH or not see(seen, <PyObject *>o):
            return -1
        p[0] = TAG_DICT
        p[1] = <unsigned char>n
        used = 2
        k = 0
        while PyDict_Next(o, &k, &key, &value):
            size = put_part(p + used, room - used, <object>key, seen, depth + 1)
            if size < 0:
                return -1
            used += size
            size = put_part(p + used, room - used, <object>value, seen, depth + 1)
            if size < 0:
                return -1
            used += size
        return used
    return -1


cdef object get(const unsigned char **at, const unsigned char *end, int depth):
    """Reads one compact value; ValueError if the bytes are not the compact form of anything."""
    cdef const unsigned char *p = at[0]
    cdef long long i
    cdef double d
    cdef Py_ssize_t n, k
    cdef int width
    cdef object item, items
    cdef dict pairs
    if p >= end:
        raise ValueError("a compact value is cut off")
    if p[0] == TAG_NONE:
        at[0] = p + 1
        return None
    if p[0] == TAG_TRUE:
        at[0] = p + 1
        return True
    if p[0] == TAG_FALSE:
        at[0] = p + 1
        return False
    if p[0] == TAG_INT and end - p >= 9:
        memcpy(&i, p + 1, 8)
        at[0] = p + 9
        return PyLong_FromLongLong(i)
    if p[0] == TAG_FLOAT and end - p >= 9:
        memcpy(&d, p + 1, 8)
        at[0] = p + 9
        return PyFloat_FromDouble(d)
    if p[0] == TAG_STR and end - p >= 4:
        width = p[1]
        n = p[2] | (<Py_ssize_t>p[3] << 8)
        if width in (1, 2, 4) and end - p - 4 >= n * width:
            at[0] = p + 4 + n * width
            if width == 1:
                return PyUnicode_FromKindAndData(1, p + 4, n)
            # the characters of a wider string need not be aligned in the slot
            aligned = PyBytes_FromStringAndSize(<const char *>p + 4, n * width)
            if width == 4:
                for k in range(n):
                    if (<const uint32_t *>PyBytes_AS_STRING(aligned))[k] > 0x10ffff:
                        raise ValueError("a compact string holds no characters")
            return PyUnicode_FromKindAndData(width, PyBytes_AS_STRING(aligned), n)
    if p[0] == TAG_BYTES and end - p >= 3:
        n = p[1] | (<Py_ssize_t>p[2] << 8)
        if end - p - 3 >= n:
            at[0] = p + 3 + n
            return PyBytes_FromStringAndSize(<const char *>p + 3, n)
    if p[0] == TAG_TUPLE and end - p >= 2 and depth < MAX_DEPTH:
        n = p[1]
        items = PyTuple_New(n)
        at[0] = p + 2
        for k in range(n):
            item = get(at, end, depth + 1)
            Py_INCREF(item)
            PyTuple_SET_ITEM(items, k, item)
        return items
    if p[0] == TAG_LIST and end - p >= 2 and depth < MAX_DEPTH:
        n = p[1]
        at[0] = p + 2
        items = []
        for k in range(n):
            items.append(get(at, end, depth + 1))
        return items
    if p[0] == TAG_DICT and end - p >= 2 and depth < MAX_DEPTH:
        n = p[1]
        at[0] = p + 2
        pairs = {}
        for k in range(n):
            item = get(at, end, depth + 1)
            try:
                pairs[item] = get(at, end, depth + 1)
            except TypeError:
                raise ValueError("a compact dict has a key that can be none") from None
        return pairs
    raise ValueError("a compact value is malformed")


cdef object get_whole(const unsigned char *p, Py_ssize_t n):
    cdef const unsigned char *at = p
    value = get(&at, p + n, 0)
    if at != p + n:
        raise ValueError("bytes are left over behind a compact value")
    return value


cdef bytes dumps(object o):
    """Pickles o, by cloudpickle where pickle alone fails or __main__ cannot be imported by workers. If neither
    can, raises what pickle raised, unless that is only that it found no name for something: cloudpickle looked inside."""
    if not functions.main_is_importable():
        return cloudpickle_dumps(o)
    cdef object buffer = BytesIO()
    cdef object pickler = Pickler(buffer, 5)
    # One dict, which the C pickler looks up fastest; made each time, since either part may change.
    pickler.dispatch_table = {**copyreg.dispatch_table, **ForkingPickler._extra_reducers}
    try:
        pickler.dump(o)
    except Exception as first:
        if task_is_ending():  # that may be what was raised
            raise
        try:
            return cloudpickle_dumps(o)
        except Exception as second:
            raise (second if isinstance(first, (AttributeError, pickle.PicklingError)) else first) from None
    return buffer.getvalue()


cdef bytes cloudpickle_dumps(object o):
    cdef object buffer = BytesIO()
    functions.by_value_pickler()(buffer, protocol=5).dump(o)
    return buffer.getvalue()


def encode_compact(object value, Py_ssize_t room=RP_SLOT_INLINE):
    """The compact form of a value, or None if it has none or needs more than `room` bytes (at most 4096). For tests."""
    cdef unsigned char buffer[4096]
    cdef Py_ssize_t n = put(buffer, min(room, 4096), value)
    return None if n < 0 else PyBytes_FromStringAndSize(<const char *>buffer, n)


def decode_compact(bytes data):
    """The value of a compact form. Raises ValueError for any other bytes. For tests."""
    return get_whole(<const unsigned char *>PyBytes_AS_STRING(data), len(data))


def encode_error(exc, text=None):
    """An exception as the payload of a result: itself if it pickles, and what can be said of it if it does not."""
    import traceback

    if text is None:
        text = "".join(traceback.format_exception(type(exc), exc, exc.__traceback__))
    try:
        pickled = dumps(exc)
    except BaseException as error:
        detail = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        text = f"{text}\nThe exception could not be pickled:\n\n{detail}"
        try:
            pickled = dumps(error)
        except BaseException:
            pickled = None
    return pickle.dumps((pickled, text, safe_repr(exc)), 5)


def decode_error(data):
    """The exception of a result, with the remote traceback as its __cause__."""
    from concurrent.futures.process import _RemoteTraceback

    pickled, text, shown = pickle.loads(data)
    cause = _RemoteTraceback(f'\n"""\n{text}"""')  # as the stdlib frames it
    exc = None
    if pickled is not None:
        try:
            exc = pickle.loads(pickled)
        except KeyboardInterrupt:  # the user's, most likely: the future stays as it is
            raise
        except BaseException as error:
            exc = error
    if not isinstance(exc, BaseException):
        exc = RuntimeError(f"the task raised {shown}, which cannot be pickled")
    exc.__cause__ = cause
    return exc


def safe_repr(o):
    """repr(o), or its type's name where repr fails."""
    try:
        return repr(o)
    except BaseException:
        return f"<{type(o).__name__}>"
