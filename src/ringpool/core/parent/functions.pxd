# functions.pxd - the functions that tasks call, each encoded once.
#
# FunctionTable:
# 1. An entry's block stays as long as the entry; tasks that name it hold the entry.
# 2. A function by value is sent again when what it refers to has changed.
# 3. All but new_entry() and hold() may run user code.

cdef enum:
    MAX_FUNCTIONS = 65536  # by reference; more are pickled each time
    MAX_DYNAMIC = 128      # by value

@cython.final
cdef class FunctionEntry:
    cdef Segment segment
    cdef uint32_t id
    cdef uint32_t n
    cdef uint64_t block
    cdef bint named        # the block holds its name
    cdef dict namespace    # of its module, and its name there, if it is a plain one
    cdef object name
    cdef object fingerprint
    cdef object handles    # blocks that this one names

@cython.final
cdef class FunctionTable:
    cdef Segment segment
    cdef dict by_name             # callable -> FunctionEntry
    cdef object by_value          # callable -> FunctionEntry, the latest used last
    cdef uint32_t count
    cdef readonly object session  # what workers know of a __main__ that cannot be imported, or None
    # open:
    cdef FunctionEntry entry_at_once(self, object fn)
    cdef FunctionEntry entry_of(self, object fn)
    cdef FunctionEntry look_up(self, object fn)
    cdef FunctionEntry find_by_value(self, object fn, FunctionEntry used)
    cdef put_by_value(self, object fn, FunctionEntry entry)
    cdef object take_by_value(self)
    cdef FunctionEntry new_entry(self, bytes data)
    cdef object scope(self)
    cdef clear(self)
