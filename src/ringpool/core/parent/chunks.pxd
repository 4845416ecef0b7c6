# chunks.pxd - the items of batches on their way: sent in chunks, taken away from workers, answered in parts.
#
# Chunks:
# 1. Each item is in one chunk at a time, or not sent yet, or done.
# 2. Items are taken away from a worker only if it has not begun them: csrc/ decides between the two.
# 3. The futures of items that are done are dropped later, see Notifier.defer(). cancel_unsent() and recover_chunk() may run
#    user code.

@cython.final
cdef class Chunks:
    cdef Segment segment
    cdef TaskTable tasks
    cdef Staff staff
    cdef Notifier notifier
    cdef Loans loans
    cdef ResultMemory results
    cdef ArgumentMemory arguments
    cdef Terminations terminations
    cdef Settlement settlement
    cdef Outbox outbox
    cdef ChunkAccount account
    # quiet, with the lock:
    cdef void transfer_task(self, Chunk chunk, Chunk rest) noexcept
    # quiet:
    cdef void started(self, Chunk chunk) noexcept
    cdef bint item_begun(self, FutureBase item) noexcept
    cdef void complete_prefix(self, Chunk chunk, Chunk rest, uint32_t n, object value, int form=*,
                              Termination termination=*) noexcept
    cdef void on_bad_result(self, uint32_t w, Chunk chunk, Loan *loan, object error) noexcept
    cdef bint check(self) noexcept
    # open:
    cdef send_chunks(self, Batch batch)
    cdef void send_all(self) noexcept
    cdef int send(self, Chunk chunk, bint first=*) except -1
    cdef uint64_t count_done(self, Batch batch)
    cdef Chunk steal_tail(self, Chunk chunk, uint32_t k)
    cdef void cancel_unstarted(self, Chunk chunk) noexcept
    cdef int send_rest(self, Chunk rest) except -1
    cdef void rebalance(self) noexcept
    cdef void cancel(self, Batch batch, bint running) noexcept
    cdef Chunk isolate_running(self, FutureBase item)
    cdef bint try_cancel_item(self, FutureBase item) noexcept
    cdef bint end_item(self, FutureBase item, int why) except -1
    cdef void on_partial_result(self, uint32_t w, Chunk chunk, rp_result *r, uint32_t kind, Loan *loan) noexcept
    cdef void on_item_result(self, uint32_t w, Chunk chunk, rp_result *r, uint32_t kind, Loan *loan) noexcept
    cdef FutureBase recover_chunk(self, uint32_t w, Chunk chunk)
    cdef cancel_unsent(self, failure=*)
