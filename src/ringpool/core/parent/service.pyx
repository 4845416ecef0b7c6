# service.pyx - see service.pxd.


@cython.no_gc_clear
cdef class Service:
    """Rounds over the workers: takes in results and moves tasks up, gives memory, and ends tasks. It keeps no state of its own
    between two rounds, and any thread may run one at any time, also within another. All functions here may run user code.
    """

    def __cinit__(self, Segment segment, TaskTable tasks, Staff staff, Notifier notifier, Loans loans, ResultMemory results,
                  ArgumentMemory arguments, Terminations terminations, Outbox outbox, Chunks chunks, Intake intake,
                  ChunkAccount account):
        self.segment = segment
        self.tasks = tasks
        self.staff = staff
        self.notifier = notifier
        self.loans = loans
        self.results = results
        self.arguments = arguments
        self.terminations = terminations
        self.outbox = outbox
        self.chunks = chunks
        self.intake = intake
        self.account = account

    cdef void drain(self) noexcept:
        """Takes in every result that has arrived, settles its future, and moves queued tasks up. User code runs only
        where nothing is half done: the __del__ of what a settled task called, or of a future with no other reference. It may
        use the pool, end it, or leave this process for a forked one: `open` is looked at again."""
        self.segment.lock.enter()
        self.drain_here()
        self.segment.lock.leave()

    cdef inline void drain_here(self) noexcept:
        """drain(), in the engine."""
        cdef uint64_t n
        self.since_drain = 0
        if not self.segment.serves():
            return
        n = self.intake.drain()
        if self.tasks.unsent and self.segment.is_mapped():
            self.chunks.send_all()
        if n and self.segment.is_mapped():
            rp_pool_note_drained(&self.segment.pool, n)
            if not self.outbox.queue.is_empty():
                self.outbox.flush()
            if self.account.n_chunks and self.tasks.outstanding < self.staff.n_workers:
                self.chunks.rebalance()
        self.notifier.drop_deferred()
        c_assert(self.check())

    cdef bint check(self) noexcept:
        """For the debug build: check_all(), but not so often that a pool with many tasks takes a time that is their square."""
        self.unchecked += 1
        if self.unchecked * 256 < self.tasks.size:
            return True
        self.unchecked = 0
        return self.check_all()

    cdef bint check_all(self) noexcept:
        """For the debug build: each part is what it says of itself. One after the other, so that the assertion that fails names
        the part. Creates no object."""
        if self.segment.phase == PHASE_FORKED or not runs_alone():  # a forked child, where nothing of this is used
            return True
        c_assert(self.segment.check())
        c_assert(self.tasks.check())
        c_assert(self.results.check())
        c_assert(self.notifier.check(self.results.n_blocks()))
        c_assert(self.loans.check())
        c_assert(self.arguments.check())
        c_assert(self.terminations.check())
        c_assert(self.account.check())
        c_assert(self.outbox.check())
        c_assert(self.chunks.check())
        return True

    cdef inline void drain_if_due(self) noexcept:
        """To be called with each submit: drains now and then."""
        self.since_drain += 1
        if self.since_drain >= DRAIN_EVERY:
            self.drain()

    cdef run_once(self):
        """Takes in results, moves tasks up, and gives workers the memory that they wait for."""
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        self.go_round()

    cdef go_round(self):
        """run_once(), in the engine."""
        cdef uint32_t w
        cdef uint64_t request, bytes
        self.drain()
        if self.segment.is_mapped():
            self.arguments.reclaim_if_released()
        self.outbox.flush()
        for w in range(self.segment.pool.n_workers):
            if not self.segment.serves():
                return
            self.results.flush_returns(w)
            request = rp_pool_wants_memory(&self.segment.pool, w, &bytes)
            if request == 0:
                continue
            if bytes:
                self.loans.add_borrower(w)
            else:
                self.intake.drain_worker(w)  # all that it published before it asked: some of its blocks may be there
                try:
                    self.results.copy_out(w)
                    copied = True
                except MemoryError:  # then the worker waits until results are read or dropped
                    copied = False
                if self.segment.serves():
                    self.results.flush_returns(w)
                    if copied and not self.results.pending_returns[w]:
                        rp_pool_grant(&self.segment.pool, w, request)
        self.serve_borrowers()

    cdef serve_borrowers(self):
        """Lends to those that wait for a loan, one after the other, or refuses. Results that have not been read make room. If
        there is none to be made now, the next look is when a loan or a result ends."""
        cdef uint64_t request, bytes
        cdef uint32_t w
        cdef int err
        while self.loans.n_borrowers and self.segment.serves():
            w = self.loans.borrowers[0]
            request = rp_pool_loan_wanted(&self.segment.pool, w, &bytes)
            if request == 0:
                self.loans.drop_borrower()
                continue
            # All that it published before it asked, lest that be taken for the end of what it is to get now.
            self.intake.drain_worker(w)
            if not self.loans.n_borrowers or self.loans.borrowers[0] != w or not self.segment.serves():
                continue  # user code has run
            if rp_pool_loan_wanted(&self.segment.pool, w, &bytes) != request:
                self.loans.serve_soon()  # another look, but not here and now, should it change all the time
                return
            self.loans.take(w, 0)
            err = self.loans.lend(w, request, bytes)
            if err == 0:
                self.loans.drop_borrower()
                continue
            if err == -ENOMEM:
                try:
                    if self.results.copy_out_of_overflow():
                        continue
                except MemoryError:
                    return
                if self.loans.count:
                    if self.end_past_loans():
                        continue
                    return
            rp_pool_grant(&self.segment.pool, w, request)
            self.loans.drop_borrower()

    cdef bint end_past_loans(self) noexcept:
        """Ends the loans of workers that have no use for them, so that no other waits for such. Were there any? One that says
        that it runs what is no task of ours would keep its loan for ever."""
        cdef uint64_t request, task_id
        cdef uint32_t w
        cdef bint some = False
        for w in range(self.segment.pool.n_workers):
            request = self.loans.of[w].request
            if self.loans.of[w].bytes and rp_pool_is_past_loan(&self.segment.pool, w, request):
                some = True
                self.intake.drain_worker(w)  # the result that lies there may have been published
                if self.loans.of[w].bytes and self.loans.of[w].request == request:
                    self.loans.take(w, 0)
                if not self.segment.serves():
                    break
            elif self.loans.of[w].bytes:
                task_id = rp_pool_current(&self.segment.pool, w)
                if task_id and not self.tasks.has(task_id):
                    self.staff.mark_suspect(w)
        return some

    cdef tuple enforce_deadlines(self, uint64_t now, uint64_t lost):
        """Begins to end the tasks that have overrun their time, and moves on the termination of all that are to end. See
        Client.enforce_deadlines."""
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        return self.end_overdue(now, lost)

    cdef tuple end_overdue(self, uint64_t now, uint64_t lost):
        """enforce_deadlines(), in the engine."""
        cdef Terminations terminations = self.terminations
        cdef uint64_t due
        cdef FutureBase future
        cdef Termination termination
        cdef uint32_t w
        signals = []
        if not self.segment.serves():
            return signals, None
        for w in range(self.segment.pool.n_workers):
            if self.staff.take_suspect(w):
                signals.append((w, True))
        if lost:
            terminations.forgive(now, lost)
        due = terminations.begin_overdue(now)
        for _ in range(terminations.futures.size()):
            future = terminations.rotate()
            termination = future.termination if future is not None else None
            if termination is None:
                continue
            w = rp_pool_holder(&self.segment.pool, future.task_id, future.pos)
            if w == self.segment.pool.n_workers:  # its result is there, or its worker is dead
                self.drain()
                if future.state == PENDING:
                    due = min(due, now + LOOK_AGAIN_NS)
            elif termination.killed:
                pass
            elif now >= termination.kill_ns:
                rp_pool_condemn(&self.segment.pool, w, future.task_id)
                self.drain()
                if future.state == PENDING:
                    termination.mark_killed()
                    signals.append((w, True))
                else:
                    rp_pool_condemn(&self.segment.pool, w, 0)
            elif terminations.interrupt(future, w, now, &due):
                signals.append((w, False))
        now = rp_os_now_ns()
        return signals, None if due == RP_NEVER else max(due, now + LOOK_AGAIN_NS) / 1e9 - now / 1e9
