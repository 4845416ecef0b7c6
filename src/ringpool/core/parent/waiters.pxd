# waiters.pxd - the threads and greenlets that wait in result().
#
# Waiters:
# 1. Each waiting thread sleeps on a word of its own stack; while one sleeps, the segment stays mapped.
# 2. One waiter at most leads. It resigns before other code runs above it on its stack.
# 3. Greenlets do not sleep here, but on events that the collector sets.
# 4. Only set_events() and what makes an event may run user code.
# 5. The list of waiters, their words and which of them leads change under the pool's lock. A thread sleeps without it: a word
#    that has changed since ends the sleep. The greenlets' events are guarded by the GIL, which greenlets need.

cdef struct Waiter:        # a thread in result(), on its stack
    rp_futex word          # WAIT_ASLEEP, then one of the others
    unsigned long thread
    PyObject *future       # borrowed
    Waiter *next

cdef enum:
    WAIT_ASLEEP = 0
    WAIT_CHECK = 1         # your future is done
    WAIT_LEADER = 2        # you wait on the rings; of all waiters, one at most has this
    WAIT_BUSY = 3          # other code runs above it on its stack: it cannot lead

@cython.final
cdef class Waiters:
    cdef Segment segment
    cdef Waiter *first
    cdef bint has_leader
    cdef public rp_thread_flag green        # the program's threads are greenlets: none may sleep here
    cdef dict sleepers            # if so, id of a future -> the events of the greenlets that wait for it
    cdef object due               # futures among those that are done, whose events are to be set
    # raw:
    cdef inline bint leads(self, Waiter *waiter) noexcept nogil
    cdef void forget(self) noexcept nogil
    cdef void resign(self, Waiter *waiter) noexcept nogil
    cdef void leave(self, Waiter *waiter, FutureBase future) noexcept nogil
    # raw, with the lock:
    cdef void supplant(self, Waiter *waiter) noexcept nogil
    cdef void hand_over(self, Waiter *waiter) noexcept nogil
    # quiet:
    cdef void enter(self, Waiter *waiter, FutureBase future) noexcept
    cdef int sleep(self, Waiter *waiter, uint64_t outstanding, int64_t ns) noexcept
    cdef bint check(self, uint64_t n_blocks) noexcept
    # quiet, with the lock:
    cdef void wake(self, FutureBase future) noexcept
    # open:
    cdef add_sleeper(self, FutureBase future, object event)
    cdef remove_sleeper(self, FutureBase future, object event)
    cdef set_events(self)
