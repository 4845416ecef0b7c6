"""What `python -m ringpool bench` asks: a function a case, each with one question.

A case measures one contender for one round, checks every result that it gets, and puts what it finds into a `Found`.
The first line of its docstring is the question that it answers. It runs in an interpreter of its own (see `measure`),
so nothing that one contender has started or left behind meets the next.
"""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from . import tasks
from .contenders import Cannot, Pool
from .setting import (
    READY_DEADLINE_S,
    Found,
    Setting,
    Work,
    WrongAnswer,
    cpu_ns,
    family,
    rate,
    resident_bytes,
    round_trips_ns,
)

IDLE_S = 0.002  # between round trips after idleness: longer than any contender spins
KIB, MIB = 1 << 10, 1 << 20

Measure = Callable[[Setting, Found], None]
_M = TypeVar("_M", bound=Measure)


@dataclass(frozen=True)
class Case:
    """One question and the function that answers it for one contender and one round.

    Args:
        name: What `--cases` calls it.
        question: One sentence.
        measure: Measures one contender.
        also: Contenders that take part in this case whether asked for or not.
    """

    name: str
    question: str
    measure: Measure
    also: tuple[str, ...] = ()


CASES: dict[str, Case] = {}


def case(name: str, also: tuple[str, ...] = ()) -> Callable[[_M], _M]:
    """Register the function below as a case.

    Args:
        name: What `--cases` calls it.
        also: Contenders that take part whether asked for or not.

    Returns:
        A decorator that leaves the function as it is.
    """

    def register(measure: _M) -> _M:
        question = (measure.__doc__ or "").partition("\n")[0]
        CASES[name] = Case(name, question, measure, also)
        return measure

    return register


@case("round trip")
def _round_trip(setting: Setting, found: Found) -> None:
    """How long does one task that does nothing take: one right after the other, and after 2 ms of idleness?"""
    with setting.pool() as pool:
        round_trips_ns(setting, pool, setting.count(300, 100))
        found.latencies("hot", round_trips_ns(setting, pool, setting.count(5000, 1000)))
        round_trips_ns(setting, pool, setting.count(20, 10), IDLE_S)
        found.latencies("idle", round_trips_ns(setting, pool, setting.count(500, 150), IDLE_S))


@case("burst")
def _burst(setting: Setting, found: Found) -> None:
    """How many tasks a second pass when all are submitted first, and then all results are taken?"""
    with setting.pool() as pool:
        pool.each(tasks.square, range(setting.count(500, 200)))
        done = rate(setting, "a burst", setting.count(5000, 2000), lambda numbers: pool.each(tasks.square, numbers))
    found.number("rate", "tasks/s", done, higher_is_better=True)


@case("as_completed")
def _as_completed(setting: Setting, found: Found) -> None:
    """How many tasks a second pass when their results are taken as they come?"""
    with setting.pool() as pool:
        pool.each(tasks.square, range(setting.count(500, 200)))
        # Squares of 0, 1, 2, ... are sorted as their numbers are.
        done = rate(
            setting,
            "results as they come",
            setting.count(2000, 1000),
            lambda numbers: sorted(pool.unordered(tasks.square, numbers)),
        )
    found.number("rate", "tasks/s", done, higher_is_better=True)


@case("asyncio")
def _asyncio(setting: Setting, found: Found) -> None:
    """How many tasks a second pass when asyncio awaits them all at once?"""
    with setting.pool() as pool:

        async def gather(numbers: Sequence[int]) -> list[int]:
            return list(await asyncio.gather(*(pool.awaitable(pool.submit(tasks.square, n)) for n in numbers)))

        async def measure() -> float:
            await gather(range(setting.count(500, 200)))
            count, enough_s = setting.count(2000, 1000), setting.seconds(0.5, 0.2)
            wall_s, runs = 0.0, 0
            while not runs or wall_s < enough_s:
                begin = time.perf_counter()
                answers = await gather(range(count))
                wall_s += time.perf_counter() - begin
                runs += 1
                setting.check("asyncio", answers, [number * number for number in range(count)])
            return runs * count / wall_s

        found.number("rate", "tasks/s", asyncio.run(measure()), higher_is_better=True)


@case("map")
def _map(setting: Setting, found: Found) -> None:
    """How many small items a second does a map take with nothing but defaults?"""
    with setting.pool() as pool:
        list(pool.map(tasks.square, range(setting.count(500, 200))))
        done = rate(setting, "a map", setting.count(10_000, 3000), lambda some: list(pool.map(tasks.square, some)))
    found.number("rate", "items/s", done, higher_is_better=True)


