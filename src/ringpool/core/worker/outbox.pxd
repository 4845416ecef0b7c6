# outbox.pxd - how a worker's results leave: inline, in a block, as a parcel in blocks of its own, or in a loan.
#
# For: tasks and start errors, which lay out an answer and publish it; and the tray, which has laid out results of a chunk.
# Guarantees: an answer is laid out first, where user code may run and the task may be interrupted, and a slot is reserved when
# it is whole; so from the reservation to the publication nothing can fail. If it has no room, it becomes the error that says
# so, and if there is none for that either, an empty one. When publish() has returned, the task is over.
# Does not: disarm the call. An answer that has been laid out in a block and is not published keeps that block.
# May run user code: lay_out() and lay_out_bytes(); publish(), publish_part(), publish_item(): handlers of signals. If one of
# these raises, nothing has been published.

@cython.final
cdef class ResultOutbox:
    cdef WorkerHold hold  # keeps the pool
    cdef rp_worker *pool
    cdef ResultBlocks blocks
    # raw:
    cdef inline void commit(self, rp_result *slot, uint64_t task_id, const rp_result *answer, bint last) noexcept nogil
    # open:
    cdef int lay_out(self, object value, rp_result *answer) except -1
    cdef int lay_out_large(self, object value, rp_result *answer) except -1
    cdef int lay_out_bytes(self, uint32_t kind, bytes data, rp_result *answer) except -1
    cdef int refuse(self, uint64_t n, rp_result *answer) except -1
    cdef rp_result *reserve(self) except NULL
    cdef int publish(self, uint64_t task_id, const rp_result *answer) except -1
    cdef bint publish_part(self, uint64_t task_id, rp_result *part, const void *data, uint64_t room, bint last) except -1
    cdef int publish_item(self, uint64_t task_id, const rp_result *item, const rp_tray *head) except -1
