# cython: language_level=3, boundscheck=False, wraparound=False, binding=True, embedsignature=False
"""The compiled core: the one place that knows both Python objects and the protocols of csrc/.

This file is its table of contents; _core.pxd is that of the headers, and says what a header is.

  core/codec/stream.pyx     values that are read while they are written
  core/codec/recurrence.pyx what has been met in a value
  core/codec/arrays.pyx     NumPy's arrays and numbers <-> bytes
  core/codec/compact.pyx    objects <-> bytes, without pickle
  core/codec/buffers.pyx    memory, as picklers and memoryviews are to see it
  core/codec/parcel.pyx     Parcel: a pickle with the large buffers that it leaves out
  core/codec/pickles.pyx    objects <-> pickles and parcels
  core/view.pyx             View: memory of a block, used in place
  core/parent/future.pyx    FutureBase: a future whose state lives in C fields
  core/parent/chunk.pyx     Chunk: items that go to a worker as one task
  core/parent/batch.pyx     Batch: the items of one map, in chunks
  core/parent/results.pyx   Results: the iterator that map returns
  core/parent/share.pyx     Shared: an object that all tasks may use
  core/parent/client.pyx    Client: the parent's side (submit, drain, wait, collect, bury)
  core/herald.pyx           Herald: a thread that sleeps in the place of a greenlet
  core/system.pyx           guard, signal_tree, memfd: what processes ask of the system
  core/worker/hold.pyx      WorkerHold: one worker's hold on the pool
  core/worker/arguments.pyx Arguments: what tasks bring, views of it, shared objects
  core/worker/callables.pyx Callables: the functions that tasks name
  core/worker/call.pyx      Call: the call that runs, and when it may be interrupted
  core/worker/blocks.pyx    ResultBlocks: memory for results that are too large for a slot
  core/worker/outbox.pyx    ResultOutbox: how results leave
  core/worker/tray.pyx      Tray: the results of a chunk's items
  core/worker/chunk.pyx     ChunkRunner: a chunk that runs
  core/worker/loop.pyx      Worker: the worker's loop

It reports facts ("worker 3 held these futures when it died"); what to do about them is decided in Python above it.
All state of a Client is guarded by the GIL: a stretch of C code that calls no Python and creates no object is atomic
for other threads, for signal handlers and for the garbage collector alike. The comments say where a stretch must be so.
"""

cimport cython

# A worker that starts afresh pays for these. What only the parent or only a failure needs is imported where it is used.
import copyreg
import os
import pickle
import sys
import types
import weakref
from collections import OrderedDict, deque
from functools import partial
from io import BytesIO
from multiprocessing.reduction import ForkingPickler
from pickle import Pickler
from time import monotonic

from ringpool import functions
from ringpool.functions import Callee

include "core/codec/stream.pyx"
include "core/codec/recurrence.pyx"
include "core/codec/arrays.pyx"
include "core/codec/compact.pyx"
include "core/codec/buffers.pyx"
include "core/codec/parcel.pyx"
include "core/codec/pickles.pyx"
include "core/view.pyx"
include "core/processes.pyx"
include "core/system.pyx"
include "core/parent/segment.pyx"
include "core/parent/functions.pyx"
include "core/parent/future.pyx"
include "core/parent/tasks.pyx"
include "core/parent/staff.pyx"
include "core/parent/waiters.pyx"
include "core/parent/notifier.pyx"
include "core/parent/loans.pyx"
include "core/parent/result_memory.pyx"
include "core/parent/argument_memory.pyx"
include "core/parent/endings.pyx"
include "core/parent/settlement.pyx"
include "core/parent/chunk_account.pyx"
include "core/parent/large_items.pyx"
include "core/parent/item_pages.pyx"
include "core/parent/item_futures.pyx"
include "core/parent/pacing.pyx"
include "core/parent/chunk.pyx"
include "core/parent/chunk_list.pyx"
include "core/parent/batch.pyx"
include "core/parent/outbox.pyx"
include "core/parent/chunks.pyx"
include "core/parent/intake.pyx"
include "core/parent/service.pyx"
include "core/parent/recovery.pyx"
include "core/parent/client.pyx"
include "core/parent/results.pyx"
include "core/herald.pyx"
include "core/worker/hold.pyx"
include "core/worker/arguments.pyx"
include "core/worker/callables.pyx"
include "core/worker/call.pyx"
include "core/worker/blocks.pyx"
include "core/worker/outbox.pyx"
include "core/worker/tray.pyx"
include "core/worker/chunk.pyx"
include "core/worker/loop.pyx"
include "core/zygote.pyx"
