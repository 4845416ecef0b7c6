# client.pxd - the parent's side of a pool: which part of it is called when.

@cython.final
cdef class Client(Pool):
    cdef readonly Segment segment
    cdef readonly TaskTable tasks
    cdef readonly Staff staff
    cdef Gate gate
    cdef readonly Waiters waiters
    cdef Notifier notifier
    cdef readonly FunctionTable functions
    cdef Loans loans
    cdef readonly ResultMemory results
    cdef ArgumentMemory arguments
    cdef Terminations terminations
    cdef Settlement settlement
    cdef ChunkAccount account
    cdef Outbox outbox
    cdef Chunks chunks
    cdef readonly Intake intake
    cdef Service service
    cdef Recovery recovery
    cdef Waiting waiting
    cdef object __weakref__
    cdef readonly bint workers_stopped
    cdef rp_futex ended              # 1: the last of its threads is done
    # quiet:
    cdef bint try_store(self, Parcel parcel) noexcept
    # open:
    cpdef int create(self) except -1
    cdef forget(self)
    cdef int add_future(self, Batch batch, FutureBase future) except -1
    cdef int make(self) except -1
    cdef cancel_within(self, FutureBase future, grace)
    cdef cancel_unsent(self, failure)
    cdef Batch new_batch(self, Options options, fn, uint64_t chunksize)
    cdef add_item(self, Batch batch, tuple args)
    cdef send_chunks(self, Batch batch)
    cdef uint64_t count_done(self, Batch batch)
    cdef void cancel_batch(self, Batch batch) noexcept
