# item_pages.pyx - see item_pages.pxd.


@cython.no_gc  # there are only bytes in it
cdef class ItemPages:
    """Encoded items that have not been sent."""

    def __cinit__(self):
        self.scratch = <unsigned char *>PyMem_RawMalloc(PAGE_BYTES)
        if self.scratch == NULL:
            raise MemoryError()
        self.sealed = deque()

    def __dealloc__(self):
        PyMem_RawFree(self.scratch)

    cdef int make_room(self) except -1:
        """Seals the page if there is little room."""
        if self.used + LEAST_ROOM > PAGE_BYTES:
            self.seal()
        return 0

    cdef inline unsigned char *room(self, Py_ssize_t *n) noexcept:
        """Where the bytes of the next item go, and how many there is room for. Until append(), nothing else may run."""
        n[0] = PAGE_BYTES - self.used - <Py_ssize_t>RP_RECORD_HEAD
        return self.scratch + self.used + RP_RECORD_HEAD

    cdef inline void append(self, int kind, Py_ssize_t n) noexcept:
        """Its n bytes are there: room() said where."""
        rp_record_put(self.scratch + self.used, rp_record_of(kind, n))
        self.used += <Py_ssize_t>RP_RECORD_HEAD + n
        self.filled += 1

    cdef int add(self, int kind, bytes data) except -1:
        """Another item, of these bytes."""
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data), most
        if self.used + <Py_ssize_t>RP_RECORD_HEAD + n > PAGE_BYTES:
            self.seal()
        memcpy(self.room(&most), PyBytes_AS_STRING(data), n)
        self.append(kind, n)
        return 0

    cdef int seal(self) except -1:
        """The page that is being filled is complete."""
        cdef int collects
        if self.filled:
            collects = hold_gc()  # no other thread may seal it meanwhile
            try:
                self.sealed.append((PyBytes_FromStringAndSize(<char *>self.scratch, self.used), self.filled))
                self.used = 0
                self.filled = 0
            finally:
                let_gc(collects)
        return 0

    cdef Cut cut(self, uint64_t n, uint64_t index, LargeItems large) except *:
        """The next items, n at most, which leave with sent(). There is one at least.

        Args:
            index: Of the first.
            large: Those that are large, or None.
        """
        cdef Cut cut
        cdef Parcel parcel
        cdef uint64_t head
        cdef const char *p
        if self.left == 0:
            if not self.sealed:
                self.seal()
            self.page, self.left = self.sealed.popleft()
            self.at = 0
        p = PyBytes_AS_STRING(self.page)
        cut.n = 0
        cut.end = self.at
        cut.ahead_bytes = 0
        while cut.n < n and cut.n < self.left:
            head = rp_record_at(p + cut.end)
            if head & ITEM_APART:
                parcel = large.find(index + cut.n)
                if parcel is None:  # it has been cancelled
                    pass
                elif parcel.block:
                    cut.ahead_bytes += parcel.bytes
                elif cut.n:
                    break  # it goes alone: no other item has to wait for room
                else:
                    n = 1
            cut.end += rp_record_span(head)
            cut.n += 1
        return cut

    cdef void sent(self, Cut *cut) noexcept:
        """These items are a chunk."""
        self.at = cut.end
        self.left -= cut.n
        if self.left == 0:
            self.page = None

    cdef bint check(self, uint64_t unsent) noexcept:
        """For the debug build: `unsent` items are here. (Those of sealed pages are not counted: that would make an object, and
        so use up an allocation that a test has fail.)"""
        cdef uint64_t n = <uint64_t>self.left + self.filled
        return n < unsent if self.sealed else n == unsent

    cdef void clear(self) noexcept:
        """None of the items is wanted."""
        self.sealed.clear()
        self.page = None
        self.left = self.filled = 0
        self.used = 0
