# compact.pyx - how arguments and results become bytes.
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
    MAX_DEPTH = 8     # of nested containers in the compact form; arbitrary


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
