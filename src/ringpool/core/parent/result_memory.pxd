# result_memory.pxd - where results lie until they are decoded, and whose memory that is.
#
# ResultMemory:
# 1. A block returns to its owner when its Block is deallocated: to the worker's return ring, to the overflow, or, if its
#    worker is dead, to the system.
# 2. The sum of arenas[i].blocks is the length of the list of blocks.
# 3. When a worker dies, its results stay readable: they are copied out, and parts that objects use in place stay.
# 4. adopt(), copy_out() and vacate() may run user code. No other function here does.
# 5. The account of the arenas, the lists, the return rings, and where a result is, change under the pool's lock. What is in a
#    list may have lost its last reference: no walk of one takes another. A result is decoded where it lies in the engine, as
#    memory passes from a worker to its successor.

ctypedef PyObject *ArenaResult_p

ctypedef PyObject *Block_p

cdef enum:
    NO_WORKER = 0xffffffff

cdef enum:                # in the place of a size
    NOT_HERE = -1         # it lies in no block
    NOT_OURS = -2         # but in memory of the parent of this process
    NO_ADDRESS = -3       # which cannot be mapped

cdef struct Extent:       # of a block
    uint64_t offset
    uint64_t n

cdef struct ArenaEntry:   # the parent's account of a worker's arena
    uint32_t owner         # the place of the worker that has it, or NO_WORKER
    uint32_t blocks        # that are here
    uint32_t used          # buffers that objects use in place: one a block, but in the overflow, where a block may have many

@cython.final
cdef class Block:
    cdef ResultMemory memory
    cdef Block_p prev, next
    cdef uint32_t arena
    cdef uint64_t offset
    cdef uint64_t n        # bytes that are looked at, or of a loan all
    # quiet:
    cdef unsigned char *at(self) noexcept
    # quiet, with the lock:
    cdef unsigned char *make_address(self) noexcept

@cython.final
cdef class ResultView(View):
    cdef Block block
    # quiet:
    cdef void use(self) noexcept

@cython.final
cdef class ArenaResult(StoredResult):
    cdef ResultMemory memory
    cdef ArenaResult_p prev, next
    cdef Block block      # None once copied out
    cdef list views       # of a parcel that is spread: the buffers
    cdef uint64_t n       # bytes of it that are in the block
    cdef uint64_t pickle_at
    cdef bytes copy
    cdef object lost      # why there is no copy
    # quiet, with the lock:
    cdef Py_ssize_t size_here(self) noexcept
    cdef void copy_to(self, unsigned char *p) noexcept
    # open:
    cdef value_here(self, int form)

@cython.final
cdef class ResultMemory:
    cdef Segment segment
    cdef Loans loans
    cdef ArenaResult_p stored     # those that lie in arenas: borrowed
    cdef Block_p blocks_here      # of workers' arenas: borrowed
    cdef ArenaEntry *arenas       # 0 is this process's own
    cdef uint32_t n_arenas
    cdef uint32_t overflow        # which one that is
    cdef list pending_returns     # a list of offsets a worker: its return ring was full
    cdef uint64_t trim_at         # when this many bytes are mapped, what is idle is looked for
    # raw:
    cdef uint64_t begin_of(self, uint32_t arena) noexcept nogil
    cdef bint can_stay(self, uint32_t arena) noexcept nogil
    # raw, with the lock:
    cdef void unmap_idle(self) noexcept nogil
    cdef ArenaResult_p one_of(self, uint32_t w) noexcept nogil
    # quiet, with the lock:
    cdef void unlink(self, ArenaResult result) noexcept
    cdef void take_out(self, ArenaResult result, PyObject **block, PyObject **views) noexcept
    cdef void give_back(self, Block block, ArenaEntry *arena) noexcept
    cdef void return_block(self, uint32_t w, uint64_t offset) noexcept
    # quiet:
    cdef void remove(self, ArenaResult result) noexcept
    cdef uint32_t list_blocks(self, uint32_t arena, Extent *taken, uint32_t room) noexcept
    cdef bint put_copy(self, ArenaResult_p p, uint32_t w, bytes copy) noexcept
    cdef void give_up_one(self, uint32_t w, object error) noexcept
    cdef void return_to_owner(self, Block block) noexcept
    cdef void count_used(self, uint32_t arena, int n) noexcept
    cdef void flush_returns(self, uint32_t w) noexcept
    cdef uint64_t n_blocks(self) noexcept
    cdef bint check(self) noexcept
    # open:
    cdef object adopt(self, uint32_t w, rp_result *r, uint32_t kind, Loan *loan)
    cdef object adopt_block(self, uint32_t w, rp_result *r, uint32_t kind, Loan *loan)
    cdef Block new_block(self, uint32_t w, uint64_t offset, uint64_t n)
    cdef Block lent_block(self, uint32_t w, uint64_t n, Loan *loan)
    cdef Block block_in(self, uint32_t arena, uint64_t offset, uint64_t n)
    cdef list new_views(self, uint32_t w, Block head, uint64_t n, uint64_t *pickle_at)
    cdef list use_views(self, uint32_t arena, list views)
    cdef clear_but_for_blocks(self, uint32_t arena)
    cdef clear_all(self)
    cdef copy_out(self, uint32_t w)
    cdef bint copy_out_one(self, uint32_t w) except -1
    cdef bint copy_out_of_overflow(self) except -1
    cdef vacate(self, uint32_t w)

# raw:
cdef void sort_extents(Extent *extents, uint32_t n) noexcept nogil
cdef int compare_extents(const void *one, const void *other) noexcept nogil
# quiet:
cdef void drop(PyObject *o) noexcept
# open:
cdef ArenaResult result_of(bytes data)
