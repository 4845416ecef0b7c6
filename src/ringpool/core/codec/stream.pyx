# stream.pyx - values that are read while they are written: see stream.pxd.

cdef inline void stream_out(Stream *out, unsigned char *to, const void *source, Py_ssize_t n) noexcept nogil:
    """memcpy() of a part of a value, which may be a stream; NULL: it is none."""
    cdef Py_ssize_t at = 0, piece
    if out == NULL or n < PIECE:
        memcpy(to, source, n)
        return
    while at < n:
        piece = min(n - at, <Py_ssize_t>PIECE)
        memcpy(to + at, <const char *>source + at, piece)
        at += piece
        rp_store_release(&out.head.written, to + at - out.begin)
        RP_STEP(b"stream: written")


cdef inline void await_bytes(Stream *source, const unsigned char *p, Py_ssize_t n) noexcept nogil:
    """Waits until n bytes at p, or all that there will be, have been written."""
    cdef uint64_t want = min(p + n, source.end) - source.begin
    if source.seen < want:
        RP_STEP(b"stream: waits")
        source.seen = rp_pool_await_bytes(&source.head.written, want)


cdef inline void prepare(void *p, Py_ssize_t n) noexcept nogil:
    """Asks for huge pages for memory of an object that has just been made. The C library maps so large a piece anew each
    time, and to touch its pages one by one would cost several times as much as to copy into them."""
    cdef uint64_t begin = whole_pages(<uint64_t>p), end = (<uint64_t>p + n) & ~(RP_PAGE - 1)
    if n >= ALWAYS_MAPPED:
        rp_os_ask_huge(<void *>begin, end - begin, True)


cdef inline void stream_in(Stream *source, void *to, const unsigned char *p, Py_ssize_t n) noexcept nogil:
    """memcpy() of a part of a value, which may be a stream, as it comes; NULL: it is none."""
    cdef Py_ssize_t at = 0, piece
    prepare(to, n)
    if source == NULL:
        memcpy(to, p, n)
        return
    while at < n:
        piece = min(n - at, <Py_ssize_t>PIECE)
        await_bytes(source, p + at, piece)
        memcpy(<char *>to + at, p + at, piece)
        at += piece
