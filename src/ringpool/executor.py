"""ProcessPoolExecutor: the face of the pool. This is how one task goes:

  this process                           shared memory                            worker 1
  ------------------------------------   --------------------------------------   -----------------------------------
  user's thread
    submit(pow, 2, 10)
      Future #7                           task board
      encode: (2, 10), function 1  ---->  | #6 CLAIMED by 0 | #7 READY, pow(2, 10) | ...
                                                                   \\
                                                                    `----------->  claim #7, decode, pow(2, 10)
    future.result()                       result ring of worker 1                    |
      drain, settle #7  <---------------  | #5: 'x' | #7: 1024 | ...   <-------------'

  collector thread    settles futures on which no thread has called result(): for callbacks, wait(), as_completed() and
                      asyncio. It sleeps otherwise; a thread blocked in result() reads the rings itself.
  supervisor thread   waits for workers to die; fails the task that one held, starts another. It sleeps otherwise.

`submit` writes to the board in the caller's thread, and `result` reads the rings in its caller's: no other thread of
this process is involved, nor is the kernel while the worker is awake. Tasks that find the board full wait, encoded, in
a queue of this process.
"""

from __future__ import annotations

import collections
import concurrent.futures
import functools
import itertools
import multiprocessing
import operator
import signal
import sys
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import BrokenExecutor

from ringpool import _core
from ringpool.future import Future

# Workers that start afresh import this with the program's main module, and make no pool: what one needs is imported
# when it is made.
TYPE_CHECKING = False
if TYPE_CHECKING:  # typing takes as long to import as all modules of this package
    from multiprocessing.context import BaseContext
    from multiprocessing.process import BaseProcess
    from types import TracebackType
    from typing import Any, Literal, ParamSpec, TypeVar

    from ringpool.progress import Meter, Progress
    from ringpool.supervisor import Supervisor

    _Executor = concurrent.futures.ProcessPoolExecutor
    _P = ParamSpec("_P")
    _T = TypeVar("_T")
else:
    _Executor = concurrent.futures.Executor

_MAX_WORKERS = 1024
_ENDLESS = 1 << 62  # items: more than any program has, and few enough for the core


class _StandIn(_Executor):
    """What libraries expect of a process pool: that it is an instance of the stdlib's class, and has those private
    attributes that they read most. It has all public methods of that class, and inherits none."""

    @property  # type: ignore[misc]  # a variable, by typeshed
    def __class__(self) -> Any:
        """`isinstance` asks the type, and then this. Inheriting from the stdlib's class would import its module, here
        and in each worker, which takes as long as all of ours. A program that asks has imported it."""
        stdlib = sys.modules.get("concurrent.futures.process")
        return getattr(stdlib, "ProcessPoolExecutor", type(self))

    _max_workers: int
    _mp_context: BaseContext
    _supervisor: Supervisor

    @property
    def _processes(self) -> dict[int, BaseProcess]:  # type: ignore[override]  # a variable there
        return {process.pid: process for process in self._supervisor.processes if process.pid is not None}

    @property
    def _broken(self) -> str | Literal[False]:  # type: ignore[override]
        breakage = self._supervisor.breakage
        return False if breakage is None else breakage.text

    @property
    def _shutdown_thread(self) -> bool:  # type: ignore[override]
        return self._supervisor.client.closed


