# chunk_account.pyx - see chunk_account.pxd.


@cython.no_gc_clear  # an iterator that is cleared with it may still write to it
cdef class ChunkAccount:
    """Which batches of one pool have unsent items, and how many chunks are under way."""

    def __cinit__(self, TaskTable tasks, Notifier notifier):
        self.tasks = tasks
        self.notifier = notifier
        self.batches = []

    cdef int add_unsent(self, object batch) except -1:
        """This batch has items to send now."""
        self.batches.append(batch)
        self.tasks.batch_waits()
        return 0

    cdef void remove_unsent(self, object batch) noexcept:
        """This batch has none any more."""
        self.batches.remove(batch)
        self.tasks.batch_sent()

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
        self.tasks.lock.acquire()
        self.n_chunks += 1
        self.notifier.need(NEED_CHUNKS, True)
        self.tasks.lock.release()

    cdef void chunk_done(self) noexcept nogil:
        """A chunk is done. If none is left, workers need not ring on account of chunks."""
        self.tasks.lock.acquire()
        self.n_chunks -= 1
        self.notifier.need(NEED_CHUNKS, self.n_chunks > 0)
        self.tasks.lock.release()

    cdef bint check(self) noexcept:
        """For the debug build: the task table counts these batches, and workers ring for results while chunks are under way."""
        return self.n_unsent() == self.tasks.unsent and ((self.notifier.needs & NEED_CHUNKS) != 0) == (self.n_chunks > 0)
