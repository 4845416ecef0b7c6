# waiters.pyx - see waiters.pxd.


# 1 s: the longest that a waiting main thread goes without looking for signals. A signal ends the sleep at once; this
# covers the instant between the last look and the sleep.
cdef int64_t SIGNAL_NS = 1000000000


@cython.no_gc_clear
cdef class Waiters:
    """Which threads wait, and which of them leads: sleeps on the rings and takes in the results of all."""

    def __cinit__(self, Segment segment):
        self.segment = segment
        self.sleepers = {}
        self.due = deque()

    cdef void enter(self, Waiter *waiter, FutureBase future) noexcept:
        """The calling thread waits for the future, until leave()."""
        waiter.word = WAIT_ASLEEP
        waiter.thread = PyThread_get_thread_ident()
        waiter.future = <PyObject *>future
        self.segment.lock.acquire()
        waiter.next = self.first
        self.supplant(waiter)
        self.first = waiter
        self.segment.hold()
        future.enter_wait()
        self.segment.lock.release()

    cdef inline bint leads(self, Waiter *waiter) noexcept nogil:
        """Whether this waiter leads; it does from now on, if no other one does."""
        cdef bint leads
        self.segment.lock.acquire()
        if waiter.word == WAIT_BUSY:
            waiter.word = WAIT_ASLEEP
        if not self.has_leader:
            self.has_leader = True
            waiter.word = WAIT_LEADER
        leads = waiter.word == WAIT_LEADER
        self.segment.lock.release()
        return leads

    cdef void forget(self) noexcept nogil:
        """In a forked child, which has none of these threads."""
        self.has_leader = False
        self.first = NULL

    cdef int sleep(self, Waiter *waiter, uint64_t outstanding, int64_t ns) noexcept:
        cdef rp_parent *pool = &self.segment.pool
        cdef bint lead = waiter.word == WAIT_LEADER
        cdef int err
        cdef stepped_out engine
        step_out(&engine)
        with nogil:
            if lead:
                err = rp_pool_wait_results(pool, outstanding, ns)
            else:
                err = rp_os_futex_wait(&waiter.word, WAIT_ASLEEP, ns)
        step_in(&engine)
        # A time-out is reported as a signal: a waiting thread looks for those once a second at least.
        return -EINTR if err else 0

    cdef void supplant(self, Waiter *waiter) noexcept nogil:
        """If the leader is below this waiter on its own stack, it leads no more: it runs on only when this one is done."""
        cdef Waiter *other = waiter.next
        while other != NULL:
            if other.thread == waiter.thread and other.word == WAIT_LEADER:
                other.word = WAIT_BUSY
                self.has_leader = False
            other = other.next

    cdef void resign(self, Waiter *waiter) noexcept nogil:
        """If this waiter leads, another one does from now on. It is away until it calls leads()."""
        self.segment.lock.acquire()
        self.hand_over(waiter)
        self.segment.lock.release()

    cdef void hand_over(self, Waiter *waiter) noexcept nogil:
        cdef Waiter *heir = self.first
        cdef bint was_leader = waiter.word == WAIT_LEADER
        waiter.word = WAIT_BUSY
        if not was_leader:
            return
        while heir != NULL and heir.word != WAIT_ASLEEP:
            heir = heir.next
        if heir == NULL:
            self.has_leader = False
        else:
            heir.word = WAIT_LEADER
            rp_os_futex_wake(&heir.word)

    cdef void leave(self, Waiter *waiter, FutureBase future) noexcept nogil:
        cdef Waiter **at = &self.first
        self.segment.lock.acquire()
        future.leave_wait()
        while at[0] != NULL and at[0] != waiter:
            at = &at[0].next
        if at[0] == waiter:
            at[0] = waiter.next
        self.hand_over(waiter)
        self.segment.lock.release()
        # Another thread may have woken it, and it may have been about to touch its word: only now may the memory go.
        self.segment.release()

    cdef void wake(self, FutureBase future) noexcept:
        """A future is done for which threads or greenlets wait."""
        cdef Waiter *waiter = self.first
        c_assert(self.segment.lock.is_held())
        while waiter != NULL:
            if waiter.future == <PyObject *>future and waiter.word == WAIT_ASLEEP:
                waiter.word = WAIT_CHECK
                rp_os_futex_wake(&waiter.word)
            waiter = waiter.next
        rp_pool_kick_leader(&self.segment.pool)
        if self.green:
            self.due.append(future)
            rp_pool_kick_service(&self.segment.pool)

    cdef bint check(self, uint64_t n_blocks) noexcept:
        """For the debug build: the waiters are counted in their futures, one of them leads if one does, and the segment is
        held by each of them, and by `n_blocks` others."""
        cdef Waiter *waiter = self.first
        cdef uint64_t n = 0, leaders = 0
        while waiter != NULL:
            if (<FutureBase>waiter.future).n_waiting < 1:
                return False
            n += 1
            leaders += waiter.word == WAIT_LEADER
            waiter = waiter.next
        return leaders == <uint64_t>self.has_leader and self.segment.users == n + n_blocks

    # ---- greenlets ----

    cdef add_sleeper(self, FutureBase future, object event):
        self.sleepers.setdefault(id(future), []).append(event)
        future.enter_wait()

    cdef remove_sleeper(self, FutureBase future, object event):
        future.leave_wait()
        events = self.sleepers[id(future)]
        events.remove(event)
        if not events:
            del self.sleepers[id(future)]

    cdef set_events(self):
        """Wakes the greenlets that wait for futures that are done."""
        while True:
            self.segment.lock.enter()
            future = self.due.popleft() if self.due else None
            self.segment.lock.leave()
            if future is None:
                break
            for event in tuple(self.sleepers.get(id(future), ())):
                event.set()
