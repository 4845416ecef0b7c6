# queue.pxd - futures of tasks in an order: those that wait for room on the board, and those that are to end.
#
# TaskQueue:
# 1. A future is in it from put_first() or put_last() until it is the first and is removed, whatever becomes of its task. It may
#    be in it twice.
# 2. reserve() makes room for one more, so that the next put cannot fail: has_room() says whether that is still so. What is
#    removed as the first may be put last without that: the blocks behind are used up no sooner than one in front is free.
# 3. A position names one place for ever: that of a future stays the same while others come and go.
# 4. A block that becomes empty is given back, but for one that is kept.
# 5. No function here runs user code. What removes a future has a reference of its own.
# 6. All that changes it holds the pool's lock, or takes it.

cdef enum:
    QUEUE_BLOCK = 256  # futures in a block: 2 KiB, of which an empty queue keeps one; a block costs a list's 56 bytes more

@cython.final
cdef class TaskQueue:
    cdef PoolLock lock
    cdef list blocks          # of lists; that with position p is blocks[p / QUEUE_BLOCK % len(blocks)], a power of two
    cdef list spare           # a block for the next put that needs one, or None
    cdef rp_thread_word begin, end  # the positions that are in use
    # raw:
    cdef inline bint is_empty(self) noexcept nogil
    cdef inline uint64_t size(self) noexcept nogil
    # quiet:
    cdef FutureBase first(self)
    cdef FutureBase at(self, uint64_t position)
    # quiet, with the lock:
    cdef bint has_room(self) noexcept
    cdef inline uint64_t n_blocks(self) noexcept
    cdef inline uint64_t block_of(self, uint64_t position) noexcept
    cdef inline PyObject *item(self, uint64_t position) noexcept
    cdef void put(self, uint64_t position, FutureBase future) noexcept
    cdef void put_first(self, FutureBase future) noexcept
    cdef void put_last(self, FutureBase future) noexcept
    cdef bint remove_first(self, FutureBase future) noexcept
    cdef void replace(self, FutureBase future, FutureBase other) noexcept
    # open:
    cdef int reserve(self) except -1
