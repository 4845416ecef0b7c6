# task.pyx - see task.pxd.


cdef class Options:
    """What a task is submitted with besides what it calls.

    Args:
        timeout: Seconds that it may run, or None.
        grace: Seconds from the exception raised in it to the end of its worker.
        retries: How many times it is run anew if its worker dies.
        name: What it is called in messages, or None.
    """

    def __init__(self, timeout, grace, retries, name):
        self.timeout_ns = max(nanoseconds(timeout), 1) if timeout is not None else 0
        self.grace_ns = nanoseconds(grace)
        self.retries = min(retries, 0xffffffff)
        self.name = name


cdef int64_t nanoseconds(seconds) except? -1:
    return <int64_t>(min(seconds, 1e9) * 1e9)


cdef class Termination:
    """That a task which runs is to end; how far that has gone; and, for one that took too long, how it ended."""

    cdef inline void begin(self, int why, object task, int64_t timeout_ns, uint64_t now, uint64_t kill_ns) noexcept:
        """It is decided now: the worker that the task runs in is killed at `kill_ns`."""
        self.why = why
        self.task = task
        self.timeout_ns = timeout_ns
        self.began_ns = now
        self.kill_ns = kill_ns
        self.worker = -1

    cdef inline void hasten(self, int why, uint64_t now, uint64_t kill_ns) noexcept nogil:
        """It is decided once more: for both reasons, and at the earlier of both times."""
        self.why = max(self.why, why)  # a cancellation has the last word
        if kill_ns < self.kill_ns:
            self.kill_ns = kill_ns
            self.began_ns = now

    cdef inline void forgive(self, uint64_t now, uint64_t lost) noexcept nogil:
        """Of the time up to now, so much does not count for the grace."""
        if self.began_ns < now and self.kill_ns != RP_NEVER:
            self.kill_ns += min(lost, now - self.began_ns)

    cdef inline void seen_in(self, uint32_t w, uint64_t now, uint64_t pause_ns) noexcept nogil:
        """Worker w holds the task. If another one did, signals begin anew, with this pause."""
        if self.worker != w:
            self.worker = w
            self.pause_ns = pause_ns
            self.again_ns = now

    cdef inline bint signal(self, uint64_t now) noexcept nogil:
        """Whether the worker is to be signalled now. If so, the next signal follows after twice the pause."""
        if now < self.again_ns:
            return False
        self.again_ns = now + self.pause_ns
        self.pause_ns *= 2
        return True

    cdef inline void mark_killed(self) noexcept nogil:
        """Its worker is being killed."""
        self.killed = True

    cdef inline void spare(self) noexcept nogil:
        """Its worker cannot be killed."""
        self.killed = False
        self.kill_ns = RP_NEVER

    cdef inline void note_end(self, int form, object value) noexcept:
        """What the task did in the end."""
        self.form = form
        self.value = value

    cdef exception(self):
        """The TaskTimeout; its cause is what the task raised, or the traceback of the one raised in it."""
        from ringpool.errors import TaskTimeout

        cause = None
        if self.form == FORM_REPORT:
            cause = decode_error(payload_bytes(self.value))
            if type(cause) is TaskTimeout:
                cause = cause.__cause__
        elif not self.killed:  # its worker died by itself
            cause = self.value if self.form == FORM_ERROR else self.value() if self.form == FORM_MADE else None
        error = TaskTimeout.of(self.task, self.timeout_ns / 1e9, self.killed)
        error.__cause__ = cause
        return error


cdef class StoredResult:
    """A result that lies where its worker has put it, until it is decoded: see result_memory.pyx."""

    cdef bytes bytes(self):
        """Its bytes, copied out."""

    cdef value(self, int form):
        """What it stands for."""


cdef payload_bytes(source):
    return (<StoredResult>source).bytes() if isinstance(source, StoredResult) else source


cdef loads(bytes data):
    return loads_at(<const unsigned char *>PyBytes_AS_STRING(data), len(data))
