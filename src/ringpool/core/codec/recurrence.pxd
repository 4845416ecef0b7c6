# recurrence.pxd - what an encoder has met in a value.
#
# A list, dict, bytearray or array that stands in a value twice must be one object at the receiver: the compact form, which has
# no memo, cannot say so. A string or a tuple may stand there twice, but not so often that a pickle would be much shorter.
# Guarantees that the first is always found, and the second once it has taken more than MAX_AGAIN bytes. Does not find a string
# that only one container refers to. No function runs user code.
#
# A Seen belongs to one call. The Tally that it may point to is one, of 16 KB: no two values are put at a time while the GIL is
# held from begin_seen() to the end of the value. Without a GIL there is one a thread.

cdef enum:
    MAX_MUTABLE = 16  # lists, dicts, bytearrays and arrays in it: each is compared with those before it
    LEAST_NOTED = 16  # bytes of a form. A pickle takes two to five for what recurs, so at most eight times as many do here
    MAX_AGAIN = 1024  # bytes of a form that stand for what stands before: with fewer, it is done sooner than a pickle
    NOTES_BITS = 10
    NOTES = 1024      # places for what is noted. A value with more than half as many of that is a pickle

cdef extern from *:
    """
    struct Note {
        uint64_t value;
        PyObject *object;
    };

    struct Tally {
        uint64_t value;
        uint32_t noted;
        Py_ssize_t again;
        struct Note notes[1024];
    };

    #ifdef Py_GIL_DISABLED
    static _Thread_local struct Tally tally_here;
    #else
    static struct Tally tally_here; /* guarded by the GIL */
    #endif
    """
    struct Note:
        uint64_t value
        PyObject *object

    struct Tally:            # of strings, tuples and so on that may recur in a value
        uint64_t value       # the number of the value. An entry with another number is of an earlier one, and free
        uint32_t noted
        Py_ssize_t again     # bytes so far that stand for what stands before; in a tuple that does, some count more than once
        Note *notes          # hashed by the address of the object: NOTES places

    Tally tally_here         # of the value that is being put

cdef struct Seen:        # of a value, while it is put
    uint32_t count
    PyObject *each[MAX_MUTABLE]  # lists, dicts, bytearrays and arrays
    Tally *tally         # or NULL: nothing that recurs is looked for

# quiet:
cdef void begin_seen(Seen *seen, bint tallied) noexcept
cdef bint tally(Seen *seen, object o, Py_ssize_t n, int held) noexcept
cdef bint note_mutable(Seen *seen, PyObject *o) noexcept
