# large_items.pxd - the items of a batch that are too large for its pages.
#
# A large item lies *apart*: it is a Parcel in blocks of its own, which the worker reads as it reads the arguments of a task.
# The item's record in the page only names them. They belong to the item, whichever chunk it is in, until it is done. An item
# that finds no room in the arena waits as bytes of the parent's, and gets its block when its chunk is the first in the queue.
#
# Guarantees: `bytes` is the sum of the parcels' bytes; `waiting` counts those of them without a block; `ahead_bytes` is the sum
# of those with one whose items have not been sent. At most half of the arena is taken by items that have not been sent.
# Not: it does not encode; it keeps none of the objects that the arguments refer to.
#
# open:  add(), which looks for what workers have let go of
# quiet: the others

cdef enum:
    LEAST_APART = LARGE_BUFFER  # bytes of an item that lies apart. For a smaller one, a page costs less than a block
    DRAIN_BYTES = 1048576       # of these items, between two looks for results: to copy them takes 100 us or more

@cython.final
cdef class LargeItems:
    cdef Pool client
    cdef Gate gate
    cdef Staff staff
    cdef Segment segment
    cdef ArgumentMemory arguments
    cdef dict parcels          # index -> Parcel
    cdef uint64_t bytes        # of all
    cdef uint64_t ahead_bytes  # of those that are in the arena, and have not been sent
    cdef uint64_t fresh_bytes  # of those that have been added since results were last looked for
    cdef uint64_t waiting      # how many have no room in the arena yet
    # quiet:
    cdef void hold_plain(self, Parcel parcel, bytes data) noexcept
    cdef bint has_room(self, Parcel parcel) noexcept
    cdef bint store(self, Parcel parcel, tuple args, bint whole) noexcept
    cdef bint store_waiting(self, Parcel parcel) noexcept
    cdef bint put(self, Parcel parcel, bint whole) noexcept
    cdef void chunk_sent(self, uint64_t bytes) noexcept
    cdef bint check(self, uint64_t sent) noexcept
    cdef bint is_empty(self) noexcept
    cdef bint is_full(self) noexcept
    cdef bint wants_drain(self) noexcept
    cdef void drained(self) noexcept
    cdef void release(self, uint64_t index, bint sent) noexcept
    cdef void worker_died(self, uint64_t begin, uint64_t end, uint32_t w) noexcept
    # open:
    cdef int add(self, uint64_t index, Parcel parcel, tuple args, bint whole) except -1
    cdef Parcel at(self, uint64_t index)
    cdef Parcel find(self, uint64_t index)
