/* Lets an allocation of Python fail in one thread, which _testcapi.set_nomemory() does in whichever allocates next.
 * What is installed by the first call stays: each thread counts for itself, and one that has none to fail passes on. */
#include <Python.h>

static PyMemAllocatorEx under[3];
static const PyMemAllocatorDomain domains[3] = {PYMEM_DOMAIN_RAW, PYMEM_DOMAIN_MEM, PYMEM_DOMAIN_OBJ};
static _Thread_local long left; /* allocations until the one that fails; 0: none will */

static int fails(void)
{
	return left && !--left;
}

static void *allocate(void *ctx, size_t size)
{
	PyMemAllocatorEx *next = ctx;
	return fails() ? NULL : next->malloc(next->ctx, size);
}

static void *allocate_zeroed(void *ctx, size_t n, size_t size)
{
	PyMemAllocatorEx *next = ctx;
	return fails() ? NULL : next->calloc(next->ctx, n, size);
}

static void *reallocate(void *ctx, void *old, size_t size)
{
	PyMemAllocatorEx *next = ctx;
	return fails() ? NULL : next->realloc(next->ctx, old, size);
}

static void release(void *ctx, void *old)
{
	PyMemAllocatorEx *next = ctx;
	next->free(next->ctx, old);
}

static PyObject *fail_nth(PyObject *module, PyObject *n)
{
	const long nth = PyLong_AsLong(n);
	(void)module;
	if (nth == -1 && PyErr_Occurred())
		return NULL;
	left = nth;
	Py_RETURN_NONE;
}

static PyObject *fail_none(PyObject *module, PyObject *unused)
{
	(void)module, (void)unused;
	left = 0;
	Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
	{"fail_nth", fail_nth, METH_O, "The n-th allocation of this thread from now on fails, once."},
	{"fail_none", fail_none, METH_NOARGS, "Takes that back."},
	{NULL, NULL, 0, NULL},
};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "short_of_memory", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit_short_of_memory(void)
{
	for (int i = 0; i < 3; i++) {
		PyMemAllocatorEx hook = {&under[i], allocate, allocate_zeroed, reallocate, release};
		PyMem_GetAllocator(domains[i], &under[i]);
		PyMem_SetAllocator(domains[i], &hook);
	}
	return PyModule_Create(&definition);
}
