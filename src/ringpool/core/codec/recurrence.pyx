# recurrence.pyx - what an encoder has met in a value: see recurrence.pxd.

cdef inline Tally *begin_tally() noexcept:
    """The Tally, for the value that begins."""
    tally_here.value += 1
    tally_here.noted = 0
    tally_here.again = 0
    return &tally_here


cdef inline void begin_seen(Seen *seen, bint tallied) noexcept:
    """A value begins."""
    seen.count = 0
    seen.tally = begin_tally() if tallied else NULL


cdef inline bint tally(Seen *seen, object o, Py_ssize_t n, int held) noexcept:
    """Looks whether o, whose form takes n bytes, stands before in the value: not if only one container refers to it, besides
    `held` references of the encoder's. False if too much of the form stands there twice."""
    return n < LEAST_NOTED or seen.tally == NULL or Py_REFCNT(<PyObject *>o) == 1 + held or note(seen.tally, <PyObject *>o, n)


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


cdef bint note_mutable(Seen *seen, PyObject *o) noexcept:
    """Notes a list or dict; False if it has been seen before, or there are too many."""
    cdef uint32_t i
    for i in range(seen.count):
        if seen.each[i] == o:
            return False
    if seen.count == MAX_MUTABLE:
        return False
    seen.each[seen.count] = o
    seen.count += 1
    return True
