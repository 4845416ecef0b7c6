# buffers.pxd - memory, as picklers and memoryviews are to see it.
#
# Two things that no class of Python's can offer before 3.12: see pickling.py, which uses them. Guarantees that what they hold
# stays as long as they do. Does not copy. User code may run in both, if the memory is of a class written in Python.

@cython.final
cdef class Received:
    cdef Py_buffer memory

@cython.final
cdef class Formatted:
    cdef Py_buffer memory
    cdef bytes format
    cdef Py_ssize_t itemsize
    cdef int ndim
    cdef Py_ssize_t shape[PyBUF_MAX_NDIM]
    cdef Py_ssize_t strides[PyBUF_MAX_NDIM]
