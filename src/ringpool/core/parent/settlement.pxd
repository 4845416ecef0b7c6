# settlement.pxd - the one way in which the future of a task ends.
#
# Settlement:
# 1. Between the removal and the settlement no Python code runs, and the pool's lock is held: no other thread sees a future that
#    is in neither state.
# 2. finish() and fail() drop what the task calls, last of all: that may run user code. No other function here does.

@cython.final
cdef class Settlement:
    cdef Segment segment
    cdef TaskTable tasks
    cdef ArgumentMemory arguments
    cdef Notifier notifier
    # quiet, with the lock:
    cdef inline void remove(self, FutureBase future) noexcept
    cdef inline void settle(self, FutureBase future, int form, object value) noexcept
    cdef void cancel(self, FutureBase future) noexcept
    # quiet:
    cdef bint conclude(self, FutureBase future, int form, object value) noexcept
    cdef void settle_item(self, FutureBase item, int form, object value) noexcept
    # open:
    cdef void finish(self, FutureBase future, int form, object value) noexcept
    cdef fail(self, FutureBase future, error)

# quiet:
cdef inline bint has_watchers(FutureBase future) noexcept
