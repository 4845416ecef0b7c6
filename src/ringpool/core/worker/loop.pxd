# loop.pxd - what a worker's process does from its first task to its last.
#
# For: worker.py. The worker claims tasks, runs each as a call or a chunk, sleeps, hands over to its successor, and goes.
# Guarantees: a task that has been taken is answered, and answered once, unless the process ends. When run() has returned, the
# worker holds no task. A call is disarmed on every way out of it; then its answer is published.
# Does not: survive what a task's answer cannot be made of: run() raises only what ends the worker.
# May run user code: run(), report_start_error().
#
# The worker's parts, each of which calls only those behind it:
#   loop > chunk > tray > outbox > blocks > hold;  loop, chunk > call > arguments, callables > hold;
#   chunk > arguments, callables

@cython.final
cdef class Worker(Role):
    cdef WorkerHold hold
    cdef rp_worker *pool
    cdef Arguments arguments
    cdef Call call
    cdef ResultOutbox outbox
    cdef ChunkRunner chunk
    # open:
    cdef bint wait(self) except -1
    cdef int execute(self, rp_slot *task) except -1
