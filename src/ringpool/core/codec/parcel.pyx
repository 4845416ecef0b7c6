# parcel.pyx - pickles with the large buffers that they leave out: see parcel.pxd.


@cython.no_gc_clear
cdef class Sender:
    """The pool that arguments are encoded for, as the codec sees it."""

    cdef bint address_of(self, object o, uint64_t *where) noexcept:
        """Where workers find o: its number, its offset, its length. False unless o is a shared object of this pool's."""
        return False

    cdef int add_reducers(self, dict table, Parcel parcel) except -1:
        """Has the parcel reduce the objects that only this pool's tasks understand: adds parcel.reduce to a dispatch table."""
        return 0

    cdef object reduce(self, Parcel parcel, object o):
        """What such an object is in a pickle. The parcel is to keep it."""
        raise NotImplementedError

    cdef object scope(self):
        """How to pickle what travels by value, if that is not as always: see session.py. Or None."""
        return None


@cython.no_gc_clear
cdef class Parcel:
    """A pickle and the large buffers that it leaves out, which are copied once, into blocks."""

    def __call__(self, buffer):
        """What a pickler's buffer_callback is to do: takes the buffer, or leaves it to the pickle."""
        cdef Py_buffer *view
        if self.count == MAX_BUFFERS:
            return True
        if self.buffers == NULL:
            self.buffers = <Py_buffer *>PyMem_RawMalloc(MAX_BUFFERS * sizeof(Py_buffer))
            if self.buffers == NULL:
                raise MemoryError
        view = &self.buffers[self.count]
        try:
            PyObject_GetBuffer(buffer, view, PyBUF_ANY_CONTIGUOUS)
        except BufferError:
            return True
        if view.len < LARGE_BUFFER:
            PyBuffer_Release(view)
            return True
        self.count += 1
        return False

    cdef inline void begin(self, Sender client) noexcept:
        """What will be encoded goes to workers of this pool: its shared objects may be in it."""
        self.client = client

    cdef inline void end(self) noexcept:
        """Nothing more will be encoded: it does not keep the pool."""
        self.client = None

    cdef int keep(self, object o) except -1:
        """What is encoded refers to `o`, which must live as long."""
        if self.shared is None:
            self.shared = []
            disown(self.shared)
        self.shared.append(o)
        return 0

    cdef inline list take_shared(self):
        """What it has kept; None if there is none. The caller keeps that from now on."""
        cdef list shared = self.shared
        self.shared = None
        return shared

    cdef int hold(self, bytes data) except -1:
        """Takes the pickle, when all buffers are there."""
        cdef uint32_t k
        self.pickle = data
        if self.count:
            self.offsets = <uint64_t *>PyMem_RawCalloc(self.count, sizeof(uint64_t))
            if self.offsets == NULL:
                raise MemoryError
        self.bytes = rp_parcel_pickle_at(self.count) + PyBytes_GET_SIZE(self.pickle)
        for k in range(self.count):
            self.bytes = rp_buffer_aligned(self.bytes) + self.buffers[k].len
        return 0

    cdef inline void hold_plain(self, bytes data) noexcept:
        """Takes bytes that are all of it. What buffers it may have are in them, and clear() comes next."""
        self.pickle = data
        self.bytes = PyBytes_GET_SIZE(data)

    cdef inline void expect(self, uint64_t n) noexcept nogil:
        """It will be n bytes, which its owner writes into find_block()'s block."""
        self.bytes = n

    cdef inline void lie_behind(self, uint64_t n) noexcept nogil:
        """It is a shared object's: n bytes go before it in its block, and its buffers are read-only."""
        self.before = n

    cdef void write(self, unsigned char *p) noexcept:
        cdef uint64_t at = rp_parcel_pickle_at(self.count), n = PyBytes_GET_SIZE(self.pickle)
        cdef uint32_t k
        rp_parcel_begin(p, RP_PARCEL, self.count, n)
        memcpy(p + at, PyBytes_AS_STRING(self.pickle), n)
        at += n
        for k in range(self.count):
            n = self.buffers[k].len
            rp_parcel_set_extent(p, k, rp_extent(n, self.buffers[k].readonly != 0))
            at = rp_buffer_aligned(at)
            memcpy(p + at, self.buffers[k].buf, n)
            at += n

    cdef uint64_t head_bytes(self) noexcept:
        """What leads to the blocks, when it is spread."""
        return rp_spread_pickle_at(self.count) + PyBytes_GET_SIZE(self.pickle)

    cdef int spread(self, rp_arena *arena) noexcept:
        """Finds blocks, all or none. 0, -ENOMEM or -E2BIG."""
        cdef uint64_t n
        cdef uint32_t k
        cdef int err
        self.block_bytes = self.before + self.head_bytes()
        err = rp_arena_alloc(arena, self.block_bytes, &self.block)
        if err:
            self.block = 0
            return err
        for k in range(self.count):
            err = rp_arena_alloc(arena, self.buffers[k].len, &self.offsets[k])
            if err:
                while k:
                    k -= 1
                    rp_arena_free(arena, self.offsets[k], &n)
                rp_arena_free(arena, self.block, &n)
                self.block = 0
                return err
        self.blocks = self.count
        return 0

    cdef bint find_room(self, rp_pool *pool, bint joined) noexcept:
        """Finds room in the parent's arena, if there is any now: to lie there spread, or in one block. It may have no
        buffers."""
        return self.spread(&pool.arena) == 0 if self.count and not joined else self.find_block(pool) != NULL

    cdef void store(self, rp_pool *pool, bint joined) noexcept:
        """Goes where find_room() has found room for it."""
        cdef unsigned char *p
        if self.count and not joined:
            self.fill(pool)
        else:
            p = rp_pool_writable(pool, self.block, self.bytes)
            if self.count:
                self.write(p)
            else:
                memcpy(p, PyBytes_AS_STRING(self.pickle), self.bytes)
        self.pickle = None  # the arena has it

    cdef unsigned char *find_block(self, rp_pool *pool) noexcept nogil:
        """Finds one block for all of it. Where it is to be written; NULL if there is no room now."""
        if rp_arena_alloc(&pool.arena, self.bytes, &self.block):
            return NULL
        self.block_bytes = self.bytes
        return rp_pool_writable(pool, self.block, self.bytes)

    cdef uint64_t within(self, uint64_t offset) noexcept:
        """Is spread in one block at `offset`, each buffer where a block of its own could be. Gives the bytes that
        this takes."""
        cdef uint64_t end = offset + self.head_bytes()
        cdef uint32_t k
        self.block = offset
        self.block_bytes = self.head_bytes()
        for k in range(self.count):
            self.offsets[k] = (end + LARGE_BUFFER - 1) & ~<uint64_t>(LARGE_BUFFER - 1)
            end = self.offsets[k] + self.buffers[k].len
        return end - offset

    cdef inline void note_holder(self, uint32_t w) noexcept nogil:
        """Worker w still holds one of its buffers."""
        self.holder = w

    cdef inline uint64_t drop_buffer(self, uint32_t k) noexcept nogil:
        """Gives the k-th buffer's block, which the caller frees."""
        cdef uint64_t offset = self.offsets[k]
        self.offsets[k] = 0
        return offset

    cdef inline uint64_t drop_block(self) noexcept nogil:
        """Gives the block that leads to the others, or is the only one. The caller frees it."""
        cdef uint64_t offset = self.block
        self.block = 0
        return offset

    cdef inline PyObject *link(self, PyObject *next) noexcept nogil:
        """Goes before `next`, which is the first of a list, or NULL. Gives the new first: this one."""
        self.next = next
        return <PyObject *>self

    cdef inline PyObject *unlink(self) noexcept nogil:
        """Leaves the list, of which it is the first. Gives the new first, or NULL."""
        cdef PyObject *next = self.next
        self.next = NULL
        return next

    cdef void fill(self, rp_pool *pool) noexcept:
        """Writes into the blocks."""
        cdef unsigned char *p = rp_pool_writable(pool, self.block, self.block_bytes)
        cdef uint64_t n = PyBytes_GET_SIZE(self.pickle)
        cdef uint32_t k
        memset(p, 0, self.before)
        p += self.before
        rp_parcel_begin(p, RP_SPREAD, self.count, n)
        memcpy(p + rp_spread_pickle_at(self.count), PyBytes_AS_STRING(self.pickle), n)
        for k in range(self.count):
            n = self.buffers[k].len
            rp_spread_set(p, k, rp_extent(n, self.before != 0 or self.buffers[k].readonly != 0), self.offsets[k])
            memcpy(rp_pool_writable(pool, self.offsets[k], n), self.buffers[k].buf, n)

    cdef bytes join(self):
        data = PyBytes_FromStringAndSize(NULL, self.bytes)
        prepare(PyBytes_AS_STRING(data), self.bytes)
        self.write(<unsigned char *>PyBytes_AS_STRING(data))
        return data

    def reduce(self, o):
        """What a pickler is to make of an object that only tasks of this pool understand."""
        return self.client.reduce(self, o)

    cdef void clear(self) noexcept:
        while self.count:
            self.count -= 1
            PyBuffer_Release(&self.buffers[self.count])
        PyMem_RawFree(self.buffers)
        self.buffers = NULL

    cdef void reset(self) noexcept:
        """The pickler has failed, and another begins anew."""
        self.clear()
        self.shared = None

    def __dealloc__(self):
        self.clear()
        PyMem_RawFree(self.offsets)


