# compact.pxd - how arguments and results become bytes without pickle.
#
# None, bool, int, float, str, bytes and bytearray, NumPy's numbers and its arrays of numbers, and tuples, lists and dicts of
# these have a compact form that needs no pickle and no Python code. It is written into a block, a slot of a worker's ring, or
# a buffer on the stack, from which arguments go into the slot of their task; it is read where it lies. Everything else is a
# pickle: see pickles.pxd. So is a value in which one list, dict or bytearray occurs twice: the receiver is to see that it is
# one. And so is one in which a string or a tuple recurs so often that the compact form, which has no memo, would be much
# longer for it. The bytes and the tags: see csrc/wire.h.
#
# Guarantees: to encode runs no Python code, creates no object and drops none. A reader looks once at each tag and length,
# checks it against the end, and looks at characters when it has copied them: the bytes may be a wild worker's, which writes
# them while they are read. It takes any bytes for a value or raises ValueError. Does not guarantee that a value that was
# measured has its size still when it is put: another thread may have changed it, once the GIL was given up.
#
# All that an encoder or a decoder knows is in the Encoder or Decoder of its call, so user code that runs in between may use
# another. User code may run in what is `open` here.

cdef struct Sharing:      # of shared objects, while arguments are encoded
    PyObject *client      # the Sender whose there may be among them
    PyObject *shared      # out: the one that is, or NULL

cdef struct Encoder:
    Seen seen
    Sharing *sharing      # or NULL: there can be no shared objects
    Stream *out           # that the value is, or NULL

cdef struct Decoder:
    const unsigned char *cursor  # what is read next
    const unsigned char *end
    Stream *source        # that the value is, or NULL
    bint shares           # it is of arguments: there may be shared objects
    bint imports          # NumPy, if an array comes and the program does not use it yet

# quiet:
cdef inline Py_ssize_t encode_value(unsigned char *p, Py_ssize_t room, object o, Sharing *sharing=*, bint measured=*) noexcept
cdef Py_ssize_t encode_stream(rp_stream_head *head, unsigned char *p, Py_ssize_t n, object o, Sharing *sharing) noexcept
cdef Py_ssize_t encode_or_measure(unsigned char *p, Py_ssize_t room, object o, Sharing *sharing=*) noexcept
cdef Py_ssize_t compact_size(object o, Sharing *sharing=*) noexcept
# open; decode_whole() runs no user code while no garbage is collected, unless it `imports`:
cdef inline int decode_items(Decoder *d, PyObject **items, uint32_t n, uint32_t *k) except -1
cdef inline object decode_last(Decoder *d)
cdef inline object decode_whole(const unsigned char *p, Py_ssize_t n, bint imports)
