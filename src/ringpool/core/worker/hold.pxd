# hold.pxd - one worker's hold on the pool's memory.
#
# For: all that is attached with the worker and ends with it: the C struct of the protocols, and what views need to know
# when they die, which they may do at any time, after all other parts of the worker too.
# Guarantees: C data only, so nothing that the garbage collector clears. The memory is mapped as long as anything refers to
# this. In a child that a task has forked it is a shell: nothing there may touch the pool (`forked`).
# Does not: know what lies where. Other parts read `forked`, and hand `pool` to C. Those that answer say what is being answered;
# the views of Arguments read `answering`.
# May run user code: none.

@cython.final
cdef class WorkerHold:
    cdef rp_worker pool
    cdef int pid          # of the process that is attached
    cdef bint forked      # this is a child that a task has forked
    cdef rp_thread_word answering  # what ArgumentViews are of that the parent has no answer to yet; 0: nothing
    cdef uint64_t trim_at # when this many bytes are mapped, what is idle is unmapped
    # raw:
    cdef void leave(self) noexcept nogil
    cdef inline void begin_answer(self, uint64_t what) noexcept nogil
    cdef inline void end_answer(self) noexcept nogil
    cdef bint should_trim(self) noexcept nogil
    cdef void trim(self, bint idle) noexcept nogil
    # open:
    cdef unsigned char *of_parent(self, uint64_t offset, uint64_t n) except NULL
