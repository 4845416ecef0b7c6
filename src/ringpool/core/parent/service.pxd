# service.pxd - what is to be done for the workers now and then: by the collector, by a thread that waits, by the supervisor.
#
# check_all() asks each part for its equations: in the debug build, after each drain and after each test. They hold wherever user
# code may run, for it may come back here by any way: so each function that is open leaves the parts consistent before it calls
# what is open. They do not hold within a quiet stretch, nor in a forked child, which uses none of this.

cdef enum:
    DRAIN_EVERY = 32       # submits between two looks at the result rings

@cython.final
cdef class Service:
    cdef Segment segment
    cdef TaskTable tasks
    cdef Staff staff
    cdef Notifier notifier
    cdef Loans loans
    cdef ResultMemory results
    cdef ArgumentMemory arguments
    cdef Terminations terminations
    cdef Outbox outbox
    cdef Chunks chunks
    cdef Intake intake
    cdef ChunkAccount account
    cdef rp_thread_half since_drain  # submits
    cdef uint64_t unchecked    # in the debug build: calls of check() since all was looked at
    # quiet:
    cdef bint check(self) noexcept
    cdef bint check_all(self) noexcept
    # open:
    cdef void drain(self) noexcept
    cdef inline void drain_here(self) noexcept
    cdef inline void drain_if_due(self) noexcept
    cdef run_once(self)
    cdef go_round(self)
    cdef serve_borrowers(self)
    cdef bint end_past_loans(self) noexcept
    cdef tuple enforce_deadlines(self, uint64_t now, uint64_t lost)
    cdef tuple end_overdue(self, uint64_t now, uint64_t lost)
