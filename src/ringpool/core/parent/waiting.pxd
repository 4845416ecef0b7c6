# waiting.pxd - how a thread or a greenlet waits for a future: it leads, sleeps, resigns.
#
# Guarantees:
# 1. One of the threads that wait leads, and takes in the results of all. The others sleep only while it does.
# 2. It resigns before signal handlers run above it on its stack.
# 3. A wait ends, or looks again, within a second, even if user code holds up the thread that should have told it.
# Not: which threads wait, and for what, is in Waiters; it settles nothing itself, and does not raise TimeoutError.
#
# All functions may run user code: that of a drain, of signal handlers, of other greenlets.

cdef enum:
    GLANCES = 120          # looks with the GIL held, some 3 us: less than giving it up and taking it back may cost

@cython.final
cdef class Waiting:
    cdef Segment segment
    cdef TaskTable tasks
    cdef Staff staff
    cdef Waiters waiters
    cdef Notifier notifier
    cdef Service service
    cdef Recovery recovery
    # open:
    cdef int wait_for(self, FutureBase future, timeout) except -1
    cdef bint glance(self, FutureBase future) noexcept
    cdef int wait_green(self, FutureBase future, timeout) except -1
