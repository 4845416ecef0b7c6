# tray.pxd - the results of a chunk's items, collected in a block and published several at a time.
#
# For: the chunk that runs. A tray is a block of the worker's; see "Chunks" in chunk.h.
# Guarantees: a result counts in the tray when it is whole, so the parent finds it there if the worker dies. Results are sent
# in the order of the items: when the tray is full, or PART_NS after its first item was begun, or when they must not wait; and
# by end(). A large one is sent by itself, after what is before it.
# Does not: own its block while it is empty. That is ResultBlocks.spare then, and given up when memory is short.
# May run user code: lay_out(), begin_item(); end_item(), end(): handlers of signals.
#
# Between begin() and end(), each item is begun with begin_item(), its result is laid out while its call may still be
# interrupted, with lay_out() or lay_out_bytes(), and counts with end_item().

@cython.final
cdef class Tray:
    cdef WorkerHold hold     # keeps the pool
    cdef rp_worker *pool
    cdef ResultBlocks blocks
    cdef ResultOutbox outbox
    cdef uint64_t task_id    # the chunk's,
    cdef uint32_t chunk_items # and how many items that had at first
    cdef rp_tray *tray       # NULL: there is none. Where it begins
    cdef uint64_t offset     # of its block; 0: it is `last`
    cdef uint64_t bytes      # of its block
    cdef uint64_t used       # of these
    cdef uint32_t first      # the item whose result comes first
    cdef uint32_t items      # whose results are in it
    cdef bint goes_at_once   # it is a loan, for which others may wait, or `last`
    cdef Py_ssize_t laid_out # bytes of the item's result that are in the tray already, not counted yet; -1: it is
    cdef bytes data          # these; or, if this is None,
    cdef uint64_t block      # what is in this block,
    cdef uint64_t block_bytes
    cdef uint32_t kind       # and of this kind
    cdef uint64_t since_ns   # when its first item was begun
    cdef uint64_t load_ns    # what the function of the chunk took to load, until it has been told
    cdef uint32_t look       # the clock is read when this many items are done,
    cdef uint64_t looked_ns  # and was read then
    cdef uint64_t last[8]    # where there is no room for one: a tray of a result without its value
    # raw:
    cdef inline bint is_there(self) noexcept nogil
    cdef void begin(self, uint64_t task_id, uint32_t chunk_items) noexcept nogil
    cdef void begin_at(self, uint64_t offset, uint32_t first) noexcept nogil
    cdef void begin_last(self) noexcept nogil
    cdef bint has_room(self, uint64_t n) noexcept nogil
    cdef void note_load(self) noexcept nogil
    cdef inline void count_in(self, uint32_t kind, uint64_t n) noexcept nogil
    # open:
    cdef inline int begin_item(self) except -1
    cdef inline int lay_out(self, object value) except -1
    cdef int lay_out_apart(self, object value) except -1
    cdef int lay_out_bytes(self, uint32_t kind, bytes data) except -1
    cdef int lay_out_block(self, uint32_t kind, uint64_t block, uint64_t size) except -1
    cdef int refuse(self, uint64_t n) except -1
    cdef inline int end_item(self) except -1
    cdef int end(self) except -1
    cdef bint find_one(self, uint64_t n, bint borrows) except -1
    cdef int add(self) except -1
    cdef bint make_room(self, uint64_t n) except -1
    cdef int send_early(self, uint32_t done) except -1
    cdef int send_before(self) except -1
    cdef int send_alone(self) except -1
    cdef int send(self, uint32_t kind, uint32_t running=*) except -1
