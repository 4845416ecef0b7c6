# chunk.pyx - consecutive items of a batch that go to a worker as one task, and what becomes of them.
#
# A Chunk is split wherever its items part: where results have arrived, where its worker died, where the parent took items
# away. So a Chunk is done as a whole, as any future is, and the list of them says in what order the results are read.
#
# A large item lies *apart*: it is a Parcel in blocks of its own, which the worker reads as it reads the arguments of a task.
# The item's record only names them. They belong to the item, whichever chunk it is in, until it is done. An item that finds
# no room in the arena waits as bytes of the parent's, and gets its block when its chunk is the first in the queue.
#
# A large result is sent alone, like that of a task, and settles a Chunk of that one item.
#
# The bytes of a chunk, a tray and a record: see csrc/wire.h.


@cython.final
@cython.no_gc_clear  # a long list of them would be freed from its head, the second within the first, and so on
cdef class Chunk(FutureBase):
    """Consecutive items that went to the workers as one task, or what became of them."""

    cdef Batch batch
    cdef Chunk after     # the items that follow
    cdef uint64_t index  # of its first item in the batch
    cdef uint32_t base   # of its first item in its task: those before it have been split off
    cdef uint32_t n      # items
    cdef bytes page      # holds their records
    cdef Py_ssize_t at   # where
    cdef Parcel waiting  # the only item, while it has no room in the arena; else None
    cdef bint holds      # items that lie apart, in the arena

    cdef Chunk split(self, uint32_t k, Chunk rest):
        """The items from the k-th on become those of `rest`, a new one, which follows this one."""
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
        rest.after = self.after
        rest.pos = POS_QUEUED
        rest.kind = self.kind
        rest.fn = self.fn
        rest.entry = self.entry
        rest.options = self.options
        rest.deaths = 0
        self.after = rest
        self.n = k
        if self.batch.last is self:
            self.batch.last = rest
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
        if not self.batch.gaps and not self.batch.apart:
            memcpy(q, p, used)
        else:
            for i in range(self.n):
                head = rp_record_at(p)
                if not self.batch.gaps or self.batch.wanted(self.index + i):
                    memcpy(q, p, rp_record_span(head))
                    if head & ITEM_APART:
                        parcel = <Parcel>self.batch.apart[self.index + i]
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

    cdef void let_go(self, uint32_t w) noexcept:
        """Worker w, which had it, is dead, and holds nothing of its items."""
        cdef uint64_t i
        if not self.batch.apart:
            return
        try:
            for i in range(self.index, self.index + self.n):
                parcel = self.batch.apart.get(i)
                if parcel is not None:
                    self.batch.client.arguments.force_release(<Parcel>parcel, w)
        except MemoryError:  # for a number: then they are freed when a successor dies
            pass

    cdef bint bring_in(self, rp_pool *pool) noexcept:
        """Finds room for the item that waits, if there is any now. Creates no object."""
        cdef Parcel parcel = self.waiting
        cdef char *record = PyBytes_AS_STRING(self.value) + sizeof(rp_chunk_head) + PyBytes_GET_SIZE(self.batch.function)
        if not parcel.store(pool, True):
            return False
        parcel.pickle = None
        rp_apart_put(record + RP_RECORD_HEAD, parcel.block, parcel.block_bytes)
        self.batch.waiting -= 1
        self.waiting = None
        self.holds = True
        return True
