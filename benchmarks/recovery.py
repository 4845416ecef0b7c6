"""What do deaths and recycling cost?

1. A worker is killed while 2,000 other tasks are pending: how long until the future of the task that it ran fails,
   and are all others right?
2. Tasks of a millisecond with workers that are replaced after 25 of them, beside the same without: what share of the
   throughput is left? The tasks wait, or compute. The stdlib's pool beside it gets no more tasks at a time than its
   workers may run, for it can stop for ever with more.

    python benchmarks/recovery.py [--rounds N] [--tasks N] [--workers N] [--start-method METHOD]
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import signal
import statistics
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

import ringpool
from ringpool.bench.report import spread

TASK_S = 0.001
MAX_TASKS = 25


def pid_then_sleep(_: int) -> int:
    """Wait for a millisecond."""
    time.sleep(TASK_S)
    return os.getpid()


def pid_then_compute(_: int) -> int:
    """Compute for a millisecond."""
    end = time.perf_counter() + TASK_S
    while time.perf_counter() < end:
        pass
    return os.getpid()


def seconds_to_worker_died(workers: int, context: Any) -> float:
    """Return the time from a worker's death to the end of its future, with 2,000 others that must be right."""
    with ringpool.ProcessPoolExecutor(workers, context) as executor:
        concurrent.futures.wait([executor.submit(pid_then_sleep, i) for i in range(20 * workers)])
        victim = executor.submit(time.sleep, 60)
        others = [executor.submit(pow, i, 2) for i in range(2000)]
        while not victim.running():
            time.sleep(0.001)
        # Who runs it? Nobody is asked: each worker but one is seen at another task.
        place = next(p for p in executor._supervisor._places.values() if runs_long(p.process.pid))
        killed = time.perf_counter()
        os.kill(place.process.pid, signal.SIGKILL)
        error = victim.exception(30)
        took = time.perf_counter() - killed
        assert isinstance(error, ringpool.WorkerDied), error
        assert [future.result(30) for future in others] == [i * i for i in range(2000)]
    return took


def runs_long(pid: int | None) -> bool:
    """Whether the process sleeps in `time.sleep` rather than for want of tasks."""
    with open(f"/proc/{pid}/syscall") as file:
        return file.read().split()[0] == "230"  # clock_nanosleep on x86-64


def throughput(make: Callable[[], Executor], task: Callable[[int], int], tasks: int, window: int) -> float:
    """Return tasks a second, with at most `window` of them pending."""
    with make() as executor:
        concurrent.futures.wait([executor.submit(task, i) for i in range(8)])
        begin = time.perf_counter()
        for start in range(0, tasks, window):
            futures = [executor.submit(task, i) for i in range(start, min(start + window, tasks))]
            for future in futures:
                future.result()
        return tasks / (time.perf_counter() - begin)


def main() -> None:
    """Measure in turns and print."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options.add_argument("--tasks", type=int, default=2000, help="of recycled workers (default: %(default)s)")
    options.add_argument("--workers", type=int, default=2, help="default: %(default)s")
    options.add_argument("--start-method", default="forkserver", help="forkserver or spawn (default: %(default)s)")
    given = options.parse_args()
    context = multiprocessing.get_context(given.start_method)

    died = [1e3 * seconds_to_worker_died(given.workers, context) for _ in range(given.rounds)]
    print(f"from a death to WorkerDied, 2,000 other tasks pending: {spread(died)} ms")

    ours = ringpool.ProcessPoolExecutor
    theirs = concurrent.futures.ProcessPoolExecutor
    window = MAX_TASKS * given.workers // 2
    for task in (pid_then_sleep, pid_then_compute):
        shares: dict[str, list[float]] = {"ringpool": [], "stdlib": []}
        for _ in range(given.rounds):
            for name, cls, pending in (("ringpool", ours, given.tasks), ("stdlib", theirs, window)):
                tasks = given.tasks if cls is ours else given.tasks // 4
                plain = throughput(lambda cls=cls: cls(given.workers, context), task, tasks, pending)
                recycled = throughput(
                    lambda cls=cls: cls(given.workers, context, max_tasks_per_child=MAX_TASKS), task, tasks, pending
                )
                shares[name].append(recycled / plain)
        for name, values in shares.items():
            print(f"{task.__name__}, {MAX_TASKS} tasks a worker: {name} keeps {spread(values)} of its throughput")
    print(f"({given.rounds} rounds, medians {statistics.median(died):.1f} ms)")


if __name__ == "__main__":
    main()
