# client.pxi - the parent's side of a pool.

cdef struct TaskEntry:
    PyObject *future       # a reference of the table's, or NULL
    uint32_t generation    # counts the uses of this entry, never 0: (generation << 32 | index) names one task for ever
    uint32_t next_free

cdef struct Waiter:        # a thread in result(), on its stack
    rp_futex word          # WAITING, then one of the others
    PyObject *future       # borrowed
    Waiter *next

ctypedef PyObject *Payload_p

cdef enum:
    WAITING = 0
    LOOK = 1               # your future is done
    LEAD = 2               # you wait on the rings; of all waiters, one at most has this

cdef enum:
    DRAIN_EVERY = 32       # submits between two looks at the result rings
    GLANCES = 120          # looks with the GIL held, some 3 us: less than giving it up and taking it back may cost
    NO_ENTRY = 0xffffffff
    MAX_FUNCTIONS = 65536  # by reference; more are pickled each time
    MAX_DYNAMIC = 128      # by value

# 1 s: the longest that a waiting main thread goes without looking for signals. A signal ends the sleep at once; this
# covers the instant between the last look and the sleep.
cdef int64_t SIGNAL_NS = 1000000000

_clients = weakref.WeakSet()


def _after_fork_in_child():
    for client in list(_clients):
        (<Client>client).forget()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _refuse_in_child():
    return RuntimeError("this pool belongs to the process that made it; a forked child needs one of its own")


@cython.final
@cython.no_gc_clear
cdef class FunctionEntry:
    """A function's pickle in the parent's arena, under a number. Tasks that name it keep it there."""

    cdef Client client
    cdef uint32_t id
    cdef uint32_t n
    cdef uint64_t block
    cdef bint named        # the block holds its name
    cdef dict namespace    # of its module, and its name there, if it is a plain one
    cdef object name
    cdef object fingerprint

    def __dealloc__(self):
        if self.block and self.client.open:
            self.client.free_block(self.block)


@cython.final
@cython.no_gc_clear
cdef class Payload:
    """A result that still lies in its worker's arena, or a copy of it."""

    cdef Client client
    cdef Payload_p prev, next
    cdef uint32_t w
    cdef uint64_t offset  # 0 once copied out
    cdef uint64_t n
    cdef bytes copy
    cdef object lost      # why there is no copy

    cdef bytes bytes(self):
        """The payload, copied out. (Not a view: while user code decodes one, the block may become another result's.)"""
        if self.offset:
            if not self.client.open:
                raise RuntimeError(
                    "the result lies in memory of the process that submitted the task, not of its forked child")
            copy = PyBytes_FromStringAndSize(
                <char *>rp_pool_block(&self.client.pool, self.w + 1, self.offset, self.n), self.n)
            if self.offset:  # making room for the copy may have run user code, and that this
                self.copy = copy
                self.client.let_go(self)
                self.offset = 0
        if self.lost is not None:
            raise self.lost
        return self.copy

    def __dealloc__(self):
        if self.offset:
            self.client.let_go(self)


