# compact.pyx - how arguments and results become bytes without pickle: see compact.pxd.

cdef enum:
    MAX_DEPTH = 8     # of nested containers in the compact form; arbitrary


cdef inline Py_ssize_t encode_with(
        unsigned char *p, Py_ssize_t room, object o, Sharing *sharing, bint tallied, Stream *out) noexcept:
    cdef Encoder e
    cdef Py_ssize_t n
    c_assert(holds_no_lock())
    begin_seen(&e.seen, tallied)
    e.sharing = sharing
    e.out = out
    if sharing != NULL:
        sharing.shared = NULL
    # The arguments of a task are a tuple: encode_part() would look first for all else that they are not.
    n = encode_tuple(p, room, o, &e, 0) if PyTuple_CheckExact(o) else encode_part(p, room, o, &e, 0)
    if n < 0 and sharing != NULL:
        sharing.shared = NULL
    return n


cdef inline Py_ssize_t encode_value(
        unsigned char *p, Py_ssize_t room, object o, Sharing *sharing=NULL, bint measured=False) noexcept:
    """Writes the compact form of o.

    Args:
        sharing: Of the pool whose shared objects may be in it; NULL: there may be none.
        measured: compact_size() has looked at o before.

    Returns:
        Its length; NO_FORM or NO_ROOM.
    """
    return encode_with(p, room, o, sharing, room > MAX_AGAIN and not measured, NULL)


cdef Py_ssize_t encode_stream(rp_stream_head *head, unsigned char *p, Py_ssize_t n, object o, Sharing *sharing) noexcept:
    """encode_value() of a value of n bytes, as compact_size() has said, that may be read meanwhile: `head` says how far it
    is."""
    cdef Stream out
    out.begin = p
    out.head = head
    return encode_with(p, n, o, sharing, False, &out)


cdef inline Py_ssize_t compact_size(object o, Sharing *sharing=NULL) noexcept:
    """The length of the compact form, however long; NO_FORM if there is none."""
    return encode_value(NULL, PY_SSIZE_T_MAX, o, sharing)


cdef inline Py_ssize_t encode_or_measure(unsigned char *p, Py_ssize_t room, object o, Sharing *sharing=NULL) noexcept:
    """Writes the compact form of o if it fits.

    Returns:
        Its length. If that is more than `room`, what is written is of no account. Or NO_FORM.
    """
    cdef Py_ssize_t n = encode_value(p, room, o, sharing)
    if n == NO_ROOM:
        n = compact_size(o, sharing)
        if looks_again() and 0 <= n <= room:  # another thread has changed it, and it would fit now
            return NO_FORM
    return n


cdef inline Py_ssize_t encode_items(unsigned char *p, Py_ssize_t room, object o, int tag, Encoder *e, int depth) noexcept:
    """encode_value() for a tuple, or for a list that has been seen, and that no other thread changes meanwhile."""
    cdef Py_ssize_t n = PySequence_Fast_GET_SIZE(o), used = 2, size, k
    if n > 0xff or depth >= MAX_DEPTH:
        return NO_FORM
    if room < 2:
        return NO_ROOM
    if p != NULL:
        p[0] = tag
        p[1] = <unsigned char>n
    for k in range(n):
        # To look at an item that is a container may give up the lock of this list: then another thread may have changed it.
        if tag == TAG_LIST and looks_again() and PySequence_Fast_GET_SIZE(o) <= k:
            return NO_FORM
        size = encode_part(advance(p, used), room - used, <object>PySequence_Fast_GET_ITEM(o, k), e, depth + 1)
        if size < 0:
            return size
        used += size
    return used if tag == TAG_LIST or tally(&e.seen, o, used, HELD) else NO_FORM


cdef inline Py_ssize_t encode_tuple(unsigned char *p, Py_ssize_t room, object o, Encoder *e, int depth) noexcept:
    cdef Py_ssize_t n
    hold_item(o)
    n = encode_items(p, room, o, TAG_TUPLE, e, depth)
    let_item(o)
    return n


