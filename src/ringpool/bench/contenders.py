"""How each library is used, as its documentation recommends, so that one case fits them all.

A contender is opened as a `Pool`: a few callables, each the library's own idiom. Where a library cannot do a thing the
callable raises `Cannot` with the reason, which the report repeats.

`benchmarks/jobs/executors.py` opens the same libraries. It asks for one `map` that does well, with chunks; here `map`
is what each library's defaults make of it. It is an example to copy, and stands alone.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import importlib
import importlib.metadata
import importlib.util
import multiprocessing
import operator
import platform
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

THREADS = 32  # what ThreadPoolExecutor takes on a large machine; threads that wait cost next to nothing


class Cannot(Exception):
    """A library has no way to do what a case asks."""


def cannot(reason: str) -> Callable[..., NoReturn]:
    """Return a callable that raises `Cannot`."""

    def refuse(*args: object) -> NoReturn:
        raise Cannot(reason)

    return refuse


@dataclass(frozen=True)
class Pool:
    """An open pool of some library.

    Args:
        submit: Takes a function and its arguments; gives a handle of the task.
        result: Takes a handle; waits, and gives the result or raises the task's exception.
        map: Takes a function and items; gives all results in their order, with nothing but defaults.
        chunked: The same, and the number of items that travel together.
        unordered: Takes a function and items, each a task; gives results as they come.
        awaitable: Takes a handle; gives what asyncio awaits.
        separate: Takes a function and items, each a task of its own; gives all results in their order. By `submit` if
            None.
    """

    submit: Callable[..., Any]
    result: Callable[[Any], Any]
    map: Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
    chunked: Callable[[Callable[[Any], Any], Sequence[Any], int], Iterable[Any]]
    unordered: Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]
    awaitable: Callable[[Any], Awaitable[Any]]
    separate: Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]] | None = None

    def each(self, fn: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
        """Run one task for each item, all pending at once, and return their results in order."""
        if self.separate is not None:
            return list(self.separate(fn, items))
        submit, result = self.submit, self.result
        return [result(handle) for handle in [submit(fn, item) for item in items]]


Opened = Iterator[Pool]


@dataclass(frozen=True)
class Contender:
    """A library that takes part.

    Args:
        name: What `--against` and tables call it.
        package: What has to be installed; "" for what comes with Python.
        target: Where its generator function is, as "module:attribute", so that a fresh interpreter can find it. It
            takes the number of workers and the start method, and yields one `Pool`.
        starts_itself: Whether it starts workers in its own way, regardless of `--start-method`.
        after_a_kill: Why a program cannot wait for what comes after a worker's death; "" where it can.
        threads: Whether its workers are threads of the calling process.
        program: A whole program that opens the pool, prints the square of 7 as a task returns it, and ends; with
            {workers} and {method} where these belong. "" where there is none.
    """

    name: str
    package: str
    target: str
    starts_itself: bool = False
    after_a_kill: str = ""
    threads: bool = False
    program: str = ""

    def open(self, workers: int, start_method: str) -> contextlib.AbstractContextManager[Pool]:
        """Start a pool, which may not have all its workers yet; it is shut down at the end of the block."""
        module, _, attribute = self.target.partition(":")
        opener: Callable[[int, str], Opened] = getattr(importlib.import_module(module), attribute)
        return contextlib.contextmanager(opener)(workers, start_method)

    def installed(self) -> bool:
        """Return whether its package is there."""
        return not self.package or importlib.util.find_spec(self.package) is not None

    def version(self) -> str:
        """Return the version of its package, Python's for what comes with Python, "unknown" if nothing says."""
        if not self.package:
            return platform.python_version()
        try:
            return importlib.metadata.version(self.package)
        except importlib.metadata.PackageNotFoundError:  # a folder of sources
            return "unknown"


