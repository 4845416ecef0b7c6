# loop.pyx - see loop.pxd.

cdef enum:
    START_NS = 100000000  # what a worker may take to start: a bare "spawn" takes so much
    MEMORY_CHECK_NS = 1000000  # the least time between two looks at the memory in use, which take some microseconds


@cython.no_gc_clear  # a signal handler, or an object that is cleared with it, may still call it
cdef class Worker:
    """One worker's hold on the pool.

    A child that a task forks has no part in it: once it leaves the task, it ends.

    Args:
        memfd: The segment's descriptor, taken over.
        n_places, n_cpus, sizes: Those of the Client.
        index: Which worker this is.

    Raises:
        OSError: The segment is not one of this build of ringpool's.
    """

    def __cinit__(self, int memfd, uint32_t n_places, uint32_t n_cpus, tuple sizes, uint32_t index):
        self.hold = WorkerHold(memfd, n_places, n_cpus, sizes, index)
        self.pool = &self.hold.pool
        self.arguments = Arguments(self.hold)
        callables = Callables(self.hold)
        self.call = Call(self.hold, self.arguments, callables)
        blocks = ResultBlocks(self.hold)
        self.outbox = ResultOutbox(self.hold, blocks)
        tray = Tray(self.hold, blocks, self.outbox)
        self.chunk = ChunkRunner(self.hold, self.arguments, callables, self.call, tray)

    def __init__(self, memfd, n_places, n_cpus, sizes, index):
        take_role(self)

    # ---- the role of this process ----

    cdef bint is_worker(self) noexcept:
        return True

    cdef bint is_ending(self) noexcept:
        return self.call.ending and not self.hold.forked

    cdef void leave(self) noexcept:
        self.hold.leave()

    cdef object held(self, uint64_t offset, uint64_t n):
        if self.hold.forked:
            return Role.held(self, offset, n)
        return self.arguments.held(offset, n)

    cdef object shared(self, uint64_t id, uint64_t offset, uint64_t n):
        if self.hold.forked or not self.arguments.decoding:
            return Role.shared(self, id, offset, n)
        return self.arguments.shared(id, offset, n)

    # ---- its tasks ----

    def run(self, uint64_t ticket, max_tasks=None, max_memory=None, int notify_fd=-1):
        """Runs tasks until the pool stops or another worker has taken its place.

        Args:
            ticket: Of this start; the first task waits until it is this worker's turn.
            max_tasks: It takes no more tasks after this number.
            max_memory: It is succeeded when it has more bytes of memory to itself than this after a task.
            notify_fd: An eventfd of the parent's, written to when there is something to do for it.
        """
        cdef uint64_t left = max_tasks or 0, limit = max_memory or 0, done = 0, busy_ns = 0, start = 0, checked_ns = 0
        cdef bint recycled = left or limit, retiring = False
        cdef rp_slot task
        cdef int what, rc = -EINTR
        if self.hold.forked:
            return
        while rc == -EINTR:
            with nogil:
                rc = rp_pool_await_turn(self.pool, ticket, notify_fd)
            PyErr_CheckSignals()
        if rc == 0:
            return
        rp_pool_join(self.pool)
        rp_os_notify(notify_fd)  # its predecessor may go
        while True:
            what = rp_pool_next(self.pool, &task)
            if what == RP_PURGE:
                self.arguments.purge()
                rp_pool_note_purged(self.pool)
                continue
            if what == RP_WAIT:
                if retiring and rp_pool_is_dismissed(self.pool):
                    break
                if not self.wait():
                    break
                continue
            if recycled:
                start = rp_os_now_ns()
                # A successor is asked for as long before the last task as a start may take, by the mean of those so far.
                if left and not retiring and (left == 1 or (done and left * (busy_ns // done) <= START_NS)):
                    retiring = True
                    rp_pool_retire(self.pool, RP_SOON, notify_fd)
            RP_STEP(b"worker: taken")
            if task.kind & KIND_MASK == KIND_CHUNK:
                self.chunk.run(&task)
            else:
                self.execute(&task)
            RP_STEP(b"worker: answered")
            if self.hold.should_trim():
                self.arguments.unmap_idle()
            if rp_pool_is_condemned(self.pool, task.task_id):
                recycled = False  # no successor wants its place yet: it goes at once
                break
            if recycled:
                done += 1
                busy_ns += rp_os_now_ns() - start
                if left:
                    left -= 1
                    if left == 0:
                        break
                if limit and not retiring and rp_os_now_ns() - checked_ns >= MEMORY_CHECK_NS:
                    checked_ns = rp_os_now_ns()
                    if rp_os_own_memory() > limit:
                        retiring = True
                        rp_pool_retire(self.pool, RP_READY, notify_fd)
                if retiring and rp_pool_is_dismissed(self.pool):
                    break
        rp_pool_leave(self.pool)
        rc = -EINTR if recycled else 0
        while rc == -EINTR:
            with nogil:
                rc = rp_pool_await_dismissal(self.pool, notify_fd)
            PyErr_CheckSignals()

    cdef bint wait(self) except -1:
        cdef int i, rc
        if not rp_pool_crowded(self.pool):
            for i in range(GLANCES):
                rp_pause()
                if rp_board_ready(&self.pool.board):
                    return True
        if self.pool.segment.mapped > RP_WINDOWS_KEEP:
            rp_pool_take_returns(self.pool)  # what came back is idle
        with nogil:
            rc = rp_pool_wait_task(self.pool)
        if rc < 0:
            PyErr_CheckSignals()
        return rc != 0

    def interrupt(self, signum, frame):
        """The handler of the signal by which the parent ends a task: raises TaskTimeout or CancelledError in the task
        that is to end, once, if that is still the one that runs. Any other such signal, from the terminal for
        example, does nothing."""
        cdef uint64_t why
        if not self.call.take_interrupt(&why):
            return
        if why == WHY_CANCELLED:
            raise cancelled_error()
        from ringpool.errors import TaskTimeout

        raise TaskTimeout()

    def report_start_error(self, exc):
        """Tells the parent that the initializer has raised."""
        cdef rp_result answer
        if self.hold.forked:
            raise exc
        self.outbox.lay_out_bytes(KIND_START_ERROR, encode_error(exc), &answer)
        self.outbox.publish(0, &answer)

    cdef int execute(self, rp_slot *task) except -1:
        """Runs one task and publishes its result. Raises only what ends the worker."""
        cdef Decoder arguments
        cdef rp_result answer
        value = data = None
        self.hold.begin_answer(task.task_id)
        try:
            try:
                fn = self.call.begin(task, &arguments)
                value = self.call.run(fn, task.kind & KIND_MASK, &arguments)
                RP_STEP(b"worker: called")
                fn = None
                if self.hold.forked:
                    sys.exit()
                self.outbox.lay_out(value, &answer)
                if answer.offset or answer.kind != KIND_VALUE:
                    value = None  # which may run methods of its own, for which the task has to answer
            except BaseException as error:
                self.call.shield()
                if self.hold.forked:
                    raise
                fn = value = None
                data = encode_error(error)  # which runs its methods, for which the task has to answer
                RP_STEP(b"worker: failed")
                # The frames of the task hold its arguments.
                PyException_SetTraceback(error, None)
            if data is not None:
                self.outbox.lay_out_bytes(KIND_ERROR, data, &answer)
        finally:
            self.call.disarm()
        self.hold.end_answer()
        self.outbox.publish(task.task_id, &answer)
        return 0
