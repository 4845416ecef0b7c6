# lock.pyx - see lock.pxd.


@cython.no_gc
cdef class PoolLock:
    """The lock of one pool."""

    cdef inline void acquire(self) noexcept nogil:
        pool_mutex_lock(&self.mutex)

    cdef inline void release(self) noexcept nogil:
        pool_mutex_unlock(&self.mutex)

    cdef inline bint is_held(self) noexcept nogil:
        """For assertions: whether this thread holds it."""
        return pool_mutex_is_held(&self.mutex)

    cdef void forget(self) noexcept nogil:
        """In a forked child: no thread holds it."""
        pool_mutex_forget(&self.mutex)
