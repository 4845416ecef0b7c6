# segment.pxd - the shared memory of a pool, seen from the process that made it.
#
# Segment:
# 1. Its phases follow each other: new, serving, detached, unmapped. In a forked child, what is not new is forked.
#    is_mapped() says that the mapping is there and that this process owns it. Whatever runs user code looks again.
# 2. After detach(), the mapping stays until the last of its users has let go: blocks that results lie in, and threads that
#    sleep on it. Each of them calls hold() and release(). The pool's lock guards their number, and the parent's arena.
# 3. No function here runs user code.

cdef enum:               # the phases of a segment. From PHASE_DETACHED on it is mapped
    PHASE_NEW = 0        # there is none yet
    PHASE_FORKED = 1     # this process is a forked child: the pool is the parent's
    PHASE_UNMAPPED = 2   # there is none any more
    PHASE_DETACHED = 3   # the workers are gone, and some users are not
    PHASE_SERVING = 4    # workers use it

@cython.final
cdef class Segment:
    cdef PoolLock lock            # the pool's: see lock.pxd
    cdef rp_parent pool           # until create(), zeros and what it is to be made with
    cdef rp_thread_flag phase
    cdef uint64_t users           # see hold()
    # raw:
    cdef inline bint is_mapped(self) noexcept nogil
    cdef void forget(self) noexcept nogil
    cdef inline bint serves(self) noexcept nogil
    cdef inline bint try_use(self) noexcept nogil
    cdef inline void end_use(self) noexcept nogil
    cdef void release(self) noexcept nogil
    cdef void detach(self) noexcept nogil
    cdef bint check(self) noexcept nogil
    # raw, with the lock:
    cdef inline void hold(self) noexcept nogil
    cdef bint stop_if_unused(self) noexcept nogil
    cdef inline bint alloc_block(self, uint64_t n, uint64_t *offset) noexcept nogil
    cdef inline void free_block(self, uint64_t offset) noexcept nogil
    # open:
    cdef int create(self) except -1

# open:
cdef rp_sizes as_sizes(tuple sizes)
