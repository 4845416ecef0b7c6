# recovery.pxd - what is done when a worker has died.

@cython.final
cdef class Recovery:
    cdef Segment segment
    cdef TaskTable tasks
    cdef Staff staff
    cdef Loans loans
    cdef ResultMemory results
    cdef ArgumentMemory arguments
    cdef Settlement settlement
    cdef Outbox outbox
    cdef Chunks chunks
    cdef Intake intake
    cdef uint64_t looked_ns  # when orphaned tasks were last looked for
    # quiet:
    cdef bint is_orphaned(self, FutureBase future) noexcept
    # open:
    cdef tuple begin(self, uint32_t w)
    cdef tuple take_remains(self, uint32_t w)
    cdef collect_lost(self, uint32_t w, FutureBase future, list lost)
    cdef bint retry(self, FutureBase future) except -1
    cdef end(self)
    cdef list orphaned(self)
    cdef fail_orphaned(self)
