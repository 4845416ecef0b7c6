# processes.pyx - see processes.pxd.

def wait_ready(list fds, seconds):
    """Waits until one of some descriptors is readable, or has hung up; or for a signal.

    Args:
        seconds: To wait at most; None for no limit.

    Returns:
        The set of those that are, and by how many nanoseconds longer than `seconds` it took: see rp_os_poll.

    Raises:
        OSError: The system refuses to wait for that many.
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
    """Waits until a child process has ended, and leaves its exit status to the caller that asks for that.

    Args:
        pidfd: Of the process.

    Returns:
        The most memory that it had in use, in bytes: see rp_os_wait_peak_rss. 0 if it is no child of this process.
    """
    cdef uint64_t size = 0
    with nogil:
        rp_os_wait_peak_rss(pidfd, &size)
    return size
