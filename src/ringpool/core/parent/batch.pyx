# batch.pyx - the items of one map: encoded, sent to the workers in chunks, and their results in order.
#
# A *batch* is what one call of map calls its function with. Its items are encoded one after the other, and go in *chunks*:
# one task each, of so many items as take a worker about two milliseconds by what those before them took. Only a few chunks
# are under way at a time, so the size follows the items. When nothing is left to send, a worker without work gets half of
# what lies before a busy one.
#
# The results of a batch are read through an iterator (map: see results.pyx), or each through a future of its own
# (submit_many).

cdef enum:
    PAGE_BYTES = 65536    # of encoded items that are kept together; a chunk lies within one
    AHEAD = 3             # chunks a worker that are under way
    AUTO = -1             # a buffersize
    LEAST_APART = LARGE_BUFFER  # bytes of an item that lies apart. For a smaller one, a page costs less than a block
    FEED_BYTES = 1048576  # of items apart, between two looks for results. It takes 100 us or more to copy so many
    GROWTH = 16           # a chunk has at most so many times the items of the one before

cdef bytes _no_block = bytes(sizeof(rp_apart))
cdef uint64_t BREATH_NS = 5000000  # 5 ms: as often as the interpreter itself has threads take turns
cdef double LOADS = 8  # a chunk is to take so many times what its function takes to load
cdef double CHUNK_NS = 2e6  # what a chunk is meant to take. Each costs the parent some 30 us if it sleeps meanwhile


