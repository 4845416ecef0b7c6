# chunk.pxd - a chunk that runs: its items one by one, their results in the tray.
#
# For: the loop. How the parent and the worker share the items, and what is found of them if the worker dies: see "Chunks" in
# chunk.h.
# Guarantees: each item that is claimed is answered, in order: with its result, its error, or what is wrong with the chunk. Each
# is a call of its own, armed and disarmed. The function is loaded within the first that is called, to whose account it goes if
# it hangs or kills the worker. Nothing of the chunk is kept when run() has returned.
# Does not: retry, or know of items that the parent has taken away.
# May run user code: run().

cdef struct Items:  # the records of a chunk that are still to be read; written by the parent, each word is looked at once
    const uint8_t *cursor
    const uint8_t *end
    const uint8_t *function   # its pickle,
    uint32_t function_bytes   # 0: the slot names it
    uint32_t count            # items, as the chunk says

cdef struct Record:  # of an item
    const uint8_t *at
    uint64_t bytes
    uint32_t kind

@cython.final
cdef class ChunkRunner:
    cdef WorkerHold hold   # keeps the pool
    cdef rp_worker *pool
    cdef Arguments arguments
    cdef Callables callables
    cdef Call call
    cdef Tray tray
    cdef Items items
    cdef object function   # None until it is loaded
    cdef bytes failure     # the error of every item from here on; or None
    # open:
    cdef int run(self, rp_slot *task) except -1
    cdef int begin(self, rp_slot *task) except -1
    cdef int call_item(self, rp_slot *task, Record *record) except -1
    cdef int load(self, rp_slot *task) except -1
