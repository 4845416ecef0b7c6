# settlement.pyx - see settlement.pxd.


@cython.no_gc_clear
cdef class Settlement:
    """Takes pending tasks out of all accounts and settles their futures."""

    def __cinit__(self, Segment segment, TaskTable tasks, ArgumentMemory arguments, Notifier notifier):
        self.segment = segment
        self.tasks = tasks
        self.arguments = arguments
        self.notifier = notifier

    cdef inline void remove(self, FutureBase future) noexcept:
        """Takes a pending task out of all accounts: its entry, its block, its place in the counts. The caller holds a
        reference of its own, settles the future before any Python code can run, and last of all drops what the task calls
        and the shared objects among its arguments: that may run user code, which may ask the future or use the pool."""
        self.tasks.release(future)
        if future.block:
            if type(future.value) is Parcel:
                self.arguments.release(<Parcel>future.value)
            else:
                self.segment.free_block(future.block)
            future.block = 0
        future.drop_pool()
        if future.watched:
            self.notifier.unwatch()
        self.notifier.stop_if_drained()
        Py_DECREF(future)  # the table's

    cdef inline void settle(self, FutureBase future, int form, object value) noexcept:
        """Settles a pending future and notifies those that wait: ended() and drop_call() follow."""
        cdef object_section section
        begin_object(&section, future)  # a future of no pool that is pending is one that never was in any
        self.remove(future)
        future.settle(form, value)
        end_object(&section)
        self.notifier.notify(future, has_watchers(future))

    cdef bint conclude(self, FutureBase future, int form, object value) noexcept:
        """finish(), but for what may run user code: drop_call() follows, if the future was pending."""
        cdef bint pending
        self.segment.lock.acquire()
        pending = self.tasks.is_pending(future)
        if pending:
            self.settle(future, form, value)
        self.segment.lock.release()
        if pending:
            future.ended()
        return pending

    cdef void finish(self, FutureBase future, int form, object value) noexcept:
        """Settles a future, if it is pending in this pool, and notifies those that wait."""
        self.segment.lock.enter()
        if self.conclude(future, form, value):
            future.drop_call()
        self.segment.lock.leave()

    cdef void cancel(self, FutureBase future) noexcept:
        """Settles the future of a task that no worker has claimed, or will, as cancelled: ended() and drop_call() follow."""
        cdef object_section section
        begin_object(&section, future)
        self.remove(future)
        future.settle_cancelled()
        end_object(&section)
        self.notifier.notify(future, not future.notified)  # FutureBase.cancel() tells, if it can have the condition

    cdef void settle_item(self, FutureBase item, int form, object value) noexcept:
        """Settles the pending future of an item of a batch and notifies those that wait; with FORM_NONE, as
        cancelled. Runs no user code."""
        cdef object_section section
        self.segment.lock.acquire()
        if item.watched:
            self.notifier.unwatch()
        begin_object(&section, item)
        item.leave_batch()
        if form == FORM_NONE:
            item.settle_cancelled()
        else:
            item.settle(form, value)
        end_object(&section)
        self.notifier.notify(item, has_watchers(item))
        self.segment.lock.release()

    cdef fail(self, FutureBase future, error):
        """Ends a pending future of this pool with an exception; a future that is done stays as it is."""
        cdef FutureBase held = future  # the table may hold the only other reference
        self.finish(held, FORM_ERROR, error)


cdef inline bint has_watchers(FutureBase future) noexcept:
    """Of a future that is done. Where another thread may add a callback meanwhile, it is watched before."""
    return future.watched or (runs_alone() and future.callbacks is not None)
