# large_items.pyx - see large_items.pxd.

cdef bytes _no_block = bytes(sizeof(rp_apart))


@cython.no_gc_clear  # an iterator that is cleared with it may still cancel its items
cdef class LargeItems:
    """The large items of one batch that are not done, and their memory."""

    def __cinit__(self, Pool client, Segment segment, Gate gate, Staff staff, ArgumentMemory arguments):
        self.client = client
        self.segment = segment
        self.gate = gate
        self.staff = staff
        self.arguments = arguments
        self.parcels = {}

    cdef int add(self, uint64_t index, Parcel parcel, tuple args, bint whole) except -1:
        """An item is there, of parcel.bytes. It is stored if there is room; else parcel.block is 0.

        Args:
            args: If it is to be the compact form of these; else None.
            whole: Whether buffers are copied: see Parcel.store.
        """
        self.parcels[index] = parcel
        self.bytes += parcel.bytes
        self.fresh_bytes += parcel.bytes
        self.waiting += 1
        while self.has_room(parcel):
            self.gate.check()  # user code may have run
            if self.store(parcel, args, whole):
                break
            if not self.arguments.reclaim_if_released():
                break
        return 0

    cdef void hold_plain(self, Parcel parcel, bytes data) noexcept:
        """One that waits is to wait as these bytes, which are all of it."""
        cdef uint64_t n = PyBytes_GET_SIZE(data)
        self.bytes += n - parcel.bytes
        self.fresh_bytes += n - parcel.bytes
        parcel.hold_plain(data)

    cdef bint has_room(self, Parcel parcel) noexcept:
        """May this item, the last, be in the arena before it is sent? Not before another that waits for room, which it might
        take from it. And tasks, and shared objects, that come meanwhile are to find half of the memory."""
        return self.waiting == 1 and self.ahead_bytes + parcel.bytes <= self.segment.pool.arena.quota // 2

    cdef bint store(self, Parcel parcel, tuple args, bint whole) noexcept:
        """Puts an item into the arena, if there is room now."""
        cdef rp_parent *pool = &self.segment.pool
        cdef Sharing sharing
        cdef Py_ssize_t n = parcel.bytes
        cdef unsigned char *p
        if args is None:
            if not self.put(parcel, whole):
                return False
        else:
            sharing.client = <PyObject *>self.client
            sharing.shared = NULL
            self.segment.lock.acquire()
            p = parcel.find_block(&pool.base)
            self.segment.lock.release()
            if p == NULL:
                return False
            if encode_value(p, n, args, &sharing) != n:  # user code has changed it
                self.segment.lock.acquire()
                self.segment.free_block(parcel.drop_block())
                self.segment.lock.release()
                return False
        self.waiting -= 1
        self.ahead_bytes += parcel.bytes
        return True

    cdef bint store_waiting(self, Parcel parcel) noexcept:
        """Puts one that waits into the arena, if there is room now: it is sent at once. Creates no object."""
        if not self.put(parcel, True):
            return False
        self.waiting -= 1
        return True

    cdef bint put(self, Parcel parcel, bint whole) noexcept:
        """Puts a pickle, with its buffers, into the arena, if there is room now. Creates no object."""
        cdef bint found
        self.segment.lock.acquire()
        found = parcel.find_room(&self.segment.pool.base, whole)
        self.segment.lock.release()
        if found:
            parcel.store(&self.segment.pool.base, whole)
        return found

    cdef void chunk_sent(self, uint64_t bytes) noexcept:
        """Items have been sent, with this number of bytes in the arena."""
        self.ahead_bytes -= bytes

    cdef bint check(self, uint64_t sent) noexcept:
        """For the debug build: the sums are what the parcels say. `sent` is the number of items sent."""
        cdef uint64_t n = 0, ahead = 0, waiting = 0
        cdef PyObject *index = NULL
        cdef PyObject *parcel = NULL
        cdef Py_ssize_t at = 0
        while PyDict_Next(self.parcels, &at, &index, &parcel):
            n += (<Parcel>parcel).bytes
            if (<Parcel>parcel).block == 0:
                waiting += 1
            elif <uint64_t><object>index >= sent:
                ahead += (<Parcel>parcel).bytes
        return self.bytes == n and self.waiting == waiting and self.ahead_bytes == ahead

    cdef bint is_empty(self) noexcept:
        return PyDict_Size(self.parcels) == 0

    cdef bint is_full(self) noexcept:
        """Do they take an eighth of the memory for arguments? But each worker is to have one ahead."""
        return (self.bytes > self.segment.pool.arena.quota // 8
                and <uint64_t>PyDict_Size(self.parcels) >= 2 * <uint64_t>self.staff.n_workers)

    cdef bint wants_drain(self) noexcept:
        """Has enough come since the last look for results that another is due?"""
        return self.fresh_bytes >= DRAIN_BYTES

    cdef void drained(self) noexcept:
        """They have been looked for."""
        self.fresh_bytes = 0

    cdef Parcel at(self, uint64_t index):
        """That of an item which is pending."""
        return self.parcels[index]

    cdef Parcel find(self, uint64_t index):
        """That of an item; None if it is done."""
        return self.parcels.get(index)

    cdef void release(self, uint64_t index, bint sent) noexcept:
        """This item is done, or is not wanted: if it is one of these, its blocks are free."""
        cdef Parcel parcel = None
        try:
            parcel = <Parcel>self.parcels.pop(index, None)
        except MemoryError:  # for the number: then the pool keeps them to its end
            pass
        if parcel is None:
            return
        self.bytes -= parcel.bytes
        if parcel.block == 0:
            self.waiting -= 1
            return
        if not sent:
            self.ahead_bytes -= parcel.bytes
        self.segment.lock.acquire()
        self.arguments.release(parcel)
        self.segment.lock.release()

    cdef void worker_died(self, uint64_t begin, uint64_t end, uint32_t w) noexcept:
        """Worker w, which had these items, is dead, and holds nothing of them."""
        cdef uint64_t i
        try:
            for i in range(begin, end):
                parcel = self.parcels.get(i)
                if parcel is not None:
                    self.arguments.force_release(<Parcel>parcel, w)
        except MemoryError:  # for a number: then they are freed when a successor dies
            pass
