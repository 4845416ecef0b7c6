"""What `python -m ringpool bench` measures: the contenders, the cases, and the tasks which the cases run.

A case is one function under `@case`. It measures one contender for one round, checks every result that it
gets, and returns one number for each of its metrics. The first line of its docstring is the question it
answers.

`CONTENDERS` is the only place that names an executor. Both get the same start method, the same number of
workers and the same initializer (workers ignore SIGINT, so that Ctrl-C prints a table and not a traceback a
worker).

Workers import this module to find their tasks, so it imports little, and no executor.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import json
import math
import multiprocessing
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

# Long enough for workers started by `spawn` on a machine that is busy with something else.
READY_DEADLINE_S = 60.0


class WrongAnswer(Exception):
    """An executor's results are not what the tasks return."""


@dataclass(frozen=True)
class Contender:
    """An executor that takes part.

    Args:
        name: What tables call it.
        target: Where its class is, as "module:attribute"; text, so that a fresh interpreter can find it too.
        closures: Whether its tasks may be lambdas and closures.
    """

    name: str
    target: str
    closures: bool = False

    def load(self) -> Callable[..., Executor]:
        """Import the executor class.

        Returns:
            The class, which takes the arguments of `concurrent.futures.ProcessPoolExecutor`.
        """
        module, _, attribute = self.target.partition(":")
        factory: Callable[..., Executor] = getattr(importlib.import_module(module), attribute)
        return factory


# The first is what the second is compared with.
CONTENDERS: tuple[Contender, Contender] = (
    Contender("stdlib", "concurrent.futures:ProcessPoolExecutor"),
    Contender("ringpool", "ringpool:ProcessPoolExecutor", closures=True),
)


@dataclass(frozen=True)
class Setting:
    """What a case needs to know: whom it measures, and how large.

    Args:
        contender: The executor to measure.
        workers: Worker processes of each pool.
        start_method: "fork", "forkserver" or "spawn".
        quick: Whether to use the smaller sizes.
        scale: Every size is multiplied by it; tests use a small one.
        notes: Sentences for the reader of the table, filled by the cases; keys keep them unique.
    """

    contender: Contender
    workers: int
    start_method: str
    quick: bool = False
    scale: float = 1.0
    notes: dict[str, str] = field(default_factory=dict, compare=False)

    def count(self, full: int, quick: int) -> int:
        """Return how many tasks to run: at least one."""
        return max(1, int((quick if self.quick else full) * self.scale))

    def start(self) -> Executor:
        """Construct the contender's executor, without waiting for its workers."""
        return self.contender.load()(
            max_workers=self.workers,
            mp_context=multiprocessing.get_context(self.start_method),
            # Both are found in the standard library: no worker imports ringpool because of them.
            initializer=signal.signal,
            initargs=(signal.SIGINT, signal.SIG_IGN),
        )

    @contextlib.contextmanager
    def pool(self) -> Iterator[Executor]:
        """Lend an executor whose workers have all answered once; shut it down afterwards.

        Raises:
            RuntimeError: If some worker has not answered in `READY_DEADLINE_S`.
        """
        executor = self.start()
        try:
            await_workers(executor, self.workers)
            yield executor
        except BaseException:
            executor.shutdown(wait=True, cancel_futures=True)
            raise
        executor.shutdown(wait=True)

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


@dataclass(frozen=True)
class Metric:
    """One number that a case yields each round."""

    name: str
    unit: str
    higher_is_better: bool = False


Measure = Callable[[Setting], dict[str, float]]


@dataclass(frozen=True)
class Case:
    """One question and the function that answers it for one contender and one round."""

    name: str
    question: str
    metrics: tuple[Metric, ...]
    measure: Measure


CASES: dict[str, Case] = {}


def case(name: str, *metrics: Metric) -> Callable[[Measure], Measure]:
    """Register the function below as a case.

    Args:
        name: What `--cases` calls it.
        metrics: What the function returns, one entry for each.

    Returns:
        A decorator that leaves the function as it is.
    """

    def register(measure: Measure) -> Measure:
        question = (measure.__doc__ or "").partition("\n")[0]
        CASES[name] = Case(name, question, metrics, measure)
        return measure

    return register


# Tasks. Workers import them by name.


def nop() -> None:
    """Do nothing."""


def square(number: int) -> int:
    """Return the square of a number."""
    return number * number


def pid_after(pause_s: float) -> int:
    """Sleep, so that other workers get the next task, and say who has slept."""
    time.sleep(pause_s)
    return os.getpid()


def spin(loops: int) -> int:
    """Compute for a fixed number of steps (Marsaglia's generator 69069), and return where it ends."""
    value = 1
    for _ in range(loops):
        value = (value * 69069 + 1) & 0xFFFFFFFF
    return value


