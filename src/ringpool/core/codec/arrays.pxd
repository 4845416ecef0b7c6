# arrays.pxd - the compact form of NumPy's arrays and numbers, of types that have no reference to anything else.
#
# Guarantees that NumPy is not imported, unless learn_numpy(True) asks for it: a program that does not use it pays nothing. Does
# not: take arrays larger than MAX_ARRAY, or not contiguous: those are better used where they lie, and go as parcels.
# User code may run in learn_numpy() alone, which decode_array() calls if it may: what is imported under NumPy's name may be
# anything.

cdef enum:
    MAX_ARRAY = 65536 # bytes of an array: a larger one is better used where it lies
    MAX_DIMENSIONS = 32

# What a function that puts a value gives, if not how many bytes it has put.
cdef enum:
    NO_FORM = -1      # the value has no compact form
    NO_ROOM = -2      # what it has so far has one, of more bytes than there is room for

# quiet:
cdef bint is_array(object o) noexcept
cdef Py_ssize_t number_code(object o) noexcept   # of a number; -1 if o is none
cdef Py_ssize_t encode_array(unsigned char *p, Py_ssize_t room, object o, Seen *seen, Stream *out) noexcept
cdef Py_ssize_t encode_number(unsigned char *p, Py_ssize_t room, object o, Py_ssize_t code, Seen *seen) noexcept
cdef object numpy_array_type()                   # None while the program does not use NumPy
# open; runs no user code while no garbage is collected, unless it `imports`:
cdef object decode_array(const unsigned char **at, Py_ssize_t left, int tag, Stream *source, bint imports)
# open:
cdef object learn_numpy(bint imports=*)
