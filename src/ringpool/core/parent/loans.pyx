# loans.pyx - see loans.pxd.


@cython.no_gc_clear
cdef class Loans:
    """Which worker has which block of the overflow, and which workers wait for one."""

    def __cinit__(self, Segment segment, Notifier notifier):
        self.segment = segment
        self.notifier = notifier
        self.of = <Loan *>PyMem_RawCalloc(segment.pool.n_workers, sizeof(Loan))
        self.borrowers = <uint32_t *>PyMem_RawCalloc(segment.pool.n_workers, sizeof(uint32_t))
        if self.of == NULL or self.borrowers == NULL:
            raise MemoryError()

    def __dealloc__(self):
        PyMem_RawFree(self.of)
        PyMem_RawFree(self.borrowers)

    cdef void forget(self) noexcept nogil:
        """In a forked child, which has no workers."""
        self.count = self.n_borrowers = 0

    cdef int lend(self, uint32_t w, uint64_t request, uint64_t bytes) noexcept nogil:
        """Answers worker w's request with a block of the overflow. 0, or -ENOMEM if there is none."""
        cdef int err
        self.segment.lock.acquire()
        err = rp_pool_lend(&self.segment.pool, w, request, bytes, &self.of[w].offset)
        if err == 0:
            self.of[w].bytes = bytes
            self.of[w].request = request
            self.count += 1
        self.segment.lock.release()
        return err

    cdef Loan take(self, uint32_t w, uint64_t offset) noexcept nogil:
        """Worker w's loan ends, with a result at this offset or, for 0, without one. It is freed if it lies elsewhere, and
        else is the caller's."""
        cdef Loan loan
        self.segment.lock.acquire()
        loan = self.of[w]
        if loan.bytes:
            self.of[w].bytes = 0
            self.count -= 1
            if loan.offset != offset:
                self.end(&loan)
        self.segment.lock.release()
        return loan

    cdef void free(self, Loan *loan) noexcept nogil:
        self.segment.lock.acquire()
        self.end(loan)
        self.segment.lock.release()

    cdef inline void end(self, Loan *loan) noexcept nogil:
        if loan.bytes and self.segment.serves():
            rp_pool_end_loan(&self.segment.pool, loan.offset)
            self.serve_soon()
        loan.bytes = 0

    cdef inline void serve_soon(self) noexcept nogil:
        """There may be room now, or some can be made."""
        if self.n_borrowers:
            self.notifier.ring()

    cdef void worker_died(self, uint32_t w) noexcept nogil:
        """Its loan ends. It may have been the first of those that wait: the collector then turns to the next."""
        self.take(w, 0)
        self.serve_soon()

    cdef void add_borrower(self, uint32_t w) noexcept nogil:
        cdef uint32_t i = 0
        self.segment.lock.acquire()
        while i < self.n_borrowers and self.borrowers[i] != w:  # else for a request that it has given up
            i += 1
        if i == self.n_borrowers:
            self.borrowers[i] = w
            self.n_borrowers += 1
            self.notifier.need(NEED_LOANS, True)
        self.segment.lock.release()

    cdef void drop_borrower(self) noexcept nogil:
        """Removes the first of those that wait, which has been answered."""
        cdef uint32_t i
        self.segment.lock.acquire()
        self.n_borrowers -= 1
        for i in range(self.n_borrowers):
            self.borrowers[i] = self.borrowers[i + 1]
        self.notifier.need(NEED_LOANS, self.n_borrowers > 0)
        self.segment.lock.release()

    cdef bint check(self) noexcept nogil:
        """For the debug build: `count` workers have a loan, each borrower is one worker's and waits once, and workers ring for
        results while there are borrowers."""
        cdef uint32_t i, j, n = 0
        for i in range(self.segment.pool.n_workers):
            n += self.of[i].bytes != 0
        for i in range(self.n_borrowers):
            if self.borrowers[i] >= self.segment.pool.n_workers:
                return False
            for j in range(i):
                if self.borrowers[j] == self.borrowers[i]:
                    return False
        return self.count == n and ((self.notifier.needs & NEED_LOANS) != 0) == (self.n_borrowers > 0)