cdef inline Py_ssize_t encode_list(unsigned char *p, Py_ssize_t room, object o, Encoder *e, int depth) noexcept:
    cdef Py_ssize_t n
    cdef object_section section
    hold_item(o)
    begin_object(&section, o)
    n = encode_items(p, room, o, TAG_LIST, e, depth)
    end_object(&section)
    let_item(o)
    return n


cdef Py_ssize_t encode_dict(unsigned char *p, Py_ssize_t room, object o, Encoder *e, int depth) noexcept:
    """encode_part() of a dict, which no other thread changes meanwhile."""
    cdef Py_ssize_t n = PyDict_Size(o), used = 2, size = 0, k = 0, count = 0
    cdef PyObject *key
    cdef PyObject *value
    if n > 0xff or depth >= MAX_DEPTH or not note_mutable(&e.seen, <PyObject *>o):
        return NO_FORM
    if room < 2:
        return NO_ROOM
    if p != NULL:
        p[0] = TAG_DICT
        p[1] = <unsigned char>n
    while PyDict_Next(o, &k, &key, &value):
        count += 1
        size = encode_part(advance(p, used), room - used, <object>key, e, depth + 1)
        if size < 0:
            return size
        used += size
        size = encode_part(advance(p, used), room - used, <object>value, e, depth + 1)
        if size < 0:
            return size
        used += size
    return used if not looks_again() or count == n else NO_FORM


cdef Py_ssize_t encode_bytearray(unsigned char *p, Py_ssize_t room, object o, Encoder *e) noexcept:
    """encode_part() of a bytearray, which no other thread changes meanwhile."""
    cdef Py_ssize_t n = PyByteArray_GET_SIZE(o)
    if not note_mutable(&e.seen, <PyObject *>o):
        return NO_FORM
    if 9 + n > room:
        return NO_ROOM
    if p != NULL:
        p[0] = TAG_BYTEARRAY
        memcpy(p + 1, &n, 8)
        stream_out(e.out, p + 9, PyByteArray_AS_STRING(o), n)
    return 9 + n


cdef inline Py_ssize_t encode_part(unsigned char *p, Py_ssize_t room, object o, Encoder *e, int depth) noexcept:
    """encode_value() for a part of a value. p is NULL if it is only to be measured."""
    cdef long long i
    cdef double d
    cdef int overflow = 0
    if room < 1:
        return NO_ROOM
    if PyLong_CheckExact(o):
        i = PyLong_AsLongLongAndOverflow(o, &overflow)
        if overflow:
            return NO_FORM
        if room < 9:
            return NO_ROOM
        if p != NULL:
            p[0] = TAG_INT
            memcpy(p + 1, &i, 8)
        return 9
    if o is None or o is True or o is False:
        if p != NULL:
            p[0] = TAG_NONE if o is None else TAG_TRUE if o is True else TAG_FALSE
        return 1
    if PyFloat_CheckExact(o):
        if room < 9:
            return NO_ROOM
        if p != NULL:
            d = PyFloat_AS_DOUBLE(o)
            p[0] = TAG_FLOAT
            memcpy(p + 1, &d, 8)
        return 9
    return put_sized(p, room, o, e, depth)


