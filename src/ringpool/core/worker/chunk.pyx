# chunk.pyx - see chunk.pxd.

cdef bint read_items(const uint8_t *at, uint64_t bytes, Items *items) noexcept nogil:
    """Reads the head of a chunk of `bytes` bytes. False if the head is invalid."""
    items.count = 0
    if bytes < sizeof(rp_chunk_head):
        return False
    items.function_bytes = rp_chunk_function_bytes(at)
    if items.function_bytes > bytes - sizeof(rp_chunk_head):
        return False
    items.function = at + sizeof(rp_chunk_head)
    items.cursor = items.function + items.function_bytes
    items.end = at + bytes
    items.count = rp_chunk_items(at)
    if items.count > RP_CHUNK_ITEMS:
        items.count = 0
        return False
    return True


cdef bint next_record(Items *items, Record *record) noexcept nogil:
    """Reads the head of the next record, and passes it. False if it is cut off: then so is all behind it."""
    cdef uint64_t head
    if items.end - items.cursor < RP_RECORD_HEAD:
        return False
    head = rp_record_at(items.cursor)
    record.at = items.cursor + RP_RECORD_HEAD
    record.bytes = rp_record_bytes(head)
    record.kind = rp_record_kind(head)
    if record.bytes > <uint64_t>(items.end - record.at):
        return False
    items.cursor = record.at + record.bytes
    return True


@cython.no_gc_clear  # while user code runs that is cleared with it, the worker goes on
cdef class ChunkRunner:
    """A chunk that runs."""

    def __cinit__(self, WorkerHold hold, Arguments arguments, Callables callables, Call call, Tray tray):
        self.hold = hold
        self.pool = &hold.pool
        self.arguments = arguments
        self.callables = callables
        self.call = call
        self.tray = tray

    cdef int run(self, rp_slot *task) except -1:
        """Runs the items of one chunk and publishes their results, several at a time. Raises only what ends the worker."""
        cdef Record record
        cdef uint32_t item
        self.begin(task)
        rp_pool_begin_chunk(self.pool, task.task_id, self.items.count)
        self.tray.begin(task.task_id, self.items.count)
        while rp_pool_claim_item(self.pool, &item):
            self.tray.begin_item()
            if self.failure is None and not next_record(&self.items, &record):
                self.failure = encode_error(RuntimeError(f"item {item} of a chunk is truncated"))
            if self.failure is not None:  # and so it is with all behind it
                self.tray.lay_out_bytes(KIND_ERROR, self.failure)
            elif record.kind == ITEM_NOT_ENCODED:
                self.tray.lay_out_bytes(KIND_NOT_ENCODED, b"")
            else:
                self.call_item(task, &record)
            self.tray.end_item()
        self.function = self.failure = None
        self.tray.end()
        return 0

    cdef int begin(self, rp_slot *task) except -1:
        """Reads the head of the chunk."""
        cdef Decoder records
        self.items.count = 0
        try:
            self.arguments.find(task, &records)
            if not read_items(records.cursor, records.end - records.cursor, &self.items):
                raise RuntimeError(f"a chunk of {task.bytes} bytes has an invalid header")
        except BaseException as error:
            self.failure = encode_error(error)
        return 0

    cdef int call_item(self, rp_slot *task, Record *record) except -1:
        """Calls the function with an item, and lays its result out."""
        cdef Decoder arguments
        value = None
        self.call.arm(task)
        try:
            try:
                if self.function is None:
                    self.load(task)
                self.arguments.find_item(record.at, record.bytes, record.kind & ITEM_APART, &arguments)
                value = self.call.run(self.function, <int>record.kind & ~ITEM_APART, &arguments)
                RP_STEP(b"worker: called item")
                if self.hold.forked:
                    sys.exit()
                self.tray.lay_out(value)
            except BaseException as error:
                self.call.shield()
                if self.hold.forked:
                    raise
                data = encode_error(error)
                self.tray.lay_out_bytes(KIND_ERROR, data)
                if self.function is None and not self.call.ending:
                    self.failure = data  # of every item
                # The frames of the task hold its arguments.
                PyException_SetTraceback(error, None)
        finally:
            self.call.disarm()
        value = None  # before end_answer(): views of the item that go with it need not be told of. And before its result counts
        self.hold.end_answer()
        return 0

    cdef int load(self, rp_slot *task) except -1:
        """Finds the function, or unpickles it if it comes with the chunk."""
        if task.fn_id:
            self.function = self.callables.find(task)
            return 0
        self.arguments.begin_decoding()
        try:
            self.function = loads_at(self.items.function, self.items.function_bytes)
        finally:
            self.arguments.end_decoding()
        self.tray.note_load()
        return 0
