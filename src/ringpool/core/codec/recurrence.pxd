# recurrence.pxd - what an encoder has met in a value.
#
# A list, dict, bytearray or array that stands in a value twice must be one object at the receiver: the compact form, which has
# no memo, cannot say so. A string or a tuple may stand there twice, but not so often that a pickle would be much shorter.
# Guarantees that the first is always found, and the second once it has taken more than MAX_AGAIN bytes. Does not find a string
# that only one container refers to. No function runs user code.
#
# A Seen belongs to one call. The Tally that it may point to is one, of 16 KB, in recurrence.pyx: no two values are put at a
# time while the GIL is held from begin_seen() to the end of the value. Without a GIL it has to be one a thread.

cdef enum:
    MAX_MUTABLE = 16  # lists, dicts, bytearrays and arrays in it: each is compared with those before it
    LEAST_NOTED = 16  # bytes of a form. A pickle takes two to five for what recurs, so at most eight times as many do here
    MAX_AGAIN = 1024  # bytes of a form that stand for what stands before: with fewer, it is done sooner than a pickle
    NOTES_BITS = 10
    NOTES = 1024      # places for what is noted. A value with more than half as many of that is a pickle

cdef struct Note:
    uint64_t value
    PyObject *object

cdef struct Tally:       # of strings, tuples and so on that may recur in a value
    uint64_t value       # the number of the value. An entry with another number is of an earlier one, and free
    uint32_t noted
    Py_ssize_t again     # bytes so far that stand for what stands before; in a tuple that does, some count more than once
    Note notes[NOTES]    # hashed by the address of the object

cdef struct Seen:        # of a value, while it is put
    uint32_t count
    PyObject *each[MAX_MUTABLE]  # lists, dicts, bytearrays and arrays
    Tally *tally         # or NULL: nothing that recurs is looked for

# quiet:
cdef void begin_seen(Seen *seen, bint tallied) noexcept
cdef bint tally(Seen *seen, object o, Py_ssize_t n) noexcept
cdef bint note_mutable(Seen *seen, PyObject *o) noexcept
