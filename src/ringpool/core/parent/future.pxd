# future.pxd - a future whose state lives in C fields.
#
# FutureBase:
# 1. The state, the result and the callbacks are C fields. `_condition` and `_waiters` come into being when a caller
#    asks, as `concurrent.futures.wait` and `as_completed` do; from then on the collector serves this future.
# 2. A result is decoded when it is first asked for, in the thread that asks.
# 3. While the task is pending, `client` is the pool that it waits in; the thread that calls result() reads the pool's
#    rings itself. A future of no pool behaves as the stdlib's.
# 4. A thread settles a future with the GIL held, once, from PENDING. If anything watches it (a condition, a
#    waiter, a callback), the collector tells them.
# 5. `concurrent.futures.wait` and its like count on `_state` not to change while they hold `_condition`. So once there is
#    a condition, `_state` shows the end of a task only when it has been notified under that condition; done() and
#    result() know it at once.

cdef enum:
    PENDING = 0
    RUNNING = 1    # only after set_running_or_notify_cancel(); a pool's future asks its task's slot instead
    CANCELLED = 2
    NOTIFIED = 3   # CANCELLED_AND_NOTIFIED
    FINISHED = 4

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

cdef class Pool(Sender):
    cdef public bint cancel_running  # whether cancel() ends what runs
    # quiet:
    cdef bint is_here(self) noexcept
    cdef bint has_begun(self, FutureBase future) noexcept
    cdef void watch(self, FutureBase future) noexcept
    # open:
    cdef bint try_cancel(self, FutureBase future) noexcept
    cdef void drain(self) noexcept
    cdef int wait_for(self, FutureBase future, timeout) except -1
    cdef bint begin_termination(self, FutureBase future, int why) except -1

cdef class FutureBase:
    cdef Pool client
    cdef object value
    cdef object fn            # while pending: what the task calls, for messages
    cdef FunctionEntry entry  # while pending: keeps the function's block
    cdef object shared        # while pending: the shared objects among the arguments
    cdef object cond
    cdef list waiters
    cdef list callbacks
    cdef uint64_t task_id
    cdef uint64_t pos         # on the board, or POS_QUEUED
    cdef uint64_t block       # the arguments' block in the parent's arena, or 0
    cdef int n_waiting        # threads in result() or exception()
    cdef unsigned char state
    cdef unsigned char form
    cdef unsigned char kind       # how value is encoded while queued
    cdef uint32_t deaths          # workers that died while they ran it
    cdef Options options          # while pending; None for the defaults
    cdef Termination termination  # while pending; None unless it is to end though it runs
    cdef object item_of           # while pending, of an item of submit_many: its Batch. task_id says which; it is no task
    cdef bint watched
    cdef bint lost            # while pending: its worker has died, and what becomes of it is being decided
    cdef bint notified        # _state may show the end
    # raw:
    @cython.final
    cdef inline void enter_queue(self) noexcept nogil
    @cython.final
    cdef inline void enter_wait(self) noexcept nogil
    @cython.final
    cdef inline void leave_wait(self) noexcept nogil
    @cython.final
    cdef inline void mark_watched(self) noexcept nogil
    @cython.final
    cdef inline void mark_lost(self) noexcept nogil
    @cython.final
    cdef inline void count_death(self) noexcept nogil
    # quiet:
    @cython.final
    cdef inline void set_call(self, object fn, FunctionEntry entry, Options options, int kind) noexcept
    @cython.final
    cdef inline void enter_pool(self, Pool client) noexcept
    @cython.final
    cdef inline void enter_batch(self, Pool client, object batch, uint64_t index) noexcept
    @cython.final
    cdef void leave_pool(self) noexcept
    @cython.final
    cdef void leave_batch(self) noexcept
    @cython.final
    cdef void take_over(self, FutureBase other) noexcept
    @cython.final
    cdef inline void set_termination(self, Termination termination) noexcept
    @cython.final
    cdef inline Termination take_termination(self)
    @cython.final
    cdef void settle(self, int form, object value) noexcept
    @cython.final
    cdef void settle_cancelled(self) noexcept
    cdef void ended(self) noexcept
    # open:
    @cython.final
    cdef inline void drop_call(self) noexcept
    @cython.final
    cdef decode(self)
    @cython.final
    cdef watch(self)
    @cython.final
    cdef sync(self)
    @cython.final
    cdef check_here(self)
    @cython.final
    cdef tell_waiters(self)
    @cython.final
    cdef tell_cancelled(self)
    @cython.final
    cdef call(self, list callbacks)
    @cython.final
    cdef bint claimed(self)
    @cython.final
    cdef cancel_running(self, running)
    @cython.final
    cdef bint try_cancel(self)
    @cython.final
    cdef int await_done(self, timeout) except -1
    @cython.final
    cdef set_done(self, int form, object value)

ctypedef object (*newfunc)(PyObject *, PyObject *, PyObject *)

# open:
cdef int64_t nanoseconds(seconds) except? -1
cdef payload_bytes(source)
cdef loads(bytes data)
cdef logger()
cdef cancelled_error()
