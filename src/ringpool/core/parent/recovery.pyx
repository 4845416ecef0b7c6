# recovery.pyx - see recovery.pxd.


@cython.no_gc_clear
cdef class Recovery:
    """Takes in what dead workers left, and finds the tasks that no worker has. All functions here may run user code.

    The order within begin() is law: results in the ring before chunks, for a chunk's account is cleared with the worker's
    entry; chunks before the arena is given away, for their results lie there; the entry last.
    """

    def __cinit__(self, Segment segment, TaskTable tasks, Staff staff, Loans loans, ResultMemory results,
                  ArgumentMemory arguments, Settlement settlement, Outbox outbox, Chunks chunks, Intake intake):
        self.segment = segment
        self.tasks = tasks
        self.staff = staff
        self.loans = loans
        self.results = results
        self.arguments = arguments
        self.settlement = settlement
        self.outbox = outbox
        self.chunks = chunks
        self.intake = intake

    cdef tuple begin(self, uint32_t w):
        """Takes in what a dead worker left, and makes its place ready for another. end() follows. See Client.begin_recovery."""
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        return self.take_remains(w)

    cdef tuple take_remains(self, uint32_t w):
        """begin(), in the engine."""
        cdef uint32_t state = rp_pool_worker_state(&self.segment.pool, w)
        cdef uint64_t ids[3]
        cdef uint32_t n, i
        cdef FutureBase found
        lost = []
        # First: the recovery clears what the worker has noted of itself, and once it is done nothing may fail.
        remains = lost, state != RP_ABSENT, state == RP_RETIRED, rp_pool_peak_rss(&self.segment.pool, w)
        cdef uint32_t arena = self.segment.pool.arena_of[w]
        self.intake.drain_worker(w)
        ids[2] = rp_pool_chunk_of(&self.segment.pool, w)  # first, for what it has left of that is there until recover()
        found = self.tasks.get(ids[2])
        if type(found) is Chunk:
            self.collect_lost(w, found, lost)
        self.results.vacate(w)
        self.loans.worker_died(w)
        self.results.pending_returns[w].clear()
        n = rp_pool_recover(&self.segment.pool, w, ids)
        for i in range(n):
            found = self.tasks.get(ids[i])
            if found is not None and ids[i] != ids[2]:
                self.collect_lost(w, found, lost)
        try:
            self.results.clear_but_for_blocks(arena)
        except MemoryError:  # then it stays a while
            pass
        for future in self.orphaned():
            self.collect_lost(w, <FutureBase>future, lost)
        self.staff.clear_suspect(w)
        self.arguments.worker_died(w)
        return remains

    cdef collect_lost(self, uint32_t w, FutureBase future, list lost):
        """Worker w has died with this task. Of a chunk, that is one item at most."""
        cdef uint64_t task_id = future.task_id
        cdef FutureBase found
        cdef int collects
        if type(future) is Chunk:
            collects = hold_gc()
            try:
                future = self.chunks.recover_chunk(w, <Chunk>future)
            except MemoryError as error:
                found = self.tasks.get(task_id)  # what has not been recovered
                if found is not None:
                    self.settlement.fail(found, error)
                return
            finally:
                let_gc(collects)
        if future is not None and future not in lost:
            if type(future.value) is Parcel:
                self.arguments.force_release(<Parcel>future.value, w)
            elif type(future) is Chunk:
                (<Chunk>future).worker_died(w)
            future.mark_lost()
            lost.append(future)

    cdef bint retry(self, FutureBase future) except -1:
        """Sends a task anew whose worker has died, if its options say so and it was not to end. end() follows.

        Returns:
            Whether it is sent anew.
        """
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        if not self.tasks.holds(future) or future.options is None or future.termination is not None:
            return False
        if future.deaths >= future.options.retries:
            return False
        future.count_death()
        try:
            return self.outbox.resend(future)
        except MemoryError:
            return False

    cdef end(self):
        """After recoveries: sends what they have freed, and repeats any wake-up that a dead worker may have owed."""
        self.segment.lock.enter()
        if self.tasks.unsent:
            self.chunks.send_all()
        self.outbox.flush()
        self.segment.lock.leave()
        rp_pool_resume_after_recovery(&self.segment.pool, self.tasks.outstanding)

    # ---- tasks that no worker has ----

    cdef list orphaned(self):
        """Pending tasks that have been claimed and that no worker has: one of them spoilt its account of what it runs, or the
        result. Not those whose worker is being recovered."""
        cdef Inside inside
        cdef FutureBase future
        cdef uint32_t i
        cdef list found
        self.segment.lock.enter_here(&inside)
        found = []
        for i in range(self.tasks.size):
            future = self.tasks.at(i)
            if future is not None and self.is_orphaned(future):
                found.append(future)
        if found:
            self.intake.drain()  # a worker that has answered a task names it no more
        return [each for each in found if self.tasks.holds(<FutureBase>each) and self.is_orphaned(<FutureBase>each)]

    cdef bint is_orphaned(self, FutureBase future) noexcept:
        return (future.pos != POS_QUEUED and not future.lost and rp_board_claimed(&self.segment.pool.board, future.pos)
                and rp_pool_holder(&self.segment.pool, future.task_id, future.pos) == self.segment.pool.n_workers)

    cdef fail_orphaned(self):
        """To be called while nothing happens: what a living worker has spoilt must not stay pending for ever."""
        cdef uint64_t now = rp_os_now_ns()
        if not self.segment.serves() or now - self.looked_ns < <uint64_t>SIGNAL_NS:
            return
        self.looked_ns = now
        for future in self.orphaned():
            self.settlement.fail(future, RuntimeError(
                f"the task {describe(future)} is lost: no worker has it or has answered it, since one of them has "
                "corrupted the memory that they share with this process"))