def hold(folder: str) -> int:
    """Note in a folder that this worker is busy, and stay busy while the file "closed" is there.

    It ends as well when the folder is removed, so nothing holds a worker whose parent is gone.
    """
    Path(folder, f"held-{os.getpid()}").touch()
    while os.path.exists(os.path.join(folder, "closed")):
        time.sleep(0.005)
    return os.getpid()


class Measures(NamedTuple):
    """What `measure_module` finds in one file."""

    nodes: int
    functions: int
    classes: int
    lines: int
    depth: int


def measure_module(path: str) -> Measures:
    """Parse one Python file and measure its syntax tree.

    Args:
        path: The file; its encoding is what the file itself declares.

    Returns:
        Nodes of the tree, functions (async ones and methods too, lambdas not), classes, lines of text, and
        the greatest depth, where the module itself has depth 1.

    Raises:
        SyntaxError, ValueError, RecursionError, MemoryError: If the file does not parse.
    """
    source = Path(path).read_bytes()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Invalid escapes in somebody's old string.
        tree = ast.parse(source, path)
    nodes = functions = classes = deepest = 0
    waiting: list[tuple[ast.AST, int]] = [(tree, 1)]
    while waiting:
        node, depth = waiting.pop()
        nodes += 1
        deepest = max(deepest, depth)
        functions += isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        classes += isinstance(node, ast.ClassDef)
        waiting.extend((child, depth + 1) for child in ast.iter_child_nodes(node))
    return Measures(nodes, functions, classes, len(source.splitlines()), deepest)


# Measuring.


def await_workers(executor: Executor, workers: int) -> None:
    """Give an executor tasks until every worker has done one.

    Raises:
        RuntimeError: If some worker has not answered in `READY_DEADLINE_S`.
    """
    deadline = time.monotonic() + READY_DEADLINE_S
    seen: set[int] = set()
    while len(seen) < workers:
        if time.monotonic() > deadline:
            raise RuntimeError(f"Only {len(seen)} of {workers} workers answered in {READY_DEADLINE_S:.0f} s.")
        futures = [executor.submit(pid_after, 0.005) for _ in range(workers)]
        seen.update(future.result() for future in futures)


def pool_pids() -> list[int]:
    """Return this process and its workers, however they were started."""
    workers = [child.pid for child in multiprocessing.active_children()]
    return [os.getpid(), *(pid for pid in workers if pid is not None)]


