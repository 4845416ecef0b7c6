# pickles.pxd - values that have no compact form: pickles (protocol 5) that honour the reducers multiprocessing knows, and where
# pickle fails, cloudpickle's.
#
# Guarantees: what the user has registered goes before what ringpool does with memory; where both picklers fail, the error is
# the one that says why. A pickle that leaves out large buffers is a Parcel. Does not ask whether a value has a compact form,
# but in encode(). What needs no speed is in pickling.py. User code may run in every function but joined().

cdef enum:
    UNMEASURED = -3      # none of compact_size()'s

# open:
cdef object encode(object o, int *kind, Parcel parcel=*, Py_ssize_t size=*)
cdef object pack(object o, Parcel parcel=*, object scope=*)
cdef bytes joined(object data)
cdef object loads_at(const unsigned char *p, Py_ssize_t n)
cdef bytes cloudpickle_dumps(object o, Parcel parcel=*, object scope=*)
cdef object decode_error(object data)
cdef object pickling()
