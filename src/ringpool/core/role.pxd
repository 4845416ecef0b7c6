# role.pxd - what this process works as: a worker of some pool, or no part of any.
#
# For: the codec, whose pickles depend on it, and what pickles name. The worker's loop takes the role, when there is one.
# Guarantees: there is always one; what is no worker's has what it is asked for refused with ValueError. A child that a task
# forks has its parent's role still, after leave() as one that no longer serves.
# Does not: know what a worker is.
# May run user code: what is open here.

cdef class Role:
    # quiet:
    cdef bint is_worker(self) noexcept
    cdef bint is_ending(self) noexcept
    cdef void leave(self) noexcept
    # open:
    cdef object held(self, uint64_t offset, uint64_t n)
    cdef object shared(self, uint64_t id, uint64_t offset, uint64_t n)

# quiet:
cdef bint works_here() noexcept
cdef void leave_role() noexcept
# open:
cdef void take_role(Role role) noexcept
cdef object shared_at(uint64_t id, uint64_t offset, uint64_t n)
