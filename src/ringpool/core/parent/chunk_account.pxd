# chunk_account.pxd - which batches have items left to send, and how many chunks are under way, in one pool.
#
# The one thing that batches and the pool share: a Batch writes down here what it does, other parts ask.
#
# Guarantees: a batch is in the list exactly while some of its items are encoded and not sent; `n_chunks` is the sum of the
# batches' chunks under way, which changes under the pool's lock. The list is changed by C code alone, with the GIL held.
# Not: it does not know what a batch is, and sends nothing.
#
# No function runs user code. The only one that creates an object is waiting().

@cython.final
cdef class ChunkAccount:
    cdef TaskTable tasks
    cdef Notifier notifier
    cdef list batches       # those with items that are encoded and not sent
    cdef rp_thread_word n_chunks  # that are under way
    # raw:
    cdef void chunk_added(self) noexcept nogil
    cdef void chunk_done(self) noexcept nogil
    # quiet:
    cdef void remove_unsent(self, object batch) noexcept
    cdef inline uint64_t n_unsent(self) noexcept
    cdef object unsent(self, uint64_t i)
    cdef bint check(self) noexcept
    # open:
    cdef int add_unsent(self, object batch) except -1
    cdef tuple waiting(self)
