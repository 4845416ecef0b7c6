# client.pyx - the parent's side of a pool.

cdef struct TaskEntry:
    PyObject *future       # a reference of the table's, or NULL
    uint32_t generation    # counts the uses of this entry, never 0: (generation << 32 | index) names one task for ever
    uint32_t next_free

cdef struct Waiter:        # a thread in result(), on its stack
    rp_futex word          # WAITING, then one of the others
    unsigned long thread
    PyObject *future       # borrowed
    Waiter *next

ctypedef PyObject *Payload_p
ctypedef PyObject *Block_p

cdef struct Loan:         # the block of the overflow that a worker may write to
    uint64_t offset
    uint64_t bytes         # 0: there is none
    uint64_t request       # that it is the answer to

cdef struct ArenaEntry:   # the parent's account of a worker's arena
    uint32_t owner         # the place of the worker that has it, or NOBODY
    uint32_t blocks        # that are here
    uint32_t used          # of these, how many hold buffers that objects use in place

cdef enum:
    WAITING = 0
    LOOK = 1               # your future is done
    LEAD = 2               # you wait on the rings; of all waiters, one at most has this
    AWAY = 3               # other code runs above it on its stack: it cannot lead

cdef enum:
    DRAIN_EVERY = 32       # submits between two looks at the result rings
    GLANCES = 120          # looks with the GIL held, some 3 us: less than giving it up and taking it back may cost
    NO_ENTRY = 0xffffffff
    NOBODY = 0xffffffff
    MAX_FUNCTIONS = 65536  # by reference; more are pickled each time
    MAX_DYNAMIC = 128      # by value

cdef int64_t GRACE_NS = 1000000000     # from the exception raised in a task to the end of its worker, by default
GRACE_S = GRACE_NS / 1e9
cdef int64_t LOOK_AGAIN_NS = 1000000   # the least time between two rounds of enforce(); a deadline is kept to so much
cdef uint64_t PAUSE_NS = 10000000      # 10 ms, and twice as long each time: until a signal that had no effect is repeated

cdef uint64_t LET_GO_NS = 100000  # between two looks whether workers have let go of shared objects; arbitrary
cdef uint64_t LET_GO_MAX_NS = 30000000000  # what they have not by then is kept by a __del__ that does not end; arbitrary

# 1 s: the longest that a waiting main thread goes without looking for signals. A signal ends the sleep at once; this
# covers the instant between the last look and the sleep.
cdef int64_t SIGNAL_NS = 1000000000

_clients = weakref.WeakSet()


def _after_fork_in_child():
    take_copies()
    for client in list(_clients):
        (<Client>client).forget()
    if _here is not None:
        _here.leave()


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


def _refuse_in_child():
    return RuntimeError(
        "this pool belongs to the process that made it; a forked child, such as a worker, needs one of its own: "
        "make it there")


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
    cdef object handles    # blocks that this one names

    def __dealloc__(self):
        if self.block and self.client.open:
            self.client.free_block(self.block)


@cython.final
@cython.no_gc_clear
cdef class Block:
    """A block of a worker's arena, or of the overflow, that this process has the use of. It goes home when this dies."""

    cdef Client client
    cdef Block_p prev, next
    cdef uint32_t arena
    cdef uint64_t offset
    cdef uint64_t n        # bytes that are looked at, or of a loan all

    cdef unsigned char *at(self) noexcept:
        """NULL in a forked child, and where no address space is left."""
        cdef unsigned char *at
        if not self.client.open:
            return NULL
        at = rp_pool_block(&self.client.pool, self.arena, self.offset, self.n)
        if at == NULL:
            self.client.unmap_idle()
            at = rp_pool_block(&self.client.pool, self.arena, self.offset, self.n)
        return at

    def __dealloc__(self):
        if self.client is not None:
            self.client.send_home(self)


@cython.final
@cython.no_gc_clear
cdef class ResultView(View):
    """A buffer of a result, in a block of its own, or in that of a loan, which all buffers of the result have in common."""

    cdef Block block

    cdef void use(self) noexcept:
        """Objects use it from now on: its memory stays where it is, whatever becomes of its worker."""
        if not self.used:
            self.block.client.arenas[self.block.arena].used += 1
            self.list()

    def __dealloc__(self):
        if self.used:
            self.block.client.arenas[self.block.arena].used -= 1
        self.unlist()  # before the block goes, and perhaps with it the mapping


@cython.final
@cython.no_gc_clear
cdef class Payload:
    """A result that still lies in its worker's arena, or a copy of it."""

    cdef Client client
    cdef Payload_p prev, next
    cdef Block block      # None once copied out
    cdef list views       # of a parcel that is spread: the buffers
    cdef uint64_t n       # bytes of it that are in the block
    cdef uint64_t pickle_at
    cdef bytes copy
    cdef object lost      # why there is no copy

    cdef bytes bytes(self):
        """The payload, copied out, in one. (Not a view: while user code decodes one, the block may become another
        result's.)"""
        cdef uint64_t n
        if self.block is not None:
            if not self.client.open:
                raise RuntimeError(
                    "the result lies in memory of the process that submitted the task, not of its forked child")
            if self.block.at() == NULL:
                raise no_address(&self.client.pool, self.n)
            n = self.n if self.views is None else self.joined_bytes()
            copy = PyBytes_FromStringAndSize(NULL, n)
            if self.block is not None:  # making room for the copy may have run user code, and that this
                if self.views is None:
                    memcpy(PyBytes_AS_STRING(copy), self.block.at(), n)
                else:
                    self.join(<unsigned char *>PyBytes_AS_STRING(copy))
                self.copy = copy
                self.leave_arena()
        if self.lost is not None:
            raise self.lost
        return self.copy

    cdef uint64_t joined_bytes(self) noexcept:
        cdef uint64_t n = rp_parcel_pickle_at(len(self.views)) + self.n - self.pickle_at
        for view in self.views:
            n = rp_buffer_aligned(n) + (<View>view).size
        return n

    cdef void join(self, unsigned char *p) noexcept:
        """Writes a parcel that is not spread."""
        cdef uint64_t n = self.n - self.pickle_at, k = 0
        cdef uint64_t at = rp_parcel_pickle_at(len(self.views))
        rp_parcel_begin(p, RP_PARCEL, <uint32_t>len(self.views), n)
        memcpy(p + at, self.block.at() + self.pickle_at, n)
        at += n
        for view in self.views:
            n = (<View>view).size
            rp_parcel_set_extent(p, k, rp_extent(n, (<View>view).readonly))
            at = rp_buffer_aligned(at)
            memcpy(p + at, (<View>view).at, n)
            at += n
            k += 1

    cdef value(self, int form):
        """What it stands for: a compact form and the buffers of a parcel are read where they lie, or used there."""
        try:
            return self.value_here(form)
        except NumPyIsNeeded:
            pass
        learn_numpy(True)
        return self.value_here(form)

    cdef value_here(self, int form):
        cdef const unsigned char *p = NULL
        cdef int collects
        if self.block is not None:
            p = self.block.at()
        if p == NULL or (form == FORM_PICKLE and self.views is None):
            copy = self.bytes()
            p = <const unsigned char *>PyBytes_AS_STRING(copy)
            return get_whole_importing(p, len(copy)) if form == FORM_COMPACT else loads_at(p, len(copy))
        collects = hold_gc()  # and so no user code runs that might let go of it
        try:
            if form == FORM_COMPACT:
                return get_whole(p, self.n)
            data = PyBytes_FromStringAndSize(<const char *>p + self.pickle_at, self.n - self.pickle_at)
            buffers = self.client.use_views(self.block.arena, self.views)
        finally:
            let_gc(collects)
        return pickle.loads(data, buffers=buffers)

    cdef void leave_arena(self) noexcept:
        """The blocks go home, but for what objects use of them."""
        self.client.unlink(self)
        self.views = None
        self.block = None

    def __dealloc__(self):
        if self.block is not None:
            self.client.unlink(self)


cdef Payload payload_of(bytes data):
    """One that never was in an arena."""
    cdef Payload payload = Payload()
    payload.copy = data
    return payload


cdef c_bool arena_is_idle(const void *arenas, uint64_t region) noexcept nogil:
    return region != 0 and (<const ArenaEntry *>arenas)[region].blocks == 0


cdef rp_sizes as_sizes(tuple sizes):
    cdef rp_sizes each
    each.arena_bytes, each.parent_quota, each.worker_quota, each.overflow_quota = sizes
    return each


def fixed_bytes(uint32_t n_places):
    """What a pool takes besides its arenas, in bytes."""
    return rp_pool_fixed_bytes(n_places)


def arenas(uint32_t n_places):
    """How many arenas a pool has."""
    return RP_ARENAS(n_places)


def wait_ready(list fds, seconds):
    """Waits until one of some descriptors is readable, or has hung up; or for a signal.

    Args:
        seconds: To wait at most; None for no limit.

    Returns:
        The set of those that are, and by how many nanoseconds longer than `seconds` it took: see rp_os_poll.

    Raises:
        OSError: The system refuses to wait for so many.
    """
    cdef Py_ssize_t n = len(fds), i
    cdef int64_t timeout_ns = -1 if seconds is None else <int64_t>(<double>seconds * 1e9)
    cdef uint64_t late_ns = 0
    cdef int rc
    cdef bytearray room = bytearray(n * sizeof(pollfd))
    cdef pollfd *p = <pollfd *>PyByteArray_AS_STRING(room)
    for i in range(n):
        p[i].fd = fds[i]
        p[i].events = POLLIN
    with nogil:
        rc = rp_os_poll(p, <uint32_t>n, timeout_ns, &late_ns)
    if rc < 0:
        raise OSError(-rc, os.strerror(-rc))
    return {p[i].fd for i in range(n) if p[i].revents}, late_ns


def wait_peak_rss(int pidfd):
    """Waits until a child process has ended, and leaves its exit status to whoever asks for that.

    Args:
        pidfd: Of the process.

    Returns:
        The most memory that it had in use, in bytes: see rp_os_wait_peak_rss. 0 if it is no child of this process.
    """
    cdef uint64_t size = 0
    with nogil:
        rp_os_wait_peak_rss(pidfd, &size)
    return size


