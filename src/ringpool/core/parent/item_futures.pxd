# item_futures.pxd - the futures of the items of submit_many.
#
# Guarantees: a future is settled once; each is here until its item's chunk is done or will not be sent. `gaps` is set before
# the first item is cancelled on its own, and says that a worker may be sent less than what is in the pages.
# Not: which chunk an item is in, and its memory, are the batch's.
#
# quiet: all functions. Those that are declared to raise make objects, and raise MemoryError.

@cython.final
cdef class ItemFutures:
    cdef Settlement settlement
    cdef Notifier notifier
    cdef list futures  # by the item's index; None once its chunk is done
    cdef bint gaps     # some items have been cancelled on their own
    # quiet:
    cdef inline bint is_pending(self, uint64_t index) noexcept
    cdef inline void settle(self, uint64_t index, int form, object value) noexcept
    cdef void cancel(self, FutureBase item) noexcept
    cdef void cancel_from(self, uint64_t begin, object failure) noexcept
    cdef void drop(self, uint64_t begin, uint64_t end) noexcept
    # open:
    cdef inline int append(self, FutureBase future) except -1