def cpu_ns(pids: Sequence[int]) -> int:
    """Return the CPU time which processes have used so far, all their threads together, ended ones too.

    The ticks of /proc/PID/stat are 10 ms, and a burst may end in 20 ms. So this reads the CPU clock of each
    process, whose number is made as `clock_getcpuclockid` of glibc makes it.
    """
    return sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that `percent` of all samples do not exceed (nearest rank)."""
    ordered = sorted(samples)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def round_trips_ns(setting: Setting, executor: Executor, count: int, pause_s: float = 0.0) -> list[int]:
    """Time `submit(nop).result()`, one after the other.

    Args:
        setting: Who is measured.
        executor: Its pool.
        count: How many round trips.
        pause_s: Sleep before each, which is not timed.

    Returns:
        The time of each in ns.
    """
    times: list[int] = []
    answers: list[None] = []
    for _ in range(count):
        if pause_s:
            time.sleep(pause_s)
        begin = time.perf_counter_ns()
        answer = executor.submit(nop).result()
        times.append(time.perf_counter_ns() - begin)
        answers.append(answer)
    setting.check("round trips", answers, [None] * count)
    return times


@functools.cache
def loops_for(task_us: int) -> int:
    """Return how many loops of `spin` take so many us on this machine while nothing disturbs it.

    The fastest of many short runs counts: whatever disturbs a run can only make it longer.
    """
    loops = 2000
    fastest_ns = math.inf
    for _ in range(200):
        begin = time.perf_counter_ns()
        spin(loops)
        fastest_ns = min(fastest_ns, time.perf_counter_ns() - begin)
    return max(1, round(loops * task_us * 1000 / fastest_ns))


def efficiency(setting: Setting, task_us: int, count: int) -> float:
    """Return (work / workers) / wall in percent, for many equal tasks by `submit()`.

    A task computes a fixed amount, which takes about `task_us`. It does not spin until a clock says so: where
    processes share a core, the wall clock counts stolen time as work done, and the thread's CPU clock costs a
    system call a step. A fixed amount is the same work for each contender, and its result can be checked.

    work / workers is how long the workers need for the same amount when each has its whole share in one task, so
    with all of them at it: two busy cores are seldom as fast as one alone. It is taken right before and right
    after, since a shared machine's speed drifts. With more workers than cores the efficiency is below the truth.
    """
    loops = loops_for(task_us)
    with setting.pool() as executor:

        def wall_ns(tasks: int, loops_each: int) -> int:
            begin = time.perf_counter_ns()
            futures = [executor.submit(spin, loops_each) for _ in range(tasks)]
            answers = [future.result() for future in futures]
            wall = time.perf_counter_ns() - begin
            setting.check(f"{task_us} us tasks", answers, [spin(loops_each)] * tasks)
            return wall

        share = count // setting.workers
        wall_ns(50 * setting.workers, loops)
        before_ns = wall_ns(setting.workers, loops * share)
        tasks_ns = wall_ns(share * setting.workers, loops)
        after_ns = wall_ns(setting.workers, loops * share)
    return 100 * (before_ns + after_ns) / 2 / tasks_ns


# Cases.


@case("roundtrip", Metric("p50", "us"), Metric("p99", "us"))
def _roundtrip(setting: Setting) -> dict[str, float]:
    """How long does submit(nop).result() take, one after the other?"""
    with setting.pool() as executor:
        round_trips_ns(setting, executor, setting.count(300, 100))
        times = round_trips_ns(setting, executor, setting.count(5000, 1000))
    return {"p50": statistics.median(times) / 1000, "p99": percentile(times, 99) / 1000}


@case("idle", Metric("p50", "us"), Metric("p99", "us"))
def _idle(setting: Setting) -> dict[str, float]:
    """How long does submit(nop).result() take after 2 ms of idleness?"""
    with setting.pool() as executor:
        round_trips_ns(setting, executor, setting.count(20, 10), 0.002)
        times = round_trips_ns(setting, executor, setting.count(1000, 200), 0.002)
    return {"p50": statistics.median(times) / 1000, "p99": percentile(times, 99) / 1000}


@case("burst", Metric("rate", "tasks/s", higher_is_better=True), Metric("CPU a task", "us"))
def _burst(setting: Setting) -> dict[str, float]:
    """How many tasks a second pass when all are submitted first, and what CPU time does each cost?

    The CPU time is that of the parent and all workers together.
    """
    count = setting.count(20_000, 3000)
    with setting.pool() as executor:
        for future in [executor.submit(square, number) for number in range(setting.count(500, 200))]:
            future.result()
        pids = pool_pids()
        cpu_before = cpu_ns(pids)
        begin = time.perf_counter_ns()
        futures = [executor.submit(square, number) for number in range(count)]
        answers = [future.result() for future in futures]
        wall_ns = time.perf_counter_ns() - begin
        cpu_used = cpu_ns(pids) - cpu_before
    setting.check("a burst", answers, [number * number for number in range(count)])
    return {"rate": count * 1e9 / wall_ns, "CPU a task": cpu_used / 1000 / count}


@case("10us", Metric("efficiency", "%", higher_is_better=True))
def _tasks_of_10_us(setting: Setting) -> dict[str, float]:
    """What share of the workers' time goes into the work itself when a task takes 10 us?"""
    return {"efficiency": efficiency(setting, 10, setting.count(20_000, 3000))}


@case("100us", Metric("efficiency", "%", higher_is_better=True))
def _tasks_of_100_us(setting: Setting) -> dict[str, float]:
    """What share of the workers' time goes into the work itself when a task takes 100 us?"""
    return {"efficiency": efficiency(setting, 100, setting.count(10_000, 2000))}


@case("startup", Metric("first result", "ms"), Metric("shutdown", "ms"))
def _startup(setting: Setting) -> dict[str, float]:
    """How long does it take from construction to the first result, and then to shut down?

    The task is a builtin, so that no worker imports anything for it. The first pool is not counted: it may
    start the fork server, which serves every later pool of both contenders.
    """
    starts: list[float] = []
    stops: list[float] = []
    answers: list[int] = []
    repeats = setting.count(5, 3)
    for _ in range(repeats + 1):
        begin = time.perf_counter_ns()
        executor = setting.start()
        try:
            answers.append(executor.submit(abs, -7).result())
            starts.append((time.perf_counter_ns() - begin) / 1e6)
        finally:
            begin = time.perf_counter_ns()
            executor.shutdown(wait=True)
            stops.append((time.perf_counter_ns() - begin) / 1e6)
    setting.check("start-up", answers, [7] * (repeats + 1))
    return {"first result": statistics.median(starts[1:]), "shutdown": statistics.median(stops[1:])}


