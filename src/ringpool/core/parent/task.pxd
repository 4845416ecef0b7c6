# task.pxd - what a task is submitted with, whether it is to end, and the forms of what comes of it.
#
# Plain facts, which change under the pool's lock, or in the engine, while the task is pending. What is not declared open runs
# no user code.

cdef enum:
    FORM_NONE = 0
    FORM_RESULT = 1   # value is the result
    FORM_ERROR = 2    # value is the exception
    FORM_PICKLE = 3   # value is the pickle of the result: bytes or an ArenaResult
    FORM_COMPACT = 4  # value is an ArenaResult that holds the compact form of the result
    FORM_REPORT = 5   # value is the pickle of an encode_error()
    FORM_OVERRUN = 6  # value is the Termination of a task that took too long
    FORM_TRAY = 7     # of a Chunk: value is a tray of results: bytes or an ArenaResult
    FORM_MADE = 8     # value makes the exception: of many futures that fail at once, each has its own

@cython.final
cdef class Options:
    cdef readonly int64_t timeout_ns  # 0: no limit
    cdef readonly int64_t grace_ns
    cdef readonly uint32_t retries
    cdef readonly str name

@cython.final
cdef class Termination:
    cdef int why           # WHY_OVERRUN or WHY_CANCELLED
    cdef bint killed       # its worker was
    cdef uint64_t began_ns # when kill_ns was decided
    cdef uint64_t kill_ns  # when its worker is killed
    cdef int64_t worker    # the one that it was interrupted in, or -1
    cdef uint64_t pause_ns # until it is interrupted once more, if it has taken no notice
    cdef uint64_t again_ns # when
    cdef int64_t timeout_ns
    cdef object task       # its name
    cdef int form          # of value, as a future's
    cdef object value      # what the task did in the end
    # raw:
    cdef inline void hasten(self, int why, uint64_t now, uint64_t kill_ns) noexcept nogil
    cdef inline void forgive(self, uint64_t now, uint64_t lost) noexcept nogil
    cdef inline void seen_in(self, uint32_t w, uint64_t now, uint64_t pause_ns) noexcept nogil
    cdef inline bint signal(self, uint64_t now) noexcept nogil
    cdef inline void mark_killed(self) noexcept nogil
    cdef inline void spare(self) noexcept nogil
    # quiet:
    cdef inline void begin(self, int why, object task, int64_t timeout_ns, uint64_t now, uint64_t kill_ns) noexcept
    cdef inline void note_end(self, int form, object value) noexcept
    # open:
    cdef exception(self)

cdef class StoredResult:
    # open:
    cdef bytes bytes(self)
    cdef value(self, int form)

# open:
cdef int64_t nanoseconds(seconds) except? -1
cdef payload_bytes(source)
cdef loads(bytes data)