cdef Py_ssize_t put_sized(unsigned char *p, Py_ssize_t room, object o, Encoder *e, int depth) noexcept:
    """encode_part() of what has a length, or may have no compact form."""
    cdef Py_ssize_t n, used, k
    cdef int width
    cdef object_section section
    if PyUnicode_CheckExact(o):
        n = PyUnicode_GET_LENGTH(o)
        width = PyUnicode_KIND(o)
        used = 4 if n <= 0xffff else 10
        if used + n * width > room:
            return NO_ROOM
        if not tally(&e.seen, o, used + n * width, 0):
            return NO_FORM
        if p != NULL:
            p[1] = 0 if PyUnicode_IS_ASCII(o) else <unsigned char>width
            put_length(p, TAG_STR, TAG_LONG_STR, 2, n)
            stream_out(e.out, p + used, PyUnicode_DATA(o), n * width)
        return used + n * width
    if PyBytes_CheckExact(o):
        n = PyBytes_GET_SIZE(o)
        used = 3 if n <= 0xffff else 9
        if used + n > room:
            return NO_ROOM
        if not tally(&e.seen, o, used + n, 0):
            return NO_FORM
        if p != NULL:
            put_length(p, TAG_BYTES, TAG_LONG_BYTES, 1, n)
            stream_out(e.out, p + used, PyBytes_AS_STRING(o), n)
        return used + n
    if PyTuple_CheckExact(o):
        return encode_tuple(p, room, o, e, depth)
    if PyList_CheckExact(o):
        return encode_list(p, room, o, e, depth) if note_mutable(&e.seen, <PyObject *>o) else NO_FORM
    if PyDict_CheckExact(o):
        hold_item(o)
        begin_object(&section, o)
        n = encode_dict(p, room, o, e, depth)
        end_object(&section)
        let_item(o)
        return n
    if PyByteArray_CheckExact(o):
        begin_object(&section, o)
        n = encode_bytearray(p, room, o, e)
        end_object(&section)
        return n
    if is_array(o):
        hold_item(o)
        n = encode_array(p, room, o, &e.seen, e.out)
        let_item(o)
        return n
    k = number_code(o)
    if k >= 0:
        return encode_number(p, room, o, k, &e.seen)
    if e.sharing != NULL:
        return encode_shared(p, room, o, e.sharing)
    return NO_FORM


cdef Py_ssize_t encode_shared(unsigned char *p, Py_ssize_t room, object o, Sharing *sharing) noexcept:
    cdef uint64_t where[3]
    if not (<Sender>sharing.client).address_of(o, where):
        return NO_FORM
    if sharing.shared != NULL and sharing.shared != <PyObject *>o:  # one can be noted
        return NO_FORM
    if room < 25:
        return NO_ROOM
    sharing.shared = <PyObject *>o
    if p != NULL:
        p[0] = TAG_SHARED
        memcpy(p + 1, where, 24)
    return 25


cdef inline unsigned char *advance(unsigned char *p, Py_ssize_t used) noexcept:
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


cdef inline object decode_value(Decoder *d, int depth):
    """Reads one compact value; ValueError if the bytes are not the compact form of anything."""
    cdef const unsigned char *p = d.cursor
    cdef Py_ssize_t left = d.end - p
    cdef unsigned char tag
    cdef long long i
    cdef double real
    if left < 1:
        raise ValueError("a compact value is truncated")
    if d.source != NULL:
        await_bytes(d.source, p, FORETOLD)
    tag = read_once8(p)
    if tag == TAG_INT and left >= 9:
        memcpy(&i, p + 1, 8)
        d.cursor = p + 9
        return PyLong_FromLongLong(i)
    if tag == TAG_NONE:
        d.cursor = p + 1
        return None
    if tag == TAG_TRUE:
        d.cursor = p + 1
        return True
    if tag == TAG_FALSE:
        d.cursor = p + 1
        return False
    if tag == TAG_FLOAT and left >= 9:
        memcpy(&real, p + 1, 8)
        d.cursor = p + 9
        return PyFloat_FromDouble(real)
    return get_sized(d, tag, depth)


