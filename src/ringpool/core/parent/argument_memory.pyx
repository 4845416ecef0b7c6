# argument_memory.pyx - see argument_memory.pxd.

cdef uint64_t LET_GO_NS = 100000  # between two looks whether workers have let go of shared objects; arbitrary
cdef uint64_t LET_GO_MAX_NS = 30000000000  # what they have not by then is kept by a __del__ that does not end; arbitrary

cdef inline uint64_t words_before(uint32_t n_workers) noexcept:
    return rp_share_table_bytes(n_workers)


@cython.no_gc_clear
cdef class Shared:
    """Stands for an object in the arguments of tasks of one pool: what `ProcessPoolExecutor.share` gives."""

    def __init__(self):
        raise TypeError("cannot create a shared object directly: use ProcessPoolExecutor.share()")

    def __reduce__(self):
        raise TypeError(
            "cannot pickle a shared object here: it can only be an argument of a task of its pool, or within one")

    def __repr__(self):
        return f"<ringpool.Shared, {self.nbytes} bytes>"

    def __dealloc__(self):
        if self.arguments is not None:
            self.arguments.end_share(self)


@cython.no_gc_clear
cdef class ArgumentMemory:
    """The parcels whose tasks are answered, as long as a worker holds blocks of them, and the shared objects."""

    def __cinit__(self, Segment segment, TaskTable tasks, Notifier notifier):
        self.segment = segment
        self.tasks = tasks
        self.notifier = notifier

    def __dealloc__(self):
        self.drop_all()

    cdef bint try_spread(self, Parcel parcel) noexcept:
        """Finds blocks for a parcel, if there is room now."""
        cdef bint found
        self.segment.lock.acquire()
        found = parcel.spread(&self.segment.pool.arena) == 0
        self.segment.lock.release()
        return found

    cdef void release(self, Parcel parcel) noexcept:
        """A task has been answered or given up: its blocks are free, but for those that the worker holds."""
        c_assert(self.segment.lock.is_held())
        self.free_unheld(parcel)
        if parcel.block:
            Py_INCREF(parcel)
            self.retained = parcel.link(self.retained)

    cdef void free_unheld(self, Parcel parcel) noexcept:
        cdef unsigned char *p
        cdef uint64_t holder
        cdef uint32_t k
        cdef bint held = False
        if not self.segment.is_mapped():
            return
        p = rp_pool_block(&self.segment.pool, 0, parcel.block, parcel.block_bytes)
        if parcel.before:
            for k in range(self.segment.pool.n_workers):
                held = held or rp_load_acquire(rp_share_holder(p, k)) != 0
            if held:
                return
        for k in range(parcel.blocks):
            if parcel.offsets[k] == 0:
                continue
            holder = 0 if parcel.before else rp_load_acquire(rp_spread_holder(p, k))
            if 0 < holder <= self.segment.pool.n_workers:
                parcel.note_holder(<uint32_t>holder - 1)
                held = True
            else:
                self.segment.free_block(parcel.drop_buffer(k))
        if not held:
            self.segment.free_block(parcel.drop_block())

    cdef void force_release(self, Parcel parcel, uint32_t w) noexcept:
        """Worker w, which has or had it, is dead."""
        cdef unsigned char *p
        cdef uint32_t k
        if self.segment.is_mapped() and parcel.block:
            p = rp_pool_block(&self.segment.pool, 0, parcel.block, parcel.block_bytes)
            if parcel.before:
                rp_store_release(rp_share_holder(p, w), 0)
                return
            for k in range(parcel.blocks):
                rp_store_release(rp_spread_holder(p, k), 0)

    cdef void worker_died(self, uint32_t w) noexcept:
        """Worker w is dead: frees what it alone held. User code may run last of all, as in reclaim()."""
        cdef PyObject *p
        cdef Shared_p share
        self.segment.lock.acquire()
        p = self.retained
        share = self.shares
        while p != NULL:
            if (<Parcel>p).before or (<Parcel>p).holder == w:
                self.force_release(<Parcel>p, w)
            p = (<Parcel>p).next
        while share != NULL:  # before the reclaim, with which may go the last handles of some
            self.force_release((<Shared>share).parcel, w)
            share = (<Shared>share).next
        self.segment.lock.release()
        self.reclaim()

    cdef void reclaim(self) noexcept:
        """Frees what workers have let go of. User code may run last of all: with a parcel go the shared objects within it."""
        cdef PyObject *p
        cdef PyObject *free = NULL
        cdef Parcel parcel = None
        self.segment.lock.acquire()
        p = self.retained
        self.retained = NULL
        while p != NULL:
            parcel = <Parcel>p
            p = parcel.unlink()
            if self.segment.is_mapped():
                self.free_unheld(parcel)
                if parcel.block:
                    self.retained = parcel.link(self.retained)
                    continue
            free = parcel.link(free)
        self.segment.lock.release()
        while free != NULL:
            parcel = <Parcel>free
            free = parcel.unlink()
            Py_DECREF(parcel)

    cdef void drop_all(self) noexcept:
        """When the workers are gone, or the pool is. Within a parcel there may be shared objects, which hold this client."""
        cdef PyObject *p = self.pop_retained()
        while p != NULL:  # with one, shared objects go, which may leave others here
            Py_DECREF(<Parcel>p)
            p = self.pop_retained()

    cdef PyObject *pop_retained(self) noexcept:
        """One of those that workers hold, with its reference; NULL if there is none."""
        cdef PyObject *p
        if self.segment is None:  # this has not been made whole
            return NULL
        self.segment.lock.acquire()
        p = self.retained
        if p != NULL:
            self.retained = (<Parcel>p).unlink()
        self.segment.lock.release()
        return p

    cdef bint reclaim_if_released(self) noexcept:
        cdef uint32_t w
        cdef bint some = False
        for w in range(self.segment.pool.n_workers):
            if rp_pool_has_released(&self.segment.pool, w):
                some = True
        if some:
            self.reclaim()
        return some

    # ---- shared objects ----

    cdef void add_share(self, Shared shared, Parcel parcel) noexcept:
        shared.parcel = parcel
        shared.nbytes = parcel.bytes
        self.segment.lock.acquire()
        self.n_shares += 1
        shared.id = self.n_shares
        shared.next = self.shares
        if self.shares != NULL:
            (<Shared>self.shares).prev = <Shared_p>shared
        self.shares = <Shared_p>shared
        self.segment.lock.release()
        shared.arguments = self

    cdef object reduce(self, Parcel parcel, Shared shared):
        """What a shared object is in a pickle of arguments. The parcel keeps it."""
        if shared.arguments is not self:
            raise ValueError("a shared object of another pool cannot be an argument of this pool's tasks")
        parcel.keep(shared)
        return shared_here, (shared.id, shared.parcel.block, shared.parcel.block_bytes)

    cdef void end_share(self, Shared shared) noexcept:
        """The last handle is gone, and no task has it among its arguments."""
        cdef Parcel parcel = shared.parcel
        self.segment.lock.acquire()
        if shared.prev != NULL:
            (<Shared>shared.prev).next = shared.next
        else:
            self.shares = shared.next
        if shared.next != NULL:
            (<Shared>shared.next).prev = shared.prev
        if self.segment.serves():
            rp_store_release(rp_share_dying(rp_pool_block(&self.segment.pool, 0, parcel.block, parcel.before)), 1)
            self.release(parcel)
            if parcel.block:
                self.purged_ns = rp_os_now_ns()
                rp_pool_purge(&self.segment.pool)
            else:
                self.tell_of_room()
        self.segment.lock.release()

    cdef bint check(self) noexcept:
        """For the debug build: what is retained has a block, and the shared objects are linked both ways."""
        cdef PyObject *p = self.retained
        cdef Shared_p share = self.shares, before = NULL
        while p != NULL:
            if (<Parcel>p).block == 0:
                return False
            p = (<Parcel>p).next
        while share != NULL:
            if (<Shared>share).prev != before or (<Shared>share).arguments is not self:
                return False
            before = share
            share = (<Shared>share).next
        return True

    cdef bint is_release_pending(self) noexcept:
        """Is there a shared object whose handles are gone, and a worker that will let go of it as soon as it looks, since it
        runs nothing? But no worker is believed to for longer than LET_GO_MAX_NS."""
        cdef PyObject *p = self.retained
        cdef uint64_t task_id, at
        cdef uint32_t w
        if p == NULL or not self.segment.is_mapped() or rp_os_now_ns() - self.purged_ns > LET_GO_MAX_NS:
            return False
        while p != NULL:
            if (<Parcel>p).before:
                at = (<Parcel>p).block
                for w in range(self.segment.pool.n_workers):
                    if (rp_load_acquire(rp_share_holder(rp_pool_block(&self.segment.pool, 0, at, (<Parcel>p).before), w))
                            and rp_pool_is_to_purge(&self.segment.pool, w, &task_id) and not self.tasks.has(task_id)):
                        return True
            p = (<Parcel>p).next
        return False

    cdef void tell_of_room(self) noexcept nogil:
        """There may be room in the arena, of which no worker will tell: has the collector look, if tasks wait for it."""
        if self.notifier.needs & NEED_MEMORY:
            self.notifier.ring()
