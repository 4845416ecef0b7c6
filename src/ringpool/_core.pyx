# cython: language_level=3, boundscheck=False, wraparound=False, binding=True, embedsignature=False
# cython: freethreading_compatible=True
"""The compiled core: the one place that knows both Python objects and the protocols of csrc/.

This file is its table of contents; _core.pxd is that of the headers, and says what a header is. From the lowest floor up:

  core/lock.pyx                    the lock and the engine of a pool: nothing, as long as there is the GIL
  core/role.pyx                    what this process works as: a worker of some pool, or no part of any
  core/codec/stream.pyx            values that are read while they are written; and copies of large pieces
  core/codec/recurrence.pyx        what an encoder has met in a value
  core/codec/arrays.pyx            the compact form of NumPy's arrays and numbers
  core/codec/buffers.pyx           memory, as picklers and memoryviews are to see it
  core/codec/parcel.pyx            pickles with the large buffers that they leave out
  core/codec/compact.pyx           how arguments and results become bytes without pickle
  core/codec/pickles.pyx           values that have no compact form: pickles and parcels
  core/view.pyx                    memory of a block that objects of this process use in place
  core/processes.pyx               waits for other processes and for descriptors, without the GIL
  core/system.pyx                  what the supervisor and a worker's start ask of the system, with errors as exceptions
  core/parent/segment.pyx          the shared memory of a pool, seen from the process that made it
  core/parent/functions.pyx        the functions that tasks call, each encoded once
  core/parent/task.pyx             what a task is submitted with, whether it is to end, and the forms of what comes of it
  core/parent/future.pyx           a future whose state lives in C fields
  core/parent/tasks.pyx            the pending tasks
  core/parent/queue.pyx            futures of tasks in an order: those that wait for room, those that are to end
  core/parent/staff.pyx            how many workers there should be, which of them are suspect, and the supervisor's alarm
  core/parent/waiters.pyx          the threads and greenlets that wait in result()
  core/parent/notifier.pyx         which threads learn of done futures, and whether workers ring the collector for each result
  core/parent/loans.pyx            the parent's account of loans: see memory in csrc/
  core/parent/result_memory.pyx    where results lie until they are decoded, and whose memory that is
  core/parent/argument_memory.pyx  blocks of the parent's arena that workers hold, after the task that they were sent with
  core/parent/terminations.pyx     ending a task that runs
  core/parent/settlement.pyx       the one way in which the future of a task ends
  core/parent/chunk_account.pyx    which batches have items left to send, and how many chunks are under way, in one pool
  core/parent/large_items.pyx      the items of a batch that are too large for its pages
  core/parent/item_pages.pyx       the encoded items of a batch that have not been sent, in pages
  core/parent/item_futures.pyx     the futures of the items of submit_many
  core/parent/pacing.pyx           how many items the next chunk of a batch has, and how many of its chunks are under way
  core/parent/chunk.pyx            consecutive items of a batch that go to a worker as one task, and what becomes of them
  core/parent/chunk_list.pyx       the chunks of a batch, for the reader of the results
  core/parent/batch.pyx            what one call of map or submit_many calls, and what comes of it
  core/parent/outbox.pyx           the way of a task from its call to the board
  core/parent/chunks.pyx           the items of batches on their way: sent in chunks, taken away from workers, answered in parts
  core/parent/intake.pyx           results, from the workers' rings to the futures
  core/parent/service.pyx          rounds over the workers: results, memory, tasks that are to end
  core/parent/recovery.pyx         what is done when a worker has died
  core/parent/waiting.pyx          how a thread or a greenlet waits for a future
  core/parent/client.pyx           the parent's side of a pool: which part of it is called when
  core/parent/results.pyx          the iterator that map returns
  core/herald.pyx                  for programs whose threads are greenlets
  core/worker/hold.pyx             one worker's hold on the pool's memory
  core/worker/arguments.pyx        what tasks bring: where it lies, and the objects that are made of it
  core/worker/callables.pyx        the functions that tasks name by number
  core/worker/call.pyx             the call that runs: when it may be interrupted, and the call itself
  core/worker/blocks.pyx           where a worker's results lie that are too large for a slot of its ring
  core/worker/outbox.pyx           how a worker's results leave
  core/worker/tray.pyx             the results of a chunk's items, collected in a block and published several at a time
  core/worker/chunk.pyx            a chunk that runs: its items one by one, their results in the tray
  core/worker/loop.pyx             what a worker's process does from its first task to its last
  core/zygote.pyx                  a process that makes others by fork

It reports facts ("worker 3 held these futures when it died"); what to do about them is decided in Python above it.
All state of a Client is guarded by the GIL: a stretch of C code that calls no Python and creates no object is atomic
for other threads, for signal handlers and for the garbage collector alike. The comments say where a stretch must be so.
What changes the table of tasks also holds the pool's lock, which is to take the GIL's place: see core/lock.pxd.
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

include "core/lock.pyx"
include "core/role.pyx"
include "core/codec/stream.pyx"
include "core/codec/recurrence.pyx"
include "core/codec/arrays.pyx"
include "core/codec/buffers.pyx"
include "core/codec/parcel.pyx"
include "core/codec/compact.pyx"
include "core/codec/pickles.pyx"
include "core/view.pyx"
include "core/processes.pyx"
include "core/system.pyx"
include "core/parent/segment.pyx"
include "core/parent/functions.pyx"
include "core/parent/task.pyx"
include "core/parent/future.pyx"
include "core/parent/tasks.pyx"
include "core/parent/queue.pyx"
include "core/parent/staff.pyx"
include "core/parent/waiters.pyx"
include "core/parent/notifier.pyx"
include "core/parent/loans.pyx"
include "core/parent/result_memory.pyx"
include "core/parent/argument_memory.pyx"
include "core/parent/terminations.pyx"
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
include "core/parent/waiting.pyx"
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
