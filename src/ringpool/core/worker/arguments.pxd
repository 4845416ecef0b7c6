# arguments.pxd - what tasks bring: where it lies, and the objects that are made of it.
#
# For: the call, and the codec where it comes to a shared object.
# Guarantees: no offset or length of the parent's is used unchecked. Buffers in blocks that may be held become views, whose
# holders' words say so before any object uses them; the words are cleared when the last such object dies, and the parent is
# told if it has the answer by then. An object that is shared is decoded once. A child that a task has forked touches no word.
# Does not: keep anything of a task, once its objects are gone, but for shared objects: until purge() finds them given up.
# May run user code: find(), find_item(), loads(), shared(), held(), purge().

@cython.final
cdef class Arguments:
    cdef WorkerHold hold
    cdef rp_worker *pool
    cdef uint64_t lies_at     # where the arguments of the task that runs begin in their arena, or 0: they are in its slot
    cdef uint32_t items_seen  # that had views. No task has so small a number
    cdef bint decoding        # shared objects may be among what is decoded
    cdef Stream stream        # that the arguments being decoded are, if they are one
    cdef dict shares          # number of a shared object -> (its lease, it)
    # quiet:
    cdef void begin_decoding(self) noexcept
    cdef void end_decoding(self) noexcept
    cdef void unmap_idle(self) noexcept
    # open:
    cdef int find(self, rp_slot *task, Decoder *d) except -1
    cdef inline int find_item(self, const uint8_t *record, uint64_t size, bint is_apart, Decoder *d) except -1
    cdef int find_apart(self, const uint8_t *record, uint64_t size, Decoder *d) except -1
    cdef object loads(self, const uint8_t *p, Py_ssize_t n)
    cdef object shared(self, uint64_t id, uint64_t offset, uint64_t n)
    cdef object held(self, uint64_t offset, uint64_t n)
    cdef int purge(self) except -1
