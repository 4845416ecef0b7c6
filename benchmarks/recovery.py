"""What do deaths, deadlines and recycling cost?

1. A worker is killed while 2,000 other tasks are pending: how long until the future of the task that it ran fails,
   and are all others right?
2. A worker is killed every 20 ms for 5 s, under load: how many tasks are right, how many were lost with their worker,
   and is any wrong or without an end?
3. A task in a loop of C code has a deadline: how long after the deadline and the grace does its future end?
4. Tasks of a millisecond with workers that are replaced after 25 of them, beside the same without: what share of the
   throughput is left? The tasks wait, or compute. The stdlib's pool beside it gets no more tasks at a time than it has
   workers, for with more it can stop for ever; if it does so all the same, that is counted.

    python benchmarks/recovery.py [--rounds N] [--tasks N] [--workers N] [--start-method METHOD]
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import math
import multiprocessing
import os
import random
import signal
import time
from concurrent.futures import Executor
from typing import Any

import ringpool

TASK_S = 0.001
MAX_TASKS = 25
STOPPED_S = 20.0  # a result that takes so long will not come
PENDING = 500


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


def double_after(number: int, seconds: float) -> int:
    """Compute for some time, then answer."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass
    return 2 * number


def loop_in_c() -> None:
    """Run one call that never ends, and that no exception can end."""
    collections.deque(itertools.repeat(None), maxlen=0)


def seconds_to_worker_died(workers: int, context: Any) -> float:
    """Return the time from a worker's death to the end of its future, with 2,000 others that must be right."""
    with ringpool.ProcessPoolExecutor(workers, context) as executor:
        concurrent.futures.wait([executor.submit(pid_then_sleep, i) for i in range(20 * workers)])
        victim = executor.submit(time.sleep, 60)
        others = [executor.submit(pow, i, 2) for i in range(2000)]
        while not victim.running():
            time.sleep(0.001)
        # Which worker runs it is found from outside: each worker but one is seen at another task.
        place = next(p for p in executor._supervisor._places if runs_long(p.process.pid))
        killed = time.perf_counter()
        os.kill(place.process.pid, signal.SIGKILL)
        error = victim.exception(30)
        took = time.perf_counter() - killed
        assert isinstance(error, ringpool.WorkerDied), error
        assert [future.result(30) for future in others] == [i * i for i in range(2000)]
    return took


def runs_long(pid: int | None) -> bool:
    """Whether the process sleeps in `time.sleep` rather than because it has no task."""
    with open(f"/proc/{pid}/syscall") as file:
        return file.read().split()[0] == "230"  # clock_nanosleep on x86-64


def outcomes_under_kills(workers: int, context: Any, every_s: float, for_s: float) -> collections.Counter[str]:
    """Return what became of the tasks, and how many kills there were."""
    count: collections.Counter[str] = collections.Counter()
    rng = random.Random(0)
    with ringpool.ProcessPoolExecutor(workers, context) as executor:
        executor.submit(pid_then_sleep, 0).result()
        numbers = itertools.count()
        begin = time.perf_counter()
        next_kill = begin + every_s
        pending: dict[concurrent.futures.Future[int], int] = {}
        while pending or time.perf_counter() - begin < for_s:
            if time.perf_counter() - begin < for_s:
                for number in itertools.islice(numbers, PENDING - len(pending)):
                    pending[executor.submit(double_after, number, rng.random() * 0.001)] = number
                if time.perf_counter() >= next_kill:
                    next_kill += every_s
                    client, places = executor._client, list(executor._supervisor._places)
                    # Three that die one after the other before they are ready break a pool, as they should.
                    pids = [place.process.pid for place in places if client.segment.worker_started(place.index)]
                    with contextlib.suppress(ProcessLookupError, IndexError):
                        os.kill(rng.choice(pids), signal.SIGKILL)
                        count["kills"] += 1
            done, _ = concurrent.futures.wait(pending, 0.001, concurrent.futures.FIRST_COMPLETED)
            if not done and time.perf_counter() - begin > for_s + STOPPED_S:
                count["without an end"] += len(pending)
                executor.kill_workers()
                break
            for future in done:
                number, error = pending.pop(future), future.exception()
                if error is not None:
                    count[type(error).__name__] += 1
                else:
                    count["right" if future.result() == 2 * number else "wrong"] += 1
    return count


