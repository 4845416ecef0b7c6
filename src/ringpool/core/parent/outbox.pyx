# outbox.pyx - see outbox.pxd.


@cython.no_gc_clear
cdef class Outbox:
    """Encodes tasks and publishes them on the board; those that find no room wait in a queue."""

    def __cinit__(self, Segment segment, Gate gate, TaskTable tasks, Staff staff, Notifier notifier, FunctionTable functions,
                  ArgumentMemory arguments, Terminations terminations, Settlement settlement, ChunkAccount account):
        self.segment = segment
        self.gate = gate
        self.tasks = tasks
        self.staff = staff
        self.notifier = notifier
        self.functions = functions
        self.arguments = arguments
        self.terminations = terminations
        self.settlement = settlement
        self.account = account
        self.queue = TaskQueue(segment.lock)

    cdef FutureBase submit(self, Pool client, fn, tuple args, dict kwargs, Options options):
        """Encodes a call and puts it on the board, or in the queue if there is no room. See Client.submit."""
        cdef FutureBase future
        cdef Sharing sharing
        cdef rp_slot task  # as it will stand on the board
        cdef Py_ssize_t size = UNMEASURED
        cdef bint sent
        future = new_future()
        future.fn = fn
        future.pos = POS_QUEUED
        future.kind = 0
        if options is not None:
            future.options = options
            future.kind |= KIND_TIMED if options.timeout_ns else 0
        if type(fn) is FunctionType or type(fn) is BuiltinType or type(fn) is type:
            # Without a local name: a reference that all threads count costs each of them the time of an atomic.
            future.entry = self.functions.entry_at_once(fn)
            if future.entry is None:
                future.entry = self.look_up(fn, future)
                if is_done(future.state):
                    return future
        if future.entry is not None and not kwargs and self.tasks.queued == 0 and (options is None or options.retries == 0):
            sharing.client = <PyObject *>client
            size = encode_or_measure(task.inline_bytes, RP_SLOT_INLINE, args, &sharing)
        self.tasks.reserve()
        self.gate.check()  # again: all of the above may have run user code, or let another thread run
        if size >= 0:
            task.kind = future.kind | KIND_ARGS
            task.offset = 0
            task.bytes = size
            if size <= RP_SLOT_INLINE:
                if sharing.shared != NULL:
                    future.keep_shared(<object>sharing.shared)
                sent = self.try_send(client, future, &task)
            else:
                sent = self.try_send_block(client, future, &task, args, &sharing)
            if sent:
                self.sent(options)
                return future
        return self.submit_pickled(client, future, args, kwargs, size)

    cdef inline bint try_send_block(self, Pool client, FutureBase future, rp_slot *task, tuple args,
                                    Sharing *sharing) noexcept:
        """try_send() of arguments that need a block. In the engine: nothing becomes of the task before it is written, and the
        memory stays mapped."""
        cdef Py_ssize_t n = task.bytes
        cdef bint sent = False
        self.segment.lock.enter()
        if self.put_in_block(args, task, sharing):
            if sharing.shared != NULL:
                future.keep_shared(<object>sharing.shared)
            sent = self.try_send(client, future, task)
            if not sent:
                self.give_up_block(task.offset)
            elif task.kind & KIND_STREAM:
                self.write_stream(client, task.offset, n, args)
        self.segment.lock.leave()
        return sent

    cdef FunctionEntry look_up(self, fn, FutureBase future):
        """The entry of a function that has none, or may have changed; None if it must go with the task. If it cannot be sent,
        the future gets the error."""
        try:
            return self.functions.look_up(fn)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self.refuse(future, error)
            return None

    cdef inline bint try_send(self, Pool client, FutureBase future, const rp_slot *task) noexcept:
        """Publishes an encoded task. False if there is no room on the board. The caller has reserved an entry of the task
        table. From the reservation of the slot to its publication no object is created and no Python code runs."""
        cdef rp_slot *slot
        self.segment.lock.acquire()
        slot = NULL
        # Else it is refused, or goes through the queue.
        if not looks_again() or (self.gate.is_open() and self.tasks.queued == 0 and self.tasks.has_room()):
            slot = rp_board_try_reserve(&self.segment.pool.board)
        if slot != NULL:
            slot.kind = task.kind
            slot.offset = task.offset
            slot.bytes = task.bytes
            if task.offset == 0:
                memcpy(slot.inline_bytes, task.inline_bytes, task.bytes)
            future.block = task.offset
            future.client = client
            self.tasks.enter(future)
            self.publish(slot, future)
        self.segment.lock.release()
        return slot != NULL

    cdef inline int sent(self, Options options) except -1:
        """A task with these options has been published: asks for workers and for its time limit to be kept."""
        self.staff.recruit()
        if options is not None:
            self.terminations.keep_time(options)
        return 0

    cdef bint put_in_block(self, object args, rp_slot *task, Sharing *sharing) noexcept:
        """Writes the compact form of arguments, of the size by encode_or_measure(), into a block, or makes room for a
        stream. False if there is no block, or the arguments have changed."""
        cdef Py_ssize_t n = task.bytes
        cdef unsigned char *p
        cdef bint found
        # What another thread can change has to be whole before it is sent.
        if n >= LEAST_STREAM and runs_alone() and rp_pool_apart(&self.segment.pool):
            task.kind |= KIND_STREAM
            task.bytes += STREAM_HEAD
        self.segment.lock.acquire()
        found = (not looks_again() or self.segment.serves()) and self.segment.alloc_block(task.bytes, &task.offset)
        self.segment.lock.release()
        if not found:
            return False
        p = rp_pool_block(&self.segment.pool, 0, task.offset, task.bytes)
        if task.kind & KIND_STREAM:
            rp_store_release(&(<rp_stream_head *>p).written, 0)
        elif encode_value(p, n, args, sharing, True) != n:
            self.give_up_block(task.offset)
            return False
        return True

    cdef void give_up_block(self, uint64_t block) noexcept nogil:
        """A block was found for a task that is not sent so."""
        self.segment.lock.acquire()
        self.segment.free_block(block)
        self.segment.lock.release()

    cdef void write_stream(self, Pool client, uint64_t block, Py_ssize_t n, object args) noexcept:
        """Writes n bytes, the compact form of arguments, that a worker may be reading. Creates no object."""
        cdef unsigned char *p = rp_pool_block(&self.segment.pool, 0, block, n + STREAM_HEAD)
        cdef Sharing sharing
        sharing.client = <PyObject *>client
        sharing.shared = NULL
        if encode_stream(<rp_stream_head *>p, p + STREAM_HEAD, n, args, &sharing) != n:  # out of memory
            memset(p + STREAM_HEAD, 0xff, n)  # which is no value: the task fails
        rp_store_release(&(<rp_stream_head *>p).written, n)

    cdef inline void publish(self, rp_slot *slot, FutureBase future) noexcept:
        """Names task and function in the filled slot and makes it visible."""
        cdef PyObject *entry = <PyObject *>future.entry
        slot.task_id = future.task_id
        if entry == <PyObject *>None:
            slot.fn_id = 0
        else:
            slot.fn_id = (<FunctionEntry>entry).id
            slot.fn_offset = (<FunctionEntry>entry).block
            slot.fn_bytes = (<FunctionEntry>entry).n
            if (<FunctionEntry>entry).named:
                slot.kind |= KIND_NAMED
        self.tasks.task_published()
        future.pos = rp_pool_publish(&self.segment.pool, self.tasks.outstanding)

    cdef FutureBase submit_pickled(self, Pool client, FutureBase future, tuple args, dict kwargs, Py_ssize_t size):
        """The way of a task whose arguments are not compact, for which there is no room on the board, or that may have
        to be sent again. `size`: of the compact form, if that has been measured."""
        cdef Parcel parcel = new_parcel()
        cdef uint64_t n
        cdef int kind, sent
        cdef Options options = future.options
        parcel.begin(client)
        try:
            if future.entry is None:
                kind = KIND_CALL_PICKLE
                data = pack((future.fn, args, kwargs or {}), parcel)
            elif kwargs:
                kind = KIND_KWARGS_PICKLE
                data = pack((args, kwargs), parcel)
            else:
                data = encode(args, &kind, parcel, size)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return self.refuse(future, error)
        n = (<Parcel>data).bytes if type(data) is Parcel else len(data)
        if n > self.segment.pool.arena.quota:
            return self.refuse(future, MemoryError(
                f"the arguments take {n} bytes, more than the {self.segment.pool.arena.quota} bytes of shared memory that this "
                "pool has for arguments (see shared_memory_limit)"))
        future.kind |= kind
        future.keep_shared(parcel.take_shared())
        parcel.end()
        if type(data) is Parcel:
            self.tasks.reserve()
            self.gate.check()
            while self.tasks.queued == 0 and (options is None or options.retries == 0):
                sent = self.try_send_parcel(client, future, parcel)
                if sent > 0:
                    parcel.clear()
                    self.sent(options)
                    return future
                if sent < 0 or not self.arguments.reclaim_if_released():
                    break
                self.tasks.reserve()
                self.gate.check()  # what has been let go may have run user code
            data = parcel.join()
        self.gate.check()  # pickling ran user code, in which the pool may have been shut down
        self.tasks.reserve()
        future.value = data
        future.client = client
        self.enqueue(future, False)
        self.flush()
        self.staff.recruit()
        return future

    cdef int try_send_parcel(self, Pool client, FutureBase future, Parcel parcel) noexcept:
        """try_send() of a parcel. 1 if it is sent, 0 if there is no memory now, -1 if it has to go through the queue. As
        try_send_block(), in the engine."""
        cdef rp_slot task
        cdef int sent = 0
        self.segment.lock.enter()
        if (not looks_again() or self.segment.serves()) and self.arguments.try_spread(parcel):
            parcel.fill(&self.segment.pool.base)
            future.value = parcel
            task.kind = future.kind
            task.offset = parcel.block
            task.bytes = parcel.head_bytes()
            sent = 1
            if not self.try_send(client, future, &task):
                self.segment.lock.acquire()
                self.arguments.release(parcel)  # which no worker has seen
                self.segment.lock.release()
                sent = -1
        self.segment.lock.leave()
        return sent

    cdef refuse(self, FutureBase future, object error):
        """The task cannot be sent: its future gets the error."""
        future.fn = None
        future.entry = None
        future.shared = None
        future.settle(FORM_ERROR, error)
        return future

    # ---- the queue ----

    cdef int enqueue(self, FutureBase future, bint first) except -1:
        """Puts an encoded task in the queue. The caller has reserved an entry of the task table, and flushes. Of a batch,
        chunks are sent after the pool has been closed, too."""
        cdef bint refused
        cdef Options options = future.options
        self.queue.reserve()
        self.segment.lock.acquire()
        while looks_again() and not (self.queue.has_room() and self.tasks.has_room()):
            self.segment.lock.release()
            self.queue.reserve()
            self.tasks.reserve()
            self.segment.lock.acquire()
        refused = looks_again() and type(future) is not Chunk and not self.gate.is_open()
        if not refused:
            if first:
                self.queue.put_first(future)
            else:
                self.queue.put_last(future)
            self.note_holding(future)
            future.enter_queue()
            self.tasks.enter(future)
            self.tasks.task_queued()
        self.segment.lock.release()
        if refused:
            self.gate.check()
        if options is not None:
            self.terminations.keep_time(options)
        return 0

    cdef inline bint is_queued(self, FutureBase future) noexcept:
        return future.state == PENDING and future.pos == POS_QUEUED

    cdef inline bint waits_for_memory(self, FutureBase future) noexcept:
        """Does an item of this task wait for room in the arena?"""
        return type(future) is Chunk and (<Chunk>future).waiting is not None

    cdef bint find_room(self, FutureBase future, uint64_t *block) noexcept:
        """Is there a slot for a queued task, and if the task needs a block, a block? If not, notes what the queue waits for."""
        cdef bint slot = rp_board_try_reserve(&self.segment.pool.board) != NULL
        cdef uint64_t n = PyBytes_GET_SIZE(future.value)
        if (slot and not self.waits_for_memory(future)
                and (n <= RP_SLOT_INLINE or self.segment.alloc_block(n, block))):
            return True
        self.note_wait(slot, not slot)
        return False

    cdef bint try_publish(self, FutureBase future) noexcept:
        """Publishes a task of the queue, and removes the task from the queue if it is the first. A task that is not to be
        published from there any more is removed, too: it has been cancelled, or has gone before its turn. False if the task
        has to wait for room; else the caller looks at the queue again."""
        cdef rp_slot *slot
        cdef object data = None
        cdef uint64_t block = 0
        cdef bint queued, room, changed = False
        # What encodes comes before the stretch. Slots are looked at first: while they are short, no item takes memory.
        if (self.waits_for_memory(future) and self.is_queued(future)
                and rp_board_try_reserve(&self.segment.pool.board) != NULL and (<Chunk>future).store_waiting()):
            self.holding = True  # should the task have to wait on, for another block
        self.segment.lock.acquire()
        queued = self.is_queued(future)
        room = queued and self.find_room(future, &block)
        if room:
            data = future.value
        if block:  # is written without the lock: that may take long
            self.segment.lock.release()
            memcpy(rp_pool_block(&self.segment.pool, 0, block, PyBytes_GET_SIZE(data)), PyBytes_AS_STRING(data),
                   PyBytes_GET_SIZE(data))
            self.segment.lock.acquire()
            if looks_again():
                changed = not (self.is_queued(future) and future.value is data
                               and rp_board_try_reserve(&self.segment.pool.board) != NULL)
                if changed:
                    self.segment.free_block(block)
        if room and not changed:
            slot = rp_board_try_reserve(&self.segment.pool.board)
            slot.kind = future.kind
            slot.bytes = PyBytes_GET_SIZE(data)
            slot.offset = future.block = block
            if block == 0:
                memcpy(slot.inline_bytes, PyBytes_AS_STRING(data), slot.bytes)
            if future.options is None or future.deaths >= future.options.retries:
                future.value = None  # `data` refers to it
            self.tasks.task_dequeued()
            self.publish(slot, future)
        if not changed and (room or not queued):
            self.queue.remove_first(future)
        self.segment.lock.release()
        return room or not queued

    cdef bint take_back(self, FutureBase future) noexcept:
        """Takes the first task in the queue out, if it is this one and is to be sent: the caller settles it."""
        cdef bint taken
        self.segment.lock.acquire()
        taken = self.is_queued(future) and self.queue.remove_first(future)
        self.segment.lock.release()
        return taken

    cdef void flush(self) noexcept:
        """Moves queued tasks to the board while there is room."""
        self.segment.lock.enter()
        self.move_up()
        self.segment.lock.leave()

    cdef void move_up(self) noexcept:
        """flush(), in the engine."""
        cdef FutureBase future
        cdef Py_ssize_t n
        cdef bint soon
        while True:
            future = None  # perhaps the last reference to one that was cancelled: may run user code, which may come here
            if not self.segment.is_mapped():
                return
            future = self.queue.first()
            if future is None:
                self.segment.lock.acquire()
                if self.queue.is_empty():
                    self.note_wait(False, False)
                self.segment.lock.release()
                return
            if self.try_publish(future):
                continue
            if self.waiting_for_memory and self.holding:
                self.let_pass()
            if not self.waiting_for_memory or self.tasks.outstanding:
                return
            # Nothing is under way that could give memory back, but a worker may be about to let go of a shared object.
            # Asked before the reclaim, which finds what is let go of in between.
            # And another thread may be about to drop the last handle of one, with the call of a task that is done. Then it
            # flushes the queue.
            soon = self.arguments.is_release_pending() or self.segment.lock.is_left()
            self.arguments.reclaim()
            if not self.segment.is_mapped() or self.queue.first() is not future:
                continue  # what was swept has run user code
            if self.try_publish(future):
                continue
            if not self.waiting_for_memory or self.tasks.outstanding or soon:
                return  # the collector will be rung
            if self.holds_unsent():
                rp_pool_kick_service(&self.segment.pool)  # it sends them
                return
            n = len(future.value)
            if type(future) is Chunk and (<Chunk>future).waiting is not None:
                n = (<Chunk>future).waiting.bytes
            if self.segment.pool.segment.refused:
                error = no_address(&self.segment.pool.segment, n)
            else:
                error = MemoryError(
                    f"cannot allocate {n} bytes for the arguments: {self.segment.pool.arena.used_bytes} of the "
                    f"{self.segment.pool.arena.quota} bytes of shared memory for arguments are in use "
                    "(see shared_memory_limit)")
            # To make it may have run user code, which may have settled the future, or sent it.
            if self.segment.is_mapped() and self.take_back(future):
                self.settlement.fail(future, error)

    cdef inline void note_holding(self, FutureBase future) noexcept:
        """A task is put in the queue: a chunk that has items in the arena may pass another."""
        if type(future) is Chunk and (<Chunk>future).holds:
            self.holding = True

    cdef void let_pass(self) noexcept:
        """The first in the queue waits for memory. Chunks behind it whose items lie in the arena need none, but give some
        back when they are done: they go before it, or it might wait for what waits for it."""
        cdef uint64_t position
        cdef FutureBase future
        self.segment.lock.acquire()
        position = self.queue.begin
        self.holding = False  # of the chunks so far; one that comes now says so itself
        self.segment.lock.release()
        while position < self.queue.end:
            future = self.queue.at(position)
            if (type(future) is Chunk and (<Chunk>future).holds and self.is_queued(future)
                    and not self.try_publish(future)):
                self.holding = True
                break
            position += 1

    cdef bint holds_unsent(self) noexcept:
        """Do items lie in the arena that have not been sent, since more are to come for their chunk?"""
        cdef uint64_t i
        for i in range(self.account.n_unsent()):
            if (<Batch>self.account.unsent(i)).holds_unsent():
                return True
        return False

    cdef void note_wait(self, bint memory, bint slots) noexcept nogil:
        """What the queue waits for."""
        c_assert(self.segment.lock.is_held())
        self.waiting_for_memory = memory
        self.notifier.need(NEED_MEMORY, memory)
        rp_pool_set_backlog(&self.segment.pool, slots)

    cdef bint try_cancel(self, FutureBase future) noexcept:
        """Takes back a task that no worker has claimed; its future is then cancelled, and drop_call() follows. Runs no Python
        code."""
        cdef bint queued, unclaimed
        self.segment.lock.acquire()
        queued = future.pos == POS_QUEUED
        unclaimed = queued or rp_board_try_cancel(&self.segment.pool.board, future.pos)
        if unclaimed:
            if not queued and self.tasks.queued:  # there is room on the board, of which no worker will tell
                rp_pool_kick_service(&self.segment.pool)
            self.settlement.cancel(future)
        self.segment.lock.release()
        if unclaimed:
            future.ended()
        return unclaimed

    cdef bint check(self) noexcept:
        """For the debug build: the queue has all pending tasks that wait for room. One that has gone before its turn, and
        has come back, is in it twice."""
        cdef FutureBase future
        cdef uint64_t n = 0, position
        for position in range(self.queue.begin, self.queue.end):
            future = self.queue.at(position)
            if self.is_queued(future):
                if not self.tasks.holds(future):
                    return False
                n += 1
        return n >= self.tasks.queued and ((self.notifier.needs & NEED_MEMORY) != 0) == self.waiting_for_memory

    cdef bint resend(self, FutureBase future) except -1:
        """Puts a task whose worker has died at the front of the queue, if it is pending still."""
        cdef bint pending
        if type(future) is Chunk:
            (<Chunk>future).encode()
        self.queue.reserve()  # if there is no memory for that, the task stays where it is
        self.segment.lock.acquire()
        while looks_again() and not self.queue.has_room():
            self.segment.lock.release()
            self.queue.reserve()
            self.segment.lock.acquire()
        pending = not looks_again() or self.tasks.is_pending(future)
        if pending:
            self.queue.put_first(future)
            self.note_holding(future)
            if future.block:
                self.segment.free_block(future.block)
                future.block = 0
            future.enter_queue()
            self.tasks.task_requeued()
        self.segment.lock.release()
        return pending
