"""What the processes of test_left_open.py run. Spawned ones import this module, so it imports nothing of pytest."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

from files import await_file

import ringpool

kept: list[Any] = []  # pools that are left open, and are no garbage


def note(folder: str, i: int) -> None:
    with open(Path(folder) / "notes", "a") as notes:
        notes.write(f"{i}\n")


def leave_open(method: str, folder: str, n: int, keep: bool = True, kind: str = "ringpool") -> int:
    """Makes a pool, gives it n tasks, and does not shut it down. None of them runs before this is about to return."""
    made = {"ringpool": ringpool.ProcessPoolExecutor, "stdlib": ProcessPoolExecutor}[kind]
    executor = made(1, multiprocessing.get_context(method))
    executor.submit(await_file, f"{folder}/left")
    for i in range(n):
        executor.submit(note, folder, i)
    if keep:
        kept.append(executor)
    Path(folder, "left").touch()
    return os.getpid()


def try_to_leave_open(method: str, folder: str) -> str:
    try:
        leave_open(method, folder, 1)
    except BaseException as error:
        return f"{type(error).__name__}: {error}; children: {multiprocessing.active_children()}"
    return "no error"


def be_interrupted(method: str, folder: str) -> None:
    """Leaves a pool open whose task does not end."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    executor = ringpool.ProcessPoolExecutor(1, multiprocessing.get_context(method))
    kept.append(executor)
    pid = executor.submit(os.getpid).result()
    executor.submit(await_file, f"{folder}/never")
    Path(folder, "part").write_text(str(pid))
    Path(folder, "part").rename(Path(folder, "worker"))
    time.sleep(60)


def main(kind: str, method: str, folder: str, n: str) -> None:
    if kind == "worker of loky":
        import loky
        import tasks_left_open as here  # by this name the worker finds it

        with loky.ProcessPoolExecutor(1) as outer:
            outer.submit(here.leave_open, method, folder, int(n)).result()
    else:
        leave_open(method, folder, int(n), True, kind)


if __name__ == "__main__":
    main(*sys.argv[1:])