@cython.final
@cython.no_gc_clear  # an object that is cleared with it may still call it
cdef class Client:
    """One pool, seen from the process that made it.

    Args:
        n_workers: How many workers take tasks at a time.
        n_places: How many there may be, with those that start or leave, 1 to 2048.
        n_cpus: Processors that the pool may use; decides when spinning is a waste.
        sizes: Bytes from the beginning of each arena to that of the next, at most; how many bytes of it the parent, and a worker, may fill; and how
            many bytes of results there may be in the overflow.

    It takes no shared memory before the first use: see create().
    """

    cdef rp_pool pool             # until create(), zeros and what it is to be made with
    cdef readonly uint32_t n_workers
    cdef bint open                # the mapping is there and this process owns it
    cdef bint created             # it has been there
    cdef bint retired             # the pool is done; the mapping stays for payloads
    cdef object __weakref__

    cdef TaskEntry *table
    cdef uint32_t table_size
    cdef uint32_t free_entry
    cdef readonly uint64_t outstanding  # tasks on the board or with workers
    cdef object queue             # futures whose encoded tasks wait for room
    cdef uint64_t queued          # those in the queue that are not cancelled
    cdef uint32_t since_drain
    cdef uint64_t timed           # pending tasks with a time limit
    cdef int64_t shortest_ns      # the shortest of these limits since there were none
    cdef object endings           # futures of running tasks that are to end
    cdef dict forgiven            # id of a task with a time limit -> nanoseconds of its run that do not count; or None
    cdef public bint cancel_running  # whether cancel() ends what runs

    cdef dict functions           # by reference: callable -> FunctionEntry
    cdef object dynamic           # by value: callable -> FunctionEntry, the latest used last
    cdef uint32_t n_functions
    cdef readonly object session  # what workers know of a __main__ that cannot be imported, or None

    cdef Waiter *waiters
    cdef bint led                 # some thread waits on the rings
    cdef uint64_t watched
    cdef list batches             # those with items that have not been sent
    cdef uint64_t unfed           # how many these are
    cdef uint64_t chunks          # of all batches, that are not done
    cdef list kept                # lists of the futures of items that are done, until they may be dropped
    cdef bint starved             # the arena is full; blocks come back as results do
    cdef bint holding             # there may be chunks in the queue whose items lie in the arena
    cdef object news              # done futures whose watchers have not been told
    cdef Payload_p payloads       # those that lie in arenas: borrowed
    cdef Block_p blocks_here      # of workers' arenas: borrowed
    cdef ArenaEntry *arenas       # 0 is this process's own
    cdef uint32_t n_arenas
    cdef uint32_t overflow        # which one that is
    cdef Loan *loans              # a worker
    cdef uint32_t n_loans         # workers that have one
    cdef uint32_t *borrowers      # workers that wait for one, the first first
    cdef uint32_t n_borrowers
    cdef Shared_p shares          # borrowed
    cdef uint64_t n_shares        # so far
    cdef PyObject *held           # parcels whose tasks are answered, and that workers hold: references
    cdef uint64_t purged_ns       # when a shared object was last given up that workers had
    cdef list unreturned          # a list of offsets a worker: its return ring was full

    cdef bint closing             # no more submits; stop when nothing is pending
    cdef readonly bint stopped
    cdef readonly bint inherited  # by a fork: this process has no use of it
    cdef rp_futex ended           # 1: the last of its threads is done
    cdef object refusal           # makes the exception that submit raises; None while tasks are taken
    cdef public int alarm_fd      # an eventfd of the supervisor's, or -1
    cdef public uint64_t n_started  # workers started so far
    cdef public uint64_t wanted   # how many there should be
    cdef public unsigned long beginner  # the thread that is starting the first workers, or 0
    cdef readonly object start_error  # exception of a worker's initializer
    cdef readonly uint64_t strays # results that named no pending task
    cdef uint64_t looked_ns       # when missing tasks were last looked for
    cdef public bint green        # the program's threads are greenlets: none may sleep here
    cdef dict sleepers            # if so, id of a future -> the events of the greenlets that wait for it
    cdef object due               # futures among those that are done, whose events are to be set
    cdef uint64_t trim_at         # when so many bytes are mapped, what is idle is looked for
    cdef bytearray wild           # a worker: 1 if it has sent what none of ours sends, and is to be killed

    def __cinit__(self, uint32_t n_workers, uint32_t n_places, uint32_t n_cpus, tuple sizes):
        self.free_entry = NO_ENTRY
        self.n_workers = n_workers
        self.alarm_fd = -1
        cdef uint32_t i
        self.pool.segment.fd = -1
        self.pool.n_workers = n_places
        self.pool.n_cpus = n_cpus
        self.pool.sizes = as_sizes(sizes)
        self.n_arenas = RP_ARENAS(n_places)
        self.overflow = RP_OVERFLOW(n_places)
        self.arenas = <ArenaEntry *>PyMem_RawCalloc(self.n_arenas, sizeof(ArenaEntry))
        self.loans = <Loan *>PyMem_RawCalloc(n_places, sizeof(Loan))
        self.borrowers = <uint32_t *>PyMem_RawCalloc(n_places, sizeof(uint32_t))
        if self.arenas == NULL or self.loans == NULL or self.borrowers == NULL:
            raise MemoryError()
        for i in range(self.n_arenas):
            self.arenas[i].owner = i - 1 if 1 <= i <= n_places else NOBODY

    def __init__(self, n_workers, n_places, n_cpus, sizes):
        self.queue = deque()
        self.endings = deque()
        self.batches = []
        self.kept = []
        self.functions = {}
        self.dynamic = OrderedDict()
        self.news = deque()
        self.sleepers = {}
        self.due = deque()
        self.unreturned = [[] for _ in range(n_places)]
        self.wild = bytearray(n_places)
        _clients.add(self)

    def __dealloc__(self):
        self.drop_held()
        PyMem_RawFree(self.table)
        PyMem_RawFree(self.arenas)
        PyMem_RawFree(self.loans)
        PyMem_RawFree(self.borrowers)
        if self.open:
            rp_pool_destroy(&self.pool)

    def __reduce__(self):
        raise TypeError(
            "cannot pickle 'Client' object: a pool stays in the process that made it; "
            "a task that needs one makes one in the worker")

    cpdef int create(self) except -1:
        """Makes the shared memory, once. To be called before the first task or shared object; between the call of the
        system and `created`, nothing lets another thread, a signal handler or a fork come in.

        Raises:
            OSError: The system refuses it. The next call tries again.
        """
        cdef uint32_t n_places = self.pool.n_workers, n_cpus = self.pool.n_cpus
        cdef rp_sizes sizes = self.pool.sizes
        cdef int err
        if self.created or self.closing or self.inherited:
            return 0
        err = rp_pool_create(&self.pool, n_places, n_cpus, sizes)
        if err:
            self.pool.n_workers = n_places
            self.pool.n_cpus = n_cpus
            self.pool.sizes = sizes
            raise OSError(-err, f"ringpool: no shared memory: {os.strerror(-err)}")
        self.trim_at = RP_WINDOWS_KEEP
        self.open = self.created = True
        return 0

    cdef forget(self):
        """In a forked child: the pool is the parent's, and its mappings were not inherited. The descriptor was, and would
        hold the memory as long as the child lives. A pool that was never used is the child's own."""
        if not self.created:
            return
        if self.open:
            rp_segment_close_fd(&self.pool.segment)
        self.inherited = True
        self.ended = 1
        self.alarm_fd = -1
        self.open = False
        self.n_borrowers = self.n_loans = 0
        self.led = False
        self.waiters = NULL
        self.refusal = _refuse_in_child

    # ---- facts for the supervisor ----

    @property
    def memfd(self):
        return self.pool.segment.fd

    @property
    def n_places(self):
        return self.pool.n_workers

    @property
    def n_cpus(self):
        return self.pool.n_cpus

    @property
    def sizes(self):
        """As they were given, but with arenas that the system allowed."""
        cdef rp_sizes *sizes = &self.pool.sizes
        return sizes.arena_bytes, sizes.parent_quota, sizes.worker_quota, sizes.overflow_quota

    @property
    def pending(self):
        """Tasks whose futures are not done."""
        return self.outstanding + self.queued + self.unfed

    @property
    def closed(self):
        """Whether no more tasks are taken."""
        return self.closing

    @property
    def blocks(self):
        """Blocks in use in the parent's arena: arguments under way, and functions."""
        return self.pool.arena.used_blocks if self.open else 0

    @property
    def blocks_lent(self):
        """Blocks in use of the overflow: what workers have borrowed, and results that lie there."""
        return self.pool.overflow.used_blocks if self.open else 0

    @property
    def blocks_of_workers(self):
        """Blocks of workers' arenas, and of the overflow, that results and parts of them lie in."""
        cdef uint32_t i
        return sum([self.arenas[i].blocks for i in range(1, self.n_arenas)])

    def worker_started(self, uint32_t w):
        return rp_pool_worker_state(&self.pool, w) != RP_ABSENT

    def worker_retired(self, uint32_t w):
        return rp_pool_worker_state(&self.pool, w) == RP_RETIRED

    def worker_retiring(self, uint32_t w):
        """Whether it wants a successor."""
        return rp_pool_is_retiring(&self.pool, w)

    def give_turn(self, uint32_t w, uint64_t ticket):
        """The worker that starts, or has started, in place w with this ticket may take tasks."""
        rp_pool_give_turn(&self.pool, w, ticket)

    def name_successor(self, uint32_t w, uint32_t successor, uint64_t ticket):
        """Worker w will hand over to the one that is about to be started in that place with that ticket."""
        rp_pool_name_successor(&self.pool, w, successor, ticket)

    def dismiss(self, uint32_t w, uint32_t successor):
        """Lets worker w go if it has nothing more to do and its successor is ready."""
        if rp_pool_worker_state(&self.pool, successor) != RP_ABSENT and rp_pool_may_go(&self.pool, w):
            rp_pool_dismiss(&self.pool, w)
    def worker_peak_rss(self, uint32_t w):
        """The most memory that worker w has had in use, in bytes, as it noted itself, a second ago at most; 0 if it has
        not. To be asked before its burial."""
        return rp_pool_peak_rss(&self.pool, w)

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
        if future.options is not None:
            self.timed += future.options.timeout_ns != 0

    cdef inline PyObject *find(self, uint64_t task_id) noexcept:
        cdef uint32_t i = <uint32_t>task_id
        if i < self.table_size and self.table[i].generation == task_id >> 32:
            return self.table[i].future
        return NULL

    cdef void remove(self, FutureBase future) noexcept:
        """Takes a pending task off the books: its entry, its block, its place in the counts. The caller holds a
        reference of its own, settles the future in the same breath, and last of all drops what the task calls and the shared
        objects among its arguments: that may run somebody's __del__, which may ask the future or use the pool."""
        cdef uint32_t i = <uint32_t>future.task_id
        self.table[i].future = NULL
        self.table[i].generation += 1
        if self.table[i].generation == 0:
            self.table[i].generation = 1
        self.table[i].next_free = self.free_entry
        self.free_entry = i
        if future.block:
            if type(future.value) is Parcel:
                self.take_back(<Parcel>future.value)
            else:
                self.free_block(future.block)
            future.block = 0
        if future.pos == POS_QUEUED:
            self.queued -= 1
        else:
            self.outstanding -= 1
        if future.options is not None:
            self.timed -= future.options.timeout_ns != 0
            future.options = None
        future.client = None
        if future.watched:
            self.watched -= 1
            self.update_collect()
        self.look_for_end()
        Py_DECREF(future)  # the table's

    cdef void look_for_end(self) noexcept:
        if self.closing and self.outstanding + self.queued + self.unfed == 0 and self.open:
            rp_pool_kick_service(&self.pool)

    cdef void finish(self, FutureBase future, int form, object value) noexcept:
        """Settles a pending future and lets everybody know who waits. One that was to end keeps to that, however late
        its task has come to a result."""
        self.conclude(future, form, value)
        future.fn = None
        future.entry = None
        future.shared = None

    cdef void conclude(self, FutureBase future, int form, object value) noexcept:
        """The part of finish that runs no user code."""
        cdef Ending ending = future.ending
        self.remove(future)
        self.settle_as(future, form, value, ending)
        future.ending = None
        self.let_know(future, future.watched or future.callbacks is not None)
        if type(future) is Chunk:
            (<Chunk>future).batch.end_of(<Chunk>future)

    cdef void settle_as(self, FutureBase future, int form, object value, Ending ending) noexcept:
        if ending is None:
            future.settle(form, value)
        elif ending.why == WHY_CANCELLED:
            future.settle_cancelled()
        else:
            ending.form = form
            ending.value = value
            future.settle(FORM_OVERRUN, ending)

    cdef void settle_item(self, FutureBase item, int form, object value) noexcept:
        """Settles the pending future of an item of a batch and lets everybody know who waits; with FORM_NONE, as
        cancelled. Runs no user code."""
        if item.watched:
            self.watched -= 1
            self.update_collect()
        item.item_of = None
        item.client = None
        item.ending = None
        if form == FORM_NONE:
            item.settle_cancelled()
        else:
            item.settle(form, value)
        self.let_know(item, item.watched or item.callbacks is not None)

    cdef void let_know(self, FutureBase future, bint tell) noexcept:
        """Wakes the threads in result(), and has the collector tell those who watch if `tell` says so."""
        cdef Waiter *waiter
        if future.n_waiting:
            waiter = self.waiters
            while waiter != NULL:
                if waiter.future == <PyObject *>future and waiter.word == WAITING:
                    waiter.word = LOOK
                    rp_os_futex_wake(&waiter.word)
                waiter = waiter.next
            rp_pool_kick_leader(&self.pool)
            if self.green:
                self.due.append(future)
                rp_pool_kick_service(&self.pool)
        if tell:
            self.news.append(future)
            rp_pool_kick_service(&self.pool)

    cdef void free_block(self, uint64_t offset) noexcept:
        cdef uint64_t n
        if self.open:
            rp_arena_free(&self.pool.arena, offset, &n)

    # ---- shared objects ----

    def share(self, obj):
        """Encodes an object for all tasks.

        Args:
            obj: Anything that can be an argument.

        Returns:
            A Shared, which stands for it among arguments.

        Raises:
            MemoryError: There is no room for it.
            OSError: The system refuses the shared memory.
            BrokenProcessPool, RuntimeError: The pool takes no more tasks.
        """
        cdef Shared shared
        cdef Parcel parcel = Parcel()
        cdef bint last = False
        self.check()
        self.create()
        parcel.client = self
        data = pack(obj, parcel)
        if parcel.count == 0:
            parcel.hold(data)
        parcel.before = words_before(self.pool.n_workers)
        shared = Shared.__new__(Shared)
        self.check()  # pickling ran user code
        while parcel.spread(&self.pool.arena):
            if last:
                if self.pool.segment.refused:
                    raise no_address(&self.pool, parcel.bytes)
                raise MemoryError(
                    f"the shared object takes {parcel.bytes} bytes, and of the {self.pool.arena.quota} bytes of shared "
                    "memory that this pool has for arguments not so many are left (see shared_memory_limit)")
            self.drain()  # what is answered needs its arguments no more
            last = not self.letting_go()  # asked before the sweep
            if not last:
                with nogil:
                    rp_os_nap(LET_GO_NS)
                PyErr_CheckSignals()
            self.sweep(NOBODY)
            self.check()  # user code may have run
        parcel.fill(&self.pool)
        self.n_shares += 1
        shared.id = self.n_shares
        shared.nbytes = parcel.bytes
        shared.parcel = parcel
        shared.next = self.shares
        if self.shares != NULL:
            (<Shared>self.shares).prev = <Shared_p>shared
        self.shares = <Shared_p>shared
        shared.client = self
        parcel.client = None  # no cycle
        parcel.clear()
        return shared

    cdef void end_share(self, Shared shared) noexcept:
        """The last handle is gone, and no task has it among its arguments."""
        cdef Parcel parcel = shared.parcel
        if shared.prev != NULL:
            (<Shared>shared.prev).next = shared.next
        else:
            self.shares = shared.next
        if shared.next != NULL:
            (<Shared>shared.next).prev = shared.prev
        if not self.open or self.retired:
            return
        rp_store_release(rp_share_dying(rp_pool_block(&self.pool, 0, parcel.block, parcel.before)), 1)
        self.take_back(parcel)
        if parcel.block:
            self.purged_ns = rp_os_now_ns()
            rp_pool_purge(&self.pool)
        elif self.starved:  # there is room in the arena, of which no worker will tell
            rp_pool_kick_service(&self.pool)

    cdef bint letting_go(self) noexcept:
        """Is there a shared object whose handles are gone, and a worker that will let go of it as soon as it looks, since it
        runs nothing? But no worker is believed to for longer than LET_GO_MAX_NS."""
        cdef PyObject *p = self.held
        cdef uint64_t task_id, at
        cdef uint32_t w
        if p == NULL or not self.open or rp_os_now_ns() - self.purged_ns > LET_GO_MAX_NS:
            return False
        while p != NULL:
            if (<Parcel>p).before:
                at = (<Parcel>p).block
                for w in range(self.pool.n_workers):
                    if (rp_load_acquire(rp_share_holder(rp_pool_block(&self.pool, 0, at, (<Parcel>p).before), w))
                            and rp_pool_is_to_purge(&self.pool, w, &task_id) and self.find(task_id) == NULL):
                        return True
            p = (<Parcel>p).next
        return False

    # ---- arguments that workers hold ----

    cdef void take_back(self, Parcel parcel) noexcept:
        """A task has been answered or given up: its blocks are free, but for those that the worker holds."""
        self.free_released(parcel)
        if parcel.block:
            Py_INCREF(parcel)
            parcel.next = self.held
            self.held = <PyObject *>parcel

    cdef void free_released(self, Parcel parcel) noexcept:
        cdef unsigned char *p
        cdef uint64_t holder
        cdef uint32_t k
        cdef bint held = False
        if not self.open:
            return
        p = rp_pool_block(&self.pool, 0, parcel.block, parcel.block_bytes)
        if parcel.before:
            for k in range(self.pool.n_workers):
                held = held or rp_load_acquire(rp_share_holder(p, k)) != 0
            if held:
                return
        for k in range(parcel.blocks):
            if parcel.at[k] == 0:
                continue
            holder = 0 if parcel.before else rp_load_acquire(rp_spread_holder(p, k))
            if 0 < holder <= self.pool.n_workers:
                parcel.holder = <uint32_t>holder - 1
                held = True
            else:
                self.free_block(parcel.at[k])
                parcel.at[k] = 0
        if not held:
            self.free_block(parcel.block)
            parcel.block = 0

    cdef void let_parcel_go(self, Parcel parcel, uint32_t w) noexcept:
        """Worker w, which has or had it, is dead."""
        cdef unsigned char *p
        cdef uint32_t k
        if self.open and parcel.block:
            p = rp_pool_block(&self.pool, 0, parcel.block, parcel.block_bytes)
            if parcel.before:
                rp_store_release(rp_share_holder(p, w), 0)
                return
            for k in range(parcel.blocks):
                rp_store_release(rp_spread_holder(p, k), 0)

    cdef void sweep(self, uint32_t dead) noexcept:
        """Frees what workers have let go of, and all that `dead` held. User code may run last of all: with a parcel go the
        shared objects within it."""
        cdef PyObject *p = self.held
        cdef PyObject *free = NULL
        cdef Parcel parcel = None
        self.held = NULL
        while p != NULL:
            parcel = <Parcel>p
            p = parcel.next
            parcel.next = NULL
            if dead != NOBODY and (parcel.before or parcel.holder == dead):
                self.let_parcel_go(parcel, dead)
            if self.open:
                self.free_released(parcel)
                if parcel.block:
                    parcel.next = self.held
                    self.held = <PyObject *>parcel
                    continue
            parcel.next = free
            free = <PyObject *>parcel
        while free != NULL:
            parcel = <Parcel>free
            free = parcel.next
            parcel.next = NULL
            Py_DECREF(parcel)

    cdef void drop_held(self) noexcept:
        """When the workers are gone, or the pool is. Within a parcel there may be shared objects, which hold this client."""
        cdef PyObject *p
        while self.held != NULL:
            p = self.held
            self.held = (<Parcel>p).next
            (<Parcel>p).next = NULL
            Py_DECREF(<Parcel>p)

    cdef bint sweep_if_released(self) noexcept:
        cdef uint32_t w
        cdef bint some = False
        for w in range(self.pool.n_workers):
            if rp_pool_has_released(&self.pool, w):
                some = True
        if some:
            self.sweep(NOBODY)
        return some

    cdef void update_collect(self) noexcept:
        if self.open:
            rp_pool_set_collect(
                &self.pool, self.watched > 0 or self.chunks > 0 or self.closing or self.starved or self.n_borrowers > 0
                or len(self.sleepers) > 0)

    cdef void set_starved(self, bint starved) noexcept:
        if self.starved != starved:
            self.starved = starved
            self.update_collect()

    cdef void watch_one(self) noexcept:
        self.watched += 1
        self.update_collect()

    # ---- submitting ----

    def check_here(self):
        """Raises RuntimeError in a forked child."""
        if self.inherited:
            raise _refuse_in_child()

    cpdef check(self):
        """Raises what submit would raise if the pool takes no tasks."""
        if self.refusal is not None:
            raise self.refusal()

    def submit(self, fn, tuple args, dict kwargs, Options options=None):
        """Encodes a call and puts it on the board, or in the queue if there is no room.

        Args:
            fn: What to call.
            args: Positional arguments.
            kwargs: Keyword arguments, or None.
            options: None for the defaults.

        Returns:
            A Future.

        Raises:
            BrokenProcessPool, RuntimeError: The pool takes no more tasks.
        """
        cdef FutureBase future
        cdef FunctionEntry entry
        cdef Sharing sharing
        cdef rp_slot *slot
        cdef Py_ssize_t n
        self.check()
        future = new_future()
        future.fn = fn
        future.pos = POS_QUEUED
        future.kind = 0
        if options is not None:
            future.options = options
            future.kind |= KIND_TIMED if options.timeout_ns else 0
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
        if entry is not None and not kwargs and self.queued == 0 and (options is None or options.retries == 0):
            slot = rp_board_try_reserve(&self.pool.board)
            if slot != NULL:
                sharing.client = <PyObject *>self
                sharing.shared = NULL
                n = put(slot.inline_bytes, RP_SLOT_INLINE, args, &sharing)
                if n < 0:
                    n = self.put_in_block(args, future, &sharing)
                if n >= 0:
                    if sharing.shared != NULL:
                        future.shared = <object>sharing.shared
                    future.kind |= KIND_ARGS
                    return self.send_now(slot, future, entry, n, <PyObject *>args)
        return self.submit_pickled(future, entry, args, kwargs)

    cdef FutureBase send_now(self, rp_slot *slot, FutureBase future, FunctionEntry entry, uint64_t n, PyObject *args):
        """Publishes a task, n bytes that are in the slot or in the future's block, or will be: the compact form of `args`."""
        slot.kind = future.kind
        slot.offset = future.block
        slot.bytes = n
        future.client = self
        future.entry = entry
        self.enter(future)
        self.publish(slot, future)
        if future.kind & KIND_STREAM:
            self.write_stream(rp_pool_block(&self.pool, 0, future.block, n), n - STREAM_HEAD, <object>args)
        if self.outstanding > self.n_started and self.n_started < self.n_workers:
            self.ask_for_workers()
        if future.options is not None:
            self.keep_time(future.options)
        return future

    cdef Py_ssize_t put_in_block(self, object args, FutureBase future, Sharing *sharing) noexcept:
        """Writes the compact form of arguments into a block, or makes room for a stream. The length, or -1 if there is no such
        form, or no block. Creates no object, as put()."""
        cdef Py_ssize_t n = compact_size(args, sharing)
        cdef bint stream = n >= LEAST_STREAM and rp_pool_apart(&self.pool)
        cdef unsigned char *p
        if stream:
            n += STREAM_HEAD
        if n < 0 or rp_arena_alloc(&self.pool.arena, n, &future.block):
            return -1
        p = rp_pool_block(&self.pool, 0, future.block, n)
        if stream:
            rp_store_release(&(<rp_stream_head *>p).written, 0)
            future.kind |= KIND_STREAM
        elif put(p, n, args, sharing, True) != n:  # for want of memory
            self.free_block(future.block)
            future.block = 0
            return -1
        return n

    cdef void write_stream(self, unsigned char *p, Py_ssize_t n, object args) noexcept:
        """Writes n bytes, the compact form of arguments, that a worker may be reading. Creates no object."""
        cdef Sharing sharing
        sharing.client = <PyObject *>self
        sharing.shared = NULL
        _outgoing.head = p
        _outgoing.begin = p + STREAM_HEAD
        if put(p + STREAM_HEAD, n, args, &sharing, True) != n:  # for want of memory
            memset(p + STREAM_HEAD, 0xff, n)  # which is no value: the task fails
        _outgoing.begin = NULL
        rp_store_release(&(<rp_stream_head *>p).written, n)

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

    cdef submit_pickled(self, FutureBase future, FunctionEntry entry, tuple args, dict kwargs):
        """The way of a task whose arguments are not compact, for which there is no room on the board, or that may have
        to be sent again."""
        cdef Parcel parcel = Parcel()
        cdef rp_slot *slot
        cdef uint64_t n
        cdef int kind
        parcel.client = self
        try:
            if entry is None:
                kind = KIND_CALL_PICKLE
                data = pack((future.fn, args, kwargs or {}), parcel)
            elif kwargs:
                kind = KIND_KWARGS_PICKLE
                data = pack((args, kwargs), parcel)
            else:
                data = encode(args, &kind, parcel)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            return self.refuse(future, error)
        n = (<Parcel>data).bytes if type(data) is Parcel else len(data)
        if n > self.pool.arena.quota:
            return self.refuse(future, MemoryError(
                f"the arguments take {n} bytes, more than the {self.pool.arena.quota} bytes of shared memory that this "
                "pool has for arguments (see shared_memory_limit)"))
        future.kind |= kind
        future.shared = parcel.shared
        parcel.shared = None
        parcel.client = None
        if type(data) is Parcel:
            if self.free_entry == NO_ENTRY:
                self.grow_table()
            self.check()
            while self.queued == 0 and (future.options is None or future.options.retries == 0):
                # As in submit().
                slot = rp_board_try_reserve(&self.pool.board)
                if slot == NULL:
                    break
                if parcel.spread(&self.pool.arena) == 0:
                    parcel.fill(&self.pool)
                    future.block = parcel.block
                    future.value = parcel
                    self.send_now(slot, future, entry, parcel.head_bytes(), NULL)
                    parcel.clear()
                    return future
                if not self.sweep_if_released():
                    break
                if self.free_entry == NO_ENTRY:
                    self.grow_table()
                self.check()  # what has been let go may have run user code, which may have taken the slot
            data = parcel.join()
        self.check()  # pickling ran user code, in which the pool may have been shut down
        if self.free_entry == NO_ENTRY:
            self.grow_table()
        future.value = data
        future.client = self
        future.entry = entry
        self.enter(future)
        self.queued += 1
        self.queue.append(future)
        self.pump()
        if self.outstanding + self.queued > self.n_started and self.n_started < self.n_workers:
            self.ask_for_workers()
        if future.options is not None:
            self.keep_time(future.options)
        return future

    cdef keep_time(self, Options options):
        """A task with these options is pending: sees to it that enforce() is called in time. Later calls of it see to
        themselves: one that finds no task overdue cannot be too late for the next before the shortest limit is over."""
        if options.timeout_ns and (self.shortest_ns == 0 or options.timeout_ns < self.shortest_ns):
            self.shortest_ns = options.timeout_ns
            self.alarm()

    cpdef void alarm(self) noexcept:
        """Has the supervisor look what there is to do. The GIL is held from the look at the descriptor to the write, so
        it cannot have become somebody else's."""
        rp_os_tell(self.alarm_fd)

    cpdef void ask_for_workers(self) noexcept:
        """Has the supervisor start as many as there are tasks."""
        cdef uint64_t wanted = min(<uint64_t>self.n_workers, self.outstanding + self.queued + self.unfed)
        if wanted > self.wanted:
            self.wanted = wanted
            self.alarm()

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
        cdef bint waits = type(future) is Chunk and (<Chunk>future).waiting is not None
        if slot == NULL:
            self.set_starved(False)  # memory is not what is wanting
            rp_pool_set_backlog(&self.pool, True)
            return False
        slot.offset = 0
        if waits and not (<Chunk>future).bring_in(&self.pool):
            self.set_starved(True)
            rp_pool_set_backlog(&self.pool, False)
            return False
        if waits:
            self.holding = True  # should it have to wait on, for another block
        if n > RP_SLOT_INLINE:
            if rp_arena_alloc(&self.pool.arena, n, &future.block):
                self.set_starved(True)
                rp_pool_set_backlog(&self.pool, False)  # room on the board is not what is wanting
                return False
            slot.offset = future.block
            memcpy(rp_pool_block(&self.pool, 0, future.block, n), PyBytes_AS_STRING(data), n)
        else:
            memcpy(slot.inline_bytes, PyBytes_AS_STRING(data), n)
        slot.kind = future.kind
        slot.bytes = n
        self.queued -= 1
        self.publish(slot, future)
        if future.options is None or future.deaths >= future.options.retries:
            future.value = None
        return True

    cdef void pump(self) noexcept:
        """Moves queued tasks to the board while there is room."""
        cdef FutureBase future
        cdef Py_ssize_t n
        cdef bint soon
        while True:
            future = None  # perhaps the last reference to one that was cancelled: may run user code, which may come here
            if not self.queue or not self.open:
                break
            future = <FutureBase>self.queue[0]
            # A future that was cancelled in the queue left it in spirit. (Of two threads here, the GIL lets one pass at
            # a time: nothing between this look and popleft gives it up.) So did a chunk that has gone before its turn.
            if future.state == PENDING and future.pos == POS_QUEUED and not self.place(future):
                if self.starved and self.holding:
                    self.let_pass()
                if not self.starved or self.outstanding:
                    return
                # Nothing is under way that could give memory back, but a worker may be about to let go of a shared object.
                # Asked before the sweep, which finds what is let go of in between.
                soon = self.letting_go()
                self.sweep(NOBODY)
                if not self.open or not self.queue or self.queue[0] is not future:
                    continue  # what was swept has run user code
                if future.state == PENDING and not self.place(future):
                    if not self.starved or self.outstanding or soon:
                        return  # the collector will be rung
                    if self.holds_unsent():
                        rp_pool_kick_service(&self.pool)  # it sends them
                        return
                    n = len(future.value)
                    if type(future) is Chunk and (<Chunk>future).waiting is not None:
                        n = (<Chunk>future).waiting.bytes
                    self.queue.popleft()
                    # To make the exception may run user code, which may settle the future: fail() looks again.
                    if self.pool.segment.refused:
                        self.fail(future, no_address(&self.pool, n))
                        continue
                    self.fail(future, MemoryError(
                        f"the arguments take {n} bytes, and of the {self.pool.arena.quota} bytes of shared memory that this "
                        "pool has for arguments not so many are to be had (see shared_memory_limit)"))
                    continue
            self.queue.popleft()
        if self.open:
            self.set_starved(False)
            rp_pool_set_backlog(&self.pool, False)

    cdef void let_pass(self) noexcept:
        """The first in the queue waits for memory. Chunks behind it whose items lie in the arena need none, but give some
        back when they are done: they go before it, or it might wait for what waits for it."""
        cdef int collects = hold_gc()  # nobody else changes the queue meanwhile
        self.holding = False
        try:
            for future in self.queue:
                if (type(future) is Chunk and (<Chunk>future).holds and (<Chunk>future).state == PENDING
                        and (<Chunk>future).pos == POS_QUEUED and not self.place(<Chunk>future)):
                    self.holding = True
                    break
        except MemoryError:
            self.holding = True
        let_gc(collects)

    cdef bint holds_unsent(self) noexcept:
        """Do items lie in the arena that have not been sent, since more are to come for their chunk?"""
        cdef Batch batch
        for batch in self.batches:
            if batch.ahead_bytes:
                return True
        return False

    cdef void serve_queue_soon(self) noexcept:
        """There may be room in the arena, of which no worker will tell."""
        if self.starved and self.open and not self.retired:
            rp_pool_kick_service(&self.pool)

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
        scope = self.scope()
        found = None if scope is None else scope.find(fn)
        if found is not None:
            fingerprint, name, known = found
        elif type(fn) is FunctionType:
            fingerprint = functions.fingerprint(fn)
        else:
            return None
        if fingerprint is None:
            return None
        entry = self.dynamic.get(fn)
        if entry is not None and functions.same(fingerprint, entry.fingerprint):
            if self.dynamic.get(fn) is entry:  # another thread may have forgotten it meanwhile
                self.dynamic.move_to_end(fn)
            return entry
        what = fn if found is None else scope.callee(fn, name, known)
        entry = self.new_entry(cloudpickle_dumps(what, None, scope))
        if entry is not None:
            entry.fingerprint = fingerprint
            entry.handles = None if scope is None else scope.handles
            self.dynamic.pop(fn, None)
            self.dynamic[fn] = entry  # at the end
            if len(self.dynamic) > MAX_DYNAMIC:
                self.dynamic.popitem(last=False)
        return entry

    cdef FunctionEntry new_entry(self, bytes data):
        cdef FunctionEntry entry = FunctionEntry()
        cdef uint64_t n = len(data)
        cdef uint64_t block = 0
        if n >> 32 or not self.open or rp_arena_alloc(&self.pool.arena, n, &block):
            return None
        memcpy(rp_pool_block(&self.pool, 0, block, n), PyBytes_AS_STRING(data), n)
        entry.client = self
        entry.block = block
        entry.n = <uint32_t>n
        self.n_functions += 1
        entry.id = self.n_functions
        return entry

    cdef object scope(self):
        """How to pickle what goes to workers, if that is not as always."""
        if functions.main_is_importable():
            return None
        from ringpool import session

        if self.session is None:
            self.session = session.Session()
        return session.TaskScope(self.session, self)

    def fork_session(self):
        """To be called right before the fork that workers are copies of."""
        if self.scope() is not None:
            self.session.fork()

    def encode(self, o, scope):
        """Pickles globals of a session."""
        return joined(pack(o, None, scope))

    load = staticmethod(decode_pickled)

    def encode_initializer(self, call):
        """Pickles a call of a session's function that each worker begins with. What it names stays as long as the pool."""
        scope = self.scope()
        data = joined(pack(call, None, scope))
        if scope is not None:
            self.session.pin(scope.handles)
        return data

    def hold(self, bytes data):
        """Keeps what encode() has made where workers can read it.

        Returns:
            What gives its value in a worker; and its handle, which keeps it there. None if there is no room now.
        """
        cdef FunctionEntry entry = self.new_entry(data)
        if entry is None:
            return None
        self.dynamic.clear()  # some of these may keep what this takes the place of, and will hardly be used again
        return partial(held_here, entry.block, entry.n), entry

    # ---- batches ----

    cdef FunctionEntry entry_of(self, object fn):
        """The entry of a function that goes by name or has been sent; None if it must go with each task."""
        kind = type(fn)
        if kind is FunctionType or kind is BuiltinType or kind is type:
            return self.look_up(fn)
        return None

    def submit_many(self, fn, calls, uint64_t chunksize, Options options=None):
        """Submits the calls of one function together.

        Args:
            fn: What to call.
            calls: Gives for each the positional arguments.
            chunksize: Calls that go to a worker together; 0: as many as take about two milliseconds.
            options: None for the defaults.

        Returns:
            A list of Futures.

        Raises:
            BrokenProcessPool, RuntimeError: The pool takes no more tasks.
        """
        cdef Batch batch = Batch(self, options, fn, chunksize)
        cdef FutureBase future
        cdef list futures = []
        self.check()
        failure = batch.load()
        batch.futures = []
        batch.reading = True
        try:
            for args in calls:
                args = tuple(args)
                future = new_future()
                future.pos = POS_QUEUED
                futures.append(future)
                if failure is not None:
                    self.refuse(future, failure)
                    if len(futures) % 512 == 0:
                        batch.breathe()
                    continue
                future.client = self
                future.item_of = batch
                future.task_id = batch.encoded
                batch.futures.append(future)
                batch.put_in(args)
            batch.reading = False
            self.feed(batch)
        except BaseException:
            batch.drop()
            raise
        return futures

    cdef feed(self, Batch batch):
        """Sends chunks, if not enough of them are under way."""
        cdef int collects
        while True:
            while self.open and batch.has_chunk() and batch.under_way < <uint64_t>AHEAD * self.n_workers:
                if self.free_entry == NO_ENTRY:
                    self.grow_table()
                collects = hold_gc()
                try:
                    self.send(batch.next_chunk())
                finally:
                    let_gc(collects)
            self.pump()
            if not (self.open and batch.has_chunk() and batch.under_way == 0):  # else none of them could be sent
                break
        if self.outstanding + self.queued > self.n_started and self.n_started < self.n_workers:
            self.ask_for_workers()

    cdef void feed_all(self) noexcept:
        for batch in tuple(self.batches):
            try:
                self.feed(<Batch>batch)
            except MemoryError:  # the next drain tries again
                pass

    cdef int send(self, Chunk chunk, bint first=False) except -1:
        """Puts a chunk in the queue, as a task of its own. The caller has seen that free_entry is there, and pumps."""
        if first:
            self.queue.appendleft(chunk)
        else:
            self.queue.append(chunk)
        self.started(chunk)
        if chunk.holds:
            self.holding = True
        chunk.pos = POS_QUEUED
        chunk.client = self
        self.enter(chunk)
        self.queued += 1
        if chunk.options is not None:
            self.keep_time(chunk.options)
        return 0

    cdef void started(self, Chunk chunk) noexcept:
        chunk.batch.under_way += 1
        self.chunks += 1
        if self.chunks == 1:
            self.update_collect()

    cdef Chunk cut(self, Chunk chunk, uint32_t k):
        """Takes the items from the k-th on, as far as none has been begun, away from the worker that has the chunk.

        Returns:
            They, as a chunk that is nowhere yet; None if there are none.
        """
        cdef uint32_t begin = chunk.base + k, end = chunk.base + chunk.n
        cdef Chunk rest
        cdef int collects = hold_gc()
        try:
            rest = Chunk()
        finally:
            let_gc(collects)
        # From here on nothing is created, and so nobody else comes in between.
        if not self.open or chunk.state != PENDING or chunk.pos == POS_QUEUED:
            return None
        if not rp_pool_cut_chunk(&self.pool, chunk.task_id, chunk.pos, &begin, &end):
            return None
        if begin < chunk.base or end != chunk.base + chunk.n:
            self.fail(chunk, RuntimeError("a worker has spoilt the account of its items"))
            return None
        return chunk.split(begin - chunk.base, rest)

    cdef void withdraw(self, Chunk chunk) noexcept:
        """Cancels the items of a pending chunk that no worker has begun."""
        cdef Chunk rest
        if chunk.state != PENDING or self.try_cancel(chunk):
            return
        try:
            rest = self.cut(chunk, 0)
        except MemoryError:
            return
        if rest is not None:
            self.started(rest)
            rest.settle_cancelled()
            rest.batch.end_of(rest)

    cdef int dispatch(self, Chunk rest) except -1:
        """Sends what has been cut off a chunk. The caller has seen that free_entry is there, and that no garbage is
        collected; and pumps."""
        try:
            rest.encode()
            self.send(rest, True)
        except MemoryError as error:
            self.started(rest)
            rest.settle(FORM_ERROR, error)
            rest.batch.end_of(rest)
        return 0

    # ---- an item of submit_many ----

    cdef bint item_begun(self, FutureBase item) noexcept:
        cdef Chunk chunk = item.item_of.chunk_of(item.task_id)
        cdef uint32_t next, end
        cdef uint32_t w
        if chunk is None or chunk.state != PENDING or chunk.pos == POS_QUEUED or not self.open:
            return False
        w = rp_pool_holder(&self.pool, chunk.task_id, chunk.pos)
        return (w != self.pool.n_workers and rp_pool_chunk(&self.pool, w, chunk.task_id, &next, &end)
                and item.task_id - chunk.index + chunk.base < next)

    cdef bint try_cancel_item(self, FutureBase item) noexcept:
        """Takes one item back that has not been begun. The others of its chunk go another way."""
        cdef Batch batch = item.item_of
        cdef Chunk chunk = batch.chunk_of(item.task_id)
        cdef Chunk rest
        cdef int collects = hold_gc()
        try:
            if item.task_id >= batch.fed:
                batch.gaps = True
                self.settle_item(item, FORM_NONE, None)
                batch.release(item.task_id)
                self.serve_queue_soon()
            elif chunk is None or self.item_begun(item):
                return False
            elif chunk.pos == POS_QUEUED or rp_board_try_cancel(&self.pool.board, chunk.pos):
                batch.gaps = True
                self.settle_item(item, FORM_NONE, None)
                batch.release(item.task_id)
                try:
                    if chunk.pos == POS_QUEUED:
                        chunk.encode()
                    else:
                        self.send_anew(chunk)
                except MemoryError as error:
                    self.fail(chunk, error)
                self.pump()
            else:
                try:
                    if self.free_entry == NO_ENTRY:
                        self.grow_table()
                    rest = self.cut(chunk, <uint32_t>(item.task_id - chunk.index))
                except MemoryError:
                    return False
                if rest is None:
                    return False
                if rest.index == item.task_id:
                    batch.gaps = True
                    self.settle_item(item, FORM_NONE, None)
                    batch.release(item.task_id)
                self.dispatch(rest)
                self.pump()
            return item.state != PENDING
        finally:
            let_gc(collects)

    cdef Chunk isolate(self, FutureBase item):
        """The chunk that ends with this item, which has been begun. None if the item is done, or is not begun after all."""
        cdef Batch batch = item.item_of
        cdef Chunk chunk, rest
        cdef int collects = hold_gc()
        try:
            chunk = batch.chunk_of(item.task_id) if batch is not None else None
            if chunk is None or (chunk.n > 1 and not self.item_begun(item)):
                return None
            if self.free_entry == NO_ENTRY:
                self.grow_table()
            rest = self.cut(chunk, <uint32_t>(item.task_id - chunk.index) + 1)
            if rest is not None:
                self.dispatch(rest)
                self.pump()
            return chunk if item.task_id + 1 == chunk.index + chunk.n else None
        finally:
            let_gc(collects)

    cdef void share_out(self) noexcept:
        """Gives workers that have nothing to do half of what lies before a busy one."""
        cdef uint32_t w, next = 0, end = 0, most, of
        cdef uint64_t task_id
        cdef PyObject *found
        cdef Chunk chunk, rest
        while self.open and self.outstanding < self.n_workers and self.queued == 0 and not self.retired:
            most = 0
            chunk = None
            for w in range(self.pool.n_workers):
                task_id = rp_pool_chunk_of(&self.pool, w)
                found = self.find(task_id) if task_id else NULL
                if found == NULL or type(<object>found) is not Chunk or (<Chunk>found).batch.chunksize:
                    continue
                if rp_pool_chunk(&self.pool, w, task_id, &next, &end) and next < end and end - next > most:
                    most = end - next
                    of = end - (most + 1) // 2
                    chunk = <Chunk>found
            if chunk is None or of < chunk.base or of > chunk.base + chunk.n:
                return
            try:
                if self.free_entry == NO_ENTRY:
                    self.grow_table()
                rest = self.cut(chunk, of - chunk.base)
                if rest is None:
                    return
            except MemoryError:
                return
            self.dispatch(rest)
            self.pump()

    cdef void hand_over(self, Chunk chunk, Chunk rest) noexcept:
        """The task of `chunk` is that of `rest` from now on, which has been split off."""
        cdef uint32_t i = <uint32_t>chunk.task_id
        self.started(rest)
        Py_INCREF(rest)
        self.table[i].future = <PyObject *>rest
        rest.task_id = chunk.task_id
        rest.pos = chunk.pos
        rest.block = chunk.block
        rest.client = self
        rest.options = chunk.options
        rest.ending = chunk.ending
        rest.deaths = chunk.deaths
        if rest.ending is not None:
            self.endings.append(rest)
        chunk.block = 0
        chunk.client = None
        chunk.options = None
        chunk.ending = None
        Py_DECREF(chunk)

    cdef void part(self, Chunk chunk, Chunk rest, uint32_t n, object value, int form=FORM_TRAY,
                   Ending ending=None) noexcept:
        """The results of the first n items have arrived, and more are to come, those of `rest`."""
        chunk.split(n, rest)
        self.hand_over(chunk, rest)
        self.settle_as(chunk, form, value, ending)
        self.let_know(chunk, False)
        chunk.batch.end_of(chunk)

    cdef void take_part(self, uint32_t w, Chunk chunk, rp_result *r, uint32_t kind, Loan *loan) noexcept:
        """Takes in results of a chunk. Nothing in *r is believed."""
        cdef rp_tray tray
        cdef const uint8_t *at = r.inline_bytes
        cdef Chunk rest = None, last = None
        cdef Ending ending = None
        cdef uint32_t n = r.items
        cdef int form = FORM_TRAY
        cdef int collects = hold_gc()
        value = b""
        try:
            if r.items > chunk.n or (kind == KIND_LAST and r.items != chunk.n):
                raise RuntimeError(f"worker {w} sent the results of {r.items} items, not of {chunk.n}")
            if r.items:
                value = self.payload(w, r, KIND_PART, loan)
                if r.bytes < sizeof(rp_tray):
                    raise RuntimeError(f"worker {w} sent results of an impossible size")
                if r.offset:
                    at = (<Payload>value).block.at()
                    if at == NULL:
                        raise no_address(&self.pool, r.bytes)
                memcpy(&tray, at, sizeof(rp_tray))
                if tray.first != chunk.base:
                    raise RuntimeError(f"worker {w} sent the results of other items")
                chunk.batch.measure(r.items, &tray)
                if chunk.ending is not None and chunk.n == 1:
                    value = payload_bytes(value)
                    if value[sizeof(rp_tray)] == KIND_ERROR:
                        value = value[sizeof(rp_tray) + RP_RECORD_HEAD:]
                        form = FORM_REPORT
            if chunk.ending is not None and n and n == chunk.n:
                ending = chunk.ending  # of the last item
                last = Chunk() if n > 1 else chunk
            if kind == KIND_PART:
                rest = Chunk()
        except Exception as error:
            if not isinstance(error, MemoryError):
                self.distrust(w)
            self.free_loan(loan)
            self.conclude(chunk, FORM_ERROR, error)
        else:
            self.free_loan(loan)
            if last is not None and last is not chunk:
                self.part(chunk, last, n - 1, value)
                form = FORM_ERROR  # it was cancelled, for only that ends one item of many
                value = None
                n = 1
            if last is None:
                last = chunk
            if kind == KIND_LAST:
                self.conclude(last, form, value)
            else:
                if ending is not None:
                    last.ending = None  # not of the rest, in which there may be no item
                self.part(last, rest, n, value, form, ending)
        let_gc(collects)
        chunk.fn = None
        chunk.entry = None

    cdef void take_item(self, uint32_t w, Chunk chunk, rp_result *r, uint32_t kind, Loan *loan) noexcept:
        """Takes in the result of the next item of a chunk, which came by itself. Nothing in *r is believed."""
        cdef rp_tray tray
        cdef Chunk rest = None
        cdef Ending ending = None
        cdef int form = FORM_COMPACT if kind == KIND_VALUE else FORM_PICKLE
        cdef int collects = hold_gc()
        memcpy(&tray, r.inline_bytes, sizeof(rp_tray))
        try:
            if chunk.n == 0 or tray.first != chunk.base:
                raise RuntimeError(f"worker {w} sent the result of another item")
            if r.offset == 0 or (kind != KIND_VALUE and kind != KIND_VALUE_PICKLE):
                raise RuntimeError(f"worker {w} sent a result of an unknown kind")
            value = self.payload(w, r, kind, loan)
            chunk.batch.measure(1, &tray)
            rest = Chunk()
        except Exception as error:
            if not isinstance(error, MemoryError):
                self.distrust(w)
            self.free_loan(loan)
            self.conclude(chunk, FORM_ERROR, error)
        else:
            self.free_loan(loan)
            if chunk.n == 1:
                ending = chunk.ending
                chunk.ending = None  # not of the rest, in which there is no item
            self.part(chunk, rest, 1, value, form, ending)
        let_gc(collects)
        chunk.fn = None
        chunk.entry = None

    cdef FutureBase salvage(self, uint32_t w, Chunk chunk):
        """What a dead worker had of a chunk: the results that it had not published are taken in, and what it had not
        begun is sent anew. rouse() follows.

        Returns:
            The item that it was running, or None.
        """
        cdef uint64_t offset = rp_pool_lost_tray(&self.pool, w, chunk.task_id), used, head
        cdef bint lent = self.loans[w].bytes and self.loans[w].offset == offset
        cdef uint32_t arena = self.overflow if lent else self.pool.arena_of[w]
        cdef uint32_t next = chunk.base + 1, end = 0, n = 0
        cdef const uint8_t *at = rp_pool_block(&self.pool, arena, offset, sizeof(rp_tray)) if offset else NULL
        cdef Chunk rest
        cdef rp_tray tray
        if at == NULL and offset and rp_pool_within(&self.pool, arena, offset, sizeof(rp_tray)):
            raise no_address(&self.pool, sizeof(rp_tray))
        if at != NULL:
            memcpy(&tray, at, sizeof(rp_tray))
            used = rp_pool_tray_used(<const rp_tray *>at)
            if (tray.first == chunk.base and used >= sizeof(rp_tray) and (used <= self.loans[w].bytes or not lent)
                    and rp_pool_within(&self.pool, arena, offset, used)):
                at = rp_pool_block(&self.pool, arena, offset, used)
                if at == NULL:
                    raise no_address(&self.pool, used)
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
                    rest = Chunk()
                    self.part(chunk, rest, n, results)
                    chunk = rest
        if chunk.ending is not None and chunk.n:
            return chunk
        if not rp_pool_chunk(&self.pool, w, chunk.task_id, &next, &end):
            next = chunk.base + 1  # it died as it took the chunk: so that this cannot go on for ever, the first pays
        if chunk.n == 0:
            self.conclude(chunk, FORM_TRAY, b"")
            return None
        if next <= chunk.base:
            self.send_anew(chunk)
            return None
        if chunk.n > 1:
            if self.free_entry == NO_ENTRY:
                self.grow_table()
            self.dispatch(chunk.split(1, Chunk()))
        return chunk

    cdef send_anew(self, FutureBase future):
        """Puts a task whose worker has died at the front of the queue."""
        if type(future) is Chunk:
            (<Chunk>future).encode()
            if (<Chunk>future).holds:
                self.holding = True
        if future.block:
            self.free_block(future.block)
            future.block = 0
        future.pos = POS_QUEUED
        future.lost = False
        self.outstanding -= 1
        self.queued += 1
        self.queue.appendleft(future)

    # ---- results ----

    cdef void drain(self) noexcept:
        """Takes in every result that has arrived, settles its future, and moves queued tasks up. User code runs only
        where nothing is half done: the __del__ of what a settled task called, or of a future that nobody holds. It may
        use the pool, end it, or leave this process for a forked one: `open` is looked at again."""
        cdef uint32_t w
        cdef uint64_t total = 0
        self.since_drain = 0
        if not self.open or self.retired:
            return
        for w in range(self.pool.n_workers):
            total += self.drain_worker(w)
        if self.unfed and self.open:
            self.feed_all()
        if total and self.open:
            rp_pool_note_drained(&self.pool, total)
            if self.queue:
                self.pump()
            if self.chunks and self.outstanding < self.n_workers:
                self.share_out()
        self.drop_kept()

    cdef void drop_kept(self) noexcept:
        """Lets go of futures that perhaps nobody else holds: may run user code."""
        kept = self.kept
        if kept:
            self.kept = []

    cdef uint64_t drain_worker(self, uint32_t w) noexcept:
        cdef rp_ring *ring = &self.pool.results[w]
        cdef rp_result *r
        cdef rp_result result
        cdef uint64_t n = 0
        while self.open:
            r = <rp_result *>rp_ring_try_peek(ring)
            if r == NULL:
                # Not only if n: user code that ran in take() may be here, and wait for a worker that waits for room.
                if rp_ring_uncommitted(ring):
                    rp_pool_commit(&self.pool, w)
                break
            # Copied out and released first: what take() lets go of may run user code, which may come back here.
            memcpy(&result, r, sizeof(rp_result))
            rp_ring_release(ring)
            self.take(w, &result)
            if self.n_borrowers:  # it may have been a loan, or the end of a request
                self.serve_borrowers_soon()
            n += 1
        return n

    cdef void take(self, uint32_t w, rp_result *r) noexcept:
        """Settles the future that a result names. Nothing in *r is believed."""
        cdef PyObject *found = self.find(r.task_id)
        cdef FutureBase future
        cdef Chunk chunk
        cdef int form
        cdef int collects
        cdef uint32_t kind = r.kind & KIND_MASK
        cdef Loan loan
        loan.bytes = 0
        if self.n_loans:
            loan = self.take_loan(w, r.offset)
        if kind == KIND_START_ERROR and rp_pool_worker_state(&self.pool, w) >= RP_STARTED:
            kind = KIND_MASK  # it comes too late to be one
        if found == NULL and kind != KIND_START_ERROR:
            self.strays += 1
            self.distrust(w)
            if loan.bytes:
                self.free_loan(&loan)
            elif r.offset:
                self.return_block(w, r.offset)
            return
        if found != NULL and type(<object>found) is Chunk and (kind == KIND_PART or kind == KIND_LAST):
            chunk = <Chunk>found  # a reference: the table may hold the last other one
            self.take_part(w, chunk, r, kind, &loan)
            return
        if found != NULL and type(<object>found) is Chunk and r.kind & KIND_ITEM:
            chunk = <Chunk>found
            self.take_item(w, chunk, r, kind, &loan)
            return
        # While the result is in these hands alone, nobody else can come by it: no garbage is collected now, with a
        # __del__ that waits for just this one.
        collects = hold_gc()
        try:
            value = self.payload(w, r, kind, &loan)
            if kind == KIND_VALUE:
                form = FORM_COMPACT if type(value) is Payload else FORM_RESULT
            else:
                form = FORM_PICKLE if kind == KIND_VALUE_PICKLE else FORM_REPORT
        except Exception as error:
            value = error
            form = FORM_ERROR
            if not isinstance(error, MemoryError):
                self.distrust(w)
        if loan.bytes:
            self.free_loan(&loan)
        if kind != KIND_START_ERROR:
            future = <FutureBase>found
            self.conclude(future, form, value)
        let_gc(collects)
        if kind != KIND_START_ERROR:
            future.fn = None
            future.entry = None
            future.shared = None
        else:
            try:
                self.start_error = decode_error(value)
            except BaseException as error:
                self.start_error = error

    cdef void distrust(self, uint32_t w) noexcept:
        """Worker w has written wildly. It may have spoilt the result of another task of its own, and then nobody would ever
        settle that: so it is killed, and at its burial the tasks are found that nobody has."""
        PyByteArray_AS_STRING(self.wild)[w] = 1
        self.alarm()

    cdef object payload(self, uint32_t w, rp_result *r, uint32_t kind, Loan *loan):
        """What a result holds: its value if that was in the slot and compact, else bytes or a Payload. This takes the loan over,
        if the result lies there."""
        cdef Payload payload
        cdef const unsigned char *p
        if r.offset == 0:
            if r.bytes > RP_RESULT_INLINE:
                raise RuntimeError(f"worker {w} sent a result of an impossible size")
            if kind == KIND_VALUE:
                try:
                    return get_whole(r.inline_bytes, r.bytes)
                except NumPyIsNeeded:
                    return payload_of(PyBytes_FromStringAndSize(<char *>r.inline_bytes, r.bytes))
            if kind in (KIND_VALUE_PICKLE, KIND_ERROR, KIND_START_ERROR, KIND_PART):
                return PyBytes_FromStringAndSize(<char *>r.inline_bytes, r.bytes)
        elif kind in (KIND_VALUE, KIND_VALUE_PICKLE, KIND_ERROR, KIND_START_ERROR, KIND_PART):
            payload = Payload()
            payload.client = self
            payload.n = r.bytes
            block = self.new_block(w, r.offset, r.bytes) if loan.bytes == 0 else self.lent_block(w, r.bytes, loan)
            p = (<Block>block).at()
            if p == NULL:
                raise no_address(&self.pool, r.bytes)
            if kind == KIND_VALUE_PICKLE and r.bytes and look8(p) == RP_SPREAD:
                payload.views = self.new_views(w, block, r.bytes, &payload.pickle_at)
            payload.block = block
            payload.next = self.payloads
            if self.payloads != NULL:
                (<Payload>self.payloads).prev = <Payload_p>payload
            self.payloads = <Payload_p>payload
            return payload if kind != KIND_START_ERROR else payload.bytes()
        raise RuntimeError(f"worker {w} sent a result of an unknown kind")

    cdef Block new_block(self, uint32_t w, uint64_t offset, uint64_t n):
        if not rp_pool_within(&self.pool, self.pool.arena_of[w], offset, n):
            raise RuntimeError(f"worker {w} sent a result that lies outside its memory")
        return self.block_in(self.pool.arena_of[w], offset, n)

    cdef Block lent_block(self, uint32_t w, uint64_t n, Loan *loan):
        """A loan becomes the block of a result of n bytes, and of what these lead to."""
        cdef Block block
        if n > loan.bytes:
            raise RuntimeError(f"worker {w} sent a result that lies outside its memory")
        block = self.block_in(self.overflow, loan.offset, loan.bytes)
        loan.bytes = 0
        return block

    cdef Block block_in(self, uint32_t arena, uint64_t offset, uint64_t n):
        cdef Block block = Block()
        block.arena = arena
        block.offset = offset
        block.n = n
        block.next = self.blocks_here
        if self.blocks_here != NULL:
            (<Block>self.blocks_here).prev = <Block_p>block
        self.blocks_here = <Block_p>block
        self.arenas[arena].blocks += 1
        block.client = self
        return block

    cdef list new_views(self, uint32_t w, Block head, uint64_t n, uint64_t *pickle_at):
        """The buffers of a parcel that is spread."""
        cdef Entry entries[MAX_BUFFERS]
        cdef ResultView view
        cdef uint32_t k
        cdef uint64_t at
        cdef list views = []
        for k in range(read_head(head.at(), n, entries, pickle_at)):
            if entries[k].offset & (LARGE_BUFFER - 1) or entries[k].size < LARGE_BUFFER:
                raise RuntimeError(f"worker {w} sent a result whose parts no block could hold")
            view = ResultView()
            view.size = entries[k].size
            view.readonly = entries[k].readonly
            if head.arena == self.overflow:
                at = entries[k].offset - head.offset  # wraps for an offset before it, and is refused with the rest
                if at > head.n or entries[k].size > head.n - at:
                    raise RuntimeError(f"worker {w} sent a result that lies outside its memory")
                view.block = head
                view.at = head.at() + at
            else:
                view.block = self.new_block(w, entries[k].offset, entries[k].size)
                view.at = view.block.at()
                if view.at == NULL:
                    raise no_address(&self.pool, entries[k].size)
            views.append(view)
        return views

    cdef list use_views(self, uint32_t arena, list views):
        """What a pickle's buffers are to be: the views, or copies, where they cannot stay."""
        cdef Block block
        cdef list buffers = []
        cdef bint can_stay = _forks == 0 and self.can_stay(arena)
        for view in views:
            block = (<ResultView>view).block
            if (<View>view).used or (can_stay and rp_pool_may_hold(&self.pool, arena, block.offset, block.n)):
                (<ResultView>view).use()
                buffers.append(PyMemoryView_FromObject(view))
            else:
                buffers.append(own_copy((<View>view).at, (<View>view).size, (<View>view).readonly))
        return buffers

    cdef bint can_stay(self, uint32_t arena) noexcept:
        """May buffers in this arena be used in place? When its worker dies, it is lost to others until they are not used
        any more; so there must be another one then, for each that is used so."""
        cdef uint32_t i
        cdef int spare = 0
        if self.arenas[arena].owner == NOBODY or self.arenas[arena].used:
            return True
        for i in range(1, self.overflow):
            if self.arenas[i].owner == NOBODY:
                spare += self.arenas[i].blocks == 0
            else:
                spare -= self.arenas[i].used != 0
        return spare > 0

    cdef void unlink(self, Payload payload) noexcept:
        if payload.prev != NULL:
            (<Payload>payload.prev).next = payload.next
        else:
            self.payloads = payload.next
        if payload.next != NULL:
            (<Payload>payload.next).prev = payload.prev
        payload.prev = payload.next = NULL

    cdef void send_home(self, Block block) noexcept:
        """A block that is not wanted here any more goes back to its worker, or, if that is no more, to the system; one of the
        overflow is free."""
        cdef ArenaEntry *arena = &self.arenas[block.arena]
        if block.prev != NULL:
            (<Block>block.prev).next = block.next
        else:
            self.blocks_here = block.next
        if block.next != NULL:
            (<Block>block.next).prev = block.prev
        arena.blocks -= 1
        if not self.open:
            return
        if arena.owner != NOBODY and not self.retired:
            self.return_block(arena.owner, block.offset)
        elif block.arena == self.overflow and not self.retired:
            rp_pool_end_loan(&self.pool, block.offset)
            self.serve_borrowers_soon()
        elif arena.blocks == 0:
            rp_pool_clear(&self.pool, self.pool.arenas + block.arena * self.pool.sizes.arena_bytes, self.pool.sizes.arena_bytes)
        else:
            rp_pool_clear(&self.pool, block.offset, whole_pages(block.n) if block.n > 2048 else block.n)
        if arena.blocks == 0 and self.pool.segment.mapped > self.trim_at:
            self.unmap_idle()
        self.unmap_if_unused()

    cdef void unmap_idle(self) noexcept:
        """Of the arenas of others of which no block is here, nothing is in use."""
        rp_segment_unmap_regions(&self.pool.segment, arena_is_idle, self.arenas)
        self.trim_at = self.pool.segment.mapped + RP_WINDOWS_KEEP

    cdef clear_but_for_blocks(self, uint32_t arena):
        """Gives the memory of an arena back, whose worker is no more, but for the blocks that are here."""
        cdef uint64_t at = self.pool.arenas + arena * self.pool.sizes.arena_bytes, end = at + self.pool.sizes.arena_bytes
        cdef Block_p p = self.blocks_here
        cdef list taken = []
        cdef int collects = hold_gc()  # no block may die while the list of them is walked
        try:
            while p != NULL:
                if (<Block>p).arena == arena:
                    taken.append(((<Block>p).offset, (<Block>p).n))
                p = (<Block>p).next
        finally:
            let_gc(collects)
        taken.sort()
        taken.append((end, 0))
        for offset, n in taken:
            if <uint64_t>offset > at:
                rp_pool_clear(&self.pool, at, offset - at)
            at = max(at, <uint64_t>(offset + n))

    # ---- loans: see pool.h ----

    cdef Loan take_loan(self, uint32_t w, uint64_t offset) noexcept:
        """Worker w's loan ends, with a result at this offset. It is freed if it lies elsewhere, and else is the caller's."""
        cdef Loan loan = self.loans[w]
        if loan.bytes:
            self.loans[w].bytes = 0
            self.n_loans -= 1
            if loan.offset != offset:
                self.free_loan(&loan)
        return loan

    cdef void free_loan(self, Loan *loan) noexcept:
        if loan.bytes and self.open and not self.retired:
            rp_pool_end_loan(&self.pool, loan.offset)
            self.serve_borrowers_soon()
        loan.bytes = 0

    cdef void serve_borrowers_soon(self) noexcept:
        """There may be room now, or some can be made."""
        if self.n_borrowers and self.open and not self.retired:
            rp_pool_kick_service(&self.pool)

    cdef void add_borrower(self, uint32_t w) noexcept:
        cdef uint32_t i
        for i in range(self.n_borrowers):
            if self.borrowers[i] == w:  # for a request that it has given up
                return
        self.borrowers[self.n_borrowers] = w
        self.n_borrowers += 1
        self.update_collect()

    cdef void drop_borrower(self) noexcept:
        """The first, who has his answer."""
        cdef uint32_t i
        self.n_borrowers -= 1
        for i in range(self.n_borrowers):
            self.borrowers[i] = self.borrowers[i + 1]
        self.update_collect()

    cdef serve_borrowers(self):
        """Lends to those that wait for a loan, one after the other, or refuses. Results that nobody has read make room. If
        there is none to be made now, the next look is when a loan or a result ends."""
        cdef uint64_t request, bytes
        cdef Payload unread
        cdef uint32_t w
        cdef int err
        while self.n_borrowers and self.open and not self.retired:
            w = self.borrowers[0]
            request = rp_pool_loan_wanted(&self.pool, w, &bytes)
            if request == 0:
                self.drop_borrower()
                continue
            # All that it published before it asked, lest that be taken for the end of what it is to get now.
            self.drain_worker(w)
            if not self.n_borrowers or self.borrowers[0] != w or not self.open or self.retired:
                continue  # user code has run
            if rp_pool_loan_wanted(&self.pool, w, &bytes) != request:
                self.serve_borrowers_soon()  # another look, but not here and now, should it change all the time
                return
            self.take_loan(w, 0)
            err = rp_pool_lend(&self.pool, w, request, bytes, &self.loans[w].offset)
            if err == 0:
                self.loans[w].bytes = bytes
                self.loans[w].request = request
                self.n_loans += 1
                self.drop_borrower()
                continue
            if err == -ENOMEM:
                unread = self.oldest_in_overflow()
                if unread is not None:
                    try:
                        unread.bytes()
                    except MemoryError:
                        return
                    continue
                if self.n_loans:
                    if self.end_past_loans():
                        continue
                    return
            rp_pool_grant(&self.pool, w, request)
            self.drop_borrower()

    cdef bint end_past_loans(self) noexcept:
        """Ends the loans of workers that have no use for them, so that no other waits for such. Were there any? One that says
        that it runs what is no task of ours would keep its loan for ever."""
        cdef uint64_t request, task_id
        cdef uint32_t w
        cdef bint some = False
        for w in range(self.pool.n_workers):
            request = self.loans[w].request
            if self.loans[w].bytes and rp_pool_is_past_loan(&self.pool, w, request):
                some = True
                self.drain_worker(w)  # the result that lies there may have been published
                if self.loans[w].bytes and self.loans[w].request == request:
                    self.take_loan(w, 0)
                if not self.open or self.retired:
                    break
            elif self.loans[w].bytes:
                task_id = rp_pool_current(&self.pool, w)
                if task_id and self.find(task_id) == NULL:
                    self.distrust(w)
        return some

    cdef Payload oldest_in_overflow(self):
        """The oldest result there that nobody has read, or None."""
        cdef Payload_p p = self.payloads, oldest = NULL
        while p != NULL:
            if (<Payload>p).block.arena == self.overflow:
                oldest = p
            p = (<Payload>p).next
        return <Payload>oldest if oldest != NULL else None

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
            if self.arenas[payload.block.arena].owner == w:
                p = NULL
                payload.bytes()
                p = self.payloads  # from the start: user code that ran meanwhile may have dropped any of them
            else:
                p = payload.next

    cdef spoil_one(self, uint32_t w, error):
        """Gives up a payload that cannot be copied, though its memory passes to another worker: reading it raises."""
        cdef Payload_p p = self.payloads
        while p != NULL and self.arenas[(<Payload>p).block.arena].owner != w:
            p = (<Payload>p).next
        if p != NULL:
            (<Payload>p).lost = error
            (<Payload>p).leave_arena()

    cdef leave_arena(self, uint32_t w):
        """Worker w has died. What nobody has read is copied out of its arena. If objects use parts of it, these stay, and
        its successor gets another arena; else it gets this one, empty."""
        cdef uint32_t arena = self.pool.arena_of[w], spare = 1
        while True:
            try:
                self.copy_out(w)
                break
            except MemoryError as error:
                self.spoil_one(w, error)
        if self.arenas[arena].used:
            while spare < self.overflow and (self.arenas[spare].owner != NOBODY or self.arenas[spare].blocks):
                spare += 1
            if spare == self.overflow:
                raise RuntimeError("there is no arena to spare for a worker's successor")  # can_stay() has seen to one
            self.arenas[arena].owner = NOBODY
            self.arenas[spare].owner = w
            rp_pool_give_arena(&self.pool, w, spare)

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
        if self.beginner and timeout is None and self.n_started == 0 and self.beginner == PyThread_get_thread_ident():
            raise RuntimeError("this thread, interrupted, is about to start the pool's workers: it cannot wait for them")
        if self.green:
            return self.wait_green(future, timeout)
        if left != 0 and self.open and not rp_pool_crowded(&self.pool):
            for i in range(GLANCES):
                rp_pause()
                if rp_pool_has_results(&self.pool):
                    self.drain()
                    if future.state >= CANCELLED:
                        return
        waiter.word = WAITING
        waiter.thread = PyThread_get_thread_ident()
        waiter.future = <PyObject *>future
        waiter.next = self.waiters
        self.supplant(&waiter)
        self.waiters = &waiter
        future.n_waiting += 1
        try:
            while True:
                if waiter.word == AWAY:
                    waiter.word = WAITING
                if not self.led:
                    self.led = True
                    waiter.word = LEAD
                if waiter.word == LEAD:
                    rp_pool_begin_leading(&self.pool)
                    self.drain()
                if future.state >= CANCELLED:
                    return
                future.check_here()
                if timeout is not None:
                    now = rp_os_now_ns()
                    if now >= deadline:
                        return
                    left = deadline - now
                rounds += 1  # while results come in all the time, no sleep is cut short that would tell of a signal
                if self.sleep(&waiter, left if 0 <= left < SIGNAL_NS else SIGNAL_NS) == -EINTR or rounds % 64 == 0:
                    # A handler may wait for a future in its turn, above us on this stack, so nobody must count on us.
                    self.resign(&waiter)
                    waiter.word = AWAY
                    # Results whose worker has rung the leader, while he was on his way out of his sleep, and so not the
                    # collector. No leader may leave without a look.
                    self.drain()
                    PyErr_CheckSignals()
                    # And somebody may hold up those we count on: the leader by a __del__, the collector by a callback.
                    self.attend()
                    self.look_for_missing()
        finally:
            future.n_waiting -= 1
            self.leave(&waiter)

    cdef wait_green(self, FutureBase future, timeout):
        """wait_for() in a greenlet, which gives way to others meanwhile. The collector reads the rings for it. (A Waiter is no
        use here: what lies on a greenlet's stack is elsewhere while others run.)"""
        import threading

        deadline = None if timeout is None else monotonic() + timeout
        event = threading.Event()
        left = SIGNAL_NS / 1e9
        self.sleepers.setdefault(id(future), []).append(event)
        future.n_waiting += 1
        try:
            self.update_collect()
            while True:
                self.drain()
                if future.state >= CANCELLED:
                    return
                future.check_here()
                if deadline is not None:
                    left = min(deadline - monotonic(), SIGNAL_NS / 1e9)
                    if left <= 0:
                        return
                if not event.wait(left):
                    # As in wait_for(): the collector may be held up.
                    self.attend()
                    self.look_for_missing()
                event.clear()
        finally:
            future.n_waiting -= 1
            events = self.sleepers[id(future)]
            events.remove(event)
            if not events:
                del self.sleepers[id(future)]
                self.update_collect()

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

    cdef void supplant(self, Waiter *waiter) noexcept:
        """If the leader is below this waiter on its own stack, in the midst of a drain, it leads no more."""
        cdef Waiter *other = waiter.next
        while other != NULL:
            if other.thread == waiter.thread and other.word == LEAD:
                other.word = AWAY
                self.led = False
            other = other.next

    cdef void resign(self, Waiter *waiter) noexcept:
        """If this waiter leads, another one does from now on."""
        cdef Waiter *heir = self.waiters
        if waiter.word != LEAD:
            return
        waiter.word = AWAY
        while heir != NULL and heir.word != WAITING:
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

    def serve(self, sleep=None):
        """The collector thread: tells watchers, empties rings that fill up, moves tasks up. Returns when the pool has
        stopped or is abandoned by break_off.

        Args:
            sleep: Waits for something to do, in a thread that must not sleep here; see Herald.
        """
        cdef rp_pool *pool = &self.pool
        while True:
            rp_pool_begin_service(pool)
            self.attend()
            self.tell_news()
            if not self.open:  # user code has forked, and this is the child
                return
            if self.closing and self.outstanding + self.queued + self.unfed == 0 and not self.news and not self.due:
                self.stop()
                return
            if sleep is not None:
                sleep()
                continue
            with nogil:
                rp_pool_wait_service(pool)

    cdef attend(self):
        """Takes in results, moves tasks up, and gives workers the memory that they wait for."""
        cdef uint32_t w
        cdef uint64_t request, bytes
        self.drain()
        if self.open:
            self.sweep_if_released()
        self.pump()
        for w in range(self.pool.n_workers):
            if not self.open or self.retired:
                return
            self.flush_returns(w)
            request = rp_pool_wants_memory(&self.pool, w, &bytes)
            if request == 0:
                continue
            if bytes:
                self.add_borrower(w)
            else:
                self.drain_worker(w)  # all that it published before it asked: some of its blocks may be there
                try:
                    self.copy_out(w)
                    copied = True
                except MemoryError:  # then the worker waits until results are read or dropped
                    copied = False
                if self.open and not self.retired:
                    self.flush_returns(w)
                    if copied and not self.unreturned[w]:
                        rp_pool_grant(&self.pool, w, request)
        self.serve_borrowers()

    def tell_news(self):
        """Tells those who watch futures that are done. Raises nothing."""
        while self.due:
            for event in tuple(self.sleepers.get(id(self.due.popleft()), ())):
                event.set()
        while self.news:
            future = self.news.popleft()
            try:
                try:
                    future._tell()
                except BaseException:
                    logger().exception("exception telling those who wait for %r", future)
            except BaseException:  # even the logging fails
                pass
            future = None
        self.drop_kept()

    def stop(self):
        """Tells the workers to leave."""
        self.stopped = True
        if self.open and not self.retired:
            rp_pool_stop(&self.pool)

    def end(self):
        """Says that all is done. Those in wait_end return."""
        self.ended = 1
        rp_os_futex_wake(&self.ended)

    def wait_end(self):
        """Waits for end(). May be entered again by a signal handler, which threading's own waits may not."""
        while not self.ended:
            with nogil:
                rp_os_futex_wait(&self.ended, 0, SIGNAL_NS)
            PyErr_CheckSignals()
        rp_os_futex_wake(&self.ended)  # wakes one: each wakes the next

    # ---- the end of tasks, of workers, of the pool ----

    cdef bint try_cancel(self, FutureBase future) noexcept:
        """Takes a task back that no worker has claimed; its future is then cancelled. No Python code runs: what the
        task calls is for the caller to drop."""
        if not self.open:
            return False
        if future.item_of is not None:
            return self.try_cancel_item(future)
        if future.pos != POS_QUEUED:
            if not rp_board_try_cancel(&self.pool.board, future.pos):
                return False
            if self.queued:  # there is room on the board, of which no worker will tell
                rp_pool_kick_service(&self.pool)
        self.remove(future)
        future.settle_cancelled()
        self.let_know(future, not future.told)  # cancel() tells, if it can have the condition
        if type(future) is Chunk:
            (<Chunk>future).batch.end_of(<Chunk>future)
        return True

    def cancel_all(self, grace=None):
        """Cancels every task that no worker has claimed.

        Args:
            grace: Ends those that run, too, in so many seconds at most.
        """
        cdef uint32_t i, again
        cdef FutureBase future
        self.give_up_unfed()
        for again in range(2):  # what is dropped may run user code, which may have the rest of a chunk sent
            for i in range(self.table_size):
                if self.table[i].future != NULL:
                    future = <FutureBase>self.table[i].future
                    if type(future) is Chunk:
                        self.withdraw(<Chunk>future)
                        if future.state != PENDING:
                            continue
                    # The callbacks are for the collector: who calls this has more to do, and must not wait for anybody.
                    if self.try_cancel(future):
                        if future.callbacks is not None and future.told:
                            self.let_know(future, True)
                        future.fn = None
                        future.entry = None
                        future.shared = None
                    elif grace is not None:
                        self.end_task(future, WHY_CANCELLED, nanoseconds(grace))
        future = None

    cdef give_up_unfed(self, failure=None):
        """The items that have not been sent never will be."""
        while self.batches:
            (<Batch>self.batches.pop()).give_up(failure)

    # ---- ending a task that runs ----

    cdef bint end_item(self, FutureBase item, int why) except -1:
        """end_task() for an item of submit_many."""
        cdef Chunk chunk = self.isolate(item)
        if chunk is None or not self.end_task(chunk, why, -1):
            return False
        item.ending = chunk.ending
        return True

    cdef bint end_task(self, FutureBase future, int why, int64_t grace_ns) except -1:
        """Begins to end a pending task that runs.

        Args:
            grace_ns: How long until its worker is killed; at most that of its options, which -1 stands for.

        Returns:
            Whether it is pending.
        """
        cdef Ending ending = Ending()
        cdef int64_t own_ns = future.options.grace_ns if future.options is not None else GRACE_NS
        cdef uint64_t began_ns, kill_ns
        ending.why = why
        ending.task = self.describe(future)  # this may run user code
        if future.state != PENDING or future.client is not self:
            return False
        began_ns = rp_os_now_ns()
        kill_ns = began_ns + <uint64_t>(own_ns if grace_ns < 0 else min(own_ns, grace_ns))
        if future.ending is not None:
            ending = future.ending
            ending.why = max(ending.why, why)  # a cancellation has the last word
            if kill_ns < ending.kill_ns:
                ending.kill_ns = kill_ns
                ending.began_ns = began_ns
        else:
            ending.kill_ns = kill_ns
            ending.began_ns = began_ns
            ending.worker = -1
            ending.timeout_ns = future.options.timeout_ns if future.options is not None else 0
            future.ending = ending
            self.endings.append(future)
        self.alarm()
        return True

    cdef forgive(self, uint64_t now, uint64_t lost):
        """Of the time up to now, so much counts for no task that has run meanwhile, and for no grace."""
        cdef uint64_t started, task_id
        cdef uint32_t w
        cdef Ending ending
        cdef dict before = self.forgiven or {}
        self.forgiven = {}
        for w in range(self.pool.n_workers):
            task_id = rp_pool_timed_task(&self.pool, w, &started)
            if task_id and started < now:
                self.forgiven[task_id] = before.get(task_id, 0) + min(lost, now - started)
        for future in list(self.endings):
            ending = (<FutureBase>future).ending
            if ending is not None and ending.began_ns < now and ending.kill_ns != RP_NEVER:
                ending.kill_ns += min(lost, now - ending.began_ns)

    def enforce(self, uint64_t now, uint64_t lost=0):
        """Begins to end the tasks that have overrun their time, and moves on the ending of all that are to end.

        Args:
            now: A time, in nanoseconds of the monotonic clock, at which no worker was dead that is not buried.
            lost: Of these, how many just before it do not count, since the program was stopped.

        Returns:
            A list of (worker, kill), the workers that are to be signalled: to be killed, or to be interrupted in their
            tasks. And the seconds after which this is to be called again, None if not before the alarm.
        """
        cdef uint64_t due = RP_NEVER, started, task_id, limit
        cdef FutureBase future
        cdef Ending ending
        cdef PyObject *found
        cdef uint32_t w
        signals = []
        if not self.open or self.retired:
            return signals, None
        for w in range(self.pool.n_workers):
            if self.wild[w]:
                self.wild[w] = 0
                signals.append((w, True))
        if lost:
            self.forgive(now, lost)
        if self.timed == 0:
            self.shortest_ns = 0
            self.forgiven = None
        else:
            due = now + self.shortest_ns  # none that starts after this can be overdue before
            for w in range(self.pool.n_workers):
                task_id = rp_pool_timed_task(&self.pool, w, &started)
                found = self.find(task_id) if task_id else NULL
                if found == NULL:
                    continue
                future = <FutureBase>found
                if future.ending is not None or future.options is None or future.options.timeout_ns == 0:
                    continue
                limit = future.options.timeout_ns
                if self.forgiven is not None:
                    limit += <uint64_t>self.forgiven.get(task_id, 0)
                if now >= started and now - started >= limit:
                    self.end_task(future, WHY_OVERRUN, -1)
                else:
                    due = min(due, min(now, started) + limit)
        for _ in range(len(self.endings)):
            future = self.endings.popleft()
            ending = future.ending
            if future.state != PENDING or ending is None:
                continue
            self.endings.append(future)
            w = rp_pool_holder(&self.pool, future.task_id, future.pos)
            if w == self.pool.n_workers:  # its result is there, or its worker is being buried
                self.drain()
                if future.state == PENDING:
                    due = min(due, now + LOOK_AGAIN_NS)
            elif ending.killed:
                pass
            elif now >= ending.kill_ns:
                rp_pool_condemn(&self.pool, w, future.task_id)
                self.drain()
                if future.state == PENDING:
                    ending.killed = True
                    signals.append((w, True))
                else:
                    rp_pool_condemn(&self.pool, w, 0)
            else:
                due = min(due, ending.kill_ns)
                if ending.worker != w:
                    ending.worker = w
                    ending.pause_ns = PAUSE_NS
                    ending.again_ns = now
                if rp_pool_interrupt(&self.pool, w, future.task_id, ending.why):
                    if now >= ending.again_ns:
                        signals.append((w, False))
                        ending.again_ns = now + ending.pause_ns
                        ending.pause_ns *= 2
                    due = min(due, ending.again_ns)
        now = rp_os_now_ns()
        return signals, None if due == RP_NEVER else max(due, now + LOOK_AGAIN_NS) / 1e9 - now / 1e9

    def spare(self, uint32_t w):
        """Worker w cannot be killed: what was to end with it goes on."""
        cdef Ending ending
        for future in self.endings:
            ending = (<FutureBase>future).ending
            if ending is not None and ending.worker == w:
                ending.killed = False
                ending.kill_ns = RP_NEVER

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
        cdef uint64_t ids[3]
        cdef uint32_t n, i
        cdef PyObject *found
        cdef Shared_p share
        lost = []
        cdef uint32_t arena = self.pool.arena_of[w]
        self.drain_worker(w)
        ids[2] = rp_pool_chunk_of(&self.pool, w)  # first, for what it has left of that is there until recover()
        found = self.find(ids[2])
        if found != NULL and type(<object>found) is Chunk:
            self.lose(w, <FutureBase>found, lost)
        self.leave_arena(w)
        self.take_loan(w, 0)
        self.serve_borrowers_soon()  # it may have been the first of them
        self.unreturned[w].clear()
        n = rp_pool_recover(&self.pool, w, ids)
        for i in range(n):
            found = self.find(ids[i])
            if found != NULL and ids[i] != ids[2]:
                self.lose(w, <FutureBase>found, lost)
        try:
            self.clear_but_for_blocks(arena)
        except MemoryError:  # then it stays a while
            pass
        for future in self.missing():
            self.lose(w, <FutureBase>future, lost)
        self.wild[w] = 0
        self.sweep(w)
        share = self.shares
        while share != NULL:
            self.let_parcel_go((<Shared>share).parcel, w)
            share = (<Shared>share).next
        return lost

    cdef list missing(self):
        """Pending tasks that have been claimed and that nobody has: a worker has spoilt its account of what it runs, or the
        result. Not those whose worker is being buried."""
        cdef FutureBase future
        cdef uint32_t i
        cdef list found = []
        for i in range(self.table_size):
            if self.table[i].future == NULL:
                continue
            future = <FutureBase>self.table[i].future
            if self.is_missing(future):
                found.append(future)
        if found:
            self.drain()  # who has answered names the task no more
        return [each for each in found if (<FutureBase>each).state == PENDING and (<FutureBase>each).client is self
                and self.is_missing(<FutureBase>each)]

    cdef bint is_missing(self, FutureBase future) noexcept:
        return (future.pos != POS_QUEUED and not future.lost and rp_board_claimed(&self.pool.board, future.pos)
                and rp_pool_holder(&self.pool, future.task_id, future.pos) == self.pool.n_workers)

    cdef look_for_missing(self):
        """To be called while nothing happens: nobody must wait for ever for what a living worker has spoilt."""
        cdef uint64_t now = rp_os_now_ns()
        if not self.open or self.retired or now - self.looked_ns < <uint64_t>SIGNAL_NS:
            return
        self.looked_ns = now
        for future in self.missing():
            self.fail(future, RuntimeError(
                f"no worker has the task {self.describe(future)} or has answered it: one of them has written wildly into the "
                "memory that they share with this process"))

    cdef lose(self, uint32_t w, FutureBase future, list lost):
        """Worker w has died with this task. Of a chunk, that is one item at most."""
        cdef uint64_t task_id = future.task_id
        cdef PyObject *found
        cdef int collects
        if type(future) is Chunk:
            collects = hold_gc()
            try:
                future = self.salvage(w, <Chunk>future)
            except MemoryError as error:
                found = self.find(task_id)  # what has not been salvaged
                if found != NULL:
                    self.fail(<FutureBase>found, error)
                return
            finally:
                let_gc(collects)
        if future is not None and future not in lost:
            if type(future.value) is Parcel:
                self.let_parcel_go(<Parcel>future.value, w)
            elif type(future) is Chunk:
                (<Chunk>future).let_go(w)
            future.lost = True
            lost.append(future)

    def rouse(self):
        """After funerals: wakes whoever the dead should have woken."""
        if self.unfed:
            self.feed_all()
        self.pump()
        rp_pool_rouse_after_death(&self.pool, self.outstanding)

    def retry(self, FutureBase future):
        """Sends a task anew whose worker has died, if its options say so and it was not to end. rouse() follows.

        Returns:
            Whether it is sent anew.
        """
        if future.state != PENDING or future.client is not self or future.options is None or future.ending is not None:
            return False
        if future.deaths >= future.options.retries:
            return False
        future.deaths += 1
        try:
            self.send_anew(future)
        except MemoryError:
            return False
        return True

    def fail(self, FutureBase future, error):
        """Ends a pending future of this pool with an exception; a future that is done stays as it is."""
        if future.state == PENDING and future.client is self:
            self.finish(future, FORM_ERROR, error)

    def fail_all(self, failure):
        """Ends every pending future with an exception.

        Args:
            failure: Makes it, for each future that is asked for it: a traceback grows wherever its exception is raised.
        """
        cdef uint32_t i
        self.give_up_unfed(failure)
        for i in range(self.table_size):
            if self.table[i].future != NULL:
                future = <object>self.table[i].future  # perhaps nobody else holds it
                if (<FutureBase>future).state == PENDING and (<FutureBase>future).client is self:
                    self.finish(<FutureBase>future, FORM_MADE, failure)

    def describe(self, FutureBase future):
        """The name of a pending task, or else of what it calls."""
        if future.options is not None and future.options.name is not None:
            return future.options.name
        fn = future.fn
        try:
            module = getattr(fn, "__module__", None)
            name = getattr(fn, "__qualname__", None)
        except BaseException:
            return f"a {type(fn).__name__}"
        return f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else safe_repr(fn)

    def retire(self):
        """Lets the shared memory go: now, or when the last result that lies in it has been decoded or dropped, and the
        last thread that slept on it has woken."""
        self.tell_news()
        self.drop_held()
        self.functions.clear()
        self.dynamic.clear()
        if self.session is not None:
            self.session.close()
        if self.open and not self.retired:  # the above runs callbacks, which may have come here in their turn
            self.retired = True
            self.unmap_if_unused()
            try:
                for arena in range(self.n_arenas):
                    if self.open:
                        self.clear_but_for_blocks(arena)
            except MemoryError:  # then it stays a while
                pass

    cdef void unmap_if_unused(self) noexcept:
        # A waiter may have been told and yet be on its way out of the kernel, about to touch its bell.
        if self.open and self.retired and self.blocks_here == NULL and self.waiters == NULL:
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
