"""What does a map cost an item, how well is it balanced, and how much memory does it take?

1. `map` with its defaults over integers, and over small tuples with strings and dicts, beside that of
   `multiprocessing.Pool` and of the stdlib's executor with theirs (the latter with fewer items: it would take minutes).
2. `submit_many` beside as many calls of `submit`, from the call to the last result.
3. Items of 50 us to 200 ms, Pareto distributed, and 200 of 10 ms: what share of the ideal makespan is reached? The
   items sleep and say for how long, so the ideal is that of what they really took, whatever else the machine does.
4. By how much does the parent grow while it maps ten million integers lazily, and, an item, a million eagerly?

    python benchmarks/mapping.py [--rounds N] [--items N] [--workers N] [--start-method METHOD]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import random
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import ringpool

STDLIB_SHARE = 200  # the stdlib's executor maps one of this number of items


def square(x: int) -> int:
    """Cost next to nothing."""
    return x * x


def area(item: tuple[str, dict[str, int], int]) -> tuple[str, int]:
    """Take a tuple with a string and a dict, and give one with a string."""
    name, box, scale = item
    return name, box["width"] * box["height"] * scale


def sleep(seconds: float) -> float:
    """Sleep, and say for how long."""
    start = time.perf_counter()
    time.sleep(seconds)
    return time.perf_counter() - start


def ratios(of: list[float], to: list[float]) -> str:
    """Return the median and the range of the quotients, round by round."""
    each = sorted(a / b for a, b in zip(of, to, strict=True))
    return f"{statistics.median(each):.3g} [{each[0]:.3g}-{each[-1]:.3g}]"


def rates(rounds: int, workers: int, context: Any, n: int) -> None:
    """Measure 1. and 2."""
    tuples = [(f"box {i % 1000}", {"width": i, "height": 2}, 3) for i in range(n)]
    kinds: dict[str, tuple[Callable[[Any], Any], list[Any]]] = {
        "integers": (square, list(range(n))),
        "tuples with strings and dicts": (area, tuples),
    }
    with (
        ringpool.ProcessPoolExecutor(workers, context) as ours,
        context.Pool(workers) as pool,
        concurrent.futures.ProcessPoolExecutor(workers, context) as stdlib,
    ):
        for executor in (ours, stdlib):
            list(executor.map(square, range(100)))
        pool.map(square, range(100))
        for kind, (fn, items) in kinds.items():
            calls = [(item,) for item in items]
            contenders: dict[str, Callable[[Callable[[Any], Any], list[Any]], list[Any]]] = {
                "map": lambda fn, items: list(ours.map(fn, items)),
                "mp.Pool": lambda fn, items: pool.map(fn, items),
                "stdlib": lambda fn, items: list(stdlib.map(fn, items)),
                "submit_many": lambda fn, _, calls=calls: [f.result() for f in ours.submit_many(fn, calls)],
                "submit": lambda fn, items: [f.result() for f in [ours.submit(fn, item) for item in items]],
            }
            took: dict[str, list[float]] = {name: [] for name in contenders}
            names = list(contenders)
            for i in range(rounds):
                for name in names[i % len(names) :] + names[: i % len(names)]:
                    some = items[:: STDLIB_SHARE if name == "stdlib" else 1]
                    start = time.perf_counter()
                    got = contenders[name](fn, some)
                    took[name].append((time.perf_counter() - start) / len(some))
                    assert got == list(map(fn, some)), f"{name} gives wrong results"
            print(f"{n:,} {kind}:")
            for name, each in took.items():
                print(f"  {name:12} {1 / statistics.median(each):12,.0f} items a second")
            print(f"  map: {ratios(took['mp.Pool'], took['map'])} times mp.Pool", end=", ")
            print(f"{ratios(took['stdlib'], took['map'])} times the stdlib")
            print(f"  submit_many: {ratios(took['submit'], took['submit_many'])} times submit", flush=True)


def balance(rounds: int, workers: int, context: Any) -> None:
    """Measure 3."""
    rng = random.Random(1)
    pareto = [min(50e-6 * rng.paretovariate(0.9), 0.2) for _ in range(5000)]
    with ringpool.ProcessPoolExecutor(workers, context) as executor:
        list(executor.map(sleep, [0.0] * 100))
        for name, items in (("5,000 of 50 us to 200 ms", pareto), ("200 of 10 ms", [0.01] * 200)):
            shares = []
            for _ in range(rounds):
                rng.shuffle(items)
                start = time.perf_counter()
                took = list(executor.map(sleep, items))
                wall = time.perf_counter() - start
                shares.append(max(sum(took) / workers, max(took)) / wall)
            spread = f"{statistics.median(shares):.3f} [{min(shares):.3f}-{max(shares):.3f}]"
            print(f"{name}: {spread} of the ideal makespan", flush=True)


def resident() -> int:
    """Return this process's own memory in bytes: neither shared nor of files."""
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("RssAnon"))


def memory(workers: int, context: Any, n: int) -> None:
    """Measure 4."""
    with ringpool.ProcessPoolExecutor(workers, context) as executor:
        list(executor.map(square, range(10_000)))
        before = resident()
        most = 0
        for i, _ in enumerate(executor.map(square, range(10 * n), buffersize="auto")):
            if i % 100_000 == 0:
                most = max(most, resident() - before)
        print(f'{10 * n:,} integers with buffersize="auto": the parent grows by {most / (1 << 20):.1f} MiB')
        before = resident()
        results = executor.map(square, range(n))
        print(f"{n:,} integers eagerly: it grows by {(resident() - before) / n:.1f} bytes an item, none read yet")
        del results


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--start-method", default="forkserver", choices=multiprocessing.get_all_start_methods())
    arguments = parser.parse_args()
    context = multiprocessing.get_context(arguments.start_method)
    print(f"Python {sys.version.split()[0]}, {arguments.workers} workers, {arguments.start_method}")
    memory(arguments.workers, context, arguments.items)
    balance(arguments.rounds, arguments.workers, context)
    rates(arguments.rounds, arguments.workers, context, arguments.items)


if __name__ == "__main__":
    main()
