# tasks.pyx - see tasks.pxd.


@cython.no_gc
cdef class TaskTable:
    """The pending tasks by id, and how many of them are where."""

    def __cinit__(self, PoolLock lock):
        self.lock = lock
        self.first_free = NO_ENTRY

    def __dealloc__(self):
        PyMem_RawFree(self.entries)

    cdef inline uint64_t pending(self) noexcept nogil:
        return self.outstanding + self.queued + self.unsent

    cdef inline void batch_waits(self) noexcept nogil:
        """A batch has items that have not been sent."""
        self.lock.acquire()
        self.unsent += 1
        self.lock.release()

    cdef inline void batch_sent(self) noexcept nogil:
        """It has none any more."""
        self.lock.acquire()
        self.unsent -= 1
        self.lock.release()

    cdef inline void task_published(self) noexcept nogil:
        """One that has been entered, or has left the queue, is on the board."""
        c_assert(self.lock.is_held())
        self.outstanding += 1

    cdef inline void task_queued(self) noexcept nogil:
        """One that has been entered is in the queue."""
        c_assert(self.lock.is_held())
        self.queued += 1

    cdef inline void task_dequeued(self) noexcept nogil:
        c_assert(self.lock.is_held())
        self.queued -= 1

    cdef inline void task_requeued(self) noexcept nogil:
        """One whose worker has died, or that was taken off the board, is in the queue."""
        c_assert(self.lock.is_held())
        self.outstanding -= 1
        self.queued += 1

    cdef inline int reserve(self) except -1:
        """Makes room for one more, so that enter() cannot fail."""
        if self.first_free == NO_ENTRY:
            self.grow()
        return 0

    cdef int grow(self) except -1:
        cdef uint32_t size = max(self.size * 2, 256), i
        cdef TaskEntry *table
        self.lock.acquire()
        table = <TaskEntry *>PyMem_RawRealloc(self.entries, size * sizeof(TaskEntry))
        if table != NULL:
            for i in range(self.size, size):
                table[i].future = NULL
                table[i].generation = 1
                table[i].next_free = i + 1 if i + 1 < size else NO_ENTRY
            self.first_free = self.size
            self.entries = table
            self.size = size
        self.lock.release()
        if table == NULL:
            raise MemoryError()
        return 0

    cdef inline void enter(self, FutureBase future) noexcept:
        """Gives a future that is to be queued or published a task id. The caller has reserved an entry."""
        cdef uint32_t i = self.first_free
        c_assert(self.lock.is_held() and i != NO_ENTRY)
        self.first_free = self.entries[i].next_free
        Py_INCREF(future)
        self.entries[i].future = <PyObject *>future
        future.task_id = <uint64_t>self.entries[i].generation << 32 | i
        if future.options is not None:
            self.timed += future.options.timeout_ns != 0

    cdef inline bint has_room(self) noexcept nogil:
        """May enter() be called?"""
        c_assert(self.lock.is_held())
        return self.first_free != NO_ENTRY

    cdef inline PyObject *find(self, uint64_t task_id) noexcept nogil:
        """The future with this id, or NULL: the table's reference."""
        cdef uint32_t i = <uint32_t>task_id
        c_assert(self.lock.is_held())
        if i < self.size and self.entries[i].generation == task_id >> 32:
            return self.entries[i].future
        return NULL

    cdef bint has(self, uint64_t task_id) noexcept nogil:
        """Is the task with this id pending?"""
        cdef bint found
        self.lock.acquire()
        found = self.find(task_id) != NULL
        self.lock.release()
        return found

    cdef FutureBase get(self, uint64_t task_id):
        """The future with this id, or None."""
        cdef FutureBase future = None
        cdef PyObject *found
        self.lock.acquire()
        found = self.find(task_id)
        if found != NULL:
            future = <FutureBase>found
        self.lock.release()
        return future

    cdef FutureBase at(self, uint32_t i):
        """The future in the i-th of `size` entries, or None."""
        cdef FutureBase future = None
        self.lock.acquire()
        if self.entries[i].future != NULL:
            future = <FutureBase>self.entries[i].future
        self.lock.release()
        return future

    cdef bint holds(self, FutureBase future) noexcept:
        """is_pending(), for what does not hold the lock: it may be so no more."""
        cdef bint pending
        self.lock.acquire()
        pending = self.is_pending(future)
        self.lock.release()
        return pending

    cdef bint is_pending(self, FutureBase future) noexcept:
        """Whether this future is that of a pending task of this pool."""
        return future.state == PENDING and future.item_of is None and self.find(future.task_id) == <PyObject *>future

    cdef void replace(self, uint64_t task_id, FutureBase future) noexcept:
        """Names another future for a pending task. The reference to the one before is the caller's now."""
        c_assert(self.lock.is_held())
        Py_INCREF(future)
        self.entries[<uint32_t>task_id].future = <PyObject *>future
        future.task_id = task_id

    cdef inline void release(self, FutureBase future) noexcept:
        """Takes a pending task out of the table and of the counts. The table's reference is the caller's now."""
        cdef uint32_t i = <uint32_t>future.task_id
        c_assert(self.lock.is_held() and self.entries[i].future == <PyObject *>future)
        self.entries[i].future = NULL
        self.entries[i].generation += 1
        if self.entries[i].generation == 0:
            self.entries[i].generation = 1
        self.entries[i].next_free = self.first_free
        self.first_free = i
        if future.pos == POS_QUEUED:
            self.queued -= 1
        else:
            self.outstanding -= 1
        if future.options is not None:
            self.timed -= future.options.timeout_ns != 0

    cdef bint check(self) noexcept:
        """For the debug build: each entry is in use, by a pending future that names it, or free; the counts are what the
        futures say."""
        cdef uint64_t used = 0, queued = 0, timed = 0, free = 0
        cdef uint32_t i = self.first_free
        cdef TaskEntry *entry
        cdef FutureBase future
        while i != NO_ENTRY:
            if i >= self.size or self.entries[i].future != NULL or free == self.size:
                return False
            free += 1
            i = self.entries[i].next_free
        for i in range(self.size):
            entry = &self.entries[i]
            if entry.future == NULL:
                continue
            future = <FutureBase>entry.future
            if is_done(future.state) or future.task_id != (<uint64_t>entry.generation << 32 | i):
                return False
            used += 1
            queued += future.pos == POS_QUEUED
            timed += future.options is not None and future.options.timeout_ns != 0
        return (used + free == self.size and self.outstanding + self.queued == used and self.queued == queued
                and self.timed == timed)
