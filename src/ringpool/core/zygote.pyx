# zygote.pyx - a process that makes others by fork.


@cython.final
cdef class Zygote:
    """A fork of this process that waits, without running Python, and makes copies of itself. See os.h.

    The handlers of `os.register_at_fork` run once: "before" and "after_in_parent" when the zygote is made,
    "after_in_child" in each process that it makes. There too this call returns, with `order` set.

    Args:
        parent: A pidfd of this process; or, where there are none, the end of a pipe.
        held: The pipe's other end, which this process alone keeps open; else -1.

    Raises:
        OSError: The system refuses another process or descriptor.
    """

    cdef int fd                # -1 once closed, and in the processes that are made
    cdef int maker             # the process that this one belongs to
    cdef readonly int pid
    cdef readonly bytearray order  # None but in the processes that are made; padded with zeros

    def __cinit__(self):
        self.fd = -1

    def __init__(self, int parent, int held=-1):
        cdef bytearray order = bytearray(RP_ORDER_BYTES)  # before the fork: nothing is to fail after it
        self.close()
        self.maker = getpid()
        PyOS_BeforeFork()
        self.pid = rp_os_zygote(parent, held, &self.fd, PyByteArray_AS_STRING(order))
        if self.pid == 0:
            begin_child()  # which the C library's fork() calls by itself
            PyOS_AfterFork_Child()
            self.order = order
            return
        PyOS_AfterFork_Parent()
        if self.pid < 0:
            raise OSError(-self.pid, os.strerror(-self.pid))

    def make(self, bytes order):
        """Makes a process, a child of this one.

        Args:
            order: What it is to know: 1 to 256 bytes.

        Returns:
            Its pid.

        Raises:
            BrokenPipeError: The zygote has died.
            OSError: The system refuses another process.
        """
        cdef const char *data = PyBytes_AS_STRING(order)
        cdef uint32_t n = <uint32_t>min(len(order), RP_ORDER_BYTES + 1)
        cdef int fd = self.fd, pid
        with nogil:
            pid = rp_os_zygote_make(fd, data, n)
        if pid < 0:
            raise OSError(-pid, os.strerror(-pid))
        return pid

    def dismiss(self):
        """Has the zygote end; close() is still to follow."""
        if self.fd >= 0 and self.maker == getpid():
            rp_os_zygote_dismiss(self.fd)

    def close(self):
        """Ends the zygote; the processes that it has made live on."""
        cdef int fd = self.fd, pid = self.pid
        self.fd = -1
        if fd < 0:
            return
        if self.maker != getpid():  # a forked child's copy: the zygote is not its own
            close_fd(fd)
            return
        with nogil:
            rp_os_zygote_end(fd, pid)

    def __dealloc__(self):
        self.close()
