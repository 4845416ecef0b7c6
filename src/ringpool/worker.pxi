# worker.pxi - the worker's side of a pool.

cdef enum:
    MAX_CALLABLES = 512  # kept decoded; beyond that all are forgotten and decoded again as they are named
    START_NS = 100000000  # what a worker may take to start: a bare "spawn" takes so much
    MEMORY_CHECK_NS = 1000000  # the least time between two looks at the memory in use, which take some microseconds


def guard(int pidfd):
    """Ends this process as soon as the one behind `pidfd` has ended, whatever this one is doing. Takes pidfd over."""
    cdef int err = rp_os_guard(pidfd)
    if err:
        raise OSError(-err, os.strerror(-err))


def memfd(str name, uint64_t size):
    """A descriptor of an anonymous file of `size` zero bytes, which no write can make larger. The caller closes it."""
    cdef int fd = -1, err = rp_os_memfd(name.encode(), size, &fd)
    if err:
        raise OSError(-err, os.strerror(-err))
    return fd


cdef Worker _here = None  # what this process works as


def task_is_ending():
    """Whether the task that this worker runs has been told to end."""
    return _here is not None and _here.ending and not _here.forked


cdef class Worker:
    """One worker's hold on the pool.

    A child that a task forks has no part in it: once it leaves the task, it ends.

    Args:
        memfd: The segment's descriptor, taken over.
        n_places, n_cpus, arena_bytes: Those of the Client.
        index: Which worker this is.

    Raises:
        OSError: The segment is not one of this build of ringpool's.
    """

    cdef rp_pool pool
    cdef int pid
    cdef uint64_t task_id  # the task that an exception may be raised in now, or 0
    cdef bint ending     # an exception has been raised in the task that runs, or in the one before
    cdef bint forked     # this is a child that a task has forked
    cdef dict callables  # function id -> the callable, or (module, qualified name as a tuple)

    def __cinit__(self, int memfd, uint32_t n_places, uint32_t n_cpus, uint64_t arena_bytes, uint32_t index):
        cdef int err = rp_pool_attach(&self.pool, memfd, n_places, n_cpus, arena_bytes, index)
        if err:
            raise OSError(-err, f"ringpool: a worker cannot attach to its pool: {os.strerror(-err)}")
        self.pid = getpid()
        rp_pool_watch(&self.pool)
        self.callables = {}

    def __init__(self, memfd, n_places, n_cpus, arena_bytes, index):
        global _here
        _here = self

    def __dealloc__(self):
        # A process that a task forked has no such mapping, and something else may stand in its place.
        if self.pid == getpid():
            rp_pool_destroy(&self.pool)

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
        if self.forked:
            return
        while rc == -EINTR:
            with nogil:
                rc = rp_pool_await_turn(&self.pool, ticket, tell)
            PyErr_CheckSignals()
        if rc == 0:
            return
        rp_pool_join(&self.pool)
        rp_os_tell(tell)  # its predecessor may go
        while True:
            slot = rp_pool_try_claim(&self.pool, &pos)
            if slot == NULL:
                if retiring and rp_pool_is_dismissed(&self.pool):
                    break
                if not self.wait():
                    break
                continue
            RP_STEP(b"worker: claimed")
            memcpy(<void *>&task, <void *>slot, sizeof(rp_slot))
            rp_pool_take(&self.pool, task.task_id, pos)
            if recycled:
                start = rp_os_now_ns()
                # A successor is asked for as long before the last task as a start may take, by the mean of those so far.
                if left and not retiring and (left == 1 or (done and left * (busy_ns // done) <= START_NS)):
                    retiring = True
                    rp_pool_retire(&self.pool, RP_SOON, tell)
            RP_STEP(b"worker: taken")
            self.execute(&task)
            RP_STEP(b"worker: answered")
            if rp_pool_is_condemned(&self.pool, task.task_id):
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
                        rp_pool_retire(&self.pool, RP_READY, tell)
                if retiring and rp_pool_is_dismissed(&self.pool):
                    break
        rp_pool_leave(&self.pool)
        rc = -EINTR if recycled else 0
        while rc == -EINTR:
            with nogil:
                rc = rp_pool_await_dismissal(&self.pool, tell)
            PyErr_CheckSignals()

    cdef bint wait(self) except -1:
        cdef int i, rc
        if not rp_pool_crowded(&self.pool):
            for i in range(GLANCES):
                rp_pause()
                if rp_board_ready(&self.pool.board):
                    return True
        with nogil:
            rc = rp_pool_wait_task(&self.pool)
        if rc < 0:
            PyErr_CheckSignals()
        return rc != 0

    def interrupt(self, signum, frame):
        """The handler of the signal by which the parent ends a task: raises TaskTimeout or CancelledError in the task
        that is to end, once, if that is still the one that runs. Any other such signal, from the terminal for
        example, does nothing."""
        cdef uint64_t why
        if self.task_id == 0 or self.forked or not rp_pool_take_interrupt(&self.pool, self.task_id, &why):
            return
        self.task_id = 0
        self.ending = True
        if why == WHY_CANCELLED:
            raise cancelled_error()
        from ringpool.errors import TaskTimeout

        raise TaskTimeout()

    def report_start_error(self, exc):
        """Tells the parent that the initializer has raised."""
        if self.forked:
            raise exc
        self.send_bytes(0, KIND_START_ERROR, encode_error(exc))

    cdef object execute(self, rp_slot *task):
        """Runs one task and publishes its result. Raises only what ends the worker."""
        cdef int kind = task.kind & KIND_MASK
        cdef bint timed = task.kind & KIND_TIMED
        cdef rp_result *slot
        cdef Py_ssize_t n
        self.ending = False
        # From here on a signal may raise an exception, wherever Python code runs, until task_id is 0 again.
        self.task_id = task.task_id
        try:
            if timed:
                rp_pool_start_clock(&self.pool)
            fn, args, kwargs = self.decode(task, kind)
            RP_STEP(b"worker: decoded")
            if task.kind & KIND_CHUNK:
                value = []
                for each in args:
                    if self.forked:
                        sys.exit()
                    if timed:
                        rp_pool_start_clock(&self.pool)
                    value.append(fn(*each))
                each = None
            else:
                value = PyObject_Call(fn, args, kwargs) if kwargs else fn(*args)
            RP_STEP(b"worker: called")
            fn = args = kwargs = None
            if self.forked:
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
                    rp_pool_stop_clock(&self.pool)
                rp_pool_publish_result(&self.pool)
                return
            data = dumps(value)
            value = None
            self.task_id = 0
            if timed:
                rp_pool_stop_clock(&self.pool)
            self.send_bytes(task.task_id, KIND_VALUE_PICKLE, data)
            return
        except BaseException as error:
            self.task_id = 0
            if self.forked:
                raise
            exc = error
        if timed:
            rp_pool_stop_clock(&self.pool)
        fn = each = args = kwargs = value = None
        data = encode_error(exc)
        RP_STEP(b"worker: failed")
        # The frames of the task hold its arguments.
        exc.__traceback__ = None
        exc = None
        self.send_bytes(task.task_id, KIND_ERROR, data)

    cdef tuple decode(self, rp_slot *task, int kind):
        cdef const uint8_t *at = task.inline_bytes
        fn = self.callable(task) if task.fn_id else None
        if task.offset:
            at = rp_pool_block(&self.pool, 0, task.offset, task.bytes)
        elif task.bytes > RP_SLOT_INLINE:
            at = NULL
        if at == NULL:
            raise RuntimeError("a task names memory that is not its parent's")
        if kind == KIND_ARGS:
            args = get_whole(at, task.bytes)
            return fn, args, None
        data = pickle.loads(PyMemoryView_FromMemory(<char *>at, task.bytes, PyBUF_READ))
        if kind == KIND_ARGS_PICKLE:
            return fn, data, None
        if kind == KIND_KWARGS_PICKLE:
            args, kwargs = data
            return fn, args, kwargs
        if kind == KIND_CALL_PICKLE:
            return data
        raise RuntimeError(f"a task of an unknown kind {kind}")

    cdef object callable(self, rp_slot *task):
        """The function that a task names. One that goes by name is looked up at each call, so a name that this process
        has bound to something else since means what it says."""
        cdef const uint8_t *at
        cdef bint named = task.kind & KIND_NAMED
        known = self.callables.get(task.fn_id)
        if known is None:
            at = rp_pool_block(&self.pool, 0, task.fn_offset, task.fn_bytes)
            if at == NULL:
                raise RuntimeError("a task names a function outside its parent's memory")
            known = pickle.loads(PyMemoryView_FromMemory(<char *>at, task.fn_bytes, PyBUF_READ))
            if named:
                known = known[0], tuple(known[1].split("."))
            if len(self.callables) >= MAX_CALLABLES:
                self.callables.clear()
            self.callables[task.fn_id] = known
        if not named:
            return known
        module, path = <tuple>known
        found = sys.modules.get(module)
        if found is None:
            __import__(module)
            found = sys.modules[module]
        for name in <tuple>path:
            found = getattr(found, name)
        return found

    cdef rp_result *reserve(self) except NULL:
        cdef rp_result *slot
        while True:
            slot = rp_pool_try_result(&self.pool)
            if slot != NULL:
                return slot
            rp_pool_stop_clock(&self.pool)  # it is not the task that takes the time
            with nogil:
                rp_pool_wait_space(&self.pool)
            PyErr_CheckSignals()

    cdef object send_bytes(self, uint64_t task_id, uint32_t kind, bytes data):
        cdef uint64_t n = len(data), offset = 0
        cdef rp_result *slot
        if n > RP_RESULT_INLINE:
            offset = self.block(n)
            if offset == 0:
                return self.send_bytes(task_id, KIND_ERROR, encode_error(MemoryError(
                    f"the result takes {n} bytes, more than the {self.pool.arena_bytes} bytes of shared memory that "
                    "this pool has for the results of a worker"), ""))
            RP_STEP(b"worker: block")
            memcpy(rp_pool_block(&self.pool, self.pool.index + 1, offset, n), PyBytes_AS_STRING(data), n)
            RP_STEP(b"worker: block filled")
        slot = self.reserve()
        RP_STEP(b"worker: reserved for bytes")
        if offset == 0:
            memcpy(slot.inline_bytes, PyBytes_AS_STRING(data), n)
        slot.task_id = task_id
        slot.kind = kind
        slot.offset = offset
        slot.bytes = n
        rp_pool_publish_result(&self.pool)

    cdef uint64_t block(self, uint64_t n) except? 0:
        """A block of this worker's arena, waiting for the parent to give some back if need be; 0 if there never is one."""
        cdef uint64_t offset
        cdef int err
        while True:
            err = rp_pool_alloc(&self.pool, n, &offset)
            if err == 0:
                return offset
            if err != -ENOMEM or self.pool.arena.used_blocks == 0:
                return 0
            with nogil:
                rp_pool_wait_memory(&self.pool)
            PyErr_CheckSignals()
