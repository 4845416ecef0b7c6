# chunks.pyx - see chunks.pxd.


@cython.no_gc_clear
cdef class Chunks:
    """Sends the chunks of all batches, and keeps the account of their items."""

    def __cinit__(self, Segment segment, TaskTable tasks, Staff staff, Notifier notifier, Loans loans, ResultMemory results,
                  ArgumentMemory arguments, Terminations terminations, Settlement settlement, Outbox outbox,
                  ChunkAccount account):
        self.segment = segment
        self.tasks = tasks
        self.staff = staff
        self.notifier = notifier
        self.loans = loans
        self.results = results
        self.arguments = arguments
        self.terminations = terminations
        self.settlement = settlement
        self.outbox = outbox
        self.account = account

    cdef send_chunks(self, Batch batch):
        """Sends chunks, until enough of them are under way."""
        cdef int collects
        while self.segment.is_mapped() and batch.may_send():
            self.tasks.reserve()
            collects = hold_gc()
            try:
                self.send(batch.next_chunk())
            finally:
                let_gc(collects)
            self.outbox.flush()  # which fails it if it can never have its memory: then another may be sent
        self.staff.recruit()

    cdef void send_all(self) noexcept:
        for batch in self.account.waiting():
            try:
                self.send_chunks(<Batch>batch)
            except MemoryError:  # the next drain tries again
                pass

    cdef int send(self, Chunk chunk, bint first=False) except -1:
        """Puts a chunk in the queue, as a task of its own. The caller has reserved an entry, and flushes the queue. A chunk for
        which the queue has no memory fails: it is in its batch's list, and would be waited for."""
        self.started(chunk)
        chunk.enter_pool((<Batch>chunk.batch).client)
        try:
            self.outbox.enqueue(chunk, first)
        except MemoryError as error:
            chunk.leave_pool()
            chunk.settle(FORM_ERROR, error)
            chunk.ended()
        return 0

    cdef void started(self, Chunk chunk) noexcept:
        (<Batch>chunk.batch).chunk_added()

    cdef uint64_t count_done(self, Batch batch):
        """The items of a batch that are done, also those of chunks that are not."""
        cdef uint64_t begun = 0, task_id
        cdef uint32_t w, next = 0, end = 0
        cdef FutureBase found
        cdef Chunk chunk
        if not self.segment.is_mapped():
            return batch.count_done(0)
        for w in range(self.segment.pool.n_workers):
            task_id = rp_pool_chunk_of(&self.segment.pool, w)
            found = self.tasks.get(task_id) if task_id else None
            if type(found) is not Chunk or (<Chunk>found).batch is not batch:
                continue
            chunk = <Chunk>found
            if rp_pool_chunk(&self.segment.pool, w, task_id, &next, &end) and next > chunk.base + 1:
                begun += min(next - 1 - chunk.base, chunk.n)  # all that have been begun but one
        return batch.count_done(begun)

    cdef Chunk steal_tail(self, Chunk chunk, uint32_t k):
        """Takes the items from the k-th on, as far as none has been begun, away from the worker that has the chunk.

        Returns:
            They, as a chunk that is nowhere yet; None if there are none.
        """
        cdef uint32_t begin = chunk.base + k, end = chunk.base + chunk.n
        cdef Chunk rest
        cdef int collects = hold_gc()
        try:
            rest = new_chunk()
        finally:
            let_gc(collects)
        # From here on nothing is created, and so no other thread comes in between.
        if not self.segment.is_mapped() or chunk.state != PENDING or chunk.pos == POS_QUEUED:
            return None
        if not rp_pool_cut_chunk(&self.segment.pool, chunk.task_id, chunk.pos, &begin, &end):
            return None
        if begin < chunk.base or end != chunk.base + chunk.n:
            self.settlement.fail(chunk, RuntimeError("a worker has corrupted the range of its chunk"))
            return None
        return chunk.split(begin - chunk.base, rest)

    cdef void cancel_unstarted(self, Chunk chunk) noexcept:
        """Cancels the items of a pending chunk that no worker has begun."""
        cdef Chunk rest
        if chunk.state != PENDING or (self.segment.is_mapped() and self.outbox.try_cancel(chunk)):
            return
        try:
            rest = self.steal_tail(chunk, 0)
        except MemoryError:
            return
        if rest is not None:
            self.started(rest)
            rest.settle_cancelled()
            rest.ended()

    cdef int send_rest(self, Chunk rest) except -1:
        """Sends what has been cut off a chunk. The caller has reserved an entry, holds the garbage collector, and
        flushes the queue."""
        try:
            rest.encode()
        except MemoryError as error:
            self.started(rest)
            rest.settle(FORM_ERROR, error)
            rest.ended()
            return 0
        return self.send(rest, True)

    cdef void rebalance(self) noexcept:
        """Gives workers that have nothing to do half of what lies before a busy one."""
        cdef uint32_t w, next = 0, end = 0, most, of = 0
        cdef uint64_t task_id
        cdef FutureBase found
        cdef Chunk chunk, rest
        while self.segment.serves() and self.tasks.outstanding < self.staff.n_workers and self.tasks.queued == 0:
            most = 0
            chunk = None
            for w in range(self.segment.pool.n_workers):
                task_id = rp_pool_chunk_of(&self.segment.pool, w)
                found = self.tasks.get(task_id) if task_id else None
                if type(found) is not Chunk or not (<Batch>(<Chunk>found).batch).sizes_chunks():
                    continue
                if rp_pool_chunk(&self.segment.pool, w, task_id, &next, &end) and next < end and end - next > most:
                    most = end - next
                    of = end - (most + 1) // 2
                    chunk = <Chunk>found
            if chunk is None or of < chunk.base or of > chunk.base + chunk.n:
                return
            try:
                self.tasks.reserve()
                rest = self.steal_tail(chunk, of - chunk.base)
                if rest is None:
                    return
            except MemoryError:
                return
            self.send_rest(rest)
            self.outbox.flush()

    cdef void cancel(self, Batch batch, bint running) noexcept:
        """Cancels the items of a batch that no worker has begun, and if `running`, ends those that run: no result will be
        read from now on."""
        cdef Chunk chunk
        batch.cancel_unsent()
        while not batch.chunks.is_empty():
            chunk = batch.chunks.pop()
            if chunk.state == PENDING:
                self.cancel_unstarted(chunk)
                if chunk.state == PENDING and running:
                    self.terminations.begin(chunk, WHY_CANCELLED, -1)
        self.notifier.stop_if_drained()

    # ---- an item of submit_many ----

    cdef bint item_begun(self, FutureBase item) noexcept:
        cdef Chunk chunk = (<Batch>item.item_of).chunks.find(item.task_id)
        cdef uint32_t next, end
        cdef uint32_t w
        if chunk is None or chunk.state != PENDING or chunk.pos == POS_QUEUED or not self.segment.is_mapped():
            return False
        w = rp_pool_holder(&self.segment.pool, chunk.task_id, chunk.pos)
        return (w != self.segment.pool.n_workers and rp_pool_chunk(&self.segment.pool, w, chunk.task_id, &next, &end)
                and item.task_id - chunk.index + chunk.base < next)

    cdef bint try_cancel_item(self, FutureBase item) noexcept:
        """Takes one item back that has not been begun. The others of its chunk go another way."""
        cdef Batch batch = item.item_of
        cdef Chunk chunk = batch.chunks.find(item.task_id)
        cdef Chunk rest
        cdef int collects = hold_gc()
        try:
            if not batch.is_sent(item.task_id):
                batch.cancel_item(item)
                self.arguments.tell_of_room()
            elif chunk is None or self.item_begun(item):
                return False
            elif chunk.pos == POS_QUEUED or rp_board_try_cancel(&self.segment.pool.board, chunk.pos):
                batch.cancel_item(item)
                try:
                    if chunk.pos == POS_QUEUED:
                        chunk.encode()
                    else:
                        self.outbox.resend(chunk)
                except MemoryError as error:
                    self.settlement.fail(chunk, error)
                self.outbox.flush()
            else:
                try:
                    self.tasks.reserve()
                    rest = self.steal_tail(chunk, <uint32_t>(item.task_id - chunk.index))
                except MemoryError:
                    return False
                if rest is None:
                    return False
                if rest.index == item.task_id:
                    batch.cancel_item(item)
                self.send_rest(rest)
                self.outbox.flush()
            return item.state != PENDING
        finally:
            let_gc(collects)

    cdef Chunk isolate_running(self, FutureBase item):
        """The chunk that ends with this item, which has been begun. None if the item is done, or is not begun after all."""
        cdef Batch batch = item.item_of
        cdef Chunk chunk, rest
        cdef int collects = hold_gc()
        try:
            chunk = batch.chunks.find(item.task_id) if batch is not None else None
            if chunk is None or (chunk.n > 1 and not self.item_begun(item)):
                return None
            self.tasks.reserve()
            rest = self.steal_tail(chunk, <uint32_t>(item.task_id - chunk.index) + 1)
            if rest is not None:
                self.send_rest(rest)
                self.outbox.flush()
            return chunk if item.task_id + 1 == chunk.index + chunk.n else None
        finally:
            let_gc(collects)

    cdef bint end_item(self, FutureBase item, int why) except -1:
        """begin_termination() for an item of submit_many."""
        cdef Chunk chunk = self.isolate_running(item)
        if chunk is None or not self.terminations.begin(chunk, why, -1):
            return False
        item.set_termination(chunk.termination)
        return True

    # ---- results ----

    cdef void transfer_task(self, Chunk chunk, Chunk rest) noexcept:
        """The task of `chunk` is that of `rest` from now on, which was split off. The caller has a reference to `chunk`."""
        self.tasks.replace(chunk.task_id, rest)
        rest.take_over(chunk)
        self.terminations.adopt(rest, chunk)
        Py_DECREF(chunk)  # the table's

    cdef void complete_prefix(self, Chunk chunk, Chunk rest, uint32_t n, object value, int form=FORM_TRAY,
                              Termination termination=None) noexcept:
        """The results of the first n items have arrived, and more are to come, those of `rest`."""
        chunk.split(n, rest)
        self.started(rest)
        self.segment.lock.acquire()
        self.transfer_task(chunk, rest)
        chunk.set_termination(termination)
        chunk.settle(form, value)
        self.notifier.notify(chunk, False)
        self.segment.lock.release()
        chunk.ended()

    cdef void on_partial_result(self, uint32_t w, Chunk chunk, rp_result *r, uint32_t kind, Loan *loan) noexcept:
        """Takes in results of a chunk. Nothing in *r is believed."""
        cdef rp_tray tray
        cdef const uint8_t *at = r.inline_bytes
        cdef Chunk rest = None, last = None
        cdef Termination termination = None
        cdef uint32_t n = r.items
        cdef int form = FORM_TRAY
        cdef int collects = hold_gc()
        value = b""
        try:
            if r.items > chunk.n or (kind == KIND_LAST and r.items != chunk.n):
                raise RuntimeError(f"worker {w} sent {r.items} results for a chunk of {chunk.n} items")
            if r.items:
                value = self.results.adopt(w, r, KIND_PART, loan)
                if r.bytes < sizeof(rp_tray):
                    raise RuntimeError(f"worker {w} sent results of an invalid size")
                if r.offset:
                    at = (<ArenaResult>value).block.at()
                    if at == NULL:
                        raise no_address(&self.segment.pool.segment, r.bytes)
                memcpy(&tray, at, sizeof(rp_tray))
                if tray.first != chunk.base:
                    raise RuntimeError(f"worker {w} sent results of items that are not the next of its chunk")
                (<Batch>chunk.batch).pacing.measure(r.items, &tray)
                if chunk.termination is not None and chunk.n == 1:
                    value = payload_bytes(value)
                    if value[sizeof(rp_tray)] == KIND_ERROR:
                        value = value[sizeof(rp_tray) + RP_RECORD_HEAD:]
                        form = FORM_REPORT
            if chunk.termination is not None and n and n == chunk.n:
                termination = chunk.termination  # of the last item
                last = new_chunk() if n > 1 else chunk
            if kind == KIND_PART:
                rest = new_chunk()
        except Exception as error:
            self.on_bad_result(w, chunk, loan, error)
        else:
            self.loans.free(loan)
            (<Batch>chunk.batch).settle_from_tray(chunk, n if termination is None else n - 1, value)
            if last is not None and last is not chunk:
                self.complete_prefix(chunk, last, n - 1, value)
                form = FORM_ERROR  # it was cancelled, for only that ends one item of many
                value = None
                n = 1
            if last is None:
                last = chunk
            if kind == KIND_LAST:
                self.settlement.conclude(last, form, value)
            else:
                if termination is not None:
                    last.take_termination()  # not of the rest, in which there may be no item
                self.complete_prefix(last, rest, n, value, form, termination)
        let_gc(collects)
        chunk.drop_call()

    cdef void on_item_result(self, uint32_t w, Chunk chunk, rp_result *r, uint32_t kind, Loan *loan) noexcept:
        """Takes in the result of the next item of a chunk, which came by itself. Nothing in *r is believed."""
        cdef rp_tray tray
        cdef Chunk rest = None
        cdef Termination termination = None
        cdef int form = FORM_COMPACT if kind == KIND_VALUE else FORM_PICKLE
        cdef int collects = hold_gc()
        memcpy(&tray, r.inline_bytes, sizeof(rp_tray))
        try:
            if chunk.n == 0 or tray.first != chunk.base:
                raise RuntimeError(f"worker {w} sent the result of an item that is not the next of its chunk")
            if r.offset == 0 or (kind != KIND_VALUE and kind != KIND_VALUE_PICKLE):
                raise RuntimeError(f"worker {w} sent a result of an unknown kind")
            value = self.results.adopt(w, r, kind, loan)
            (<Batch>chunk.batch).pacing.measure(1, &tray)
            rest = new_chunk()
        except Exception as error:
            self.on_bad_result(w, chunk, loan, error)
        else:
            self.loans.free(loan)
            if chunk.n == 1:
                termination = chunk.take_termination()  # not of the rest, in which there is no item
            self.complete_prefix(chunk, rest, 1, value, form, termination)
        let_gc(collects)
        chunk.drop_call()

    cdef void on_bad_result(self, uint32_t w, Chunk chunk, Loan *loan, object error) noexcept:
        """A result of a chunk cannot be taken in: the chunk fails. Unless this process lacks memory, the worker is suspect."""
        if not isinstance(error, MemoryError):
            self.staff.mark_suspect(w)
        self.loans.free(loan)
        self.settlement.conclude(chunk, FORM_ERROR, error)

    cdef FutureBase recover_chunk(self, uint32_t w, Chunk chunk):
        """What a dead worker had of a chunk: the results that it had not published are taken in, and what it had not
        begun is sent anew. Recovery.end() follows.

        Returns:
            The item that it was running, or None.
        """
        cdef uint64_t offset = rp_pool_lost_tray(&self.segment.pool, w, chunk.task_id), used, head
        cdef bint lent = self.loans.of[w].bytes and self.loans.of[w].offset == offset
        cdef uint32_t arena = self.results.overflow if lent else self.segment.pool.arena_of[w]
        cdef uint32_t next = chunk.base + 1, end = 0, n = 0
        cdef const uint8_t *at = rp_pool_block(&self.segment.pool, arena, offset, sizeof(rp_tray)) if offset else NULL
        cdef Chunk rest
        cdef rp_tray tray
        if at == NULL and offset and rp_pool_within(&self.segment.pool, arena, offset, sizeof(rp_tray)):
            raise no_address(&self.segment.pool.segment, sizeof(rp_tray))
        if at != NULL:
            memcpy(&tray, at, sizeof(rp_tray))
            used = rp_pool_tray_used(<const rp_tray *>at)
            if (tray.first == chunk.base and used >= sizeof(rp_tray) and (used <= self.loans.of[w].bytes or not lent)
                    and rp_pool_within(&self.segment.pool, arena, offset, used)):
                at = rp_pool_block(&self.segment.pool, arena, offset, used)
                if at == NULL:
                    raise no_address(&self.segment.pool.segment, used)
                results = PyBytes_FromStringAndSize(<char *>at, used)
                at = <const uint8_t *>PyBytes_AS_STRING(results)
                offset = sizeof(rp_tray)
                while n < chunk.n and used - offset >= RP_RECORD_HEAD:
                    head = rp_record_at(at + offset)
                    if rp_record_bytes(head) > used - offset - RP_RECORD_HEAD:
                        break
                    offset += rp_record_span(head)
                    n += 1
                if n:
                    rest = new_chunk()
                    (<Batch>chunk.batch).settle_from_tray(chunk, n, results)
                    self.complete_prefix(chunk, rest, n, results)
                    chunk = rest
        if chunk.termination is not None and chunk.n:
            return chunk
        if not rp_pool_chunk(&self.segment.pool, w, chunk.task_id, &next, &end):
            next = chunk.base + 1  # it died as it took the chunk: so that this cannot go on for ever, the first pays
        if chunk.n == 0:
            self.settlement.conclude(chunk, FORM_TRAY, b"")
            return None
        if next <= chunk.base:
            self.outbox.resend(chunk)
            return None
        if chunk.n > 1:
            self.tasks.reserve()
            self.send_rest(chunk.split(1, new_chunk()))
        return chunk

    cdef cancel_unsent(self, failure=None):
        """The items that have not been sent never will be."""
        while self.account.n_unsent():
            (<Batch>self.account.unsent(0)).cancel_unsent(failure)

    cdef bint check(self) noexcept:
        """For the debug build: each chunk that is under way is a pending task, and each batch with items to send has some."""
        cdef uint64_t n = 0, i
        cdef Batch batch
        for i in range(self.tasks.size):
            n += self.tasks.entries[i].future != NULL and type(<object>self.tasks.entries[i].future) is Chunk
        for i in range(self.account.n_unsent()):
            batch = <Batch>self.account.unsent(i)
            if batch.unsent == 0 or not batch.check():
                return False
        return n == self.account.n_chunks
