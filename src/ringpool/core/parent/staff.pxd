# staff.pxd - how many workers there should be, which of them are suspect, and the supervisor's alarm.
#
# What changes the refusal, `wanted`, the suspects or the alarm takes the pool's lock. Only the supervisor changes `n_started`
# and `beginner`; what reads one of these, or a count, may find what was a moment ago: whatever changes it looks itself.

@cython.final
cdef class Gate:
    cdef PoolLock lock
    cdef rp_thread_flag closed # whether there is a refusal
    cdef object refusal  # makes the exception that submit raises; None while tasks are taken
    # quiet, with the lock:
    cdef inline bint is_open(self) noexcept
    # open:
    cdef void close(self, object refusal) noexcept
    cdef inline int check(self) except -1
    cdef int refuse(self) except -1

@cython.final
cdef class Staff:
    cdef TaskTable tasks
    cdef readonly uint32_t n_workers        # that take tasks at a time
    cdef int alarm_fd                       # an eventfd of the supervisor's, or -1
    cdef public rp_thread_word n_started          # workers started so far
    cdef readonly rp_thread_word wanted           # how many there should be: never fewer than before
    cdef public rp_thread_word beginner      # the thread that is starting the first workers, or 0
    cdef bytearray suspects                 # a worker: 1 if it has sent what none of ours sends, and is to be killed
    # raw:
    cdef bint is_begun_by(self, unsigned long thread) noexcept nogil
    cdef inline void recruit(self) noexcept nogil
    cpdef void set_alarm(self, int fd) noexcept nogil
    cpdef void alarm(self) noexcept nogil
    cpdef void ask_for_workers(self) noexcept nogil
    cpdef bint want(self, uint64_t n) noexcept nogil
    cdef void forget(self) noexcept nogil
    # quiet:
    cdef void mark_suspect(self, uint32_t w) noexcept
    cdef void clear_suspect(self, uint32_t w) noexcept
    cdef bint take_suspect(self, uint32_t w) noexcept