cdef object get_sized(Decoder *d, unsigned char tag, int depth):
    """decode_value() of a value with that tag that has a length, or is malformed."""
    cdef const unsigned char *p = d.cursor
    cdef Py_ssize_t left = d.end - p, n, k
    cdef int width
    cdef object item, items
    cdef dict pairs
    if tag == TAG_STR and left >= 4:
        d.cursor = p + 4
        return decode_string(d, left - 4, read_once8(p + 1), read_once8(p + 2) | <Py_ssize_t>read_once8(p + 3) << 8)
    if tag == TAG_BYTES and left >= 3:
        n = read_once8(p + 1) | <Py_ssize_t>read_once8(p + 2) << 8
        if left - 3 >= n:
            d.cursor = p + 3 + n
            if d.source != NULL:
                await_bytes(d.source, p, 3 + n)
            return PyBytes_FromStringAndSize(<const char *>p + 3, n)
    if tag == TAG_TUPLE and left >= 2 and depth < MAX_DEPTH:
        n = read_once8(p + 1)
        items = PyTuple_New(n)
        d.cursor = p + 2
        for k in range(n):
            item = decode_value(d, depth + 1)
            Py_INCREF(item)
            PyTuple_SET_ITEM(items, k, item)
        return items
    if tag == TAG_LIST and left >= 2 and depth < MAX_DEPTH:
        n = read_once8(p + 1)
        d.cursor = p + 2
        items = []
        for k in range(n):
            items.append(decode_value(d, depth + 1))
        return items
    if tag == TAG_DICT and left >= 2 and depth < MAX_DEPTH:
        n = read_once8(p + 1)
        d.cursor = p + 2
        pairs = {}
        for k in range(n):
            item = decode_value(d, depth + 1)
            try:
                pairs[item] = decode_value(d, depth + 1)
            except TypeError:
                raise ValueError("a compact dict has an unhashable key") from None
        return pairs
    if tag == TAG_LONG_STR and left >= 10:
        width = read_once8(p + 1)
        d.cursor = p + 10
        return decode_string(d, left - 10, width, read_once64(p + 2))
    if (tag == TAG_LONG_BYTES or tag == TAG_BYTEARRAY) and left >= 9:
        n = read_once64(p + 1)
        if 0 <= n <= left - 9:
            d.cursor = p + 9 + n
            if tag == TAG_BYTEARRAY:
                item = PyByteArray_FromStringAndSize(NULL, n)
                stream_in(d.source, PyByteArray_AS_STRING(item), p + 9, n)
            else:
                item = PyBytes_FromStringAndSize(NULL, n)
                stream_in(d.source, PyBytes_AS_STRING(item), p + 9, n)
            return item
    if (tag == TAG_ARRAY and left >= 3) or (tag == TAG_NUMBER and left >= 2):
        return decode_array(&d.cursor, left, tag, d.source, d.imports)
    if tag == TAG_SHARED and left >= 25:
        d.cursor = p + 25
        if not d.shares:
            raise ValueError("a shared object was unpickled outside a task of its pool")
        return shared_at(read_once64(p + 1), read_once64(p + 9), read_once64(p + 17))
    raise ValueError("a compact value is malformed")


cdef object decode_string(Decoder *d, Py_ssize_t left, int code, Py_ssize_t n):
    """Reads n characters. They are copied once, and looked at in the copy."""
    cdef int width = code if code else 1
    cdef uint32_t most = 0x7f if code == 0 else 0xff if code == 1 else 0xffff if code == 2 else 0x10ffff
    cdef object text
    cdef void *data
    if code not in (0, 1, 2, 4) or n < 0 or n > left // width:
        raise ValueError("a compact string is malformed")
    if n == 0:
        return ""
    text = PyUnicode_New(n, most)
    data = PyUnicode_DATA(text)
    stream_in(d.source, data, d.cursor, n * width)
    d.cursor += n * width
    if not is_canonical(data, n, code):
        raise ValueError("a compact string has characters that are not of its width")
    return text


cdef inline object decode_last(Decoder *d):
    """Reads one compact value, which ends where the bytes do."""
    c_assert(holds_no_lock())
    value = decode_value(d, 0)
    if d.cursor != d.end:
        raise ValueError("there are bytes behind a compact value")
    return value


cdef inline int decode_items(Decoder *d, PyObject **items, uint32_t n, uint32_t *k) except -1:
    """Reads values into items[k] to items[n - 1]. What is there, up to k, are references that the caller is to drop, also if
    this raises."""
    c_assert(holds_no_lock())
    while k[0] < n:
        item = decode_value(d, 1)
        Py_INCREF(item)
        items[k[0]] = <PyObject *>item
        k[0] += 1
    return 0


cdef inline object decode_whole(const unsigned char *p, Py_ssize_t n, bint imports):
    """The value of n bytes, which is no stream and has no shared objects in it. It `imports` NumPy if it needs it, which
    runs user code, or raises NumPyIsNeeded."""
    cdef Decoder d = Decoder(cursor=p, end=p + n, source=NULL, shares=False, imports=imports)
    return decode_last(&d)
