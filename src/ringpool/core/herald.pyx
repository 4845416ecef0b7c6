# herald.pyx - see herald.pxd.


def thread_id():
    """The thread that this runs in, as the system sees it: greenlets that stand for threads have one in common."""
    return PyThread_get_thread_ident()


cdef class Herald:
    """A thread that sleeps in the collector's place. See herald.h.

    Args:
        client: The pool's.
        notify_fd: A descriptor that it writes to when there is something for the collector; not its own.

    Raises:
        OSError: The system refuses another thread.
    """

    def __init__(self, Client client, int notify_fd):
        cdef int err
        self.client = client
        err = rp_herald_begin(&self.herald, &client.segment.pool, notify_fd)
        if err:
            raise OSError(-err, os.strerror(-err))
        self.maker = getpid()

    def send(self):
        """Has it sleep until there is something to do. Not again before it has told."""
        rp_herald_send(&self.herald)

    def end(self):
        """Ends it. To be called by the collector, while the pool is there. In a forked child there is nothing to end."""
        cdef bint here = self.maker == getpid()
        self.maker = 0
        if here:
            with nogil:
                rp_herald_end(&self.herald)
