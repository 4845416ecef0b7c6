# staff.pyx - see staff.pxd.


@cython.no_gc_clear
cdef class Gate:
    """Whether the pool takes tasks."""

    def __cinit__(self, PoolLock lock):
        self.lock = lock

    cdef inline bint is_open(self) noexcept:
        c_assert(self.lock.is_held())
        return not self.closed

    cdef void close(self, object refusal) noexcept:
        """No tasks are taken from now on: `refusal` makes the exception that says why."""
        self.lock.acquire()
        self.closed = True
        self.refusal, refusal = refusal, self.refusal  # to drop the one before may run user code, and so comes later
        self.lock.release()

    cdef inline int check(self) except -1:
        """Raises what submit would raise if the pool takes no tasks. That runs user code."""
        return self.refuse() if self.closed else 0

    cdef int refuse(self) except -1:
        cdef object refusal
        self.lock.acquire()
        refusal = self.refusal
        self.lock.release()
        raise refusal()


@cython.no_gc_clear
cdef class Staff:
    """What the supervisor is asked for. No function here runs user code."""

    def __cinit__(self, TaskTable tasks, uint32_t n_workers, uint32_t n_places):
        self.tasks = tasks
        self.n_workers = n_workers
        self.alarm_fd = -1
        self.suspects = bytearray(n_places)

    cdef bint is_begun_by(self, unsigned long thread) noexcept nogil:
        """Whether this thread is starting the first workers, and none is there yet."""
        return self.beginner != 0 and self.n_started == 0 and self.beginner == thread

    cdef inline void recruit(self) noexcept nogil:
        """Tasks have been added: asks for workers if there are not enough."""
        if self.n_started < self.n_workers and self.tasks.outstanding + self.tasks.queued > self.n_started:
            self.ask_for_workers()

    cpdef void alarm(self) noexcept nogil:
        """Has the supervisor look what there is to do."""
        self.tasks.lock.acquire()
        rp_os_notify(self.alarm_fd)
        self.tasks.lock.release()

    cpdef void set_alarm(self, int fd) noexcept nogil:
        """The supervisor looks when this descriptor is written to. The one before may be closed from now on: no alarm that is
        under way writes to what becomes another file's."""
        self.tasks.lock.acquire()
        self.alarm_fd = fd
        self.tasks.lock.release()

    cpdef void ask_for_workers(self) noexcept nogil:
        """Has the supervisor start as many as there are tasks."""
        if self.want(min(<uint64_t>self.n_workers, self.tasks.pending())):
            self.alarm()

    cpdef bint want(self, uint64_t n) noexcept nogil:
        """There should be n workers. Whether there should have been fewer so far."""
        cdef bint more
        self.tasks.lock.acquire()
        more = n > self.wanted
        if more:
            self.wanted = n
        self.tasks.lock.release()
        return more

    cdef void mark_suspect(self, uint32_t w) noexcept:
        """Worker w has corrupted shared memory. It may have spoilt the result of another task of its own, which
        would stay pending for ever. So it is killed, and the recovery after its death finds the tasks that no worker has."""
        self.tasks.lock.acquire()
        PyByteArray_AS_STRING(self.suspects)[w] = 1
        self.tasks.lock.release()
        self.alarm()

    cdef void clear_suspect(self, uint32_t w) noexcept:
        """Worker w is dead."""
        self.take_suspect(w)

    cdef void forget(self) noexcept nogil:
        """In a forked child: the supervisor is the parent's."""
        self.alarm_fd = -1

    cdef bint take_suspect(self, uint32_t w) noexcept:
        """Is worker w to be killed? To be asked once: then it is suspect no more."""
        cdef bint suspect
        self.tasks.lock.acquire()
        suspect = PyByteArray_AS_STRING(self.suspects)[w] != 0
        PyByteArray_AS_STRING(self.suspects)[w] = 0
        self.tasks.lock.release()
        return suspect
