"""Contenders that do not do what they should, for test_bench.py; measured in interpreters of their own."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import shared_memory
from pathlib import Path
from typing import Any

from ringpool.bench import contenders
from ringpool.bench.contenders import Contender, Pool

STARTED = "RINGPOOL_TEST_STARTED"  # in the environment: the file for the names of what `hanging` has started


def opened(workers: int, start_method: str) -> Iterator[Pool]:
    yield from contenders.stdlib(workers, start_method)


def wrong(workers: int, start_method: str) -> Iterator[Pool]:
    """Its maps and its bursts lose an item's place."""
    for pool in opened(workers, start_method):

        def turned(fn: Callable[[Any], Any], items: Sequence[Any], pool: Pool = pool) -> list[Any]:
            answers = [pool.result(handle) for handle in [pool.submit(fn, item) for item in items]]
            return answers[1:] + answers[:1]

        yield dataclasses.replace(pool, map=turned, separate=turned)


def failing(workers: int, start_method: str) -> Iterator[Pool]:
    print("noise on the standard output")
    raise OSError("no such library here")
    yield


def ending(workers: int, start_method: str) -> Iterator[Pool]:
    sys.stderr.write("a crash\n")
    sys.exit(3)
    yield


def hanging(workers: int, start_method: str) -> Iterator[Pool]:
    """With a process in a session of its own, and a block of memory that has a name. Writes down pid and name."""
    block = shared_memory.SharedMemory(create=True, size=1)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True)
    started = os.environ[STARTED]
    Path(started + ".new").write_text(f"{child.pid} {block.name}")
    os.rename(started + ".new", started)
    time.sleep(600)
    yield


WRONG, FAILING, ENDING, HANGING = (
    Contender(name, "", f"{__name__}:{name}") for name in ("wrong", "failing", "ending", "hanging")
)
