# loans.pxd - the parent's account of loans: see memory in csrc/.
#
# Loans:
# 1. A worker has one loan at most. It ends when a result comes that lies in it, with the next result, or with the worker.
# 2. Whenever a loan ends, the collector is rung if workers wait for one.
# 3. No function here runs user code.
# 4. What changes it takes the pool's lock; so the overflow, too, is guarded by that.

cdef struct Loan:         # the block of the overflow that a worker may write to
    uint64_t offset
    uint64_t bytes         # 0: there is none
    uint64_t request       # that it is the answer to

@cython.final
cdef class Loans:
    cdef Segment segment
    cdef Notifier notifier
    cdef Loan *of             # a worker
    cdef uint32_t count       # workers that have one
    cdef uint32_t *borrowers  # workers that wait for one, the first first
    cdef uint32_t n_borrowers
    # raw:
    cdef void forget(self) noexcept nogil
    cdef int lend(self, uint32_t w, uint64_t request, uint64_t bytes) noexcept nogil
    cdef Loan take(self, uint32_t w, uint64_t offset) noexcept nogil
    cdef void free(self, Loan *loan) noexcept nogil
    cdef inline void serve_soon(self) noexcept nogil
    cdef void worker_died(self, uint32_t w) noexcept nogil
    cdef void add_borrower(self, uint32_t w) noexcept nogil
    cdef void drop_borrower(self) noexcept nogil
    cdef bint check(self) noexcept nogil
    # raw, with the lock:
    cdef inline void end(self, Loan *loan) noexcept nogil
