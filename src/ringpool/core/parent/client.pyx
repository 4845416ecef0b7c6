# client.pyx - see client.pxd.


_clients = weakref.WeakSet()


def _note_locks():
    """Before a fork: which locks are to be made anew in the child."""
    if runs_alone():
        return
    clients = list(_clients)
    if begin_note(len(clients) + 1) == 0:
        note_views()
        for client in clients:
            (<Client>client).segment.lock.note()


def _drop_note():
    end_note()


def _after_fork_in_child():
    take_copies()
    for client in list(_clients):
        (<Client>client).forget()
    grow_up()
    leave_role()


os.register_at_fork(before=_note_locks, after_in_parent=_drop_note)
os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)


@cython.no_gc_clear  # an object that is cleared with it may still call it
cdef class Client:
    """One pool, seen from the process that made it.

    Args:
        n_workers: How many workers take tasks at a time.
        n_places: How many there may be, with those that start or leave, 1 to 2048.
        n_cpus: Processors that the pool may use; decides when spinning is a waste.
        sizes: Bytes from the beginning of each arena to that of the next, at most; how many bytes of it the parent, and a
            worker, may fill; and how many bytes of results there may be in the overflow.

    It takes no shared memory before the first use: see create().
    """

    def __cinit__(self, uint32_t n_workers, uint32_t n_places, uint32_t n_cpus, tuple sizes):
        self.segment = Segment(n_places, n_cpus, sizes)
        self.gate = Gate(self.segment.lock)
        self.tasks = TaskTable(self.segment.lock)
        self.staff = Staff(self.tasks, n_workers, n_places)
        self.waiters = Waiters(self.segment)
        self.notifier = Notifier(self.segment, self.tasks, self.waiters)
        self.functions = FunctionTable(self.segment)
        self.loans = Loans(self.segment, self.notifier)
        self.results = ResultMemory(self.segment, self.loans)
        self.arguments = ArgumentMemory(self.segment, self.tasks, self.notifier)
        self.terminations = Terminations(self.segment, self.tasks, self.staff)
        self.settlement = Settlement(self.segment, self.tasks, self.arguments, self.notifier)
        self.account = ChunkAccount(self.tasks, self.notifier)
        self.outbox = Outbox(self.segment, self.gate, self.tasks, self.staff, self.notifier, self.functions, self.arguments,
                             self.terminations, self.settlement, self.account)
        self.chunks = Chunks(self.segment, self.tasks, self.staff, self.notifier, self.loans, self.results, self.arguments,
                             self.terminations, self.settlement, self.outbox, self.account)
        self.intake = Intake(self.segment, self.tasks, self.staff, self.loans, self.results, self.settlement, self.chunks)
        self.service = Service(self.segment, self.tasks, self.staff, self.notifier, self.loans, self.results, self.arguments,
                               self.terminations, self.outbox, self.chunks, self.intake, self.account)
        self.recovery = Recovery(self.segment, self.tasks, self.staff, self.loans, self.results, self.arguments,
                                 self.settlement, self.outbox, self.chunks, self.intake)
        self.waiting = Waiting(self.segment, self.tasks, self.staff, self.waiters, self.notifier, self.service, self.recovery)

    def __init__(self, n_workers, n_places, n_cpus, sizes):
        _clients.add(self)

    def __reduce__(self):
        raise TypeError(
            "cannot pickle 'Client' object: a pool stays in the process that made it; "
            "a task that needs one makes one in the worker")

    cpdef int create(self) except -1:
        """Makes the shared memory, if it is not there yet. To be called before the first task or shared object.

        Raises:
            OSError: The system refuses it. The next call tries again.
        """
        return self.make() if self.segment.phase == PHASE_NEW else 0

    cdef int make(self) except -1:
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        if self.segment.phase == PHASE_NEW and not self.notifier.is_closing():
            self.segment.create()
            self.segment.lock.acquire()
            self.notifier.publish_needs()
            self.segment.lock.release()
        return 0

    cdef forget(self):
        """In a forked child: the pool is the parent's. One that was never used is the child's own."""
        self.segment.lock.forget()
        if self.segment.phase == PHASE_NEW:
            return
        self.segment.forget()
        self.waiters.forget()
        self.loans.forget()
        self.staff.forget()
        self.ended = 1
        self.gate.close(_refuse_in_child)

    # ---- what the executor and futures ask for ----

    @property
    def pending(self):
        """Tasks whose futures are not done."""
        return self.tasks.pending()

    @property
    def closed(self):
        """Whether no more tasks are taken."""
        return self.notifier.is_closing()

    def check_invariants(self):
        """Aborts if a part is not what it says of itself. Only in a debug build; in others this does nothing."""
        c_assert(self.service.check_all())

    def check(self):
        """Raises what submit would raise if the pool takes no tasks."""
        self.gate.check()

    def submit(self, fn, tuple args, dict kwargs, Options options=None):
        """Encodes a call and puts it on the board, or in the queue if there is no room.

        Args:
            fn: What to call.
            args: Positional arguments.
            kwargs: Keyword arguments, or None.
            options: None for the defaults.

        Returns:
            A Future.

        Raises:
            BrokenProcessPool, RuntimeError: The pool takes no more tasks.
        """
        self.gate.check()
        self.service.drain_if_due()
        return self.outbox.submit(self, fn, args, kwargs, options)

    def submit_many(self, fn, calls, uint64_t chunksize, Options options=None):
        """Submits the calls of one function together.

        Args:
            fn: What to call.
            calls: Gives for each the positional arguments.
            chunksize: Calls that go to a worker together; 0: as many as take about two milliseconds.
            options: None for the defaults.

        Returns:
            A list of Futures.

        Raises:
            BrokenProcessPool, RuntimeError: The pool takes no more tasks.
        """
        cdef Batch batch = self.new_batch(options, fn, chunksize)
        cdef FutureBase future
        cdef list futures = []
        self.gate.check()
        failure = batch.encode_function()
        batch.begin_futures()
        try:
            for args in calls:
                args = tuple(args)
                future = new_future()
                futures.append(future)
                if failure is not None:
                    self.outbox.refuse(future, failure)
                    if len(futures) % 512 == 0:
                        batch.yield_to_threads()
                    continue
                self.add_future(batch, future)
                self.add_item(batch, args)
            batch.end_items()
            self.send_chunks(batch)
        except BaseException:
            self.cancel_batch(batch)
            raise
        return futures

    # ---- what the iterator of a map asks for ----

    cdef Batch new_batch(self, Options options, fn, uint64_t chunksize):
        return Batch(self, self.segment, self.gate, self.staff, self.functions, self.notifier, self.arguments,
                     self.settlement, self.account, options, fn, chunksize)

    cdef int add_future(self, Batch batch, FutureBase future) except -1:
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        return batch.add_future(future)

    cdef add_item(self, Batch batch, tuple args):
        cdef Inside inside
        cdef int due
        self.segment.lock.enter_here(&inside)
        due = batch.add(args)
        if due == RESULTS_DUE:
            self.service.drain()
        if due != NOTHING_DUE:
            self.chunks.send_chunks(batch)

    cdef send_chunks(self, Batch batch):
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        self.chunks.send_chunks(batch)

    cdef uint64_t count_done(self, Batch batch):
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        return self.chunks.count_done(batch)

    cdef void cancel_batch(self, Batch batch) noexcept:
        self.segment.lock.enter()
        self.chunks.cancel(batch, self.cancel_running)
        self.segment.lock.leave()

    # ---- shared objects ----

    def share(self, obj):
        """Encodes an object for all tasks.

        Args:
            obj: Anything that can be an argument.

        Returns:
            A Shared, which stands for it among arguments.

        Raises:
            MemoryError: There is no room for it.
            OSError: The system refuses the shared memory.
            BrokenProcessPool, RuntimeError: The pool takes no more tasks.
        """
        cdef Shared shared
        cdef Parcel parcel = new_parcel()
        cdef bint last = False
        self.gate.check()
        self.create()
        parcel.begin(self)
        data = pack(obj, parcel)
        if parcel.count == 0:
            parcel.hold(data)
        parcel.lie_behind(words_before(self.segment.pool.n_workers))
        shared = Shared.__new__(Shared)
        disown(shared)
        self.gate.check()  # pickling ran user code
        while not self.try_store(parcel):
            if last:
                if self.segment.pool.segment.refused:
                    raise no_address(&self.segment.pool.segment, parcel.bytes)
                raise MemoryError(
                    f"cannot allocate {parcel.bytes} bytes for the shared object: "
                    f"{self.segment.pool.arena.used_bytes} of the {self.segment.pool.arena.quota} bytes of shared "
                    "memory for arguments are in use (see shared_memory_limit)")
            self.service.drain()  # what is answered needs its arguments no more
            last = not self.arguments.is_release_pending()  # asked before the reclaim
            if not last:
                with nogil:
                    rp_os_nap(LET_GO_NS)
                PyErr_CheckSignals()
            self.arguments.reclaim()
            self.gate.check()  # user code may have run
        self.arguments.add_share(shared, parcel)
        parcel.end()  # no cycle
        parcel.clear()
        return shared

    cdef bint try_store(self, Parcel parcel) noexcept:
        """Puts a parcel into blocks, if there is room now. In the engine: the memory stays mapped."""
        cdef bint stored
        self.segment.lock.enter()
        stored = (not looks_again() or self.segment.serves()) and self.arguments.try_spread(parcel)
        if stored:
            parcel.fill(&self.segment.pool.base)
        self.segment.lock.leave()
        return stored

    # ---- what the codec asks for, while it encodes what goes to workers ----

    cdef bint address_of(self, object o, uint64_t *where) noexcept:
        if type(o) is not Shared or (<Shared>o).arguments is not self.arguments:
            return False
        where[0] = (<Shared>o).id
        where[1] = (<Shared>o).parcel.block
        where[2] = (<Shared>o).parcel.block_bytes
        return True

    cdef int add_reducers(self, dict table, Parcel parcel) except -1:
        table[Shared] = parcel.reduce
        return 0

    cdef object reduce(self, Parcel parcel, object o):
        return self.arguments.reduce(parcel, <Shared?>o)

    cdef object scope(self):
        return self.functions.scope()

    # ---- waiting ----

    cdef bint is_here(self) noexcept:
        return self.segment.is_mapped()

    cdef void drain(self) noexcept:
        self.service.drain()

    cdef void watch(self, FutureBase future) noexcept:
        self.notifier.watch(future)

    cdef bint has_begun(self, FutureBase future) noexcept:
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        if future.item_of is not None:
            return self.chunks.item_begun(future)
        return (future.pos != POS_QUEUED and self.segment.is_mapped()
                and rp_board_claimed(&self.segment.pool.board, future.pos))

    cdef int wait_for(self, FutureBase future, timeout) except -1:
        return self.waiting.wait_for(future, timeout)

    cdef bint try_cancel(self, FutureBase future) noexcept:
        """Takes a task back that no worker has claimed; its future is then cancelled. No Python code runs: what the
        task calls is for the caller to drop."""
        cdef bint cancelled = False
        self.segment.lock.enter()
        if self.segment.is_mapped() and (not looks_again() or future.state == PENDING):
            if future.item_of is not None:
                cancelled = self.chunks.try_cancel_item(future)
            else:
                cancelled = self.outbox.try_cancel(future)
        self.segment.lock.leave()
        return cancelled

    cdef bint begin_termination(self, FutureBase future, int why) except -1:
        """Begins to end a pending task that runs, or an item. Whether it is pending."""
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        if future.item_of is not None:
            return self.chunks.end_item(future, why)
        return self.terminations.begin(future, why, -1)

    def cancel_all(self, grace=None):
        """Cancels every task that no worker has claimed.

        Args:
            grace: Ends those that run, too, within this many seconds.
        """
        cdef uint32_t i, again
        cdef FutureBase future
        self.cancel_unsent(None)
        for again in range(2):  # what is dropped may run user code, which may have the rest of a chunk sent
            for i in range(self.tasks.size):
                future = self.tasks.at(i)
                if future is not None:
                    if type(future) is Chunk:
                        self.segment.lock.enter()
                        self.chunks.cancel_unstarted(<Chunk>future)
                        self.segment.lock.leave()
                        if future.state != PENDING:
                            continue
                    # The collector calls the callbacks: the caller of this must not wait for them.
                    if self.try_cancel(future):
                        if future.callbacks is not None and future.notified:
                            self.notifier.lock_and_notify(future, True)
                        future.drop_call()
                    elif grace is not None:
                        self.cancel_within(future, grace)
        future = None

    cdef cancel_within(self, FutureBase future, grace):
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        self.terminations.begin(future, WHY_CANCELLED, nanoseconds(grace))

    cdef cancel_unsent(self, failure):
        cdef Inside inside
        self.segment.lock.enter_here(&inside)
        self.chunks.cancel_unsent(failure)

    # ---- the collector ----

    def run_collector(self, sleep=None):
        """The collector thread: tells watchers, empties rings that fill up, moves tasks up. Returns when the pool has
        stopped or is abandoned by break_off.

        Args:
            sleep: Waits for something to do, in a thread that must not sleep here; see Herald.
        """
        cdef rp_parent *pool = &self.segment.pool
        while True:
            rp_pool_begin_service(pool)
            self.service.run_once()
            self.notifier.flush()
            if not self.segment.is_mapped():  # user code has forked, and this is the child
                return
            if self.notifier.is_drained():
                self.stop()
                return
            if sleep is not None:
                sleep()
                continue
            with nogil:
                rp_pool_wait_service(pool)

    def flush_notifications(self):
        """Tells those that watch futures that are done. Raises nothing."""
        self.notifier.flush()

    def stop(self):
        """Tells the workers to leave."""
        self.workers_stopped = True
        self.segment.lock.enter()
        if self.segment.serves():
            rp_pool_stop(&self.segment.pool)
        self.segment.lock.leave()

    def end(self):
        """Says that all is done. Those in wait_end return."""
        self.ended = 1
        rp_os_futex_wake(&self.ended)

    def wait_end(self):
        """Waits for end(). May be entered again by a signal handler, which threading's own waits may not."""
        cdef Outside outside
        step_out_here(&outside)
        while not self.ended:
            with nogil:
                rp_os_futex_wait(&self.ended, 0, SIGNAL_NS)
            PyErr_CheckSignals()
        rp_os_futex_wake(&self.ended)  # wakes one: each wakes the next

    # ---- what the supervisor asks for ----

    def enforce_deadlines(self, uint64_t now, uint64_t lost=0):
        """Begins to end the tasks that have overrun their time, and moves on the termination of all that are to end.

        Args:
            now: A time, in nanoseconds of the monotonic clock, at which no worker was dead that is not recovered.
            lost: Of these, how many just before it do not count, since the program was stopped.

        Returns:
            A list of (worker, kill), the workers that are to be signalled: to be killed, or to be interrupted in their
            tasks. And the seconds after which this is to be called again, None if not before the alarm.
        """
        return self.service.enforce_deadlines(now, lost)

    def spare(self, uint32_t w):
        """Worker w cannot be killed: what was to end with it goes on."""
        self.segment.lock.enter()
        self.terminations.spare(w)
        self.segment.lock.leave()

    def close(self, refusal):
        """Stops accepting tasks; when none is pending, the workers are told to leave.

        Args:
            refusal: Makes the exception that submit raises from now on.
        """
        if not self.gate.closed:
            self.gate.close(refusal)
        self.notifier.set_need(NEED_CLOSING, True)
        self.segment.lock.enter()  # in which alone the memory goes
        self.notifier.ring()
        self.segment.lock.leave()

    def begin_recovery(self, uint32_t w):
        """Takes in what a dead worker left, and makes its place ready for another.

        Args:
            w: The worker's index. Its process must be dead.

        Returns:
            A list of the futures (one at most, unless the worker has corrupted the shared memory) of tasks that it held.
            Whether the worker had become ready for tasks, and whether it left as it was told. The most memory that it noted
            to have had in use, in bytes; 0 if it noted none.
        """
        return self.recovery.begin(w)

    def describe(self, FutureBase future):
        """The name of a pending task, or else of what it calls."""
        return describe(future)

    def retry(self, FutureBase future):
        """Sends a task anew whose worker has died, if its options say so and it was not to end. end_recovery() follows.

        Returns:
            Whether it is sent anew.
        """
        return self.recovery.retry(future)

    def end_recovery(self):
        """After recoveries: sends what they have freed, and repeats any wake-up that a dead worker may have owed."""
        self.recovery.end()

    def fail(self, FutureBase future, error):
        """Ends a pending future of this pool with an exception; a future that is done stays as it is."""
        self.settlement.fail(future, error)

    def fail_all(self, failure):
        """Ends every pending future with an exception.

        Args:
            failure: Makes it, for each future that is asked for it: a traceback grows wherever its exception is raised.
        """
        cdef uint32_t i
        cdef FutureBase future
        self.cancel_unsent(failure)
        for i in range(self.tasks.size):
            future = self.tasks.at(i)  # this lets go of the one before, which may run user code
            if future is not None:
                self.settlement.finish(future, FORM_MADE, failure)

    def detach(self):
        """Lets the shared memory go: now, or when the last result that lies in it has been decoded or dropped, and the
        last thread that slept on it has woken."""
        self.notifier.flush()
        self.arguments.drop_all()
        self.functions.clear()
        self.segment.lock.enter()
        if self.segment.serves():  # the above runs callbacks, which may have come here in their turn
            self.segment.detach()
            try:
                self.results.clear_all()
            except MemoryError:  # then it stays a while
                pass
        self.segment.lock.leave()