cdef inline Parcel new_parcel():
    cdef Parcel parcel = Parcel()
    disown(parcel)
    return parcel


cdef uint32_t read_head(unsigned char *p, uint64_t n, Entry *entries, uint64_t *pickle_at) except? 99:
    """Reads what leads to a parcel's blocks, from a block of n bytes. Gives how many there are; none is looked at."""
    cdef uint64_t count, size, extent, k
    if n >= sizeof(rp_parcel_head):
        count = rp_parcel_buffers(p)
        size = rp_parcel_pickle_bytes(p)
        pickle_at[0] = rp_spread_pickle_at(count)
        if count <= MAX_BUFFERS and pickle_at[0] <= n and size == n - pickle_at[0]:
            for k in range(count):
                extent = rp_spread_extent(p, k)
                entries[k].size = rp_extent_bytes(extent)
                entries[k].readonly = rp_extent_readonly(extent)
                entries[k].offset = rp_spread_offset(p, k)
                entries[k].holder = rp_spread_holder(p, k)
            return <uint32_t>count
    raise ValueError("a parcel is truncated")


cdef tuple take_apart(const unsigned char *p, Py_ssize_t n):
    """The pickle and the buffers of a parcel, each in memory of its own, writable unless it was sent as read-only. Runs no user
    code while no garbage is collected."""
    cdef uint64_t at, size, left = n, extent
    cdef uint64_t count, k
    cdef list buffers = []
    if left < sizeof(rp_parcel_head):
        raise ValueError("a parcel is truncated")
    count = rp_parcel_buffers(p)
    size = rp_parcel_pickle_bytes(p)
    at = rp_parcel_pickle_at(count)
    if count > MAX_BUFFERS or at > left or size > left - at:
        raise ValueError("a parcel is truncated")
    data = PyBytes_FromStringAndSize(<const char *>p + at, size)
    at += size
    for k in range(count):
        extent = rp_parcel_extent(p, k)
        size = rp_extent_bytes(extent)
        at = rp_buffer_aligned(at)
        if at > left or size > left - at:
            raise ValueError("a parcel is truncated")
        buffers.append(own_copy(p + at, size, rp_extent_readonly(extent)))
        at += size
    return data, buffers


cdef object own_copy(const unsigned char *p, Py_ssize_t n, bint readonly):
    if readonly:
        copy = PyBytes_FromStringAndSize(NULL, n)
        stream_in(NULL, PyBytes_AS_STRING(copy), p, n)
    else:
        copy = PyByteArray_FromStringAndSize(NULL, n)
        stream_in(NULL, PyByteArray_AS_STRING(copy), p, n)
    return copy
