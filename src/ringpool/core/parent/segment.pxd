# segment.pxd - the shared memory of a pool, seen from the process that made it.
#
# Segment:
# 1. `mapped` says that the mapping is there and that this process owns it. Whatever runs user code looks again.
# 2. After detach(), the mapping stays until the last of its users has let go: blocks that results lie in, and threads that
#    sleep on it. Each of them calls hold() and release().
# 3. No function here runs user code.

@cython.final
cdef class Segment:
    cdef PoolLock lock            # for those that change the task table: see lock.pxd
    cdef rp_parent pool           # until create(), zeros and what it is to be made with
    cdef bint mapped
    cdef bint created             # it has been there
    cdef bint detached            # the pool is done; the mapping stays for its users
    cdef readonly bint forked     # by a fork: this process has no use of it
    cdef uint64_t users
    # raw:
    cdef void forget(self) noexcept nogil
    cdef inline bint serves(self) noexcept nogil
    cdef void hold(self) noexcept nogil
    cdef void release(self) noexcept nogil
    cdef void detach(self) noexcept nogil
    cdef void unmap_if_unused(self) noexcept nogil
    cdef inline void free_block(self, uint64_t offset) noexcept nogil
    # open:
    cdef int create(self) except -1

# open:
cdef rp_sizes as_sizes(tuple sizes)
