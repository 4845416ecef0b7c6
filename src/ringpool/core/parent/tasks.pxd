# tasks.pxd - the pending tasks.
#
# TaskTable:
# 1. It holds a reference to each future that it names.
# 2. enter() cannot fail after reserve(), provided that no other code has run in between: has_room() says so.
# 3. outstanding + queued is the number of entries in use; timed, that of those with a time limit.
# 4. No function here runs user code.
# 5. All that changes it holds the pool's lock, or takes it; so does what looks a task up, until it has a reference.

cdef enum:
    NO_ENTRY = 0xffffffff

cdef struct TaskEntry:
    PyObject *future       # a reference of the table's, or NULL
    uint32_t generation    # counts the uses of this entry, never 0: (generation << 32 | index) names one task for ever
    uint32_t next_free

@cython.final
cdef class TaskTable:
    cdef PoolLock lock
    cdef TaskEntry *entries
    cdef rp_thread_half size
    cdef rp_thread_half first_free
    cdef readonly rp_thread_word outstanding  # tasks on the board or with workers
    cdef rp_thread_word queued                # tasks that wait for room on the board
    cdef rp_thread_word unsent                # batches with items that have not been sent
    cdef rp_thread_word timed                 # tasks with a time limit
    # raw:
    cdef inline uint64_t pending(self) noexcept nogil
    cdef bint has(self, uint64_t task_id) noexcept nogil
    cdef inline void batch_waits(self) noexcept nogil
    cdef inline void batch_sent(self) noexcept nogil
    # raw, with the lock:
    cdef inline PyObject *find(self, uint64_t task_id) noexcept nogil
    cdef inline bint has_room(self) noexcept nogil
    cdef inline void task_published(self) noexcept nogil
    cdef inline void task_queued(self) noexcept nogil
    cdef inline void task_dequeued(self) noexcept nogil
    cdef inline void task_requeued(self) noexcept nogil
    # quiet:
    cdef FutureBase get(self, uint64_t task_id)
    cdef FutureBase at(self, uint32_t i)
    cdef bint holds(self, FutureBase future) noexcept
    cdef bint check(self) noexcept
    # quiet, with the lock:
    cdef bint is_pending(self, FutureBase future) noexcept
    cdef inline void enter(self, FutureBase future) noexcept
    cdef void replace(self, uint64_t task_id, FutureBase future) noexcept
    cdef inline void release(self, FutureBase future) noexcept
    # open:
    cdef inline int reserve(self) except -1
    cdef int grow(self) except -1
