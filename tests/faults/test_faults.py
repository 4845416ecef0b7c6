"""Bad objects, dying workers, dying parents: which future fails and how, and that the pool works on.

"Where" is the part of a task that is bad, "how" is what it does there. After each row of the table the same pool still
answers.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import re
import select
import signal
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from collections.abc import Iterable
from concurrent.futures import CancelledError, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool, _RemoteTraceback
from pathlib import Path

import pytest
import tasks_faults as tasks
from levels import METHODS
from limits import LIMIT
from pools import pool
from programs import environment
from waiting import wait_until

from ringpool import ProcessPoolExecutor, RemoteError, TaskTimeout, WorkerDied, machine


def living(executor: ProcessPoolExecutor) -> set[int]:
    return {p.pid for p in executor._supervisor.processes}


def ready(executor: ProcessPoolExecutor, n: int, killed: Iterable[int] = ()) -> bool:
    """Whether all n workers have started: one that is killed before that counts as a failed start. One that was killed
    is listed until it is recovered, so a test that kills again says which were."""
    pids = living(executor)
    return (
        len(pids) == n and pids.isdisjoint(killed) and all(executor._client.segment.worker_started(w) for w in range(n))
    )


# ---- the table: where, how -> exception, its text ----

DIED = "worker 0 (pid {pid}) {how} while it ran {task}"
SEGFAULT = "was killed by SIGSEGV (a crash in native code)"
KILLED = "was killed by SIGKILL" + (" (often: the system ran out of memory)" if machine.oom_kills() is None else "")

TABLE = [
    # where, how: callable, arguments, type of the exception, its text or how the worker ended, text of its cause
    ("argument, fails to pickle", tasks.take, (tasks.FailsToPickle(),), ValueError, "does not want to leave", None),
    ("argument, cannot be pickled", tasks.take, (tasks.HoldsALock(),), TypeError, "cannot pickle '_thread.lock'", None),
    ("argument, fails to unpickle", tasks.take, (tasks.FailsToUnpickle(),), ValueError, "not want to arrive", "_fail"),
    ("argument, exits at unpickle", tasks.take, (tasks.ExitsAtUnpickle(),), WorkerDied, "exited with code 9", None),
    ("argument, faults at unpickle", tasks.take, (tasks.FaultsAtUnpickle(),), WorkerDied, SEGFAULT, "in _fault"),
    ("result, fails to pickle", tasks.make, (tasks.FailsToPickle,), ValueError, "not want to leave", "__reduce__"),
    ("result, cannot be pickled", tasks.make, (tasks.HoldsALock,), TypeError, "cannot pickle '_thread.lock'", "lock"),
    ("result, fails to unpickle", tasks.make, (tasks.FailsToUnpickle,), ValueError, "not want to arrive", None),
    ("result, exits at pickle", tasks.make, (tasks.ExitsAtPickle,), WorkerDied, "exited with code 9", None),
    ("result, faults at pickle", tasks.make, (tasks.FaultsAtPickle,), WorkerDied, SEGFAULT, "in _fault"),
    (
        "exception, fails to pickle",
        *(tasks.throw, (tasks.ErrorThatFailsToPickle,), RemoteError, "not want to leave", "ErrorThatFailsToPickle"),
    ),
    (
        "exception, cannot be pickled",
        *(tasks.throw, (tasks.CarriesALock,), RemoteError, "cannot pickle '_thread.lock'", "the exception with a lock"),
    ),
    (
        "exception, fails to unpickle",
        *(tasks.throw, (tasks.ErrorThatFailsToUnpickle,), RemoteError, "to arrive", "ErrorThatFailsToUnpickle"),
    ),
    (
        "exception, has an __init__ of its own",
        *(tasks.throw, (tasks.NeedsTwo, 1, 2), RemoteError, "required positional argument", "NeedsTwo: 1 and 2"),
    ),
    (
        "exception, unpickles as something else",
        *(tasks.throw, (tasks.ErrorThatBecomesANumber, "x"), RemoteError, "ErrorThatBecomesANumber: x", "BecomesAN"),
    ),
    ("exception, has no words", tasks.throw, (tasks.ErrorWithoutWords,), tasks.ErrorWithoutWords, None, "WithoutWords"),
    (
        "exception, exits at pickle",
        tasks.throw,
        (tasks.ErrorThatExitsAtPickle,),
        WorkerDied,
        "exited with code 9",
        None,
    ),
    (
        "exception, faults at pickle",
        tasks.throw,
        (tasks.ErrorThatFaultsAtPickle,),
        WorkerDied,
        SEGFAULT,
        "in _fault",
    ),
    ("exception, ends the interpreter", tasks.throw, (SystemExit, 3), SystemExit, "3", "SystemExit: 3"),
    ("exception, is the user's", tasks.throw, (KeyboardInterrupt, "k"), KeyboardInterrupt, "k", "KeyboardInterrupt: k"),
    ("exception, closes a generator", tasks.throw, (GeneratorExit, "g"), GeneratorExit, "g", "GeneratorExit: g"),
    ("function, fails to pickle", tasks.FailsToPickle(), (), ValueError, "does not want to leave", None),
    ("function, cannot be pickled", tasks.HoldsALock(), (), TypeError, "cannot pickle '_thread.lock'", None),
    ("function, fails to unpickle", tasks.FailsToUnpickle(), (), ValueError, "does not want to arrive", "_fail"),
    ("function, exits at unpickle", tasks.ExitsAtUnpickle(), (), WorkerDied, "exited with code 9", None),
    ("function, faults at unpickle", tasks.FaultsAtUnpickle(), (), WorkerDied, SEGFAULT, "in _fault"),
    ("function, calls os._exit", tasks.exit_7, (), WorkerDied, "exited with code 7", None),
    ("function, calls os._exit(0)", os._exit, (0,), WorkerDied, "exited with code 0", None),
    ("function, kills itself", tasks.kill_self, (), WorkerDied, KILLED, None),
    ("function, faults", tasks.fault, (), WorkerDied, SEGFAULT, "in _fault"),
    ("function, aborts", tasks.abort, (), WorkerDied, "was killed by SIGABRT", "in abort"),
    ("function, calls sys.exit", tasks.sys_exit_3, (), SystemExit, "3", "sys.exit"),
]


def name_of(fn) -> str:
    name = getattr(fn, "__qualname__", None)
    return f"{fn.__module__}.{name}" if name else repr(fn)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
@pytest.mark.parametrize(("fn", "args", "kind", "text", "cause"), [r[1:] for r in TABLE], ids=[r[0] for r in TABLE])
def test_a_bad_object_or_a_death_costs_its_own_task_and_nothing_else(method, fn, args, kind, text, cause):
    with pool(method=method) as executor:
        before = executor.submit(tasks.pid).result(LIMIT)
        future = executor.submit(fn, *args)
        error = future.exception(LIMIT)
        assert type(error) is kind
        if kind is WorkerDied:
            told = re.sub(r" \(peak memory: \d+ MiB\)$", "", str(error))
            assert told == DIED.format(pid=before, how=text, task=name_of(fn))
        elif text is not None:
            assert text in str(error)
        if cause is not None:
            assert cause in str(error.__cause__)
        with pytest.raises(kind) as raised:
            future.result(LIMIT)
        assert raised.value is error
        del raised, error
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32
        alive = executor.submit(tasks.pid).result(LIMIT)
        assert (alive == before) is (kind is not WorkerDied)


# ---- exceptions that misbehave ----


def caught(fn, *args) -> BaseException | None:
    try:
        fn(*args)
    except BaseException as error:
        return error
    return None


def check_bad_error(error: BaseException, name: str) -> None:
    """Is it the exception, or does another stand for it? Looks at neither by their own methods."""
    kind, arrives = tasks.BAD_ERRORS[name]
    cause = BaseException.__cause__.__get__(error)
    assert type(cause) is _RemoteTraceback and "in throw_bad" in str(cause) and "Bad" in str(cause)
    if arrives:
        assert type(error).__name__ == kind.__name__  # a class that cannot be found by its module goes by value
        return
    assert type(error) is RemoteError
    assert "Bad" in error.type_name and error.reason and str(error).startswith(error.type_name)


@pytest.mark.parametrize("name", tasks.BAD_ERRORS)
def test_an_exception_that_misbehaves_costs_its_own_task_and_nothing_else(name):
    with pool() as executor:
        before = executor.submit(tasks.pid).result(LIMIT)
        future = executor.submit(tasks.throw_bad, name)
        error = future.exception(LIMIT)
        check_bad_error(error, name)
        assert caught(future.result, LIMIT) is error
        results = executor.map(tasks.throw_bad_at, [name] * 3, range(3), [1] * 3, chunksize=3)
        assert next(results) == 0
        check_bad_error(caught(next, results), name)
        many = executor.submit_many(tasks.throw_bad_at, [(name, i, 1) for i in range(3)], chunksize=3)
        check_bad_error(many[1].exception(LIMIT), name)
        assert [many[0].result(LIMIT), many[2].result(LIMIT)] == [0, 2]
        assert executor.submit(tasks.pid).result(LIMIT) == before


@pytest.mark.parametrize("name", tasks.BAD_ERRORS)
def test_an_initializers_exception_that_misbehaves_is_named_as_the_cause(name):
    with pool(initializer=tasks.throw_bad, initargs=(name,)) as executor:
        error = caught(lambda: executor.submit(pow, 2, 5).result(LIMIT))
        assert type(error) is BrokenProcessPool and "initializer" in str(error)
        check_bad_error(error.__cause__, name)


def test_the_methods_of_an_exception_have_the_deadline_of_its_task():
    with pool() as executor:
        hasty = executor.options(timeout=0.2, grace=0.1)
        calls = [(tasks.EndlessError,)]
        for future in (hasty.submit(tasks.throw, *calls[0]), *hasty.submit_many(tasks.throw, calls)):
            error = future.exception(LIMIT)
            assert type(error) is TaskTimeout and error.killed
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32


def test_an_exception_that_is_a_context_of_its_own_leaves_the_with_block():
    error = ValueError("round")
    error.__context__ = error
    with pytest.raises(ValueError, match="round"), pool():
        raise error


# ---- the initializer ----

INITIALIZERS = [
    ("raises", tasks.fail, (), LookupError, "the initializer's own words"),
    ("calls sys.exit", tasks.sys_exit_3, (), SystemExit, "3"),
    ("raises what does not unpickle", tasks.throw, (tasks.NeedsTwo, 1, 2), RemoteError, "required positional argument"),
    ("raises what cannot be pickled", tasks.throw, (tasks.CarriesALock,), RemoteError, "cannot pickle '_thread.lock'"),
    ("calls os._exit", tasks.exit_7, (), BrokenProcessPool, "exited with code 7 before it was ready"),
    ("kills itself", tasks.kill_self, (), BrokenProcessPool, KILLED + " before it was ready"),
    ("faults", tasks.fault, (), BrokenProcessPool, SEGFAULT + " before it was ready"),
]
ARGUMENTS = [
    ("fails to unpickle", tasks.take, (tasks.FailsToUnpickle(),), ValueError, "does not want to arrive"),
    (
        "exits at unpickle",
        tasks.take,
        (tasks.ExitsAtUnpickle(),),
        BrokenProcessPool,
        "exited with code 9 before it was",
    ),
    ("faults at unpickle", tasks.take, (tasks.FaultsAtUnpickle(),), BrokenProcessPool, SEGFAULT + " before it was"),
]
INITIALIZERS = [("fork", *row) for row in INITIALIZERS] + [("spawn", *row) for row in INITIALIZERS[:1] + ARGUMENTS]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    ("method", "initializer", "initargs", "kind", "text"),
    [(r[0], *r[2:]) for r in INITIALIZERS],
    ids=[f"{r[0]}, {r[1]}" for r in INITIALIZERS],
)
def test_a_bad_initializer_breaks_the_pool_and_is_named_as_the_cause(method, initializer, initargs, kind, text):
    with pool(2, method, initializer=initializer, initargs=initargs) as executor:
        futures = []
        with contextlib.suppress(BrokenProcessPool):  # a submit may find it broken, the first one too
            for _ in range(2):
                futures.append(executor.submit(pow, 2, 5))
        for future in futures:
            error = future.exception(LIMIT)
            assert type(error) is BrokenProcessPool
            assert type(error.__cause__) is kind
            assert text in str(error.__cause__)
            assert text in str(error)
        with pytest.raises(BrokenProcessPool, match="the process pool is not usable anymore") as raised:
            executor.submit(pow, 2, 5)
        assert type(raised.value.__cause__) is kind


def test_an_initializers_exception_that_cannot_say_what_it_is_breaks_the_pool_too():
    with pool(initializer=tasks.throw, initargs=(tasks.CannotSayWhatItIs,)) as executor:
        error = executor.submit(pow, 2, 5).exception(LIMIT)
    assert type(error) is BrokenProcessPool
    assert "CannotSayWhatItIs" in str(error)


def test_the_cause_of_a_broken_pool_has_the_traceback_of_the_initializer():
    with pool(initializer=tasks.fail) as executor:
        error = executor.submit(pow, 2, 5).exception(LIMIT)
    assert "in fail" in str(error.__cause__.__cause__)
    assert "LookupError: the initializer's own words" in str(error.__cause__.__cause__)


def test_each_future_of_a_broken_pool_has_an_exception_of_its_own(tmp_path):
    def error_of(future):
        with pytest.raises(BrokenProcessPool) as raised:
            future.result(LIMIT)
        return raised.value

    def depth(error):
        return len(list(traceback.walk_tb(error.__traceback__)))

    with pool(on_worker_death="break") as executor:
        executor.submit(tasks.die_at, str(tmp_path / "go"))
        futures = [executor.submit(pow, 2, 5) for _ in range(3)] + executor.submit_many(pow, [(2, 5)] * 4000)
        results = [executor.map(abs, range(4000)) for _ in range(2)]
        (tmp_path / "go").touch()
        errors = [error_of(future) for future in futures]
        for each in results:
            with pytest.raises(BrokenProcessPool) as raised:
                next(each)
            errors.append(raised.value)
    assert len({id(error) for error in errors}) == len(errors)
    assert {depth(error) for error in errors[:-2]} == {depth(errors[0])}
    assert [error_of(future) for future in futures] == errors[:-2]


def test_a_pool_that_breaks_in_its_first_submit_tells_the_future(monkeypatch):
    def is_broken() -> bool:
        try:
            executor._client.check()
        except BrokenProcessPool:
            return True
        return False

    with pool(initializer=tasks.fail) as executor:
        begin = executor._supervisor.begin

        def begin_and_wait(owner: object) -> bool:
            begun = begin(owner)
            wait_until(is_broken, "the pool, broken")
            return begun

        monkeypatch.setattr(executor._supervisor, "begin", begin_and_wait)
        error = executor.submit(pow, 2, 5).exception(LIMIT)
        assert type(error) is BrokenProcessPool and "own words" in str(error)
        with pytest.raises(BrokenProcessPool, match="own words"):
            executor.submit(pow, 2, 5)


@pytest.mark.parametrize("method", METHODS)
def test_workers_that_die_while_they_start_are_tried_three_times(method, tmp_path):
    tried = tmp_path / "tried"
    with pool(method=method, initializer=tasks.count_and_exit, initargs=(str(tried),)) as executor:
        future = executor.submit(pow, 2, 5)
        error = future.exception(LIMIT)
    assert type(error) is BrokenProcessPool
    assert "exited with code 5" in str(error)
    assert tried.read_text() == "xxx"


def test_failed_starts_with_good_ones_in_between_do_not_break_the_pool(tmp_path):
    fuse = tmp_path / "fuse"
    with pool(method="spawn", max_tasks_per_child=1, initializer=tasks.exit_once, initargs=(str(fuse),)) as executor:
        for i in range(5):
            fuse.touch()
            assert executor.submit(pow, 2, i).result(LIMIT) == 2**i  # after one failed start


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
@pytest.mark.parametrize("argument", [tasks.FailsToPickle(), tasks.HoldsALock()], ids=["fails", "lock"])
def test_initargs_that_cannot_be_pickled_fail_the_submit_and_the_pool_can_be_shut_down(method, argument):
    executor = pool(method=method, initializer=tasks.take, initargs=(argument,))
    for _ in range(2):
        with pytest.raises((ValueError, TypeError), match=r"does not want to leave|cannot pickle"):
            executor.submit(pow, 2, 5)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(pow, 2, 5)


# ---- WorkerDied ----


def test_the_error_of_a_dead_worker_has_the_facts_as_attributes_and_pickles():
    with pool() as executor:
        pid = executor.submit(tasks.pid).result(LIMIT)
        error = executor.submit(tasks.kill_self).exception(LIMIT)
    assert (error.worker, error.pid, error.exitcode, error.task) == (0, pid, -9, "tasks_faults.kill_self")
    assert isinstance(error, BrokenProcessPool)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is WorkerDied
    assert str(copy) == str(error)
    assert (copy.worker, copy.pid, copy.exitcode, copy.task) == (0, pid, -9, "tasks_faults.kill_self")


@pytest.mark.parametrize(
    ("fn", "name"),
    [(os._exit, "posix._exit"), (tasks.ExitsAtUnpickle(), "ExitsAtUnpickle object"), (tasks.exit_7, "faults.exit_7")],
)
def test_the_error_of_a_dead_worker_names_what_it_ran(fn, name):
    with pool() as executor:
        assert name in executor.submit(fn, *([4] if fn is os._exit else [])).exception(LIMIT).task


def test_the_error_of_a_dead_worker_names_a_local_function():
    def local():
        os._exit(1)

    with pool() as executor:
        task = executor.submit(local).exception(LIMIT).task
    assert task.endswith("test_the_error_of_a_dead_worker_names_a_local_function.<locals>.local")


@pytest.mark.parametrize("method", METHODS)
def test_a_kill_among_two_thousand_tasks_costs_one(method):
    with pool(2, method) as executor:
        futures = [executor.submit(tasks.kill_self_at, i, 777) for i in range(2000)]
        errors = {i: f.exception(LIMIT) for i, f in enumerate(futures) if f.exception(LIMIT) is not None}
        assert list(errors) == [777]
        assert type(errors[777]) is WorkerDied
        assert errors[777].exitcode == -9
        assert [f.result(LIMIT) for i, f in enumerate(futures) if i != 777] == [i * i for i in range(2000) if i != 777]
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32


def test_a_kill_in_a_map_is_raised_where_its_item_is_due():
    with pool(2) as executor:
        results = executor.map(tasks.kill_self_at, range(10), [4] * 10, timeout=LIMIT)
        assert [next(results) for _ in range(4)] == [0, 1, 4, 9]
        with pytest.raises(WorkerDied):
            next(results)
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_killed_while_idle_is_replaced(method):
    with pool(1, method) as executor:
        first = executor.submit(tasks.pid).result(LIMIT)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: living(executor) and first not in living(executor), "another worker")
        second = executor.submit(tasks.pid).result(LIMIT)
        assert second != first
        assert living(executor) == {second}


def test_a_worker_killed_while_idle_is_no_matter_even_if_a_task_comes_at_once():
    with pool(2) as executor:
        executor.submit(pow, 2, 5).result(LIMIT)
        killed: set[int] = set()
        for i in range(20):
            wait_until(lambda killed=killed: ready(executor, 2, killed), "two workers")
            killed = {min(living(executor))}
            os.kill(*killed, signal.SIGKILL)
            future = executor.submit(pow, 2, i)
            error = future.exception(LIMIT)
            assert error is None or type(error) is WorkerDied  # it may take the task and die
            if error is None:
                assert future.result(LIMIT) == 2**i


@pytest.mark.parametrize("method", METHODS)
def test_all_workers_killed_at_once_cost_a_task_each_at_most(method, tmp_path):
    n = 3
    release = tmp_path / "release"
    with pool(n, method) as executor:
        held = [executor.submit(tasks.touch_and_wait, str(tmp_path / str(i)), str(release)) for i in range(n)]
        wait_until(lambda: all((tmp_path / str(i)).exists() for i in range(n)), "all workers at work")
        # A worker may be at work before the parent has listed it.
        wait_until(lambda: len(living(executor)) == n, "the list of all workers")
        waiting = [executor.submit(pow, i, 2) for i in range(500)]
        for pid in living(executor):
            os.kill(pid, signal.SIGKILL)
        assert {type(f.exception(LIMIT)) for f in held} == {WorkerDied}
        errors = [f.exception(LIMIT) for f in waiting]
        assert errors == [None] * 500
        assert [f.result(LIMIT) for f in waiting] == [i * i for i in range(500)]


def test_all_workers_killed_while_they_take_small_tasks_cost_a_task_each_at_most():
    n = 3
    killed: set[int] = set()
    with pool(n) as executor:
        for _ in range(10):
            executor.submit(pow, 2, 5).result(LIMIT)
            wait_until(lambda killed=killed: ready(executor, n, killed), "all workers")
            killed = living(executor)
            waiting = [executor.submit(pow, i, 2) for i in range(500)]
            for pid in killed:
                os.kill(pid, signal.SIGKILL)
            errors = [f.exception(LIMIT) for f in waiting]
            assert sum(error is not None for error in errors) <= n
            assert {type(error) for error in errors} <= {type(None), WorkerDied}
            assert [f.result(LIMIT) for f in waiting if f.exception() is None] == [
                i * i for i in range(500) if errors[i] is None
            ]


# ---- on_worker_death="break" ----


@pytest.mark.parametrize("method", METHODS)
def test_with_break_a_death_costs_all_pending_tasks_and_the_pool(method, tmp_path):
    with pool(2, method, on_worker_death="break") as executor:
        held = executor.submit(tasks.touch_and_wait, str(tmp_path / "runs"), str(tmp_path / "never"))
        wait_until((tmp_path / "runs").exists, "the first task")
        executor.submit(tasks.touch_and_wait, str(tmp_path / "runs too"), str(tmp_path / "go"))
        wait_until((tmp_path / "runs too").exists, "the second task")
        futures = [executor.submit(tasks.kill_self_at, i, 3) for i in range(100)]
        (tmp_path / "go").touch()
        errors = [f.exception(LIMIT) for f in futures]
        assert type(errors[3]) is WorkerDied
        assert errors[:3] == [None] * 3
        assert [f.result(LIMIT) for f in futures[:3]] == [0, 1, 4]
        for error in [held.exception(LIMIT), *errors[4:]]:
            assert type(error) is BrokenProcessPool
            assert error.__cause__ is errors[3]
            assert "killed by SIGKILL" in str(error)
        with pytest.raises(BrokenProcessPool, match="killed by SIGKILL"):
            executor.submit(pow, 2, 5)
        with pytest.raises(BrokenProcessPool):
            executor.map(pow, [1], [2])
        wait_until(lambda: not living(executor), "the end of the workers")


def test_with_break_the_death_of_an_idle_worker_breaks_the_pool():
    with pool(on_worker_death="break") as executor:
        os.kill(executor.submit(tasks.pid).result(LIMIT), signal.SIGKILL)
        wait_until(lambda: executor._client.closed, "a broken pool")
        with pytest.raises(BrokenProcessPool, match=r"worker 0 .*was killed by SIGKILL"):
            executor.submit(pow, 2, 5)


def test_with_break_an_exception_breaks_nothing():
    with pool(on_worker_death="break") as executor:
        for fn, args, kind in [row[1:4] for row in TABLE if row[3] is not WorkerDied]:
            assert type(executor.submit(fn, *args).exception(LIMIT)) is kind
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32


# ---- which thread notices ----


@pytest.mark.parametrize("method", METHODS)
def test_a_death_is_noticed_although_a_child_of_the_task_holds_every_descriptor(method, tmp_path):
    note = tmp_path / "grandchild"
    try:
        with pool(method=method) as executor:
            executor.submit(pow, 2, 5).result(LIMIT)
            error = executor.submit(tasks.fork_and_die, str(note)).exception(5)
            assert type(error) is WorkerDied
            assert error.exitcode == 7
            assert executor.submit(pow, 2, 5).result(5) == 32
            assert Path(f"/proc/{note.read_text()}").exists()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(note.read_text()), signal.SIGKILL)


# ---- scripts of their own ----

SCRIPT = """
import os, sys, threading, time
from concurrent.futures import as_completed
from multiprocessing import get_context
from pathlib import Path
from ringpool import ProcessPoolExecutor
import tasks_faults as tasks

