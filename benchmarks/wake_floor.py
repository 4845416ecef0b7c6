"""How far is a round trip after idleness from the floor of the machine, which is two futex wakes?

The floor is a C program, compiled on the spot: two processes that share a page, each asleep in the kernel on
a word of it. One sleeps 2 ms, wakes the other, and sleeps until that one has woken it. No Python and no queue
can be faster without spinning. It and ringpool's `submit(nop).result()` after 2 ms run in turns, and the
ratio is taken round by round. A ratio of 1 is the floor; neither side is pinned to a core.

    python benchmarks/wake_floor.py [--rounds N] [--trips N] [--workers N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import tempfile
from pathlib import Path

from ringpool.bench.cases import CONTENDERS, Setting, round_trips_ns
from ringpool.bench.report import ratios, spread
from ringpool.machine import usable_cpus

PAUSE_S = 0.002

FLOOR = r"""
#define _GNU_SOURCE
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* Each word has a cache line of its own and one writer. */
struct page {
    _Alignas(64) _Atomic uint32_t there;
    _Alignas(64) _Atomic uint32_t back;
};

static void publish(_Atomic uint32_t *word, uint32_t value)
{
    atomic_store(word, value);
    syscall(SYS_futex, word, FUTEX_WAKE, 1, NULL, NULL, 0);
}

/* No spin: the wake is what is measured. */
static void wait_until(_Atomic uint32_t *word, uint32_t value)
{
    uint32_t seen;
    while ((seen = atomic_load(word)) != value)
        syscall(SYS_futex, word, FUTEX_WAIT, seen, NULL, NULL, 0);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

int main(int argc, char **argv)
{
    uint32_t trips = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0;
    int memory = (int)syscall(SYS_memfd_create, "wake_floor", 0);
    if (memory < 0 || ftruncate(memory, sizeof(struct page)) != 0)
        return 1;
    struct page *page = mmap(NULL, sizeof *page, PROT_READ | PROT_WRITE, MAP_SHARED, memory, 0);
    if (page == MAP_FAILED)
        return 1;
    pid_t other = fork();
    if (other < 0)
        return 1;
    if (other == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        for (uint32_t trip = 1; trip <= trips; trip++) {
            wait_until(&page->there, trip);
            publish(&page->back, trip);
        }
        _exit(0);
    }
    struct timespec pause = {0, 2000000};
    for (uint32_t trip = 1; trip <= trips; trip++) {
        nanosleep(&pause, NULL);
        int64_t begin = now_ns();
        publish(&page->there, trip);
        wait_until(&page->back, trip);
        printf("%lld\n", (long long)(now_ns() - begin));
    }
    waitpid(other, NULL, 0);
    return 0;
}
"""


def floor_ns(program: Path, trips: int) -> float:
    """Run the C program and return the median of its round trips in ns."""
    printed = subprocess.run([program, str(trips)], check=True, capture_output=True, text=True, timeout=300).stdout
    times = [int(line) for line in printed.split()]
    if len(times) != trips:
        raise RuntimeError(f"The floor printed {len(times)} times for {trips} round trips.")
    return statistics.median(times)


def executor_ns(setting: Setting, trips: int) -> float:
    """Return the median of an executor's round trips after idleness in ns."""
    with setting.pool() as executor:
        round_trips_ns(setting, executor, 10, PAUSE_S)
        return statistics.median(round_trips_ns(setting, executor, trips, PAUSE_S))


def main() -> None:
    """Measure in turns and print the ratio."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=7, help="default: %(default)s")
    options.add_argument("--trips", type=int, default=500, help="round trips a round (default: %(default)s)")
    options.add_argument("--workers", type=int, default=1, help="of ringpool's pool (default: %(default)s)")
    given = options.parse_args()

    setting = Setting(CONTENDERS[1], given.workers, multiprocessing.get_context().get_start_method())
    floor: list[float] = []
    executor: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "floor.c"), Path(folder, "floor")
        source.write_text(FLOOR)
        subprocess.run(["cc", "-std=gnu11", "-O2", "-o", program, source], check=True)
        for number in range(given.rounds):
            if number % 2 == 0:
                floor.append(floor_ns(program, given.trips))
            executor.append(executor_ns(setting, given.trips))
            if number % 2:
                floor.append(floor_ns(program, given.trips))
    print(f"{usable_cpus()} cores, {given.rounds} rounds of {given.trips} round trips after 2 ms, p50:")
    print(f"two futex wakes       {spread([ns / 1000 for ns in floor])} us")
    print(f"{setting.contender.name:<21} {spread([ns / 1000 for ns in executor])} us")
    print(f"ratio to the floor    {spread(ratios(executor, floor, higher_is_better=False))}")


if __name__ == "__main__":
    main()
