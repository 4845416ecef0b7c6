"""How fast do large payloads pass, how much memory do they take, and are they all right in the end?

1. 16 MB of `bytes`, and a float64 array, into a task with a small result: what share of the speed of a bare copy into
   warm shared memory?
2. Arrays of 64 KB, 1, 16 and 128 MB in and out (`x * 2` in the worker), beside the stdlib's executor.
3. The peak of memory of 128 MB in and out, all processes together, beside the program's own arrays, in payloads.
4. 1,000 tasks on one shared array of 100 MB, beside the same tasks on an integer.
5. 16 arrays of 40 MB into tasks, and doubled there and back, by `map` and `submit_many`, beside `submit`.
6. With --soak MINUTES: random sizes from 0 B to 32 MB, submitted by four threads and checked by CRC; the memory in use
   now and then.

    python benchmarks/payloads.py [--rounds N] [--workers N] [--start-method METHOD] [--soak MINUTES]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import mmap
import multiprocessing
import os
import random
import statistics
import threading
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

import ringpool

MB = 1_000_000
EXECUTORS = {"stdlib": concurrent.futures.ProcessPoolExecutor, "ringpool": ringpool.ProcessPoolExecutor}


def double(values: Any) -> Any:
    return values * 2


def both(pool: Any, values: Any) -> None:
    pool.submit(double, values).result()


def first(values: Any, i: int = 0) -> float:
    return float(values[0])


def zero(_: int, i: int = 0) -> float:
    return 0.0


def echo(data: bytes) -> tuple[int, bytes]:
    return zlib.crc32(data), data


def echo_array(values: Any) -> tuple[int, Any]:
    return zlib.crc32(values), values


def peak_of(executor: Any) -> int:
    """Bytes that this process, its workers, and the pool's shared memory have had at most so far; shared pages once."""
    own = 0
    for pid in [os.getpid(), *(process.pid for process in executor._supervisor.processes)]:
        status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
        own += sum(int(status[key].split()[0]) * 1024 for key in ("RssAnon",))
    return own + os.fstat(executor._client.segment.memfd).st_blocks * 512


def spread(each: list[float]) -> str:
    each = sorted(each)
    return f"{statistics.median(each):.3g} [{each[0]:.3g}-{each[-1]:.3g}]"


def timed(call: Callable[[], object], times: int) -> float:
    """Seconds that the call takes: the median of `times` calls."""
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def into(executor: Any, rounds: int) -> None:
    """Measure 1."""
    data, values = os.urandom(16 * MB), np.random.default_rng(1).random(2 * MB)
    with mmap.mmap(-1, 16 * MB) as target:
        for name, payload in (("bytes", data), ("float64 array", values)):
            source, shares, speeds = memoryview(payload).cast("B"), [], []
            for _ in range(3):
                executor.submit(first, payload).result()
                target[:] = source
            for _ in range(rounds):
                copy_s = timed(lambda source=source: target.__setitem__(slice(None), source), 5)
                task_s = timed(lambda payload=payload: executor.submit(first, payload).result(), 5)
                shares.append(copy_s / task_s * 100)
                speeds.append(16e-3 / task_s)
            print(f"16 MB {name} in: {spread(speeds)} GB/s, {spread(shares)} % of a bare copy")