def seconds_over(workers: int, context: Any, timeout: float, grace: float) -> float:
    """Return how long after its deadline and its grace the future of a task ends."""
    with ringpool.ProcessPoolExecutor(workers, context) as executor:
        executor.submit(pid_then_sleep, 0).result()
        future = executor.options(timeout=timeout, grace=grace).submit(loop_in_c)
        while not future.running():
            pass
        began = time.perf_counter()
        error = future.exception(30)
        took = time.perf_counter() - began
        assert isinstance(error, ringpool.TaskTimeout), error
    return took - timeout - grace


def throughput(executor: Executor, task: Any, tasks: int, window: int) -> float:
    """Return tasks a second with at most `window` of them pending; not a number if the pool stops for ever."""
    with executor:
        try:
            concurrent.futures.wait([executor.submit(task, i) for i in range(window)], STOPPED_S)
            begin = time.perf_counter()
            for start in range(0, tasks, window):
                for future in [executor.submit(task, i) for i in range(start, min(start + window, tasks))]:
                    future.result(STOPPED_S)
            return tasks / (time.perf_counter() - begin)
        except TimeoutError:
            for process in list(executor._processes.values()):  # type: ignore[attr-defined]
                process.kill()
            return math.nan


def main() -> None:
    """Measure in turns and print."""
    import argparse  # here: each new worker imports this module, and would pay for them

    from ringpool.bench.report import spread

    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options.add_argument("--tasks", type=int, default=2000, help="of recycled workers (default: %(default)s)")
    options.add_argument("--workers", type=int, default=2, help="default: %(default)s")
    options.add_argument("--start-method", default="forkserver", help="forkserver or spawn (default: %(default)s)")
    given = options.parse_args()
    context = multiprocessing.get_context(given.start_method)
    workers, rounds = given.workers, range(given.rounds)

    died = [1e3 * seconds_to_worker_died(workers, context) for _ in rounds]
    print(f"from a death to WorkerDied, 2,000 other tasks pending: {spread(died)} ms")

    outcomes = outcomes_under_kills(workers, context, 0.02, 5.0)
    print(f"a kill every 20 ms for 5 s: {', '.join(f'{n} {what}' for what, n in sorted(outcomes.items()))}")

    for grace in (0.0, 0.2):
        over = [1e3 * seconds_over(workers, context, 0.2, grace) for _ in rounds]
        print(f"in C code past a deadline with {grace} s of grace: the future ends {spread(over)} ms later")

    pools = {
        "ringpool": (ringpool.ProcessPoolExecutor, given.tasks, given.tasks),
        "stdlib": (concurrent.futures.ProcessPoolExecutor, given.tasks // 4, workers),
    }
    for task in (pid_then_sleep, pid_then_compute):
        shares: dict[str, list[float]] = {name: [] for name in pools}
        rates: dict[str, list[float]] = {name: [] for name in pools}
        for _ in rounds:
            for name, (make, tasks, window) in pools.items():
                plain = throughput(make(workers, context), task, tasks, window)
                recycled = throughput(make(workers, context, max_tasks_per_child=MAX_TASKS), task, tasks, window)
                shares[name].append(recycled / plain)
                rates[name].append(recycled)
        for name, values in shares.items():
            stops = sum(map(math.isnan, values))
            print(
                f"{task.__name__}, {MAX_TASKS} tasks a worker: {name} keeps {spread(values)} of its throughput"
                f", {spread(rates[name])} tasks/s"
                + (f", but stopped for ever in {stops} of {given.rounds} rounds" if stops else "")
            )


if __name__ == "__main__":
    main()
