# view.pxd - memory of a block that objects of this process use in place.
#
# A view is what pickle gets for a buffer that was sent apart from it. An array is then made around the view, and keeps it;
# when the last such object dies, the block goes home. Whose it is, and how it goes there, the two kinds of views know:
# ResultView (result_memory.pyx) and ArgumentView (arguments.pyx).
#
# Guarantees that what objects see at an address stays there in this process and in those that it forks. Does not keep the
# mapping, nor give the block back: the kinds of views do. No function runs user code.
#
# The mapping is not inherited by a fork, but views must be, with what they hold at that moment. So the forking process copies
# them before, which the child inherits, and lets it inherit these pages of the mapping too, to keep the addresses free. The
# child puts the copies in their place.
#
# Between the two, handlers of others may run and let other threads run, which may fork in their turn, or come by new views.
# So the last of those that are about to fork makes the copies for all, and buffers that arrive meanwhile are copied; where
# that cannot be, the child sees the memory itself.

ctypedef PyObject *View_p

cdef class View:
    cdef View_p prev, next
    cdef unsigned char *at
    cdef Py_ssize_t size
    cdef bint readonly
    cdef bint used        # by objects: it is listed
    cdef uint64_t copy_at # where in _copies, plus 1; 0: it is not there
    # raw:
    @cython.final
    cdef inline void place(self, unsigned char *at, Py_ssize_t size, bint readonly) noexcept nogil
    # quiet:
    cdef void list(self) noexcept
    cdef void unlist(self) noexcept
    cdef void take_out(self) noexcept

# raw:
cdef void note_views() noexcept nogil
# quiet:
cdef bint has_views() noexcept         # in use
cdef bint is_forking() noexcept        # then what arrives is to be copied
cdef void take_copies() noexcept
# open:
cdef object no_address(const rp_segment *segment, uint64_t n)
