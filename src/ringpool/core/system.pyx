# system.pyx - see system.pxd.


def guard(int pidfd):
    """Kills this process, and those of its descendants that have not left it, as soon as the one behind `pidfd` has
    ended, whatever this one is doing. Takes pidfd over."""
    cdef int err = rp_os_guard(pidfd)
    if err:
        raise OSError(-err, os.strerror(-err))


def signal_tree(int pidfd, int pid, int home, int signum):
    """Sends a signal to a process and to those of its descendants that have not left it (see tree.h), and continues them.

    Args:
        pidfd, pid: The process.
        home: The process group that it was born in.

    Raises:
        ProcessLookupError: It has ended.
        PermissionError: It is another user's.
    """
    cdef int err
    with nogil:
        err = rp_tree_signal(pidfd, pid, home, signum)
    if err:
        raise OSError(-err, os.strerror(-err))


def memfd(str name, uint64_t size):
    """A descriptor of an anonymous file of `size` zero bytes, which no write can make larger. The caller closes it."""
    cdef int fd = -1, err = rp_os_memfd(name.encode(), size, &fd)
    if err:
        raise OSError(-err, os.strerror(-err))
    return fd


if rp_os_page_bytes() > RP_PAGE:
    raise ImportError(f"this build of ringpool is for systems whose pages have {RP_PAGE} bytes or fewer, and here they have "
                      f"{rp_os_page_bytes()}")
