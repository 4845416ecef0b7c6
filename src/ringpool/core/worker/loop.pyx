# loop.pyx - the worker's side of a pool.

cdef enum:
    FEW = 8  # arguments that are passed on without a tuple
    FEW_BYTES = 2048  # an exception of ours takes no more
    START_NS = 100000000  # what a worker may take to start: a bare "spawn" takes so much
    LEAST_ALONE = 65500  # bytes of an item's result that is sent by itself: no tray holds so many, but one made for it
    TRAY_BYTES = 65536  # so few that what it brings is soon decoded, so many that a message costs little of it
    PART_NS = 10000000  # 10 ms: results are sent after so long at the latest, when the item that is being run ends
    MEMORY_CHECK_NS = 1000000  # the least time between two looks at the memory in use, which take some microseconds


cdef Worker _here = None  # what this process works as


def task_is_ending():
    """Whether the task that this worker runs has been told to end."""
    return _here is not None and _here.ending and not _here.hold.forked


def held_here(uint64_t offset, uint64_t n):
    """In a worker: what Client.hold() keeps."""
    if _here is None or _here.hold.forked:
        raise ValueError("globals of a session, where there can be none")
    return _here.arguments.held(offset, n)


def shared_here(uint64_t id, uint64_t offset, uint64_t n):
    """What a shared object is in a pickle of arguments."""
    return shared_at(id, offset, n)


cdef object shared_at(uint64_t id, uint64_t offset, uint64_t n):
    """In a worker that decodes arguments: the shared object."""
    if _here is None or _here.hold.forked or not _here.arguments.decoding:
        raise ValueError("a shared object where there can be none")
    return _here.arguments.shared(id, offset, n)


