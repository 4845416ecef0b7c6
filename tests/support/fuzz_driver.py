"""Has workers write wildly into the memory that this process reads, and says what became of the pool.

    python fuzz_driver.py SEED ROUNDS

Each round: one worker begins to write wildly; tasks of all kinds go to all workers. Then the workers are killed, and
all futures must be done, with a result or an exception, and the pool must work.
"""

from __future__ import annotations

import collections
import contextlib
import faulthandler
import gc
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import Future, TimeoutError
from multiprocessing import get_context
from typing import Any

import tasks_fuzz as tasks
from limits import LIMIT
from tasks_views import Buffers, filled
from words import Words

from ringpool import ProcessPoolExecutor, budget

ARENA = 1 << 20
WILD_S = 0.15


def outcome(future: Future[Any]) -> str:
    try:
        value = future.result(LIMIT)
    except TimeoutError as error:
        if not future.done():
            raise AssertionError("a future is never done") from error
        return "TimeoutError"
    except BaseException as error:
        return type(error).__name__
    # Whatever it is, it is an object that can be used.
    repr(value)[:100]
    if isinstance(value, Buffers):
        [bytes(memoryview(buffer)) for buffer in value.buffers]
    return "result"


def a_round(executor: ProcessPoolExecutor, seed: int) -> collections.Counter[str]:
    chance = random.Random(seed)
    client = executor._client
    processes = {process.pid: process for process in executor._supervisor.processes}
    wild = executor.submit(os.getpid).result(LIMIT)
    begin = executor.submit(tasks.scribble, seed, client.segment.n_places, client.segment.sizes[0], WILD_S)
    futures: list[Future[Any]] = [begin]
    kept = []
    end = time.monotonic() + WILD_S
    while time.monotonic() < end:
        kind = chance.randrange(5)
        if kind == 0:
            futures += [executor.submit(tasks.work, chance.getrandbits(30)) for _ in range(10)]
        elif kind == 1:
            futures += [executor.submit(tasks.echo, Buffers(filled(20_000, i), bytes(17_000))) for i in range(3)]
        elif kind == 2:
            futures += executor.submit_many(tasks.work, [(chance.getrandbits(30),) for _ in range(30)])
        elif kind == 3:
            results = executor.map(tasks.work, range(30), timeout=LIMIT)
            try:
                kept.append([repr(result)[:10] for result in results])
            except TimeoutError:
                raise AssertionError("a map is never done") from None
            except BaseException as error:
                kept.append(type(error).__name__)
        else:
            future = executor.options(timeout=0.05, grace=0.05).submit(tasks.echo, bytes(1000))
            futures += [future, executor.options(retries=2).submit(tasks.work, 5)]
            if chance.random() < 0.5:
                future.cancel(running=True)
        if futures and chance.random() < 0.5:
            time.sleep(0.003)
            futures[chance.randrange(len(futures))].done()
        if futures and chance.random() < 0.1:
            del futures[chance.randrange(len(futures))]
    # Which of the workers it is, only the wild one knows, and it need not have said so.
    for process in processes.values():
        process.kill()
    del wild
    return collections.Counter(outcome(future) for future in futures)


@contextlib.contextmanager
def told_at_once(executor: ProcessPoolExecutor) -> Iterator[None]:
    """Ends the program at an error, without a wait for the pool, which may be what hangs."""
    try:
        yield
    except BaseException:
        with Words(executor._client) as words:
            print(words, file=sys.stderr)
        traceback.print_exc()
        faulthandler.dump_traceback(all_threads=True)
        sys.stderr.flush()
        os._exit(1)


def main() -> None:
    faulthandler.dump_traceback_later(100, exit=True)
    budget.sizes = lambda *_: (4 * ARENA, ARENA, ARENA, 2 * ARENA)
    seed, rounds = int(sys.argv[1]), int(sys.argv[2])
    total: collections.Counter[str] = collections.Counter()
    broken = 0
    i = 0
    while i < rounds:
        with ProcessPoolExecutor(2, get_context("fork"), tasks.mute) as executor, told_at_once(executor):
            executor.submit(tasks.echo, 0).result(LIMIT)
            while i < rounds:
                found = a_round(executor, seed * 1000 + i)
                i += 1
                total += found
                try:
                    for n in (0, 100, 5000, 100_000):
                        data = os.urandom(n)
                        for answer in (data, Buffers(filled(20_000, n))):
                            deadline = time.monotonic() + LIMIT
                            while True:  # workers that are being killed may take some down with them
                                error = None
                                future = executor.submit(tasks.echo, answer)
                                if future.exception(LIMIT) is None:
                                    again = future.result()
                                    break
                                error = future.exception()
                                if executor._client.closed or time.monotonic() > deadline:
                                    raise error
                            if isinstance(answer, Buffers):
                                assert bytes(again.buffers[0]) == bytes(answer.buffers[0])
                            else:
                                assert again == data
                except AssertionError:
                    raise
                except BaseException as error:
                    if not executor._client.closed:
                        raise
                    total[f"broken by {type(error).__name__}"] += 1
                    broken += 1
                    break
                del future, again
                gc.collect()
                deadline = time.monotonic() + LIMIT
                while executor._client.results.blocks_of_workers:
                    assert time.monotonic() < deadline, f"{executor._client.results.blocks_of_workers} blocks are left"
                    time.sleep(0.01)
    faulthandler.cancel_dump_traceback_later()
    print(json.dumps({"rounds": rounds, "broken": broken, "outcomes": total}))


if __name__ == "__main__":
    main()
