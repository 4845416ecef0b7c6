"""What the workers of test_nested.py run. Spawned workers import this module, so it imports nothing of pytest."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import ringpool

WAIT_S = 20

kept: list[Any] = []  # pools that tasks leave open
inherited: dict[str, Any] = {}  # what a forked worker finds of its parent's


def square(x: int) -> int:
    return x * x


def context(method: str) -> Any:
    return multiprocessing.get_context(method)


def squares_by(kind: str, method: str, n: int) -> list[int]:
    """The squares up to n, by a pool of the worker's own."""
    if kind == "multiprocessing.Pool":
        with context(method).Pool(2) as pool:
            return pool.map_async(square, range(n)).get(WAIT_S)
    made = {"ringpool": ringpool.ProcessPoolExecutor, "stdlib": concurrent.futures.ProcessPoolExecutor}[kind]
    with made(2, context(method)) as executor:
        futures = [executor.submit(square, i) for i in range(n)]
        return [future.result(WAIT_S) for future in futures]


def squares_at_depth(depth: int, n: int) -> list[int]:
    if depth == 0:
        return [square(i) for i in range(n)]
    with ringpool.ProcessPoolExecutor(1) as executor:
        return executor.submit(squares_at_depth, depth - 1, n).result(WAIT_S)


def leave_open(kind: str, method: str) -> int:
    """Makes a pool that is never shut down, and uses it."""
    made = {"ringpool": ringpool.ProcessPoolExecutor, "stdlib": concurrent.futures.ProcessPoolExecutor}[kind]
    kept.append(made(1, context(method)))
    return kept[-1].submit(os.getpid).result(WAIT_S)


def use_what_was_left() -> int:
    return kept[-1].submit(os.getpid).result(WAIT_S)


def nest_and_wait(method: str, pids: str) -> None:
    """Writes the pids of this worker and of its pool's two workers, which then are busy for ever, as it is itself."""
    executor = ringpool.ProcessPoolExecutor(2, context(method))
    kept.append(executor)
    for i in range(2):
        executor.submit(note_and_wait, f"{pids}.{i}")
    note_and_wait(f"{pids}.outer")


def note_and_wait(path: str) -> None:
    part = Path(path + ".part")
    part.write_text(str(os.getpid()))
    part.rename(path)
    while True:
        time.sleep(60)


def names_of_workers(n: int) -> list[str]:
    """Of a pool of n workers, each of which waits until the others have come."""
    with ringpool.ProcessPoolExecutor(n, context("fork")) as executor, tempfile.TemporaryDirectory() as folder:
        futures = [executor.submit(name_of_worker, folder, n) for _ in range(n)]
        return sorted(future.result(WAIT_S) for future in futures)


def numbers_and_names(n: int) -> tuple[str, list[str]]:
    """The number in the name of this process, and the names of its pool's workers."""
    return multiprocessing.current_process().name.rpartition("-")[2], names_of_workers(n)


def name_of_worker(folder: str, n: int) -> str:
    Path(folder, str(os.getpid())).touch()
    while len(os.listdir(folder)) < n:
        time.sleep(0.005)
    return multiprocessing.current_process().name


def fail_in_nested() -> None:
    with ringpool.ProcessPoolExecutor(1) as executor:
        executor.submit(die).result(WAIT_S)


def die() -> None:
    os._exit(9)


def raised_by(what: str) -> tuple[str, str]:
    """The exception that a use of the parent's pool raises in a worker that inherited it."""
    executor, future = inherited["executor"], inherited["future"]
    uses = {
        "submit": lambda: executor.submit(square, 3),
        "map": lambda: list(executor.map(square, range(3))),
        "map in chunks": lambda: list(executor.map(square, range(3), chunksize=2)),
        "terminate_workers": lambda: executor.terminate_workers(),
        "kill_workers": lambda: executor.kill_workers(),
        "result": lambda: future.result(),
        "result with a timeout": lambda: future.result(WAIT_S),
        "exception": lambda: future.exception(),
        "done": lambda: future.done(),
        "running": lambda: future.running(),
        "cancel": lambda: future.cancel(),
        "add_done_callback": lambda: future.add_done_callback(print),
        "wait": lambda: concurrent.futures.wait([future]),
        "as_completed": lambda: list(concurrent.futures.as_completed([future])),
    }
    try:
        uses[what]()
    except BaseException as error:
        return type(error).__name__, str(error)
    return "nothing", ""


def shut_down_inherited(wait: bool) -> str:
    with inherited["executor"]:
        inherited["executor"].shutdown(wait=wait, cancel_futures=True)
    return repr(inherited["future"])


class Holder:
    """An object that holds a pool, and whose method is a task."""

    def __init__(self, executor: Any) -> None:
        self.executor = executor

    def work(self) -> int:
        return self.executor.submit(square, 3).result()


def echo(value: Any) -> Any:
    return value


def gone(pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    return True
