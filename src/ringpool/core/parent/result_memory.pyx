# result_memory.pyx - see result_memory.pxd.


@cython.no_gc_clear
cdef class Block:
    """A block of a worker's arena, or of the overflow, that this process has the use of. It is returned to its owner when
    this is deallocated.
    """

    cdef unsigned char *at(self) noexcept:
        """NULL in a forked child, and where no address space is left."""
        cdef unsigned char *at
        if not self.memory.segment.is_mapped():
            return NULL
        at = rp_pool_block(&self.memory.segment.pool, self.arena, self.offset, self.n)
        if at == NULL:
            self.memory.segment.lock.acquire()
            at = self.make_address()
            self.memory.segment.lock.release()
        return at

    cdef unsigned char *make_address(self) noexcept:
        """at(), if need be after others' addresses have been given up."""
        cdef unsigned char *at = rp_pool_block(&self.memory.segment.pool, self.arena, self.offset, self.n)
        if at == NULL:
            self.memory.unmap_idle()
            at = rp_pool_block(&self.memory.segment.pool, self.arena, self.offset, self.n)
        return at

    def __dealloc__(self):
        if self.memory is not None:
            self.memory.return_to_owner(self)


@cython.no_gc_clear
cdef class ResultView:
    """A buffer of a result, in a block of its own, or in that of a loan, which all buffers of the result have in common."""

    cdef void use(self) noexcept:
        """Objects use it from now on: its memory stays where it is, whatever becomes of its worker."""
        if not self.used:
            self.block.memory.count_used(self.block.arena, 1)
            self.list()

    def __dealloc__(self):
        if self.used:
            self.block.memory.count_used(self.block.arena, -1)
        self.unlist()  # before the block goes, and perhaps with it the mapping


@cython.no_gc_clear
cdef class ArenaResult:
    """A result that still lies in its worker's arena, or a copy of it."""

    cdef bytes bytes(self):
        """The result, copied out, in one. (Not a view: while user code decodes one, the block may become another
        result's.)"""
        cdef Py_ssize_t n = NOT_HERE
        if self.memory is not None:
            self.memory.segment.lock.acquire()
            if self.block is not None:
                n = self.size_here() if self.memory.segment.is_mapped() else NOT_OURS
            self.memory.segment.lock.release()
        if n == NOT_OURS:
            raise RuntimeError(
                "the result lies in memory of the process that submitted the task, not of its forked child")
        if n == NO_ADDRESS:
            raise no_address(&self.memory.segment.pool.segment, self.n)
        if n >= 0:  # else, or if it is copied out while room for this copy is made, there is one
            self.memory.put_copy(<PyObject *>self, NO_WORKER, PyBytes_FromStringAndSize(NULL, n))
        if self.lost is not None:
            raise self.lost
        return self.copy

    cdef Py_ssize_t size_here(self) noexcept:
        """The bytes of a copy of what lies in its block; NO_ADDRESS if the block has none."""
        cdef uint64_t n = self.n
        if self.block.make_address() == NULL:
            return NO_ADDRESS
        if self.views is not None:
            n = rp_parcel_pickle_at(len(self.views)) + self.n - self.pickle_at
            for view in self.views:
                n = rp_buffer_aligned(n) + (<View>view).size
        return n

    cdef void copy_to(self, unsigned char *p) noexcept:
        """Writes its size_here() bytes. Of a parcel, one that is not spread."""
        cdef const unsigned char *here = self.block.make_address()
        cdef uint64_t n = self.n - self.pickle_at, k = 0, at
        if self.views is None:
            memcpy(p, here, self.n)
            return
        at = rp_parcel_pickle_at(len(self.views))
        rp_parcel_begin(p, RP_PARCEL, <uint32_t>len(self.views), n)
        memcpy(p + at, here + self.pickle_at, n)
        at += n
        for view in self.views:
            n = (<View>view).size
            rp_parcel_set_extent(p, k, rp_extent(n, (<View>view).readonly))
            at = rp_buffer_aligned(at)
            memcpy(p + at, (<View>view).at, n)
            at += n
            k += 1

    cdef value(self, int form):
        """What it stands for: a compact form and the buffers of a parcel are read where they lie, or used there."""
        try:
            return self.value_here(form)
        except NumPyIsNeeded:
            pass
        learn_numpy(True)
        return self.value_here(form)

    cdef value_here(self, int form):
        cdef const unsigned char *p = NULL
        cdef PyObject *block = NULL
        cdef PyObject *views = NULL
        cdef int collects
        if self.memory is not None:
            collects = hold_gc()  # and so no user code runs that might let go of it
            self.memory.segment.lock.enter()  # nor does its memory become a successor's of its worker's
            try:
                self.memory.segment.lock.acquire()
                block = <PyObject *>self.block
                views = <PyObject *>self.views
                keep(block)  # another thread may copy the result out
                keep(views)
                if (block != <PyObject *>None and (form == FORM_COMPACT or views != <PyObject *>None)
                        and self.memory.segment.is_mapped()):
                    p = (<Block>block).make_address()
                self.memory.segment.lock.release()
                if p != NULL:
                    if form == FORM_COMPACT:
                        return decode_whole(p, self.n, False)
                    data = PyBytes_FromStringAndSize(<const char *>p + self.pickle_at, self.n - self.pickle_at)
                    buffers = self.memory.use_views((<Block>block).arena, <list>views)
            finally:
                self.memory.segment.lock.leave()
                let_gc(collects)
                let_go(block)
                let_go(views)
            if p != NULL:
                return pickle.loads(data, buffers=buffers)
        copy = self.bytes()
        p = <const unsigned char *>PyBytes_AS_STRING(copy)
        return decode_whole(p, len(copy), True) if form == FORM_COMPACT else loads_at(p, len(copy))

    def __dealloc__(self):
        if self.memory is not None:
            self.memory.remove(self)


