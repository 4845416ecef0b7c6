# lock.pyx - see lock.pxd.


@cython.no_gc
cdef class PoolLock:
    """The lock and the engine of one pool."""

    cdef inline void enter(self) noexcept nogil:
        """The engine: one thread is in it at a time."""
        pool_engine_enter(&self.engine)

    cdef inline void enter_here(self, Inside *inside) noexcept nogil:
        """enter(), for the rest of a function that may raise: it leaves where it returns."""
        pool_engine_enter_here(&self.engine, inside)

    cdef inline void leave(self) noexcept nogil:
        pool_engine_leave(&self.engine)

    cdef inline bint is_left(self) noexcept nogil:
        """In the engine: whether a thread has stepped out. What it does meanwhile, it has not done yet."""
        return pool_engine_away(&self.engine) != 0

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
        pool_engine_forget(&self.engine)

    cdef void note(self) noexcept nogil:
        """This thread is about to fork, and begin_note() has made room."""
        note_lock(&self.mutex, &self.engine)


if watch_forks():
    raise MemoryError()
