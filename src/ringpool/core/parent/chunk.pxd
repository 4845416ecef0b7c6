# chunk.pxd - consecutive items of a batch that go to a worker as one task, and what becomes of them.
#
# A Chunk is split wherever its items part: where results have arrived, where its worker died, where the parent took items
# away. So a Chunk is done as a whole, as any future is, and the list of them says in what order the results are read.
#
# ChunkOwner is what a chunk asks of its batch, which stands above it.
#
# A large result is sent alone, like that of a task, and settles a Chunk of that one item.
#
# The bytes of a chunk, a tray and a record: see csrc/wire.h.
#
# Guarantees: `value` is what is sent, from encode() on; its first item is that at `base` of its task, and `index` of its batch.
# Not: which chunks there are, and which of their items have been cancelled, is the batch's; it puts itself on no board.
#
# quiet: set_items(), link_next(), unlink_next(), unlink(), split(), worker_died(), store_waiting()
# open:  encode(), encode_items(), which make an object; the caller holds the garbage collector where no user code may run

cdef class ChunkOwner:
    # quiet:
    cdef bint find_room(self, Parcel parcel) noexcept
    cdef void chunk_split(self, Chunk chunk, Chunk rest) noexcept
    cdef void chunk_done(self, Chunk chunk) noexcept
    cdef void worker_died(self, uint64_t begin, uint64_t end, uint32_t w) noexcept
    # open:
    cdef void encode_chunk(self, Chunk chunk) except *

@cython.final
cdef class Chunk(FutureBase):
    cdef ChunkOwner batch
    cdef Chunk after     # the items that follow
    cdef uint64_t index  # of its first item in the batch
    cdef uint32_t base   # of its first item in its task: those before it have been split off
    cdef uint32_t n      # items
    cdef bytes page      # holds their records
    cdef Py_ssize_t at   # where
    cdef Parcel waiting  # the only item, while it has no room in the arena; else None
    cdef bint holds      # items that lie apart, in the arena
    # quiet:
    cdef inline void set_items(self, ChunkOwner batch, uint64_t index, uint32_t n, bytes page, Py_ssize_t at) noexcept
    cdef inline void link_next(self, Chunk rest) noexcept
    cdef inline void unlink_next(self) noexcept
    cdef inline Chunk unlink(self)
    cdef void worker_died(self, uint32_t w) noexcept
    cdef bint store_waiting(self) noexcept
    cdef Chunk split(self, uint32_t k, Chunk rest)
    # open:
    cdef void encode(self) except *
    cdef void encode_items(self, bytes function, ItemFutures futures, LargeItems large) except *

# open:
cdef inline Chunk new_chunk()
cdef inline uint64_t record_head(const unsigned char *p, Py_ssize_t n) except? 0
