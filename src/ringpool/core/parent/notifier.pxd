# notifier.pxd - which threads learn that futures are done, and whether workers ring the collector for each result.
#
# Notifier:
# 1. flush() and drop_deferred() run user code. No other function here does.
# 2. `needs` is mirrored in shared memory, as whether workers ring the collector. A need is set before anything relies on
#    being rung.
# 3. What must be dropped where no user code may run is deferred to the next drop_deferred().
# 4. Needs and watchers change under the pool's lock.

cdef enum:                # why the collector must hear of every result
    NEED_WATCHERS = 1     # a future is watched by other means than result()
    NEED_CHUNKS = 2       # a chunk that ends may start another
    NEED_CLOSING = 4      # the last result ends the pool
    NEED_MEMORY = 8       # queued tasks wait for blocks that come back with results
    NEED_LOANS = 16       # workers wait for a loan
    NEED_GREENLETS = 32   # greenlets wait, which cannot read the rings

cdef extern from *:
    """
    static bool is_collect_set(const struct rp_parent *p) { return rp_load_relaxed(&p->shared->collect) != 0; }
    """
    bint is_collect_set(const rp_parent *p) nogil

@cython.final
cdef class Notifier:
    cdef Segment segment
    cdef TaskTable tasks
    cdef Waiters waiters
    cdef rp_thread_half needs
    cdef uint64_t watched   # pending futures with watchers
    cdef object completed   # done futures whose watchers have not been notified
    cdef list deferred      # references to be dropped
    # raw:
    cdef void set_need(self, uint32_t reason, bint on) noexcept nogil
    cdef inline bint is_closing(self) noexcept nogil
    cdef void ring(self) noexcept nogil
    cdef inline void stop_if_drained(self) noexcept nogil
    # raw, with the lock:
    cdef inline void need(self, uint32_t reason, bint on) noexcept nogil
    cdef void publish_needs(self) noexcept nogil
    cdef inline void unwatch(self) noexcept nogil
    # quiet:
    cdef void watch(self, FutureBase future) noexcept
    cdef bint is_drained(self) noexcept
    cdef void lock_and_notify(self, FutureBase future, bint watched) noexcept
    cdef void defer(self, list held, uint64_t begin, uint64_t end) noexcept
    cdef bint check(self, uint64_t n_blocks) noexcept
    # quiet, with the lock:
    cdef inline void notify(self, FutureBase future, bint watched) noexcept
    # open:
    cdef void drop_deferred(self) noexcept
    cdef flush(self)
