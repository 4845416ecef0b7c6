# arguments.pyx - see arguments.pxd.

@cython.final
@cython.no_gc_clear
cdef class ArgumentView(View):
    """A buffer of a task's arguments, in a block of the parent's, which this worker holds as long as this lives."""

    cdef WorkerHold hold
    cdef rp_word *holder
    cdef uint64_t answering

    def __dealloc__(self):
        cdef WorkerHold hold = self.hold
        if self.holder == NULL or hold.forked:
            return
        rp_store_before_look(self.holder, 0)
        if hold.answering != self.answering:  # else the parent looks when the answer is there
            rp_pool_count_release(&hold.pool)


@cython.final
@cython.no_gc_clear
cdef class ShareLease:
    """As long as this lives, this worker uses a shared object."""

    cdef WorkerHold hold
    cdef unsigned char *table

    def __dealloc__(self):
        if self.table != NULL and not self.hold.forked:
            rp_store_release(rp_share_holder(self.table, self.hold.pool.index), 0)
            rp_pool_count_release(&self.hold.pool)


@cython.final
cdef class ShareView(View):
    """A buffer of a shared object."""

    cdef ShareLease lease


@cython.no_gc_clear  # while user code runs that is cleared with it, the worker goes on
cdef class Arguments:
    """What tasks bring."""

    def __cinit__(self, WorkerHold hold):
        self.hold = hold
        self.pool = &hold.pool
        self.shares = {}

    cdef void unmap_idle(self) noexcept:
        """Between tasks: of what others have sent, only views are in use, and what they keep. Of what this worker has
        sent, nothing that a loan holds: each has ended with its result."""
        self.hold.trim(not has_views() and not self.shares)

    cdef int find(self, rp_slot *task, Decoder *d) except -1:
        """Finds the arguments of a task, or the items of a chunk."""
        cdef const uint8_t *at = task.inline_bytes
        self.lies_at = task.offset
        if task.offset:
            at = rp_pool_block(self.pool, 0, task.offset, task.bytes)
            if at == NULL:
                self.unmap_idle()
                at = self.hold.of_parent(task.offset, task.bytes)
        elif task.bytes > RP_SLOT_INLINE:
            raise RuntimeError("a task refers to memory outside the parent's arena")
        d[0] = Decoder(cursor=at, end=at + task.bytes, source=NULL, shares=True, imports=True)
        if task.kind & KIND_STREAM:
            d.cursor += STREAM_HEAD
            d.source = &self.stream
            self.stream.head = <rp_stream_head *>at
            self.stream.seen = 0
            self.stream.begin = d.cursor
            self.stream.end = d.end
            await_bytes(&self.stream, d.cursor, FORETOLD)
        return 0

    cdef inline int find_item(self, const uint8_t *record, uint64_t size, bint is_apart, Decoder *d) except -1:
        """Finds an item of a chunk: in its record, or apart, where that says."""
        d[0] = Decoder(cursor=record, end=record + size, source=NULL, shares=True, imports=True)
        return self.find_apart(record, size, d) if is_apart else 0

    cdef int find_apart(self, const uint8_t *record, uint64_t size, Decoder *d) except -1:
        if size < sizeof(rp_apart):
            raise RuntimeError("an item refers to memory outside the parent's arena")
        self.lies_at = rp_apart_offset(record)
        size = rp_apart_bytes(record)
        d.cursor = self.hold.of_parent(self.lies_at, size)
        d.end = d.cursor + size
        return 0

    cdef void begin_decoding(self) noexcept:
        self.decoding = True

    cdef void end_decoding(self) noexcept:
        self.decoding = False

    cdef object loads(self, const uint8_t *p, Py_ssize_t n):
        """loads_at() of arguments, whose buffers may lie in blocks of their own."""
        cdef Entry entries[MAX_BUFFERS]
        cdef uint64_t pickle_at
        cdef uint32_t count, k
        cdef unsigned char *at
        cdef ArgumentView view
        cdef list buffers = []
        cdef bint can_stay
        if n == 0 or read_once8(p) != RP_SPREAD:
            return loads_at(p, n)
        if self.hold.answering == 0:  # an item of a chunk
            self.items_seen += 1
            self.hold.begin_answer(self.items_seen)
        # The head, with the pickle, stays as long as any of the buffers does.
        can_stay = not is_forking() and rp_pool_may_hold(self.pool, 0, self.lies_at, n)
        count = read_head(<unsigned char *>p, n, entries, &pickle_at)
        for k in range(count):
            at = self.hold.of_parent(entries[k].offset, entries[k].size)
            if not can_stay or not rp_pool_may_hold(self.pool, 0, entries[k].offset, entries[k].size):
                buffers.append(own_copy(at, entries[k].size, entries[k].readonly))
                continue
            view = ArgumentView()
            disown(view)
            view.hold = self.hold
            view.place(at, entries[k].size, entries[k].readonly)
            view.answering = self.hold.answering
            view.holder = entries[k].holder
            rp_store_release(view.holder, self.pool.index + 1)
            RP_STEP(b"worker: held")
            view.list()
            buffers.append(PyMemoryView_FromObject(view))
        return pickle.loads(PyMemoryView_FromMemory(<char *>p + pickle_at, n - pickle_at, PyBUF_READ), buffers=buffers)

    cdef object shared(self, uint64_t id, uint64_t offset, uint64_t n):
        """A shared object, decoded if this is the first time that it is named."""
        cdef Entry entries[MAX_BUFFERS]
        cdef uint64_t pickle_at, before = rp_share_table_bytes(self.pool.n_workers)
        cdef uint32_t count, k
        cdef unsigned char *at
        cdef ShareLease lease
        cdef ShareView view
        cdef list buffers = []
        known = self.shares.get(id)
        if known is not None:
            return (<tuple>known)[1]
        if n < before:
            raise RuntimeError("a task refers to memory outside the parent's arena")
        at = self.hold.of_parent(offset, n)
        lease = ShareLease()
        disown(lease)
        lease.hold = self.hold
        lease.table = at
        rp_store_release(rp_share_holder(at, self.pool.index), 1)
        at += before
        n -= before
        count = read_head(at, n, entries, &pickle_at)
        for k in range(count):
            view = ShareView()
            disown(view)
            view.place(self.hold.of_parent(entries[k].offset, entries[k].size), entries[k].size, True)
            view.lease = lease
            view.list()
            buffers.append(PyMemoryView_FromObject(view))
        o = pickle.loads(PyMemoryView_FromMemory(<char *>at + pickle_at, n - pickle_at, PyBUF_READ), buffers=buffers)
        self.shares[id] = lease, o
        return o

    cdef object held(self, uint64_t offset, uint64_t n):
        """What Client.hold() keeps."""
        return loads_at(self.hold.of_parent(offset, n), n)

    cdef int purge(self) except -1:
        """Lets go of shared objects whose last handle is gone."""
        for id, known in list(self.shares.items()):
            if rp_load_acquire(rp_share_dying((<ShareLease>(<tuple>known)[0]).table)):
                del self.shares[id]
            known = None
        return 0