class ProcessPoolExecutor(_StandIn):
    """A pool of worker processes that take tasks from shared memory.

    Stands in for `concurrent.futures.ProcessPoolExecutor`, whose documentation holds for every name that both have.

    Args:
        max_workers: How many workers, 1 to 1024. Default: the processors that this process may use, by its affinity
            and its control group's quota, rounded up.
        mp_context: A `multiprocessing` context that makes the workers. Default: that of the running Python, or "spawn"
            if `max_tasks_per_child` is given.
        initializer: Called in each worker before its first task. If it raises, the pool is broken.
        initargs: Its arguments.
        max_tasks_per_child: How many tasks a worker runs before another takes its place; None for no limit. Not with
            the "fork" start method. The other is started beforehand: up to twice as many processes exist, but at most
            `max_workers` run tasks.
        max_memory_per_child: Bytes of memory. A worker that has more to itself after a task (resident, and neither
            shared nor of files) is replaced when another is ready. None for no limit.
        on_worker_death: "replace": a worker that dies costs the task it was running, whose future raises WorkerDied,
            and another takes its place. "break": it costs all pending tasks and the pool, as in the stdlib.
        shared_memory_limit: Bytes of shared memory that the pool takes at most. Half of it is for arguments. A
            quarter is for large results; the rest is for other results, an equal share for each worker, and a reserve
            for what dead workers have left in use. So the largest argument takes ``limit / 2``, the largest result
            ``limit / 4``, less some 2 MB. When memory is short, tasks wait in the program and results in their workers.
            An argument or result that can never fit fails with MemoryError. None: half of the memory of the machine,
            or of its control group.
        cancel_running: Whether `Future.cancel` also ends a running task, as `Future.cancel(running=True)` does. Then
            asyncio also ends it when it cancels what awaits the future.

    Raises:
        ValueError: An argument is out of its range.
        TypeError: An argument is of the wrong type.

    A pool takes nothing from the system before its first task or shared object. If a program forks before that, the
    child can use the pool.
    """

    def __init__(
        self,
        max_workers: int | None = None,
        mp_context: BaseContext | None = None,
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
        *,
        max_tasks_per_child: int | None = None,
        max_memory_per_child: int | None = None,
        on_worker_death: str = "replace",
        shared_memory_limit: int | None = None,
        cancel_running: bool = False,
    ) -> None:
        if max_workers is None:
            from ringpool import machine

            max_workers = min(machine.usable_cpus(), _MAX_WORKERS)
        elif max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        elif max_workers > _MAX_WORKERS:
            raise ValueError(f"max_workers must be <= {_MAX_WORKERS}")
        if mp_context is None:
            mp_context = multiprocessing.get_context("spawn" if max_tasks_per_child is not None else None)
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        if max_tasks_per_child is not None:
            if not isinstance(max_tasks_per_child, int):
                raise TypeError("max_tasks_per_child must be an integer")
            if max_tasks_per_child <= 0:
                raise ValueError("max_tasks_per_child must be >= 1")
            if mp_context.get_start_method(allow_none=False) == "fork":
                raise ValueError(
                    "max_tasks_per_child is incompatible with the 'fork' multiprocessing start method;"
                    " supply a different mp_context."
                )
        if max_memory_per_child is not None:
            if not isinstance(max_memory_per_child, int):
                raise TypeError("max_memory_per_child must be an integer")
            if max_memory_per_child <= 0:
                raise ValueError("max_memory_per_child must be >= 1")
        if shared_memory_limit is not None and not isinstance(shared_memory_limit, int):
            raise TypeError("shared_memory_limit must be an integer")
        if on_worker_death not in ("replace", "break"):
            raise ValueError("on_worker_death must be 'replace' or 'break'")
        self._max_workers = max_workers
        self._counts_tasks = max_tasks_per_child is not None
        self._mp_context = mp_context
        from ringpool.supervisor import Supervisor

        self._supervisor = Supervisor(
            mp_context,
            max_workers,
            initializer,
            initargs,
            max_tasks_per_child,
            max_memory_per_child,
            on_worker_death,
            shared_memory_limit,
        )
        self._client = self._supervisor.client
        self._client.cancel_running = bool(cancel_running)
        self._begun = False

    def _begin(self) -> None:
        self._client.check()
        self._begun = self._supervisor.begin(self)

    def _submit_early(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: Any,
        options: _core.Options | None = None,
    ) -> Future[Any]:
        """Submits while the pool is not known to have begun."""
        self._begin()
        try:
            future = self._client.submit(fn, args, kwargs, options)
        except BrokenExecutor:
            breakage = self._supervisor.breakage
            if breakage is None:  # kill_workers() or terminate_workers() has come between
                raise
            # The first workers have failed already; in the stdlib they start after this.
            future = Future()
            future.set_exception(breakage.loss())
            return future
        if not self._begun:  # another thread was beginning the pool, and may have failed before this task came
            self._begun = self._supervisor.begin(self)
        return future

    def __reduce__(self) -> Any:
        raise TypeError(
            f"cannot pickle {type(self).__name__!r} object: a pool belongs to the process that made it; "
            "a task that needs one makes one in the worker"
        )

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """Schedules ``fn(*args, **kwargs)`` to run in a worker.

        The arguments are encoded before this returns: the task does not see later changes to them.

        Args:
            fn: Any callable. One that workers can import is sent once and then named; others go by `cloudpickle`.
            args: Its positional arguments.
            kwargs: Its keyword arguments.

        Returns:
            The future of the call. If the call cannot be pickled, its exception is that error.

        Raises:
            BrokenProcessPool: The pool is broken, or its workers have been ended.
            RuntimeError: The pool has been shut down, or belongs to the process that this one was forked from.
            OSError: It is the pool's first task, and the system refuses the shared memory, a process or a thread.
        """
        if not self._begun:
            return self._submit_early(fn, args, kwargs)
        return self._client.submit(fn, args, kwargs)

    def share(self, obj: _T) -> _T:
        """Encodes an object once, for all tasks that use it.

        ``model = pool.share(model); pool.map(functools.partial(predict, model), records)``

        The handle that this returns can be used in place of the object among the arguments of this pool's tasks, and in
        the functions that they call. The tasks get the object itself. Each worker decodes it once and keeps it, so a
        task that changes it changes what later tasks in that worker see. Large buffers (of arrays, for example) are in
        shared memory, once for all workers, and are read-only.

        Args:
            obj: Anything that could be an argument.

        Returns:
            The handle, a `ringpool.Shared`. To type checkers it is the object itself, as it is to the tasks. In this
            process it has nothing of the object, only `nbytes`, the memory that it takes. That is freed when the handle
            is gone, with the tasks that have it among their arguments.

        Raises:
            MemoryError: There is no room for it.
            OSError: The system refuses the shared memory.
            BrokenProcessPool: The pool is broken.
            RuntimeError: The pool has been shut down, or belongs to the process that this one was forked from.
        """
        self._client.check()
        self._supervisor.create()
        return self._client.share(obj)

    def submit_many(
        self, fn: Callable[..., _T], args: Iterable[Iterable[Any]], *, chunksize: int | None = None
    ) -> list[Future[_T]]:
        """Schedules ``fn(*each)`` for each of `args`, for less than as many calls of `submit` cost.

        The calls go to the workers in chunks, as the items of `map` do. Yet each has a future of its own: it raises
        what its call raised, it can be cancelled alone, and a worker that dies costs only the call that it was running.

        Args:
            fn: What to call.
            args: Read at once: for each call, the positional arguments.
            chunksize: As in `map`.

        Returns:
            The futures, in the order of `args`. One whose arguments cannot be pickled raises that error.

        Raises:
            BrokenProcessPool: The pool is broken.
            RuntimeError: The pool has been shut down, or belongs to the process that this one was forked from.
            TypeError: One of `args` is not iterable. As after any error in reading them, what has not started is
                cancelled.
            ValueError: chunksize is less than 1.
        """
        return self._submit_many(None, fn, args, chunksize)

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | Literal["auto"] | None = None,
        ordered: bool = True,
        progress: Progress = None,
    ) -> Iterator[_T]:
        """Calls ``fn`` with the items of the iterables, as `map` does, in the workers.

        Args:
            fn: Takes as many arguments as there are iterables.
            iterables: Read, and their items encoded, at the call, unless `buffersize` is given; the shortest decides.
            timeout: Seconds from this call within which each result must have come; None for no limit.
            chunksize: Items that go to a worker together, as one task. None, the default: as many as take about two
                milliseconds, estimated from earlier items; and an idle worker takes over half of the items that a busy
                one has not started. With a time limit from `options`, items go one by one, and by default with
                `max_tasks_per_child` too. Encoded items travel in pieces of 64 KiB, so a chunk of large or many items
                may be several tasks. A result leaves its worker at the end of its chunk, or after some 10 ms, but not
                while another item of the chunk runs; with a chunksize of 1, at once.
            buffersize: How many items (with a chunksize, chunks) may be read ahead of the results that have been read.
                "auto" for a few times as many as the workers hold, None for no limit.
            ordered: Whether the results come in the order of the items, or as they arrive.
            progress: True for a bar on the standard error stream, or in the notebook, by `tqdm` (``pip install
                ringpool[progress]``). Or a function that is called with the number of items that are done and the
                total, None if that is not known: some ten times a second while the iterator, or this call, reads and
                waits, and when the last result has been read. The iterator, or this call, raises what it raises.

        Returns:
            An iterator of the results. It raises what an item raises in that item's place, and then ends. WorkerDied is
            raised for the one item that the worker was running. Closing or dropping it half read cancels items that
            have not started; if it is dropped before its first result was read, all items run, for their effects.

        Raises:
            TimeoutError: From the iterator: a result did not arrive in time.
            ValueError: chunksize or buffersize is less than 1.
            TypeError: buffersize is neither an integer nor "auto"; chunksize is no integer; progress is neither a bool
                nor callable.
            ImportError: progress is True, and tqdm is not installed.
        """
        return self._map(None, fn, iterables, timeout, chunksize, buffersize, ordered, progress)

    def options(
        self,
        *,
        timeout: float | None = None,
        grace: float = _core.DEFAULT_GRACE_S,
        retries: int = 0,
        name: str | None = None,
    ) -> ExecutorView:
        """This pool with options for the tasks that are submitted through what it returns.

        ``pool.options(timeout=5, retries=2).submit(fn, x)``

        Args:
            timeout: Seconds that a task may run, counted from when a worker starts it; with `map`, each item. Then
                TaskTimeout is raised in the task, so that its ``finally`` blocks run. Even if the task catches it, the
                future raises TaskTimeout. None for no limit.
            grace: Seconds from that exception, or the one of `Future.cancel(running=True)`, after which the worker of a
                task that has not stopped is killed, together with the processes that the task has started, except
                those in another process group and those whose parent has ended. The worker is replaced.
            retries: How many times a task is run again if its worker dies. A task that raises is not run again, nor one
                that is being ended; with ``on_worker_death="break"`` no task is.
            name: The name of the task in messages, in place of the function's name.

        Returns:
            An executor that shares this pool; to shut it down is to shut down the pool.

        Raises:
            ValueError: timeout is not positive; grace or retries is negative.
            TypeError: An argument is of the wrong type.
        """
        for what, seconds in (("timeout", timeout), ("grace", grace)):
            if seconds is None and what == "timeout":
                continue
            if not isinstance(seconds, (int, float)):
                raise TypeError(f"{what} must be a number of seconds, not {type(seconds).__name__}")
            if not (seconds > 0 or (seconds == 0 and what == "grace")):
                raise ValueError(f"{what} must be {'positive' if what == 'timeout' else 'at least 0'}")
        if not isinstance(retries, int):
            raise TypeError(f"retries must be an integer, not {type(retries).__name__}")
        if retries < 0:
            raise ValueError("retries must be at least 0")
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name must be a string, not {type(name).__name__}")
        return ExecutorView(self, _core.Options(timeout, grace, retries, name))

    def _map(
        self,
        options: _core.Options | None,
        fn: Callable[..., _T],
        iterables: tuple[Iterable[Any], ...],
        timeout: float | None,
        chunksize: int | None,
        buffersize: int | Literal["auto"] | None,
        ordered: bool,
        progress: Progress,
    ) -> Iterator[_T]:
        if buffersize is not None and buffersize != "auto":
            if not isinstance(buffersize, int):
                raise TypeError("buffersize must be an integer or None")
            if buffersize < 1:
                raise ValueError("buffersize must be None or > 0")
        chunksize = self._chunksize(chunksize)
        deadline = None if timeout is None else timeout + time.monotonic()
        meter = None
        if progress is not None and progress is not False:
            from ringpool.progress import Meter

            meter = Meter(progress, _length(iterables))
        items = zip(*iterables, strict=False)
        if options is None and self._sees_every_task():
            chunks = self._max_workers * 4 if buffersize == "auto" else buffersize
            return _map_by_submit(self, fn, items, chunksize or 1, chunks, deadline, meter)
        begins = not self._begun and not self._client.closed  # a closed pool refuses the first item, if there is one
        if begins:
            self._begin()
        results: Iterator[_T] = _core.Results(
            self._client,
            weakref.ref(self),
            options,
            fn,
            items,
            chunksize,
            -1 if buffersize == "auto" else min((buffersize or 0) * (chunksize or 1), _ENDLESS),
            ordered,
            deadline,
            meter,
        )
        if begins and not self._begun:  # another thread was beginning the pool, and may have failed before these came
            self._begun = self._supervisor.begin(self)
        return results

    def _submit_many(
        self, options: _core.Options | None, fn: Callable[..., _T], args: Iterable[Iterable[Any]], chunksize: int | None
    ) -> list[Future[_T]]:
        chunksize = self._chunksize(chunksize)
        if options is None and self._sees_every_task():
            return [self.submit(fn, *each) for each in args]
        if not self._begun:
            self._begin()
        futures = self._client.submit_many(fn, args, chunksize, options)
        if not self._begun:  # as in _map
            self._begun = self._supervisor.begin(self)
        return futures

    def _chunksize(self, chunksize: int | None) -> int:
        """In the form that the core takes: 0 for a chunksize that follows the items."""
        if chunksize is not None and operator.index(chunksize) < 1:
            raise ValueError("chunksize must be >= 1.")
        return min(chunksize, _ENDLESS) if chunksize else int(self._counts_tasks)

    def _sees_every_task(self) -> bool:
        """Whether a subclass overrides `submit`: then all goes through it."""
        return type(self).submit is not ProcessPoolExecutor.submit

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Shuts down and waits. After a Ctrl-C it does not wait for running tasks: it ends them after a short grace
        period, and cancels the others. So too if the Ctrl-C comes while it waits, if the block ends with another
        exception because of it (``sys.exit()`` in ``except KeyboardInterrupt``), and in a task that is being ended."""
        if _comes_of_ctrl_c(error) or _core.task_is_ending():
            self._supervisor.abort()
        try:
            self.shutdown(wait=True)
        except KeyboardInterrupt:
            self._supervisor.abort()
            self._supervisor.join()
            raise

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None) -> None:
        """Stops accepting tasks; the workers leave when all pending tasks are done.

        Args:
            wait: Return when they have left.
            cancel_futures: Cancel tasks that no worker has claimed.
            timeout: Seconds after which all pending tasks are cancelled, running ones too, as by
                `Future.cancel(running=True)`. None for no limit.
        """
        if timeout is not None and not isinstance(timeout, (int, float)):
            raise TypeError(f"timeout must be a number of seconds or None, not {type(timeout).__name__}")
        if self._client.segment.forked:  # in a forked child there is nothing to shut down
            return
        self._supervisor.close()
        if cancel_futures:
            self._client.cancel_all()
        if timeout is not None:
            self._supervisor.abort_in(timeout)
        if wait or not self._begun:
            self._supervisor.join()

    def terminate_workers(self) -> None:
        """Shuts the pool down, cancels what has not started, and ends the workers with SIGTERM.

        The futures of tasks that were running raise WorkerDied. `submit` raises BrokenProcessPool from now on.
        """
        self._client.segment.check_here()
        self._supervisor.terminate(signal.SIGTERM)

    def kill_workers(self) -> None:
        """Shuts the pool down, cancels what has not started, and ends the workers with SIGKILL.

        The futures of tasks that were running raise WorkerDied. `submit` raises BrokenProcessPool from now on.
        """
        self._client.segment.check_here()
        self._supervisor.terminate(signal.SIGKILL)


class ExecutorView(_StandIn):
    """A pool with options for the tasks that are submitted through it. Made by `ProcessPoolExecutor.options`."""

    def __init__(self, pool: ProcessPoolExecutor, options: _core.Options) -> None:
        self._pool = pool
        self._options = options
        self._max_workers = pool._max_workers
        self._mp_context = pool._mp_context
        self._supervisor = pool._supervisor

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> Future[_T]:
        """As `ProcessPoolExecutor.submit`, with the options."""
        pool = self._pool
        if not pool._begun:
            return pool._submit_early(fn, args, kwargs, self._options)
        return pool._client.submit(fn, args, kwargs, self._options)

    def map(
        self,
        fn: Callable[..., _T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int | None = None,
        buffersize: int | Literal["auto"] | None = None,
        ordered: bool = True,
        progress: Progress = None,
    ) -> Iterator[_T]:
        """As `ProcessPoolExecutor.map`, with the options: their time limit holds for each item, however items are
        chunked. (`timeout` here is how long to wait for results, as in the stdlib.)"""
        return self._pool._map(self._options, fn, iterables, timeout, chunksize, buffersize, ordered, progress)

    def share(self, obj: _T) -> _T:
        """As `ProcessPoolExecutor.share`; the options do not apply."""
        return self._pool.share(obj)

    def submit_many(
        self, fn: Callable[..., _T], args: Iterable[Iterable[Any]], *, chunksize: int | None = None
    ) -> list[Future[_T]]:
        """As `ProcessPoolExecutor.submit_many`, with the options for each call."""
        return self._pool._submit_many(self._options, fn, args, chunksize)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False, timeout: float | None = None) -> None:
        """Shuts the pool down. See `ProcessPoolExecutor.shutdown`."""
        self._pool.shutdown(wait, cancel_futures=cancel_futures, timeout=timeout)

    def terminate_workers(self) -> None:
        """Shuts the pool down. See `ProcessPoolExecutor.terminate_workers`."""
        self._pool.terminate_workers()

    def kill_workers(self) -> None:
        """Shuts the pool down. See `ProcessPoolExecutor.kill_workers`."""
        self._pool.kill_workers()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.__exit__(kind, error, trace)


def _map_by_submit(
    executor: ProcessPoolExecutor,
    fn: Callable[..., _T],
    items: Iterator[tuple[Any, ...]],
    chunksize: int,
    buffersize: int | None,
    deadline: float | None,
    meter: Meter | None,
) -> Iterator[_T]:
    """As the stdlib's map, each chunk a call of submit."""
    chunks = iter(lambda: tuple(itertools.islice(items, chunksize)), ())
    submit = functools.partial(executor.submit, functools.partial(_call_each, fn))
    futures = collections.deque(map(submit, itertools.islice(chunks, buffersize)))

    def results() -> Iterator[_T]:
        done = 0
        try:
            while futures:
                if buffersize is not None:
                    futures.extend(map(submit, itertools.islice(chunks, 1)))
                values = futures[0].result(None if deadline is None else deadline - time.monotonic())
                done += len(values)
                if meter is not None:
                    meter.show(done)
                yield from values
                futures.popleft()
            if meter is not None:
                meter.finish(done)
        finally:
            for future in futures:
                future.cancel()
            if meter is not None:
                meter.close()

    return results()


def _call_each(fn: Callable[..., _T], chunk: tuple[tuple[Any, ...], ...]) -> list[_T]:
    return [fn(*args) for args in chunk]


def _length(iterables: tuple[Iterable[Any], ...]) -> int | None:
    """How many items they give together, if they all say."""
    try:
        lengths = [len(each) for each in iterables if isinstance(each, Sized)]
    except OverflowError:  # a range of more than an index can count
        return None
    return min(lengths, default=0) if len(lengths) == len(iterables) else None


def _comes_of_ctrl_c(error: BaseException | None) -> bool:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:  # an exception may be a context of its own
        if isinstance(error, KeyboardInterrupt):
            return True
        seen.add(id(error))
        error = error.__context__
    return False
