# notifier.pyx - see notifier.pxd.


@cython.no_gc_clear
cdef class Notifier:
    """Notes which futures are done and have watchers (a condition, a waiter of the stdlib's, a callback), for the collector to
    tell them.
    """

    def __cinit__(self, Segment segment, TaskTable tasks, Waiters waiters):
        self.segment = segment
        self.tasks = tasks
        self.waiters = waiters
        self.completed = deque()
        self.deferred = []

    cdef void set_need(self, uint32_t reason, bint on) noexcept nogil:
        """need(), for what does not hold the lock."""
        self.segment.lock.acquire()
        self.need(reason, on)
        self.segment.lock.release()

    cdef inline void need(self, uint32_t reason, bint on) noexcept nogil:
        """Workers ring the collector for each result for this reason, or need not on account of it."""
        cdef uint32_t needs = self.needs | reason if on else self.needs & ~reason
        c_assert(self.segment.lock.is_held())
        if needs != self.needs:
            self.needs = needs
            self.publish_needs()

    cdef void publish_needs(self) noexcept nogil:
        if self.segment.is_mapped():
            rp_pool_set_collect(&self.segment.pool, self.needs != 0)

    cdef inline bint is_closing(self) noexcept nogil:
        """Whether the pool is shut down: it takes no more tasks, and ends when none is pending."""
        return self.needs & NEED_CLOSING

    cdef bint is_drained(self) noexcept:
        """Whether the pool can end: it takes no more tasks, none is pending, and all watchers have been notified."""
        return self.is_closing() and self.tasks.pending() == 0 and not self.completed and not self.waiters.due

    cdef void ring(self) noexcept nogil:
        """Has the collector look what there is to do."""
        if self.segment.serves():
            rp_pool_kick_service(&self.segment.pool)

    cdef inline void stop_if_drained(self) noexcept nogil:
        """A task has ended: if it was the last, the collector ends the pool."""
        if self.is_closing() and self.tasks.pending() == 0 and self.segment.is_mapped():
            rp_pool_kick_service(&self.segment.pool)

    cdef void watch(self, FutureBase future) noexcept:
        """A future has a watcher from now on; if it is pending, the collector is to hear of its result."""
        self.segment.lock.acquire()
        future.mark_watched()
        if future.state == PENDING:
            self.watched += 1
            self.need(NEED_WATCHERS, True)
        self.segment.lock.release()

    cdef inline void unwatch(self) noexcept nogil:
        self.watched -= 1
        self.need(NEED_WATCHERS, self.watched > 0)

    cdef inline void notify(self, FutureBase future, bint watched) noexcept:
        """A future is done. Wakes those in result(), and has the collector notify its watchers, if it is watched."""
        if future.n_waiting:
            self.waiters.wake(future)
        if watched:
            self.completed.append(future)
            rp_pool_kick_service(&self.segment.pool)

    cdef void lock_and_notify(self, FutureBase future, bint watched) noexcept:
        """notify(), for what does not hold the lock."""
        self.segment.lock.acquire()
        self.notify(future, watched)
        self.segment.lock.release()

    cdef bint check(self, uint64_t n_blocks) noexcept:
        """For the debug build: workers ring the collector exactly while there is a need, and pending futures with watchers are
        one. (The other reasons are checked by the parts that give them.) `n_blocks`: see Waiters.check()."""
        return (((self.needs & NEED_WATCHERS) != 0) == (self.watched > 0)
                and (not self.segment.is_mapped() or is_collect_set(&self.segment.pool) == (self.needs != 0))
                and self.waiters.check(n_blocks))

    cdef void defer(self, list held, uint64_t begin, uint64_t end) noexcept:
        """Takes a part of a list and holds it until drop_deferred(): None is there instead. What it has no memory for stays."""
        cdef list deferred = self.deferred
        cdef uint64_t i
        try:
            for i in range(begin, end):
                deferred.append(<object>PyList_GET_ITEM(held, i))
                held[i] = None
        except MemoryError:
            pass

    cdef void drop_deferred(self) noexcept:
        """Drops what has been deferred: runs user code."""
        cdef stepped_out engine
        c_assert(holds_no_lock())
        deferred = None
        self.segment.lock.enter()
        if self.deferred:
            deferred = self.deferred
            self.deferred = []
        self.segment.lock.leave()
        if deferred is not None:
            step_out(&engine)
            deferred = None
            step_in(&engine)

    cdef flush(self):
        """Tells those that watch futures that are done. Raises nothing."""
        self.waiters.set_events()

        while True:
            self.segment.lock.enter()
            future = self.completed.popleft() if self.completed else None
            self.segment.lock.leave()
            if future is None:
                break
            try:
                try:
                    future._tell()
                except BaseException:
                    logger().exception("exception notifying the waiters of %r", future)
            except BaseException:  # even the logging fails
                pass
            future = None
        self.drop_deferred()
