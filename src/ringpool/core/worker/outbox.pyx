# outbox.pyx - see outbox.pxd.

cdef enum:
    FEW_BYTES = 2048  # an exception of ours takes no more


cdef inline int answer_in_block(rp_result *answer, uint32_t kind, uint64_t offset, uint64_t n) noexcept nogil:
    answer.kind = kind
    answer.items = 0
    answer.offset = offset
    answer.bytes = n
    return 0


@cython.no_gc
cdef class ResultOutbox:
    """How results leave."""

    def __cinit__(self, WorkerHold hold, ResultBlocks blocks):
        self.hold = hold
        self.pool = &hold.pool
        self.blocks = blocks

    cdef int lay_out(self, object value, rp_result *answer) except -1:
        """Encodes a task's value."""
        cdef Py_ssize_t n = encode_value(answer.inline_bytes, RP_RESULT_INLINE, value)
        if n < 0:
            return self.lay_out_large(value, answer)
        answer.kind = KIND_VALUE
        answer.items = 0
        answer.offset = 0
        answer.bytes = n
        return 0

    cdef int lay_out_large(self, object value, rp_result *answer) except -1:
        """lay_out() of what has no compact form that fits inline."""
        cdef Py_ssize_t n = compact_size(value)
        cdef uint64_t offset
        cdef Parcel parcel
        if n >= 0:
            if not self.blocks.could_fit(n):
                return self.refuse(n, answer)
            offset = self.blocks.find(n)
            if offset:
                RP_STEP(b"worker: block")
                if encode_value(rp_pool_writable(self.pool, offset, n), n, value, NULL, True) == n:
                    RP_STEP(b"worker: block filled")
                    return answer_in_block(answer, KIND_VALUE, offset, n)
                self.blocks.free(offset)  # while this waited for the block, another thread has changed the value
        data = pack(value)
        if type(data) is Parcel:
            parcel = <Parcel>data
            offset = self.blocks.spread(parcel)
            if offset:
                RP_STEP(b"worker: block")
                parcel.fill(&self.pool.base)
                RP_STEP(b"worker: block filled")
                return answer_in_block(answer, KIND_VALUE_PICKLE, offset, parcel.head_bytes())
            if not self.blocks.could_fit(parcel.bytes):
                return self.refuse(parcel.bytes, answer)
            data = parcel.join()
        return self.lay_out_bytes(KIND_VALUE_PICKLE, data, answer)

    cdef int lay_out_bytes(self, uint32_t kind, bytes data, rp_result *answer) except -1:
        """Lays out what has been encoded."""
        cdef uint64_t n = len(data), offset
        if n > RP_RESULT_INLINE:
            offset = self.blocks.find(n)
            if offset:
                RP_STEP(b"worker: block")
                memcpy(rp_pool_writable(self.pool, offset, n), PyBytes_AS_STRING(data), n)
                RP_STEP(b"worker: block filled")
                return answer_in_block(answer, kind, offset, n)
            if kind != KIND_ERROR or n > FEW_BYTES:
                return self.refuse(n, answer)
            n = 0  # not even for that
        memcpy(answer.inline_bytes, PyBytes_AS_STRING(data), n)
        return answer_in_block(answer, kind, 0, n)

    cdef int refuse(self, uint64_t n, rp_result *answer) except -1:
        """The answer is that a result of n bytes has no room."""
        return self.lay_out_bytes(KIND_ERROR, encode_error(self.blocks.no_room(n), ""), answer)

    cdef rp_result *reserve(self) except NULL:
        """A slot of the result ring, waiting for the parent to make room if need be."""
        cdef rp_result *slot
        while True:
            slot = rp_pool_try_result(self.pool)
            if slot != NULL:
                return slot
            rp_pool_stop_clock(self.pool)  # it is not the task that takes the time
            with nogil:
                rp_pool_wait_space(self.pool)
            PyErr_CheckSignals()

    cdef inline void commit(self, rp_result *slot, uint64_t task_id, const rp_result *answer, bint last) noexcept nogil:
        """Publishes a slot, in which what is inline stands already."""
        slot.task_id = task_id
        slot.kind = answer.kind
        slot.items = answer.items
        slot.offset = answer.offset
        slot.bytes = answer.bytes
        rp_pool_publish_result(self.pool, last)

    cdef int publish(self, uint64_t task_id, const rp_result *answer) except -1:
        """Publishes a task's answer."""
        cdef rp_result *slot = self.reserve()
        if answer.offset:
            RP_STEP(b"worker: reserved for block")
        else:
            RP_STEP(b"worker: reserved")
            memcpy(slot.inline_bytes, answer.inline_bytes, answer.bytes)
        self.commit(slot, task_id, answer, True)
        return 0

    cdef bint publish_part(self, uint64_t task_id, rp_result *part, const void *data, uint64_t room, bint last) except -1:
        """Publishes results of a chunk: part.bytes of `data`, which lie at part.offset in a block of `room` bytes; or none.

        Returns:
            Whether they go as they lie: then their block is the parent's.
        """
        cdef rp_result *slot = self.reserve()
        cdef uint64_t block = part.offset
        RP_STEP(b"worker: reserved for part")
        if part.bytes <= RP_RESULT_INLINE:
            part.offset = 0
            if part.bytes:
                memcpy(slot.inline_bytes, data, part.bytes)
        elif part.bytes <= room // 2 and rp_pool_alloc(self.pool, part.bytes, &part.offset) == 0:
            # Results that are not read for long should not take up more than they need.
            memcpy(rp_pool_writable(self.pool, part.offset, part.bytes), data, part.bytes)
        self.commit(slot, task_id, part, last)
        return part.offset == block

    cdef int publish_item(self, uint64_t task_id, const rp_result *item, const rp_tray *head) except -1:
        """Publishes the result of one item of a chunk, which lies in a block of its own."""
        cdef rp_result *slot = self.reserve()
        RP_STEP(b"worker: reserved for item")
        memcpy(slot.inline_bytes, head, sizeof(rp_tray))
        self.commit(slot, task_id, item, False)
        return 0
