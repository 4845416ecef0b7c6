# item_futures.pyx - see item_futures.pxd.


@cython.no_gc_clear  # it may still be asked for a future that is cleared with it
cdef class ItemFutures:
    """The futures of the items of one batch."""

    def __cinit__(self, Settlement settlement, Notifier notifier):
        self.settlement = settlement
        self.notifier = notifier
        self.futures = []

    cdef inline int append(self, FutureBase future) except -1:
        """The next item's."""
        self.futures.append(future)
        return 0

    cdef inline bint is_pending(self, uint64_t index) noexcept:
        cdef FutureBase future = <FutureBase>PyList_GET_ITEM(self.futures, index)
        return future is not None and future.state == PENDING

    cdef inline void settle(self, uint64_t index, int form, object value) noexcept:
        """Settles the future of an item that is pending; with FORM_NONE, as cancelled."""
        self.settlement.settle_item(<FutureBase>PyList_GET_ITEM(self.futures, index), form, value)

    cdef void cancel(self, FutureBase item) noexcept:
        """Cancels the pending future of an item that no worker has."""
        self.gaps = True
        self.settlement.settle_item(item, FORM_NONE, None)

    cdef void cancel_from(self, uint64_t begin, object failure) noexcept:
        """The items from there on will not be sent: their futures are cancelled, or raise what `failure` makes."""
        cdef uint64_t i, end = <uint64_t>PyList_GET_SIZE(self.futures)
        for i in range(begin, end):
            if self.is_pending(i):
                self.settle(i, FORM_NONE if failure is None else FORM_MADE, failure)
        self.drop(begin, end)

    cdef void drop(self, uint64_t begin, uint64_t end) noexcept:
        """These items are done. To let go of their futures may run user code: that is done later, or with the batch."""
        self.notifier.defer(self.futures, begin, end)
