# segment.pyx - see segment.pxd.


def _refuse_in_child():
    return RuntimeError(
        "this pool belongs to the process that made it; a forked child, such as a worker, needs one of its own: "
        "make it there")


@cython.no_gc
cdef class Segment:
    """Holds `struct rp_pool`: the mapping, and the words of the workers in it. Every other part of the parent's engine
    reads and writes shared memory through this one.
    """

    def __cinit__(self, uint32_t n_places, uint32_t n_cpus, tuple sizes):
        self.lock = PoolLock()
        self.pool.segment.fd = -1
        self.pool.n_workers = n_places
        self.pool.n_cpus = n_cpus
        self.pool.sizes = as_sizes(sizes)

    def __dealloc__(self):
        if self.is_mapped():
            rp_pool_destroy(&self.pool)

    cdef int create(self) except -1:
        """Makes the shared memory. To be called once, before the first task or shared object; between the call of the
        system and the next phase, nothing lets another thread, a signal handler or a fork come in.

        Raises:
            OSError: The system refuses it. The next call tries again.
        """
        cdef uint32_t n_places = self.pool.n_workers, n_cpus = self.pool.n_cpus
        cdef rp_sizes sizes = self.pool.sizes
        cdef int err
        c_assert(self.phase == PHASE_NEW)
        err = rp_pool_create(&self.pool, n_places, n_cpus, sizes)
        if err:
            self.pool.n_workers = n_places
            self.pool.n_cpus = n_cpus
            self.pool.sizes = sizes
            raise OSError(-err, f"ringpool: cannot create the pool's shared memory: {os.strerror(-err)}")
        self.phase = PHASE_SERVING
        return 0

    cdef void forget(self) noexcept nogil:
        """In a forked child: the pool is the parent's, and its mappings were not inherited. The descriptor was, and would
        hold the memory as long as the child lives."""
        c_assert(self.phase != PHASE_NEW)
        if self.phase >= PHASE_DETACHED:
            rp_segment_close_fd(&self.pool.segment)
        self.phase = PHASE_FORKED

    cdef inline bint is_mapped(self) noexcept nogil:
        """Whether it is there, and this process's."""
        return self.phase >= PHASE_DETACHED and not young_child()

    cdef inline bint serves(self) noexcept nogil:
        """Whether workers use it."""
        return self.phase == PHASE_SERVING and not young_child()

    cdef inline void hold(self) noexcept nogil:
        c_assert(self.lock.is_held())
        self.users += 1

    cdef inline bint try_use(self) noexcept nogil:
        """Whether it is there; if so, it stays until end_use(). Outside the engine and without the lock: with the GIL, only as
        long as no Python code runs."""
        cdef bint mapped
        if runs_alone():
            return self.is_mapped()
        self.lock.acquire()
        mapped = self.is_mapped()
        self.users += mapped
        self.lock.release()
        return mapped

    cdef inline void end_use(self) noexcept nogil:
        if not runs_alone():
            self.release()

    cdef void release(self) noexcept nogil:
        cdef bint unused
        self.lock.acquire()
        self.users -= 1
        unused = self.stop_if_unused()
        self.lock.release()
        if unused:
            rp_pool_destroy(&self.pool)

    cdef void detach(self) noexcept nogil:
        """The workers are gone: unmaps the memory now, or when its last user lets go."""
        cdef bint unused
        c_assert(self.phase == PHASE_SERVING)
        self.lock.acquire()
        self.phase = PHASE_DETACHED
        unused = self.stop_if_unused()
        self.lock.release()
        if unused:
            rp_pool_destroy(&self.pool)

    cdef bint stop_if_unused(self) noexcept nogil:
        """If the pool is done and the last user has let go, no thread uses the mapping from now on: the caller unmaps it."""
        if self.phase != PHASE_DETACHED or self.users or young_child():
            return False
        self.phase = PHASE_UNMAPPED
        return True

    cdef bint check(self) noexcept nogil:
        """For the debug build: it is mapped no longer than it has to be."""
        return self.phase != PHASE_DETACHED or self.users > 0

    # ---- facts for the supervisor ----

    @property
    def forked(self):
        """Whether this process is a forked child, which has no use of it."""
        return self.phase == PHASE_FORKED

    @property
    def memfd(self):
        return self.pool.segment.fd

    @property
    def n_places(self):
        return self.pool.n_workers

    @property
    def n_cpus(self):
        return self.pool.n_cpus

    @property
    def sizes(self):
        """As they were given, but with arenas that the system allowed."""
        cdef rp_sizes *sizes = &self.pool.sizes
        return sizes.arena_bytes, sizes.parent_quota, sizes.worker_quota, sizes.overflow_quota

    @property
    def blocks(self):
        """Blocks in use in the parent's arena: arguments under way, and functions."""
        return self.pool.arena.used_blocks if self.is_mapped() else 0

    @property
    def blocks_lent(self):
        """Blocks in use of the overflow: what workers have borrowed, and results that lie there."""
        return self.pool.overflow.used_blocks if self.is_mapped() else 0

    def worker_started(self, uint32_t w):
        return rp_pool_worker_state(&self.pool, w) != RP_ABSENT

    def worker_retired(self, uint32_t w):
        return rp_pool_worker_state(&self.pool, w) == RP_RETIRED

    def worker_retiring(self, uint32_t w):
        """Whether it wants a successor."""
        return rp_pool_is_retiring(&self.pool, w)

    def give_turn(self, uint32_t w, uint64_t ticket):
        """The worker that starts, or has started, in place w with this ticket may take tasks."""
        rp_pool_give_turn(&self.pool, w, ticket)

    def name_successor(self, uint32_t w, uint32_t successor, uint64_t ticket):
        """Worker w will hand over to the one that is about to be started in that place with that ticket."""
        rp_pool_name_successor(&self.pool, w, successor, ticket)

    def dismiss(self, uint32_t w, uint32_t successor):
        """Lets worker w go if it has nothing more to do and its successor is ready."""
        if rp_pool_worker_state(&self.pool, successor) != RP_ABSENT and rp_pool_may_go(&self.pool, w):
            rp_pool_dismiss(&self.pool, w)

    def worker_peak_rss(self, uint32_t w):
        """The most memory that worker w has had in use, in bytes, as it noted itself, a second ago at most; 0 if it has
        not."""
        return rp_pool_peak_rss(&self.pool, w)

    # ---- the parent's arena ----

    cdef inline bint alloc_block(self, uint64_t n, uint64_t *offset) noexcept nogil:
        """Finds a block of n bytes; whether there is one."""
        c_assert(self.lock.is_held())
        return rp_arena_alloc(&self.pool.arena, n, offset) == 0

    cdef inline void free_block(self, uint64_t offset) noexcept nogil:
        cdef uint64_t n
        c_assert(self.lock.is_held())
        if self.is_mapped():
            rp_arena_free(&self.pool.arena, offset, &n)

    def check_here(self):
        """Raises RuntimeError in a forked child."""
        if self.phase == PHASE_FORKED:
            raise _refuse_in_child()
cdef rp_sizes as_sizes(tuple sizes):
    cdef rp_sizes each
    each.arena_bytes, each.parent_quota, each.worker_quota, each.overflow_quota = sizes
    return each


def fixed_bytes(uint32_t n_places):
    """What a pool takes besides its arenas, in bytes."""
    return rp_pool_fixed_bytes(n_places)


def arenas(uint32_t n_places):
    """How many arenas a pool has."""
    return RP_ARENAS(n_places)
