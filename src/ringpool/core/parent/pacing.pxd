# pacing.pxd - how many items the next chunk of a batch has, and how many of its chunks are under way.
#
# For: chunks that take a worker some two milliseconds. Shorter ones cost the workers their processors, for the parent is woken
# for each; longer ones let the last chunks end far apart.
#
# Guarantees: a chunk has one item at least and RP_CHUNK_ITEMS at most; without a chunksize of the user's, at most GROWTH times
# as many as the largest of late, so that one quick item does not send all others to one worker.
# Not: it knows no item and sends nothing. What it says of a size is a wish: a chunk ends with its page.
#
# All functions are raw.

cdef enum:
    AHEAD = 3             # chunks a worker that are under way
    GROWTH = 16           # a chunk has at most this many times the items of the largest of late

@cython.final
cdef class Pacing:
    cdef uint64_t n_workers  # that take tasks at a time
    cdef uint32_t chunksize  # items a chunk; 0: as many as take about two milliseconds
    cdef uint32_t largest    # items of a chunk of late: halved with each
    cdef double item_ns      # running mean of what an item takes; 0: not known
    cdef double load_ns      # what the function took to load in a worker, for one chunk
    cdef uint64_t under_way  # chunks that have been added and are not done
    # raw:
    cdef uint64_t next_size(self, uint64_t unsent) noexcept nogil
    cdef bint is_enough(self, uint64_t unsent, bint more) noexcept nogil
    cdef void chunk_cut(self, uint32_t n) noexcept nogil
    cdef void chunk_added(self) noexcept nogil
    cdef void chunk_done(self) noexcept nogil
    cdef void measure(self, uint32_t n, const rp_tray *tray) noexcept nogil
    cdef bint has_room(self) noexcept nogil
    cdef bint has_idle(self) noexcept nogil
    cdef uint64_t buffer(self) noexcept nogil
    cdef uint64_t round_up(self, uint64_t n) noexcept nogil

# open:
cdef Pacing new_pacing(uint32_t n_workers, uint32_t chunksize)
