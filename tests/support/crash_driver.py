"""crash_driver.py WORKLOAD [--method M] [--nth N] [--hold] - kills a worker at every point that a workload is for.

test_crash_points.py starts this with a build of ringpool in which workers can be told to die at an RP_STEP (see
csrc/step.h). For each of its points a worker is told so by a task, and the workload repeated until it is dead. Every
future must end: with the right result, or with WorkerDied, of which one death causes one at most (and exactly one or
none where the table below knows). Then the pool must be whole again: all workers there, every block of every arena
back, and new tasks done. All points of a workload use one pool, so what a death leaves would add up.

With --hold no process is killed. Instead all workers, and the parent where it passes, sleep at the point each time: so
the other side gets between any two steps, and a wake-up that can be lost there is lost.

Prints a line of JSON for each point. Exits with a traceback, and with the shared words, when something is not so.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import itertools
import json
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import tasks_crash as tasks
from limits import LIMIT
from words import Words

from ringpool import ProcessPoolExecutor, WorkerDied, budget

ARENA = 1 << 20  # the least: it is full after four results of LARGE bytes
LARGE = 200_000
OVERFLOW = ARENA * 11 // 16  # less than the largest result of check_arenas, which therefore has to find its arena empty
BORROWED = OVERFLOW - 20_000
HOLD_S = 0.002
HOLD_ROUNDS = 2
FIRST = "worker: answered"  # a trap is live when the task that has set it is answered

RING = ("ring: asleep", "ring: taken", "ring: woken")
WAKE = ("wake: seen", "wake: named", "wake: taken")
CLAIM = ("claim: claimed", "claim: passed", "take: begun", "take: copied", "take: noted", "take: freed")
RUN = ("worker: taken", "worker: decoded", "worker: called", "worker: reserved", "publish: filled")
ANSWERED = ("publish: published", "publish: cleared", "worker: answered")
RETURNS = ("returns: seen", "returns: freed", "returns: released", "returns: committed")
BYTES = ("worker: block", "worker: block filled", "worker: reserved for block")
CHUNK = (
    "chunk: over",
    "chunk: opened",
    "chunk: begun",
    "chunk: tray",
    "chunk: claimed",
    "worker: decoded",
    "worker: called item",
    "chunk: filled",
    "worker: reserved for part",
)
ALONE = ("worker: block of item", "worker: reserved for item")
WAIT = ("wait: spun", "wait: announced", "wait: sleeper", "wait: told", "wait: up", "wait: over")
SPACE = ("space: begun", "space: wanted", "space: announced", "space: told", "space: up", "space: over")
MEMORY = ("memory: begun", "memory: wanted", "memory: announced", "memory: told", "memory: up", "memory: over")
LOAN = ("loan: begun", "loan: asked", "loan: announced", "loan: told", "loan: up", "loan: over", "worker: loan")
JOIN = ("join: begun", "join: started", "join: ready")
RETIRE = ("retire: said", "retire: told")
LEAVE = (
    "leave: begun",
    "leave: retired",
    "leave: not ready",
    "leave: handed over",
    "leave: woke one",
    "leave: left",
    "leave: told",
)
TURN = ("turn: parked", "turn: told")

# What a death there costs, wherever the table of a workload does not say.
COSTS_ONE = {*CLAIM, *RUN, *RETIRE, *RETURNS, *BYTES, *SPACE, *MEMORY, *LOAN, "worker: failed"}
COSTS_NONE = {
    *ANSWERED,
    *WAIT,
    *JOIN,
    *LEAVE,
    *TURN,
    "publish: no leader",
    "claim: found",
    "hint: behind",
    "hint: pushed",
}
# Where threads of the parent pass alone. They are held there, not killed.
PARENT = ("lead: looked", "lead: announced", "serve: looked", "serve: announced", "stream: written")
ONCE_A_LIFE = {*JOIN, *RETIRE, *LEAVE, *TURN}


@dataclass
class Case:
    point: str
    after: str = ""  # the last step before, of another group; "": any
    costs: int | None = None

    def __post_init__(self) -> None:
        if self.costs is None:
            self.costs = 1 if self.point in COSTS_ONE else 0 if self.point in COSTS_NONE else None


def cases(points: Iterable[str], after: str = "", costs: int | None = None) -> list[Case]:
    return [Case(point, after, costs) for point in points]


@dataclass
class Workload:
    """A round is given the Pool; it submits tasks, and has checked all of them when it returns."""

    round: Callable[[Pool], None]
    cases: list[Case]
    n: int = 2
    hold: str = ""  # the victim sleeps at this point
    hold_s: float = 0.0
    max_tasks: int | None = None  # then not by fork
    at_start: int = 0  # the trap is set by the initializer of the so manieth worker to start, from 1


class Pool:
    """The pool under test, and the books of what it owes."""

    def __init__(self, workload: Workload, method: str, folder: Path, trap: Any = None) -> None:
        self.workload = workload
        self.n = workload.n
        self.folder = folder
        self.numbers = itertools.count()
        options: dict[str, Any] = {}
        if workload.at_start:
            options = {"initializer": tasks.trap_the_nth, "initargs": (str(folder), workload.at_start, trap)}
        self.executor = ProcessPoolExecutor(
            self.n, get_context(method), max_tasks_per_child=workload.max_tasks, **options
        )
        self.processes: dict[int, Any] = {}  # all there were, by pid
        start = self.executor._supervisor._launcher._start_process

        def start_and_note(*args: Any) -> Any:
            process = start(*args)
            self.processes[process.pid] = process
            return process

        self.executor._supervisor._launcher._start_process = start_and_note  # type: ignore[method-assign]
        self.client = self.executor._client
        self.victim = -1
        self.died = 0
        self.done = 0

    # ---- for rounds ----

    def path(self) -> Path:
        return self.folder / str(next(self.numbers))

    def submit(self, fn, *args):
        return self.executor.submit(fn, *args)

    def settle(self, expected: Iterable[tuple[Any, Any]]) -> None:
        """Waits for each future; its result, or its exception, must be the value, or WorkerDied of the victim."""
        for future, value in expected:
            error = future.exception(LIMIT)
            if type(error) is WorkerDied:
                assert error.pid == self.victim, error
                assert error.exitcode == -signal.SIGKILL, error
                self.died += 1
                assert self.died <= 1, f"a second task is lost: {error}"
            elif isinstance(value, Exception):
                assert type(error) is type(value), error
                assert error.args == value.args
                self.done += 1
            else:
                assert error is None, error
                assert future.result(LIMIT) == value
                self.done += 1

    def run(self, n: int, fn=tasks.square) -> None:
        self.settle([(self.submit(fn, i), i * i) for i in range(n)])

    # ---- the life of a trap ----

    def meet(self, places: Iterable[int], trap) -> dict[int, int]:
        """The pid of each worker by its place; those at the given places have set the trap."""
        folder = self.path()
        folder.mkdir()
        futures = [self.submit(tasks.meet, str(folder), self.n, tuple(places), trap) for _ in range(self.n)]
        return dict(f.result(LIMIT) for f in futures)

    def living(self) -> set[int]:
        return {p.pid for p in self.executor._supervisor.processes}

    def find_victim(self) -> bool:
        """Whether a worker has set the trap as it started."""
        for path in self.folder.glob("trap.*"):
            self.victim = int(path.name.rpartition(".")[2])
        return self.victim in self.processes

    def victim_is_gone(self) -> bool:
        return self.find_victim() and self.victim not in self.living()

    def was_killed(self) -> bool:
        """Whether the victim, which has been recovered, was killed; if not, it has left after its tasks."""
        # Not .exitcode, which would ask the system, and take the answer away from the supervisor.
        code = self.processes[self.victim]._popen.returncode
        assert code == -signal.SIGKILL or (code == 0 and self.workload.max_tasks), code
        return code != 0

    def await_(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < deadline, f"never came to be: {what}"
            time.sleep(0.0005)

    def whole(self) -> bool:
        return len(self.living()) == self.n and all(self.client.segment.worker_started(w) for w in range(self.n))

    def warm_up(self) -> None:
        """Makes all functions known, so that their blocks are there from now on."""
        folder = self.path()
        folder.mkdir()
        (folder / "open").touch()
        self.settle([(self.submit(tasks.slow_square, 2, 0), 4), (self.submit(tasks.gate, folder / "open", 1), 1)])
        self.settle([(self.submit(tasks.echo, 0, b""), (0, b"")), (self.submit(tasks.make, 0, 0), b"")])
        self.settle([(self.submit(tasks.fail, "x"), LookupError("x")), (self.submit(tasks.keep, b"x"), b"x")])
        self.settle([(self.submit(tasks.lengths, 0), (0,)), (self.submit(tasks.make_buffer, 0), b"")])
        self.run(1)
        self.meet((), None)
        self.check_arenas()
        gc.collect()
        self.blocks = self.client.segment.blocks

    def check_arenas(self) -> None:
        """Each worker's arena has room for the largest result, which needs all of it; so nothing else is in there."""
        folder = self.path()
        folder.mkdir()
        size = ARENA * 3 // 4
        self.settle([(self.submit(tasks.meet_large, str(folder), self.n, size), b"L" * size) for _ in range(self.n)])

    def kill_at(self, case: Case, nth: int) -> dict[str, Any]:
        self.died = self.done = 0
        trap = (FIRST, case.after, case.point, nth, self.workload.hold, self.workload.hold_s)
        began = time.monotonic()
        rounds = 0
        while True:
            self.await_(self.whole, "all workers")
            workers = self.living()
            self.victim = self.meet([0], trap)[0]
            while self.victim in self.living():
                assert time.monotonic() - began < LIMIT, f"the worker does not come to {case}"
                self.workload.round(self)
                rounds += 1
            if self.was_killed():
                break
        if self.workload.max_tasks is None:
            assert workers - {self.victim} <= self.living(), "another worker is gone as well"
        self.check_after(case)
        return {"point": case.point, "after": case.after, "rounds": rounds, "done": self.done, "died": self.died}

    def hold_at(self, case: Case) -> dict[str, Any]:
        """No process dies; but all workers are slow at that point, and so is this process if it passes there."""
        self.victim, self.died, self.done = -1, 0, 0
        for _ in range(HOLD_ROUNDS):
            self.await_(self.whole, "all workers")
            tasks.set_trap("", "", "", 0, case.point, HOLD_S)
            self.meet(range(self.n), ("", "", "", 0, case.point, HOLD_S))
            self.workload.round(self)
        tasks.set_trap("", "", "", 0, "", 0.0)
        self.meet(range(self.n), ("", "", "", 0, "", 0.0))
        self.check_after(Case(case.point, costs=0))
        return {"point": case.point, "after": case.after, "rounds": HOLD_ROUNDS, "done": self.done, "died": self.died}

    def check_after(self, case: Case) -> None:
        if case.costs is not None:
            assert self.died == case.costs, f"{self.died} tasks lost by {case}"
        self.run(20)
        if self.workload.max_tasks is None:
            self.await_(self.whole, "all workers again")
            self.check_arenas()
        gc.collect()
        assert self.client.segment.blocks == self.blocks, (
            f"{self.client.segment.blocks} blocks, {self.blocks} before {case}"
        )
        assert self.client.segment.blocks_lent == 0
        assert self.client.intake.strays == 0
        assert self.client.pending == 0


