"""Any executor by its name, so that every job here runs with any of them.

A job needs one thing of an executor: `map(fn, items)`, the results in the order of the items. Each executor does that
as its defaults have it. Those which send items one by one unless they are told otherwise (stdlib, loky, pebble) get
the `chunksize` that `multiprocessing.Pool.map` takes by default: four chunks for each worker. ringpool, mp.Pool, mpire
and joblib choose their chunks themselves; dask and ray know none.

A copy of a job needs none of this: put `ringpool.ProcessPoolExecutor()` in the place of `open_pool(...)`.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import importlib
import math
import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any


class WrongResult(Exception):
    """The output of a job is not what it must be."""


@dataclass(frozen=True)
class Pool:
    """What a job sees of an executor.

    Args:
        map: Takes a function of one argument and a sequence of items; gives the results in the order of the items.
    """

    map: Callable[[Callable[[Any], Any], Sequence[Any]], Iterable[Any]]


Opened = Iterator[Pool]


def _chunk(items: Sequence[Any], workers: int) -> int:
    """Return the chunk size that `multiprocessing.Pool.map` would take."""
    return max(1, math.ceil(len(items) / (4 * workers)))


def _package(name: str) -> Any:
    """Import an executor's package.

    Raises:
        SystemExit: If it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        sys.exit(f"This executor is of the package {name}, which is not installed: pip install {name}")


def _refuse(method: str | None, name: str) -> None:
    """Raise SystemExit if a start method is asked of an executor that takes none."""
    if method:
        sys.exit(f"{name} starts its workers in its own way: leave out --start-method.")


def _ringpool(workers: int, method: str | None) -> Opened:
    context = multiprocessing.get_context(method)
    with _package("ringpool").ProcessPoolExecutor(workers, context) as executor:
        yield Pool(executor.map)


def _stdlib(workers: int, method: str | None) -> Opened:
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(workers, context) as executor:
        yield Pool(lambda fn, items: executor.map(fn, items, chunksize=_chunk(items, workers)))


def _mp_pool(workers: int, method: str | None) -> Opened:
    with multiprocessing.get_context(method).Pool(workers) as pool:
        yield Pool(pool.map)


def _threads(workers: int, method: str | None) -> Opened:
    with concurrent.futures.ThreadPoolExecutor(workers) as executor:
        yield Pool(executor.map)


def _serial(workers: int, method: str | None) -> Opened:
    yield Pool(map)


def _loky(workers: int, method: str | None) -> Opened:
    loky = _package("loky")
    context = loky.backend.get_context(method) if method else None
    with loky.ProcessPoolExecutor(workers, context=context) as executor:
        yield Pool(lambda fn, items: executor.map(fn, items, chunksize=_chunk(items, workers)))


def _joblib(workers: int, method: str | None) -> Opened:
    joblib = _package("joblib")
    _refuse(method, "joblib")
    with joblib.Parallel(n_jobs=workers) as parallel:
        yield Pool(lambda fn, items: parallel(joblib.delayed(fn)(item) for item in items))


def _mpire(workers: int, method: str | None) -> Opened:
    method = method or multiprocessing.get_start_method()
    # It would start other workers for each map.
    with _package("mpire").WorkerPool(workers, start_method=method, keep_alive=True) as pool:
        # It would spread an item that is a tuple over the arguments, and join results that are arrays.
        yield Pool(lambda fn, items: pool.map(fn, [(item,) for item in items], concatenate_numpy_output=False))


def _pebble(workers: int, method: str | None) -> Opened:
    context = multiprocessing.get_context(method)
    with _package("pebble").ProcessPool(workers, context=context) as pool:
        yield Pool(lambda fn, items: pool.map(fn, items, chunksize=_chunk(items, workers)).result())


def _dask(workers: int, method: str | None) -> Opened:
    distributed = _package("distributed")
    _refuse(method, "dask")
    with (
        distributed.LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
        distributed.Client(cluster) as client,
    ):
        # Not pure: it would take equal items for one.
        yield Pool(lambda fn, items: client.gather(client.map(fn, items, pure=False)))


def _ray(workers: int, method: str | None) -> Opened:
    ray = _package("ray")
    _refuse(method, "ray")
    ray.init(num_cpus=workers, include_dashboard=False, logging_level="error")
    try:
        # It takes no functions that are built in, so it gets one of ours that calls them.
        apply = ray.remote(lambda fn, item: fn(item))
        yield Pool(lambda fn, items: ray.get([apply.remote(fn, item) for item in items]))
    finally:
        ray.shutdown()


EXECUTORS: dict[str, Callable[[int, str | None], Opened]] = {
    "ringpool": _ringpool,
    "stdlib": _stdlib,
    "mp.Pool": _mp_pool,
    "threads": _threads,
    "serial": _serial,
    "loky": _loky,
    "joblib": _joblib,
    "mpire": _mpire,
    "pebble": _pebble,
    "dask": _dask,
    "ray": _ray,
}


def open_pool(name: str, workers: int, start_method: str | None = None) -> contextlib.AbstractContextManager[Pool]:
    """Start an executor, and shut it down at the end of the `with` block.

    Args:
        name: One of `EXECUTORS`. "serial" is `map` in this process.
        workers: Processes, or threads.
        start_method: "fork", "forkserver" or "spawn"; None for the default: Python's, or the executor's own.

    Returns:
        A context manager that gives the `Pool`.

    Raises:
        SystemExit: If its package is not installed.
    """
    return contextlib.contextmanager(EXECUTORS[name])(workers, start_method)


def positive(text: str) -> int:
    """Return a whole number of at least 1, for `argparse`."""
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text} is no whole number of at least 1")
    return number


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options that all jobs have: `--executor`, `--workers` and `--start-method`."""
    parser.add_argument("--executor", default="ringpool", choices=EXECUTORS)
    parser.add_argument(
        "--workers", type=positive, default=multiprocessing.cpu_count(), help="default: one for each core"
    )
    parser.add_argument("--start-method", choices=multiprocessing.get_all_start_methods(), help="default: Python's")