def state_of_main():
    return Path(f"/proc/self/task/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[0]

def say_when_blocked_in(name):
    def watch():
        while True:
            frame = sys._current_frames()[threading.main_thread().ident]
            while frame is not None and frame.f_code.co_name != name:
                frame = frame.f_back
            if frame is not None and state_of_main() == "S":
                break
            time.sleep(0.001)
        print("ready", flush=True)
    threading.Thread(target=watch, daemon=True).start()

where = Path(sys.argv[1])
method = sys.argv[2]
"""


@contextlib.contextmanager
def script(code: str, *args: object):
    """Runs Python code in a process group of its own; kills what is left of it."""
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT + textwrap.dedent(code), *map(str, args)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=LIMIT)


def wait_for_ends(pidfds: list[int], limit: float) -> None:
    poll = select.poll()
    for fd in pidfds:
        poll.register(fd, select.POLLIN)
    left = set(pidfds)
    deadline = time.monotonic() + limit
    while left:
        ended = poll.poll(max(0, deadline - time.monotonic()) * 1000)
        assert ended, f"{len(left)} processes are still there after {limit} s"
        for fd, _ in ended:
            poll.unregister(fd)
            left.discard(fd)


WORK = {
    "idle": "",
    "asleep": "[executor.submit(tasks.touch_and_sleep, str(where / str(i)), 1000) for i in range(2)]",
    "holding the GIL": "[executor.submit(tasks.touch_and_hold_the_gil, str(where / str(i))) for i in range(2)]",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("work", WORK)
def test_workers_end_when_their_parent_is_killed(work, method, tmp_path):
    code = f"""
    executor = ProcessPoolExecutor(2, get_context(method))
    release = where / "release"
    held = [executor.submit(tasks.touch_and_wait, str(where / f"_{{i}}"), str(release)) for i in range(2)]
    while not all((where / f"_{{i}}").exists() for i in range(2)):
        time.sleep(0.001)
    release.touch()
    pids = {{f.result() for f in held}}
    assert len(pids) == 2
    kept = {WORK[work] or "[]"}
    while not all((where / str(i)).exists() for i in range(len(kept))):
        time.sleep(0.001)
    print(*pids, flush=True)
    time.sleep(1000)
    """
    with script(code, tmp_path, method) as process:
        pids = [int(pid) for pid in process.stdout.readline().split()]
        assert len(pids) == 2, process.communicate(timeout=LIMIT)
        with contextlib.ExitStack() as stack:
            pidfds = []
            for pid in pids:
                pidfds.append(os.pidfd_open(pid))
                stack.callback(os.close, pidfds[-1])
            process.kill()
            wait_for_ends(pidfds, 5)
        _, errors = process.communicate(timeout=5)  # no process holds its stderr any more
        assert errors == ""


# The tasks end when the script has been interrupted, or is to leave.
INTERRUPTED = """
executor = ProcessPoolExecutor(2, get_context(method))
futures = [executor.submit(tasks.touch_and_wait, str(where / str(i)), str(where / "release")) for i in range(2)]
while not all((where / str(i)).exists() for i in range(2)):
    time.sleep(0.001)

def block():
    {block}

say_when_blocked_in({name!r})
try:
    block()
finally:
    (where / "release").touch()
"""
BLOCKS = {
    "result": ("futures[0].result()", "block"),
    "exception": ("futures[0].exception(1000)", "block"),
    "as_completed": ("list(as_completed(futures))", "as_completed"),
    "map": ("list(executor.map(tasks.touch_and_wait, [str(where / 'm')], [str(where / 'release')]))", "block"),
    "shutdown": ("executor.shutdown()", "shutdown"),
}


AT_EXIT = """
import os
import sys
import threading
from multiprocessing import get_context

from files import await_file

from ringpool import ProcessPoolExecutor


def fail(path):
    await_file(path)
    raise ValueError("no")


def die(path):
    await_file(path)
    os._exit(3)


def tell(future):
    error = future.exception()
    print([kind.__name__ for kind in type(error).__mro__[:3]], type(error.__cause__).__name__, flush=True)


if __name__ == "__main__":
    executor = ProcessPoolExecutor(1, get_context(sys.argv[1]))
    for task in (fail, die):
        executor.submit(task, sys.argv[2]).add_done_callback(tell)
    assert "concurrent.futures.process" not in sys.modules
    threading._register_atexit(open, sys.argv[2], "w")  # called before those that were registered earlier
"""


@pytest.mark.parametrize("method", METHODS)
def test_errors_are_told_at_the_interpreters_end_too(method, tmp_path):
    """When what the stdlib's executor needs for them can be imported no more."""
    program = tmp_path / "program.py"
    program.write_text(AT_EXIT)
    done = subprocess.run(
        [sys.executable, program, method, tmp_path / "gate"],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        env=environment(),
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "['ValueError', 'Exception', 'BaseException'] _RemoteTraceback",
        "['WorkerDied', 'BrokenProcessPool', 'BrokenExecutor'] _RemoteTraceback",
    ]
    assert done.returncode == 0


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("block", BLOCKS)
def test_control_c_ends_the_parent_with_its_traceback_alone(block, method, tmp_path):
    code, name = BLOCKS[block]
    with script(INTERRUPTED.format(block=code, name=name), tmp_path, method) as process:
        assert process.stdout.readline() == "ready\n", process.communicate(timeout=LIMIT)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=LIMIT)  # to the end of its stderr: no orphan holds it
    assert output == ""
    assert process.returncode == -signal.SIGINT, errors
    assert errors.count("Traceback (most recent call last)") == 1, errors
    assert errors.count("KeyboardInterrupt") == 1, errors
    assert "in block" in errors
    assert errors.startswith("Traceback")
    assert errors.endswith("\nKeyboardInterrupt\n")


