# call.pyx - see call.pxd.

cdef enum:
    FEW = 8  # arguments that are passed on without a tuple


@cython.no_gc_clear  # the handler of signals may still look at it
cdef class Call:
    """The call that runs."""

    def __cinit__(self, WorkerHold hold, Arguments arguments):
        self.hold = hold
        self.pool = &hold.pool
        self.arguments = arguments

    cdef void arm(self, uint64_t task_id, bint timed) noexcept nogil:
        """From here on a signal may raise an exception, wherever Python code runs; the time that the call may take counts."""
        self.ending = False
        self.timed = timed
        self.task_id = task_id
        if timed:
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

    cdef object run(self, object fn, int kind, const uint8_t *p, Py_ssize_t n):
        """Calls fn with arguments that n bytes hold, or what is named there."""
        cdef PyObject *few[FEW]
        cdef Decoder d
        cdef uint32_t k = 0, count = read_once8(p + 1) if n >= 2 else 0  # read once: more than FEW would find no room
        self.arguments.begin_decoding()
        begin_decoding(&d, p, n)
        d.shared = shared_at
        if self.arguments.stream.head != NULL:
            d.source = &self.arguments.stream
        if kind != KIND_ARGS or n < 2 or read_once8(p) != TAG_TUPLE or count > FEW:
            return self.run_whole(fn, kind, &d)
        d.at = p + 2
        try:
            if count:
                decode_items(&d, few, count, &k)
            if d.at != d.end:
                raise ValueError("there are bytes behind the arguments of a task")
            self.arguments.end_decoding()
            RP_STEP(b"worker: decoded")
            return PyObject_Vectorcall(fn, few, k, NULL)
        finally:
            if self.arguments.decoding:
                self.arguments.end_decoding()
            while k:
                k -= 1
                Py_DECREF(<object>few[k])

    cdef object run_whole(self, object fn, int kind, Decoder *d):
        """run() of arguments that are a pickle, or many."""
        try:
            args = decode_last(d) if kind == KIND_ARGS else self.arguments.loads(d.at, d.end - d.at)
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