def both_ways(pools: dict[str, Any], rounds: int) -> None:
    """Measure 2."""
    for n in (64_000, MB, 16 * MB, 128 * MB):
        values = np.random.default_rng(1).random(n // 8)
        seconds: dict[str, list[float]] = {name: [] for name in pools}
        for _ in range(rounds):
            for name, pool in pools.items():
                result = pool.submit(double, values).result()
                assert np.array_equal(result, values * 2)
                del result
                times = 3 if n >= 16 * MB else 50
                seconds[name].append(timed(functools.partial(both, pool, values), times))
        ratios = [a / b for a, b in zip(seconds["stdlib"], seconds["ringpool"], strict=True)]
        print(
            f"{n / MB:g} MB array in and out: stdlib {spread([1e3 * s for s in seconds['stdlib']])} ms, "
            f"ringpool {spread([1e3 * s for s in seconds['ringpool']])} ms, ratio {spread(ratios)}"
        )


def memory(workers: int, context: Any) -> None:
    """Measure 3."""
    n = 128 * MB
    with ringpool.ProcessPoolExecutor(workers, context) as executor:
        executor.submit(double, np.zeros(10)).result()
        values = np.random.default_rng(1).random(n // 8)
        before, most, done = peak_of(executor), 0, threading.Event()

        def watch() -> None:
            nonlocal most
            while not done.wait(0.001):
                most = max(most, peak_of(executor))

        watcher = threading.Thread(target=watch)
        watcher.start()
        result = executor.submit(double, values).result()
        done.set()
        watcher.join()
        # The worker's own product is the task's, not the pool's.
        print(f"128 MB in and out: {(most - before) / n:.2f} payloads at most, of which 1 is the worker's own array")
        del result


def shared(executor: Any, rounds: int) -> None:
    """Measure 4."""
    array = executor.share(np.random.default_rng(1).random(100 * MB // 8))
    executor.submit(first, array).result()
    more = []
    for _ in range(rounds):
        us = {}
        for name, fn, argument in (("plain", zero, 0), ("shared", first, array)):
            start = time.perf_counter()
            for future in [executor.submit(fn, argument, i) for i in range(1000)]:
                future.result()
            us[name] = (time.perf_counter() - start) * 1e3
        more.append(us["shared"] - us["plain"])
    print(f"1,000 tasks on a shared array of 100 MB: {spread(more)} us a task more than on an integer")


def mapped(executor: Any, rounds: int) -> None:
    """Measure 5."""
    arrays = [np.random.default_rng(i).random(40 * MB // 8) for i in range(4)] * 4
    contenders: dict[str, Callable[[Callable[[Any], Any]], Iterable[Any]]] = {
        "submit": lambda fn: (f.result() for f in [executor.submit(fn, values) for values in arrays]),
        "map": lambda fn: executor.map(fn, arrays),
        'map with buffersize="auto"': lambda fn: executor.map(fn, arrays, buffersize="auto"),
        "submit_many": lambda fn: (f.result() for f in executor.submit_many(fn, zip(arrays, strict=True))),
    }
    names = list(contenders)
    for way, fn in (("in", first), ("in and out", double)):
        took: dict[str, list[float]] = {name: [] for name in names}
        for i in range(-1, rounds):  # the first makes the memory warm
            for name in names[i % len(names) :] + names[: i % len(names)]:
                start = time.perf_counter()
                n = sum(1 for _ in contenders[name](fn))
                took[name].append(time.perf_counter() - start)
                assert n == len(arrays)
        for name in names:
            ratios = [a / b for a, b in zip(took[name][1:], took["submit"][1:], strict=True)]
            print(
                f"16 arrays of 40 MB {way}, {name}: {spread(took[name][1:])} s, {spread(ratios)} times submit",
                flush=True,
            )


def soak(executor: Any, minutes: float) -> None:
    """Measure 6."""
    end = time.monotonic() + 60 * minutes
    tasks, moved, failures = [0] * 4, [0] * 4, []

    def use(me: int) -> None:
        chance = random.Random(me)
        noise = chance.randbytes(32 * MB)
        kept: list[Any] = []
        try:
            while time.monotonic() < end:
                n = int(chance.choice([32, 32 * MB]) ** chance.random()) if chance.random() < 0.95 else 0
                at = chance.randrange(32 * MB - n + 1)
                data = noise[at : at + n]
                if chance.random() < 0.5:
                    there, back = executor.submit(echo, data).result(60)
                else:
                    there, back = executor.submit(echo_array, np.frombuffer(data, np.uint8)).result(60)
                assert there == zlib.crc32(data) == zlib.crc32(back), f"{n} bytes are not what they were"
                tasks[me] += 1
                moved[me] += 2 * n
                kept.append(back)
                if len(kept) > 5:
                    kept.pop(chance.randrange(len(kept)))
        except BaseException as error:
            failures.append(error)
            raise

    threads = [threading.Thread(target=use, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        time.sleep(min(20.0, 6 * minutes))
        print(
            f"{60 * minutes - max(0.0, end - time.monotonic()):.0f} s: {sum(tasks):,} tasks, {sum(moved) / 1e9:.1f} GB "
            f"moved, {peak_of(executor) / MB:,.0f} MB in use",
            flush=True,
        )
    for thread in threads:
        thread.join()
    assert not failures
    print(f"soak: {sum(tasks):,} tasks, no error")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--start-method", default=multiprocessing.get_start_method())
    parser.add_argument("--soak", type=float, default=0.0, metavar="MINUTES")
    options = parser.parse_args()
    context = multiprocessing.get_context(options.start_method)
    print(f"load average {os.getloadavg()[0]:.2f}")
    pools = {name: make(options.workers, context) for name, make in EXECUTORS.items()}
    try:
        if options.soak:
            soak(pools["ringpool"], options.soak)
            return
        into(pools["ringpool"], options.rounds)
        both_ways(pools, options.rounds)
        shared(pools["ringpool"], options.rounds)
        mapped(pools["ringpool"], options.rounds)
    finally:
        for pool in pools.values():
            pool.shutdown()
    memory(options.workers, context)


if __name__ == "__main__":
    main()
