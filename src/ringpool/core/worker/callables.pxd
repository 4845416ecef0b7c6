# callables.pxd - the functions that tasks name by number.
#
# For: the call. Each is unpickled at the first task that names it, and kept.
# Guarantees: one that goes by name is looked up at each call, so a name that this process has bound to something else since
# means what it says.
# Does not: keep more than MAX_CALLABLES; beyond that all are forgotten, and unpickled again as they are named.
# May run user code: find().

cdef extern from "Python.h":
    bint PyModule_CheckExact(object o)
    PyObject *PyModule_GetDict(object module)

@cython.final
cdef class Callables:
    cdef WorkerHold hold
    cdef dict known  # function id -> the callable, or (module, qualified name as a tuple)
    # open:
    cdef object find(self, rp_slot *task)