# ---- rounds ----


def burst(pool: Pool) -> None:
    pool.run(8)


def slow(pool: Pool) -> None:
    """The parent is asleep when the result comes."""
    pool.settle([(pool.submit(tasks.slow_square, 3, 0.003), 9)])


def idle(pool: Pool) -> None:
    """All workers are asleep when there is work for all of them."""
    time.sleep(0.004)
    pool.settle([(pool.submit(tasks.slow_square, i, 0.001), i * i) for i in range(6)])


def unread(pool: Pool) -> None:
    """No thread asks for the result; the worker goes to sleep, and has the collector take it."""
    future = pool.submit(tasks.square, 5)
    pool.await_(future.done, "the result that no thread asks for")
    pool.settle([(future, 25)])


def watched(pool: Pool) -> None:
    futures = [pool.submit(tasks.slow_square, i, 0.001) for i in range(4)]
    assert not wait(futures, LIMIT).not_done
    pool.settle((f, i * i) for i, f in enumerate(futures))


def large(pool: Pool) -> None:
    payload = os.urandom(LARGE)
    pool.settle([(pool.submit(tasks.echo, i, payload), (i, payload)) for i in range(4)])


def stream(pool: Pool) -> None:
    """Long arguments, which are read while they are written."""
    text, payload = "\u20ac" * 100_000, os.urandom(100_000)
    pool.settle([(pool.submit(tasks.lengths, i, text, payload), (i, 100_000, 100_000)) for i in range(4)])