@pytest.mark.parametrize("method", METHODS)
def test_a_script_that_handles_control_c_uses_its_pool_again(method, tmp_path):
    code = """
    with ProcessPoolExecutor(2, get_context(method)) as executor:
        release = where / "release"
        held = [executor.submit(tasks.touch_and_wait, str(where / str(i)), str(release)) for i in range(2)]
        while not all((where / str(i)).exists() for i in range(2)):
            time.sleep(0.001)
        def block():
            held[0].result()
        say_when_blocked_in("block")
        try:
            block()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
        release.touch()
        pids = {f.result(30) for f in held}
        assert len(pids) == 2
        assert [f.result(30) for f in [executor.submit(pow, i, 2) for i in range(100)]] == [i * i for i in range(100)]
        assert {p.pid for p in executor._supervisor.processes} == pids
    print("done", flush=True)
    """
    with script(code, tmp_path, method) as process:
        assert process.stdout.readline() == "ready\n", process.communicate(timeout=LIMIT)
        os.killpg(process.pid, signal.SIGINT)
        output, errors = process.communicate(timeout=LIMIT)
    assert (output, errors, process.returncode) == ("interrupted\ndone\n", "", 0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("end", ["with", "exit", "del", "break", "died"])
def test_a_script_says_nothing_on_stderr_however_its_pool_ends(end, method, tmp_path):
    code = """
    executor = ProcessPoolExecutor(2, get_context(method), on_worker_death="break" if end == "break" else "replace")
    payload = bytes(100_000)
    results = [executor.submit(tasks.echo, i, payload) for i in range(20)]
    assert [f.result(30) for f in results] == [(i, payload) for i in range(20)]
    if end in ("break", "died"):
        assert executor.submit(tasks.exit_7).exception(30) is not None
    if end == "with":
        with executor:
            executor.submit(pow, 2, 5)
    if end == "del":
        del executor
    """
    with script(f"end = {end!r}\n" + textwrap.dedent(code), tmp_path, method) as process:
        assert (*process.communicate(timeout=LIMIT), process.returncode) == ("", "", 0)


# ---- signals and threads in result() ----


@pytest.fixture
def alarm():
    """signal.SIGALRM is free again afterwards."""
    before = signal.getsignal(signal.SIGALRM)
    yield lambda handler, seconds: (signal.signal(signal.SIGALRM, handler), signal.setitimer(0, seconds))
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("nested", ["another", "the same"])
def test_a_signal_handler_may_call_result_while_the_main_thread_is_in_it(alarm, nested, tmp_path):
    seen = []
    release = tmp_path / "release"
    with pool(2) as executor:
        outer = executor.submit(tasks.touch_and_wait, str(tmp_path / "0"), str(release))
        wait_until((tmp_path / "0").exists, "the outer task")

        def handler(signum, frame):
            if nested == "another":
                seen.append(executor.submit(pow, 2, 5).result(LIMIT))
            else:
                seen.append(None)
                release.touch()
                seen[-1] = outer.result(LIMIT)
            release.touch()

        alarm(handler, 0.05)
        pid = outer.result(LIMIT)
        assert seen == [32 if nested == "another" else pid]


def test_signal_handlers_nest_in_result_many_times(alarm, tmp_path):
    release = tmp_path / "release"
    seen = []
    with pool(2) as executor:
        outer = executor.submit(tasks.touch_and_wait, str(tmp_path / "0"), str(release))
        wait_until((tmp_path / "0").exists, "the outer task")

        def handler(signum, frame):
            depth = len(seen)
            seen.append(depth)
            if depth < 20:
                inner = executor.submit(tasks.after, 0.02, depth)
                signal.setitimer(signal.ITIMER_REAL, 0.01)
                assert inner.result(LIMIT) == depth
            else:
                release.touch()

        alarm(handler, 0.02)
        assert outer.result(LIMIT) > 0
        assert seen == list(range(21))


def test_an_exception_of_a_signal_handler_leaves_result_and_the_future_can_be_asked_again(alarm, tmp_path):
    release = tmp_path / "release"

    def handler(signum, frame):
        raise InterruptedError("from the handler")

    with pool() as executor:
        future = executor.submit(tasks.touch_and_wait, str(tmp_path / "0"), str(release))
        for _ in range(5):
            with pytest.raises(InterruptedError, match="from the handler"):
                alarm(handler, 0.01)
                future.result(LIMIT)
        assert not future.done()
        release.touch()
        assert future.result(LIMIT) > 0


@contextlib.contextmanager
def threads(functions):
    """Runs each function in a thread; at the end all must have ended, and the first exception of any is raised."""
    with ThreadPoolExecutor(len(functions)) as executor:
        futures = [executor.submit(fn) for fn in functions]
        yield futures
        for future in futures:
            future.result(LIMIT)


def test_a_thread_in_result_with_timeouts_gets_them_in_time_while_another_leads(tmp_path):
    release = tmp_path / "release"
    with pool(2) as executor:
        held = [executor.submit(tasks.touch_and_wait, str(tmp_path / str(i)), str(release)) for i in range(2)]

        both = threading.Barrier(2, timeout=LIMIT)

        def impatient():
            for _ in range(10):
                begin = time.monotonic()
                with pytest.raises(TimeoutError):
                    held[1].result(0.02)
                assert 0.02 <= time.monotonic() - begin < 5
            assert executor.submit(pow, 2, 5).cancel()  # both workers are busy
            both.wait()
            release.touch()
            assert held[1].result(LIMIT) > 0

        with threads([lambda: held[0].result(LIMIT), impatient, impatient]):
            pass


def test_a_leader_whose_time_is_up_leaves_the_lead_to_another(tmp_path):
    release = tmp_path / "release"
    with pool() as executor:
        held = executor.submit(tasks.touch_and_wait, str(tmp_path / "0"), str(release))
        leads = threading.Event()

        def leader():
            leads.set()
            with pytest.raises(TimeoutError):
                held.result(0.2)
            release.touch()

        def follower():
            leads.wait(LIMIT)
            assert held.result(LIMIT) > 0

        with threads([leader, *[follower] * 5]):
            pass


def test_sixteen_threads_wait_for_futures_that_finish_in_random_order():
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    with pool(4) as executor:
        for _ in range(20):
            futures = [executor.submit(tasks.after, rng.random() / 100, i) for i in range(48)]
            order = [rng.sample(range(48), 12) for _ in range(16)]
            asks = [lambda mine=[futures[i] for i in each]: [f.result(LIMIT) for f in mine] for each in order]
            with threads(asks) as done:
                pass
            assert [each.result(0) for each in done] == order


def test_sixteen_threads_submit_and_wait():
    def work(k):
        for i in range(500):
            assert executor.submit(pow, i, k % 3).result(LIMIT) == i ** (k % 3)

    with pool(2) as executor, threads([lambda k=k: work(k) for k in range(16)]):
        pass


def test_a_thread_that_waits_for_a_future_that_another_cancels_is_told_at_once(tmp_path):
    release = tmp_path / "release"
    with pool() as executor:
        held = executor.submit(tasks.touch_and_wait, str(tmp_path / "0"), str(release))
        wait_until((tmp_path / "0").exists, "the task that holds the worker")
        for _ in range(20):
            queued = [executor.submit(pow, 2, 5) for _ in range(3)]
            begun = threading.Barrier(4, timeout=LIMIT)

            def ask(future, begun=begun):
                begun.wait()
                with pytest.raises(CancelledError):
                    future.result(LIMIT)

            with threads([lambda f=f: ask(f) for f in queued]):
                begun.wait()
                begin = time.monotonic()
                assert all(f.cancel() for f in queued)
            assert time.monotonic() - begin < 5
        release.touch()
        assert held.result(LIMIT) > 0


def test_a_thread_that_waits_for_a_task_whose_worker_is_killed_is_told_at_once(tmp_path):
    with pool(2) as executor:
        for i in range(10):
            held = executor.submit(tasks.touch_and_wait, str(tmp_path / str(i)), str(tmp_path / "never"))
            wait_until((tmp_path / str(i)).exists, "the task")
            killed = living(executor)
            with threads([lambda held=held: held.exception(LIMIT)] * 4) as told:
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
            assert {type(f.result(0)) for f in told} == {WorkerDied}
            executor.submit(pow, 2, 5).result(LIMIT)
            wait_until(lambda killed=killed: ready(executor, 2, killed), "all workers")