cdef class Client:
    """One pool, seen from the process that made it.

    Args:
        n_workers: Places for workers, 1 to 1024.
        n_cpus: Processors that the pool may use; decides when spinning is a waste.
        arena_bytes: Upper limit of each process's arena.

    Raises:
        OSError: The system refuses the shared memory.
    """

    cdef rp_pool pool
    cdef bint open                # the mapping is there and this process owns it
    cdef bint retired             # the pool is done; the mapping stays for payloads
    cdef object __weakref__

    cdef TaskEntry *table
    cdef uint32_t table_size
    cdef uint32_t free_entry
    cdef readonly uint64_t outstanding  # tasks on the board or with workers
    cdef object queue             # futures whose encoded tasks wait for room
    cdef uint64_t queued          # those in the queue that are not cancelled
    cdef uint32_t since_drain

    cdef dict functions           # by reference: callable -> FunctionEntry
    cdef object dynamic           # by value: callable -> FunctionEntry, the latest used last
    cdef uint32_t n_functions

    cdef Waiter *waiters
    cdef bint led                 # some thread waits on the rings
    cdef uint64_t watched
    cdef bint starved             # the arena is full; blocks come back as results do
    cdef object news              # done futures whose watchers have not been told
    cdef Payload_p payloads       # those that lie in arenas: borrowed
    cdef list unreturned          # a list of offsets a worker: its return ring was full

    cdef bint closing             # no more submits; stop when nothing is pending
    cdef readonly bint stopped
    cdef object refusal           # makes the exception that submit raises; None while tasks are taken
    cdef public object grow       # called without arguments when more workers are wanted
    cdef public uint64_t n_started  # workers started so far; grow is called up to n_workers
    cdef readonly object start_error  # exception of a worker's initializer
    cdef readonly uint64_t strays # results that named no pending task

    def __cinit__(self, uint32_t n_workers, uint32_t n_cpus, uint64_t arena_bytes):
        self.free_entry = NO_ENTRY
        cdef int err = rp_pool_create(&self.pool, n_workers, n_cpus, arena_bytes)
        if err:
            raise OSError(-err, f"ringpool: no shared memory: {os.strerror(-err)}")
        self.open = True

    def __init__(self, n_workers, n_cpus, arena_bytes):
        self.queue = deque()
        self.functions = {}
        self.dynamic = OrderedDict()
        self.news = deque()
        self.unreturned = [[] for _ in range(n_workers)]
        _clients.add(self)

    def __dealloc__(self):
        PyMem_RawFree(self.table)
        if self.open:
            rp_pool_destroy(&self.pool)

    cdef forget(self):
        """In a forked child: the pool is the parent's, and its mapping was not inherited."""
        self.open = False
        self.led = False
        self.waiters = NULL
        self.refusal = _refuse_in_child

    # ---- facts for the supervisor ----

    @property
    def memfd(self):
        return self.pool.segment.fd

    @property
    def n_workers(self):
        return self.pool.n_workers

    @property
    def n_cpus(self):
        return self.pool.n_cpus

    @property
    def arena_bytes(self):
        return self.pool.arena_bytes

    @property
    def pending(self):
        """Tasks whose futures are not done."""
        return self.outstanding + self.queued

    @property
    def closed(self):
        """Whether no more tasks are taken."""
        return self.closing

    @property
    def blocks(self):
        """Blocks in use in the parent's arena: arguments under way, and functions."""
        return self.pool.arena.used_blocks if self.open else 0

    def worker_started(self, uint32_t w):
        return rp_pool_worker_state(&self.pool, w) != RP_ABSENT

    def worker_retired(self, uint32_t w):
        return rp_pool_worker_state(&self.pool, w) == RP_RETIRED

    # ---- task table ----

    cdef int grow_table(self) except -1:
        cdef uint32_t size = max(self.table_size * 2, 256), i
        cdef TaskEntry *table = <TaskEntry *>PyMem_RawRealloc(self.table, size * sizeof(TaskEntry))
        if table == NULL:
            raise MemoryError()
        for i in range(self.table_size, size):
            table[i].future = NULL
            table[i].generation = 1
            table[i].next_free = i + 1 if i + 1 < size else NO_ENTRY
        self.free_entry = self.table_size
        self.table = table
        self.table_size = size
        return 0

    cdef inline void enter(self, FutureBase future) noexcept:
        """Gives the future a task id. The caller has seen that free_entry is there."""
        cdef uint32_t i = self.free_entry
        self.free_entry = self.table[i].next_free
        Py_INCREF(future)
        self.table[i].future = <PyObject *>future
        future.task_id = <uint64_t>self.table[i].generation << 32 | i

    cdef inline PyObject *find(self, uint64_t task_id) noexcept:
        cdef uint32_t i = <uint32_t>(task_id & 0xffffffff)
        if i < self.table_size and self.table[i].generation == task_id >> 32:
            return self.table[i].future
        return NULL

    cdef void remove(self, FutureBase future) noexcept:
        """Takes a pending task off the books: its entry, its block, its place in the counts. The caller holds a
        reference of its own, and settles the future."""
        cdef uint32_t i = <uint32_t>(future.task_id & 0xffffffff)
        self.table[i].future = NULL
        self.table[i].generation += 1
        if self.table[i].generation == 0:
            self.table[i].generation = 1
        self.table[i].next_free = self.free_entry
        self.free_entry = i
        if future.block:
            self.free_block(future.block)
            future.block = 0
        if future.pos == POS_QUEUED:
            self.queued -= 1
        else:
            self.outstanding -= 1
        future.client = None
        future.fn = None
        future.entry = None
        if future.watched:
            self.watched -= 1
            self.update_collect()
        if self.closing and self.outstanding + self.queued == 0:
            rp_pool_kick_service(&self.pool)
        Py_DECREF(future)  # the table's

    cdef void finish(self, FutureBase future, int form, object value) noexcept:
        """Settles a pending future and lets everybody know who waits."""
        self.remove(future)
        future.settle(form, value)
        self.let_know(future)

    cdef void let_know(self, FutureBase future) noexcept:
        cdef Waiter *waiter
        if future.n_waiting:
            waiter = self.waiters
            while waiter != NULL:
                if waiter.future == <PyObject *>future and waiter.word == WAITING:
                    waiter.word = LOOK
                    rp_os_futex_wake(&waiter.word)
                waiter = waiter.next
            rp_pool_kick_leader(&self.pool)
        if future.state == FINISHED and (future.watched or future.callbacks is not None):
            self.news.append(future)
            rp_pool_kick_service(&self.pool)

    cdef void free_block(self, uint64_t offset) noexcept:
        cdef uint64_t n
        if self.open:
            rp_arena_free(&self.pool.arena, offset, &n)

    cdef void update_collect(self) noexcept:
        if self.open:
            rp_pool_set_collect(&self.pool, self.watched > 0 or self.closing or self.starved)

    cdef void watch_one(self) noexcept:
        self.watched += 1
        self.update_collect()

    # ---- submitting ----

    cpdef check(self):
        """Raises what submit would raise if the pool takes no tasks."""
        if self.refusal is not None:
            raise self.refusal()

    def submit(self, fn, tuple args, dict kwargs, bint chunk=False):
        """Encodes a call and puts it on the board, or in the queue if there is no room.

        Args:
            fn: What to call.
            args: Positional arguments; with `chunk`, a tuple of such tuples, one a call.
            kwargs: Keyword arguments, or None.
            chunk: The result is the list of the results of the calls.

        Returns:
            A Future.

        Raises:
            BrokenProcessPool, RuntimeError: The pool takes no more tasks.
        """
        cdef FutureBase future
        cdef FunctionEntry entry
        cdef rp_slot *slot
        cdef Py_ssize_t n
        self.check()
        future = new_future()
        future.fn = fn
        future.pos = POS_QUEUED
        kind = type(fn)
        entry = None
        if kind is FunctionType or kind is BuiltinType or kind is type:
            entry = self.functions.get(fn)
            if entry is None or entry.namespace is None or entry.namespace.get(entry.name) is not fn:
                try:
                    entry = self.look_up(fn)
                except KeyboardInterrupt:
                    raise
                except BaseException as error:
                    return self.refuse(future, error)
        self.since_drain += 1
        if self.since_drain >= DRAIN_EVERY:
            self.drain()
        if self.free_entry == NO_ENTRY:
            self.grow_table()
        self.check()  # again: all of the above may have run user code, or let another thread run
        # From the reservation to the publication no object is created and no Python code runs.
        if entry is not None and not kwargs and self.queued == 0:
            slot = rp_board_try_reserve(&self.pool.board)
            if slot != NULL:
                n = put(slot.inline_bytes, RP_SLOT_INLINE, args, 0)
                if n >= 0:
                    slot.kind = KIND_ARGS | (KIND_CHUNK if chunk else 0)
                    slot.bytes = n
                    slot.offset = 0
                    future.client = self
                    future.entry = entry
                    self.enter(future)
                    self.publish(slot, future)
                    if self.outstanding > self.n_started and self.n_started < self.pool.n_workers:
                        self.grow()
                    return future
        return self.submit_pickled(future, entry, args, kwargs, chunk)

    cdef inline void publish(self, rp_slot *slot, FutureBase future) noexcept:
        """Names task and function in the filled slot and makes it visible."""
        cdef FunctionEntry entry = future.entry
        slot.task_id = future.task_id
        if entry is None:
            slot.fn_id = 0
        else:
            slot.fn_id = entry.id
            slot.fn_offset = entry.block
            slot.fn_bytes = entry.n
            if entry.named:
                slot.kind |= KIND_NAMED
        self.outstanding += 1
        future.pos = rp_pool_publish(&self.pool, self.outstanding)

    cdef submit_pickled(self, FutureBase future, FunctionEntry entry, tuple args, dict kwargs, bint chunk):
        """The way of a task whose arguments are not compact, or for which there is no room on the board."""
        cdef unsigned char compact[RP_SLOT_INLINE]
        cdef Py_ssize_t n = -1
        cdef int kind
        try:
            if entry is None:
                kind = KIND_CALL_PICKLE
                data = dumps((future.fn, args, kwargs or {}))
            elif kwargs:
                kind = KIND_KWARGS_PICKLE
                data = dumps((args, kwargs))
            else:
                kind = KIND_ARGS
                n = put(compact, RP_SLOT_INLINE, args, 0)
                if n >= 0:
                    data = PyBytes_FromStringAndSize(<char *>compact, n)
                else:
                    kind = KIND_ARGS_PICKLE
                    data = dumps(args)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return self.refuse(future, error)
        if <uint64_t>len(data) > self.pool.arena_bytes:
            return self.refuse(future, MemoryError(
                f"the arguments take {len(data)} bytes, more than this pool's {self.pool.arena_bytes} bytes of shared "
                "memory for arguments can ever hold"))
        self.check()  # pickling ran user code, in which the pool may have been shut down
        if self.free_entry == NO_ENTRY:
            self.grow_table()
        future.kind = kind | (KIND_CHUNK if chunk else 0)
        future.value = data
        future.client = self
        future.entry = entry
        self.enter(future)
        self.queued += 1
        self.queue.append(future)
        self.pump()
        if self.outstanding + self.queued > self.n_started and self.n_started < self.pool.n_workers:
            self.grow()
        return future

    cdef refuse(self, FutureBase future, object error):
        """The task cannot be sent: its future gets the error."""
        future.fn = None
        future.settle(FORM_ERROR, error)
        return future

    cdef bint place(self, FutureBase future) noexcept:
        """Puts a queued task on the board. False if there is no room now."""
        cdef rp_slot *slot = rp_board_try_reserve(&self.pool.board)
        cdef object data = future.value
        cdef uint64_t n = PyBytes_GET_SIZE(data)
        if slot == NULL:
            rp_pool_set_backlog(&self.pool, True)
            return False
        slot.offset = 0
        if n > RP_SLOT_INLINE:
            if rp_arena_alloc(&self.pool.arena, n, &future.block):
                self.starved = True
                rp_pool_set_backlog(&self.pool, False)  # room on the board is not what is wanting
                self.update_collect()
                return False
            slot.offset = future.block
            memcpy(rp_pool_block(&self.pool, 0, future.block, n), PyBytes_AS_STRING(data), n)
        else:
            memcpy(slot.inline_bytes, PyBytes_AS_STRING(data), n)
        slot.kind = future.kind
        slot.bytes = n
        self.queued -= 1
        self.publish(slot, future)
        future.value = None
        return True

    cdef void pump(self) noexcept:
        """Moves queued tasks to the board while there is room."""
        cdef FutureBase future
        while self.queue:
            future = <FutureBase>self.queue[0]
            # A future that was cancelled in the queue left it in spirit. (Of two threads here, the GIL lets one pass at
            # a time: nothing between this look and popleft gives it up.)
            if future.state == PENDING and not self.place(future):
                if not self.starved or self.outstanding:
                    return
                # Nothing is under way that could give memory back.
                self.queue.popleft()
                self.finish(future, FORM_ERROR, MemoryError(
                    f"the arguments take {len(future.value)} bytes, and this pool's {self.pool.arena_bytes} bytes of "
                    "shared memory for arguments have no such block"))
                continue
            self.queue.popleft()
        if self.starved:
            self.starved = False
            self.update_collect()
        rp_pool_set_backlog(&self.pool, False)

    cdef FunctionEntry look_up(self, object fn):
        """The entry of a function seen for the first time or pickled by value; None if it must go with each task."""
        cdef FunctionEntry entry
        if functions.by_reference(fn):
            entry = self.functions.get(fn)
            if entry is not None:
                return entry
            if len(self.functions) >= MAX_FUNCTIONS:
                return None
            entry = self.new_entry(pickle.dumps((fn.__module__, fn.__qualname__), 5))
            if entry is not None:
                entry.named = True
                if "." not in fn.__qualname__:
                    entry.namespace = vars(sys.modules[fn.__module__])
                    entry.name = fn.__qualname__
                self.functions[fn] = entry
            return entry
        if type(fn) is not FunctionType:
            return None
        fingerprint = functions.fingerprint(fn)
        if fingerprint is None:
            return None
        entry = self.dynamic.get(fn)
        if entry is not None and functions.same(fingerprint, entry.fingerprint):
            self.dynamic.move_to_end(fn)
            return entry
        entry = self.new_entry(cloudpickle_dumps(fn))
        if entry is not None:
            entry.fingerprint = fingerprint
            self.dynamic[fn] = entry
            self.dynamic.move_to_end(fn)
            if len(self.dynamic) > MAX_DYNAMIC:
                self.dynamic.popitem(last=False)
        return entry

    cdef FunctionEntry new_entry(self, bytes data):
        cdef FunctionEntry entry = FunctionEntry()
        cdef uint64_t n = len(data)
        cdef uint64_t block = 0
        if n > 0xffffffff or not self.open or rp_arena_alloc(&self.pool.arena, n, &block):
            return None
        memcpy(rp_pool_block(&self.pool, 0, block, n), PyBytes_AS_STRING(data), n)
        entry.client = self
        entry.block = block
        entry.n = <uint32_t>n
        self.n_functions += 1
        entry.id = self.n_functions
        return entry

    # ---- results ----

    cdef void drain(self) noexcept:
        """Takes in every result that has arrived, settles its future, and moves queued tasks up. Runs no user code."""
        cdef uint32_t w
        cdef uint64_t total = 0
        self.since_drain = 0
        if not self.open or self.retired:
            return
        for w in range(self.pool.n_workers):
            total += self.drain_worker(w)
        if total:
            rp_pool_note_drained(&self.pool, total)
            if self.queue:
                self.pump()

    cdef uint64_t drain_worker(self, uint32_t w) noexcept:
        cdef rp_ring *ring = &self.pool.results[w]
        cdef rp_result *r
        cdef rp_result result
        cdef uint64_t n = 0
        while True:
            r = <rp_result *>rp_ring_try_peek(ring)
            if r == NULL:
                break
            # Copied out and released first: creating an object may run the garbage collector, and with it somebody's
            # __del__, which may come back here.
            memcpy(&result, r, sizeof(rp_result))
            rp_ring_release(ring)
            self.take(w, &result)
            n += 1
        if n:
            rp_pool_commit(&self.pool, w)
        return n

    cdef void take(self, uint32_t w, rp_result *r) noexcept:
        """Settles the future that a result names. Nothing in *r is believed."""
        cdef PyObject *found = self.find(r.task_id)
        cdef FutureBase future
        cdef int form
        cdef uint32_t kind = r.kind & KIND_MASK
        if found == NULL and kind != KIND_START_ERROR:
            self.strays += 1
            if r.offset:
                self.return_block(w, r.offset)
            return
        try:
            value = self.payload(w, r, kind)
            form = FORM_RESULT if kind == KIND_VALUE else FORM_PICKLE if kind == KIND_VALUE_PICKLE else FORM_REPORT
        except Exception as error:
            value = error
            form = FORM_ERROR
        if kind == KIND_START_ERROR:
            try:
                self.start_error = decode_error(value)
            except Exception as error:
                self.start_error = error
            return
        if self.find(r.task_id) != found:  # settled by user code that ran while the value was made
            return
        future = <FutureBase>found
        self.finish(future, form, value)

    cdef object payload(self, uint32_t w, rp_result *r, uint32_t kind):
        cdef Payload payload
        if r.offset == 0:
            if r.bytes > RP_RESULT_INLINE:
                raise RuntimeError(f"worker {w} sent a result of an impossible size")
            if kind == KIND_VALUE:
                return get_whole(r.inline_bytes, r.bytes)
            if kind in (KIND_VALUE_PICKLE, KIND_ERROR, KIND_START_ERROR):
                return PyBytes_FromStringAndSize(<char *>r.inline_bytes, r.bytes)
        elif kind in (KIND_VALUE_PICKLE, KIND_ERROR, KIND_START_ERROR):
            if rp_pool_block(&self.pool, w + 1, r.offset, r.bytes) == NULL:
                raise RuntimeError(f"worker {w} sent a result that lies outside its memory")
            payload = Payload()
            payload.client = self
            payload.w = w
            payload.offset = r.offset
            payload.n = r.bytes
            payload.next = self.payloads
            if self.payloads != NULL:
                (<Payload>self.payloads).prev = <Payload_p>payload
            self.payloads = <Payload_p>payload
            return payload if kind != KIND_START_ERROR else payload.bytes()
        raise RuntimeError(f"worker {w} sent a result of an unknown kind")

    cdef void let_go(self, Payload payload) noexcept:
        """Unlinks a payload and gives its block back to the worker."""
        self.unlink(payload)
        self.return_block(payload.w, payload.offset)
        self.unmap_if_unused()

    cdef void unlink(self, Payload payload) noexcept:
        if payload.prev != NULL:
            (<Payload>payload.prev).next = payload.next
        else:
            self.payloads = payload.next
        if payload.next != NULL:
            (<Payload>payload.next).prev = payload.prev
        payload.prev = payload.next = NULL

    cdef void return_block(self, uint32_t w, uint64_t offset) noexcept:
        if self.open and not self.retired and rp_pool_return_block(&self.pool, w, offset):
            self.unreturned[w].append(offset)

    cdef void flush_returns(self, uint32_t w) noexcept:
        cdef list waiting = <list>self.unreturned[w]
        while waiting:
            if rp_pool_return_block(&self.pool, w, waiting[len(waiting) - 1]):
                return
            waiting.pop()

    cdef copy_out(self, uint32_t w):
        """Copies all payloads out of worker w's arena: its memory is wanted, or about to be somebody else's."""
        cdef Payload_p p = self.payloads
        cdef Payload payload
        while p != NULL:
            payload = <Payload>p
            if payload.w == w:
                p = NULL
                payload.bytes()
                p = self.payloads  # from the start: user code that ran meanwhile may have dropped any of them
            else:
                p = payload.next

    cdef spoil_one(self, uint32_t w, error):
        """Gives up a payload that cannot be copied, though its memory passes to another worker: reading it raises."""
        cdef Payload_p p = self.payloads
        while p != NULL and (<Payload>p).w != w:
            p = (<Payload>p).next
        if p != NULL:
            (<Payload>p).lost = error
            self.let_go(<Payload>p)
            (<Payload>p).offset = 0

    # ---- waiting ----

    cdef wait_for(self, FutureBase future, timeout):
        """Waits until the future is done or the time is up, reading the rings meanwhile. One waiting thread at a time
        leads: it sleeps on the rings and takes in the results of all. The others sleep until their future is done, or
        until the leader leaves and names one of them the next."""
        cdef int64_t left = -1
        cdef uint64_t deadline = 0, now
        cdef Waiter waiter
        cdef int i
        cdef uint32_t rounds = 0
        self.drain()
        if future.state >= CANCELLED:
            return
        if timeout is not None:
            left = <int64_t>(min(timeout, 1e9) * 1e9) if timeout > 0 else 0
            deadline = rp_os_now_ns() + left
        if left != 0 and self.open and not rp_pool_crowded(&self.pool):
            for i in range(GLANCES):
                rp_pause()
                if rp_pool_has_results(&self.pool):
                    self.drain()
                    if future.state >= CANCELLED:
                        return
        waiter.word = WAITING
        waiter.future = <PyObject *>future
        waiter.next = self.waiters
        self.waiters = &waiter
        future.n_waiting += 1
        try:
            while True:
                if not self.led:
                    self.led = True
                    waiter.word = LEAD
                if waiter.word == LEAD:
                    rp_pool_begin_leading(&self.pool)
                    self.drain()
                if future.state >= CANCELLED:
                    return
                if not self.open:
                    raise RuntimeError("the task belongs to the process that submitted it, not to its forked child")
                if timeout is not None:
                    now = rp_os_now_ns()
                    if now >= deadline:
                        return
                    left = deadline - now
                rounds += 1  # while results come in all the time, no sleep is cut short that would tell of a signal
                if self.sleep(&waiter, left if 0 <= left < SIGNAL_NS else SIGNAL_NS) == -EINTR or rounds % 64 == 0:
                    # A handler may wait for a future in its turn, above us on this stack, so nobody must count on us.
                    self.resign(&waiter)
                    PyErr_CheckSignals()
        finally:
            future.n_waiting -= 1
            self.leave(&waiter)

    cdef int sleep(self, Waiter *waiter, int64_t ns) noexcept:
        cdef rp_pool *pool = &self.pool
        cdef uint64_t outstanding = self.outstanding
        cdef bint lead = waiter.word == LEAD
        cdef int err
        with nogil:
            if lead:
                err = rp_pool_wait_results(pool, outstanding, ns)
            else:
                err = rp_os_futex_wait(&waiter.word, WAITING, ns)
        # A time-out is reported as a signal: a waiting thread looks for those once a second at least.
        return -EINTR if err else 0

    cdef void resign(self, Waiter *waiter) noexcept:
        """If this waiter leads, another one does from now on."""
        cdef Waiter *heir = self.waiters
        if waiter.word != LEAD:
            return
        waiter.word = WAITING
        while heir == waiter:
            heir = heir.next
        if heir == NULL:
            self.led = False
        else:
            heir.word = LEAD
            rp_os_futex_wake(&heir.word)

    cdef void leave(self, Waiter *waiter) noexcept:
        cdef Waiter **at = &self.waiters
        while at[0] != NULL and at[0] != waiter:
            at = &at[0].next
        if at[0] == waiter:
            at[0] = waiter.next
        self.resign(waiter)
        self.unmap_if_unused()

    # ---- the collector ----

    def serve(self):
        """The collector thread: tells watchers, empties rings that fill up, moves tasks up. Returns when the pool has
        stopped or is abandoned by break_off."""
        cdef uint32_t w
        cdef rp_pool *pool = &self.pool
        while True:
            rp_pool_begin_service(pool)
            self.drain()
            self.pump()
            for w in range(pool.n_workers):
                self.flush_returns(w)
                if rp_pool_wants_memory(pool, w):
                    self.drain_worker(w)  # all that it published before it asked: some of its blocks may be there
                    try:
                        self.copy_out(w)
                    except MemoryError:  # then the worker waits until results are read or dropped
                        pass
                    self.flush_returns(w)
            self.tell_news()
            if self.closing and self.outstanding + self.queued == 0 and not self.news:
                self.stop()
                return
            with nogil:
                rp_pool_wait_service(pool)

    cdef tell_news(self):
        while self.news:
            future = self.news.popleft()
            try:
                future._tell()
            except BaseException:
                logger().exception("exception telling those who wait for %r", future)
            future = None

    def stop(self):
        """Tells the workers to leave."""
        self.stopped = True
        if self.open and not self.retired:
            rp_pool_stop(&self.pool)

    # ---- the end of tasks, of workers, of the pool ----

    cdef bint try_cancel(self, FutureBase future) noexcept:
        """Takes a task back that no worker has claimed; its future is then cancelled. No Python code runs."""
        if not self.open:
            return False
        if future.pos != POS_QUEUED:
            if not rp_board_try_cancel(&self.pool.board, future.pos):
                return False
            if self.queued:  # there is room on the board, of which no worker will tell
                rp_pool_kick_service(&self.pool)
        self.remove(future)
        future.value = None
        future.state = NOTIFIED
        self.let_know(future)
        return True

    def cancel_all(self):
        """Cancels every task that no worker has claimed."""
        cdef uint32_t i
        for i in range(self.table_size):
            if self.table[i].future != NULL:
                (<object>self.table[i].future).cancel()

    def close(self, refusal):
        """Takes no more tasks; when none is pending, the workers are told to leave.

        Args:
            refusal: Makes the exception that submit raises from now on.
        """
        if self.refusal is None:
            self.refusal = refusal
        self.closing = True
        if self.open and not self.retired:
            self.update_collect()
            rp_pool_kick_service(&self.pool)

    def bury(self, uint32_t w):
        """Takes in what a dead worker left, and makes its place ready for another.

        Args:
            w: The worker's index. Its process must be dead.

        Returns:
            A list of the futures (one at most, unless the worker wrote wildly) of tasks that it held.
        """
        cdef uint64_t ids[2]
        cdef uint32_t n, i
        cdef PyObject *found
        lost = []
        self.drain_worker(w)
        while True:
            try:
                self.copy_out(w)
                break
            except MemoryError as error:
                self.spoil_one(w, error)
        self.unreturned[w].clear()
        n = rp_pool_recover(&self.pool, w, ids)
        for i in range(n):
            found = self.find(ids[i])
            if found != NULL and <object>found not in lost:
                lost.append(<object>found)
        return lost

    def rouse(self):
        """After funerals: wakes whoever the dead should have woken."""
        self.pump()
        rp_pool_rouse_after_death(&self.pool, self.outstanding)

    def fail(self, FutureBase future, error):
        """Ends a pending future of this pool with an exception; a future that is done stays as it is."""
        if future.state == PENDING and future.client is self:
            self.finish(future, FORM_ERROR, error)

    def fail_all(self, error):
        """Ends every pending future with an exception."""
        cdef uint32_t i
        for i in range(self.table_size):
            if self.table[i].future != NULL:
                self.fail(<object>self.table[i].future, error)

    def describe(self, FutureBase future):
        """The name of what a pending task calls."""
        fn = future.fn
        try:
            module = getattr(fn, "__module__", None)
            name = getattr(fn, "__qualname__", None)
        except Exception:
            return f"a {type(fn).__name__}"
        return f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else safe_repr(fn)

    def retire(self):
        """Lets the shared memory go: now, or when the last result that lies in it has been decoded or dropped, and the
        last thread that slept on it has woken."""
        if self.open and not self.retired:
            self.tell_news()
            self.functions.clear()
            self.dynamic.clear()
            self.retired = True
            rp_segment_close_fd(&self.pool.segment)
            self.unmap_if_unused()

    cdef void unmap_if_unused(self) noexcept:
        # A waiter may have been told and yet be on its way out of the kernel, about to touch its bell.
        if self.open and self.retired and self.payloads == NULL and self.waiters == NULL:
            self.open = False
            rp_pool_destroy(&self.pool)


ctypedef object (*newfunc)(PyObject *, PyObject *, PyObject *)

cdef object _future_type = FutureBase
cdef object _no_args = ()


def set_future_type(cls):
    """Says of which class, a subclass of FutureBase, submit makes its futures."""
    global _future_type
    _future_type = cls


cdef inline FutureBase new_future():
    """A Future, without a call of __init__."""
    return <FutureBase>(<newfunc>(<PyTypeObject *>_future_type).tp_new)(
        <PyObject *>_future_type, <PyObject *>_no_args, NULL)



cdef object FunctionType = types.FunctionType
cdef object BuiltinType = types.BuiltinFunctionType
