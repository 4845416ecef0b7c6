# future.pxd - a future whose state lives in C fields.
#
# FutureBase:
# 1. The state, the result and the callbacks are C fields. `_condition` and `_waiters` come into being when a caller
#    asks, as `concurrent.futures.wait` and `as_completed` do; from then on the collector serves this future.
# 2. A result is decoded when it is first asked for, in the thread that asks.
# 3. While the task is pending, `client` is the pool that it waits in; the thread that calls result() reads the pool's
#    rings itself. A future of no pool behaves as the stdlib's.
# 4. A thread settles a pool's future in the engine, with the lock, once, from PENDING. If anything watches it (a condition, a
#    waiter, a callback), the collector tells them. Fields with references that other threads may ask for are read and replaced
#    between begin_object() and end_object().
# 5. `concurrent.futures.wait` and its like count on `_state` not to change while they hold `_condition`. So once there is
#    a condition, `_state` shows the end of a task only when it has been notified under that condition; done() and
#    result() know it at once.

cdef enum:
    PENDING = 0
    RUNNING = 1    # only after set_running_or_notify_cancel(); a pool's future asks its task's slot instead
    CANCELLED = 2
    NOTIFIED = 3   # CANCELLED_AND_NOTIFIED
    FINISHED = 4

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

# The state and the form are published when what they say is there: an acquire that finds them finds that.
cdef extern from *:
    """
    #define publish_state(f, s) rp_publish_byte(&(f)->state, s)
    #define publish_form(f, s) rp_publish_byte(&(f)->form, s)
    #define load_state(f) rp_look_byte(&(f)->state)
    #define load_form(f) rp_look_byte(&(f)->form)

    /* Drops what a future's task called, unless another thread has. May run user code. */
    #define drop_callee(f) drop_reference((PyObject *)(f), &(f)->fn)

    static inline void drop_reference(PyObject *owner, PyObject **field)
    {
        PyObject *before;
        object_section section;
        Py_INCREF(Py_None);
        begin_object(&section, owner);
        before = *field;
        *field = Py_None;
        end_object(&section);
        Py_DECREF(before);
    }
    """
    void drop_callee(FutureBase future)
    void publish_state(FutureBase future, int state) nogil
    void publish_form(FutureBase future, int form) nogil
    int load_state(FutureBase future) nogil
    int load_form(FutureBase future) nogil

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
    cdef rp_thread_byte state
    cdef rp_thread_byte form
    cdef unsigned char kind       # how value is encoded while queued
    cdef uint32_t deaths          # workers that died while they ran it
    cdef Options options          # while pending; None for the defaults
    cdef Termination termination  # while pending; None unless it is to end though it runs
    cdef object item_of           # while pending, of an item of submit_many: its Batch. task_id says which; it is no task
    cdef rp_thread_flag watched
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
    cdef inline void keep_shared(self, object shared) noexcept
    @cython.final
    cdef inline void enter_pool(self, Pool client) noexcept
    @cython.final
    cdef inline void enter_batch(self, Pool client, object batch, uint64_t index) noexcept
    @cython.final
    cdef inline void drop_pool(self) noexcept
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
    cdef inline Pool pool(self)
    @cython.final
    cdef inline Options known_options(self)
    @cython.final
    cdef inline object callee(self)
    @cython.final
    cdef inline list take_callbacks(self)
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
cdef logger()
cdef cancelled_error()
