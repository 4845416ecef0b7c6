# view.pyx - memory of a block that objects of this process use in place: see view.pxd.

cdef object no_address(const rp_segment *segment, uint64_t n):
    """For n bytes of shared memory that this process could not map."""
    why = f"{os.strerror(-segment.refused)}; is the address space limited? (see RLIMIT_AS)"
    if segment.refused == -EBADF:
        why = "this process has closed the descriptor of its pool's memory"
    return MemoryError(f"ringpool: cannot map {n} bytes of shared memory: {why}")


# Guarded by the GIL. Without one, by a mutex of their own, which a fork holds: a leaf, as the lock of a pool.
cdef pool_mutex _lock
cdef View_p _views = NULL     # those that objects use: borrowed
cdef void *_copies = NULL     # of them, during a fork
cdef uint64_t _copied = 0     # how long that is
cdef uint32_t _forks = 0      # threads between _before_fork and _after_fork_in_parent


@cython.no_gc_clear
cdef class View:
    """Memory of a block, from the start of a page."""

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        PyBuffer_FillInfo(buffer, self, self.at, self.size, self.readonly, flags)

    cdef inline void place(self, unsigned char *at, Py_ssize_t size, bint readonly) noexcept nogil:
        """Which memory it is a view of. It is not listed yet."""
        self.at = at
        self.size = size
        self.readonly = readonly

    cdef void list(self) noexcept:
        global _views
        pool_mutex_lock(&_lock)
        self.used = True
        self.next = _views
        if _views != NULL:
            (<View>_views).prev = <View_p>self
        _views = <View_p>self
        if _forks:
            rp_os_inherit(self.at, whole_pages(self.size), True)
        pool_mutex_unlock(&_lock)

    cdef void unlist(self) noexcept:
        if not self.used:
            return
        pool_mutex_lock(&_lock)
        self.take_out()
        pool_mutex_unlock(&_lock)

    cdef void take_out(self) noexcept:
        global _views
        self.used = False
        if _forks:
            rp_os_inherit(self.at, whole_pages(self.size), False)
        if self.prev != NULL:
            (<View>self.prev).next = self.next
        else:
            _views = self.next
        if self.next != NULL:
            (<View>self.next).prev = self.prev
        self.prev = self.next = NULL

    def __dealloc__(self):
        self.unlist()


cdef void note_views() noexcept nogil:
    """This thread is about to fork, and begin_note() has made room."""
    note_lock(&_lock, NULL)


cdef bint has_views() noexcept:
    return _views != NULL


cdef bint is_forking() noexcept:
    return _forks != 0


cdef void drop_copies() noexcept:
    global _copies
    if _copies != NULL:
        rp_os_unmap(_copies, _copied)
        _copies = NULL


def _before_fork():
    global _copies, _copied, _forks
    cdef View_p p
    cdef uint64_t at = 0
    pool_mutex_lock(&_lock)
    p = _views
    _forks += 1
    drop_copies()
    _copied = 0
    while p != NULL:
        _copied += whole_pages((<View>p).size)
        p = (<View>p).next
    if _copied == 0 or rp_os_reserve(_copied, &_copies):
        _copies = NULL  # then the child sees the memory itself, as long as it stays what it is
    p = _views
    while p != NULL:  # what is in the list may have lost its last reference: no other is taken
        (<View>p).copy_at = 0
        if _copies != NULL:
            memcpy(<char *>_copies + at, (<View>p).at, (<View>p).size)
            (<View>p).copy_at = at + 1
            at += whole_pages((<View>p).size)
        rp_os_inherit((<View>p).at, whole_pages((<View>p).size), True)
        p = (<View>p).next
    pool_mutex_unlock(&_lock)


def _after_fork_in_parent():
    global _forks
    cdef View_p p
    pool_mutex_lock(&_lock)
    p = _views
    if _forks:  # else this module was imported during the fork
        _forks -= 1
    if _forks == 0:
        while p != NULL:
            rp_os_inherit((<View>p).at, whole_pages((<View>p).size), False)
            p = (<View>p).next
        drop_copies()
    pool_mutex_unlock(&_lock)


cdef void take_copies() noexcept:
    """In a forked child: its views become memory of its own."""
    global _copies, _forks
    cdef View_p p
    pool_mutex_forget(&_lock)
    _forks = 0
    while _views != NULL:
        p = _views
        if (<View>p).copy_at:
            rp_os_move(<char *>_copies + (<View>p).copy_at - 1, whole_pages((<View>p).size), (<View>p).at)
        (<View>p).take_out()
    _copies = NULL
