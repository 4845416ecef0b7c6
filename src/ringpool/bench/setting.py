"""What a case is given and what it fills in, and the measurements that several cases share.

`Setting` says what to measure and how large; `Found` takes what was found. Nothing here knows a case.
"""

from __future__ import annotations

import contextlib
import math
import os
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import tasks
from .contenders import Contender, Pool

# Long enough for workers started by `spawn` on a machine that is busy with something else.
READY_DEADLINE_S = 60.0
QUANTILES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999)


class WrongAnswer(Exception):
    """An executor's results are not what the tasks return."""


@dataclass(frozen=True)
class Setting:
    """What a case needs to know: which contender it measures, and how large.

    Args:
        contender: The library to measure.
        workers: Worker processes of each pool.
        start_method: "fork", "forkserver" or "spawn".
        quick: Whether to use the smaller sizes.
        scale: Every size is multiplied by it; tests use a small one.
    """

    contender: Contender
    workers: int
    start_method: str
    quick: bool = False
    scale: float = 1.0

    def count(self, full: int, quick: int) -> int:
        """Return how many tasks to run: at least one."""
        return max(1, int((quick if self.quick else full) * self.scale))

    def seconds(self, full: float, quick: float) -> float:
        """Return how long to measure a case that is measured for a time."""
        return (quick if self.quick else full) * self.scale

    def open(self, workers: int = 0, start_method: str = "") -> contextlib.AbstractContextManager[Pool]:
        """Open a pool without waiting for its workers; with other workers, or another start method, if given."""
        return self.contender.open(workers or self.workers, start_method or self.start_method)

    @contextlib.contextmanager
    def pool(self, workers: int = 0) -> Iterator[Pool]:
        """Open a pool whose workers have all answered once.

        Raises:
            RuntimeError: If some worker has not answered in `READY_DEADLINE_S`.
        """
        with self.open(workers) as pool:
            if not self.contender.threads:
                await_workers(pool, workers or self.workers)
            yield pool

    def check(self, what: str, answers: Sequence[object], expected: Sequence[object]) -> None:
        """Compare results with what they must be.

        Raises:
            WrongAnswer: Naming the contender and the first result that differs.
        """
        if len(answers) != len(expected):
            raise WrongAnswer(f"{self.contender.name} gave {len(answers)} results in {what}, not {len(expected)}.")
        for number, (answer, right) in enumerate(zip(answers, expected, strict=True)):
            if answer != right:
                raise WrongAnswer(
                    f"{self.contender.name} gave a wrong answer in {what}: result {number} is "
                    f"{answer!r:.200}, and should be {right!r:.200}."
                )


@dataclass
class Found:
    """What one measurement has found.

    Args:
        metrics: Numbers, in the form of the run's JSON, with the number as "value".
        distributions: Latencies, in the form of the run's JSON, with those at `QUANTILES` as "values".
        notes: Sentences for the reader of the table.
    """

    metrics: list[dict[str, Any]] = field(default_factory=list)
    distributions: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def number(
        self,
        name: str,
        unit: str,
        value: float,
        higher_is_better: bool = False,
        x: tuple[str, str, float] | None = None,
        series: str = "",
    ) -> None:
        """Add a number.

        Args:
            name: What tables call it.
            unit: Of the number.
            value: The number.
            higher_is_better: Whether larger numbers are better.
            x: In a sweep what varies, its unit and its value.
            series: Which curve of the sweep it belongs to.
        """
        self.metrics.append(
            {
                "name": name,
                "unit": unit,
                "higher_is_better": higher_is_better,
                "x": None if x is None else dict(zip(("name", "unit", "value"), x, strict=True)),
                "series": series,
                "value": value,
            }
        )

    def latencies(self, name: str, times_ns: Sequence[int]) -> None:
        """Add p50 and p99 of many times as numbers, and their distribution."""
        us = [time_ns / 1000 for time_ns in times_ns]
        self.number(f"{name} p50", "us", statistics.median(us))
        self.number(f"{name} p99", "us", percentile(us, 99))
        values = [percentile(us, 100 * quantile) for quantile in QUANTILES]
        self.distributions.append({"name": name, "unit": "us", "quantiles": list(QUANTILES), "values": values})


def await_workers(pool: Pool, workers: int) -> None:
    """Give a pool tasks until every worker has done one.

    Raises:
        RuntimeError: If some worker has not answered in `READY_DEADLINE_S`.
    """
    deadline = time.monotonic() + READY_DEADLINE_S
    seen: set[int] = set()
    pause_s = 0.005
    while len(seen) < workers:
        if time.monotonic() > deadline:
            raise RuntimeError(f"Only {len(seen)} of {workers} workers answered in {READY_DEADLINE_S:.0f} s.")
        seen.update(pool.each(tasks.pid_after, [pause_s] * workers))
        pause_s = min(2 * pause_s, 0.2)  # an executor may hand the next to a worker that has one


def family() -> list[int]:
    """Return this process and all processes below it, however they were started."""
    below: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):  # one that has just ended
                parent = int(Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[1])
                below.setdefault(parent, []).append(int(entry))
    found = [os.getpid()]
    for pid in found:
        found += below.get(pid, [])
    return found