@case("chunked map")
def _chunked_map(setting: Setting, found: Found) -> None:
    """How many small items a second does a map take in chunks of 250?"""
    with setting.pool() as pool:
        list(pool.chunked(tasks.square, range(setting.count(5000, 2000)), 250))
        done = rate(
            setting,
            "a map in chunks",
            setting.count(100_000, 30_000),
            lambda some: list(pool.chunked(tasks.square, some, 250)),
        )
    found.number("rate", "items/s", done, higher_is_better=True)


@case("payload")
def _payload(setting: Setting, found: Found) -> None:
    """How many MB a second go to a worker and come back, by the size of the argument?

    Bytes, and arrays of float64 where NumPy is installed; MB of one direction. The answer is compared with what was
    sent, and that is not timed.
    """
    sizes = [16, KIB, 64 * KIB, MIB, 16 * MIB, 128 * MIB]
    most = (16 if setting.quick else 128) * MIB * setting.scale
    try:
        import numpy
    except ImportError:
        numpy = None  # type: ignore[assignment]
        found.notes.append("payload: NumPy is not installed, so no arrays were sent.")
    with setting.pool() as pool:
        if numpy is not None:
            pool.each(tasks.echo, [numpy.zeros(1)] * (50 * setting.workers))  # so that all workers have imported it
        for size in (size for size in sizes if size <= max(most, 16)):
            payloads: dict[str, Any] = {"bytes": random.Random(size).randbytes(min(size, MIB)) * max(1, size // MIB)}
            if numpy is not None:
                payloads["float64"] = numpy.arange(size // 8, dtype=numpy.float64)
            for kind, payload in payloads.items():
                times: list[int] = []
                for _ in range(1 + max(1, min(setting.count(200, 60), 64 * MIB // size, 1 + 8 * MIB // size))):
                    begin = time.perf_counter_ns()
                    answer = pool.result(pool.submit(tasks.echo, payload))
                    times.append(time.perf_counter_ns() - begin)
                    same = type(answer) is type(payload) and len(answer) == len(payload)
                    if not same or not (numpy.array_equal(answer, payload) if kind == "float64" else answer == payload):
                        raise WrongAnswer(f"{setting.contender.name} returned other {kind} than sent ({size} B).")
                    del answer
                # The first is the warm-up.
                found.number(
                    f"{size_name(size)} {kind}",
                    "MB/s",
                    size * 1000 / statistics.median(times[1:]),
                    higher_is_better=True,
                    x=("payload", "bytes", size),
                    series=kind,
                )


def size_name(size: int) -> str:
    """Return a size in bytes as text, in MiB or KiB where that is whole."""
    for unit, name in ((MIB, "MiB"), (KIB, "KiB")):
        if size % unit == 0:
            return f"{size // unit} {name}"
    return f"{size} B"


@case("grain")
def _grain(setting: Setting, found: Found) -> None:
    """By how long a task takes: what share of the workers' time is work, and how many a second are done?"""
    with setting.pool() as pool:
        work = Work(setting, pool)
        pool.each(tasks.spin, [1] * setting.count(200, 100))
        for name, task_us, full, quick in (
            ("1 us", 1, 4000, 2000),
            ("10 us", 10, 8000, 4000),
            ("100 us", 100, 2000, 1000),
            ("1 ms", 1000, 400, 150),
            ("10 ms", 10_000, 60, 20),
        ):
            share = max(1, setting.count(full, quick) // setting.workers)
            amounts = [work.loops(task_us)] * (share * setting.workers)
            percent, done = work.efficiency(amounts, pool.each)
            x = ("grain", "s", task_us / 1e6)
            found.number(name, "%", percent, higher_is_better=True, x=x, series="efficiency")
            found.number(f"{name}, rate", "tasks/s", done, higher_is_better=True, x=x, series="throughput")


@case("skewed")
def _skewed(setting: Setting, found: Found) -> None:
    """What share of the workers' time goes into the work when some items of a map take 500 times as long as others?

    Pareto distributed, 0.1 to 50 ms, the same for all; the map has nothing but defaults.
    """
    generator = random.Random(7)
    us = [min(100 * generator.paretovariate(1.1), 50_000) for _ in range(setting.count(1000, 400))]
    with setting.pool() as pool:
        work = Work(setting, pool)
        list(pool.map(tasks.spin, [1] * setting.count(200, 100)))
        amounts = [work.loops(each) for each in us]
        percent, _ = work.efficiency(amounts, pool.map)
        found.number("efficiency", "%", percent, higher_is_better=True)


@case("start")
def _start(setting: Setting, found: Found) -> None:
    """How long does it take from construction to the first result, and then to shut down, by start method?

    The task is a builtin, so that no worker imports anything for it. The first pool of each start method is not
    counted: it may start the fork server, which serves all later pools.
    """
    methods = multiprocessing.get_all_start_methods()
    if setting.contender.starts_itself:
        methods = [setting.start_method]
        found.notes.append(
            f"start: {setting.contender.name} starts workers in its own way; it stands beside {methods[0]}."
        )
    for method in sorted(methods):
        starts: list[float] = []
        stops: list[float] = []
        answers: list[int] = []
        repeats = setting.count(3, 2)
        for _ in range(repeats + 1):
            with contextlib.ExitStack() as stack:
                begin = time.perf_counter_ns()
                pool = stack.enter_context(setting.open(start_method=method))
                answers += pool.each(abs, [-7])
                starts.append((time.perf_counter_ns() - begin) / 1e6)
                begin = time.perf_counter_ns()
            stops.append((time.perf_counter_ns() - begin) / 1e6)
        setting.check("start-up", answers, [7] * (repeats + 1))
        found.number(f"{method} first result", "ms", statistics.median(starts[1:]))
        found.number(f"{method} shutdown", "ms", statistics.median(stops[1:]))


@case("cold start")
def _cold_start(setting: Setting, found: Found) -> None:
    """How long does a program take that makes a pool and runs one task, from its start to its end, by start method?

    Each is a fresh interpreter, so the time includes the imports, the fork server, and the shutdown. The first program
    of each start method is not counted: it may be the first to read a file.
    """
    contender = setting.contender
    if not contender.program:
        raise Cannot(f"{contender.name} has no program for a cold start")
    methods = [setting.start_method] if contender.starts_itself else multiprocessing.get_all_start_methods()
    with tempfile.TemporaryDirectory(prefix="ringpool-bench-") as folder:
        program = Path(folder, "program.py")
        for method in sorted(methods):
            program.write_text(contender.program.format(workers=setting.workers, method=method))
            times: list[float] = []
            for _ in range(1 + setting.count(7, 3)):
                with Path(folder, "answer").open("w+") as answer:  # not a pipe, which a fork server may hold open
                    begin = time.perf_counter_ns()
                    subprocess.run([sys.executable, program], stdout=answer, check=True)
                    times.append((time.perf_counter_ns() - begin) / 1e6)
                    answer.seek(0)
                    setting.check("a program", answer.read().split(), ["49"])
            found.number(f"{method} program", "ms", statistics.median(times[1:]))


@case("memory")
def _memory(setting: Setting, found: Found) -> None:
    """By how many bytes does a queued task make the parent grow?"""
    count = setting.count(20_000, 4000)
    with tempfile.TemporaryDirectory(prefix="ringpool-bench-") as folder, setting.pool() as pool:
        closed = Path(folder, "closed")
        closed.touch()
        try:
            gates = [pool.submit(tasks.hold, folder) for _ in range(setting.workers)]
            deadline = time.monotonic() + READY_DEADLINE_S
            while len(list(closed.parent.glob("held-*"))) < setting.workers:
                if time.monotonic() > deadline:
                    raise RuntimeError(f"Not all workers were busy after {READY_DEADLINE_S:.0f} s.")
                time.sleep(0.005)
            before = resident_bytes()
            handles = [pool.submit(tasks.square, number) for number in range(count)]
            growth = resident_bytes() - before
        finally:
            closed.unlink(missing_ok=True)
        for gate in gates:
            pool.result(gate)
        answers = [pool.result(handle) for handle in handles]
        setting.check("a queue", answers, [number * number for number in range(count)])
    found.number("a queued task", "bytes", growth / count)


@case("cpu")
def _cpu(setting: Setting, found: Found) -> None:
    """How much CPU time do all processes of a pool together use while it is idle, and for each task of a burst?"""
    count = setting.count(5000, 2000)
    numbers = range(count)
    with setting.pool() as pool:
        pool.each(tasks.square, range(setting.count(500, 200)))
        pids = family()
        used = cpu_ns(pids)
        answers = pool.each(tasks.square, numbers)
        used = cpu_ns(pids) - used
        setting.check("a burst", answers, [number * number for number in numbers])
        found.number("a task", "us", used / 1000 / count)
        time.sleep(setting.seconds(0.5, 0.3))  # workers that spin for a while have stopped
        begin = time.perf_counter_ns()
        used = cpu_ns(pids)
        time.sleep(setting.seconds(2, 1))
        used = cpu_ns(pids) - used
        found.number("idle", "us a second", used * 1e6 / (time.perf_counter_ns() - begin))


@case("recovery")
def _recovery(setting: Setting, found: Found) -> None:
    """A task kills its worker: how long until that is known and the next task is done, and how many others fail?

    The time includes a new pool, where the old one does not serve any more. The others are 100 tasks that wait for
    10 ms, half of them submitted before the one that kills and half of them after it.
    """
    contender = setting.contender
    if contender.after_a_kill:
        raise Cannot(contender.after_a_kill)

    def await_death(pool: Pool, victim: Any) -> None:
        try:
            pool.result(victim)
        except Exception:
            return
        raise WrongAnswer(f"{contender.name} gave a result for a task that kills its worker.")

    with _quietly(setting.pool()) as pool, contextlib.ExitStack() as anew:
        begin = time.perf_counter_ns()
        await_death(pool, pool.submit(tasks.die))
        try:
            answer = pool.result(pool.submit(tasks.square, 7))
        except Exception:
            found.notes.append(f"recovery: {contender.name}'s pool serves no more after the death; a new one is timed.")
            answer = anew.enter_context(setting.open()).each(tasks.square, [7])[0]
        found.number("next result", "ms", (time.perf_counter_ns() - begin) / 1e6)
        setting.check("the task after the death", [answer], [49])
    with _quietly(setting.pool()) as pool:
        handles = [pool.submit(tasks.square_after_10_ms, number) for number in range(50)]
        victim = pool.submit(tasks.die)
        with contextlib.suppress(Exception):  # a pool that has broken meanwhile refuses
            for number in range(50, 100):
                handles.append(pool.submit(tasks.square_after_10_ms, number))
        await_death(pool, victim)
        lost = 100 - len(handles)
        for number, handle in enumerate(handles):
            try:
                answer = pool.result(handle)
            except Exception:
                lost += 1
            else:
                setting.check("a task beside the death", [answer], [number * number])
    found.number("others lost of 100", "tasks", lost)


@contextlib.contextmanager
def _quietly(pool: contextlib.AbstractContextManager[Pool]) -> Iterator[Pool]:
    """Open a pool, and ignore what its shutdown raises: one that has broken may say so once more."""
    opened = pool.__enter__()
    try:
        yield opened
    finally:
        with contextlib.suppress(Exception):
            pool.__exit__(None, None, None)


@case("scaling")
def _scaling(setting: Setting, found: Found) -> None:
    """How many tasks of about a millisecond are done a second, by the number of workers?"""
    numbers = sorted({1, *(2**power for power in range(1, 10) if 2**power < setting.workers), setting.workers})
    count, loops = setting.count(300, 100), 25_000
    right = tasks.spin(loops)
    for workers in numbers:
        with setting.pool(workers) as pool:
            pool.each(tasks.spin, [loops] * workers)
            begin = time.perf_counter_ns()
            answers = pool.each(tasks.spin, [loops] * count)
            wall_ns = time.perf_counter_ns() - begin
        setting.check("scaling", answers, [right] * count)
        name = f"{workers} worker{'s' if workers > 1 else ''}"
        done = count * 1e9 / wall_ns
        found.number(name, "tasks/s", done, higher_is_better=True, x=("workers", "", workers), series="1 ms")


@case("io", also=("threads",))
def _io(setting: Setting, found: Found) -> None:
    """How many tasks a second that only wait for 10 ms? Processes are the wrong tool: threads take part here."""
    count = setting.count(200, 100)
    with setting.pool() as pool:
        begin = time.perf_counter_ns()
        answers = list(pool.each(tasks.square_after_10_ms, range(count)))
        wall_ns = time.perf_counter_ns() - begin
    setting.check("waiting", answers, [number * number for number in range(count)])
    found.number("rate", "tasks/s", count * 1e9 / wall_ns, higher_is_better=True)
