# parcel.pxd - pickles with the large buffers that they leave out.
#
# A Parcel is what a pickler hands large buffers to. Its buffers are copied once, into blocks of an arena, or behind the pickle
# in one piece: see csrc/wire.h. Guarantees that the buffers stay as they are and where they are until clear(), and that a
# reader checks what a sender claims before it looks there. Does not free its blocks: their owner does, when `holder` and the
# words in the blocks say that none is held (see argument_memory.pxd). Only its methods change its state; the GIL guards it.
# User code may run when a buffer is taken or released: in __call__(), clear(), reset() and the end of a Parcel.

cdef enum:
    MAX_BUFFERS = 256       # of a parcel; what is beyond them goes with the pickle

cdef struct Entry:   # of a buffer that was spread
    uint64_t size
    uint64_t offset
    bint readonly
    rp_word *holder  # the word that says which worker holds it

cdef class Sender:
    # quiet:
    cdef bint address_of(self, object o, uint64_t *where) noexcept
    # open:
    cdef int add_reducers(self, dict table, Parcel parcel) except -1
    cdef object reduce(self, Parcel parcel, object o)
    cdef object scope(self)

@cython.final
cdef class Parcel:
    cdef bytes pickle
    cdef Py_buffer *buffers  # room for MAX_BUFFERS, or NULL. It stays where it is: a Py_buffer may point into itself
    cdef uint32_t count
    cdef uint64_t bytes    # of all of it, as write() lays it out
    cdef uint64_t block    # the one that leads to the others, when it is spread; else 0
    cdef uint64_t block_bytes
    cdef uint64_t before   # bytes of it before that: of a shared object
    cdef Sender client     # whose shared objects may be in it; None if none may
    cdef list shared       # those that are, and what else it refers to: these must live as long. Or None
    cdef uint64_t *offsets # of the blocks of the buffers; 0 once freed
    cdef uint32_t blocks   # how many there were
    cdef uint32_t holder   # the worker that still holds some of them
    cdef PyObject *next    # of those whose tasks are answered, and that are held
    # raw:
    cdef inline PyObject *link(self, PyObject *next) noexcept nogil
    cdef inline PyObject *unlink(self) noexcept nogil
    cdef inline void expect(self, uint64_t n) noexcept nogil
    cdef inline void lie_behind(self, uint64_t n) noexcept nogil
    cdef unsigned char *find_block(self, rp_pool *pool) noexcept nogil
    cdef inline void note_holder(self, uint32_t w) noexcept nogil
    cdef inline uint64_t drop_buffer(self, uint32_t k) noexcept nogil
    cdef inline uint64_t drop_block(self) noexcept nogil
    # quiet:
    cdef inline void begin(self, Sender client) noexcept
    cdef inline void end(self) noexcept
    cdef inline list take_shared(self)
    cdef inline void hold_plain(self, bytes data) noexcept
    cdef void write(self, unsigned char *p) noexcept
    cdef uint64_t head_bytes(self) noexcept
    cdef int spread(self, rp_arena *arena) noexcept
    cdef bint find_room(self, rp_pool *pool, bint joined) noexcept
    cdef void store(self, rp_pool *pool, bint joined) noexcept
    cdef uint64_t within(self, uint64_t offset) noexcept
    cdef void fill(self, rp_pool *pool) noexcept
    # open:
    cdef int keep(self, object o) except -1
    cdef void reset(self) noexcept
    cdef void clear(self) noexcept
    cdef int hold(self, bytes data) except -1
    cdef bytes join(self)

# open, but runs no user code while no garbage is collected:
cdef inline Parcel new_parcel()
cdef uint32_t read_head(unsigned char *p, uint64_t n, Entry *entries, uint64_t *pickle_at) except? 99
cdef tuple take_apart(const unsigned char *p, Py_ssize_t n)
cdef object own_copy(const unsigned char *p, Py_ssize_t n, bint readonly)
