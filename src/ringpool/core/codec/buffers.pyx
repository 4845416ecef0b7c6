# buffers.pyx - memory, as picklers and memoryviews are to see it: see buffers.pxd.

@cython.no_gc
cdef class Received:
    """Memory as it will be at its receiver, which owns it: writable, though here it may not be. Only for picklers, which
    read it: from a PickleBuffer of read-only memory they would have the receiver make read-only memory."""

    def __cinit__(self, memory):
        PyObject_GetBuffer(memory, &self.memory, PyBUF_ANY_CONTIGUOUS)

    def __getbuffer__(self, Py_buffer *view, int flags):
        PyBuffer_FillInfo(view, self, self.memory.buf, self.memory.len, False, flags)

    def __dealloc__(self):
        PyBuffer_Release(&self.memory)


@cython.no_gc
cdef class Formatted:
    """Memory as elements of any format, in any shape, of which cast() makes only some."""

    def __cinit__(self, memory, str format, Py_ssize_t itemsize, tuple shape):
        cdef Py_ssize_t size = itemsize, n
        cdef int k
        if len(shape) > PyBUF_MAX_NDIM or itemsize < 0:
            raise ValueError("a memoryview has an invalid shape")
        self.format = format.encode()
        self.itemsize = itemsize
        self.ndim = <int>len(shape)
        for k in range(self.ndim - 1, -1, -1):
            n = shape[k]
            if n < 0 or (n and size > PY_SSIZE_T_MAX // n):
                raise ValueError("a memoryview has an invalid shape")
            self.shape[k] = n
            self.strides[k] = size
            size *= n
        PyObject_GetBuffer(memory, &self.memory, PyBUF_SIMPLE)
        if size != self.memory.len:
            raise ValueError("the size of a memoryview does not match its shape")

    def __getbuffer__(self, Py_buffer *view, int flags):
        if flags & PyBUF_WRITABLE and self.memory.readonly:
            raise BufferError("the memory is read-only")
        if flags & PyBUF_F_CONTIGUOUS == PyBUF_F_CONTIGUOUS and self.ndim > 1:
            raise BufferError("the memory is in C order, not in Fortran order")
        view.obj = self
        view.buf = self.memory.buf
        view.len = self.memory.len
        view.readonly = self.memory.readonly
        view.itemsize = self.itemsize
        view.format = <char *>self.format if flags & PyBUF_FORMAT else NULL
        view.ndim = self.ndim if flags & PyBUF_ND else 1
        view.shape = self.shape if flags & PyBUF_ND and self.ndim else NULL
        view.strides = self.strides if flags & PyBUF_STRIDES == PyBUF_STRIDES and self.ndim else NULL
        view.suboffsets = NULL
        view.internal = NULL

    def __dealloc__(self):
        PyBuffer_Release(&self.memory)


def memoryview_of(buffer, str format, Py_ssize_t itemsize, tuple shape):
    """What a memoryview is in a pickle: a view of the receiver's own memory, with the elements in C's order."""
    view = memoryview(buffer)
    if view.nbytes:  # cast() takes no dimension of 0
        try:
            return view.cast(format, shape)
        except ValueError:  # nor a format but those of the machine's own numbers
            pass
    return memoryview(Formatted(view, format, itemsize, shape))
