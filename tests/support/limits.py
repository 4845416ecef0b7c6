"""How long tests wait for what they expect, and what the running Python does not allow them to expect."""

import os
import sysconfig

# By how much longer than usual: for a run in which all takes longer, such as one with a sanitizer.
PATIENCE = int(os.environ.get("RINGPOOL_TESTS_PATIENCE", "1"))

LIMIT = 30 * PATIENCE  # s; for what should take milliseconds: a busy machine takes its time
LONG_S = 100.0 * PATIENCE  # for a task that its test lets go on; shorter than the deadline of a test

FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# If it finds no memory for a new list's items, it frees what it takes for them (gh-152125).
NO_MEMORY_IS_SURVIVED = not FREE_THREADED
# Where threads wait for one lock of CPython's for a millisecond, it is handed to one of them. A child that is forked
# before that one runs has the lock as it is, held by a thread that the child has not.
FORKS_AMONG_THREADS = not FREE_THREADED
# For a program that limits its own address space: such a Python reserves a GiB of it at its start.
WITHOUT_RESERVE = {"MIMALLOC_ARENA_RESERVE": "0"}
