# recurrence.pyx - what has been met in a value: what must be one object at the receiver, and what stands there too often.

cdef enum:
    MAX_MUTABLE = 16  # lists, dicts, bytearrays and arrays in it: each is compared with those before it
    LEAST_NOTED = 16  # bytes of a form. A pickle takes two to five for what recurs, so at most eight times as many do here
    MAX_AGAIN = 1024  # bytes of a form that stand for what stands before: with fewer, it is done sooner than a pickle
    NOTES_BITS = 10
    NOTES = 1024      # places for what is noted. A value with more than half as many of that is a pickle


cdef struct Sharing:  # of shared objects, while arguments are encoded
    PyObject *client  # whose there may be among them
    PyObject *shared  # the one that is, or NULL

cdef struct Note:
    uint64_t value
    PyObject *object

cdef struct Tally:       # of strings, tuples and so on that may recur in a value
    uint64_t value       # the number of the value. An entry with another number is of an earlier one, and free
    uint32_t noted
    Py_ssize_t again     # bytes so far that stand for what stands before; in a tuple that does, some count more than once
    Note notes[NOTES]    # hashed by the address of the object

cdef Tally _tally        # of the value that is being put: no two are at a time

cdef struct Seen:        # of a value, while it is put
    uint32_t n
    PyObject *each[MAX_MUTABLE]  # lists, dicts, bytearrays and arrays
    Tally *tally         # or NULL: nothing that recurs is looked for
    Sharing sharing


cdef inline bint tally(Seen *seen, object o, Py_ssize_t n) noexcept:
    """Looks whether o, whose form takes n bytes, stands before in the value: not if only one container refers to it. False if
    too much of the form stands there twice."""
    return n < LEAST_NOTED or seen.tally == NULL or Py_REFCNT(<PyObject *>o) == 1 or note(seen.tally, <PyObject *>o, n)


cdef bint note(Tally *tally, PyObject *o, Py_ssize_t n) noexcept:
    """Notes o. False if the value is better a pickle: too much recurs, or there is too much to note."""
    cdef uint64_t i = (<uint64_t>o >> 4) * <uint64_t>0x9e3779b97f4a7c15 >> (64 - NOTES_BITS)
    while tally.notes[i].value == tally.value:
        if tally.notes[i].object == o:
            tally.again += n
            return tally.again <= MAX_AGAIN
        i = (i + 1) & (NOTES - 1)
    if tally.noted == NOTES // 2:
        return False
    tally.notes[i].value = tally.value
    tally.notes[i].object = o
    tally.noted += 1
    return True


cdef bint see(Seen *seen, PyObject *o) noexcept:
    """Notes a list or dict; False if it has been seen before, or there are too many."""
    cdef uint32_t i
    for i in range(seen.n):
        if seen.each[i] == o:
            return False
    if seen.n == MAX_MUTABLE:
        return False
    seen.each[seen.n] = o
    seen.n += 1
    return True
