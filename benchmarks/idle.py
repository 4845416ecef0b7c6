"""What does an idle pool cost: CPU time of all its processes, and how often their threads wake?

Each contender's pool does some work, rests a second so that its spinning ends, and is watched while this
process sleeps. A context switch is voluntary when a thread goes to sleep, so each is a wake-up that costs
something; the sleep of this script itself is one of them.

    python benchmarks/idle.py [--rounds N] [--seconds N] [--workers N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from pathlib import Path

from ringpool.bench.contenders import CONTENDERS
from ringpool.bench.report import spread
from ringpool.bench.setting import Setting, cpu_ns, family, round_trips_ns
from ringpool.machine import usable_cpus


def voluntary_switches(pids: Sequence[int]) -> int:
    """Return how often the threads of processes have gone to sleep so far."""
    total = 0
    for pid in pids:
        for status in Path(f"/proc/{pid}/task").glob("*/status"):
            for line in status.read_text().splitlines():
                if line.startswith("voluntary_ctxt_switches:"):
                    total += int(line.split()[1])
    return total


def watch(setting: Setting, seconds: float) -> tuple[float, float]:
    """Return the percentage of one core and the voluntary context switches a second of an idle pool."""
    with setting.pool() as executor:
        round_trips_ns(setting, executor, 200)
        time.sleep(1)
        pids = family()
        switches = voluntary_switches(pids)
        cpu = cpu_ns(pids)
        begin = time.perf_counter_ns()
        time.sleep(seconds)
        wall = time.perf_counter_ns() - begin
        cpu = cpu_ns(pids) - cpu
        switches = voluntary_switches(pids) - switches
    return 100 * cpu / wall, switches * 1e9 / wall


def main() -> None:
    """Watch the pools in turns and print what they cost."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    options.add_argument("--seconds", type=float, default=5.0, help="to watch each pool (default: %(default)s)")
    options.add_argument("--workers", type=int, default=2, help="of each pool (default: %(default)s)")
    given = options.parse_args()

    start_method = multiprocessing.get_context().get_start_method()
    contenders = [CONTENDERS["ringpool"], CONTENDERS["stdlib"]]
    found: dict[str, list[tuple[float, float]]] = {contender.name: [] for contender in contenders}
    for number in range(given.rounds):
        first = number % len(contenders)
        for contender in contenders[first:] + contenders[:first]:
            found[contender.name].append(watch(Setting(contender, given.workers, start_method), given.seconds))
    print(f"{usable_cpus()} cores, {given.workers} idle workers, {given.rounds} rounds of {given.seconds:g} s:")
    for name, pairs in found.items():
        percents, switches = zip(*pairs, strict=True)
        # `spread` keeps two decimals, and an idle pool may need less than a hundredth of a percent.
        print(
            f"{name:<10} "
            f"{statistics.median(percents):.4f} [{min(percents):.4f}-{max(percents):.4f}] % of one core, "
            f"{spread(switches)} voluntary context switches/s"
        )


if __name__ == "__main__":
    main()
