# call.pyx - see call.pxd.

cdef enum:
    FEW = 8  # arguments that are passed on without a tuple


@cython.no_gc_clear  # the handler of signals may still look at it
cdef class Call:
    """The call that runs."""

    def __cinit__(self, WorkerHold hold, Arguments arguments, Callables callables):
        self.hold = hold
        self.pool = &hold.pool
        self.arguments = arguments
        self.callables = callables

    cdef void arm(self, rp_slot *task) noexcept nogil:
        """From here on a signal may raise an exception, wherever Python code runs; the time that the call may take counts."""
        self.ending = False
        self.timed = task.kind & KIND_TIMED
        self.task_id = task.task_id
        if self.timed:
            rp_pool_start_clock(self.pool)

    cdef void shield(self) noexcept nogil:
        """From here on no signal raises an exception."""
        self.task_id = 0

    cdef void disarm(self) noexcept nogil:
        """The call is over, whatever came of it. In a child that it has forked there is no clock."""
        self.task_id = 0
        if self.timed and not self.hold.forked:
            rp_pool_stop_clock(self.pool)

    cdef bint take_interrupt(self, uint64_t *why) noexcept nogil:
        """Is an exception to be raised in the call now? If so it will be, and never again: the caller raises it."""
        if self.task_id == 0 or self.hold.forked or not rp_pool_take_interrupt(self.pool, self.task_id, why):
            return False
        self.task_id = 0
        self.ending = True
        return True

    cdef inline object begin(self, rp_slot *task, Decoder *d):
        """Arms a task's call, and finds its arguments for run(). Returns the function, if the task names one."""
        self.arm(task)
        fn = self.callables.find(task) if task.fn_id else None
        self.arguments.find(task, d)
        return fn

    cdef object run(self, object fn, int kind, Decoder *d):
        """Calls fn, or what is named in the arguments, with the arguments that have been found."""
        cdef PyObject *few[FEW]
        cdef const uint8_t *p = d.cursor
        cdef Py_ssize_t n = d.end - p
        cdef uint32_t k = 0, count = read_once8(p + 1) if n >= 2 else 0  # read once: more than FEW would find no room
        self.arguments.begin_decoding()
        if kind != KIND_ARGS or n < 2 or read_once8(p) != TAG_TUPLE or count > FEW:
            return self.run_whole(fn, kind, d)
        d.cursor = p + 2
        try:
            if count:
                decode_items(d, few, count, &k)
            if d.cursor != d.end:
                raise ValueError("there are bytes behind the arguments of a task")
            self.arguments.end_decoding()
            RP_STEP(b"worker: decoded")
            return PyObject_Vectorcall(fn, few, k, NULL)
        finally:
            self.arguments.end_decoding()
            while k:
                k -= 1
                Py_DECREF(<object>few[k])

    cdef object run_whole(self, object fn, int kind, Decoder *d):
        """run() of arguments that are a pickle, or many."""
        try:
            args = decode_last(d) if kind == KIND_ARGS else self.arguments.loads(d.cursor, d.end - d.cursor)
        finally:
            self.arguments.end_decoding()
        kwargs = {}
        if kind != KIND_ARGS:
            if kind == KIND_KWARGS_PICKLE:
                args, kwargs = args
            elif kind == KIND_CALL_PICKLE:
                fn, args, kwargs = args
            elif kind != KIND_ARGS_PICKLE:
                raise RuntimeError(f"a task has the unknown kind {kind}")
        RP_STEP(b"worker: decoded")
        return fn(*args, **kwargs)
