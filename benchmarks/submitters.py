"""How many tasks a second do threads submit at once, on a free-threaded build?

They submit to one pool that has no worker: no result comes, and the board has room for all. What is compared is that
with one thread, which takes turns with the others. With the GIL more threads submit no more.

    python benchmarks/submitters.py [--threads N ...] [--rounds N] [--tasks N]
"""

from __future__ import annotations

import argparse
import statistics
import sys
import threading
import time

import ringpool.future  # it tells the core what a future is
import ringpool.pickling  # noqa: F401 (which the core imports at its first pickle)
from ringpool import _core

SIZES = (1 << 30, 1 << 28, 1 << 28, 1 << 28)  # bytes: of address space, of arguments, of results, of loans


def nop() -> None:
    """Do nothing."""


def rate(threads: int, tasks: int) -> float:
    """Return how many tasks a second these threads submit, all together."""
    client = _core.Client(1, 1, threads, SIZES)
    client.create()
    kept = [client.submit(nop, (), None)]  # the function is known from then on
    ready = threading.Barrier(threads)
    spans: list[tuple[float, float]] = []

    def submit() -> None:
        futures = []
        ready.wait()
        begin = time.perf_counter()
        for _ in range(tasks // threads):
            futures.append(client.submit(nop, (), None))
        spans.append((begin, time.perf_counter()))
        kept.extend(futures)

    started = [threading.Thread(target=submit) for _ in range(threads)]
    for each in started:
        each.start()
    for each in started:
        each.join()
    client.cancel_all()
    begins, ends = zip(*spans, strict=True)
    return (tasks // threads) * threads / (max(ends) - min(begins))


def main() -> None:
    """Print the rates, and their ratio to that of one thread: the median of all rounds, and the middle half of them."""
    parser = argparse.ArgumentParser(description="Tasks that threads submit a second.")
    parser.add_argument("--threads", type=int, nargs="*", default=[2, 4], metavar="N", help="how many (default: 2 4)")
    parser.add_argument("--rounds", type=int, default=40, help="(default: 40)")
    parser.add_argument("--tasks", type=int, default=1000, help="a round, 1,000 at most (default: 1,000)")
    options = parser.parse_args()
    rounds = [{n: rate(n, options.tasks) for n in (1, *options.threads)} for _ in range(options.rounds)]
    gil = getattr(sys, "_is_gil_enabled", lambda: True)()
    print(f"CPython {sys.version.split()[0]}, {'with' if gil else 'without'} the GIL")
    for n in (1, *options.threads):
        ratios = sorted(each[n] / each[1] for each in rounds)
        low, middle, high = (ratios[int(len(ratios) * part)] for part in (0.25, 0.5, 0.75))
        median = statistics.median(each[n] for each in rounds)
        print(f"{n:3} threads: {median / 1e6:6.2f} M/s, {middle:5.2f} [{low:.2f}-{high:.2f}] of one's")


if __name__ == "__main__":
    main()
