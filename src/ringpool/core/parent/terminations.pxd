# terminations.pxd - ending a task that runs.
#
# A task that runs ends because it is cancelled or has overrun its time. Its *termination* goes through these states:
#
#   state        is left when                                  for
#   ---------    -------------------------------------------   ----------------------------------------------------
#   begun        a worker is seen to hold the task             interrupted
#   interrupted  the exception has had no effect for a pause   interrupted once more: the pause doubles
#                its grace is over                             condemned
#                another worker holds the task                 interrupted, there
#   condemned    the result comes, or the worker dies          over
#
# In each state a result that arrives ends it: the future then says that it was cancelled, or raises TaskTimeout.
#
# Terminations:
# 1. begin() and describe() may run user code: the name of a task. No other function here does.
# 2. A task that is to end has its termination and is in `futures` from one stretch with the pool's lock on.
# 3. The supervisor is alarmed whenever what it has to do may have come nearer.

@cython.final
cdef class Terminations:
    cdef Segment segment
    cdef TaskTable tasks
    cdef Staff staff
    cdef TaskQueue futures    # of the tasks that are to end
    cdef int64_t shortest_ns  # the shortest time limit since there was no task with one
    cdef dict forgiven        # id of a task with a time limit -> nanoseconds of its run that do not count; or None
    # quiet, with the lock:
    cdef void adopt(self, FutureBase future, FutureBase before) noexcept
    # quiet:
    cdef FutureBase rotate(self)
    cdef bint check(self) noexcept
    cdef bint interrupt(self, FutureBase future, uint32_t w, uint64_t now, uint64_t *due) noexcept
    # open:
    cdef keep_time(self, Options options)
    cdef bint begin(self, FutureBase future, int why, int64_t grace_ns) except -1
    cdef forgive(self, uint64_t now, uint64_t lost)
    cdef uint64_t begin_overdue(self, uint64_t now) except? 0
    cdef spare(self, uint32_t w)

# open:
cdef describe(FutureBase future)
