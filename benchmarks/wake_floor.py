"""How far is a round trip after idleness from the floor of the machine, which is two futex wakes?

The floor is a C program, compiled on the spot: two processes that share a page, each asleep in the kernel on
a word of it. One sleeps 2 ms, wakes the other, and sleeps until that one has woken it. No Python and no queue
can be faster without spinning. It and ringpool's `submit(nop).result()` after 2 ms run in turns, and the
ratio is taken round by round. A ratio of 1 is the floor.

The floor is measured twice. "apart": the two processes are held on different cores, as a parent and a worker that
run at the same time are; a core that idles must be woken, which costs most of the time. "together": on one core, where
a wake is a switch of context and nothing else; two processes placed so cannot run in parallel. ringpool is not pinned.

    python benchmarks/wake_floor.py [--rounds N] [--trips N] [--workers N]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import subprocess
import tempfile
from pathlib import Path

from ringpool.bench.contenders import CONTENDERS
from ringpool.bench.report import ratios, spread
from ringpool.bench.setting import Setting, round_trips_ns
from ringpool.machine import usable_cpus

PAUSE_S = 0.002

FLOOR = r"""
#define _GNU_SOURCE
#include <linux/futex.h>
#include <sched.h>
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

/* Holds this process on the nth of the cores that it may use. */
static void pin(int n)
{
    cpu_set_t may, only;
    CPU_ZERO(&only);
    sched_getaffinity(0, sizeof may, &may);
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET(cpu, &may) && n-- == 0)
            CPU_SET(cpu, &only);
    sched_setaffinity(0, sizeof only, &only);
}

int main(int argc, char **argv)
{
    uint32_t trips = argc > 2 ? (uint32_t)strtoul(argv[1], NULL, 10) : 0;
    int apart = argc > 2 ? atoi(argv[2]) : 0;
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
        pin(apart);
        for (uint32_t trip = 1; trip <= trips; trip++) {
            wait_until(&page->there, trip);
            publish(&page->back, trip);
        }
        _exit(0);
    }
    pin(0);
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


def floor_ns(program: Path, trips: int, apart: bool) -> float:
    """Run the C program, its processes on one core or on two, and return the median of its round trips in ns."""
    command = [program, str(trips), str(int(apart))]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
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

    setting = Setting(CONTENDERS["ringpool"], given.workers, multiprocessing.get_context().get_start_method())
    together: list[float] = []
    apart: list[float] = []
    executor: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        source, program = Path(folder, "floor.c"), Path(folder, "floor")
        source.write_text(FLOOR)
        subprocess.run(["cc", "-std=gnu11", "-O2", "-o", program, source], check=True)
        turns = [
            lambda: together.append(floor_ns(program, given.trips, False)),
            lambda: executor.append(executor_ns(setting, given.trips)),
            lambda: apart.append(floor_ns(program, given.trips, True)),
        ]
        for number in range(given.rounds):
            for turn in turns[number % 3 :] + turns[: number % 3]:
                turn()
    print(f"{usable_cpus()} cores, {given.rounds} rounds of {given.trips} round trips after 2 ms, p50:")
    for name, floor in (("apart", apart), ("together", together)):
        print(f"two futex wakes, {name:<10} {spread([ns / 1000 for ns in floor])} us")
    print(f"ringpool                    {spread([ns / 1000 for ns in executor])} us")
    for name, floor in (("apart", apart), ("together", together)):
        print(f"ratio to the floor, {name:<8}{spread(ratios(floor, executor, higher_is_better=False))}")


if __name__ == "__main__":
    main()