def cpu_ns(pids: Sequence[int]) -> int:
    """Return the CPU time which processes have used so far, all their threads together, ended ones too.

    The ticks of /proc/PID/stat are 10 ms, and a burst may end in 20 ms. So this reads the CPU clock of each
    process, whose number is made as `clock_getcpuclockid` of glibc makes it.
    """
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError):  # one that has ended
            total += time.clock_gettime_ns((~pid << 3) | 2)
    return total


def resident_bytes() -> int:
    """Return how much memory of this process is resident, shared pages that it has touched included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that `percent` of all samples do not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def round_trips_ns(setting: Setting, pool: Pool, count: int, pause_s: float = 0.0) -> list[int]:
    """Time one task that does nothing, from `submit` to its result, one after the other.

    Args:
        setting: Which contender is measured.
        pool: Its pool.
        count: How many round trips.
        pause_s: Sleep before each, which is not timed.

    Returns:
        The time of each in ns.
    """
    times: list[int] = []
    answers: list[None] = []
    submit, result = pool.submit, pool.result
    for _ in range(count):
        if pause_s:
            time.sleep(pause_s)
        begin = time.perf_counter_ns()
        answer = result(submit(tasks.nop))
        times.append(time.perf_counter_ns() - begin)
        answers.append(answer)
    setting.check("round trips", answers, [None] * count)
    return times


def rate(setting: Setting, what: str, count: int, run: Callable[[Sequence[int]], Sequence[int]]) -> float:
    """Return how many numbers a second `run` squares, in at least one run and in as many as fit into half a second.

    Args:
        setting: Which contender is measured.
        what: For the message about a wrong answer.
        count: How many numbers a run.
        run: Takes numbers and returns their squares in the same order.
    """
    numbers = range(count)
    expected = [number * number for number in numbers]
    enough_ns = setting.seconds(0.5, 0.2) * 1e9
    wall_ns = runs = 0
    while not runs or wall_ns < enough_ns:
        begin = time.perf_counter_ns()
        answers = run(numbers)
        wall_ns += time.perf_counter_ns() - begin
        runs += 1
        setting.check(what, answers, expected)
    return runs * count * 1e9 / wall_ns


def loops_for(task_us: float) -> int:
    """Return how many loops of `spin` take this many us on this machine while nothing disturbs it.

    The fastest of many short runs counts: a disturbance can only make a run longer.
    """
    loops = 2000
    fastest_ns = math.inf
    for _ in range(100):
        begin = time.perf_counter_ns()
        tasks.spin(loops)
        fastest_ns = min(fastest_ns, time.perf_counter_ns() - begin)
    return max(1, round(loops * task_us * 1000 / fastest_ns))


@dataclass
class Work:
    """Tasks that compute a fixed amount, and what share of the workers' time goes into it.

    They do not spin until a clock says so: where processes share a core, the wall clock counts stolen time as work
    done, and the thread's CPU clock costs a system call a step. A fixed amount is the same work for each contender, and
    its result can be checked.

    The share is the rate at which the work was done, to the sum of the workers' own rates in one long task each, with
    all of them at it: two busy cores are seldom as fast as one alone, nor as fast as each other. That is taken right
    before and right after, since a shared machine's speed drifts.
    """

    setting: Setting
    pool: Pool

    def __post_init__(self) -> None:
        self._loops_us = loops_for(1000) / 1000
        self._long = max(1, int(self._loops_us * self.setting.seconds(0.1, 0.05) * 1e6))
        self._expected: dict[int, int] = {}
        self._before_ns = self._loop_ns()

    def loops(self, task_us: float) -> int:
        """Return the amount that takes this many us."""
        return max(1, round(self._loops_us * task_us))

    def _loop_ns(self) -> float:
        """Return what a loop takes all workers together, by how long each needs for one long task."""
        answers = self.pool.each(tasks.timed_spin, [self._long] * self.setting.workers)
        self._check([answer for answer, _ in answers], [self._long] * self.setting.workers)
        rate: float = sum(self._long / ns for _, ns in answers)
        return 1 / rate

    def _check(self, answers: Sequence[int], amounts: Sequence[int]) -> None:
        for amount in set(amounts) - set(self._expected):
            self._expected[amount] = tasks.spin(amount)
        self.setting.check("computing", answers, [self._expected[amount] for amount in amounts])

    def efficiency(
        self, amounts: Sequence[int], run: Callable[[Callable[[Any], Any], Sequence[int]], Any]
    ) -> tuple[float, float]:
        """Return the share in percent for tasks of these amounts, which `run` takes as `Pool.map` does, and how many
        tasks a second that is."""
        begin = time.perf_counter_ns()
        answers = list(run(tasks.spin, amounts))
        wall_ns = time.perf_counter_ns() - begin
        self._check(answers, amounts)
        after_ns = self._loop_ns()
        loop_ns = (self._before_ns + after_ns) / 2
        self._before_ns = after_ns
        return 100 * loop_ns * sum(amounts) / wall_ns, 1e9 * len(amounts) / wall_ns
