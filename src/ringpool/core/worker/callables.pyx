# callables.pyx - see callables.pxd.

cdef enum:
    MAX_CALLABLES = 512  # kept decoded; arbitrary

cdef dict _sys = sys.__dict__


cdef inline object module_named(object name):
    """sys.modules.get(name), in a third of the instructions."""
    modules = _sys["modules"]
    return (<dict>modules).get(name) if PyDict_CheckExact(modules) else modules.get(name)


cdef inline object attribute(object o, object name):
    """getattr(o, name), which for a module first looks through what all modules have: 150 instructions."""
    if PyModule_CheckExact(o):
        found = (<dict>PyModule_GetDict(o)).get(name)
        if found is not None:
            return found
    return getattr(o, name)


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
                # Interned, as the keys of the dicts are in which they are looked up: found without a comparison.
                known = sys.intern(known[0]), tuple([sys.intern(name) for name in known[1].split(".")])
            if len(self.known) >= MAX_CALLABLES:
                self.known.clear()
            self.known[task.fn_id] = known
        if not named:
            return known.resolve(known) if type(known) is Callee else known
        module, path = <tuple>known
        found = module_named(module)
        if found is None:
            __import__(module)
            found = sys.modules[module]
        for name in <tuple>path:
            found = attribute(found, name)
        return found
