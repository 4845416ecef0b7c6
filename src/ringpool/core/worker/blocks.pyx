# blocks.pyx - see blocks.pxd.

@cython.no_gc
cdef class ResultBlocks:
    """Memory for results that are too large for a slot."""

    def __cinit__(self, WorkerHold hold):
        self.hold = hold
        self.pool = &hold.pool

    cdef uint64_t find(self, uint64_t n) except? 0:
        """A block of this worker's arena, or a loan; 0 if neither is available."""
        cdef uint64_t offset = self.find_own(n)
        return offset if offset else self.borrow(n)

    cdef uint64_t find_own(self, uint64_t n) except? 0:
        """A block of this worker's arena, waiting for the parent to give some back if need be; 0 if there never is one."""
        cdef uint64_t offset
        cdef int err
        while True:
            err = rp_pool_alloc(self.pool, n, &offset)
            if err == 0:
                return offset
            if not self.wait(err):
                return 0

    cdef uint64_t find_spare(self, uint64_t n) except? 0:
        """A block of this worker's arena for an empty tray, in the place of the spare one, as find_own() does."""
        self.free_spare()
        self.spare = self.find_own(n)
        return self.spare

    cdef uint64_t spread(self, object parcel) except? 0:
        """Finds blocks for a Parcel, as find() does. The one that leads to the others, or 0."""
        cdef Parcel own = parcel
        cdef uint64_t offset
        cdef int err
        while True:
            rp_pool_take_returns(self.pool)
            err = own.spread(&self.pool.arena)
            if err == 0:
                return own.block
            if not self.wait(err):
                offset = self.borrow(own.within(0) + LARGE_BUFFER)
                if offset:
                    own.within(offset)
                return offset

    cdef uint64_t borrow(self, uint64_t n) except? 0:
        """A block of the overflow, until the next result or request: see "Loans" in memory.h. 0 if none is available."""
        cdef uint64_t offset = 0
        cdef int err = -EAGAIN
        if n > self.pool.sizes.overflow_quota:
            return 0
        rp_pool_stop_clock(self.pool)  # it is not the task that takes the time
        rp_pool_ask_loan(self.pool, n)
        try:
            while err == -EAGAIN or err == -EINTR:
                with nogil:
                    err = rp_pool_await_loan(self.pool, &offset)
                PyErr_CheckSignals()
        except BaseException:
            rp_pool_give_up_loan(self.pool)
            raise
        if err:
            self.pool.segment.refused = 0  # it is memory that is wanting
            return 0
        if rp_pool_block(self.pool, RP_OVERFLOW(self.pool.n_workers), offset, n) == NULL:
            return 0
        RP_STEP(b"worker: loan")
        return offset

    cdef bint wait(self, int err) except -1:
        """After an allocation that has failed: waits until another may succeed; False if none ever does."""
        cdef int rc
        cdef uint64_t used
        if self.spare:
            self.free_spare()
            return True
        used = self.pool.arena.used_blocks
        if err != -ENOMEM or used == 0:
            return False
        rp_pool_stop_clock(self.pool)  # it is not the task that takes the time
        with nogil:
            rc = rp_pool_wait_memory(self.pool)
        PyErr_CheckSignals()
        return rc != 1 or self.pool.arena.used_blocks != used

    cdef void free(self, uint64_t offset) noexcept nogil:
        cdef uint64_t n
        rp_arena_free(&self.pool.arena, offset, &n)  # refuses a loan, which ends by itself

    cdef void free_spare(self) noexcept nogil:
        """Gives the block of an empty tray back. The parent is not to look for results there any more."""
        cdef uint64_t offset = self.spare
        if offset:
            self.spare = 0
            rp_pool_take_tray(self.pool, 0, 0, 0)
            self.free(offset)

    cdef inline void take_spare(self) noexcept nogil:
        """The tray has results, or the parent has its block: it is not to be freed."""
        self.spare = 0

    cdef inline void put_spare(self, uint64_t offset) noexcept nogil:
        """The tray in this block is empty again."""
        self.spare = offset

    cdef bint is_loan(self, uint64_t offset) noexcept nogil:
        return rp_pool_within(self.pool, RP_OVERFLOW(self.pool.n_workers), offset, 0)

    cdef uint64_t most(self) noexcept nogil:
        """Bytes that a result may take if nothing else does."""
        return max(self.pool.arena.quota, self.pool.sizes.overflow_quota)

    cdef bint could_fit(self, uint64_t n) noexcept nogil:
        return n <= self.most()

    cdef object no_room(self, uint64_t n):
        """The error of a result of n bytes for which no block was found."""
        if self.could_fit(n) and self.pool.segment.refused:
            return no_address(&self.pool.segment, n)
        if not self.could_fit(n):
            return MemoryError(
                f"the result takes {n} bytes, more than the {self.most()} bytes of shared memory that this pool has "
                "for a result (see shared_memory_limit)")
        return MemoryError(
            f"cannot allocate {n} bytes for the result: arrays of earlier results, which the program still uses, take "
            f"too much of the {self.pool.arena.quota} bytes of shared memory for the results of a worker, and of the "
            f"{self.pool.sizes.overflow_quota} for larger ones (see shared_memory_limit)")
