# hold.pyx - see hold.pxd.

cdef c_bool region_is_others(const void *own, uint64_t region) noexcept nogil:
    return region != (<const uint32_t *>own)[0]


@cython.no_gc
cdef class WorkerHold:
    """One worker's hold on the pool's memory.

    Args:
        memfd: The segment's descriptor, taken over.
        n_places, n_cpus, sizes: Those of the Client.
        index: Which worker this is.

    Raises:
        OSError: The segment is not one of this build of ringpool's.
    """

    def __cinit__(self, int memfd, uint32_t n_places, uint32_t n_cpus, tuple sizes, uint32_t index):
        cdef int err = rp_pool_attach(&self.pool, memfd, n_places, n_cpus, as_sizes(sizes), index)
        if err:
            raise OSError(-err, f"ringpool: a worker cannot attach to its pool: {os.strerror(-err)}")
        self.trim_at = RP_WINDOWS_KEEP
        self.pid = getpid()
        rp_pool_watch(&self.pool)

    def __dealloc__(self):
        # A process that a task forked has no such mapping, and something else may stand in its place.
        if self.pid == getpid():
            rp_pool_detach(&self.pool)

    cdef void leave(self) noexcept nogil:
        """In a child that a task has forked."""
        self.forked = True
        rp_segment_close_fd(&self.pool.segment)  # it would hold the memory as long as the child lives

    cdef inline void begin_answer(self, uint64_t what) noexcept nogil:
        """The ArgumentViews that come are of this task, or item of a chunk. Until end_answer(), those that are let go of are
        not counted: the parent looks at them when it has the answer."""
        self.answering = what

    cdef inline void end_answer(self) noexcept nogil:
        """The answer is about to be published; or that of an item is about to count."""
        self.answering = 0

    cdef bint should_trim(self) noexcept nogil:
        return self.pool.segment.mapped > self.trim_at

    cdef void trim(self, bint idle) noexcept nogil:
        """Unmaps what others have sent, if it is idle. Then it is looked for again when much more is mapped."""
        if idle:
            rp_segment_unmap_regions(&self.pool.segment, region_is_others, &self.pool.own)
        self.trim_at = self.pool.segment.mapped + RP_WINDOWS_KEEP

    cdef unsigned char *of_parent(self, uint64_t offset, uint64_t n) except NULL:
        """The address of what lies in the parent's arena."""
        cdef unsigned char *at = rp_pool_block(&self.pool, 0, offset, n)
        if at == NULL:
            if rp_pool_within(&self.pool, 0, offset, n):
                raise no_address(&self.pool.segment, n)
            raise RuntimeError("a task refers to memory outside the parent's arena")
        return at
