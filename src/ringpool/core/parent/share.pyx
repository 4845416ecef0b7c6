# share.pyx - objects that are encoded once, for all tasks.
#
# What Client.share() gives stands for an object among the arguments of tasks. It lies in blocks of the parent's arena, as a
# parcel that is spread, behind a struct rp_share_table.
#
# A task that has the handle among its arguments carries its number and its place, and the task's future keeps the handle. A
# worker decodes it at the first of these tasks and keeps it until it finds it dying: `purges` tells it to look. The blocks are
# free when the handle is gone and nobody holds them.

ctypedef PyObject *Shared_p

cdef inline uint64_t words_before(uint32_t n_workers) noexcept:
    return rp_share_table_bytes(n_workers)


@cython.final
@cython.no_gc_clear
cdef class Shared:
    """Stands for an object in the arguments of tasks of one pool: what `ProcessPoolExecutor.share` gives."""

    cdef Client client
    cdef Shared_p prev, next
    cdef Parcel parcel
    cdef uint64_t id
    cdef readonly uint64_t nbytes
    cdef object __weakref__

    def __init__(self):
        raise TypeError("ProcessPoolExecutor.share() makes these")

    def __reduce__(self):
        raise TypeError(
            "a shared object is for tasks of the pool that it was shared by: it can be one of their arguments, or within one")

    def __repr__(self):
        return f"<ringpool.Shared, {self.nbytes} bytes>"

    def __dealloc__(self):
        if self.client is not None:
            self.client.arguments.end_share(self)


def reduce_shared(Parcel parcel, Shared shared):
    """What a pickler is to make of a shared object."""
    if shared.client is not parcel.client:
        raise ValueError("an object that another pool has shared cannot be an argument of this one's tasks")
    if parcel.shared is None:
        parcel.shared = []
    parcel.shared.append(shared)
    return shared_here, (shared.id, shared.parcel.block, shared.parcel.block_bytes)