def kept(pool: Pool) -> None:
    """Buffers are used where they lie: by workers, for longer than the task goes on, and here."""
    for _ in range(2):
        buffers = [bytearray(os.urandom(20_000)) for _ in range(4)]
        pool.settle([(pool.submit(tasks.keep, pickle.PickleBuffer(buffer)), buffer) for buffer in buffers])
    pool.await_(lambda: pool.client.segment.blocks == pool.blocks, "the blocks that workers have let go of")


def chunks(pool: Pool) -> None:
    """Items in chunks, with results of all sizes. What is lost is run again, so none is missing."""
    view = pool.executor.options(retries=1)
    for chunksize in (None, 20):
        squares = view.map(tasks.square, range(100), chunksize=chunksize, timeout=LIMIT)
        assert list(squares) == [i * i for i in range(100)]
        sizes = [0, 10, LARGE // 4, 0, LARGE, 3] * 2
        made = view.map(tasks.make, range(len(sizes)), sizes, chunksize=chunksize, timeout=LIMIT)
        assert [len(each) for each in made] == sizes
        pool.done += 100 + len(sizes)


def items(pool: Pool) -> None:
    """Items in chunks; a death costs the one that ran, and no result before that."""
    results = pool.executor.map(tasks.square, range(100), chunksize=25, timeout=LIMIT)
    try:
        for i, result in enumerate(results):
            assert result == i * i
            pool.done += 1
    except WorkerDied as error:
        assert error.pid == pool.victim, error
        pool.died += 1


def many(pool: Pool) -> None:
    """Calls in chunks with futures of their own; a death costs the one that ran."""
    futures = pool.executor.submit_many(tasks.square, zip(range(100), strict=True), chunksize=25)
    pool.settle((f, i * i) for i, f in enumerate(futures))


def apart(pool: Pool) -> None:
    """Items that lie in blocks of their own, and results that are sent alone; a death costs the one that ran."""
    buffers = [bytearray(os.urandom(100_000)) for _ in range(8)]
    calls = [(pickle.PickleBuffer(buffer),) for buffer in buffers]
    futures = pool.executor.submit_many(tasks.keep, calls, chunksize=4)
    pool.settle(zip(futures, buffers, strict=True))
    del futures
    pool.await_(lambda: pool.client.segment.blocks == pool.blocks, "the blocks that workers have let go of")


def taken(pool: Pool) -> None:
    """Calls are cancelled that the worker has taken and not come to; then others before them, and the first."""
    futures = pool.executor.submit_many(tasks.square, zip(range(10), strict=True), chunksize=10)
    with Words(pool.client) as words:

        def is_at_it() -> bool:
            word = words.worker(0)
            return word["current"] not in (0, word["chunk"])

        pool.await_(lambda: is_at_it() or futures[0].done(), "the worker that has taken the calls")
        for i in (7, 3, 8, 0):
            cancelled = futures[i].cancel()
            assert cancelled or not is_at_it(), f"call {i} cannot be cancelled: {words.worker(0)}"
    pool.settle((f, i * i) for i, f in enumerate(futures) if not f.cancelled())


def errors(pool: Pool) -> None:
    texts = ["short", "long" * 10_000]
    pool.settle([(pool.submit(tasks.fail, text), LookupError(text)) for text in texts])


def closed_gate(pool: Pool) -> tuple[Path, Any]:
    """A task that holds the one worker until the file is there."""
    path = pool.path()
    future = pool.submit(tasks.gate, str(path), 1)
    pool.await_(lambda: future.running() or future.done(), "the gate")
    return path, future


def cancelled(pool: Pool) -> None:
    path, future = closed_gate(pool)
    kept = [(pool.submit(tasks.square, 3), 9)]
    for dropped in [pool.submit(tasks.square, i) for i in range(5)]:
        assert dropped.cancel()
    kept.append((pool.submit(tasks.square, 4), 16))
    path.touch()
    pool.settle([(future, 1), *kept])


def full_board(pool: Pool) -> None:
    """Tasks wait in the parent's queue for room on the board."""
    path, future = closed_gate(pool)
    futures = [(pool.submit(tasks.square, i), i * i) for i in range(1500)]
    path.touch()
    pool.settle([(future, 1), *futures])


def full_ring(pool: Pool) -> None:
    """The results stay unread: no thread asks, and the collector is held in a callback."""
    held, release = threading.Event(), threading.Event()
    path, first = closed_gate(pool)
    first.add_done_callback(lambda _: (held.set(), release.wait(LIMIT)))
    path.touch()
    assert held.wait(LIMIT)
    path, second = closed_gate(pool)
    futures = [(pool.submit(tasks.square, i), i * i) for i in range(1024)]
    path.touch()
    with Words(pool.client) as words:
        pool.await_(
            lambda: words.worker(0)["waits_space"] or pool.victim not in _running(pool), "a worker that waits for room"
        )
    release.set()
    pool.settle([(first, 1), (second, 1), *futures])


def _running(pool: Pool) -> set[int]:
    """The living ones that were not killed: a killed one is listed until it is recovered."""
    found = set()
    for pid in pool.living():
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if state != "Z":
            found.add(pid)
    return found


def full_arena(pool: Pool) -> None:
    futures = [(pool.submit(tasks.make, i, LARGE), bytes([i % 256]) * LARGE) for i in range(8)]
    pool.await_(futures[-1][0].done, "results that are copied out, though no thread asks")
    pool.settle(futures)


def loans(pool: Pool) -> None:
    """A part of the arena is kept in use, so that results that need all of it are lent other memory."""
    kept = (pool.submit(tasks.make_buffer, ARENA // 4), b"B" * (ARENA // 4))
    pool.settle([kept])
    pool.settle([(pool.submit(tasks.make, i, BORROWED), bytes([i]) * BORROWED) for i in range(3)])


def loans_of_chunks(pool: Pool) -> None:
    view = pool.executor.options(retries=1)
    kept = view.submit(tasks.make_buffer, ARENA // 4)
    assert kept.result(LIMIT) == b"B" * (ARENA // 4)
    sizes = [BORROWED, 5, 100, BORROWED, 5]
    made = view.map(tasks.make, range(len(sizes)), sizes, chunksize=5, timeout=LIMIT)
    assert list(made) == [bytes([i]) * size for i, size in enumerate(sizes)]
    pool.done += len(sizes) + 1


def one_by_one(pool: Pool) -> None:
    for i in range(4):
        pool.settle([(pool.submit(tasks.square, i), i * i)])


def last_task(pool: Pool) -> tuple[Path, Any]:
    """The worker's third and last, for which a successor is started, goes on until the file is there."""
    pool.run(2)
    return closed_gate(pool)


def succeeding(pool: Pool) -> None:
    """A worker's turn comes when it has started."""
    if pool.find_victim():
        return pool.run(1)
    path, future = last_task(pool)
    pool.await_(pool.find_victim, "the successor")
    path.touch()
    pool.settle([(future, 1)])


def parked(pool: Pool) -> None:
    """A worker's turn does not come while it lives."""
    path, future = last_task(pool)
    pool.await_(pool.victim_is_gone, "the death of the successor")
    path.touch()
    pool.settle([(future, 1)])


def late(pool: Pool) -> None:
    """A task comes while the worker, of which the parent does not know it yet, lies down."""
    pool.run(2)
    time.sleep(pool.workload.hold_s / 2)
    pool.run(1)


def woken_by_a_signal(pool: Pool) -> None:
    """A worker gets up by itself while another, which has named it, is about to wake it."""
    with Words(pool.client) as words:
        pool.await_(lambda: words.shared()["sleepers"] == 0b11, "all workers asleep")
        # Long enough that it is still up when the other wakes from its hold.
        futures = [(pool.submit(tasks.slow_square, i, 2 * pool.workload.hold_s), i * i) for i in range(2)]
        deadline = time.monotonic() + pool.workload.hold_s
        while words.shared()["waking"] != 2 and time.monotonic() < deadline:
            pass
        for process in pool.executor._supervisor.processes:
            if process.pid != pool.victim:
                os.kill(process.pid, signal.SIGINT)
        pool.settle(futures)


WORKLOADS = {
    "burst": Workload(burst, cases(("claim: found", *CLAIM, *RUN, *ANSWERED))),
    "slow": Workload(slow, cases(RING, "publish: cleared", costs=0)),
    "idle": Workload(
        idle,
        [
            *cases(("sleep: up", *WAIT)),
            *cases(("round: up", "round: over")),
            *cases(WAKE, "round: over"),
            *cases(RING, "wake: taken"),
            Case("wake: rung", "ring: woken"),
        ],
    ),
    "unread": Workload(unread, [Case("publish: no leader"), *cases(RING, "wait: sleeper", costs=0)], n=1),
    "watched": Workload(watched, cases(RING, "publish: no leader", costs=0)),
    "large": Workload(large, cases((*RETURNS, *BYTES))),
    "stream": Workload(stream, [Case("stream: waits", costs=1)]),
    "kept": Workload(kept, [Case("worker: held", costs=1), *cases(("release: counted", "release: told"))]),
    "chunks": Workload(chunks, cases((*CHUNK, *ALONE, *CLAIM, *ANSWERED, "publish: filled"), costs=0)),
    "items": Workload(
        items,
        [
            *cases((*CLAIM, "chunk: over", "chunk: opened", "chunk: claimed"), costs=1),
            *cases(("worker: decoded", "worker: called item"), costs=1),
            *cases(("chunk: begun", "chunk: tray", "chunk: filled", "worker: reserved for part"), costs=0),
            *cases(("publish: filled", *ANSWERED), costs=0),
        ],
    ),
    "many": Workload(
        many,
        [
            *cases(("chunk: claimed", "worker: called item"), costs=1),
            *cases(("chunk: begun", "chunk: filled", "worker: reserved for part", *ANSWERED), costs=0),
        ],
    ),
    "apart": Workload(
        apart,
        [
            *cases(("chunk: claimed", "worker: held", "worker: decoded", "worker: called item", *ALONE), costs=1),
            *cases(("chunk: begun", *ANSWERED), costs=0),
            *cases(("release: counted", "release: told")),
        ],
    ),
    "taken": Workload(
        taken,
        cases(("chunk: over", "chunk: opened", "chunk: begun", "chunk: claimed")),
        n=1,
        hold="worker: taken",
        hold_s=0.02,
    ),
    "errors": Workload(errors, cases(("worker: failed", *BYTES, "publish: filled"))),
    "cancelled": Workload(cancelled, cases(("hint: behind", "hint: pushed")), n=1),
    "full board": Workload(full_board, cases(RING, "take: freed"), n=1),
    "full ring": Workload(full_ring, [*cases(SPACE), Case("sleep: up", "space: told", 1)], n=1),
    "full arena": Workload(
        full_arena,
        [*cases(MEMORY), *cases(RING, "memory: announced", 1), Case("sleep: up", "memory: told", 1), *cases(RETURNS)],
        n=1,
    ),
    "loans": Workload(
        loans, [*cases(LOAN), *cases(RING, "loan: announced", 1), Case("sleep: up", "loan: told", 1)], n=1
    ),
    "loans of chunks": Workload(
        loans_of_chunks,
        cases((*LOAN, "chunk: tray", "chunk: filled", "worker: reserved for part", *ANSWERED), costs=0),
        n=1,
    ),
    "leaving": Workload(one_by_one, cases((*RETIRE, *LEAVE)), n=1, max_tasks=3, at_start=1),
    "parked": Workload(parked, cases(TURN), n=1, max_tasks=3, at_start=2),
    "succeeding": Workload(succeeding, cases(JOIN), n=1, max_tasks=3, at_start=2),
    "starting": Workload(burst, cases(JOIN), at_start=1),
    "late": Workload(late, cases(WAIT), hold="wait: spun", hold_s=0.02),
    "woken by a signal": Workload(
        woken_by_a_signal,
        cases(("wake: missed", "wake: again")),
        hold="wake: named",
        hold_s=0.02,
    ),
}


# ---- main ----


def run_at_start(workload: Workload, method: str, case: Case, folder: Path) -> dict[str, Any]:
    """A pool for each point, since its workers set the trap while they start. With `max_tasks` they come and go, and
    the one that has set the trap must not go alive."""
    folder.mkdir()
    trap = ("", case.after, case.point, 1, "", 0.0)
    pool = Pool(workload, method, folder, trap)
    rounds = 0
    deadline = time.monotonic() + LIMIT
    with pool.executor:
        pool.executor._supervisor.begin(pool.executor)
        pool.await_(lambda: workload.at_start > 1 or any(folder.glob("trap.*")), "the trap")
        while not pool.victim_is_gone():
            workload.round(pool)
            rounds += 1
            assert time.monotonic() < deadline, f"the worker does not come to {case}"
        assert pool.was_killed(), f"the worker has left without coming to {case}"
        died, done = pool.died, pool.done
        if workload.max_tasks is None:
            pool.warm_up()
        else:
            pool.run(1)
            gc.collect()
            pool.blocks = pool.client.segment.blocks
        pool.died = died
        pool.check_after(case)
    return {"point": case.point, "after": case.after, "rounds": rounds, "done": done, "died": died}


def held_cases(workload: Workload) -> list[Case]:
    """Each point once, and those where threads of the parent lie down."""
    points = dict.fromkeys([case.point for case in workload.cases] + list(PARENT))
    return [Case(point) for point in points]


def run_in_one_pool(workload: Workload, method: str, nth: int, hold: bool, folder: Path) -> Iterable[dict[str, Any]]:
    pool = Pool(workload, method, folder)
    with pool.executor:
        pool.warm_up()
        try:
            for case in held_cases(workload) if hold else workload.cases:
                if hold:
                    yield pool.hold_at(case)
                elif nth == 1 or case.point not in ONCE_A_LIFE:
                    yield pool.kill_at(case, nth)
        except BaseException:
            with Words(pool.client) as words:
                print(words, file=sys.stderr)
            faulthandler.dump_traceback(all_threads=True)
            # Without a wait for the pool, which may be what hangs.
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("workload", choices=[*WORKLOADS, "list"])
    parser.add_argument("--method", default="fork")
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--hold", action="store_true", help="kill no process; hold each that passes")
    options = parser.parse_args()
    library = tasks.steps()
    if options.workload == "list":
        names = (library.rp_step_name(i) for i in itertools.count())
        print(json.dumps(sorted({name.decode() for name in itertools.takewhile(lambda name: name, names)})))
        return
    budget.sizes = lambda *_: (ARENA, ARENA, ARENA, OVERFLOW)
    workload = WORKLOADS[options.workload]
    method = "forkserver" if workload.max_tasks and options.method == "fork" else options.method
    with tempfile.TemporaryDirectory() as name:
        if workload.at_start:
            reports: Iterable[dict[str, Any]] = (
                run_at_start(workload, method, case, Path(name) / str(i)) for i, case in enumerate(workload.cases)
            )
        else:
            reports = run_in_one_pool(workload, method, options.nth, options.hold, Path(name))
        for report in reports:
            print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main()
