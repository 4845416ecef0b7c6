# chunk_list.pxd - the chunks of a batch, for the reader of the results.
#
# The chunks are linked in the order of their items. In a map, that is the order of the results, and a chunk leaves when it is
# read. If results are read as they come, or by futures, or not at all, a chunk leaves when it is done; in the first case it
# waits in `completed` to be read.
#
# Guarantees: at any time, each item that has been sent and is not done is in one chunk of the list.
# Not: it sends and cancels nothing, and does not wait; a chunk is settled elsewhere.
#
# open:  detach_reader(), which drops chunks with what they hold
# quiet: the others

@cython.final
cdef class ChunkList:
    cdef Notifier notifier
    cdef Chunk first, last
    cdef object completed    # chunks that are done and not read, if they are read as they come; else None
    cdef FutureBase awaited  # settled when another is done; None if no thread waits for that
    cdef bint unread         # the results will not be read
    # quiet:
    cdef bint check(self) noexcept
    cdef bint is_unordered(self) noexcept
    cdef bint is_empty(self) noexcept
    cdef void append(self, Chunk chunk) noexcept
    cdef void insert(self, Chunk rest, Chunk chunk) noexcept
    cdef void remove(self, Chunk chunk) noexcept
    cdef bint announce(self, FutureBase awaited) noexcept
    cdef bint chunk_done(self, Chunk chunk) noexcept
    cdef void wake_reader(self) noexcept
    cdef Chunk find(self, uint64_t index)
    # open:
    cdef int read_unordered(self) except -1
    cdef Chunk pop(self)
    cdef Chunk pop_completed(self)
    cdef void detach_reader(self) noexcept

# open:
cdef ChunkList new_chunk_list(Notifier notifier)
