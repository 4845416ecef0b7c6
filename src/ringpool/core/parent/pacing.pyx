# pacing.pyx - see pacing.pxd.

cdef double LOADS = 8  # a chunk is to take this many times as long as its function takes to load
cdef double CHUNK_NS = 2e6  # what a chunk is meant to take. Each costs the parent some 30 us if it sleeps meanwhile


cdef class Pacing:
    """How a batch is cut into chunks."""

    cdef uint64_t next_size(self, uint64_t unsent) noexcept nogil:
        """How many items the next chunk should have, if there are `unsent`."""
        cdef uint64_t n
        if self.chunksize:
            return self.chunksize
        if self.item_ns == 0:
            return 1
        n = <uint64_t>min(max(max(CHUNK_NS, LOADS * self.load_ns) / self.item_ns, 1.0), <double>RP_CHUNK_ITEMS)
        n = min(n, <uint64_t>GROWTH * max(self.largest, 1))
        return min(n, unsent // (2 * self.n_workers) + 1)

    cdef bint is_enough(self, uint64_t unsent, bint more) noexcept nogil:
        """Do the items make a chunk? With a chunksize, while more are to come, only a whole one."""
        return unsent >= (self.chunksize if more and self.chunksize else 1)

    cdef void chunk_cut(self, uint32_t n) noexcept nogil:
        """A chunk of n items has been cut."""
        self.largest = max(self.largest // 2, n)

    cdef void measure(self, uint32_t n, const rp_tray *tray) noexcept nogil:
        """A worker says what n items took it."""
        cdef double each = max(<double>tray.ns, 1.0) / n
        if tray.load_ns:
            self.load_ns = tray.load_ns
        self.item_ns = each if self.item_ns == 0 else (self.item_ns + each) / 2

    cdef void chunk_added(self) noexcept nogil:
        self.under_way += 1

    cdef void chunk_done(self) noexcept nogil:
        self.under_way -= 1

    cdef bint has_room(self) noexcept nogil:
        """May another chunk be under way?"""
        return self.under_way < AHEAD * self.n_workers

    cdef bint has_idle(self) noexcept nogil:
        """May a worker have no chunk?"""
        return self.under_way < self.n_workers

    cdef uint64_t buffer(self) noexcept nogil:
        """How many items may be read ahead of the results, if the user leaves it to the pool."""
        return 4 * AHEAD * self.n_workers * max(self.largest, 1)

    cdef uint64_t round_up(self, uint64_t n) noexcept nogil:
        """n items, with the rest of the last one's chunk."""
        if self.chunksize > 1 and n % self.chunksize:
            n += self.chunksize - n % self.chunksize
        return n
cdef Pacing new_pacing(uint32_t n_workers, uint32_t chunksize):
    cdef Pacing pacing = Pacing.__new__(Pacing)
    pacing.n_workers = n_workers
    pacing.chunksize = chunksize
    return pacing
