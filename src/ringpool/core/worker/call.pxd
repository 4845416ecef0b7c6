# call.pxd - the call that runs: when it may be interrupted, and the call itself.
#
# For: the loop, which begins the call of a task and runs it, and the chunk that runs, which arms a call for each item.
# Between arm(), or begin(), and disarm() the handler of signals raises an exception in the call if the parent has named its
# task, wherever Python code runs; with a time limit, its clock runs. arm() and disarm() come in pairs.
# Guarantees: take_interrupt() says yes once a call at most, and never when none is armed. So a late signal never comes to the
# next task, and a `finally` block of the task is not interrupted again.
# Does not: keep what the call gives, or its error. shield() leaves the clock on: what an exception's own methods do, the
# task has to answer for.
# May run user code: begin(), run().

@cython.final
cdef class Call:
    cdef WorkerHold hold  # keeps the pool
    cdef rp_worker *pool
    cdef Arguments arguments
    cdef Callables callables
    cdef uint64_t task_id  # the task that an exception may be raised in now, or 0
    cdef bint timed        # its clock runs, or has been stopped while it waited for memory
    cdef bint ending       # an exception has been raised in the call that runs, or in the one before
    # raw:
    cdef void arm(self, rp_slot *task) noexcept nogil
    cdef void shield(self) noexcept nogil
    cdef void disarm(self) noexcept nogil
    cdef bint take_interrupt(self, uint64_t *why) noexcept nogil
    # open:
    cdef inline object begin(self, rp_slot *task, Decoder *d)
    cdef object run(self, object fn, int kind, Decoder *d)
    cdef object run_whole(self, object fn, int kind, Decoder *d)
