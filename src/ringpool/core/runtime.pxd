# runtime.pxd - what the parts call of CPython and of the C library, and a few lines of C.
#
# Declarations and macros; no state. No garbage is collected between hold_gc() and let_gc(). That does not keep user code from
# running there: to drop the last reference to an object runs its __del__. May run user code: PyObject_Vectorcall(),
# PyObject_GetBuffer() and PyBuffer_Release() of a class written in Python.

from cpython.bytearray cimport (
    PyByteArray_AS_STRING, PyByteArray_CheckExact, PyByteArray_FromStringAndSize, PyByteArray_GET_SIZE)
from cpython.buffer cimport (
    PyBUF_ANY_CONTIGUOUS, PyBUF_F_CONTIGUOUS, PyBUF_FORMAT, PyBUF_MAX_NDIM, PyBUF_ND, PyBUF_SIMPLE, PyBUF_STRIDES,
    PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_IsContiguous, PyBuffer_Release, PyObject_GetBuffer)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_CheckExact, PyDict_Next, PyDict_Size
from cpython.exc cimport PyErr_CheckSignals
from cpython.float cimport PyFloat_AS_DOUBLE, PyFloat_CheckExact, PyFloat_FromDouble
from cpython.list cimport PyList_CheckExact, PyList_GET_ITEM, PyList_GET_SIZE, PyList_SET_ITEM
from cpython.long cimport PyLong_CheckExact, PyLong_FromLongLong
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree, PyMem_RawMalloc, PyMem_RawRealloc
from cpython.memoryview cimport PyMemoryView_FromMemory, PyMemoryView_FromObject
from cpython.object cimport Py_TYPE, PyObject, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.sequence cimport PySequence_Fast_GET_ITEM, PySequence_Fast_GET_SIZE
from cpython.tuple cimport PyTuple_CheckExact, PyTuple_GET_ITEM, PyTuple_GET_SIZE, PyTuple_New, PyTuple_SET_ITEM
from libc.errno cimport EAGAIN, EBADF, EINTR, ENOMEM
from libc.stdint cimport UINT32_MAX, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport qsort
from libc.string cimport memcpy, memset
from posix.unistd cimport close as close_fd, getpid

cdef extern from "assert.h":
    void c_assert "assert"(bint holds) nogil  # nothing, but in the debug build

cdef extern from "Python.h":
    enum: PyBUF_READ
    unsigned long PyThread_get_thread_ident()
    Py_ssize_t Py_REFCNT(PyObject *o)
    int PyException_SetTraceback(object exc, object traceback) except -1
    long long PyLong_AsLongLongAndOverflow(object o, int *overflow)
    bint PyUnicode_CheckExact(object o)
    Py_ssize_t PyUnicode_GET_LENGTH(object o)
    int PyUnicode_KIND(object o)
    void *PyUnicode_DATA(object o)
    void PyOS_BeforeFork()
    void PyOS_AfterFork_Parent()
    void PyOS_AfterFork_Child()
    bint PyUnicode_IS_ASCII(object o)
    object PyUnicode_New(Py_ssize_t n, uint32_t most)
    Py_ssize_t PY_SSIZE_T_MAX
    object PyObject_Vectorcall(object fn, PyObject *const *args, size_t n, PyObject *names)

cdef extern from "assert.h":
    void c_assert "assert"(bint holds) nogil  # nothing, but in the debug build

# Before 3.12, any creation of an object may collect garbage, and so run any object's __del__. Later, only Python code does.
cdef extern from *:
    """
    #if PY_VERSION_HEX < 0x030C0000
    #define hold_gc() PyGC_Disable()
    #define let_gc(was) ((was) ? (void)PyGC_Enable() : (void)0)
    #else
    #define hold_gc() 0
    #define let_gc(was) ((void)(was))
    #endif
    """
    int hold_gc()
    void let_gc(int was)

cdef extern from *:
    """
    /* Are these characters such as CPython keeps in strings of this kind, and in no narrower one? */
    static int is_canonical(const void *data, Py_ssize_t n, int code)
    {
        uint32_t all = 0, most = 0;
        Py_ssize_t i;
        if (code <= 1)
            for (i = 0; i < n; i++)
                all |= ((const uint8_t *)data)[i];
        else if (code == 2)
            for (i = 0; i < n; i++)
                all |= ((const uint16_t *)data)[i];
        else
            for (i = 0; i < n; i++) {
                uint32_t c = ((const uint32_t *)data)[i];
                all |= c;
                most = c > most ? c : most;
            }
        return code == 0 ? all < 0x80 : code == 1 ? all >= 0x80 : code == 2 ? all >= 0x100 : all >= 0x10000 && most <= 0x10ffff;
    }
    """
    bint is_canonical(const void *data, Py_ssize_t n, int code) nogil

cdef inline uint64_t whole_pages(uint64_t n) noexcept nogil:
    return (n + RP_PAGE - 1) & ~(RP_PAGE - 1)
