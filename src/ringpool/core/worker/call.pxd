# call.pxd - the call that runs: when it may be interrupted, and the call itself.
#
# For: the loop and the chunk that runs. Between arm() and disarm() the handler of signals raises an exception in the call if
# the parent has named its task, wherever Python code runs; with a time limit, its clock runs. arm() and disarm() come in pairs.
# Guarantees: take_interrupt() says yes once a call at most, and never when none is armed. So a late signal never comes to the
# next task, and a `finally` block of the task is not interrupted again.
# Does not: keep what the call gives, or its error. shield() leaves the clock on: what an exception's own methods do, the
# task has to answer for.
# May run user code: run().

@cython.final
cdef class Call:
    cdef WorkerHold hold  # keeps the pool
    cdef rp_worker *pool
    cdef Arguments arguments
    cdef uint64_t task_id  # the task that an exception may be raised in now, or 0
    cdef bint timed        # its clock runs, or has been stopped while it waited for memory
    cdef bint ending       # an exception has been raised in the call that runs, or in the one before
    # raw:
    cdef void arm(self, uint64_t task_id, bint timed) noexcept nogil
    cdef void shield(self) noexcept nogil
    cdef void disarm(self) noexcept nogil
    cdef bint take_interrupt(self, uint64_t *why) noexcept nogil
    # open:
    cdef object run(self, object fn, int kind, const uint8_t *p, Py_ssize_t n)
    cdef object run_whole(self, object fn, int kind, Decoder *d)
