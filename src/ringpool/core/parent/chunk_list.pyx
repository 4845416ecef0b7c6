# chunk_list.pyx - see chunk_list.pxd.


@cython.no_gc_clear  # an iterator that is cleared with it may still take chunks out
cdef class ChunkList:
    """The chunks of a batch, in the order of their items."""

    cdef int read_unordered(self) except -1:
        """The results are read as they come."""
        self.completed = deque()
        return 0

    cdef bint check(self) noexcept:
        """For the debug build: the first chunks are in the order of their items, of which none is in two."""
        cdef Chunk chunk = self.first
        cdef int k
        if (self.first is None) != (self.last is None) or (self.last is not None and self.last.after is not None):
            return False
        for k in range(64):  # enough to see a fault at the front, where chunks leave
            if chunk is None or chunk.after is None:
                return chunk is self.last
            if chunk.after.index < chunk.index + chunk.n:
                return False
            chunk = chunk.after
        return True

    cdef bint is_unordered(self) noexcept:
        return self.completed is not None

    cdef bint is_empty(self) noexcept:
        return self.first is None

    cdef void append(self, Chunk chunk) noexcept:
        """Its items follow all others."""
        if self.last is None:
            self.first = chunk
        else:
            self.last.link_next(chunk)
        self.last = chunk

    cdef void insert(self, Chunk rest, Chunk chunk) noexcept:
        """The items of `rest` were the last of `chunk`."""
        chunk.link_next(rest)
        if self.last is chunk:
            self.last = rest

    cdef Chunk find(self, uint64_t index):
        """The chunk that the item is in, or None."""
        cdef Chunk chunk = self.first
        while chunk is not None and not chunk.index <= index < chunk.index + chunk.n:
            chunk = chunk.after
        return chunk

    cdef void remove(self, Chunk chunk) noexcept:
        """Takes it out, if it is there. The caller holds a reference."""
        cdef Chunk before = None, at = self.first
        while at is not chunk:
            if at is None:
                return
            before = at
            at = at.after
        if before is None:
            self.first = chunk.unlink()
        else:
            before.unlink_next()
        if self.last is chunk:
            self.last = before

    cdef Chunk pop(self):
        """Takes the first out. There is one."""
        cdef Chunk chunk = self.first
        self.first = chunk.unlink()  # or a list of a million, freed by its head, would free the second within the first
        if self.first is None:
            self.last = None
        return chunk

    cdef Chunk pop_completed(self):
        """Takes out the first of those that are done and not read, if results are read as they come; None if there is none."""
        return self.completed.popleft() if self.completed else None

    cdef bint announce(self, FutureBase awaited) noexcept:
        """The reader will wait for this future, which is settled when a chunk is done.

        Returns:
            False if one has been done since it looked.
        """
        self.awaited = awaited
        return not self.completed

    cdef bint chunk_done(self, Chunk chunk) noexcept:
        """It is settled.

        Returns:
            False if it has no results, and the reader is to learn that after all that there are.
        """
        cdef bint finished = chunk.state == FINISHED
        if self.unread:
            self.remove(chunk)
        elif self.completed is not None:
            self.remove(chunk)
            if finished:
                self.completed.append(chunk)
            self.wake_reader()
            return finished
        return True

    cdef void wake_reader(self) noexcept:
        """If it waits for a chunk that is done, it looks again."""
        cdef FutureBase awaited = self.awaited
        if awaited is not None:
            self.awaited = None
            awaited.settle(FORM_RESULT, None)
            self.notifier.lock_and_notify(awaited, False)

    cdef void detach_reader(self) noexcept:
        """The results will not be read: only chunks that are pending stay, until they are done."""
        cdef Chunk chunk = self.first
        cdef Chunk after
        self.unread = True
        self.completed = None
        self.first = self.last = None
        while chunk is not None:
            after = chunk.unlink()
            if chunk.state == PENDING:
                self.append(chunk)
            chunk = after
cdef ChunkList new_chunk_list(Notifier notifier):
    cdef ChunkList chunks = ChunkList.__new__(ChunkList)
    chunks.notifier = notifier
    return chunks
