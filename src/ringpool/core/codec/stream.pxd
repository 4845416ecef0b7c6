# stream.pxd - values that are read while they are written; and copies of large pieces.
#
# Long strings, bytes and arrays are copied twice, once by each side. So that the two copies do not add up, a task with such
# arguments is published first and written then, and the worker reads what has been written: a *stream*. The parent stores
# how much that is ("written" to "read": the bytes are there before they count). It holds the GIL from the publication to the
# last byte, so nothing can become of the task meanwhile that would free the block; if it dies, so does the worker, by its
# guard. Where the worker may take the processor from the parent, nothing is streamed, nor where there is no GIL. (64 KB in:
# 9 us, not 12. 16 MB: 85% of the speed of a bare copy, not 45.)
#
# Guarantees: a reader never reads what has not been written. Does not: end, if the writer lives and does not go on. A Stream
# belongs to one call at each end, and is no global: code of the user's that encodes or decodes in between has none. No
# function runs user code.

cdef enum:
    LEAST_STREAM = 32768   # bytes; less is written before a worker that is awake has seen the task
    PIECE = 16384          # bytes that are written between two stores, and what a reader lags behind
    FORETOLD = 320         # bytes: no tag, with its lengths and dimensions, is longer
    ALWAYS_MAPPED = 33554432  # bytes: malloc() of the C library takes nothing larger from its heap. See mallopt(3)

cdef struct Stream:
    const unsigned char *begin   # of the value
    const unsigned char *end     # of the reader's
    rp_stream_head *head
    uint64_t seen                # by the reader

# raw:
cdef void stream_out(Stream *out, unsigned char *to, const void *source, Py_ssize_t n) noexcept nogil
cdef void await_bytes(Stream *source, const unsigned char *p, Py_ssize_t n) noexcept nogil
cdef void stream_in(Stream *source, void *to, const unsigned char *p, Py_ssize_t n) noexcept nogil
cdef void prepare(void *p, Py_ssize_t n) noexcept nogil