@cython.final
@cython.no_gc_clear  # a signal handler, or an object that is cleared with it, may still call it
cdef class Worker:
    """One worker's hold on the pool.

    A child that a task forks has no part in it: once it leaves the task, it ends.

    Args:
        memfd: The segment's descriptor, taken over.
        n_places, n_cpus, sizes: Those of the Client.
        index: Which worker this is.

    Raises:
        OSError: The segment is not one of this build of ringpool's.
    """

    cdef WorkerHold hold
    cdef rp_pool *pool
    cdef Arguments arguments
    cdef Callables callables
    cdef uint64_t task_id  # the task that an exception may be raised in now, or 0
    cdef bint ending     # an exception has been raised in the task that runs, or in the one before
    cdef rp_tray *tray   # collects the results of a chunk; NULL until there is one
    cdef uint64_t last_tray[8]  # where there is no room for one: of a result without its value
    cdef uint64_t tray_offset, tray_bytes, tray_used
    cdef uint32_t tray_first, tray_items
    cdef uint64_t tray_ns # when its first item was begun
    cdef uint64_t load_ns # what the function of the chunk took to load, until it has been told

    def __cinit__(self, int memfd, uint32_t n_places, uint32_t n_cpus, tuple sizes, uint32_t index):
        self.hold = WorkerHold(memfd, n_places, n_cpus, sizes, index)
        self.pool = &self.hold.pool
        self.arguments = Arguments(self.hold)
        self.callables = Callables(self.hold)

    def __init__(self, memfd, n_places, n_cpus, sizes, index):
        global _here
        _here = self

    def run(self, uint64_t ticket, max_tasks=None, max_memory=None, int tell=-1):
        """Runs tasks until the pool stops or another worker has taken its place.

        Args:
            ticket: Of this start; the first task waits until it is this worker's turn.
            max_tasks: It takes no more tasks after so many.
            max_memory: It is succeeded when it has more bytes of memory to itself than this after a task.
            tell: An eventfd of the parent's, written to when there is something to do for it.
        """
        cdef uint64_t left = max_tasks or 0, limit = max_memory or 0, done = 0, busy_ns = 0, start = 0, checked_ns = 0
        cdef bint recycled = left or limit, retiring = False
        cdef uint64_t pos
        cdef rp_slot *slot
        cdef rp_slot task
        cdef int rc = -EINTR
        if self.hold.forked:
            return
        while rc == -EINTR:
            with nogil:
                rc = rp_pool_await_turn(self.pool, ticket, tell)
            PyErr_CheckSignals()
        if rc == 0:
            return
        rp_pool_join(self.pool)
        rp_os_tell(tell)  # its predecessor may go
        while True:
            if rp_pool_has_purged(self.pool):
                self.arguments.purge()
                rp_pool_note_purged(self.pool)
            slot = rp_pool_try_claim(self.pool, &pos)
            if slot == NULL:
                if retiring and rp_pool_is_dismissed(self.pool):
                    break
                if not self.wait():
                    break
                continue
            RP_STEP(b"worker: claimed")
            memcpy(<void *>&task, <void *>slot, sizeof(rp_slot))
            rp_pool_take(self.pool, task.task_id, pos)
            if recycled:
                start = rp_os_now_ns()
                # A successor is asked for as long before the last task as a start may take, by the mean of those so far.
                if left and not retiring and (left == 1 or (done and left * (busy_ns // done) <= START_NS)):
                    retiring = True
                    rp_pool_retire(self.pool, RP_SOON, tell)
            RP_STEP(b"worker: taken")
            if task.kind & KIND_MASK == KIND_CHUNK:
                self.execute_chunk(&task)
            else:
                self.execute(&task)
            RP_STEP(b"worker: answered")
            if self.hold.should_trim():
                self.arguments.unmap_idle()
            if rp_pool_is_condemned(self.pool, task.task_id):
                recycled = False  # its place is wanted by nobody yet: it goes at once
                break
            if recycled:
                done += 1
                busy_ns += rp_os_now_ns() - start
                if left:
                    left -= 1
                    if left == 0:
                        break
                if limit and not retiring and rp_os_now_ns() - checked_ns >= MEMORY_CHECK_NS:
                    checked_ns = rp_os_now_ns()
                    if rp_os_own_memory() > limit:
                        retiring = True
                        rp_pool_retire(self.pool, RP_READY, tell)
                if retiring and rp_pool_is_dismissed(self.pool):
                    break
        rp_pool_leave(self.pool)
        rc = -EINTR if recycled else 0
        while rc == -EINTR:
            with nogil:
                rc = rp_pool_await_dismissal(self.pool, tell)
            PyErr_CheckSignals()

    cdef bint wait(self) except -1:
        cdef int i, rc
        if not rp_pool_crowded(self.pool):
            for i in range(GLANCES):
                rp_pause()
                if rp_board_ready(&self.pool.board):
                    return True
        if self.pool.segment.mapped > RP_WINDOWS_KEEP:
            rp_pool_take_returns(self.pool)  # what came back is idle
        with nogil:
            rc = rp_pool_wait_task(self.pool)
        if rc < 0:
            PyErr_CheckSignals()
        return rc != 0

    def interrupt(self, signum, frame):
        """The handler of the signal by which the parent ends a task: raises TaskTimeout or CancelledError in the task
        that is to end, once, if that is still the one that runs. Any other such signal, from the terminal for
        example, does nothing."""
        cdef uint64_t why
        if self.task_id == 0 or self.hold.forked or not rp_pool_take_interrupt(self.pool, self.task_id, &why):
            return
        self.task_id = 0
        self.ending = True
        if why == WHY_CANCELLED:
            raise cancelled_error()
        from ringpool.errors import TaskTimeout

        raise TaskTimeout()

    def report_start_error(self, exc):
        """Tells the parent that the initializer has raised."""
        if self.hold.forked:
            raise exc
        self.send_bytes(0, KIND_START_ERROR, encode_error(exc))

    cdef object execute(self, rp_slot *task):
        """Runs one task and publishes its result. Raises only what ends the worker."""
        cdef int kind = task.kind & KIND_MASK
        cdef bint timed = task.kind & KIND_TIMED
        cdef rp_result *slot
        cdef Py_ssize_t n
        cdef uint64_t offset
        self.ending = False
        self.arguments.begin(task.task_id)
        # From here on a signal may raise an exception, wherever Python code runs, until task_id is 0 again.
        self.task_id = task.task_id
        try:
            if timed:
                rp_pool_start_clock(self.pool)
            fn = self.callables.find(task) if task.fn_id else None
            value = self.call(fn, kind, self.arguments.payload(task), task.bytes - (STREAM_HEAD if task.kind & KIND_STREAM else 0))
            RP_STEP(b"worker: called")
            fn = None
            if self.hold.forked:
                sys.exit()
            slot = self.reserve()
            RP_STEP(b"worker: reserved")
            # From here to the publication no Python code runs: a slot reserved is a slot published.
            n = put(slot.inline_bytes, RP_RESULT_INLINE, value)
            if n >= 0:
                slot.task_id = task.task_id
                slot.kind = KIND_VALUE
                slot.offset = 0
                slot.bytes = n
                self.task_id = 0
                if timed:
                    rp_pool_stop_clock(self.pool)
                self.arguments.end()
                rp_pool_publish_result(self.pool, True)
                return
            n = compact_size(value)
            if n >= 0 and not self.could_fit(n):
                return self.refuse(task, n)
            offset = self.block(n) if n >= 0 else 0
            if offset:
                RP_STEP(b"worker: block")
                if put(rp_pool_writable(self.pool, offset, n), n, value, NULL, True) == n:
                    RP_STEP(b"worker: block filled")
                    value = None
                    self.task_id = 0
                    if timed:
                        rp_pool_stop_clock(self.pool)
                    self.send_block(task.task_id, KIND_VALUE, offset, n)
                    return
                self.free(offset)  # while this waited for the block, another thread has changed the value
            data = pack(value)
            if type(data) is Parcel:
                offset = self.spread(<Parcel>data)
                if offset:
                    RP_STEP(b"worker: block")
                    n = (<Parcel>data).head_bytes()
                    (<Parcel>data).fill(self.pool)
                    RP_STEP(b"worker: block filled")
                    data = None
                elif self.could_fit((<Parcel>data).bytes):
                    data = (<Parcel>data).join()
                else:
                    return self.refuse(task, (<Parcel>data).bytes)
            value = None
            self.task_id = 0
            if timed:
                rp_pool_stop_clock(self.pool)
            if data is None:
                self.send_block(task.task_id, KIND_VALUE_PICKLE, offset, n)
            else:
                self.send_bytes(task.task_id, KIND_VALUE_PICKLE, data)
            return
        except BaseException as error:
            self.task_id = 0
            if self.hold.forked:
                raise
            exc = error
        fn = value = None
        data = encode_error(exc)  # which runs its methods, for which the task has to answer
        if timed:
            rp_pool_stop_clock(self.pool)
        RP_STEP(b"worker: failed")
        # The frames of the task hold its arguments.
        PyException_SetTraceback(exc, None)
        exc = None
        self.send_bytes(task.task_id, KIND_ERROR, data)

    cdef object execute_chunk(self, rp_slot *task):
        """Runs the items of one chunk and publishes their results, several at a time. Raises only what ends the worker."""
        cdef const uint8_t *at
        cdef const uint8_t *end
        cdef const uint8_t *code
        cdef const uint8_t *apart
        cdef uint64_t head, apart_bytes, offset
        cdef uint32_t n = 0, item, size
        cdef uint32_t done = 0, look = 1
        cdef uint64_t now, looked
        cdef bint timed = task.kind & KIND_TIMED
        cdef bint whole
        cdef Py_ssize_t put_bytes
        cdef int kind
        self.ending = False
        fn = failure = data = None
        try:
            at = self.arguments.payload(task)
            end = at + task.bytes
            if task.bytes >= sizeof(rp_chunk_head):
                n = rp_chunk_items(at)
                size = rp_chunk_function_bytes(at)
            if n > RP_CHUNK_ITEMS or <uint64_t>size + sizeof(rp_chunk_head) > task.bytes:
                n = 0
                raise RuntimeError(f"a chunk of {task.bytes} bytes cannot be what it says")
            code = at + sizeof(rp_chunk_head)
            at = code + size
        except BaseException as error:
            failure = encode_error(error)
        rp_pool_begin_chunk(self.pool, task.task_id, n)
        self.begin_tray(0)
        self.tray_ns = looked = rp_os_now_ns()
        while rp_pool_claim_item(self.pool, &item):
            if self.tray == NULL:
                self.new_tray(TRAY_BYTES, False)  # no loan: the item may take long
            head = 0
            if failure is None:
                if end - at >= RP_RECORD_HEAD:
                    head = rp_record_at(at)
                    at += RP_RECORD_HEAD
                    whole = rp_record_bytes(head) <= <uint64_t>(end - at)
                else:
                    whole = False
                if not whole:  # and so it is with all behind it
                    head = 0
                    failure = encode_error(RuntimeError(f"item {item} of a chunk is cut off"))
            value = None
            kind = KIND_VALUE
            put_bytes = -1
            offset = 0
            if failure is not None:
                kind = KIND_ERROR
                data = failure
            elif rp_record_kind(head) == ITEM_UNSENT:
                kind = KIND_UNSENT
                data = b""
            else:
                self.task_id = task.task_id
                try:
                    if timed:
                        rp_pool_start_clock(self.pool)
                    if fn is None:  # within the first item, to whose account it goes if it hangs or kills the worker
                        if task.fn_id:
                            fn = self.callables.find(task)
                        else:
                            self.arguments.begin_decoding()
                            try:
                                fn = loads_at(code, size)
                            finally:
                                self.arguments.end_decoding()
                            now = rp_os_now_ns()
                            self.load_ns = now - self.tray_ns
                            self.tray_ns = looked = now
                    if head & ITEM_APART:
                        apart = self.arguments.apart(at, rp_record_bytes(head), &apart_bytes)
                        value = self.call(fn, <int>rp_record_kind(head) & ~ITEM_APART, apart, apart_bytes)
                    else:
                        value = self.call(fn, <int>rp_record_kind(head), at, rp_record_bytes(head))
                    RP_STEP(b"worker: called item")
                    if self.hold.forked:
                        sys.exit()
                    if self.tray != NULL:
                        put_bytes = put(<unsigned char *>self.tray + self.tray_used + RP_RECORD_HEAD,
                                        self.tray_bytes - self.tray_used - RP_RECORD_HEAD, value)
                    if put_bytes < 0:
                        data = self.lay_out(task.task_id, value, &kind, &offset, &put_bytes)
                    self.task_id = 0
                except BaseException as error:
                    self.task_id = 0
                    offset = 0
                    if self.hold.forked:
                        raise
                    kind = KIND_ERROR
                    put_bytes = -1
                    data = encode_error(error)
                    if fn is None and not self.ending:
                        failure = data  # of every item
                    # The frames of the task hold its arguments.
                    PyException_SetTraceback(error, None)
                if timed:
                    rp_pool_stop_clock(self.pool)
                value = None
                self.arguments.end()
            at += rp_record_bytes(head)
            if offset:
                self.send_item(task.task_id, kind, offset, put_bytes)
            elif put_bytes >= 0:
                self.count_in(kind, put_bytes)
            else:
                self.add_record(task.task_id, kind, data)
                data = None
            done += 1
            if done < n and (self.is_loan(self.tray_offset) or (self.tray_items and self.tray_offset == 0)):
                self.send_tray(task.task_id, KIND_PART)  # at once: others may wait for it, or there is room for no more
            if done == look and done < n:
                now = rp_os_now_ns()
                look += 1 if done < 16 or now - looked > PART_NS // 16 else 16  # seldom while items are short
                looked = now
                if now - self.tray_ns >= PART_NS and self.tray_items:
                    self.send_tray(task.task_id, KIND_PART)
        fn = None
        self.send_tray(task.task_id, KIND_LAST)

    cdef void count_in(self, uint32_t kind, uint64_t n) noexcept:
        """The next record is there: n bytes behind its head."""
        rp_record_put(<uint8_t *>self.tray + self.tray_used, rp_record_of(kind, n))
        self.tray_used += RP_RECORD_HEAD + n
        self.tray_items += 1
        rp_pool_fill_tray(self.tray, self.tray_used)

    cdef add_record(self, uint64_t task_id, int kind, bytes data):
        """Puts an encoded result into the tray, sending what is in it if need be."""
        if not self.make_room(task_id, RP_RECORD_HEAD + len(data)):
            kind = KIND_ERROR
            data = encode_error(self.no_room(len(data)), "")
            if not self.make_room(task_id, RP_RECORD_HEAD + len(data)):
                data = b""
                self.begin_last_tray()
        memcpy(<uint8_t *>self.tray + self.tray_used + RP_RECORD_HEAD, PyBytes_AS_STRING(data), len(data))
        self.count_in(kind, len(data))

    cdef bint make_room(self, uint64_t task_id, uint64_t n) except -1:
        """Sees to a tray with room for n bytes. False if there never is one."""
        if self.tray != NULL and self.tray_used + n <= self.tray_bytes:
            return True
        if self.tray_items:
            self.send_tray(task_id, KIND_PART)
            if self.tray != NULL and self.tray_used + n <= self.tray_bytes:
                return True
        return self.new_tray(max(<uint64_t>TRAY_BYTES, sizeof(rp_tray) + n), True)

    cdef bint new_tray(self, uint64_t n, bint borrows) except -1:
        self.free_tray()
        self.tray_offset = self.own_block(n)
        if self.tray_offset == 0 and borrows:
            self.tray_offset = self.borrow(n)
        if self.tray_offset == 0:
            return False
        self.tray_bytes = n
        self.begin_tray(self.tray_first)
        return True

    cdef void begin_tray(self, uint32_t first) noexcept:
        """The next result is that of item `first`."""
        self.tray = rp_pool_take_tray(self.pool, self.tray_offset, self.tray_bytes, first)
        self.tray_first = first
        self.tray_used = sizeof(rp_tray)
        self.tray_items = 0

    cdef void begin_last_tray(self) noexcept:
        """A tray for one result of no bytes, which goes in the slot. What was in another has been sent."""
        self.free_tray()
        memset(&self.last_tray[0], 0, sizeof(self.last_tray))
        self.tray = <rp_tray *>&self.last_tray[0]
        self.tray.first = self.tray_first
        self.tray_bytes = sizeof(self.last_tray)
        self.tray_used = sizeof(rp_tray)

    cdef void free_tray(self) noexcept:
        """Gives the block of an empty tray back."""
        cdef uint64_t offset = self.tray_offset
        if offset:
            self.tray_offset = 0
            self.begin_tray(self.tray_first)
            self.free(offset)

    cdef void free(self, uint64_t offset) noexcept:
        cdef uint64_t n
        rp_arena_free(&self.pool.arena, offset, &n)  # refuses a loan, which ends by itself

    cdef bint is_loan(self, uint64_t offset) noexcept:
        return rp_pool_within(self.pool, RP_OVERFLOW(self.pool.n_workers), offset, 0)

    cdef bytes lay_out(self, uint64_t task_id, object value, int *kind, uint64_t *offset, Py_ssize_t *n):
        """Encodes the result of an item that has no room in the tray.

        Returns:
            What a tray is to hold; or None if it is in a block of its own, n bytes at `offset`, to be sent next.
        """
        cdef Py_ssize_t size = compact_size(value)
        cdef uint64_t found = 0
        n[0] = -1
        if 0 <= size < LEAST_ALONE:
            return joined(encode(value, kind))
        if size >= 0:
            if not self.could_fit(size):
                kind[0] = KIND_ERROR
                return encode_error(self.no_room(size), "")
            self.send_before(task_id)
            found = self.block(size)
            if found:
                RP_STEP(b"worker: block of item")
                if put(rp_pool_writable(self.pool, found, size), size, value) == size:
                    kind[0] = KIND_VALUE
                    offset[0] = found
                    n[0] = size
                    return None
                self.free(found)  # while this waited for the block, another thread has changed the value
        data = pack(value)
        kind[0] = KIND_VALUE_PICKLE
        if type(data) is bytes:
            return data
        if (<Parcel>data).bytes >= LEAST_ALONE:
            if not self.could_fit((<Parcel>data).bytes):
                kind[0] = KIND_ERROR
                return encode_error(self.no_room((<Parcel>data).bytes), "")
            self.send_before(task_id)
            found = self.spread(<Parcel>data)
            if found:
                RP_STEP(b"worker: block of item")
                (<Parcel>data).fill(self.pool)
                offset[0] = found
                n[0] = (<Parcel>data).head_bytes()
                return None
        return (<Parcel>data).join()

    cdef object send_before(self, uint64_t task_id):
        """Publishes what comes before the result of an item that is about to be sent by itself: a loan would not outlast it."""
        if self.tray_items:
            self.send_tray(task_id, KIND_PART, 1)

    cdef object send_item(self, uint64_t task_id, uint32_t kind, uint64_t offset, uint64_t n):
        """Publishes the result of one item, n bytes in a block of its own. The tray is empty."""
        cdef rp_result *slot = self.reserve()
        cdef rp_tray tray
        cdef uint64_t now = rp_os_now_ns()
        RP_STEP(b"worker: reserved for item")
        tray.first = self.tray_first
        tray.ns = <uint32_t>min(now - self.tray_ns, <uint64_t>UINT32_MAX)
        tray.load_ns = <uint32_t>min(self.load_ns, <uint64_t>UINT32_MAX)
        self.load_ns = 0
        memcpy(slot.inline_bytes, &tray, sizeof(rp_tray))
        slot.task_id = task_id
        slot.kind = kind | KIND_ITEM
        slot.items = 1
        slot.offset = offset
        slot.bytes = n
        rp_pool_publish_result(self.pool, False)
        self.begin_tray(self.tray_first + 1)
        self.tray_ns = now

    cdef object send_tray(self, uint64_t task_id, uint32_t kind, uint32_t running=0):
        """Publishes the results in the tray, which is empty then. So many items more have been run, whose results come next."""
        cdef rp_result *slot = self.reserve()
        cdef uint64_t now = rp_os_now_ns(), offset
        cdef uint64_t ns = (now - self.tray_ns) * self.tray_items // max(self.tray_items + running, 1)
        RP_STEP(b"worker: reserved for part")
        slot.task_id = task_id
        slot.kind = kind
        slot.items = self.tray_items
        slot.offset = 0
        slot.bytes = 0
        if self.tray_items:
            self.tray.ns = <uint32_t>min(ns, <uint64_t>UINT32_MAX)
            self.tray.load_ns = <uint32_t>min(self.load_ns, <uint64_t>UINT32_MAX)
            self.load_ns = 0
            slot.bytes = self.tray_used
            if self.tray_used <= RP_RESULT_INLINE:
                memcpy(slot.inline_bytes, self.tray, self.tray_used)
            elif self.tray_used <= self.tray_bytes // 2 and rp_pool_alloc(self.pool, self.tray_used, &offset) == 0:
                # Results that are not read for long should not take up more than they need.
                memcpy(rp_pool_block(self.pool, self.pool.own, offset, self.tray_used), self.tray, self.tray_used)
                slot.offset = offset
            else:
                slot.offset = self.tray_offset
                self.tray_offset = 0  # it is the parent's
        rp_pool_publish_result(self.pool, kind == KIND_LAST)
        if self.is_loan(self.tray_offset):
            self.tray_offset = 0  # it has ended
        self.begin_tray(self.tray_first + self.tray_items)
        self.tray_ns = self.tray_ns + ns if running else now

    cdef object call(self, object fn, int kind, const uint8_t *p, Py_ssize_t n):
        """Calls fn with arguments that n bytes hold, or what is named there."""
        cdef PyObject *few[FEW]
        cdef const uint8_t *at = p + 2
        cdef uint32_t k = 0
        self.arguments.begin_decoding()
        if kind == KIND_ARGS and n >= 2 and p[0] == TAG_TUPLE and p[1] <= FEW:
            try:
                while k < p[1]:
                    arg = get_importing(&at, p + n, 1)
                    Py_INCREF(arg)
                    few[k] = <PyObject *>arg
                    k += 1
                if at != p + n:
                    raise ValueError("bytes are left over behind the arguments of a task")
                arg = None
                self.arguments.end_decoding()
                RP_STEP(b"worker: decoded")
                return PyObject_Vectorcall(fn, few, k, NULL)
            finally:
                self.arguments.end_decoding()
                while k:
                    k -= 1
                    Py_DECREF(<object>few[k])
        try:
            args = get_whole_importing(p, n) if kind == KIND_ARGS else self.arguments.loads(p, n)
        finally:
            self.arguments.end_decoding()
        kwargs = {}
        if kind != KIND_ARGS:
            if kind == KIND_KWARGS_PICKLE:
                args, kwargs = args
            elif kind == KIND_CALL_PICKLE:
                fn, args, kwargs = args
            elif kind != KIND_ARGS_PICKLE:
                raise RuntimeError(f"a task of an unknown kind {kind}")
        RP_STEP(b"worker: decoded")
        return fn(*args, **kwargs)

    cdef rp_result *reserve(self) except NULL:
        cdef rp_result *slot
        while True:
            slot = rp_pool_try_result(self.pool)
            if slot != NULL:
                return slot
            rp_pool_stop_clock(self.pool)  # it is not the task that takes the time
            with nogil:
                rp_pool_wait_space(self.pool)
            PyErr_CheckSignals()

    cdef object no_room(self, uint64_t n):
        if self.could_fit(n) and self.pool.segment.refused:
            return no_address(self.pool, n)
        if not self.could_fit(n):
            text = f"more than the {self.most()} bytes of shared memory that this pool has for a result"
        else:
            text = (f"and of the {self.pool.arena.quota} bytes of shared memory that this pool has for the results of a worker, "
                    f"and the {self.pool.sizes.overflow_quota} for larger ones of all, not so many are left: arrays of earlier "
                    "results, which the program still uses, take the rest")
        return MemoryError(f"the result takes {n} bytes, {text} (see shared_memory_limit)")

    cdef object refuse(self, rp_slot *task, uint64_t n):
        """Answers a task whose result, of n bytes, has no room."""
        self.task_id = 0
        if task.kind & KIND_TIMED:
            rp_pool_stop_clock(self.pool)
        self.send_bytes(task.task_id, KIND_ERROR, encode_error(self.no_room(n), ""))

    cdef uint64_t most(self) noexcept:
        """Bytes that a result may take if nothing else does."""
        return max(self.pool.arena.quota, self.pool.sizes.overflow_quota)

    cdef bint could_fit(self, uint64_t n) noexcept:
        return n <= self.most()

    cdef object send_bytes(self, uint64_t task_id, uint32_t kind, bytes data):
        cdef uint64_t n = len(data), offset = 0
        cdef rp_result *slot
        if n > RP_RESULT_INLINE:
            offset = self.block(n)
            if offset:
                RP_STEP(b"worker: block")
                memcpy(rp_pool_writable(self.pool, offset, n), PyBytes_AS_STRING(data), n)
                RP_STEP(b"worker: block filled")
                return self.send_block(task_id, kind, offset, n)
            if kind != KIND_ERROR or n > FEW_BYTES:
                return self.send_bytes(task_id, KIND_ERROR, encode_error(self.no_room(n), ""))
            data = b""  # not even for that
            n = 0
        slot = self.reserve()
        memcpy(slot.inline_bytes, PyBytes_AS_STRING(data), n)
        slot.task_id = task_id
        slot.kind = kind
        slot.offset = 0
        slot.bytes = n
        self.arguments.end()
        rp_pool_publish_result(self.pool, True)

    cdef object send_block(self, uint64_t task_id, uint32_t kind, uint64_t offset, uint64_t n):
        """Publishes a result that n bytes of a block hold."""
        cdef rp_result *slot = self.reserve()
        RP_STEP(b"worker: reserved for block")
        slot.task_id = task_id
        slot.kind = kind
        slot.offset = offset
        slot.bytes = n
        self.arguments.end()
        rp_pool_publish_result(self.pool, True)

    cdef uint64_t spread(self, Parcel parcel) except? 0:
        """Finds blocks for a parcel, as block() does. The one that leads to the others, or 0."""
        cdef uint64_t offset
        cdef int err
        while True:
            rp_pool_take_returns(self.pool)
            err = parcel.spread(&self.pool.arena)
            if err == 0:
                return parcel.block
            if not self.wait_memory(err):
                offset = self.borrow(parcel.within(0) + LARGE_BUFFER)
                if offset:
                    parcel.within(offset)
                return offset

    cdef uint64_t block(self, uint64_t n) except? 0:
        """A block of this worker's arena, or a loan; 0 if there is none to be had."""
        cdef uint64_t offset = self.own_block(n)
        return offset if offset else self.borrow(n)

    cdef uint64_t own_block(self, uint64_t n) except? 0:
        """A block of this worker's arena, waiting for the parent to give some back if need be; 0 if there never is one."""
        cdef uint64_t offset
        cdef int err
        while True:
            err = rp_pool_alloc(self.pool, n, &offset)
            if err == 0:
                return offset
            if not self.wait_memory(err):
                return 0

    cdef uint64_t borrow(self, uint64_t n) except? 0:
        """A block of the overflow, until the next result or request: see "Loans" in pool.h. 0 if there is none to be had."""
        cdef uint64_t offset = 0
        cdef int err = -EAGAIN
        if n > self.pool.sizes.overflow_quota:
            return 0
        rp_pool_stop_clock(self.pool)  # it is not the task that takes the time
        rp_pool_ask_loan(self.pool, n)
        try:
            while err == -EAGAIN or err == -EINTR:
                with nogil:
                    err = rp_pool_await_loan(self.pool, &offset)
                PyErr_CheckSignals()
        except BaseException:
            rp_pool_give_up_loan(self.pool)
            raise
        if err:
            self.pool.segment.refused = 0  # it is memory that is wanting
            return 0
        if rp_pool_block(self.pool, RP_OVERFLOW(self.pool.n_workers), offset, n) == NULL:
            return 0
        RP_STEP(b"worker: loan")
        return offset

    cdef bint wait_memory(self, int err) except -1:
        """After an allocation that has failed: waits until another may succeed; False if none ever does."""
        cdef int rc
        cdef uint64_t used
        if self.tray_offset and not self.tray_items:
            self.free_tray()
            return True
        used = self.pool.arena.used_blocks
        if err != -ENOMEM or used == 0:
            return False
        rp_pool_stop_clock(self.pool)  # it is not the task that takes the time
        with nogil:
            rc = rp_pool_wait_memory(self.pool)
        PyErr_CheckSignals()
        return rc != 1 or self.pool.arena.used_blocks != used
