# callables.pyx - see callables.pxd.

cdef enum:
    MAX_CALLABLES = 512  # kept decoded; arbitrary


@cython.no_gc_clear  # while user code runs that is cleared with it, the worker goes on
cdef class Callables:
    """The functions that tasks name by number."""

    def __cinit__(self, WorkerHold hold):
        self.hold = hold
        self.known = {}

    cdef object find(self, rp_slot *task):
        """The function that a task names."""
        cdef const uint8_t *at
        cdef bint named = task.kind & KIND_NAMED
        known = self.known.get(task.fn_id)
        if known is None:
            at = self.hold.of_parent(task.fn_offset, task.fn_bytes)
            known = pickle.loads(PyMemoryView_FromMemory(<char *>at, task.fn_bytes, PyBUF_READ))
            if named:
                known = known[0], tuple(known[1].split("."))
            if len(self.known) >= MAX_CALLABLES:
                self.known.clear()
            self.known[task.fn_id] = known
        if not named:
            return known.resolve(known) if type(known) is Callee else known
        module, path = <tuple>known
        found = sys.modules.get(module)
        if found is None:
            __import__(module)
            found = sys.modules[module]
        for name in <tuple>path:
            found = getattr(found, name)
        return found
