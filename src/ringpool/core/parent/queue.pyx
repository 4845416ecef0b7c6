# queue.pyx - see queue.pxd.


cdef inline void set_item(list items, uint64_t i, object item) noexcept:
    """Puts an object in the place of another, to which there are other references. (No item is deallocated here, and no other
    lock taken, as items[i] = item does in a build without the GIL.)"""
    cdef PyObject *before = PyList_GET_ITEM(items, i)
    Py_INCREF(item)
    PyList_SET_ITEM(items, i, item)
    Py_DECREF(<object>before)


@cython.no_gc_clear
cdef class TaskQueue:
    """Futures in an order, in blocks of references that the garbage collector sees. A block is there while it has a future."""

    def __cinit__(self, PoolLock lock):
        self.lock = lock
        self.blocks = [None]
        self.begin = self.end = <uint64_t>1 << 63  # as far from one end of the positions as from the other

    cdef inline bint is_empty(self) noexcept nogil:
        return self.begin == self.end

    cdef inline uint64_t size(self) noexcept nogil:
        return self.end - self.begin

    cdef FutureBase first(self):
        """The first future, or None."""
        cdef FutureBase future = None
        self.lock.acquire()
        if not self.is_empty():
            future = <FutureBase>self.item(self.begin)
        self.lock.release()
        return future

    cdef FutureBase at(self, uint64_t position):
        """The future in this position, or None."""
        cdef FutureBase future = None
        self.lock.acquire()
        if self.begin <= position < self.end:
            future = <FutureBase>self.item(position)
        self.lock.release()
        return future

    cdef bint has_room(self) noexcept:
        """May a future be put in?"""
        c_assert(self.lock.is_held())
        return self.spare is not None and self.n_blocks() < <uint64_t>PyList_GET_SIZE(self.blocks)

    cdef inline uint64_t n_blocks(self) noexcept:
        return 0 if self.is_empty() else (self.end - 1) // QUEUE_BLOCK - self.begin // QUEUE_BLOCK + 1

    cdef inline uint64_t block_of(self, uint64_t position) noexcept:
        """The index of the block with this position."""
        return position // QUEUE_BLOCK & <uint64_t>(PyList_GET_SIZE(self.blocks) - 1)

    cdef inline PyObject *item(self, uint64_t position) noexcept:
        c_assert(self.lock.is_held() and self.begin <= position < self.end)
        return PyList_GET_ITEM(<object>PyList_GET_ITEM(self.blocks, self.block_of(position)), position % QUEUE_BLOCK)

    cdef void put(self, uint64_t position, FutureBase future) noexcept:
        """In a free position, beside those in use. The caller has reserved it."""
        cdef uint64_t b = self.block_of(position)
        if PyList_GET_ITEM(self.blocks, b) == <PyObject *>None:
            c_assert(self.has_room())
            set_item(self.blocks, b, self.spare)
            self.spare = None
        set_item(<list>PyList_GET_ITEM(self.blocks, b), position % QUEUE_BLOCK, future)

    cdef void put_first(self, FutureBase future) noexcept:
        """Before all others. The caller has reserved a place."""
        self.put(self.begin - 1, future)
        self.begin -= 1

    cdef void put_last(self, FutureBase future) noexcept:
        """Behind all others. The caller has reserved a place."""
        self.put(self.end, future)
        self.end += 1

    cdef bint remove_first(self, FutureBase future) noexcept:
        """Removes the first, if it is this one; whether it is."""
        cdef uint64_t b = self.block_of(self.begin)
        cdef list block
        c_assert(self.lock.is_held())
        if self.is_empty() or self.item(self.begin) != <PyObject *>future:
            return False
        block = <list>PyList_GET_ITEM(self.blocks, b)
        set_item(block, self.begin % QUEUE_BLOCK, None)
        self.begin += 1
        if self.is_empty() or self.begin % QUEUE_BLOCK == 0:
            self.spare = block  # the one before goes: it is empty, too
            set_item(self.blocks, b, None)
        return True

    cdef void replace(self, FutureBase future, FutureBase other) noexcept:
        """Another future takes the place of this one, if this one is there. The caller holds a reference."""
        cdef uint64_t position
        for position in range(self.begin, self.end):
            if self.item(position) == <PyObject *>future:
                set_item(<list>PyList_GET_ITEM(self.blocks, self.block_of(position)), position % QUEUE_BLOCK, other)
                break

    cdef int reserve(self) except -1:
        """Makes room for one more. To be called without the lock; what the caller knew before is still so."""
        cdef list spare, blocks, smaller = self.blocks
        cdef uint64_t k
        cdef bint room
        cdef int collects
        self.lock.acquire()
        room = self.has_room()
        self.lock.release()
        if room:
            return 0
        collects = hold_gc()
        try:
            spare = [None] * QUEUE_BLOCK
            blocks = [None] * (2 * PyList_GET_SIZE(smaller))
        finally:
            let_gc(collects)
        self.lock.acquire()
        if self.spare is None:
            self.spare = spare
        if not self.has_room() and self.blocks is smaller:  # else another thread has been here
            for k in range(self.begin // QUEUE_BLOCK, self.begin // QUEUE_BLOCK + <uint64_t>PyList_GET_SIZE(smaller)):
                set_item(blocks, k & <uint64_t>(PyList_GET_SIZE(blocks) - 1),
                         <object>PyList_GET_ITEM(smaller, k & <uint64_t>(PyList_GET_SIZE(smaller) - 1)))
            self.blocks = blocks
        self.lock.release()
        return 0
