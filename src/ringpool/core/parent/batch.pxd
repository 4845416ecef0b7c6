# batch.pxd - what one call of map or submit_many calls, and what comes of it.
#
# Its items are encoded one after the other, and go to the workers in *chunks*: one task each, which takes a worker about two
# milliseconds, judged by the items before. Only a few chunks are under way at a time, so the size follows the items. When
# nothing is left to send, a worker without work gets half of what lies before a busy one.
#
# The results of a batch are read through an iterator (map: see results.pyx), or each through a future of its own
# (submit_many).
#
# A Batch knows the function, and what is true of its items as a whole; its parts do the rest, and know nothing of each other
# but that pages ask for the large items, and a chunk asks for these and for the futures while it is encoded:
#
#   ItemPages    the items that have not been sent
#   LargeItems   those that lie apart, until they are done
#   Pacing       how many items the next chunk has
#   ChunkList    the chunks, for the reader
#   ItemFutures  of submit_many
#
#   add() --> pages --> next_chunk() --> the pool --> chunk_done() --> the reader, or the futures
#
# Guarantees: item i is in the pages if i >= `sent`, else in one chunk; each is answered once, in the results or by its future.
# Not: it sends nothing itself, which the pool does when there is room; it does not wait.
#
# open:  encode_function(), add(), yield_to_threads(); record(), settle_from_tray() and next_chunk(), unless the caller holds
#        the garbage collector; detach_reader(), which drops results
# quiet: the others

cdef enum:             # what is due when an item has been added: the workers must not wait for all items
    NOTHING_DUE = 0
    CHUNKS_DUE = 1     # are to be sent, if not enough are under way
    RESULTS_DUE = 2    # are to be looked for, and then chunks to be sent

@cython.final
cdef class Batch(ChunkOwner):
    cdef Pool client           # given to futures and to the codec; not called here
    cdef Segment segment
    cdef Gate gate
    cdef Staff staff
    cdef FunctionTable functions
    cdef Notifier notifier
    cdef ArgumentMemory arguments
    cdef Settlement settlement
    cdef ChunkAccount account  # the pool's
    cdef object fn
    cdef FunctionEntry entry
    cdef bytes function    # its pickle, if it goes with each chunk; else empty
    cdef Options options
    cdef dict errors       # index -> why the item could not be encoded; None if all could
    cdef dict shared       # id -> a shared object, or what else the arguments refer to; None if there is none
    cdef ItemPages pages
    cdef LargeItems large     # None until there is one
    cdef Pacing pacing
    cdef ChunkList chunks
    cdef ItemFutures futures  # None if the results are read through an iterator
    cdef uint64_t encoded  # items so far
    cdef uint64_t sent     # items so far
    cdef uint64_t unsent   # items in the pages: encoded - sent, or 0 once the rest has been cancelled
    cdef uint64_t finished # items of chunks that are done
    cdef uint64_t counted  # items of which it has been said that they are done
    cdef bint reading      # more items are being read
    cdef uint64_t yield_ns # when other threads last had a chance while items were read
    cdef bint cut_short    # some will not be sent
    cdef object failure    # makes the exception that says why, if they have not been cancelled
    # quiet:
    cdef void begin_items(self) noexcept
    cdef void end_items(self) noexcept
    cdef bint wants_drain(self) noexcept
    cdef void release(self, uint64_t index) noexcept
    cdef inline bint is_sent(self, uint64_t index) noexcept
    cdef inline bint has_large(self) noexcept
    cdef inline bint has_gaps(self) noexcept
    cdef bint is_full(self) noexcept
    cdef bint has_chunk(self) noexcept
    cdef bint may_send(self) noexcept
    cdef bint is_idle(self) noexcept
    cdef bint holds_unsent(self) noexcept
    cdef bint sizes_chunks(self) noexcept
    cdef void chunk_added(self) noexcept
    cdef bint check(self) noexcept
    cdef void settle_futures(self, Chunk chunk) noexcept
    cdef uint64_t count_done(self, uint64_t begun) noexcept
    cdef void cancel_item(self, FutureBase item) noexcept
    cdef void cancel_unsent(self, object failure=*) noexcept
    # open:
    cdef encode_function(self)
    cdef int begin_futures(self) except -1
    cdef int add_future(self, FutureBase future) except -1
    cdef int yield_to_threads(self) except -1
    cdef int add(self, tuple args) except -1
    cdef int add_slowly(self, tuple args) except -1
    cdef bytes encode_large(self, tuple args, int *kind)
    cdef int count_in(self) except -1
    cdef keep_all(self, Parcel parcel)
    cdef keep(self, object shared)
    cdef Chunk next_chunk(self)
    cdef void settle_from_tray(self, Chunk chunk, uint32_t n, object source) noexcept
    cdef record(self, uint64_t index, int kind, const unsigned char *p, Py_ssize_t n, int *form)
    cdef void detach_reader(self) noexcept
