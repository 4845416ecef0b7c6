# chunk.pyx - see chunk.pxd.


@cython.no_gc_clear  # a long list of them would be freed from its head, the second within the first, and so on
cdef class Chunk:
    """Consecutive items that went to the workers as one task, or what became of them."""

    cdef Chunk split(self, uint32_t k, Chunk rest):
        """The items from the k-th on become those of `rest`, a new one, which follows this one. Creates no object."""
        cdef const char *p = PyBytes_AS_STRING(self.page)
        cdef Py_ssize_t at = self.at
        cdef uint64_t head
        cdef uint32_t i
        for i in range(k):
            head = rp_record_at(p + at)
            at += rp_record_span(head)
        rest.batch = self.batch
        rest.index = self.index + k
        rest.base = self.base + k
        rest.n = self.n - k
        rest.page = self.page
        rest.at = at
        rest.pos = POS_QUEUED
        rest.kind = self.kind
        rest.fn = self.fn
        rest.entry = self.entry
        rest.options = self.options
        rest.deaths = 0
        self.n = k
        self.batch.chunks.insert(rest, self)
        return rest

    cdef void encode(self) except *:
        """Makes `value` what is sent: all its items are, and its task begins with them. One that has been cancelled goes
        as one that could not be encoded."""
        cdef bytes function = self.batch.function
        cdef Parcel parcel
        cdef const char *p = PyBytes_AS_STRING(self.page) + self.at
        cdef Py_ssize_t used = 0, n_function = len(function)
        cdef uint64_t head
        cdef uint32_t i, n = <uint32_t>n_function
        cdef bint gaps = self.batch.has_gaps()
        cdef char *q
        for i in range(self.n):
            head = rp_record_at(p + used)
            used += rp_record_span(head)
        value = PyBytes_FromStringAndSize(NULL, sizeof(rp_chunk_head) + n_function + used)
        q = PyBytes_AS_STRING(value)
        rp_chunk_put(q, self.n, n)
        q += sizeof(rp_chunk_head)
        memcpy(q, PyBytes_AS_STRING(function), n_function)
        q += n_function
        self.waiting = None
        self.holds = False
        if not gaps and not self.batch.has_large():
            memcpy(q, p, used)
        else:
            for i in range(self.n):
                head = rp_record_at(p)
                if not gaps or self.batch.futures.is_pending(self.index + i):
                    memcpy(q, p, rp_record_span(head))
                    if head & ITEM_APART:
                        parcel = self.batch.large.at(self.index + i)
                        rp_apart_put(q + RP_RECORD_HEAD, parcel.block, parcel.block_bytes)
                        if parcel.block:
                            self.holds = True
                        else:
                            self.waiting = parcel
                    q += rp_record_span(head)
                else:
                    rp_record_put(q, rp_record_of(ITEM_UNSENT, 0))
                    q += RP_RECORD_HEAD
                p += rp_record_span(head)
            value = value[:q - PyBytes_AS_STRING(value)]
        self.value = value
        self.base = 0

    cdef void ended(self) noexcept:
        self.batch.chunk_done(self)

    cdef void worker_died(self, uint32_t w) noexcept:
        """Worker w, which had it, is dead, and holds nothing of its items."""
        if self.batch.has_large():
            self.batch.large.worker_died(self.index, self.index + self.n, w)

    cdef bint store_waiting(self) noexcept:
        """Finds room for the item that waits, if there is any now. Creates no object."""
        cdef Parcel parcel = self.waiting
        cdef char *record = PyBytes_AS_STRING(self.value) + sizeof(rp_chunk_head) + PyBytes_GET_SIZE(self.batch.function)
        if not self.batch.large.store_waiting(parcel):
            return False
        rp_apart_put(record + RP_RECORD_HEAD, parcel.block, parcel.block_bytes)
        self.waiting = None
        self.holds = True
        return True
cdef uint64_t record_head(const unsigned char *p, Py_ssize_t n) except? 0:
    """The first word of a record, of whose tray n bytes are left."""
    cdef uint64_t head
    if n < RP_RECORD_HEAD:
        raise RuntimeError("a worker sent fewer results than it announced")
    head = rp_record_at(p)
    if rp_record_bytes(head) > <uint64_t>(n - RP_RECORD_HEAD):
        raise RuntimeError("a worker sent a truncated result")
    return head
