# future.pyx - see future.pxd.

cdef inline bint is_done(int state) noexcept:
    return state >= CANCELLED  # the order of the states


cdef inline bint is_encoded(int form) noexcept:
    """Is the value not yet what result() gives or raises, but what decode() makes that of?"""
    return form >= FORM_PICKLE  # the order of the forms


cdef inline bint is_failure(int form) noexcept:
    """Is the value an exception, or what decode() makes one of? Not of a result that cannot be decoded."""
    return form == FORM_ERROR or form == FORM_REPORT or form == FORM_OVERRUN or form == FORM_MADE


cdef uint64_t POS_QUEUED = <uint64_t>-1

_STATES = ("PENDING", "RUNNING", "CANCELLED", "CANCELLED_AND_NOTIFIED", "FINISHED")


cdef logger():
    import logging

    return logging.getLogger("concurrent.futures")


cdef cancelled_error():
    from concurrent.futures import CancelledError

    return CancelledError()


cdef class Pool:
    """What a future asks the pool for that its task is pending in. Client is the one that there is."""

    cdef bint is_here(self) noexcept:
        """Whether this process made it: not so in a forked child."""
        return False

    cdef void drain(self) noexcept:
        """Takes in the results that have arrived. May run user code."""

    cdef int wait_for(self, FutureBase future, timeout) except -1:
        """Waits until the future is done, or the time is up. May run user code."""
        return 0

    cdef bint has_begun(self, FutureBase future) noexcept:
        """Whether a worker has claimed the pending task."""
        return False

    cdef bint try_cancel(self, FutureBase future) noexcept:
        """Takes the pending task back if no worker has claimed it, and settles the future as cancelled; drop_call() follows.
        Runs no Python code."""
        return False

    cdef bint begin_termination(self, FutureBase future, int why) except -1:
        """Begins to end the pending task, which runs. Whether it is pending. May run user code."""
        return False

    cdef void watch(self, FutureBase future) noexcept:
        """The future has a watcher from now on, which the collector tells."""


