# role.pyx - see role.pxd.


cdef class Role:
    """That of a process which is no worker."""

    cdef bint is_worker(self) noexcept:
        return False

    cdef bint is_ending(self) noexcept:
        """Has the task that runs here been told to end?"""
        return False

    cdef void leave(self) noexcept:
        """In a child that this process has forked, where it has no part in the pool."""

    cdef object held(self, uint64_t offset, uint64_t n):
        """What FunctionTable.hold() keeps."""
        raise ValueError("globals of a session were unpickled outside a worker of its pool")

    cdef object shared(self, uint64_t id, uint64_t offset, uint64_t n):
        """The shared object, while arguments are decoded."""
        raise ValueError("a shared object was unpickled outside a task of its pool")


cdef Role _here = Role()  # what this process works as


cdef void take_role(Role role) noexcept:
    global _here
    _here = role


cdef bint works_here() noexcept:
    """Is this a worker, or a child that a task has forked?"""
    return _here.is_worker()


cdef void leave_role() noexcept:
    _here.leave()


def task_is_ending():
    """Whether the task that this worker runs has been told to end."""
    return _here.is_ending()


def held_here(uint64_t offset, uint64_t n):
    """In a worker: what FunctionTable.hold() keeps."""
    return _here.held(offset, n)


def shared_here(uint64_t id, uint64_t offset, uint64_t n):
    """What a shared object is in a pickle of arguments."""
    return shared_at(id, offset, n)


cdef object shared_at(uint64_t id, uint64_t offset, uint64_t n):
    """In a worker that decodes arguments: the shared object."""
    return _here.shared(id, offset, n)
