# waiting.pyx - see waiting.pxd.


@cython.no_gc_clear  # an object that is cleared with it may still wait here
cdef class Waiting:
    """How a thread, or a greenlet, waits for a future. It keeps no state of its own."""

    def __cinit__(self, Segment segment, TaskTable tasks, Staff staff, Waiters waiters, Notifier notifier, Service service,
                  Recovery recovery):
        self.segment = segment
        self.tasks = tasks
        self.staff = staff
        self.waiters = waiters
        self.notifier = notifier
        self.service = service
        self.recovery = recovery

    cdef int wait_for(self, FutureBase future, timeout) except -1:
        """Waits until the future is done or the time is up, reading the rings meanwhile. One waiting thread at a time
        leads: it sleeps on the rings and takes in the results of all. The others sleep until their future is done, or
        until the leader leaves and names one of them the next."""
        cdef int64_t left = -1
        cdef uint64_t deadline = 0, now
        cdef Waiter waiter
        cdef uint32_t rounds = 0
        self.service.drain()
        if is_done(future.state):
            return 0
        if timeout is not None:
            left = <int64_t>(min(timeout, 1e9) * 1e9) if timeout > 0 else 0
            deadline = rp_os_now_ns() + left
        if timeout is None and self.staff.is_begun_by(PyThread_get_thread_ident()):
            raise RuntimeError("this thread, interrupted, is starting the pool's workers: it cannot wait for them")
        if self.waiters.green:
            return self.wait_green(future, timeout)
        if left != 0 and self.glance(future):
            return 0
        self.waiters.enter(&waiter, future)
        try:
            while True:
                if self.waiters.leads(&waiter):
                    rp_pool_begin_leading(&self.segment.pool)
                    self.service.drain()
                if is_done(future.state):
                    return 0
                future.check_here()
                if timeout is not None:
                    now = rp_os_now_ns()
                    if now >= deadline:
                        return 0
                    left = deadline - now
                rounds += 1  # while results come in all the time, no sleep is cut short that would tell of a signal
                left = left if 0 <= left < SIGNAL_NS else SIGNAL_NS
                if self.waiters.sleep(&waiter, self.tasks.outstanding, left) == -EINTR or rounds % 64 == 0:
                    # A handler may wait for a future in its turn, above this on the stack: so this thread must not lead.
                    self.waiters.resign(&waiter)
                    # A worker may have rung the leader just as it woke for another reason, and so not the collector: a
                    # leader always drains once before resigning.
                    self.service.drain()
                    PyErr_CheckSignals()
                    # And the leader may be held up by a __del__, the collector by a callback.
                    self.service.run_once()
                    self.recovery.fail_orphaned()
        finally:
            self.waiters.leave(&waiter, future)

    cdef bint glance(self, FutureBase future) noexcept:
        """Looks a few times whether the result has arrived, which is sooner there than a thread falls asleep. Is it done?"""
        cdef bint done = False
        cdef int i
        if not self.segment.try_use():
            return False
        if not rp_pool_crowded(&self.segment.pool):
            for i in range(GLANCES):
                rp_pause()
                if rp_pool_has_results(&self.segment.pool):
                    self.service.drain()
                    done = is_done(future.state)
                    if done or not self.segment.is_mapped():
                        break
        self.segment.end_use()
        return done

    cdef int wait_green(self, FutureBase future, timeout) except -1:
        """wait_for() in a greenlet, which gives way to others meanwhile. The collector reads the rings for it. (A Waiter is no
        use here: what lies on a greenlet's stack is elsewhere while others run.)"""
        import threading

        deadline = None if timeout is None else monotonic() + timeout
        event = threading.Event()
        left = SIGNAL_NS / 1e9
        self.waiters.add_sleeper(future, event)
        try:
            self.notifier.set_need(NEED_GREENLETS, True)
            while True:
                self.service.drain()
                if is_done(future.state):
                    return 0
                future.check_here()
                if deadline is not None:
                    left = min(deadline - monotonic(), SIGNAL_NS / 1e9)
                    if left <= 0:
                        return 0
                if not event.wait(left):
                    # As in wait_for(): the collector may be held up.
                    self.service.run_once()
                    self.recovery.fail_orphaned()
                event.clear()
        finally:
            self.waiters.remove_sleeper(future, event)
            self.notifier.set_need(NEED_GREENLETS, len(self.waiters.sleepers) > 0)