cdef class FutureBase:
    """What ringpool.Future adds to concurrent.futures.Future, which it stands before in the order of methods."""

    def __init__(self):
        pass

    # ---- what the pool does ----

    cdef inline void set_call(self, object fn, FunctionEntry entry, Options options, int kind) noexcept:
        """What its task calls, and how the arguments are encoded. It is on no board yet."""
        self.fn = fn
        self.entry = entry
        self.options = options
        self.kind = kind
        if options is not None and options.timeout_ns:
            self.kind |= KIND_TIMED
        self.pos = POS_QUEUED

    cdef inline void keep_shared(self, object shared) noexcept:
        """Shared objects are among the arguments."""
        self.shared = shared

    cdef inline void enter_pool(self, Pool client) noexcept:
        """It is pending in this pool."""
        self.client = client

    cdef inline void enter_queue(self) noexcept nogil:
        """Its task waits for room on the board. So no worker has it."""
        self.pos = POS_QUEUED
        self.lost = False

    cdef inline void enter_batch(self, Pool client, object batch, uint64_t index) noexcept:
        """It is pending as an item of a batch."""
        self.client = client
        self.item_of = batch
        self.task_id = index
        self.pos = POS_QUEUED

    cdef void leave_pool(self) noexcept:
        """It is pending no more; its block is free. What it calls is dropped later: see drop_call()."""
        self.block = 0
        self.drop_pool()
        self.take_termination()

    cdef void leave_batch(self) noexcept:
        """It is pending no more."""
        self.item_of = None
        self.drop_pool()
        self.take_termination()

    cdef inline void drop_pool(self) noexcept:
        """Its task is pending in none any more. Between begin_object() and end_object(), with what settles it."""
        self.options = None
        self.client = None

    cdef void take_over(self, FutureBase other) noexcept:
        """The task of the other one is its own from now on."""
        self.pos = other.pos
        self.block = other.block
        self.client = other.client
        self.options = other.options
        self.termination = other.termination
        self.deaths = other.deaths
        other.leave_pool()

    cdef inline void set_termination(self, Termination termination) noexcept:
        """It is to end though its task runs."""
        cdef object_section section
        begin_object(&section, self)
        self.termination = termination
        end_object(&section)

    cdef inline Termination take_termination(self):
        """How it is to end; None if it is not. From now on it is not."""
        cdef Termination termination = self.termination
        self.termination = None
        return termination

    cdef inline void mark_watched(self) noexcept nogil:
        """It is watched by other means than result()."""
        self.watched = True

    cdef inline void mark_lost(self) noexcept nogil:
        """Its worker has died."""
        self.lost = True

    cdef inline void count_death(self) noexcept nogil:
        """It is run once more, after the death of its worker."""
        self.deaths += 1

    cdef inline void enter_wait(self) noexcept nogil:
        """A thread or a greenlet begins to wait for it."""
        self.n_waiting += 1

    cdef inline void leave_wait(self) noexcept nogil:
        self.n_waiting -= 1

    cdef void settle(self, int form, object value) noexcept:
        """From PENDING to FINISHED; or to cancelled, if its task was to end for that, however late the task has come to a
        result. Runs no Python code."""
        cdef Termination termination = self.termination
        if termination is not None:
            self.take_termination()
            if termination.why == WHY_CANCELLED:
                self.settle_cancelled()
                return
            termination.note_end(form, value)
            form = FORM_OVERRUN
            value = termination
        self.value = value
        self.form = form
        self.notified = self.cond is None
        publish_state(self, FINISHED)

    cdef void settle_cancelled(self) noexcept:
        """From PENDING to cancelled. Runs no Python code."""
        self.value = None
        self.notified = self.cond is None
        publish_state(self, NOTIFIED)

    cdef void ended(self) noexcept:
        """It is settled, and all that wait have been notified. A chunk tells its batch. Runs no Python code."""

    cdef inline void drop_call(self) noexcept:
        """Drops what the task called: may run user code."""
        cdef stepped_out engine
        c_assert(holds_no_lock())
        step_out(&engine)
        drop_callee(self)
        self.entry = None
        self.shared = None
        step_in(&engine)

    cdef inline Options known_options(self):
        """What its task is submitted with; None once it is done."""
        cdef Options options
        cdef object_section section
        begin_object(&section, self)
        options = self.options
        end_object(&section)
        return options

    cdef inline object callee(self):
        """What its task calls; None once it is done."""
        cdef object_section section
        begin_object(&section, self)
        fn = self.fn
        end_object(&section)
        return fn

    cdef decode(self):
        """Makes value the result or the exception itself."""
        cdef int form
        cdef object_section section
        begin_object(&section, self)
        form = self.form
        source = self.value
        end_object(&section)
        if not is_encoded(form):
            return
        try:
            if form == FORM_REPORT:
                value = decode_error(payload_bytes(source))
                form = FORM_ERROR
            elif form == FORM_OVERRUN:
                value = (<Termination>source).exception()
                form = FORM_ERROR
            elif form == FORM_MADE:
                value = source()
                form = FORM_ERROR
            else:
                value = (<StoredResult>source).value(form) if isinstance(source, StoredResult) else loads(source)
                form = FORM_RESULT
        except KeyboardInterrupt:  # the user's, most likely: the future stays as it is
            raise
        except BaseException as error:
            value = error
            form = FORM_ERROR
        # Another thread may have been quicker; every caller is to see the same object.
        begin_object(&section, self)
        if is_encoded(self.form):
            self.value = value
            publish_form(self, form)
        end_object(&section)

    cdef inline Pool pool(self):
        """The one that its task is pending in, or None."""
        cdef Pool client
        cdef object_section section
        begin_object(&section, self)
        client = self.client
        end_object(&section)
        return client

    cdef watch(self):
        cdef Pool client = self.pool()
        if self.watched:
            return
        if client is not None:
            client.watch(self)
        else:
            self.mark_watched()

    cdef sync(self):
        """Takes in what has arrived, so that the state tells the truth."""
        cdef Pool client
        if self.state == PENDING:
            client = self.pool()
            if client is not None:
                client.drain()

    cdef check_here(self):
        """Raises in a forked child: a future that was pending at the fork stays so there for ever."""
        cdef Pool client
        if self.state != PENDING:
            return
        client = self.pool()
        if client is not None and not client.is_here():
            raise RuntimeError("the task belongs to the process that submitted it, not to its forked child")

    def _tell(self):
        """Tells all that watch it that the future is done."""
        try:
            if self.cond is not None and not self.notified:
                if runs_alone():  # else what is decoded would be this thread's, and go only when it looks: it sleeps
                    try:
                        self.decode()
                    except BaseException as error:  # a KeyboardInterrupt of unpickling, not of a user at this thread
                        self.value = error
                        self.form = FORM_ERROR
                with self.cond:
                    if not self.notified:  # cancel() may have been here
                        self.tell_waiters()
        finally:
            self._invoke_callbacks()

    cdef tell_waiters(self):
        """Shows the end in `_state` and tells all that wait for it, in one hold of the condition."""
        self.cond.notify_all()
        for waiter in self.waiters or ():
            if self.state == NOTIFIED:
                waiter.add_cancelled(self)
            elif is_failure(self.form):
                waiter.add_exception(self)
            else:
                waiter.add_result(self)
        self.notified = True

    cdef tell_cancelled(self):
        """Tells the threads that wait on the condition; if another thread holds it, the collector tells them. (That one may
        wait for this very thread, which may be in a signal handler, and hold what that one wants.)"""
        if self.cond is None:
            return
        if self.state == CANCELLED:  # of no pool: there is no collector
            with self.cond:
                self.cond.notify_all()
        elif self.cond.acquire(False):
            try:
                if not self.notified:
                    self.tell_waiters()
            finally:
                self.cond.release()

    # ---- concurrent.futures.Future ----

    def _invoke_callbacks(self):
        self.call(self.take_callbacks())

    cdef inline list take_callbacks(self):
        """Those that have not been called. They are the caller's from now on."""
        cdef list callbacks
        cdef object_section section
        begin_object(&section, self)
        callbacks = self.callbacks
        self.callbacks = None
        end_object(&section)
        return callbacks

    cdef call(self, list callbacks):
        """Calls every callback. What is no Exception is raised when all have been called."""
        c_assert(holds_no_lock())
        first = None
        for callback in callbacks or ():
            try:
                try:
                    callback(self)
                except Exception:
                    logger().exception("exception calling callback for %r", self)
            except BaseException as error:
                if first is None:
                    first = error
        if first is not None:
            try:
                raise first
            finally:
                first = None  # its traceback refers to this frame

    # A new list or condition is bound only after another look: to make one may run user code, or let another thread run. And
    # after watch(): what settles the future then finds it watched, so that the collector looks for what is bound.

    @property
    def _condition(self):
        cdef object_section section
        self.check_here()
        if self.cond is None:
            import threading

            cond = threading.Condition()
            self.watch()
            begin_object(&section, self)
            if self.cond is None:
                self.cond = cond
            end_object(&section)
        return self.cond

    @property
    def _waiters(self):
        cdef object_section section
        self.check_here()
        if self.waiters is None:
            waiters = []
            self.watch()
            begin_object(&section, self)
            if self.waiters is None:
                self.waiters = waiters
            end_object(&section)
        return self.waiters

    @property
    def _done_callbacks(self):
        cdef object_section section
        callbacks = []
        if not runs_alone():
            self.watch()
        begin_object(&section, self)
        if self.callbacks is None:
            self.callbacks = callbacks
        callbacks = self.callbacks
        end_object(&section)
        return callbacks

    @property
    def _state(self):
        self.sync()
        if self.state >= NOTIFIED and not self.notified:
            return "RUNNING"
        return _STATES[self.state] if not (self.state == PENDING and self.claimed()) else "RUNNING"

    @property
    def _result(self):
        self.decode()
        return self.value if self.form == FORM_RESULT else None

    @property
    def _exception(self):
        self.decode()
        return self.value if self.form == FORM_ERROR else None

    def _get_snapshot(self):
        """What asyncio takes over, from 3.15 on: whether the future is done, whether cancelled, the result, the exception.
        As done() says: `_state` may still hide the end of a task whose callbacks run already."""
        if not self.done():
            return False, False, None, None
        if self.state != FINISHED:
            return True, True, None, None
        self.decode()
        return (True, False, None, self.value) if self.form == FORM_ERROR else (True, False, self.value, None)

    cdef bint claimed(self):
        cdef Pool client = self.pool()
        return client is not None and client.has_begun(self)

    def __reduce__(self):
        raise TypeError(
            f"cannot pickle {type(self).__name__!r} object: a future stays in the process that submitted its task; "
            "send the result")

    def __repr__(self):
        state = self._state
        if state != "FINISHED":
            return f"<{type(self).__name__} at {id(self):#x} state={state.lower()}>"
        self.decode()
        verb = "raised" if self.form == FORM_ERROR else "returned"
        return f"<{type(self).__name__} at {id(self):#x} state=finished {verb} {type(self.value).__name__}>"

    def cancel(self, *, running=None):
        """Cancels the task if no worker has claimed it; with `running`, also if it runs.

        In a task that runs, `concurrent.futures.CancelledError` is raised. If the task has not ended when its grace is
        over (see `ProcessPoolExecutor.options`), its worker is killed and replaced. In either case its future raises
        CancelledError, when the worker is free or dead.

        Args:
            running: Whether to end a task that runs. Default: as the pool was told by `cancel_running`.

        Returns:
            True if the task is cancelled (now or before), or will be, since it runs. False if it is done, or runs and is
            not to be ended.
        """
        if self.state == CANCELLED or self.state == NOTIFIED:
            return True
        self.check_here()
        if not self.try_cancel():
            return self.cancel_running(running)
        callbacks = self.take_callbacks()
        self.drop_call()
        try:
            self.tell_cancelled()
        finally:
            self.call(callbacks)
        return True

    cdef cancel_running(self, running):
        cdef Termination termination
        cdef object_section section
        cdef Pool client = self.pool()
        if client is None:
            return False
        if not (client.cancel_running if running is None else running):
            begin_object(&section, self)
            termination = self.termination
            end_object(&section)
            return termination is not None and termination.why == WHY_CANCELLED
        self.sync()
        if self.state != PENDING:
            return False
        return client.begin_termination(self, WHY_CANCELLED)

    cdef bint try_cancel(self):
        cdef Pool client
        cdef object_section section
        cdef bint cancelled
        if self.state != PENDING:
            return False
        begin_object(&section, self)
        client = self.client
        cancelled = client is None and self.state == PENDING
        if cancelled:
            self.state = CANCELLED
        end_object(&section)
        return cancelled if client is None else client.try_cancel(self)

    def cancelled(self):
        """True if the task was cancelled."""
        return self.state == CANCELLED or self.state == NOTIFIED

    def running(self):
        """True exactly while a worker runs the task."""
        self.check_here()
        self.sync()
        return self.state == RUNNING or (self.state == PENDING and self.claimed())

    def done(self):
        """True if the task was cancelled or has finished."""
        self.check_here()
        self.sync()
        return is_done(self.state)

    def add_done_callback(self, fn):
        """Calls ``fn(self)`` when the future is done: at once if it is, else in the pool's collector thread.

        Args:
            fn: Takes the future. What it raises is logged and otherwise ignored.
        """
        self.check_here()
        cdef object_section section
        cdef bint late
        callbacks = []
        if not is_done(self.state):
            self.watch()
        begin_object(&section, self)
        late = is_done(self.state)  # asked when the list is there
        try:
            if not late:
                if self.callbacks is None:
                    self.callbacks = callbacks
                self.callbacks.append(fn)
        finally:
            end_object(&section)
        if not late:
            return
        try:
            fn(self)
        except Exception:
            logger().exception("exception calling callback for %r", self)

    cdef int await_done(self, timeout) except -1:
        cdef Pool client
        if is_done(self.state):
            return 0
        client = self.pool()
        if client is not None:
            client.wait_for(self, timeout)
        else:
            with self._condition:
                if not is_done(self.state):
                    self.cond.wait(timeout)
        if not is_done(self.state):
            raise TimeoutError()
        return 0

    def result(self, timeout=None):
        """Waits for the result.

        Args:
            timeout: Seconds to wait at most; None for no limit.

        Returns:
            What the task returned.

        Raises:
            TimeoutError: It is not done in time.
            concurrent.futures.CancelledError: It was cancelled.
            WorkerDied: The worker died while running it.
            BaseException: Whatever the task raised, with the remote traceback as ``__cause__``.
        """
        if not is_done(load_state(self)):
            self.await_done(timeout)
        if load_state(self) != FINISHED:
            raise cancelled_error()
        if load_form(self) != FORM_RESULT:
            self.decode()
            if self.form == FORM_ERROR:
                error = self.value
                try:
                    raise error
                finally:
                    # the traceback refers to this frame, and the frame must not refer back
                    error = None
        return self.value

    def exception(self, timeout=None):
        """Waits until the task is done.

        Args:
            timeout: Seconds to wait at most; None for no limit.

        Returns:
            The exception the task raised, or None if it returned.

        Raises:
            TimeoutError: It is not done in time.
            concurrent.futures.CancelledError: It was cancelled.
        """
        if not is_done(self.state):
            self.await_done(timeout)
        if self.state != FINISHED:
            raise cancelled_error()
        self.decode()
        return self.value if self.form == FORM_ERROR else None

    # The rest is for executors and tests; a pool does not use it on its own futures.

    def set_running_or_notify_cancel(self):
        """See concurrent.futures.Future.set_running_or_notify_cancel."""
        cdef object_section section
        cdef int before
        with self._condition:
            begin_object(&section, self)
            before = self.state
            if before == CANCELLED:
                self.state = NOTIFIED
            elif before == PENDING:
                self.state = RUNNING
            end_object(&section)
            if before == CANCELLED:
                self.notified = True
                for waiter in self.waiters or ():
                    waiter.add_cancelled(self)
                return False
            if before == PENDING:
                return True
        logger().critical("Future %s in unexpected state: %s", id(self), self._state)
        raise RuntimeError("Future in unexpected state")

    cdef set_done(self, int form, object value):
        with self._condition:
            if is_done(self.state) or self.client is not None:
                from concurrent.futures import InvalidStateError

                raise InvalidStateError(f"{self._state}: {self!r}")
            self.settle(form, value)
            self.tell_waiters()
        self._invoke_callbacks()

    def set_result(self, result):
        """See concurrent.futures.Future.set_result. A pool's own pending future refuses it."""
        self.set_done(FORM_RESULT, result)

    def set_exception(self, exception):
        """See concurrent.futures.Future.set_exception. A pool's own pending future refuses it."""
        self.set_done(FORM_ERROR, exception)

cdef object _future_type = FutureBase
cdef object _no_args = ()


def set_future_type(cls):
    """Says of which class, a subclass of FutureBase, submit makes its futures."""
    global _future_type
    _future_type = cls


cdef inline FutureBase new_future():
    """A Future, without a call of __init__."""
    cdef FutureBase future = <FutureBase>(<newfunc>(<PyTypeObject *>_future_type).tp_new)(
        <PyObject *>_future_type, <PyObject *>_no_args, NULL)
    disown(future)
    return future
