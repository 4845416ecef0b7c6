# batch.pyx - see batch.pxd.

cdef uint64_t YIELD_NS = 5000000  # 5 ms: as often as the interpreter itself has threads take turns


@cython.no_gc_clear  # an iterator that is cleared with it may still cancel it
cdef class Batch:
    """What one call of map or submit_many calls, and what came of it.

    Args:
        client: The pool, for futures and for the codec.
        segment, gate, staff, functions, notifier, arguments, settlement, account: Its parts.
        options: None for the defaults.
        fn: What to call.
        chunksize: Items a chunk; 0: as many as take about two milliseconds.
    """

    def __cinit__(self):
        self.function = b""

    def __init__(self, Pool client, Segment segment, Gate gate, Staff staff, FunctionTable functions, Notifier notifier,
                 ArgumentMemory arguments, Settlement settlement, ChunkAccount account, Options options, fn,
                 uint64_t chunksize):
        chunksize = min(chunksize, <uint64_t>RP_CHUNK_ITEMS)
        if options is not None and options.timeout_ns:
            chunksize = 1
        self.client = client
        self.segment = segment
        self.gate = gate
        self.staff = staff
        self.functions = functions
        self.notifier = notifier
        self.arguments = arguments
        self.settlement = settlement
        self.account = account
        self.options = options
        self.fn = fn
        self.pages = ItemPages.__new__(ItemPages)
        self.pacing = new_pacing(staff.n_workers, <uint32_t>chunksize)
        self.chunks = new_chunk_list(notifier)

    cdef encode_function(self):
        """To be called before the first item.

        Returns:
            Why it cannot be sent, or None.
        """
        cdef Parcel parcel
        try:
            self.entry = self.functions.entry_of(self.fn)
            if self.entry is None:
                parcel = new_parcel()
                parcel.begin(self.client)
                self.function = joined(pack(self.fn, parcel))
                self.keep_all(parcel)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return error
        return None

    # ---- items ----

    cdef int begin_futures(self) except -1:
        """Each item has a future, which add_future() brings, and more items are being read until end_items()."""
        self.futures = ItemFutures(self.settlement, self.notifier)
        self.begin_items()
        return 0

    cdef int add_future(self, FutureBase future) except -1:
        """The next item has this future."""
        future.enter_batch(self.client, self, self.encoded)
        return self.futures.append(future)

    cdef void begin_items(self) noexcept:
        """More items are being read: a chunk of less than the user's chunksize waits for them."""
        self.segment.lock.enter()
        self.reading = True
        self.segment.lock.leave()

    cdef void end_items(self) noexcept:
        """No more are."""
        self.segment.lock.enter()
        self.reading = False
        self.segment.lock.leave()

    cdef bint wants_drain(self) noexcept:
        """Have enough items come for a look at results? If so, the caller looks."""
        if self.large is not None and self.large.wants_drain():
            self.large.drained()
            return True
        return self.encoded % 512 == 0

    cdef int yield_to_threads(self) except -1:
        """Lets signal handlers run, and now and then other threads: an iterator in C would let neither."""
        cdef uint64_t now
        cdef Outside outside
        step_out_here(&outside)
        PyErr_CheckSignals()
        now = rp_os_now_ns()
        if now - self.yield_ns >= YIELD_NS:
            self.yield_ns = now
            with nogil:
                pass
        return 0

    cdef int add(self, tuple args) except -1:
        """Encodes one item. One that cannot be encoded raises why when its result is asked for.

        Returns:
            What is due. Of items that come slowly each goes at once.
        """
        cdef ItemPages pages = self.pages
        cdef Sharing sharing
        cdef Py_ssize_t n, most
        cdef unsigned char *p
        self.gate.check()
        pages.make_room()
        sharing.client = <PyObject *>self.client
        sharing.shared = NULL
        p = pages.room(&most)
        n = encode_value(p, min(<Py_ssize_t>LEAST_APART, most), args, &sharing)
        if n >= 0:
            pages.append(KIND_ARGS, n)
            self.count_in()
        if sharing.shared != NULL:
            self.keep(<object>sharing.shared)
        if n < 0:
            self.add_slowly(args)
        if self.wants_drain():
            self.yield_to_threads()
            return RESULTS_DUE
        return CHUNKS_DUE if self.pacing.has_idle() and self.has_chunk() else NOTHING_DUE

    cdef int add_slowly(self, tuple args) except -1:
        """add() for an item that the page has no room for, or that is not compact. Runs user code."""
        cdef int kind = KIND_ARGS
        try:
            data = self.encode_large(args, &kind)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.release(self.encoded)
            if self.errors is None:
                self.errors = {}
            self.errors[self.encoded] = error
            kind = ITEM_NOT_ENCODED
            data = b""
        self.gate.check()
        self.pages.add(kind, data)
        return self.count_in()

    cdef bytes encode_large(self, tuple args, int *kind):
        """Encodes an item that the page has no room for, or that is not compact.

        Returns:
            What its record holds. Of one that lies apart, Chunk.encode_items() fills that in.
        """
        cdef Parcel parcel = new_parcel(), again
        cdef Sharing sharing
        cdef Py_ssize_t n
        cdef bint compact
        data = None
        parcel.begin(self.client)
        sharing.client = <PyObject *>self.client
        sharing.shared = NULL
        n = compact_size(args, &sharing)
        compact = n >= LEAST_APART
        if compact:
            parcel.expect(n)
            if sharing.shared != NULL:
                self.keep(<object>sharing.shared)
        else:
            data = encode(args, kind, parcel)
            self.keep_all(parcel)
            if type(data) is bytes:
                if len(data) < LEAST_APART:
                    return data
                parcel.hold_plain(data)
        if parcel.bytes + len(self.function) + 4096 > self.segment.pool.arena.quota:
            raise MemoryError(
                f"the arguments take {parcel.bytes} bytes, more than the {self.segment.pool.arena.quota} bytes of "
                "shared memory that this pool has for arguments (see shared_memory_limit)")
        if self.large is None:
            self.large = LargeItems(self.client, self.segment, self.gate, self.staff, self.arguments)
        # The function may write to what is spread. One that is run anew is to find what was sent.
        self.large.add(
            self.encoded, parcel, args if compact else None, self.options is not None and self.options.retries > 0)
        if parcel.block == 0:
            if compact:
                # Apart from the parcel, of which the account knows: the item may have changed, and have buffers now.
                again = new_parcel()
                again.begin(self.client)
                data = joined(encode(args, kind, again))
                self.keep_all(again)
                self.large.hold_plain(parcel, data)
            elif parcel.count:
                self.large.hold_plain(parcel, parcel.join())
        parcel.end()
        parcel.clear()
        kind[0] |= ITEM_APART
        return _no_block

    cdef int count_in(self) except -1:
        """An item more is in the pages."""
        if self.unsent == 0:
            self.account.add_unsent(self)
        self.unsent += 1
        self.encoded += 1
        return 0

    cdef keep_all(self, Parcel parcel):
        """keep() for what is in a parcel."""
        for shared in parcel.take_shared() or ():
            self.keep(shared)

    cdef keep(self, object shared):
        """Keeps what is among the arguments of an item until all are done."""
        if self.shared is None:
            self.shared = {}
        self.shared[id(shared)] = shared

    cdef void release(self, uint64_t index) noexcept:
        """This item is done, or is not wanted: if it lies apart, its blocks are free. Runs no user code."""
        if self.has_large():
            self.large.release(index, self.is_sent(index))

    cdef inline bint is_sent(self, uint64_t index) noexcept:
        """Has this item been sent, in some chunk?"""
        return index < self.sent

    cdef inline bint has_large(self) noexcept:
        """Do items that are not done lie apart?"""
        return self.large is not None and not self.large.is_empty()

    cdef inline bint has_gaps(self) noexcept:
        """Have items been cancelled on their own?"""
        return self.futures is not None and self.futures.gaps

    # ---- chunks ----

    cdef bint is_full(self) noexcept:
        """Do the items that lie apart take so much memory that no more should be read now?"""
        return self.large is not None and not self.is_idle() and self.large.is_full()

    cdef bint has_chunk(self) noexcept:
        """Whether there is one to send: with a chunksize, a whole one while more items are being read, unless a task waits for
        memory that these have."""
        cdef bint more = self.reading and not self.notifier.is_closing()
        if more and self.notifier.needs & NEED_MEMORY and self.holds_unsent():
            more = False
        return self.pacing.is_enough(self.unsent, more)

    cdef bint may_send(self) noexcept:
        """Is there a chunk to send, and are too few of them under way?"""
        return self.has_chunk() and self.pacing.has_room()

    cdef bint is_idle(self) noexcept:
        """Is no chunk under way?"""
        return self.pacing.under_way == 0

    cdef bint holds_unsent(self) noexcept:
        """Do items lie in the arena that have not been sent?"""
        return self.large is not None and self.large.ahead_bytes > 0

    cdef bint sizes_chunks(self) noexcept:
        """Does the pool decide how many items go together? Else the user has."""
        return self.pacing.chunksize == 0

    cdef Chunk next_chunk(self):
        """Makes the next chunk, of one item at least. The caller holds the garbage collector."""
        cdef Cut cut = self.pages.cut(self.pacing.next_size(self.unsent), self.sent, self.large)
        cdef Chunk chunk = new_chunk()
        chunk.set_call(self.fn, self.entry, self.options, KIND_CHUNK)
        chunk.set_items(self, self.sent, cut.n, self.pages.page, self.pages.at)
        self.encode_chunk(chunk)
        # From here on nothing can fail: what has been counted here is sent.
        self.pages.sent(&cut)
        if self.large is not None:
            self.large.chunk_sent(cut.ahead_bytes)
        self.sent += cut.n
        self.unsent -= cut.n
        if self.unsent == 0:
            self.account.remove_unsent(self)
        self.pacing.chunk_cut(cut.n)
        self.chunks.append(chunk)
        c_assert(self.check())
        return chunk

    cdef void encode_chunk(self, Chunk chunk) except *:
        chunk.encode_items(self.function, self.futures, self.large)

    cdef bint find_room(self, Parcel parcel) noexcept:
        return self.large.store_waiting(parcel)

    cdef void worker_died(self, uint64_t begin, uint64_t end, uint32_t w) noexcept:
        if self.has_large():
            self.large.worker_died(begin, end, w)

    cdef void chunk_split(self, Chunk chunk, Chunk rest) noexcept:
        self.chunks.insert(rest, chunk)

    cdef void chunk_added(self) noexcept:
        """A chunk more is under way: chunk_done() will be called once for it."""
        self.pacing.chunk_added()
        self.account.chunk_added()

    cdef void chunk_done(self, Chunk chunk) noexcept:
        """It is settled. Its caller has taken it off the pool's books."""
        cdef uint64_t i
        self.pacing.chunk_done()
        self.finished += chunk.n
        self.account.chunk_done()
        if self.has_large():
            for i in range(chunk.index, chunk.index + chunk.n):
                self.release(i)
            if chunk.state != FINISHED:
                self.arguments.tell_of_room()
        if self.futures is not None:
            self.chunks.remove(chunk)
            self.settle_futures(chunk)
        elif not self.chunks.chunk_done(chunk):
            self.cut_short = True
        c_assert(self.check())

    cdef bint check(self) noexcept:
        """For the debug build: what the parts have is what is true of the items as a whole. Creates no object."""
        return (
            self.pages.check(self.unsent)
            and (self.unsent == 0 or self.unsent == self.encoded - self.sent)
            and self.finished <= self.encoded
            and (self.large is None or self.large.check(self.sent))
            and self.chunks.check())

    cdef void settle_from_tray(self, Chunk chunk, uint32_t n, object source) noexcept:
        """The results of its first n items are in a tray: settles their futures, if they have any. This makes objects: no
        other thread may come by the results, nor by the futures, before all are out, so the caller holds the garbage
        collector."""
        cdef const unsigned char *p = NULL
        cdef Py_ssize_t at = sizeof(rp_tray)
        cdef uint64_t head = 0, i
        cdef int form
        if self.futures is None:
            return
        tray = b""
        failure = None
        try:
            tray = payload_bytes(source)
        except Exception as error:
            failure = error
        for i in range(chunk.index, chunk.index + n):
            if failure is None:
                p = <const unsigned char *>PyBytes_AS_STRING(tray) + at
                try:
                    head = record_head(p, PyBytes_GET_SIZE(tray) - at)
                    at += rp_record_span(head)
                except Exception as error:
                    failure = error
            if not self.futures.is_pending(i):
                continue
            form = FORM_ERROR
            value = failure
            if failure is None:
                try:
                    value = self.record(i, rp_record_kind(head), p + RP_RECORD_HEAD, rp_record_bytes(head), &form)
                except Exception as error:
                    value = error
                    form = FORM_ERROR
            self.futures.settle(i, form, value)

    cdef void settle_futures(self, Chunk chunk) noexcept:
        """It is done: its items end as it has, but for those that its tray has settled."""
        cdef int form = chunk.form if chunk.state == FINISHED else FORM_NONE
        cdef uint64_t begin = chunk.index, end = chunk.index + chunk.n, i
        if form != FORM_TRAY:
            for i in range(begin, end):
                if self.futures.is_pending(i):
                    self.futures.settle(i, form, chunk.value)
        chunk.value = None
        self.futures.drop(begin, end)

    cdef record(self, uint64_t index, int kind, const unsigned char *p, Py_ssize_t n, int *form):
        """The value of a result, and its form."""
        if kind == KIND_VALUE:
            form[0] = FORM_RESULT
            try:
                return decode_whole(p, n, False)
            except NumPyIsNeeded:
                form[0] = FORM_COMPACT
                return result_of(PyBytes_FromStringAndSize(<char *>p, n))
        if kind == KIND_VALUE_PICKLE or kind == KIND_ERROR:
            form[0] = FORM_PICKLE if kind == KIND_VALUE_PICKLE else FORM_REPORT
            return PyBytes_FromStringAndSize(<char *>p, n)
        if kind == KIND_NOT_ENCODED and self.errors is not None and index in self.errors:
            form[0] = FORM_ERROR
            return self.errors.pop(index)
        if kind == KIND_NOT_ENCODED and self.has_gaps():
            form[0] = FORM_NONE
            return None
        raise RuntimeError("a worker sent a result of an unknown kind")

    cdef uint64_t count_done(self, uint64_t begun) noexcept:
        """The items that are done: those of done chunks, and `begun` of the others. Never less than was said before."""
        self.counted = max(self.counted, self.finished + begun)
        return self.counted

    # ---- the end ----

    cdef void cancel_item(self, FutureBase item) noexcept:
        """Cancels one pending item, which no worker has. Runs no user code."""
        cdef uint64_t index = item.task_id
        self.futures.cancel(item)
        self.release(index)

    cdef void cancel_unsent(self, object failure=None) noexcept:
        """What has not been sent never will be: its futures are cancelled, or raise what `failure` makes."""
        cdef uint64_t i
        if self.unsent:
            self.unsent = 0
            self.cut_short = True
            self.failure = failure
            self.account.remove_unsent(self)
        if self.has_large():
            for i in range(self.sent, self.encoded + 1):  # with one that is being added
                self.release(i)
            self.arguments.tell_of_room()
        self.pages.clear()
        self.chunks.wake_reader()
        if self.futures is not None:
            self.futures.cancel_from(self.sent, failure)

    cdef void detach_reader(self) noexcept:
        """The results will not be read; the items are run all the same."""
        self.chunks.detach_reader()