@cython.final
@cython.no_gc_clear
cdef class Batch:
    """What one call of map or submit_many calls, and what came of it.

    Args:
        client: The pool's.
        options: None for the defaults.
        fn: What to call.
        chunksize: Items a chunk; 0: as many as take about two milliseconds.
    """

    cdef Client client
    cdef ChunkAccount account  # the pool's
    cdef object fn
    cdef FunctionEntry entry
    cdef bytes function    # its pickle, if it goes with each chunk; else empty
    cdef Options options
    cdef dict unsent       # index -> why the item could not be encoded
    cdef dict shared       # id -> a shared object, or what else the arguments refer to; None if there is none

    cdef dict apart        # index -> the Parcel of an item that lies apart, until it is done; None until there is one
    cdef uint64_t apart_bytes  # of all of them
    cdef uint64_t ahead_bytes  # of those that are in the arena, and have not been sent
    cdef uint64_t fresh_bytes  # of those that have been added since results were last looked for
    cdef uint64_t waiting  # how many of them have no room in the arena yet

    # What has been encoded and not been sent.
    cdef object pages      # of (bytes, items)
    cdef bytes page        # the one that chunks are cut from
    cdef Py_ssize_t at
    cdef uint32_t left     # items in it
    cdef unsigned char *scratch  # the one that is being filled
    cdef Py_ssize_t used
    cdef uint32_t filled   # items in it
    cdef uint64_t unfed    # items in all of them
    cdef uint64_t encoded  # items so far
    cdef uint64_t fed      # so far

    cdef bint reading      # more are being read
    cdef bint unread       # nobody will read the results
    cdef uint64_t breath_ns # when other threads last had a chance while items were read
    cdef bint cut_short    # some will not be sent
    cdef object failure    # makes the exception that says why, if they have not been cancelled

    cdef uint32_t chunksize  # 0: by what items take
    cdef uint32_t largest  # chunk of late: halved with each
    cdef double item_ns    # running mean of what an item takes; 0: not known
    cdef double load_ns    # what the function took to load in a worker, for one chunk
    cdef uint64_t under_way  # chunks that are not done
    cdef Chunk first, last # ordered: not read yet; unordered: not done
    cdef object done       # unordered: chunks that are done and not read
    cdef FutureBase news   # done when one is added to them
    cdef list futures      # of submit_many: of the items; None for one whose chunk is done
    cdef bint gaps         # some items have been cancelled on their own
    cdef uint64_t finished # items of chunks that are done
    cdef uint64_t counted  # items of which it has been said that they are done

    def __cinit__(self):
        self.scratch = <unsigned char *>PyMem_RawMalloc(PAGE_BYTES)
        if self.scratch == NULL:
            raise MemoryError()
        self.function = b""
        self.pages = deque()

    def __init__(self, Client client, Options options, fn, uint64_t chunksize):
        self.client = client
        self.account = client.account
        self.options = options
        self.fn = fn
        self.chunksize = <uint32_t>min(chunksize, <uint64_t>RP_CHUNK_ITEMS)
        if options is not None and options.timeout_ns:
            self.chunksize = 1

    cdef load(self):
        """Encodes the function.

        Returns:
            Why it cannot be sent, or None.
        """
        cdef Parcel parcel
        try:
            self.entry = self.client.functions.entry_of(self.fn)
            if self.entry is None:
                parcel = Parcel()
                parcel.client = self.client
                self.function = joined(pack(self.fn, parcel))
                for shared in parcel.shared or ():
                    self.keep(shared)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return error
        return None

    def __dealloc__(self):
        PyMem_RawFree(self.scratch)

    # ---- items ----

    cdef int begin_futures(self) except -1:
        """Each item has a future, which add_future() brings, and more items are being read until end_items()."""
        self.futures = []
        self.reading = True
        return 0

    cdef int add_future(self, FutureBase future) except -1:
        """The next item has this future."""
        future.client = self.client
        future.item_of = self
        future.task_id = self.encoded
        self.futures.append(future)
        return 0

    cdef void begin_items(self) noexcept:
        """More items are being read: a chunk of less than the user's chunksize waits for them."""
        self.reading = True

    cdef void end_items(self) noexcept:
        """No more are."""
        self.reading = False

    cdef put_in(self, tuple args):
        """Encodes one item and now and then sends what there is: the workers must not wait for all of them."""
        if self.client.gate.refusal is not None:
            self.client.gate.check()
        self.add(args)
        if self.encoded % 512 == 0 or self.fresh_bytes >= FEED_BYTES:
            self.fresh_bytes = 0
            self.breathe()
            self.client.drain()
            self.client.chunks.send_chunks(self)
        elif self.under_way < self.client.staff.n_workers and self.has_chunk():  # of items that come slowly each goes at once
            self.client.chunks.send_chunks(self)

    cdef int breathe(self) except -1:
        """Lets signal handlers run, and now and then other threads: an iterator in C gives neither a chance."""
        cdef uint64_t now
        PyErr_CheckSignals()
        now = rp_os_now_ns()
        if now - self.breath_ns >= BREATH_NS:
            self.breath_ns = now
            with nogil:
                pass
        return 0

    cdef add(self, tuple args):
        """Encodes one item. One that cannot be encoded raises why when its result is asked for."""
        cdef Sharing sharing
        cdef Py_ssize_t n
        cdef int kind = KIND_ARGS
        if self.used + 256 > PAGE_BYTES:
            self.turn_page()
        sharing.client = <PyObject *>self.client
        sharing.shared = NULL
        n = put(self.scratch + self.used + RP_RECORD_HEAD,
                min(<Py_ssize_t>LEAST_APART, PAGE_BYTES - self.used - <Py_ssize_t>RP_RECORD_HEAD), args, &sharing)
        if sharing.shared != NULL:
            self.keep(<object>sharing.shared)
        if n < 0:
            try:
                data = self.encode(args, &kind)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                self.release(self.encoded)
                if self.unsent is None:
                    self.unsent = {}
                self.unsent[self.encoded] = error
                kind = ITEM_UNSENT
                data = b""
            self.client.gate.check()  # user code has run
            n = len(data)
            if self.used + RP_RECORD_HEAD + n > PAGE_BYTES:
                self.turn_page()
            memcpy(self.scratch + self.used + RP_RECORD_HEAD, PyBytes_AS_STRING(data), n)
        rp_record_put(self.scratch + self.used, rp_record_of(kind, n))
        self.used += RP_RECORD_HEAD + n
        self.filled += 1
        self.count_in()

    cdef bytes encode(self, tuple args, int *kind):
        """Encodes an item that the page has no room for. What its record holds: of one that lies apart, Chunk.encode() fills
        that in."""
        cdef Client client = self.client
        cdef Parcel parcel = Parcel()
        cdef Sharing sharing
        cdef Py_ssize_t n
        cdef bint compact
        data = None
        parcel.client = client
        sharing.client = <PyObject *>client
        sharing.shared = NULL
        n = compact_size(args, &sharing)
        compact = n >= LEAST_APART
        if compact:
            parcel.bytes = n
            if sharing.shared != NULL:
                self.keep(<object>sharing.shared)
        else:
            data = encode(args, kind, parcel)
            self.keep_all(parcel)
            if type(data) is bytes:
                if len(data) < LEAST_APART:
                    return data
                parcel.pickle = data
                parcel.bytes = len(data)
        if parcel.bytes + len(self.function) + 4096 > client.segment.pool.arena.quota:
            raise MemoryError(
                f"the arguments take {parcel.bytes} bytes, more than the {client.segment.pool.arena.quota} bytes of "
                "shared memory that this pool has for arguments (see shared_memory_limit)")
        if self.apart is None:
            self.apart = {}
        self.apart[self.encoded] = parcel
        self.apart_bytes += parcel.bytes
        self.waiting += 1
        while self.has_room(parcel):
            client.gate.check()  # user code may have run
            if self.store(parcel, args if compact else None):
                break
            if not client.arguments.reclaim_if_released():
                break
        if parcel.block == 0:
            if compact:
                parcel.pickle = joined(encode(args, kind, parcel))
                self.keep_all(parcel)
                self.apart_bytes += PyBytes_GET_SIZE(parcel.pickle) - parcel.bytes
                parcel.bytes = PyBytes_GET_SIZE(parcel.pickle)
            elif parcel.count:
                parcel.pickle = parcel.join()
        self.fresh_bytes += parcel.bytes
        parcel.client = None
        parcel.clear()
        kind[0] |= ITEM_APART
        return _no_block

    cdef bint has_room(self, Parcel parcel) noexcept:
        """May this item, the last, be in the arena before it is sent? Not before another that waits for room, which it might
        take from it. And tasks, and shared objects, that come meanwhile are to find half of the memory."""
        return self.waiting == 1 and self.ahead_bytes + parcel.bytes <= self.client.segment.pool.arena.quota // 2

    cdef bint store(self, Parcel parcel, tuple args) noexcept:
        """Puts an item into the arena, if there is room now.

        Args:
            args: If it is to be the compact form of these; else None.
        """
        cdef rp_pool *pool = &self.client.segment.pool
        cdef Sharing sharing
        cdef Py_ssize_t n = parcel.bytes
        if args is None:
            # The function may write to what is spread. One that is run anew is to find what was sent.
            if not parcel.store(pool, self.options is not None and self.options.retries > 0):
                return False
        else:
            sharing.client = <PyObject *>self.client
            sharing.shared = NULL
            if rp_arena_alloc(&pool.arena, n, &parcel.block):
                return False
            if put(rp_pool_writable(pool, parcel.block, n), n, args, &sharing) != n:  # user code has changed it
                self.client.segment.free_block(parcel.block)
                parcel.block = 0
                return False
            parcel.block_bytes = n
        parcel.pickle = None
        self.waiting -= 1
        self.ahead_bytes += parcel.bytes
        return True

    cdef void release(self, uint64_t index) noexcept:
        """This item is done, or is not wanted: if it lies apart, its blocks are free. Runs no user code."""
        cdef Parcel parcel = None
        if not self.apart:
            return
        try:
            parcel = <Parcel>self.apart.pop(index, None)
        except MemoryError:  # for the number: then the pool keeps them to its end
            pass
        if parcel is None:
            return
        self.apart_bytes -= parcel.bytes
        if parcel.block == 0:
            self.waiting -= 1
            return
        if index >= self.fed:
            self.ahead_bytes -= parcel.bytes
        self.client.arguments.release(parcel)

    cdef keep_all(self, Parcel parcel):
        """keep() for what is in a parcel."""
        for shared in parcel.shared or ():
            self.keep(shared)
        parcel.shared = None

    cdef keep(self, object shared):
        """Keeps what is among the arguments of an item until all are done."""
        if self.shared is None:
            self.shared = {}
        self.shared[id(shared)] = shared

    cdef int count_in(self) except -1:
        if self.unfed == 0:
            self.account.add_unsent(self)
        self.unfed += 1
        self.encoded += 1
        return 0

    cdef turn_page(self):
        cdef int collects
        if self.filled:
            collects = hold_gc()  # nobody else may turn it meanwhile
            try:
                self.pages.append((PyBytes_FromStringAndSize(<char *>self.scratch, self.used), self.filled))
                self.used = 0
                self.filled = 0
            finally:
                let_gc(collects)

    # ---- chunks ----

    cdef bint is_full(self) noexcept:
        """Do the items that lie apart take an eighth of the memory for arguments? But each worker is to have one ahead."""
        return (self.apart_bytes > self.client.segment.pool.arena.quota // 8 and self.under_way
                and <uint64_t>len(self.apart) >= 2 * <uint64_t>self.client.staff.n_workers)

    cdef uint64_t size(self):
        """How many items the next chunk should have."""
        cdef uint64_t n
        if self.chunksize:
            return self.chunksize
        if self.item_ns == 0:
            return 1
        n = <uint64_t>min(max(max(CHUNK_NS, LOADS * self.load_ns) / self.item_ns, 1.0), <double>RP_CHUNK_ITEMS)
        n = min(n, <uint64_t>GROWTH * max(self.largest, 1))
        return min(n, self.unfed // (2 * self.client.staff.n_workers) + 1)

    cdef bint has_chunk(self) noexcept:
        """Whether there is one to send: with a chunksize, a whole one while more items are being read, unless a task waits for
        memory that these have."""
        cdef bint more = self.reading and not self.client.notifier.is_closing() and not (self.client.outbox.waiting_for_memory and self.ahead_bytes)
        return self.unfed >= (self.chunksize if more and self.chunksize else 1)

    cdef bint may_send(self) noexcept:
        """Is there a chunk to send, and are too few of them under way?"""
        return self.has_chunk() and self.under_way < <uint64_t>AHEAD * self.client.staff.n_workers

    cdef bint is_idle(self) noexcept:
        """Is no chunk under way?"""
        return self.under_way == 0

    cdef bint is_sent(self, uint64_t index) noexcept:
        """Has this item been sent, in some chunk?"""
        return index < self.fed

    cdef bint holds_unsent(self) noexcept:
        """Do items lie in the arena that have not been sent?"""
        return self.ahead_bytes > 0

    cdef bint sizes_chunks(self) noexcept:
        """Does the pool decide how many items go together? Else the user has."""
        return self.chunksize == 0

    cdef Chunk next_chunk(self):
        """Makes the next chunk. The caller holds the garbage collector."""
        cdef Chunk chunk
        cdef Parcel parcel
        cdef uint64_t head, n = self.size(), ahead = 0
        cdef uint32_t k = 0
        cdef Py_ssize_t at
        cdef const char *p
        if self.left == 0:
            if not self.pages:
                self.turn_page()
            self.page, self.left = self.pages.popleft()
            self.at = 0
        chunk = Chunk()
        chunk.batch = self
        chunk.index = self.fed
        chunk.fn = self.fn
        chunk.entry = self.entry
        chunk.options = self.options
        chunk.pos = POS_QUEUED
        chunk.kind = KIND_CHUNK
        if self.options is not None and self.options.timeout_ns:
            chunk.kind |= KIND_TIMED
        chunk.page = self.page
        chunk.at = self.at
        p = PyBytes_AS_STRING(self.page)
        at = self.at
        while k < n and k < self.left:
            head = rp_record_at(p + at)
            if head & ITEM_APART:
                parcel = <Parcel>self.apart.get(self.fed + k)
                if parcel is None:  # it has been cancelled
                    pass
                elif parcel.block:
                    ahead += parcel.bytes
                elif k:
                    break  # it goes alone: no other item has to wait for room
                else:
                    n = 1
            at += rp_record_span(head)
            k += 1
        chunk.n = k
        chunk.encode()
        self.ahead_bytes -= ahead
        self.at = at
        self.left -= k
        self.fed += k
        self.unfed -= k
        if self.unfed == 0:
            self.account.remove_unsent(self)
        self.largest = max(self.largest // 2, k)
        if self.left == 0:
            self.page = None
        if self.last is None:
            self.first = chunk
        else:
            self.last.after = chunk
        self.last = chunk
        return chunk

    cdef void measure(self, uint32_t n, const rp_tray *tray) noexcept:
        cdef double each = max(<double>tray.ns, 1.0) / n
        if tray.load_ns:
            self.load_ns = tray.load_ns
        self.item_ns = each if self.item_ns == 0 else (self.item_ns + each) / 2

    cdef void chunk_added(self) noexcept:
        """A chunk more is under way: chunk_done() will be called once for it."""
        self.under_way += 1
        self.account.chunk_added()

    cdef void chunk_done(self, Chunk chunk) noexcept:
        """It is settled. Its caller has taken it off the pool's books."""
        cdef uint64_t i
        self.under_way -= 1
        self.finished += chunk.n
        self.account.chunk_done()
        if self.apart:
            for i in range(chunk.index, chunk.index + chunk.n):
                self.release(i)
            if chunk.state != FINISHED:
                self.client.arguments.tell_of_room()
        if self.futures is not None:
            self.unlink(chunk)
            self.hand_out(chunk)
        elif self.unread:
            self.unlink(chunk)
        elif self.done is not None:
            self.unlink(chunk)
            if chunk.state == FINISHED:
                self.done.append(chunk)
            else:
                self.cut_short = True  # to be told after all that there is
            self.tell_reader()

    cdef void tell_reader(self) noexcept:
        """Who waits for the next chunk that is done looks again."""
        if self.news is not None:
            self.news.settle(FORM_RESULT, None)
            self.client.notifier.notify(self.news, False)
            self.news = None

    cdef void hand_out(self, Chunk chunk) noexcept:
        """Settles the futures of its items."""
        cdef FutureBase future
        cdef Py_ssize_t begin = chunk.index, end = chunk.index + chunk.n, i
        cdef const unsigned char *p = NULL
        cdef Py_ssize_t at = sizeof(rp_tray)
        cdef uint64_t head = 0
        cdef int form
        cdef bint results = chunk.state == FINISHED and chunk.form == FORM_TRAY
        # Nobody else can come by these results, nor by their futures, before they are out: no garbage is collected now.
        cdef int collects = hold_gc()
        tray = b""
        failure = None
        if results:
            try:
                tray = payload_bytes(chunk.value)
            except Exception as error:
                failure = error
        for i in range(begin, end):
            if results and failure is None:
                p = <const unsigned char *>PyBytes_AS_STRING(tray) + at
                try:
                    head = record_head(p, PyBytes_GET_SIZE(tray) - at)
                    at += rp_record_span(head)
                except Exception as error:
                    failure = error
            future = <FutureBase>self.futures[i]
            if future is None or future.state != PENDING:
                continue
            form = chunk.form
            value = chunk.value
            if chunk.state != FINISHED:
                form = FORM_NONE
            elif failure is not None:
                form = FORM_ERROR
                value = failure
            elif results:
                try:
                    value = self.record(i, rp_record_kind(head), p + RP_RECORD_HEAD, rp_record_bytes(head), &form)
                except Exception as error:
                    value = error
                    form = FORM_ERROR
            self.client.settlement.settle_item(future, form, value)
        chunk.value = None
        self.let_go(begin, end)
        let_gc(collects)

    cdef void let_go(self, Py_ssize_t begin, Py_ssize_t end) noexcept:
        """These items are done. Their futures are dropped later: that may run user code."""
        cdef Py_ssize_t i
        try:
            self.client.notifier.defer(self.futures[begin:end])
        except MemoryError:  # then with the batch
            return
        for i in range(begin, end):
            self.futures[i] = None

    cdef record(self, uint64_t index, int kind, const unsigned char *p, Py_ssize_t n, int *form):
        """The value of a result, and its form."""
        if kind == KIND_VALUE:
            form[0] = FORM_RESULT
            try:
                return get_whole(p, n)
            except NumPyIsNeeded:
                form[0] = FORM_COMPACT
                return payload_of(PyBytes_FromStringAndSize(<char *>p, n))
        if kind == KIND_VALUE_PICKLE or kind == KIND_ERROR:
            form[0] = FORM_PICKLE if kind == KIND_VALUE_PICKLE else FORM_REPORT
            return PyBytes_FromStringAndSize(<char *>p, n)
        if kind == KIND_UNSENT and self.unsent is not None and index in self.unsent:
            form[0] = FORM_ERROR
            return self.unsent.pop(index)
        if kind == KIND_UNSENT and self.gaps:
            form[0] = FORM_NONE
            return None
        raise RuntimeError("a worker sent a result of an unknown kind")

    cdef uint64_t count_done(self):
        """The items that are done, also those of chunks that are not."""
        cdef Client client = self.client
        cdef uint64_t n = self.finished, task_id
        cdef uint32_t w, next = 0, end = 0
        cdef PyObject *found
        cdef Chunk chunk
        if not client.segment.open:
            return n
        for w in range(client.segment.pool.n_workers):
            task_id = rp_pool_chunk_of(&client.segment.pool, w)
            found = client.tasks.find(task_id) if task_id else NULL
            if found == NULL or type(<object>found) is not Chunk or (<Chunk>found).batch is not self:
                continue
            chunk = <Chunk>found
            if rp_pool_chunk(&client.segment.pool, w, task_id, &next, &end) and next > chunk.base + 1:
                n += min(next - 1 - chunk.base, chunk.n)  # all that have been begun but one
        self.counted = max(self.counted, n)
        return self.counted

    cdef void cancel_item(self, FutureBase item) noexcept:
        """This pending item is cancelled, alone: none but its parent has it. Runs no user code."""
        cdef uint64_t index = item.task_id
        self.gaps = True
        self.client.settlement.settle_item(item, FORM_NONE, None)
        self.release(index)

    cdef bint wanted(self, uint64_t index) noexcept:
        cdef FutureBase future = <FutureBase>self.futures[index]
        return future is not None and future.state == PENDING

    cdef Chunk chunk_of(self, uint64_t index):
        """The chunk under way that the item is in, or None."""
        cdef Chunk chunk = self.first
        while chunk is not None and not chunk.index <= index < chunk.index + chunk.n:
            chunk = chunk.after
        return chunk

    cdef void unlink(self, Chunk chunk) noexcept:
        """Takes it out of the list: it is not there to be read in order."""
        cdef Chunk before = None, at = self.first
        while at is not chunk:
            if at is None:
                return
            before = at
            at = at.after
        if before is None:
            self.first = chunk.after
        else:
            before.after = chunk.after
        if self.last is chunk:
            self.last = before
        chunk.after = None

    cdef void cancel_unsent(self, object failure=None) noexcept:
        """What has not been sent never will be: its futures are cancelled, or raise what `failure` makes."""
        cdef FutureBase future
        cdef Py_ssize_t i
        if self.unfed:
            self.unfed = 0
            self.cut_short = True
            self.failure = failure
            self.account.remove_unsent(self)
        if self.apart:
            for i in range(self.fed, self.encoded + 1):  # with one that is being added
                self.release(i)
            self.client.arguments.tell_of_room()
        self.pages.clear()
        self.page = None
        self.left = self.filled = 0
        self.used = 0
        self.tell_reader()
        if self.futures is not None:
            for i in range(self.fed, len(self.futures)):
                future = <FutureBase>self.futures[i]
                if future is not None and future.state == PENDING:
                    self.client.settlement.settle_item(future, FORM_NONE if failure is None else FORM_MADE, failure)
            self.let_go(self.fed, len(self.futures))

    cdef void disregard(self) noexcept:
        """Nobody will read the results. What there is to do is done all the same."""
        cdef Chunk chunk = self.first
        cdef Chunk after
        self.unread = True
        self.done = None
        self.first = self.last = None
        while chunk is not None:
            after = chunk.after
            chunk.after = None
            if chunk.state == PENDING:
                if self.last is None:
                    self.first = chunk
                else:
                    self.last.after = chunk
                self.last = chunk
            chunk = after

    cdef void drop(self) noexcept:
        """Nobody reads on: what no worker has begun is not wanted."""
        cdef Client client = self.client
        cdef Chunk chunk
        self.cancel_unsent()
        while self.first is not None:
            # One by one: a list of a million that were freed by its head would free the second within the first, and so on.
            chunk = self.first
            self.first = chunk.after
            chunk.after = None
            if chunk.state == PENDING:
                client.chunks.cancel_unstarted(chunk)
                if chunk.state == PENDING and client.cancel_running:
                    client.endings.begin(chunk, WHY_CANCELLED, -1)
        self.last = None
        client.notifier.stop_if_drained()


cdef uint64_t record_head(const unsigned char *p, Py_ssize_t n) except? 0:
    """The first word of a record, of whose tray n bytes are left."""
    cdef uint64_t head
    if n < RP_RECORD_HEAD:
        raise RuntimeError("a worker sent fewer results than it said")
    head = rp_record_at(p)
    if rp_record_bytes(head) > <uint64_t>(n - RP_RECORD_HEAD):
        raise RuntimeError("a worker sent a result that is cut off")
    return head
