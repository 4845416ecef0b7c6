# herald.pxd - for programs whose threads are greenlets.

@cython.final
cdef class Herald:
    cdef Client client
    cdef rp_herald herald
    cdef int maker  # the process that has the thread; 0: none