def _of_futures(executor: Any) -> Pool:
    """Return the pool of an executor in the manner of concurrent.futures."""

    def unordered(fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        for future in concurrent.futures.as_completed([executor.submit(fn, item) for item in items]):
            yield future.result()

    return Pool(
        submit=executor.submit,
        result=operator.methodcaller("result"),
        map=executor.map,
        chunked=lambda fn, items, chunk: executor.map(fn, items, chunksize=chunk),
        unordered=unordered,
        awaitable=asyncio.wrap_future,
    )


def _program(imports: str, pool: str, call: str) -> str:
    """Return the text of a program for `Contender.program`, of its import, the pool and the call."""
    return f"""\
import multiprocessing
{imports}


def square(number):
    return number * number


if __name__ == "__main__":
    with {pool} as pool:
        print({call})
"""


def _futures_program(module: str) -> str:
    executor = 'ProcessPoolExecutor({workers}, multiprocessing.get_context("{method}"))'
    return _program(f"from {module} import ProcessPoolExecutor", executor, "pool.submit(square, 7).result()")


def ringpool(workers: int, start_method: str) -> Opened:
    """Open ringpool's executor."""
    executor = importlib.import_module("ringpool").ProcessPoolExecutor
    with executor(workers, multiprocessing.get_context(start_method)) as pool:
        yield _of_futures(pool)


def stdlib(workers: int, start_method: str) -> Opened:
    """Open concurrent.futures' executor of processes."""
    context = multiprocessing.get_context(start_method)
    with concurrent.futures.ProcessPoolExecutor(workers, context) as executor:
        yield _of_futures(executor)


def threads(workers: int, start_method: str) -> Opened:
    """Open concurrent.futures' executor of threads, with `THREADS` of them, regardless of the number of workers."""
    with concurrent.futures.ThreadPoolExecutor(THREADS) as executor:
        yield _of_futures(executor)


def mp_pool(workers: int, start_method: str) -> Opened:
    """Open multiprocessing.Pool."""
    with multiprocessing.get_context(start_method).Pool(workers) as pool:
        yield Pool(
            submit=lambda fn, *args: pool.apply_async(fn, args),
            result=operator.methodcaller("get"),
            map=pool.map,
            chunked=pool.map,
            unordered=pool.imap_unordered,
            awaitable=cannot("mp.Pool's results are no futures, and asyncio cannot await them"),
        )
        pool.close()
        pool.join()


def loky(workers: int, start_method: str) -> Opened:
    """Open loky's executor, with loky's own way to start workers."""
    with importlib.import_module("loky").ProcessPoolExecutor(workers) as executor:
        yield _of_futures(executor)


def pebble(workers: int, start_method: str) -> Opened:
    """Open pebble's pool of processes."""
    context = multiprocessing.get_context(start_method)
    with importlib.import_module("pebble").ProcessPool(workers, context=context) as pool:

        def submit(fn: Callable[..., Any], *args: Any) -> Any:
            return pool.schedule(fn, args)

        def unordered(fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
            for future in concurrent.futures.as_completed([submit(fn, item) for item in items]):
                yield future.result()

        yield Pool(
            submit=submit,
            result=operator.methodcaller("result"),
            map=lambda fn, items: pool.map(fn, items).result(),
            chunked=lambda fn, items, chunk: pool.map(fn, items, chunksize=chunk).result(),
            unordered=unordered,
            awaitable=asyncio.wrap_future,
        )


def mpire(workers: int, start_method: str) -> Opened:
    """Open mpire's pool, which would start other workers for each map if it were not told to keep them alive.

    Items go in tuples of one: it would spread an item that is a tuple over the arguments.
    """
    with importlib.import_module("mpire").WorkerPool(workers, start_method=start_method, keep_alive=True) as pool:

        def alone(items: Sequence[Any]) -> list[tuple[Any]]:
            return [(item,) for item in items]

        yield Pool(
            submit=lambda fn, *args: pool.apply_async(fn, args),
            result=operator.methodcaller("get"),
            map=lambda fn, items: pool.map(fn, alone(items), concatenate_numpy_output=False),
            chunked=lambda fn, items, chunk: pool.map(
                fn, alone(items), chunk_size=chunk, concatenate_numpy_output=False
            ),
            unordered=lambda fn, items: pool.imap_unordered(fn, alone(items), chunk_size=1),
            awaitable=cannot("mpire's results are no futures, and asyncio cannot await them"),
        )
        pool.stop_and_join()


def joblib(workers: int, start_method: str) -> Opened:
    """Open joblib's Parallel, with its own way to start workers."""
    library = importlib.import_module("joblib")

    def calls(fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
        return (library.delayed(fn)(item) for item in items)

    def by(**options: Any) -> Any:
        # A Parallel that is made anew finds the workers of the one before: joblib keeps them.
        return library.Parallel(n_jobs=workers, **options)

    try:
        with by() as parallel:
            yield Pool(
                submit=cannot("joblib runs whole loops, and has no handle for a single task"),
                result=cannot("joblib runs whole loops, and has no handle for a single task"),
                map=lambda fn, items: parallel(calls(fn, items)),
                chunked=lambda fn, items, chunk: by(batch_size=chunk)(calls(fn, items)),
                unordered=lambda fn, items: by(batch_size=1, return_as="generator_unordered")(calls(fn, items)),
                awaitable=cannot("joblib's results cannot be awaited by asyncio"),
                separate=lambda fn, items: by(batch_size=1, pre_dispatch="all")(calls(fn, items)),
            )
    finally:
        # It would keep its workers for minutes.
        importlib.import_module("joblib.externals.loky").get_reusable_executor().shutdown(wait=True)


def dask(workers: int, start_method: str) -> Opened:
    """Open dask's client on a cluster of this machine, one thread a worker. Equal tasks are not taken for one."""
    library = importlib.import_module("distributed")
    with (
        library.LocalCluster(
            n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50
        ) as cluster,
        library.Client(cluster) as client,
    ):

        def submit(fn: Callable[..., Any], *args: Any) -> Any:
            return client.submit(fn, *args, pure=False)

        def unordered(fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
            for _, answer in library.as_completed(client.map(fn, items, pure=False), with_results=True):
                yield answer

        def at_once(fn: Callable[[Any], Any], items: Sequence[Any]) -> Any:
            return client.gather(client.map(fn, items, pure=False))

        yield Pool(
            submit=submit,
            result=operator.methodcaller("result"),
            map=at_once,
            chunked=cannot("dask's map of futures has no chunks"),
            unordered=unordered,
            awaitable=cannot("dask awaits in a client of another kind, Client(asynchronous=True)"),
            separate=at_once,
        )


def ray(workers: int, start_method: str) -> Opened:
    """Open ray on this machine, with a processor for each worker."""
    library = importlib.import_module("ray")
    library.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        remote: dict[Callable[..., Any], Any] = {}

        def submit(fn: Callable[..., Any], *args: Any) -> Any:
            if fn not in remote:
                # It takes no builtins.
                remote[fn] = library.remote(max_retries=0)(lambda *args: fn(*args))
            return remote[fn].remote(*args)

        def at_once(fn: Callable[[Any], Any], items: Sequence[Any]) -> Any:
            return library.get([submit(fn, item) for item in items])

        def unordered(fn: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[Any]:
            waiting = [submit(fn, item) for item in items]
            while waiting:
                done, waiting = library.wait(waiting)
                yield library.get(done[0])

        yield Pool(
            submit=submit,
            result=library.get,
            map=at_once,
            chunked=cannot("ray's tasks have no chunks"),
            unordered=unordered,
            awaitable=lambda reference: asyncio.wrap_future(reference.future()),
            separate=at_once,
        )
    finally:
        library.shutdown()


# The first is the one that all others are compared with.
CONTENDERS: dict[str, Contender] = {
    contender.name: contender
    for contender in (
        Contender("ringpool", "ringpool", f"{__name__}:ringpool", program=_futures_program("ringpool")),
        Contender("stdlib", "", f"{__name__}:stdlib", program=_futures_program("concurrent.futures")),
        Contender(
            "mp.Pool",
            "",
            f"{__name__}:mp_pool",
            after_a_kill="the result of a task whose worker is killed never comes from mp.Pool",
            program=_program("", 'multiprocessing.get_context("{method}").Pool({workers})', "pool.apply(square, (7,))"),
        ),
        Contender(
            "loky",
            "loky",
            f"{__name__}:loky",
            starts_itself=True,
            program=_program(
                "from loky import ProcessPoolExecutor",
                "ProcessPoolExecutor({workers})",
                "pool.submit(square, 7).result()",
            ),
        ),
        Contender(
            "mpire",
            "mpire",
            f"{__name__}:mpire",
            after_a_kill="after a worker's death mpire's pool takes tasks, and their results never come",
        ),
        Contender("pebble", "pebble", f"{__name__}:pebble"),
        Contender("joblib", "joblib", f"{__name__}:joblib", starts_itself=True),
        Contender("dask", "distributed", f"{__name__}:dask", starts_itself=True),
        Contender("ray", "ray", f"{__name__}:ray", starts_itself=True),
        Contender("threads", "", f"{__name__}:threads", starts_itself=True, threads=True),
    )
}
FIRST = next(iter(CONTENDERS.values()))
