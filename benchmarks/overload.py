"""How fast are round trips while four busy processes want the cores too, and how long is the worst stall?

A pool that spins while it waits may do well on a free machine and badly here. Contenders take turns. A round
of one contender ends after its round trips or after `--limit` seconds, whichever is first; the rate is what
is compared.

    python benchmarks/overload.py [--rounds N] [--trips N] [--limit SECONDS] [--busy N] [--workers N]
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import subprocess
import sys
import time
from collections.abc import Iterator

from ringpool.bench.contenders import CONTENDERS
from ringpool.bench.report import ratios, spread
from ringpool.bench.setting import Setting, percentile, round_trips_ns
from ringpool.machine import usable_cpus

# Ends by itself when the process that started it is gone.
BUSY = """
import os
parent = os.getppid()
while os.getppid() == parent:
    sum(range(100_000))
"""


@contextlib.contextmanager
def busy_processes(count: int) -> Iterator[None]:
    """Keep processes computing for as long as the block runs."""
    started: list[subprocess.Popen[bytes]] = []
    try:
        started += [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(count)]
        time.sleep(0.3)  # They compute by now; if one does not, the load is a little lower at first.
        yield
    finally:
        for process in started:
            process.kill()
        for process in started:
            process.wait()


def round_trips_within(setting: Setting, trips: int, limit_s: float) -> list[int]:
    """Return the ns of round trips, as many as were asked for or as fit into the limit."""
    times: list[int] = []
    with setting.pool() as executor:
        round_trips_ns(setting, executor, 20)
        end = time.monotonic() + limit_s
        while len(times) < trips and time.monotonic() < end:
            times += round_trips_ns(setting, executor, min(50, trips - len(times)))
    return times


def main() -> None:
    """Measure in turns and print rates, stalls and ratios."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    options.add_argument("--trips", type=int, default=20_000, help="round trips a round (default: %(default)s)")
    options.add_argument(
        "--limit", type=float, default=20.0, help="seconds a round and contender (default: %(default)s)"
    )
    options.add_argument("--busy", type=int, default=4, help="busy processes (default: %(default)s)")
    options.add_argument("--workers", type=int, default=2, help="of each pool (default: %(default)s)")
    given = options.parse_args()

    start_method = multiprocessing.get_context().get_start_method()
    contenders = [CONTENDERS["ringpool"], CONTENDERS["stdlib"]]
    rates: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    stalls: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    p99: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    with busy_processes(given.busy):
        for number in range(given.rounds):
            first = number % len(contenders)
            for contender in contenders[first:] + contenders[:first]:
                times = round_trips_within(Setting(contender, given.workers, start_method), given.trips, given.limit)
                rates[contender.name].append(len(times) * 1e9 / sum(times))
                stalls[contender.name].append(max(times) / 1e6)
                p99[contender.name].append(percentile(times, 99) / 1000)
    print(f"{usable_cpus()} cores, {given.busy} busy processes, {given.workers} workers, {given.rounds} rounds:")
    for name in rates:
        print(
            f"{name:<10} {spread(rates[name])} round trips/s, p99 {spread(p99[name])} us, "
            f"longest stall {spread(stalls[name])} ms"
        )
    first_name, second_name = rates
    print(
        f"ratio      rate {spread(ratios(rates[first_name], rates[second_name], True))}, "
        f"longest stall {spread(ratios(stalls[first_name], stalls[second_name], False))}"
    )


if __name__ == "__main__":
    main()
