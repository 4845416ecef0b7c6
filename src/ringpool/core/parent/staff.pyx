# staff.pyx - see staff.pxd.


@cython.no_gc_clear
cdef class Gate:
    """Whether the pool takes tasks."""

    cdef void close(self, object refusal) noexcept:
        """No tasks are taken from now on: `refusal` makes the exception that says why."""
        self.refusal = refusal

    cdef inline int check(self) except -1:
        """Raises what submit would raise if the pool takes no tasks. That runs user code."""
        if self.refusal is not None:
            raise self.refusal()
        return 0


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
        """Has the supervisor look what there is to do. The GIL is held from the look at the descriptor to the write, so
        it cannot have become another file's."""
        rp_os_notify(self.alarm_fd)

    cpdef void ask_for_workers(self) noexcept nogil:
        """Has the supervisor start as many as there are tasks."""
        cdef uint64_t wanted = min(<uint64_t>self.n_workers, self.tasks.pending())
        if wanted > self.wanted:
            self.wanted = wanted
            self.alarm()

    cdef void mark_suspect(self, uint32_t w) noexcept:
        """Worker w has corrupted shared memory. It may have spoilt the result of another task of its own, which
        would stay pending for ever. So it is killed, and the recovery after its death finds the tasks that no worker has."""
        PyByteArray_AS_STRING(self.suspects)[w] = 1
        self.alarm()

    cdef void clear_suspect(self, uint32_t w) noexcept:
        """Worker w is dead."""
        PyByteArray_AS_STRING(self.suspects)[w] = 0

    cdef void forget(self) noexcept nogil:
        """In a forked child: the supervisor is the parent's."""
        self.alarm_fd = -1

    cdef list take_suspects(self):
        """The workers that are to be killed, each named once."""
        cdef uint32_t w
        cdef list found = []
        for w in range(<uint32_t>len(self.suspects)):
            if self.suspects[w]:
                self.suspects[w] = 0
                found.append(w)
        return found
