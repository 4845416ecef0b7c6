# results.pxd - the iterator that map returns.
#
# It reads items, as far ahead as the user allows, hands them to its batch, and gives their results.
#
# Guarantees: one thread reads at a time, another is told so. Once it has raised anything, or has been closed, it is at its end,
# and what no worker has begun is cancelled; if it was never read, all is run.
# Not: it keeps no result that has been given, and cannot go back.
#
# All functions may run user code: that of the items, of what is decoded, of the meter.

cdef enum:
    AUTO = -1             # a buffersize

@cython.final
cdef class Results:
    cdef Client client
    cdef PoolLock lock    # of which only the engine is used: the batch's state is there
    cdef Batch batch
    cdef object owner, items
    cdef int64_t buffersize
    cdef uint64_t released  # items whose results have been, or are being, read
    cdef object deadline
    cdef object meter
    cdef object failure   # why the function cannot be sent
    cdef bint running     # __next__ is under way
    cdef bint begun       # it has been
    cdef uint64_t shown_ns # when the meter was last given a chance while items were read
    cdef bytes tray
    cdef Py_ssize_t at
    cdef uint32_t left
    cdef uint64_t index     # of its next item
    cdef ArenaResult alone  # or the one result, if it came by itself
    cdef int form           # of that
    # open:
    cdef inline int begin_reading(self) except -1
    cdef read(self, Chunk coming)
    cdef decode(self, int kind, const unsigned char *p, Py_ssize_t n)
    cdef next_tray(self)
    cdef Chunk next_chunk(self)
    cdef Chunk nothing_left(self)
    cdef wait(self, FutureBase future)
    cdef end(self)