cdef ArenaResult result_of(bytes data):
    """One that never was in an arena."""
    cdef ArenaResult result = ArenaResult()
    result.copy = data
    return result


cdef c_bool arena_is_idle(const void *arenas, uint64_t region) noexcept nogil:
    return region != 0 and (<const ArenaEntry *>arenas)[region].blocks == 0


cdef void drop(PyObject *o) noexcept:
    """Drops a reference, or none."""
    if o != NULL:
        Py_DECREF(<object>o)


cdef void sort_extents(Extent *extents, uint32_t n) noexcept nogil:
    """By where they lie."""
    if n:
        qsort(extents, n, sizeof(Extent), compare_extents)


cdef int compare_extents(const void *one, const void *other) noexcept nogil:
    cdef uint64_t a = (<const Extent *>one).offset, b = (<const Extent *>other).offset
    return (a > b) - (a < b)


@cython.no_gc_clear
cdef class ResultMemory:
    """The account of the blocks of workers' arenas, and of the overflow, that this process has the use of."""

    def __cinit__(self, Segment segment, Loans loans):
        cdef uint32_t i, n_places = segment.pool.n_workers
        self.segment = segment
        self.loans = loans
        self.trim_at = RP_WINDOWS_KEEP
        self.n_arenas = RP_ARENAS(n_places)
        self.overflow = RP_OVERFLOW(n_places)
        self.pending_returns = [[] for _ in range(n_places)]
        self.arenas = <ArenaEntry *>PyMem_RawCalloc(self.n_arenas, sizeof(ArenaEntry))
        if self.arenas == NULL:
            raise MemoryError()
        for i in range(self.n_arenas):
            self.arenas[i].owner = i - 1 if 1 <= i <= n_places else NO_WORKER

    def __dealloc__(self):
        PyMem_RawFree(self.arenas)

    @property
    def blocks_of_workers(self):
        """Blocks of workers' arenas, and of the overflow, that results and parts of them lie in."""
        cdef uint32_t i
        return sum([self.arenas[i].blocks for i in range(1, self.n_arenas)])

    cdef uint64_t n_blocks(self) noexcept:
        """How many blocks are here: of the users of the segment, those that are no waiters."""
        cdef uint32_t i
        cdef uint64_t n = 0
        for i in range(self.n_arenas):
            n += self.arenas[i].blocks
        return n

    cdef bint check(self) noexcept:
        """For the debug build: the blocks and the results that are here are linked both ways, the counts of the arenas add
        up to the blocks, and each worker has one arena, the same as in shared memory."""
        cdef Block_p block = self.blocks_here, block_before = NULL
        cdef ArenaResult_p result = self.stored, before = NULL
        cdef uint64_t n = 0
        cdef uint32_t i, owned = 0
        while block != NULL:
            if ((<Block>block).prev != block_before or (<Block>block).memory is not self
                    or (<Block>block).arena >= self.n_arenas):
                return False
            n += 1
            block_before = block
            block = (<Block>block).next
        while result != NULL:
            if (<ArenaResult>result).prev != before or (<ArenaResult>result).block is None:
                return False
            before = result
            result = (<ArenaResult>result).next
        for i in range(self.n_arenas):
            # Of the overflow, the parts of a result have one block in common.
            if self.arenas[i].used > self.arenas[i].blocks and i != self.overflow:
                return False
            if self.arenas[i].owner != NO_WORKER:
                owned += 1
                if self.arenas[i].owner >= self.segment.pool.n_workers:
                    return False
                if self.segment.is_mapped() and self.segment.pool.arena_of[self.arenas[i].owner] != i:
                    return False
        return n == self.n_blocks() and owned == self.segment.pool.n_workers

    cdef object adopt(self, uint32_t w, rp_result *r, uint32_t kind, Loan *loan):
        """What a result holds: its value if that was in the slot and compact, else bytes or an ArenaResult. This takes the loan
        over, if the result lies there."""
        if r.offset == 0:
            if r.bytes > RP_RESULT_INLINE:
                raise RuntimeError(f"worker {w} sent a result of an invalid size")
            if kind == KIND_VALUE:
                try:
                    return decode_whole(r.inline_bytes, r.bytes, False)
                except NumPyIsNeeded:
                    return result_of(PyBytes_FromStringAndSize(<char *>r.inline_bytes, r.bytes))
            if kind in (KIND_VALUE_PICKLE, KIND_ERROR, KIND_START_ERROR, KIND_PART):
                return PyBytes_FromStringAndSize(<char *>r.inline_bytes, r.bytes)
        elif kind in (KIND_VALUE, KIND_VALUE_PICKLE, KIND_ERROR, KIND_START_ERROR, KIND_PART):
            return self.adopt_block(w, r, kind, loan)
        raise RuntimeError(f"worker {w} sent a result of an unknown kind")

    cdef object adopt_block(self, uint32_t w, rp_result *r, uint32_t kind, Loan *loan):
        """adopt() of a result that lies in a block."""
        cdef ArenaResult result = ArenaResult()
        cdef const unsigned char *p
        disown(result)
        result.memory = self
        result.n = r.bytes
        block = self.new_block(w, r.offset, r.bytes) if loan.bytes == 0 else self.lent_block(w, r.bytes, loan)
        p = (<Block>block).at()
        if p == NULL:
            raise no_address(&self.segment.pool.segment, r.bytes)
        if kind == KIND_VALUE_PICKLE and r.bytes and read_once8(p) == RP_SPREAD:
            result.views = self.new_views(w, block, r.bytes, &result.pickle_at)
        result.block = block
        self.segment.lock.acquire()
        result.next = self.stored
        if self.stored != NULL:
            (<ArenaResult>self.stored).prev = <ArenaResult_p>result
        self.stored = <ArenaResult_p>result
        self.segment.lock.release()
        return result if kind != KIND_START_ERROR else result.bytes()

    cdef Block new_block(self, uint32_t w, uint64_t offset, uint64_t n):
        if not rp_pool_within(&self.segment.pool, self.segment.pool.arena_of[w], offset, n):
            raise RuntimeError(f"worker {w} sent a result that lies outside its memory")
        return self.block_in(self.segment.pool.arena_of[w], offset, n)

    cdef Block lent_block(self, uint32_t w, uint64_t n, Loan *loan):
        """A loan becomes the block of a result of n bytes, and of what these lead to."""
        cdef Block block
        if n > loan.bytes:
            raise RuntimeError(f"worker {w} sent a result that lies outside its memory")
        block = self.block_in(self.overflow, loan.offset, loan.bytes)
        loan.bytes = 0
        return block

    cdef Block block_in(self, uint32_t arena, uint64_t offset, uint64_t n):
        cdef Block block = Block()
        disown(block)
        block.arena = arena
        block.offset = offset
        block.n = n
        self.segment.lock.acquire()
        block.next = self.blocks_here
        if self.blocks_here != NULL:
            (<Block>self.blocks_here).prev = <Block_p>block
        self.blocks_here = <Block_p>block
        self.arenas[arena].blocks += 1
        self.segment.hold()
        self.segment.lock.release()
        block.memory = self
        return block

    cdef void count_used(self, uint32_t arena, int n) noexcept:
        """Objects use n more of its buffers in place, or fewer."""
        self.segment.lock.acquire()
        self.arenas[arena].used += n
        self.segment.lock.release()

    cdef list new_views(self, uint32_t w, Block head, uint64_t n, uint64_t *pickle_at):
        """The buffers of a parcel that is spread."""
        cdef Entry entries[MAX_BUFFERS]
        cdef ResultView view
        cdef uint32_t k
        cdef uint64_t at
        cdef list views = []
        disown(views)
        for k in range(read_head(head.at(), n, entries, pickle_at)):
            if entries[k].offset & (LARGE_BUFFER - 1) or entries[k].size < LARGE_BUFFER:
                raise RuntimeError(f"worker {w} sent a result with buffers of an invalid size or alignment")
            view = ResultView()
            disown(view)
            if head.arena == self.overflow:
                at = entries[k].offset - head.offset  # wraps for an offset before it, and is refused with the rest
                if at > head.n or entries[k].size > head.n - at:
                    raise RuntimeError(f"worker {w} sent a result that lies outside its memory")
                view.block = head
                view.place(head.at() + at, entries[k].size, entries[k].readonly)
            else:
                view.block = self.new_block(w, entries[k].offset, entries[k].size)
                view.place(view.block.at(), entries[k].size, entries[k].readonly)
                if view.at == NULL:
                    raise no_address(&self.segment.pool.segment, entries[k].size)
            views.append(view)
        return views

    cdef list use_views(self, uint32_t arena, list views):
        """What a pickle's buffers are to be: the views, or copies, where they cannot stay."""
        cdef Block block
        cdef list buffers = []
        cdef bint can_stay = not is_forking() and self.can_stay(arena)
        for view in views:
            block = (<ResultView>view).block
            if (<View>view).used or (can_stay and rp_pool_may_hold(&self.segment.pool, arena, block.offset, block.n)):
                (<ResultView>view).use()
                buffers.append(PyMemoryView_FromObject(view))
            else:
                buffers.append(own_copy((<View>view).at, (<View>view).size, (<View>view).readonly))
        return buffers

    cdef bint can_stay(self, uint32_t arena) noexcept nogil:
        """May buffers in this arena be used in place? When its worker dies, it is lost to others until they are not used
        any more; so there must be another one then, for each that is used so."""
        cdef uint32_t i
        cdef int spare = 0
        if self.arenas[arena].owner == NO_WORKER or self.arenas[arena].used:
            return True
        for i in range(1, self.overflow):
            if self.arenas[i].owner == NO_WORKER:
                spare += self.arenas[i].blocks == 0
            else:
                spare -= self.arenas[i].used != 0
        return spare > 0

    cdef void remove(self, ArenaResult result) noexcept:
        """Nothing refers to it any more: it is not to be found among those that lie in arenas."""
        self.segment.lock.acquire()
        if result.block is not None:
            self.unlink(result)
        self.segment.lock.release()

    cdef void unlink(self, ArenaResult result) noexcept:
        """It lies in no arena any more. May be called of one whose last reference is gone, as long as it is in the list."""
        c_assert(self.segment.lock.is_held())
        if result.prev != NULL:
            (<ArenaResult>result.prev).next = result.next
        else:
            self.stored = result.next
        if result.next != NULL:
            (<ArenaResult>result.next).prev = result.prev
        result.prev = result.next = NULL

    cdef void return_to_owner(self, Block block) noexcept:
        """Gives back a block that is not used here any more: to its worker, or, if that is dead, to the system, or to the
        overflow."""
        cdef ArenaEntry *arena = &self.arenas[block.arena]
        self.segment.lock.acquire()
        if block.prev != NULL:
            (<Block>block.prev).next = block.next
        else:
            self.blocks_here = block.next
        if block.next != NULL:
            (<Block>block.next).prev = block.prev
        arena.blocks -= 1
        if self.segment.is_mapped():
            self.give_back(block, arena)
        self.segment.lock.release()
        self.segment.release()

    cdef void give_back(self, Block block, ArenaEntry *arena) noexcept:
        if arena.owner != NO_WORKER and self.segment.serves():
            self.return_block(arena.owner, block.offset)
        elif block.arena == self.overflow and self.segment.serves():
            rp_pool_end_loan(&self.segment.pool, block.offset)
            self.loans.serve_soon()
        elif arena.blocks == 0:
            rp_pool_clear(&self.segment.pool, self.begin_of(block.arena), self.segment.pool.sizes.arena_bytes)
        else:
            rp_pool_clear(&self.segment.pool, block.offset, whole_pages(block.n) if block.n > RP_PAGE // 2 else block.n)
        if arena.blocks == 0 and self.segment.pool.segment.mapped > self.trim_at:
            self.unmap_idle()

    cdef void unmap_idle(self) noexcept nogil:
        """Of the arenas of others of which no block is here, nothing is in use."""
        rp_segment_unmap_regions(&self.segment.pool.segment, arena_is_idle, self.arenas)
        self.trim_at = self.segment.pool.segment.mapped + RP_WINDOWS_KEEP

    cdef uint64_t begin_of(self, uint32_t arena) noexcept nogil:
        """Where an arena lies in the segment."""
        return self.segment.pool.arenas + arena * self.segment.pool.sizes.arena_bytes

    cdef clear_but_for_blocks(self, uint32_t arena):
        """Gives the memory of an arena back, whose worker is no more, but for the blocks that are here."""
        cdef uint64_t at = self.begin_of(arena), end = at + self.segment.pool.sizes.arena_bytes, n
        cdef Extent *taken = NULL
        cdef uint32_t room = 0, count, i
        while True:
            count = self.list_blocks(arena, taken, room)
            if count <= room:
                break
            PyMem_RawFree(taken)  # NULL the first time
            room = count
            taken = <Extent *>PyMem_RawMalloc(room * sizeof(Extent))
            if taken == NULL:
                raise MemoryError()
        sort_extents(taken, count)
        for i in range(count + 1):
            n = taken[i].offset if i < count else end
            if n > at:
                rp_pool_clear(&self.segment.pool, at, n - at)
            if i < count:
                at = max(at, taken[i].offset + taken[i].n)
        PyMem_RawFree(taken)

    cdef uint32_t list_blocks(self, uint32_t arena, Extent *taken, uint32_t room) noexcept:
        """Where the blocks of an arena lie that are here. How many there are, which may be more than there is room for."""
        cdef uint32_t count = 0
        cdef Block_p p
        self.segment.lock.acquire()
        p = self.blocks_here
        while p != NULL:
            if (<Block>p).arena == arena:
                if count < room:
                    taken[count].offset = (<Block>p).offset
                    taken[count].n = (<Block>p).n
                count += 1
            p = (<Block>p).next
        self.segment.lock.release()
        return count

    cdef clear_all(self):
        """The pool is done: gives the memory of all arenas back, but for the blocks that are here."""
        cdef uint32_t arena
        for arena in range(self.n_arenas):
            if self.segment.is_mapped():
                self.clear_but_for_blocks(arena)

    cdef void return_block(self, uint32_t w, uint64_t offset) noexcept:
        if self.segment.serves() and rp_pool_return_block(&self.segment.pool, w, offset):
            self.pending_returns[w].append(offset)

    cdef void flush_returns(self, uint32_t w) noexcept:
        cdef list waiting
        self.segment.lock.acquire()
        waiting = <list>self.pending_returns[w]
        while waiting and rp_pool_return_block(&self.segment.pool, w, waiting[len(waiting) - 1]) == 0:
            waiting.pop()
        self.segment.lock.release()

    # A result that is found in the list may have lost its last reference: then the thread that lets go of it waits for the
    # lock, to take it out. So no reference to it is taken; the memory for a copy is made first, and put in if all is as it was.

    cdef ArenaResult_p one_of(self, uint32_t w) noexcept nogil:
        """One that lies in worker w's arena; for NO_WORKER, the oldest in the overflow. NULL if there is none."""
        cdef ArenaResult_p p = self.stored, found = NULL
        cdef uint32_t arena
        while p != NULL:
            arena = (<ArenaResult>p).block.arena
            if w == NO_WORKER and arena == self.overflow:
                found = p
            elif w != NO_WORKER and self.arenas[arena].owner == w:
                return p
            p = (<ArenaResult>p).next
        return found

    cdef bint copy_out_one(self, uint32_t w) except -1:
        """Copies one_of() out. Whether there was one."""
        cdef ArenaResult_p p
        cdef uint64_t n
        cdef Py_ssize_t size
        while True:
            self.segment.lock.acquire()
            p = self.one_of(w)
            size = (<ArenaResult>p).size_here() if p != NULL else NOT_HERE
            n = (<ArenaResult>p).n if p != NULL else 0
            self.segment.lock.release()
            if size == NOT_HERE:
                return False
            if size == NO_ADDRESS:
                raise no_address(&self.segment.pool.segment, n)
            if self.put_copy(NULL, w, PyBytes_FromStringAndSize(NULL, size)):
                return True

    cdef bint put_copy(self, ArenaResult_p p, uint32_t w, bytes copy) noexcept:
        """Copies a result out, or if p is NULL one_of(w), into new bytes. False if these are not of its size, or it is out."""
        cdef PyObject *block = NULL
        cdef PyObject *views = NULL
        cdef bint fits
        self.segment.lock.acquire()
        if p == NULL:
            p = self.one_of(w)
        fits = p != NULL and (<ArenaResult>p).block is not None and (<ArenaResult>p).size_here() == PyBytes_GET_SIZE(copy)
        if fits:
            (<ArenaResult>p).copy_to(<unsigned char *>PyBytes_AS_STRING(copy))
            (<ArenaResult>p).copy = copy
            self.take_out(<ArenaResult>p, &block, &views)
        self.segment.lock.release()
        drop(block)
        drop(views)
        return fits

    cdef void take_out(self, ArenaResult result, PyObject **block, PyObject **views) noexcept:
        """It lies in no arena any more. Its references to what it lay in are the caller's, to drop without the lock."""
        self.unlink(result)
        block[0] = <PyObject *>result.block
        Py_INCREF(<object>block[0])
        result.block = None
        views[0] = <PyObject *>result.views
        Py_INCREF(<object>views[0])
        result.views = None

    cdef copy_out(self, uint32_t w):
        """Copies all results out of worker w's arena: its memory is wanted, or about to be another worker's."""
        while self.copy_out_one(w):
            pass

    cdef bint copy_out_of_overflow(self) except -1:
        """Copies the oldest result there out that has not been read. Whether there was one."""
        return self.copy_out_one(NO_WORKER)

    cdef void give_up_one(self, uint32_t w, object error) noexcept:
        """Gives up a result that cannot be copied, though its memory passes to another worker: reading it raises."""
        cdef PyObject *block = NULL
        cdef PyObject *views = NULL
        cdef ArenaResult_p p
        self.segment.lock.acquire()
        p = self.one_of(w)
        if p != NULL:
            (<ArenaResult>p).lost = error
            self.take_out(<ArenaResult>p, &block, &views)
        self.segment.lock.release()
        drop(block)
        drop(views)

    cdef vacate(self, uint32_t w):
        """Worker w has died. What has not been read is copied out of its arena. If objects use parts of it, these stay, and
        its successor gets another arena; else it gets this one, empty."""
        cdef uint32_t arena = self.segment.pool.arena_of[w], spare = 1
        while True:
            try:
                self.copy_out(w)
                break
            except MemoryError as error:
                self.give_up_one(w, error)
        if self.arenas[arena].used:
            while spare < self.overflow and (self.arenas[spare].owner != NO_WORKER or self.arenas[spare].blocks):
                spare += 1
            if spare == self.overflow:
                raise RuntimeError("no spare arena is left for a worker's successor")  # can_stay() has seen to one
            self.segment.lock.acquire()
            self.arenas[arena].owner = NO_WORKER
            self.arenas[spare].owner = w
            rp_pool_give_arena(&self.segment.pool, w, spare)
            self.segment.lock.release()
