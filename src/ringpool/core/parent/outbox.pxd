# outbox.pxd - the way of a task from its call to the board.
#
# Outbox:
# 1. A task is encoded into the slot that is reserved for it, into a block, as a stream, or as a parcel.
# 2. Tasks leave the queue in its order, but that chunks that need no memory may pass a task that waits for some.
# 3. While `waiting_for_memory`, the collector is rung for each result.
# 4. submit(), flush() and resend() may run user code. From the reservation of a slot to its publication none runs.

@cython.final
cdef class Outbox:
    cdef Segment segment
    cdef Gate gate
    cdef TaskTable tasks
    cdef Staff staff
    cdef Notifier notifier
    cdef FunctionTable functions
    cdef ArgumentMemory arguments
    cdef Endings endings
    cdef Settlement settlement
    cdef ChunkAccount account
    cdef object queue             # futures whose encoded tasks wait for room
    cdef bint waiting_for_memory  # the arena is full; blocks come back as results do
    cdef bint holding             # there may be chunks in the queue whose items lie in the arena
    # quiet:
    cdef Py_ssize_t put_in_block(self, object args, FutureBase future, Sharing *sharing) noexcept
    cdef void write_stream(self, Pool client, unsigned char *p, Py_ssize_t n, object args) noexcept
    cdef inline void publish(self, rp_slot *slot, FutureBase future) noexcept
    cdef bint try_publish(self, FutureBase future) noexcept
    cdef void let_pass(self) noexcept
    cdef bint holds_unsent(self) noexcept
    cdef void set_waiting_for_memory(self, bint waiting) noexcept
    cdef bint try_cancel(self, FutureBase future) noexcept
    cdef bint check(self) noexcept
    # open:
    cdef FutureBase submit(self, Pool client, fn, tuple args, dict kwargs, Options options)
    cdef FutureBase send_now(self, Pool client, rp_slot *slot, FutureBase future, FunctionEntry entry, uint64_t n,
                             PyObject *args)
    cdef FutureBase submit_pickled(self, Pool client, FutureBase future, FunctionEntry entry, tuple args, dict kwargs)
    cdef refuse(self, FutureBase future, object error)
    cdef int enqueue(self, FutureBase future, bint first) except -1
    cdef void flush(self) noexcept
    cdef resend(self, FutureBase future)
