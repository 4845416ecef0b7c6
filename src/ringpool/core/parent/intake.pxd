# intake.pxd - results, from the workers' rings to the futures.

@cython.final
cdef class Intake:
    cdef Segment segment
    cdef TaskTable tasks
    cdef Staff staff
    cdef Loans loans
    cdef ResultMemory results
    cdef Settlement settlement
    cdef Chunks chunks
    cdef readonly object start_error  # exception of a worker's initializer
    cdef readonly uint64_t strays     # results that named no pending task
    # open:
    cdef inline uint64_t drain(self) noexcept
    cdef uint64_t drain_worker(self, uint32_t w) noexcept
    cdef void on_result(self, uint32_t w, rp_result *r) noexcept
