# terminations.pyx - see terminations.pxd.

cdef int64_t DEFAULT_GRACE_NS = 1000000000     # from the exception raised in a task to the end of its worker, by default
DEFAULT_GRACE_S = DEFAULT_GRACE_NS / 1e9
cdef int64_t LOOK_AGAIN_NS = 1000000   # the least time between two rounds of enforce_deadlines(); a deadline is kept to so much
cdef uint64_t PAUSE_NS = 10000000      # 10 ms, and twice as long each time: until a signal that had no effect is repeated


@cython.no_gc_clear
cdef class Terminations:
    """The running tasks that are to end, and when the next time limit is looked at."""

    def __cinit__(self, Segment segment, TaskTable tasks, Staff staff):
        self.segment = segment
        self.tasks = tasks
        self.staff = staff
        self.futures = TaskQueue(segment.lock)

    cdef keep_time(self, Options options):
        """A task with these options is pending: sees to it that enforce_deadlines() is called in time. Later calls of it see to
        themselves: one that finds no task overdue cannot be too late for the next before the shortest limit is over."""
        cdef bint shorter
        if options.timeout_ns == 0:
            return
        self.segment.lock.acquire()
        shorter = self.shortest_ns == 0 or options.timeout_ns < self.shortest_ns
        if shorter:
            self.shortest_ns = options.timeout_ns
        self.segment.lock.release()
        if shorter:
            self.staff.alarm()

    cdef bint begin(self, FutureBase future, int why, int64_t grace_ns) except -1:
        """Begins to end a pending task that runs.

        Args:
            grace_ns: How long until its worker is killed; at most that of its options, which -1 stands for.

        Returns:
            Whether it is pending.
        """
        cdef Termination termination = Termination()
        cdef bint pending
        cdef int64_t own_ns = future.options.grace_ns if future.options is not None else DEFAULT_GRACE_NS
        cdef uint64_t now, kill_ns
        task = describe(future)  # this may run user code
        now = rp_os_now_ns()
        kill_ns = now + <uint64_t>(own_ns if grace_ns < 0 else min(own_ns, grace_ns))
        self.futures.reserve()
        self.segment.lock.acquire()
        while looks_again() and not self.futures.has_room():
            self.segment.lock.release()
            self.futures.reserve()
            self.segment.lock.acquire()
        pending = self.tasks.is_pending(future)
        if pending and future.termination is not None:
            future.termination.hasten(why, now, kill_ns)
        elif pending:
            termination.begin(why, task, future.options.timeout_ns if future.options is not None else 0, now, kill_ns)
            future.set_termination(termination)
            self.futures.put_last(future)
        self.segment.lock.release()
        if pending:
            self.staff.alarm()
        return pending

    cdef void adopt(self, FutureBase future, FutureBase before) noexcept:
        """The termination of a task goes on in a future, which has taken the place of the one before."""
        if future.termination is not None:
            self.futures.replace(before, future)

    cdef FutureBase rotate(self):
        """The first of the tasks that are to end, which becomes the last. None if it has ended: it is in the list no more."""
        cdef FutureBase future = self.futures.first()
        cdef bint stays
        if future is None:
            return None
        self.segment.lock.acquire()
        stays = self.futures.remove_first(future) and future.state == PENDING and future.termination is not None
        if stays:
            self.futures.put_last(future)
        self.segment.lock.release()
        return future if stays else None

    cdef bint check(self) noexcept:
        """For the debug build: each pending task that is to end is in the list once."""
        cdef FutureBase future
        cdef uint64_t position
        cdef uint32_t i, n
        for i in range(self.tasks.size):
            if self.tasks.entries[i].future == NULL:
                continue
            future = <FutureBase>self.tasks.entries[i].future
            if future.termination is None:
                continue
            n = 0
            for position in range(self.futures.begin, self.futures.end):
                n += self.futures.at(position) is future
            if n != 1:
                return False
        return True

    cdef forgive(self, uint64_t now, uint64_t lost):
        """Of the time up to now, so much counts for no task that has run meanwhile, and for no grace."""
        cdef uint64_t started, task_id, position
        cdef uint32_t w
        cdef FutureBase future
        cdef dict before = self.forgiven or {}
        self.forgiven = {}
        for w in range(self.segment.pool.n_workers):
            task_id = rp_pool_timed_task(&self.segment.pool, w, &started)
            if task_id and started < now:
                self.forgiven[task_id] = before.get(task_id, 0) + min(lost, now - started)
        for position in range(self.futures.begin, self.futures.end):
            future = self.futures.at(position)
            self.segment.lock.acquire()
            if future is not None and future.termination is not None:
                future.termination.forgive(now, lost)
            self.segment.lock.release()

    cdef uint64_t begin_overdue(self, uint64_t now) except? 0:
        """Begins to end the tasks that have overrun their time. When the next one may have."""

        cdef uint64_t due, started, task_id, limit, shortest
        cdef FutureBase future
        cdef uint32_t w
        self.segment.lock.acquire()
        if self.tasks.timed == 0:
            self.shortest_ns = 0
        shortest = self.shortest_ns
        self.segment.lock.release()
        if shortest == 0:
            self.forgiven = None
            return RP_NEVER
        due = now + shortest  # none that starts after this can be overdue before
        for w in range(self.segment.pool.n_workers):
            task_id = rp_pool_timed_task(&self.segment.pool, w, &started)
            future = self.tasks.get(task_id) if task_id else None
            if future is None or future.termination is not None or future.options is None or future.options.timeout_ns == 0:
                continue
            limit = future.options.timeout_ns
            if self.forgiven is not None:
                limit += <uint64_t>self.forgiven.get(task_id, 0)
            if now >= started and now - started >= limit:
                self.begin(future, WHY_OVERRUN, -1)
            else:
                due = min(due, min(now, started) + limit)
        return due

    cdef bint interrupt(self, FutureBase future, uint32_t w, uint64_t now, uint64_t *due) noexcept:
        """Worker w holds a task that is to end, and has time left for it. Whether the worker is to be signalled now."""
        cdef Termination termination
        cdef bint signalled = False
        self.segment.lock.acquire()
        termination = future.termination
        if termination is not None:  # else it has ended
            due[0] = min(due[0], termination.kill_ns)
            termination.seen_in(w, now, PAUSE_NS)
            if rp_pool_interrupt(&self.segment.pool, w, future.task_id, termination.why):
                signalled = termination.signal(now)
                due[0] = min(due[0], termination.again_ns)
        self.segment.lock.release()
        return signalled

    cdef spare(self, uint32_t w):
        """Worker w cannot be killed: what was to end with it goes on."""
        cdef FutureBase future
        cdef uint64_t position
        for position in range(self.futures.begin, self.futures.end):
            future = self.futures.at(position)
            self.segment.lock.acquire()
            if future is not None and future.termination is not None and future.termination.worker == w:
                future.termination.spare()
            self.segment.lock.release()
cdef describe(FutureBase future):
    """The name of a pending task, or else of what it calls."""
    cdef Outside outside
    step_out_here(&outside)
    cdef Options options = future.known_options()
    if options is not None and options.name is not None:
        return options.name
    fn = future.callee()
    try:
        module = getattr(fn, "__module__", None)
        name = getattr(fn, "__qualname__", None)
    except BaseException:
        return f"a {type(fn).__name__}"
    return f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else pickling().safe_repr(fn)
