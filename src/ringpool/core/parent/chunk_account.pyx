# chunk_account.pyx - which batches have items left to send, and how many chunks are under way, in one pool.
#
# The one thing that batches and the pool share: a Batch writes down here what it does, other parts ask.
#
# Guarantees: a batch is in the list exactly while some of its items are encoded and not sent; `n_chunks` is the sum of the
# batches' chunks under way. It is changed by C code alone, with the GIL held, so no thread sees one without the other.
# Not: it does not know what a batch is, and sends nothing.
#
# No function runs user code. The only one that creates an object is waiting().


@cython.final
@cython.no_gc_clear  # an iterator that is cleared with it may still write to it
cdef class ChunkAccount:
    """Which batches of one pool have unsent items, and how many chunks are under way."""

    cdef TaskTable tasks
    cdef Notifier notifier
    cdef list batches       # those with items that are encoded and not sent
    cdef uint64_t n_chunks  # that are under way

    def __cinit__(self, TaskTable tasks, Notifier notifier):
        self.tasks = tasks
        self.notifier = notifier
        self.batches = []

    cdef int add_unsent(self, object batch) except -1:
        """This batch has items to send now."""
        self.batches.append(batch)
        self.tasks.unsent += 1
        return 0

    cdef void remove_unsent(self, object batch) noexcept:
        """This batch has none any more."""
        self.batches.remove(batch)
        self.tasks.unsent -= 1

    cdef inline uint64_t n_unsent(self) noexcept:
        """How many batches have items to send."""
        return <uint64_t>PyList_GET_SIZE(self.batches)

    cdef object unsent(self, uint64_t i):
        """The i-th of these batches, of n_unsent()."""
        return <object>PyList_GET_ITEM(self.batches, i)

    cdef tuple waiting(self):
        """All of these batches."""
        return tuple(self.batches)

    cdef void chunk_added(self) noexcept nogil:
        """A chunk is under way: workers ring for results."""
        self.n_chunks += 1
        self.notifier.need(NEED_CHUNKS, True)

    cdef void chunk_done(self) noexcept nogil:
        """A chunk is done. If none is left, workers need not ring on account of chunks."""
        self.n_chunks -= 1
        self.notifier.need(NEED_CHUNKS, self.n_chunks > 0)
