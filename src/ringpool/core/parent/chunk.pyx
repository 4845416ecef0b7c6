# chunk.pyx - see chunk.pxd.


@cython.no_gc_clear
cdef class ChunkOwner:
    """A batch, as its chunks see it."""

    cdef void encode_chunk(self, Chunk chunk) except *:
        """Calls its encode_items()."""
        raise NotImplementedError

    cdef bint find_room(self, Parcel parcel) noexcept:
        """Finds room in the arena for an item that waits, if there is any now. Creates no object."""
        return False

    cdef void worker_died(self, uint64_t begin, uint64_t end, uint32_t w) noexcept:
        """Worker w, which had these items, is dead, and holds nothing of them."""

    cdef void chunk_split(self, Chunk chunk, Chunk rest) noexcept:
        """The items of `rest` were the last of `chunk`."""

    cdef void chunk_done(self, Chunk chunk) noexcept:
        """It is settled. Its caller has taken it off the pool's books."""


@cython.no_gc_clear  # a long list of them would be freed from its head, the second within the first, and so on
cdef class Chunk:
    """Consecutive items that went to the workers as one task, or what became of them."""

    cdef inline void set_items(self, ChunkOwner batch, uint64_t index, uint32_t n, bytes page, Py_ssize_t at) noexcept:
        """Which items of the batch it has, and where in the page their records begin."""
        self.batch = batch
        self.index = index
        self.n = n
        self.page = page
        self.at = at

    cdef inline void link_next(self, Chunk rest) noexcept:
        """The items of `rest` come next, before those of the chunk that came next so far."""
        rest.after = self.after
        self.after = rest

    cdef inline void unlink_next(self) noexcept:
        """The chunk that comes next leaves the list. The caller holds a reference to it."""
        self.after = self.after.unlink()

    cdef inline Chunk unlink(self):
        """Leaves the list, of which it is the first, or from which its predecessor takes it. Gives the chunk that came
        next, or None."""
        cdef Chunk after = self.after
        self.after = None
        return after

    cdef Chunk split(self, uint32_t k, Chunk rest):
        """The items from the k-th on become those of `rest`, a new one, which follows this one. Creates no object."""
        cdef const char *p = PyBytes_AS_STRING(self.page)
        cdef Py_ssize_t at = self.at
        cdef uint64_t head
        cdef uint32_t i
        for i in range(k):
            head = rp_record_at(p + at)
            at += rp_record_span(head)
        rest.set_call(self.fn, self.entry, self.options, self.kind)
        rest.set_items(self.batch, self.index + k, self.n - k, self.page, at)
        rest.base = self.base + k
        self.n = k
        self.batch.chunk_split(self, rest)
        return rest

    cdef void encode(self) except *:
        """Makes `value` what is sent: all its items are, and its task begins with them."""
        self.batch.encode_chunk(self)

    cdef void encode_items(self, bytes function, ItemFutures futures, LargeItems large) except *:
        """encode(), with what its batch has. An item that has been cancelled goes as one that could not be encoded.

        Args:
            function: The pickle of the function; empty if tasks name the function.
            futures: None if the items have none.
            large: The items that lie apart, or None.
        """
        cdef Parcel parcel
        cdef const char *p = PyBytes_AS_STRING(self.page) + self.at
        cdef Py_ssize_t used = 0, n_function = len(function)
        cdef uint64_t head
        cdef uint32_t i, n = <uint32_t>n_function
        cdef bint gaps = futures is not None and futures.gaps
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
        if not gaps and (large is None or large.is_empty()):
            memcpy(q, p, used)
        else:
            for i in range(self.n):
                head = rp_record_at(p)
                if not gaps or futures.is_pending(self.index + i):
                    memcpy(q, p, rp_record_span(head))
                    if head & ITEM_APART:
                        parcel = large.at(self.index + i)
                        rp_apart_put(q + RP_RECORD_HEAD, parcel.block, parcel.block_bytes)
                        if parcel.block:
                            self.holds = True
                        else:
                            self.waiting = parcel
                    q += rp_record_span(head)
                else:
                    rp_record_put(q, rp_record_of(ITEM_NOT_ENCODED, 0))
                    q += RP_RECORD_HEAD
                p += rp_record_span(head)
            value = value[:q - PyBytes_AS_STRING(value)]
        self.value = value
        self.base = 0

    cdef void ended(self) noexcept:
        self.batch.chunk_done(self)

    cdef void worker_died(self, uint32_t w) noexcept:
        """Worker w, which had it, is dead, and holds nothing of its items."""
        self.batch.worker_died(self.index, self.index + self.n, w)

    cdef bint store_waiting(self) noexcept:
        """Finds room for the item that waits, if there is any now. Creates no object."""
        cdef Parcel parcel = self.waiting
        cdef char *value = PyBytes_AS_STRING(self.value)
        cdef char *record = value + sizeof(rp_chunk_head) + rp_chunk_function_bytes(value)
        if not self.batch.find_room(parcel):
            return False
        rp_apart_put(record + RP_RECORD_HEAD, parcel.block, parcel.block_bytes)
        self.waiting = None
        self.holds = True
        return True
cdef inline Chunk new_chunk():
    cdef Chunk chunk = Chunk()
    disown(chunk)
    return chunk


cdef inline uint64_t record_head(const unsigned char *p, Py_ssize_t n) except? 0:
    """The first word of a record, of whose tray n bytes are left."""
    cdef uint64_t head
    if n < RP_RECORD_HEAD:
        raise RuntimeError("a worker sent fewer results than it announced")
    head = rp_record_at(p)
    if rp_record_bytes(head) > <uint64_t>(n - RP_RECORD_HEAD):
        raise RuntimeError("a worker sent a truncated result")
    return head