@case("memory", Metric("a queued task", "bytes"))
def _memory(setting: Setting) -> dict[str, float]:
    """By how many bytes does a queued task make the parent grow?

    Measured in a fresh interpreter, where no freed memory is at hand that would hide growth.
    """
    count = setting.count(20_000, 4000)
    with tempfile.TemporaryDirectory(prefix="ringpool-bench-") as folder:
        closed = Path(folder, "closed")
        closed.touch()
        order = {
            "contender": asdict(setting.contender),
            "workers": setting.workers,
            "start_method": setting.start_method,
            "count": count,
            "folder": folder,
        }
        child = subprocess.Popen(
            [sys.executable, "-c", f"from {__name__} import grow_and_report; grow_and_report()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,  # Ctrl-C reaches this process only, which lets the child end in peace.
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        try:
            text, _ = child.communicate(json.dumps(order))
        except BaseException:
            # Let its workers go, then it ends by itself.
            closed.unlink(missing_ok=True)
            try:
                child.wait(timeout=10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
            raise
    if child.returncode:
        raise RuntimeError(f"The interpreter that measures memory ended with status {child.returncode}.")
    report = json.loads(text)
    if report["complaint"]:
        raise WrongAnswer(report["complaint"])
    return {"a queued task": report["growth_bytes"] / count}


def grow_and_report() -> None:
    """Measure, in an interpreter of its own, how a queue of tasks makes the process grow.

    Reads what to do as JSON from stdin, and writes `growth_bytes` and `complaint` as JSON to stdout.
    """
    order: dict[str, Any] = json.load(sys.stdin)
    setting = Setting(Contender(**order["contender"]), order["workers"], order["start_method"])
    count: int = order["count"]
    closed = Path(order["folder"], "closed")
    complaint = ""
    with setting.pool() as executor:
        try:
            gates = [executor.submit(hold, order["folder"]) for _ in range(setting.workers)]
            deadline = time.monotonic() + READY_DEADLINE_S
            while len(list(closed.parent.glob("held-*"))) < setting.workers:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"Not all workers were busy after {READY_DEADLINE_S:.0f} s.")
                time.sleep(0.005)
            before = resident_bytes()
            futures = [executor.submit(square, number) for number in range(count)]
            growth = resident_bytes() - before
        finally:
            closed.unlink(missing_ok=True)
        for gate in gates:
            gate.result()
        try:
            answers = [future.result() for future in futures]
            setting.check("a queue", answers, [number * number for number in range(count)])
        except WrongAnswer as wrong:
            complaint = str(wrong)
    json.dump({"growth_bytes": growth, "complaint": complaint}, sys.stdout)


def resident_bytes() -> int:
    """Return how much memory of this process is resident, shared pages that it has touched included."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


@case("stdlib", Metric("wall", "s"))
def _stdlib(setting: Setting) -> dict[str, float]:
    """How long does it take to parse and measure the modules of Python's standard library, one file a task?

    Both contenders must give what a plain loop in this process gives, and so the same as each other.
    """
    files = stdlib_files()
    step = max(1, len(files) // setting.count(len(files), 150))
    paths, expected, loop_s = measured_in_a_loop(files[::step])
    setting.notes["stdlib"] = (
        f"stdlib: {len(paths)} files of {sysconfig.get_path('stdlib')}, "
        f"{sum(found.lines for found in expected):,} lines; a plain loop in one process takes {loop_s:.2f} s."
    )
    with setting.pool() as executor:
        begin = time.perf_counter_ns()
        answers = list(executor.map(measure_module, paths, chunksize=1))
        wall_ns = time.perf_counter_ns() - begin
    setting.check("measuring the standard library", answers, expected)
    return {"wall": wall_ns / 1e9}


@functools.cache
def stdlib_files() -> tuple[str, ...]:
    """Return the Python files of the running Python's standard library, sorted, without site-packages."""
    root = sysconfig.get_path("stdlib")
    found: list[str] = []
    for folder, below, names in os.walk(root):
        below[:] = [name for name in below if name not in {"site-packages", "dist-packages", "__pycache__"}]
        found += [os.path.join(folder, name) for name in names if name.endswith(".py")]
    return tuple(sorted(found))


@functools.cache
def measured_in_a_loop(files: tuple[str, ...]) -> tuple[list[str], list[Measures], float]:
    """Measure files one after the other in this process, once.

    Args:
        files: Paths; those that do not parse, which are data of Python's own tests, are left out.

    Returns:
        The files that parse, what was measured in each, and the seconds it took.
    """
    paths: list[str] = []
    measured: list[Measures] = []
    begin = time.perf_counter_ns()
    for path in files:
        try:
            measured.append(measure_module(path))
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        paths.append(path)
    return paths, measured, (time.perf_counter_ns() - begin) / 1e9
