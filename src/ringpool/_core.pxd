# _core.pxd - the map of the core's state: the header of each part, from the lowest floor up.
#
# A part is core/X.pyx with its header core/X.pxd. All parts make up one translation unit: _core.pyx includes the bodies and
# this file the headers, both from the lowest floor up. Cython reads this file first. A part calls only what stands above it.
#
# A header holds what other parts may know:
#   - a comment that opens it: what the part is for, what it guarantees, what it does not, and which of its functions may run
#     user code;
#   - enums, structs, and each class with all its fields and all its cdef methods. Fields are private to the part all the same;
#   - the functions that other parts call. What no other part calls stands in the body alone, and so do variables.
#
# Functions and methods stand under the name of their colour:
#   # raw:    noexcept nogil. Touch C data only; the compiler proves it.
#   # quiet:  noexcept. Hold references, but make no object, drop no reference to zero and run no user code.
#   # open:   anything. User code may run, so the caller must not rely on what it knew before.
# "with the lock" after the colour says that the caller holds the lock of the pool: see core/lock.pxd.
#
# tests/unit/test_parts.py checks floors, private fields and colours, and has the tables of what does not keep to them yet.
#
# What Cython 3.3 makes of a header (each tried):
#   - Class: a class that has a header gets no `cdef` field or method in its body that the header lacks, and the body names no
#     base. Its docstring and its def methods stand in the body. `cdef readonly` and `cdef public` stand in the header.
#   - @cython.final stands in the header. @cython.no_gc, @cython.no_gc_clear and @cython.freelist must stand in the BODY: in a
#     header they are ignored, without a word (tests/unit/test_layers.py looks for them).
#   - Default arguments: `T x=*` in the header, the value in the body.
#   - `except -1`, `noexcept` and `nogil` stand in both, the same.
#   - inline: a method must be `inline` in the header and in the body; in the body alone it is ignored. A function is `inline`
#     in the body alone, or stands in the header with its body.
#   - An enum or a struct of the header must not be repeated in the body. `cdef extern` blocks, with C in quotes too, stand in
#     the header only. A struct must stand before what holds it; a class need not, but all classes that headers name must have
#     headers ("declared but not defined").
#   - cimport: what a header cimports, all bodies and later headers may use, but for `cimport cython`, which _core.pyx repeats.
#   - Every function of a header that is no method and has no body there, and every variable, is exported, in __pyx_capi__. That
#     takes 1,600 instructions each at import, and the compiler keeps a copy that is not inlined; nor does it inline any more
#     what only one place calls (tried: 50 instructions a call). So a header declares the functions that other parts call, and
#     no variables.

cimport cython

from ringpool.pool cimport *

include "core/runtime.pxd"
include "core/lock.pxd"
include "core/role.pxd"
include "core/codec/stream.pxd"
include "core/codec/recurrence.pxd"
include "core/codec/arrays.pxd"
include "core/codec/buffers.pxd"
include "core/codec/parcel.pxd"
include "core/codec/compact.pxd"
include "core/codec/pickles.pxd"
include "core/view.pxd"
include "core/processes.pxd"
include "core/system.pxd"
include "core/parent/segment.pxd"
include "core/parent/functions.pxd"
include "core/parent/task.pxd"
include "core/parent/future.pxd"
include "core/parent/tasks.pxd"
include "core/parent/queue.pxd"
include "core/parent/staff.pxd"
include "core/parent/waiters.pxd"
include "core/parent/notifier.pxd"
include "core/parent/loans.pxd"
include "core/parent/result_memory.pxd"
include "core/parent/argument_memory.pxd"
include "core/parent/terminations.pxd"
include "core/parent/settlement.pxd"
include "core/parent/chunk_account.pxd"
include "core/parent/large_items.pxd"
include "core/parent/item_pages.pxd"
include "core/parent/item_futures.pxd"
include "core/parent/pacing.pxd"
include "core/parent/chunk.pxd"
include "core/parent/chunk_list.pxd"
include "core/parent/batch.pxd"
include "core/parent/outbox.pxd"
include "core/parent/chunks.pxd"
include "core/parent/intake.pxd"
include "core/parent/service.pxd"
include "core/parent/recovery.pxd"
include "core/parent/waiting.pxd"
include "core/parent/client.pxd"
include "core/parent/results.pxd"
include "core/herald.pxd"
include "core/worker/hold.pxd"
include "core/worker/arguments.pxd"
include "core/worker/callables.pxd"
include "core/worker/call.pxd"
include "core/worker/blocks.pxd"
include "core/worker/outbox.pxd"
include "core/worker/tray.pxd"
include "core/worker/chunk.pxd"
include "core/worker/loop.pxd"
