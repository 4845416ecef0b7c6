# item_pages.pxd - the encoded items of a batch that have not been sent, in pages.
#
# Items are written one behind the other into a page of PAGE_BYTES. A full one is sealed: it becomes bytes that never change,
# and that all chunks cut from it refer to.
#
# Guarantees: items leave in the order in which they came. A chunk lies within one page.
# Not: a large item's bytes are not here (see large_items.pyx); which items have been cancelled is not known here.
#
# quiet: all but those that are declared to raise: these make a page, and raise MemoryError. No function runs user code.

cdef enum:
    PAGE_BYTES = 65536    # of encoded items that are kept together. Arbitrary: some hundreds of small items
    LEAST_ROOM = 256      # bytes that a page has left for an item, or it is sealed. Arbitrary

cdef struct Cut:          # items at the front
    uint32_t n
    Py_ssize_t end        # in the page, where the next begins
    uint64_t ahead_bytes  # of those that are large and in the arena

@cython.final
cdef class ItemPages:
    cdef object sealed           # of (bytes, items)
    cdef unsigned char *scratch  # the page that is being filled
    cdef Py_ssize_t used
    cdef uint32_t filled         # items in it
    cdef bytes page              # the one that chunks are cut from, if items are left in it
    cdef Py_ssize_t at           # where the first of them is
    cdef uint32_t left           # how many
    # quiet:
    cdef inline unsigned char *room(self, Py_ssize_t *n) noexcept
    cdef inline void append(self, int kind, Py_ssize_t n) noexcept
    cdef void sent(self, Cut *cut) noexcept
    cdef bint check(self, uint64_t unsent) noexcept
    cdef void clear(self) noexcept
    # open:
    cdef int make_room(self) except -1
    cdef int add(self, int kind, bytes data) except -1
    cdef int seal(self) except -1
    cdef Cut cut(self, uint64_t n, uint64_t index, LargeItems large) except *
