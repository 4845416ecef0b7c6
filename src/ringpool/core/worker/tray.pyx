# tray.pyx - see tray.pxd.

cdef enum:
    LEAST_ALONE = 65500  # bytes of an item's result that is sent by itself: no tray holds that many, but one made for it
    TRAY_BYTES = 65536  # few enough that what it brings is soon decoded, enough that a message costs little of it
    PART_NS = 10000000  # 10 ms: results are sent after so long at the latest, when the item that is being run ends


cdef inline uint32_t clipped(uint64_t ns) noexcept nogil:
    return <uint32_t>min(ns, <uint64_t>UINT32_MAX)


@cython.no_gc
cdef class Tray:
    """The results of a chunk's items."""

    def __cinit__(self, WorkerHold hold, ResultBlocks blocks, ResultOutbox outbox):
        self.hold = hold
        self.pool = &hold.pool
        self.blocks = blocks
        self.outbox = outbox

    cdef inline bint is_there(self) noexcept nogil:
        return self.items != 0 or self.blocks.spare != 0

    cdef void begin(self, uint64_t task_id, uint32_t chunk_items) noexcept nogil:
        """A chunk of `chunk_items` items begins."""
        self.task_id = task_id
        self.chunk_items = chunk_items
        self.look = 1
        self.begin_at(self.blocks.spare, 0)
        self.since_ns = self.looked_ns = rp_os_now_ns()

    cdef void begin_at(self, uint64_t offset, uint32_t first) noexcept nogil:
        """The next result is that of item `first`, in this block. What was in the tray has been sent."""
        self.offset = offset
        self.tray = rp_pool_take_tray(self.pool, offset, self.bytes, first)
        self.first = first
        self.used = sizeof(rp_tray)
        self.items = 0
        self.goes_at_once = False

    cdef void note_load(self) noexcept nogil:
        """Since the chunk began, its function has been loaded."""
        cdef uint64_t now = rp_os_now_ns()
        self.load_ns = now - self.since_ns
        self.since_ns = self.looked_ns = now

    cdef inline int begin_item(self) except -1:
        """An item is about to be run: sees to a tray, if one is available. No loan: the item may take long."""
        if not self.is_there():
            self.find_one(TRAY_BYTES, False)
        return 0

    cdef inline int lay_out(self, object value) except -1:
        """Encodes the result of an item, behind the others if it has room there."""
        cdef Py_ssize_t room = self.bytes - self.used - RP_RECORD_HEAD
        if self.is_there():
            self.laid_out = encode_value(<unsigned char *>self.tray + self.used + RP_RECORD_HEAD, room, value)
            if self.laid_out >= 0:
                return 0
        return self.lay_out_apart(value)

    cdef inline void count_in(self, uint32_t kind, uint64_t n) noexcept nogil:
        """The next record is there: n bytes behind its head."""
        self.blocks.take_spare()
        rp_record_put(<uint8_t *>self.tray + self.used, rp_record_of(kind, n))
        self.used += RP_RECORD_HEAD + n
        self.items += 1
        rp_pool_fill_tray(self.tray, self.used)

    cdef int add(self) except -1:
        """Puts the encoded result into the tray, sending what is in it if need be."""
        cdef bytes data = self.data
        self.data = None
        if not self.make_room(RP_RECORD_HEAD + len(data)):
            self.kind = KIND_ERROR
            data = encode_error(self.blocks.no_room(len(data)), "")
            if not self.make_room(RP_RECORD_HEAD + len(data)):
                data = b""
                self.begin_last()
        memcpy(<uint8_t *>self.tray + self.used + RP_RECORD_HEAD, PyBytes_AS_STRING(data), len(data))
        self.count_in(self.kind, len(data))
        return 0

    cdef bint has_room(self, uint64_t n) noexcept nogil:
        return self.is_there() and self.used + n <= self.bytes

    cdef bint make_room(self, uint64_t n) except -1:
        """Sees to a tray with room for n bytes. False if there never is one."""
        if self.has_room(n):
            return True
        if self.items:
            self.send(KIND_PART)
            if self.has_room(n):
                return True
        return self.find_one(max(<uint64_t>TRAY_BYTES, sizeof(rp_tray) + n), True)

    cdef bint find_one(self, uint64_t n, bint borrows) except -1:
        """Finds an empty tray of n bytes in the place of one that is empty, or not there. A loan has to be filled and sent
        before anything else is asked of the blocks."""
        cdef uint64_t loan = 0, own = self.blocks.find_spare(n)
        if own == 0:
            loan = self.blocks.borrow(n) if borrows else 0
            if loan == 0:
                return False
        self.bytes = n
        self.begin_at(own if own else loan, self.first)
        self.goes_at_once = loan != 0
        return True

    cdef void begin_last(self) noexcept nogil:
        """A tray for one result of no bytes, which goes in the slot. What was in another has been sent."""
        self.blocks.free_spare()
        self.begin_at(0, self.first)
        memset(&self.last[0], 0, sizeof(self.last))
        self.tray = <rp_tray *>&self.last[0]
        self.tray.first = self.first
        self.bytes = sizeof(self.last)
        self.goes_at_once = True

    cdef int lay_out_apart(self, object value) except -1:
        """lay_out() of what has no room in the tray."""
        cdef Py_ssize_t size = compact_size(value)
        cdef uint64_t found
        cdef Parcel parcel
        cdef int kind = 0
        if 0 <= size < LEAST_ALONE:
            data = encode(value, &kind)
            return self.lay_out_bytes(kind, joined(data))
        if size >= 0:
            if not self.blocks.could_fit(size):
                return self.refuse(size)
            self.send_before()
            found = self.blocks.find(size)
            if found:
                RP_STEP(b"worker: block of item")
                if encode_value(rp_pool_writable(self.pool, found, size), size, value) == size:
                    return self.lay_out_block(KIND_VALUE, found, size)
                self.blocks.free(found)  # while this waited for the block, another thread has changed the value
        data = pack(value)
        if type(data) is bytes:
            return self.lay_out_bytes(KIND_VALUE_PICKLE, data)
        parcel = <Parcel>data
        if parcel.bytes >= LEAST_ALONE:
            if not self.blocks.could_fit(parcel.bytes):
                return self.refuse(parcel.bytes)
            self.send_before()
            found = self.blocks.spread(parcel)
            if found:
                RP_STEP(b"worker: block of item")
                parcel.fill(&self.pool.base)
                return self.lay_out_block(KIND_VALUE_PICKLE, found, parcel.head_bytes())
        return self.lay_out_bytes(KIND_VALUE_PICKLE, parcel.join())

    cdef int lay_out_bytes(self, uint32_t kind, bytes data) except -1:
        """The result of an item has been encoded."""
        self.laid_out = -1
        self.kind = kind
        self.data = data
        return 0

    cdef int lay_out_block(self, uint32_t kind, uint64_t block, uint64_t size) except -1:
        """The result of an item is in a block of its own, and will be sent by itself."""
        self.laid_out = -1
        self.kind = kind
        self.block = block
        self.block_bytes = size
        return 0

    cdef int refuse(self, uint64_t n) except -1:
        """The result of an item is that one of n bytes has no room."""
        return self.lay_out_bytes(KIND_ERROR, encode_error(self.blocks.no_room(n), ""))

    cdef inline int end_item(self) except -1:
        """After each item: its result, as it has been laid out, counts. Sends what must not wait for the next item."""
        cdef uint32_t done
        if self.laid_out >= 0:
            self.count_in(KIND_VALUE, self.laid_out)
        elif self.data is not None:
            self.add()
        else:
            self.send_alone()
        done = self.first + self.items
        if done < self.chunk_items and (self.goes_at_once or done == self.look):
            self.send_early(done)
        return 0

    cdef int end(self) except -1:
        """The chunk is over."""
        return self.send(KIND_LAST)

    cdef int send_early(self, uint32_t done) except -1:
        """Sends what is in the tray if it must not wait for the next item, or has waited for long."""
        cdef uint64_t now
        if self.goes_at_once:
            self.send(KIND_PART)
        if done == self.look:
            now = rp_os_now_ns()
            # Seldom while items are short.
            self.look += 1 if done < 16 or now - self.looked_ns > <uint64_t>(PART_NS // 16) else 16
            self.looked_ns = now
            if now - self.since_ns >= PART_NS and self.items:
                self.send(KIND_PART)
        return 0

    cdef int send_before(self) except -1:
        """Publishes what comes before the result of an item that is about to be sent by itself: a loan would not outlast it."""
        if self.items:
            self.send(KIND_PART, 1)
        return 0

    cdef int send_alone(self) except -1:
        """Publishes the result of one item, in a block of its own. The tray is empty."""
        cdef rp_tray head
        cdef rp_result item
        cdef uint64_t now = rp_os_now_ns()
        memset(&head, 0, sizeof(rp_tray))
        head.first = self.first
        head.ns = clipped(now - self.since_ns)
        head.load_ns = clipped(self.load_ns)
        item.kind = self.kind | KIND_ITEM
        item.items = 1
        item.offset = self.block
        item.bytes = self.block_bytes
        self.outbox.publish_item(self.task_id, &item, &head)
        self.load_ns = 0
        self.begin_at(self.blocks.spare, self.first + 1)
        self.since_ns = now
        return 0

    cdef int send(self, uint32_t kind, uint32_t running=0) except -1:
        """Publishes the results in the tray, and empties it. `running` more items have been run; their results come next."""
        cdef rp_result part
        cdef bint goes
        cdef uint64_t now = rp_os_now_ns(), ns = (now - self.since_ns) * self.items // max(self.items + running, 1)
        part.kind = kind
        part.items = self.items
        part.offset = part.bytes = 0
        if self.items:
            part.offset = self.offset
            part.bytes = self.used
            self.tray.ns = clipped(ns)
            self.tray.load_ns = clipped(self.load_ns)
        goes = self.outbox.publish_part(self.task_id, &part, self.tray, self.bytes, kind == KIND_LAST)
        if self.items:
            self.load_ns = 0
            if not (goes or self.goes_at_once):
                self.blocks.put_spare(self.offset)
        self.begin_at(self.blocks.spare, self.first + self.items)
        self.since_ns = self.since_ns + ns if running else now
        return 0
