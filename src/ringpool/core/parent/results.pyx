# results.pyx - see results.pxd.


@cython.no_gc_clear
cdef class Results:
    """The iterator that map returns.

    Args:
        client: The pool's.
        owner: A weak reference to the executor: while it lives, more items are read.
        options: None for the defaults.
        fn: What to call.
        items: An iterator of argument tuples.
        chunksize: Items a chunk; 0: as many as take about two milliseconds.
        buffersize: How many items may have been read from `items` whose results are not being read. 0 for no limit; -1
            for some times as many as are under way.
        ordered: Whether the results come in the order of the items, or as they arrive.
        deadline: By time.monotonic(), when the last result must have come; None for no limit.
        meter: Is shown how many items are done, or None.
    """

    # The tray that is being read:

    def __init__(self, Client client, owner, Options options, fn, items, uint64_t chunksize, int64_t buffersize,
                 bint ordered, deadline, meter):
        cdef Batch batch = client.new_batch(options, fn, chunksize)
        self.client = client
        if not ordered:
            batch.chunks.read_unordered()
        self.lock = client.segment.lock
        self.batch = batch
        self.owner = owner
        self.items = items
        self.buffersize = buffersize
        self.deadline = deadline
        self.meter = meter
        try:
            if client.gate.closed:  # of the first item, as in the stdlib: where there is none, nothing is refused
                if next(items, None) is not None:
                    client.gate.check()
                self.items = None
                return
            self.failure = batch.encode_function()
            if self.failure is None:
                self.read(None)
            else:
                self.items = None if next(items, None) is None else iter(())
        except BaseException:
            self.end()
            raise

    cdef read(self, Chunk coming):
        """Encodes more items, as many as there may be when that chunk is being read, and sends them."""
        cdef Batch batch = self.batch
        cdef uint64_t end = <uint64_t>-1, now
        if self.buffersize:
            # Of a chunk, perhaps a part has come.
            end = batch.pacing.round_up(self.released + (coming.n if coming is not None else 0))
            end += batch.pacing.buffer() if self.buffersize == AUTO else <uint64_t>self.buffersize
        batch.begin_items()
        while self.items is not None and batch.encoded < end:
            if self.buffersize == AUTO and batch.is_full():
                break
            try:
                args = next(self.items)
            except StopIteration:
                self.items = None
                break
            self.client.add_item(batch, <tuple>args)
            args = None  # zip() uses a tuple again to which there is no other reference
            if self.meter is not None:
                now = rp_os_now_ns()
                if batch.encoded % 512 == 0 or now - self.shown_ns > 10000000:
                    self.shown_ns = now
                    self.meter.show(self.client.count_done(batch))
        batch.end_items()
        self.client.send_chunks(batch)

    def __iter__(self):
        return self

    def __next__(self):
        cdef const unsigned char *p
        cdef uint64_t head
        cdef Py_ssize_t n
        cdef bytes tray  # held: what is decoded may run user code, which may close this
        cdef ArenaResult alone
        self.begin_reading()
        try:
            if self.batch is None:
                raise StopIteration
            self.begun = True
            if self.left == 0:
                try:
                    self.next_tray()
                except StopIteration as error:  # of the user's
                    raise RuntimeError("an item, or progress, raised StopIteration") from error
            if self.batch is None:
                raise StopIteration
            if self.alone is not None:
                alone = self.alone
                self.alone = None
                self.left = 0
                try:
                    return alone.value(self.form)
                except StopIteration as error:
                    raise RuntimeError("an item raised StopIteration") from error
            tray = self.tray
            p = <const unsigned char *>PyBytes_AS_STRING(tray) + self.at
            n = PyBytes_GET_SIZE(tray) - self.at
            head = record_head(p, n)
            n = rp_record_bytes(head)
            self.at += RP_RECORD_HEAD + n
            self.left -= 1
            self.index += 1
            if rp_record_kind(head) == KIND_VALUE:
                return decode_whole(p + RP_RECORD_HEAD, n, True)
            try:
                return self.decode(rp_record_kind(head), p + RP_RECORD_HEAD, n)
            except StopIteration as error:  # the item's, not this iterator's
                raise RuntimeError("an item raised StopIteration") from error
        except BaseException:
            self.end()
            raise
        finally:
            self.running = False

    cdef decode(self, int kind, const unsigned char *p, Py_ssize_t n):
        cdef int form = FORM_NONE
        if kind == KIND_VALUE_PICKLE:
            return loads_at(p, n)
        value = self.batch.record(self.index - 1, kind, p, n, &form)
        raise decode_error(value) if form == FORM_REPORT else value

    cdef next_tray(self):
        """Waits for the next chunk that has results, and takes them. At the end, there is no batch any more."""
        cdef Batch batch = self.batch
        cdef Chunk chunk
        batch.yield_to_threads()
        if self.failure is not None and self.items is not None:
            raise self.failure
        while self.left == 0:
            if self.meter is not None:
                self.meter.show(self.client.count_done(batch))
            if self.items is not None:
                if self.owner() is None:
                    self.items = None
                else:
                    self.lock.enter()
                    chunk = None if batch.chunks.is_unordered() else batch.chunks.first
                    self.lock.leave()
                    self.read(chunk)
            chunk = self.next_chunk()
            if chunk is None:
                if self.meter is not None:
                    self.meter.finish(batch.finished)
                self.end()
                return
            form = chunk.form
            value = chunk.value
            if chunk.state != FINISHED:
                raise cancelled_error()
            if form == FORM_TRAY:
                self.tray = payload_bytes(value)
                self.at = sizeof(rp_tray)
                self.left = chunk.n
                self.released += chunk.n
                self.index = chunk.index
            elif (form == FORM_COMPACT or form == FORM_PICKLE) and chunk.n == 1 and type(value) is ArenaResult:
                self.alone = value
                self.form = form
                self.left = 1
                self.released += 1
            elif form == FORM_ERROR:
                raise value
            elif form == FORM_MADE:
                raise value()
            elif form == FORM_OVERRUN:
                raise (<Termination>value).exception()
            else:
                raise RuntimeError("a worker sent a result of an unknown kind")

    cdef Chunk next_chunk(self):
        cdef Batch batch = self.batch
        cdef Chunk chunk
        cdef FutureBase awaited
        cdef bint idle, waits
        if batch.account.n_chunks:
            self.client.drain()
        if not batch.chunks.is_unordered():
            self.lock.enter()
            chunk = batch.chunks.first
            self.lock.leave()
            if chunk is None:
                return self.nothing_left()
            self.wait(chunk)
            self.lock.enter()
            chunk = batch.chunks.pop()
            self.lock.leave()
            return chunk
        awaited = None
        while True:
            self.lock.enter()
            chunk = batch.chunks.pop_completed()
            idle = chunk is None and batch.is_idle()
            waits = chunk is None and not idle and awaited is not None and batch.chunks.announce(awaited)
            self.lock.leave()
            if chunk is not None:
                return chunk
            if idle:
                return self.nothing_left()
            if waits:
                self.wait(awaited)
            awaited = FutureBase()
            awaited.enter_pool(self.client)

    cdef Chunk nothing_left(self):
        cdef uint64_t unsent = self.batch.unsent
        if unsent:  # out of memory
            self.client.send_chunks(self.batch)
            if self.batch.unsent == unsent:
                raise MemoryError("out of memory: cannot send more items")
            return self.next_chunk()
        if self.batch.cut_short:
            raise cancelled_error() if self.batch.failure is None else self.batch.failure()
        return None

    cdef wait(self, FutureBase future):
        if is_done(future.state):
            return
        future.check_here()
        while not is_done(future.state):
            left = None
            if self.deadline is not None:
                left = self.deadline - monotonic()
            if self.meter is None or (left is not None and left <= self.meter.every_s):
                self.client.wait_for(future, left)
                break
            self.client.wait_for(future, self.meter.every_s)
            self.meter.show(self.client.count_done(self.batch))
        if not is_done(future.state):
            raise TimeoutError()

    def close(self):
        """Cancels what has not started; the iterator is at its end.

        Raises:
            ValueError: It is being read.
        """
        if self.running:
            raise ValueError("the iterator cannot be closed while it is being read")
        self.end()

    cdef inline int begin_reading(self) except -1:
        """One thread at a time."""
        cdef object_section section
        cdef bint before
        begin_object(&section, self)
        before = self.running
        self.running = True
        end_object(&section)
        if before:
            raise ValueError("the iterator is already being read")
        return 0

    cdef end(self):
        cdef Batch batch
        cdef object_section section
        begin_object(&section, self)
        batch = self.batch
        self.batch = None
        end_object(&section)
        self.items = None
        self.tray = None
        self.alone = None
        self.left = 0
        if batch is not None:
            self.client.cancel_batch(batch)
        if self.meter is not None:
            meter = self.meter
            self.meter = None
            meter.close()

    def __reduce__(self):
        raise TypeError("cannot pickle or copy the iterator of map: it is read once; send a list of its results")

    def __dealloc__(self):
        if self.batch is not None:
            if self.begun:
                self.client.cancel_batch(self.batch)
            else:  # as in the stdlib: map may be called for its effects only
                self.lock.enter()
                self.batch.detach_reader()
                self.lock.leave()
        if self.meter is not None:
            try:
                self.meter.close()
            except BaseException:
                pass
