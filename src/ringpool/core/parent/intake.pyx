# intake.pyx - see intake.pxd.


@cython.no_gc_clear
cdef class Intake:
    """Takes in results. Nothing that a worker has written is believed: one that sends what none of ours sends is suspect.

    All functions here may run user code, but only where nothing is half done: the __del__ of what a settled task called.
    """

    def __cinit__(self, Segment segment, TaskTable tasks, Staff staff, Loans loans, ResultMemory results,
                  Settlement settlement, Chunks chunks):
        self.segment = segment
        self.tasks = tasks
        self.staff = staff
        self.loans = loans
        self.results = results
        self.settlement = settlement
        self.chunks = chunks

    cdef inline uint64_t drain(self) noexcept:
        """Takes in every result that has arrived. How many there were."""
        cdef uint32_t w
        cdef uint64_t n = 0
        if not self.segment.serves():
            return 0
        for w in range(self.segment.pool.n_workers):
            n += self.drain_worker(w)
        return n

    cdef uint64_t drain_worker(self, uint32_t w) noexcept:
        cdef rp_ring *ring = &self.segment.pool.results[w]
        cdef rp_result *r
        cdef rp_result result
        cdef uint64_t n = 0
        while self.segment.is_mapped():
            self.segment.lock.acquire()
            r = <rp_result *>rp_ring_try_peek(ring)
            if r != NULL:
                # Copied out and released first: what take() lets go of may run user code, which may come back here.
                memcpy(&result, r, sizeof(rp_result))
                rp_ring_release(ring)
            elif rp_ring_uncommitted(ring):
                # Not only if n: user code that ran in take() may be here, and wait for a worker that waits for room.
                rp_pool_commit(&self.segment.pool, w)
            self.segment.lock.release()
            if r == NULL:
                break
            self.on_result(w, &result)
            self.loans.serve_soon()  # it may have been a loan, or the end of a request
            n += 1
        return n

    cdef void on_result(self, uint32_t w, rp_result *r) noexcept:
        """Settles the future that a result names. Nothing in *r is believed."""
        cdef PyObject *found
        cdef FutureBase future
        cdef Chunk chunk = None
        cdef int form
        cdef int collects
        cdef uint32_t kind = r.kind & KIND_MASK
        cdef bint pending
        cdef Loan loan
        self.segment.lock.acquire()
        found = self.tasks.find(r.task_id)
        if (found != NULL and type(<object>found) is Chunk
                and (kind == KIND_PART or kind == KIND_LAST or r.kind & KIND_ITEM)):
            chunk = <Chunk>found  # a reference: the table may hold the last other one
        self.segment.lock.release()
        loan.bytes = 0
        if self.loans.count:
            loan = self.loans.take(w, r.offset)
        if kind == KIND_START_ERROR and rp_has_started(rp_pool_worker_state(&self.segment.pool, w)):
            kind = KIND_MASK  # it comes too late to be one
        if found == NULL and kind != KIND_START_ERROR:
            self.strays += 1
            self.staff.mark_suspect(w)
            if loan.bytes:
                self.loans.free(&loan)
            elif r.offset:
                self.segment.lock.acquire()
                self.results.return_block(w, r.offset)
                self.segment.lock.release()
            return
        if chunk is not None:
            if kind == KIND_PART or kind == KIND_LAST:
                self.chunks.on_partial_result(w, chunk, r, kind, &loan)
            else:
                self.chunks.on_item_result(w, chunk, r, kind, &loan)
            return
        # While only this thread has the result, no other can get at it: no garbage is collected now, with a
        # __del__ that waits for just this one.
        collects = hold_gc()
        try:
            value = self.results.adopt(w, r, kind, &loan)
            if kind == KIND_VALUE:
                form = FORM_COMPACT if type(value) is ArenaResult else FORM_RESULT
            else:
                form = FORM_PICKLE if kind == KIND_VALUE_PICKLE else FORM_REPORT
        except Exception as error:
            value = error
            form = FORM_ERROR
            if not isinstance(error, MemoryError):
                self.staff.mark_suspect(w)
        if loan.bytes:
            self.loans.free(&loan)
        if kind == KIND_START_ERROR:
            let_gc(collects)
            try:
                self.start_error = decode_error(value)
            except BaseException as error:
                self.start_error = error
            return
        self.segment.lock.acquire()
        if looks_again():
            found = self.tasks.find(r.task_id)
        pending = not looks_again() or found != NULL
        if pending:
            future = <FutureBase>found
            self.settlement.settle(future, form, value)
        self.segment.lock.release()
        if pending:
            future.ended()
        let_gc(collects)
        if pending:
            future.drop_call()
