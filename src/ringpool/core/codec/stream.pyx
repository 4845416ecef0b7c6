# stream.pyx - values that are read while they are written.
#
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
