# argument_memory.pxd - blocks of the parent's arena that workers hold, after the task that they were sent with.
#
# A shared object is encoded once, for all tasks.
#
# What Client.share() gives stands for an object among the arguments of tasks. It lies in blocks of the parent's arena, as a
# parcel that is spread, behind a struct rp_share_table.
#
# A task that has the handle among its arguments carries its number and its place, and the task's future keeps the handle. A
# worker decodes it at the first of these tasks and keeps it until it finds it dying: `purges` tells it to look. The blocks are
# free when the handle is gone and no worker holds them.
#
# ArgumentMemory:
# 1. A block is free when its task has been answered and no worker holds it. Workers write holders' words; the parent
#    writes them only after the worker's death.
# 2. reclaim(), worker_died() and drop_all() may run user code, last of all. No other function here does.
# 3. The lists, and the blocks of what is in them, change under the pool's lock.

ctypedef PyObject *Shared_p

@cython.final
cdef class Shared:
    cdef ArgumentMemory arguments
    cdef Shared_p prev, next
    cdef Parcel parcel
    cdef uint64_t id
    cdef readonly uint64_t nbytes
    cdef object __weakref__

@cython.final
cdef class ArgumentMemory:
    cdef Segment segment
    cdef TaskTable tasks
    cdef Notifier notifier
    cdef PyObject *retained       # parcels whose tasks are answered, and that workers hold: references
    cdef Shared_p shares          # borrowed
    cdef uint64_t n_shares        # so far
    cdef uint64_t purged_ns       # when a shared object was last given up that workers had
    # raw:
    cdef void tell_of_room(self) noexcept nogil
    # quiet, with the lock:
    cdef void release(self, Parcel parcel) noexcept
    cdef void free_unheld(self, Parcel parcel) noexcept
    # quiet:
    cdef bint try_spread(self, Parcel parcel) noexcept
    cdef PyObject *pop_retained(self) noexcept
    cdef void force_release(self, Parcel parcel, uint32_t w) noexcept
    cdef void add_share(self, Shared shared, Parcel parcel) noexcept
    cdef void end_share(self, Shared shared) noexcept
    cdef bint check(self) noexcept
    cdef bint is_release_pending(self) noexcept
    # open:
    cdef void reclaim(self) noexcept
    cdef void worker_died(self, uint32_t w) noexcept
    cdef void drop_all(self) noexcept
    cdef bint reclaim_if_released(self) noexcept
    cdef object reduce(self, Parcel parcel, Shared shared)
