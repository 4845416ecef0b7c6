# outbox.pxd - the way of a task from its call to the board.
#
# Outbox:
# 1. A task is encoded first: onto the stack, into a block, or as a parcel. A slot is reserved for what is whole. Only a stream
#    is written when its task has been published.
# 2. Tasks leave the queue in its order, but that chunks that need no memory may pass a task that waits for some.
# 3. While `waiting_for_memory`, the collector is rung for each result.
# 4. submit(), flush() and resend() may run user code. From the reservation of a slot to its publication none runs, no object is
#    created and nothing is encoded.

@cython.final
cdef class Outbox:
    cdef Segment segment
    cdef Gate gate
    cdef TaskTable tasks
    cdef Staff staff
    cdef Notifier notifier
    cdef FunctionTable functions
    cdef ArgumentMemory arguments
    cdef Terminations terminations
    cdef Settlement settlement
    cdef ChunkAccount account
    cdef TaskQueue queue          # encoded tasks that wait for room
    cdef bint waiting_for_memory  # the arena is full; blocks come back as results do
    cdef bint holding             # there may be chunks in the queue whose items lie in the arena
    # raw, with the lock:
    cdef void note_wait(self, bint memory, bint slots) noexcept nogil
    # quiet, with the lock:
    cdef inline void publish(self, rp_slot *slot, FutureBase future) noexcept
    cdef bint find_room(self, FutureBase future, uint64_t *block) noexcept
    cdef inline void note_holding(self, FutureBase future) noexcept
    # raw:
    cdef void give_up_block(self, uint64_t block) noexcept nogil
    # quiet:
    cdef inline bint try_send(self, Pool client, FutureBase future, const rp_slot *task) noexcept
    cdef inline bint try_send_block(self, Pool client, FutureBase future, rp_slot *task, tuple args,
                                    Sharing *sharing) noexcept
    cdef int try_send_parcel(self, Pool client, FutureBase future, Parcel parcel) noexcept
    cdef bint put_in_block(self, object args, rp_slot *task, Sharing *sharing) noexcept
    cdef void write_stream(self, Pool client, uint64_t block, Py_ssize_t n, object args) noexcept
    cdef inline bint is_queued(self, FutureBase future) noexcept
    cdef inline bint waits_for_memory(self, FutureBase future) noexcept
    cdef bint try_publish(self, FutureBase future) noexcept
    cdef bint take_back(self, FutureBase future) noexcept
    cdef void let_pass(self) noexcept
    cdef bint holds_unsent(self) noexcept
    cdef bint try_cancel(self, FutureBase future) noexcept
    cdef bint check(self) noexcept
    # open:
    cdef FutureBase submit(self, Pool client, fn, tuple args, dict kwargs, Options options)
    cdef FunctionEntry look_up(self, fn, FutureBase future)
    cdef inline int sent(self, Options options) except -1
    cdef FutureBase submit_pickled(self, Pool client, FutureBase future, tuple args, dict kwargs, Py_ssize_t size)
    cdef refuse(self, FutureBase future, object error)
    cdef int enqueue(self, FutureBase future, bint first) except -1
    cdef void flush(self) noexcept
    cdef void move_up(self) noexcept
    cdef bint resend(self, FutureBase future) except -1
