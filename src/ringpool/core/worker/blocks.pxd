# blocks.pxd - where a worker's results lie that are too large for a slot of its ring.
#
# For: the outbox and the tray. A block is of the worker's own arena or, where that has none, a loan (see "Loans" in memory.h).
# Guarantees: a block that find() gives may be written to by this process. A wait here for memory or for a loan ends with a
# block, without one (0) when there can be none, or with what a signal handler raises: then nothing has been taken. The clock
# of the task does not run while it waits.
# Does not: free what has been published: that is the parent's. A loan does not outlast the next result or request, and
# free() leaves it alone.
# May run user code: find(), find_own(), find_spare(), spread(), wait(): handlers of signals; no_room(): none but to make the
# exception.

@cython.final
cdef class ResultBlocks:
    cdef rp_worker *pool
    cdef WorkerHold hold  # keeps the pool
    cdef uint64_t spare   # a tray's block while that is empty: it is freed before the worker waits for memory. 0: none
    # raw:
    cdef void free(self, uint64_t offset) noexcept nogil
    cdef void free_spare(self) noexcept nogil
    cdef inline void take_spare(self) noexcept nogil
    cdef inline void put_spare(self, uint64_t offset) noexcept nogil
    cdef bint is_loan(self, uint64_t offset) noexcept nogil
    cdef uint64_t most(self) noexcept nogil
    cdef bint could_fit(self, uint64_t n) noexcept nogil
    # open:
    cdef uint64_t find(self, uint64_t n) except? 0
    cdef uint64_t find_own(self, uint64_t n) except? 0
    cdef uint64_t find_spare(self, uint64_t n) except? 0
    cdef uint64_t borrow(self, uint64_t n) except? 0
    cdef uint64_t spread(self, object parcel) except? 0
    cdef bint wait(self, int err) except -1
    cdef object no_room(self, uint64_t n)
