"""Tasks that are ended though they run: by a time limit, by cancelling, with the pool. And tasks that run again."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tasks_endings as tasks
from files import await_file
from limits import LIMIT as WAIT_S
from programs import environment
from waiting import make_overdue, wait_until
from words import Words

import ringpool
from ringpool import TaskTimeout, WorkerDied
from ringpool.supervisor import TURN_S, Supervisor

LONG_S = 10.0  # what takes longer has not been ended, but has ended by itself

each_method = pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])


def pool(workers=1, method="forkserver", **options):
    return ringpool.ProcessPoolExecutor(workers, multiprocessing.get_context(method), **options)


def is_there(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.fixture
def path(tmp_path):
    return tmp_path / "running"


# ---- time limits ----


def test_a_timeout_is_raised_inside_the_task_and_by_its_future(path, tmp_path):
    with pool() as executor:
        pid = executor.submit(os.getpid).result(WAIT_S)
        view = executor.options(timeout=60, grace=WAIT_S)
        future = view.submit(tasks.clean_up, str(path), str(tmp_path / "cleaned"))
        wait_until(path.exists)
        make_overdue(executor)
        with pytest.raises(TaskTimeout, match=r"tasks_endings\.clean_up took longer than 60 s$") as caught:
            future.result(WAIT_S)
        assert isinstance(caught.value, TimeoutError)
        assert (caught.value.task, caught.value.timeout, caught.value.killed) == ("tasks_endings.clean_up", 60, False)
        assert "in clean_up" in str(caught.value.__cause__)  # where it was
        assert (tmp_path / "cleaned").exists()
        assert executor.submit(os.getpid).result(WAIT_S) == pid  # the worker has survived it


@each_method
@pytest.mark.parametrize("task", [tasks.sit_in_c, tasks.swallow, tasks.own_handler])
def test_a_task_that_goes_on_after_its_grace_loses_its_worker(task, path, method):
    with pool(method=method) as executor:
        pid = executor.submit(os.getpid).result(WAIT_S)
        future = executor.options(timeout=60, grace=0.1).submit(task, str(path))
        innocent = executor.submit(tasks.square, 3)
        wait_until(path.exists)
        make_overdue(executor)
        with pytest.raises(TaskTimeout, match="its worker was killed") as caught:
            future.result(WAIT_S)
        assert caught.value.killed
        assert caught.value.__cause__ is None
        assert innocent.result(WAIT_S) == 9
        assert executor.submit(os.getpid).result(WAIT_S) != pid


@pytest.mark.parametrize(("task", "cause"), [(tasks.catch, None), (tasks.raise_another, LookupError)])
def test_whatever_a_task_makes_of_it_the_future_raises_the_timeout(task, cause, path):
    with pool() as executor:
        future = executor.options(timeout=60, grace=WAIT_S).submit(task, str(path))
        wait_until(path.exists)
        make_overdue(executor)
        error = future.exception(WAIT_S)
    assert type(error) is TaskTimeout
    assert type(error.__cause__) is (cause or type(None))


def test_a_limit_lasts_the_seconds_that_it_is_given(path):
    with pool() as executor:
        executor.submit(tasks.nothing).result(WAIT_S)
        began = time.monotonic()
        future = executor.options(timeout=0.5, grace=WAIT_S).submit(tasks.touch_and_sleep, str(path))
        with pytest.raises(TaskTimeout, match=r"took longer than 0\.5 s$"):
            future.result(WAIT_S)
        assert time.monotonic() - began >= 0.5


def test_the_time_counts_from_the_start_of_the_task():
    with pool() as executor:
        before = executor.submit(tasks.sleep, 2.5)
        futures = [executor.options(timeout=2).submit(tasks.square, i) for i in range(5)]
        assert [future.result(WAIT_S) for future in futures] == [i * i for i in range(5)]
        assert before.done()


@pytest.mark.parametrize("chunksize", [1, 3, 10])
def test_in_map_the_time_limit_is_that_of_each_item(chunksize):
    with pool() as executor:
        view = executor.options(timeout=4)  # less than all together; for one, enough on a busy machine
        assert list(view.map(tasks.sleep, [0.45] * 10, chunksize=chunksize)) == [0.45] * 10
        with pytest.raises(TaskTimeout):
            list(view.map(tasks.sleep, [0.01, 60, 0.01], chunksize=chunksize))


def test_map_with_a_buffersize_keeps_the_options_when_the_view_is_gone():
    with pool() as executor:
        executor.submit(tasks.nothing).result(WAIT_S)
        results = executor.options(timeout=2).map(tasks.sleep, [0, 0, 0, 60], buffersize=1)
        assert [next(results) for _ in range(3)] == [0, 0, 0]
        with pytest.raises(TaskTimeout):
            next(results)


def test_a_timeout_breaks_no_pool_that_a_death_would_break(path):
    with pool(on_worker_death="break") as executor:
        future = executor.options(timeout=0.1, grace=0.1).submit(tasks.swallow, str(path))
        assert isinstance(future.exception(WAIT_S), TaskTimeout)
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9


def test_a_worker_that_dies_by_itself_at_its_deadline_is_no_riddle(path):
    with pool() as executor, Words(executor._client) as words:
        future = executor.options(timeout=60, grace=60).submit(tasks.swallow, str(path))
        wait_until(path.exists)
        (process,) = executor._supervisor.processes
        make_overdue(executor)
        wait_until(lambda: words.worker(0)["raised"], "the exception in the task")
        os.kill(process.pid, signal.SIGKILL)
        error = future.exception(WAIT_S)
        assert isinstance(error, TaskTimeout)
        assert isinstance(error.__cause__, WorkerDied)


def test_a_worker_that_has_died_before_its_deadline_is_not_late(path, tmp_path, monkeypatch):
    """However late the supervisor hears of it. Its task may run again."""
    gate = tmp_path / "gate"
    busy, release = threading.Event(), threading.Event()

    def slowly(self, replace=Supervisor._replace):
        busy.set()
        release.wait(WAIT_S)
        replace(self)

    with pool() as executor, Words(executor._client) as words:
        pid = executor.submit(os.getpid).result(WAIT_S)
        future = executor.options(timeout=3, retries=1).submit(tasks.die_at_first, str(path), str(gate))
        wait_until(path.exists)
        monkeypatch.setattr(Supervisor, "_replace", slowly)
        executor._client.staff.alarm()
        assert busy.wait(WAIT_S)
        gate.touch()
        wait_until(lambda: not is_there(pid), "the death")
        over_ns = words.worker(0)["started_ns"] + 3_000_000_000
        wait_until(lambda: time.monotonic_ns() > over_ns, "the end of the limit, though not for the task")
        release.set()
        assert future.result(WAIT_S) == "alive"


def test_children_of_a_killed_task_go_with_it(path):
    with pool() as executor:
        future = executor.options(timeout=60, grace=0.1).submit(tasks.start_child, str(path), True)
        wait_until(path.exists)
        child = int(path.read_text())
        make_overdue(executor)
        assert isinstance(future.exception(WAIT_S), TaskTimeout)
        wait_until(lambda: not is_there(child), "the end of the task's child")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"timeout": 0}, ValueError),
        ({"timeout": -1}, ValueError),
        ({"timeout": float("nan")}, ValueError),
        ({"timeout": "1"}, TypeError),
        ({"grace": -1}, ValueError),
        ({"grace": None}, TypeError),
        ({"retries": -1}, ValueError),
        ({"retries": 1.5}, TypeError),
        ({"name": 3}, TypeError),
    ],
)
def test_wrong_options_are_refused(options, error):
    with pool() as executor, pytest.raises(error, match=next(iter(options))):
        executor.options(**options)


def test_an_infinite_timeout_is_one():
    with pool() as executor:
        assert executor.options(timeout=float("inf"), grace=float("inf")).submit(tasks.square, 3).result(WAIT_S) == 9


def test_a_view_is_an_executor_that_shares_the_pool():
    with pool().options(name="mine") as view:
        assert isinstance(view, concurrent.futures.Executor)
        future = view.submit(os._exit, 3)
        assert "while it ran mine" in str(future.exception(WAIT_S))
        assert future.exception().task == "mine"
    with pytest.raises(RuntimeError, match="after shutdown"):
        view.submit(tasks.nothing)


# ---- retries ----


@pytest.mark.parametrize("value", [None, b"x" * 300_000])
def test_a_task_whose_worker_died_runs_again_as_often_as_it_may(value, path):
    with pool() as executor:
        view = executor.options(retries=2)
        assert view.submit(tasks.die_n_times, str(path), 2, value, key=1).result(WAIT_S) == (value, {"key": 1})
        path.unlink()
        assert isinstance(view.submit(tasks.die_n_times, str(path), 3, value).exception(WAIT_S), WorkerDied)
        assert len(path.read_text()) == 3
        wait_until(lambda: executor._client.tasks.outstanding == 0)
        assert executor._client.segment.blocks <= 3  # functions


def test_a_task_that_raised_does_not_run_again(path):
    with pool() as executor:
        future = executor.options(retries=5).submit(tasks.fail_and_count, str(path))
        assert isinstance(future.exception(WAIT_S), LookupError)
    assert path.read_text() == "x"


def test_a_task_that_overran_its_time_does_not_run_again(path):
    with pool() as executor:
        future = executor.options(timeout=0.1, grace=0.1, retries=5).submit(tasks.swallow, str(path))
        assert isinstance(future.exception(WAIT_S), TaskTimeout)


def test_a_chunk_whose_worker_died_runs_again(path):
    with pool() as executor:
        view = executor.options(retries=1)
        got = list(view.map(tasks.die_n_times, [str(path)] * 3, [1, 1, 1], [7, 8, 9], chunksize=3))
    assert got == [(7, {}), (8, {}), (9, {})]


# ---- cancelling what runs ----


@each_method
def test_cancel_ends_a_task_that_runs_only_if_told_to(method, path, tmp_path):
    with pool(method=method) as executor:
        pid = executor.submit(os.getpid).result(WAIT_S)
        future = executor.options(grace=WAIT_S).submit(tasks.clean_up, str(path), str(tmp_path / "cleaned"))
        wait_until(path.exists)
        assert not future.cancel()
        assert future.running()
        assert future.cancel(running=True)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(WAIT_S)
        assert future.cancelled()
        assert future.cancel()
        assert (tmp_path / "cleaned").exists()
        assert executor.submit(os.getpid).result(WAIT_S) == pid


def test_a_task_that_has_missed_the_signal_gets_another_and_none_when_it_cleans_up(path, tmp_path):
    with pool() as executor:
        pid = executor.submit(os.getpid).result(WAIT_S)
        future = executor.options(grace=WAIT_S).submit(tasks.lose_a_signal, str(path), str(tmp_path / "cleaned"))
        wait_until(path.exists)
        assert future.cancel(running=True)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(WAIT_S)
        before, after = (int(n) for n in (tmp_path / "cleaned").read_text().split())
        # Others may come before the task sees to the first, and one before the parent sees what it has raised.
        assert before >= 1 and after <= 1
        assert executor.submit(os.getpid).result(WAIT_S) == pid


def test_cancel_kills_the_worker_of_a_task_that_goes_on(path):
    with pool() as executor:
        future = executor.options(grace=0.1).submit(tasks.sit_in_c, str(path))
        wait_until(path.exists)
        assert future.cancel(running=True)
        assert future.cancel(running=True)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(WAIT_S)
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9


def test_a_task_that_returns_in_spite_of_it_is_cancelled_all_the_same(path):
    with pool() as executor:
        future = executor.submit(tasks.catch, str(path))
        wait_until(path.exists)
        assert future.cancel(running=True)
        with pytest.raises(concurrent.futures.CancelledError):
            future.result(WAIT_S)


def test_cancelling_what_is_done_or_has_not_started(tmp_path):
    with pool() as executor:
        done = executor.submit(tasks.nothing)
        done.result(WAIT_S)
        assert not done.cancel(running=True)
        first = executor.submit(await_file, str(tmp_path / "gate"))
        second = executor.submit(tasks.sleep, 60)
        assert second.cancel(running=True)
        assert second.cancelled()
        (tmp_path / "gate").touch()
        assert first.result(WAIT_S) is None


def test_all_waiting_threads_hear_of_a_running_task_that_is_cancelled(path):
    told = []
    with pool() as executor, concurrent.futures.ThreadPoolExecutor(4) as threads:
        future = executor.submit(tasks.touch_and_sleep, str(path))
        future.add_done_callback(lambda f: told.append(f.cancelled()))
        wait_until(path.exists)
        waiting = [
            threads.submit(future.exception, WAIT_S),
            threads.submit(lambda: list(concurrent.futures.as_completed([future], WAIT_S))),
            threads.submit(concurrent.futures.wait, [future], WAIT_S),
        ]
        assert future.cancel(running=True)
        assert isinstance(waiting[0].exception(WAIT_S), concurrent.futures.CancelledError)
        assert waiting[1].result(WAIT_S) == [future]
        assert waiting[2].result(WAIT_S).done == {future}
        wait_until(lambda: told == [True])


@pytest.mark.parametrize("cancel_running", [False, True])
def test_asyncio_ends_the_task_that_it_cancels_if_the_pool_was_told_so(cancel_running, path, tmp_path):
    gate, finished = tmp_path / "gate", tmp_path / "finished"
    with pool(cancel_running=cancel_running) as executor:

        async def main():
            loop = asyncio.get_running_loop()
            task = asyncio.ensure_future(
                loop.run_in_executor(executor, tasks.touch_and_await, str(path), str(gate), str(finished))
            )
            while not path.exists():
                await asyncio.sleep(0.01)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        asyncio.run(main())
        if not cancel_running:
            gate.touch()
        executor.submit(tasks.nothing).result(WAIT_S)
        assert finished.exists() != cancel_running


# ---- the end of the pool ----


@pytest.mark.parametrize("task", [tasks.touch_and_sleep, tasks.sit_in_c])
def test_shutdown_with_a_timeout_ends_what_is_pending(task, path):
    executor = pool()
    running = executor.submit(task, str(path))
    queued = [executor.submit(tasks.nothing) for _ in range(3000)]
    wait_until(path.exists)
    began = time.monotonic()
    executor.shutdown(timeout=0.1)
    assert time.monotonic() - began < LONG_S
    assert all(future.cancelled() for future in [running, *queued])


def test_shutdown_with_a_timeout_that_is_not_needed():
    executor = pool()
    future = executor.submit(tasks.square, 3)
    executor.shutdown(timeout=60)
    assert future.result() == 9


def test_what_is_cancelled_by_shutdown_may_raise_anything_in_its_callback(path):
    executor = pool()
    running = executor.submit(tasks.touch_and_sleep, str(path))
    wait_until(path.exists)
    queued = executor.submit(tasks.nothing)
    told = []

    def callback(future):
        told.append(threading.current_thread().name)
        raise SystemExit("of a callback")

    queued.add_done_callback(callback)
    executor.shutdown(timeout=0.1)
    assert running.cancelled() and queued.cancelled()
    assert told == ["ringpool-collector"]


def test_what_is_cancelled_by_shutdown_may_wait_for_the_rest_in_its_callback(path):
    executor = pool()
    running = executor.submit(tasks.touch_and_sleep, str(path))
    wait_until(path.exists)
    queued = executor.submit(tasks.nothing)
    told = []

    def callback(future):
        try:
            running.result(WAIT_S)
        except BaseException as error:
            told.append(type(error))

    queued.add_done_callback(callback)
    executor.shutdown(timeout=0.1)
    assert told == [concurrent.futures.CancelledError]


def test_workers_are_killed_whatever_callbacks_raise(path):
    executor = pool()
    executor.submit(tasks.touch_and_sleep, str(path))
    wait_until(path.exists)
    workers = executor._supervisor.processes
    queued = executor.submit(tasks.nothing)
    queued.add_done_callback(lambda future: sys.exit("of a callback"))
    executor.kill_workers()
    wait_until(lambda: not any(is_there(each.pid) for each in workers), "the workers' end")
    executor.shutdown()


@pytest.mark.ci
def test_a_stop_between_two_sleeps_of_the_supervisor_does_not_count(path, monkeypatch):
    """As by Ctrl-Z, while the supervisor's thread is at work."""
    gate = path.with_name("gate")
    with pool() as executor:
        supervisor = executor._supervisor
        replace, stopped, go_on = supervisor._replace, threading.Event(), threading.Event()

        def stop_once():
            if path.exists() and not stopped.is_set():
                stopped.set()
                go_on.wait(WAIT_S)
            replace()

        monkeypatch.setattr(supervisor, "_replace", stop_once)
        future = executor.options(timeout=5).submit(tasks.touch_and_await, str(path), str(gate), str(path))
        assert stopped.wait(WAIT_S)
        time.sleep(6)  # longer than the task's limit, of which little has passed
        go_on.set()
        time.sleep(2 * TURN_S)  # the supervisor looks whether the task is overdue
        gate.touch()
        assert future.exception(WAIT_S) is None


def test_a_worker_that_cannot_be_signalled_is_replaced(monkeypatch):
    failed = []

    def pidfd_open(pid, flags=0, real=os.pidfd_open):
        if sys._getframe(1).f_code.co_name == "start" and not failed:
            failed.append(pid)
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(pid, flags)

    monkeypatch.setattr(os, "pidfd_open", pidfd_open)
    with pool() as executor:
        assert executor.submit(os.getpid).result(WAIT_S) not in failed
    assert failed


def test_a_shutdown_with_a_timeout_that_is_none_says_so_before_it_begins():
    with pool() as executor:
        with pytest.raises(TypeError, match="timeout must be a number of seconds or None, not str"):
            executor.shutdown(timeout="5")
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9


@pytest.mark.parametrize("options", [{}, {"timeout": WAIT_S}])
def test_a_child_that_a_task_forks_ends_with_its_item_of_a_chunk(options, path):
    with pool(method="fork") as executor:
        results = executor.options(**options).map(tasks.fork_and_append, range(4), [str(path)] * 4, chunksize=4)
        assert list(results) == [0, 1, 2, 3]
    wait_until(lambda: path.read_text().count("0") == 2, "the child's item")
    assert sorted(path.read_text().split()) == ["0", "0", "1", "2", "3"]


def test_a_deadline_while_a_result_is_pickled_is_no_failure_to_pickle(path):
    with pool() as executor:
        pid = executor.submit(os.getpid).result(WAIT_S)
        future = executor.options(timeout=60, grace=WAIT_S).submit(tasks.slow_to_pickle, str(path))
        wait_until(path.exists)
        make_overdue(executor)
        with pytest.raises(TaskTimeout) as caught:
            future.result(WAIT_S)
        assert "slow_to_pickle" in str(caught.value)
        assert not caught.value.killed
        assert executor.submit(os.getpid).result(WAIT_S) == pid


def test_a_pool_of_a_task_that_is_to_end_ends_its_tasks_too(path, tmp_path, monkeypatch):
    monkeypatch.setattr(ringpool.supervisor, "ABORT_GRACE_S", WAIT_S)  # in the worker, which is forked
    with pool(method="fork") as executor:
        future = executor.options(timeout=60, grace=WAIT_S).submit(
            tasks.clean_up_in_a_pool_of_its_own, str(path), str(tmp_path / "cleaned")
        )
        wait_until(path.exists)
        make_overdue(executor)
        began = time.monotonic()
        with pytest.raises(TaskTimeout):
            future.result(WAIT_S)
        assert time.monotonic() - began < LONG_S
        assert (tmp_path / "cleaned").exists()


CTRL_C = """
import multiprocessing, os, signal, sys, threading, time
import ringpool, ringpool.supervisor, tasks_endings as tasks

if __name__ == "__main__":
    method, task, where = sys.argv[1:]
    if task == "clean_up":  # which is to have the time for it
        ringpool.supervisor.ABORT_GRACE_S = 30
    arguments = {"clean_up": [where + ".cleaned"], "start_child": [True]}.get(task, [])
    with ringpool.ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
        future = pool.submit(getattr(tasks, task), where, *arguments)
        queued = [pool.submit(tasks.touch_and_sleep, where + ".queued") for _ in range(1)]
        print(*[process.pid for process in pool._supervisor.processes], flush=True)
        future.result()
"""


@each_method
@pytest.mark.parametrize("task", ["clean_up", "sit_in_c", "start_child"])
def test_after_a_ctrl_c_the_program_is_back_soon_and_leaves_no_process(method, task, path, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(CTRL_C)
    program = subprocess.Popen(
        [sys.executable, script, method, task, str(path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    wait_until(path.exists)
    workers = [int(pid) for pid in program.stdout.readline().split()]
    began = time.monotonic()
    os.killpg(program.pid, signal.SIGINT)  # as the terminal does it
    _, err = program.communicate(timeout=WAIT_S)
    took = time.monotonic() - began
    assert took < LONG_S
    assert program.returncode == -signal.SIGINT
    assert err.count("Traceback") == 1, err
    assert err.endswith("KeyboardInterrupt\n")
    assert not any(is_there(pid) for pid in workers)
    if task == "clean_up":
        assert Path(str(path) + ".cleaned").exists(), (took, err, sorted(each.name for each in tmp_path.iterdir()))
    if task == "start_child":
        child = int(path.read_text())
        wait_until(lambda: not is_there(child), "the end of the task's child")


CTRL_C_ELSEWHERE = """
import multiprocessing, os, sys, threading, time
import ringpool, ringpool.supervisor, tasks_endings as tasks

if __name__ == "__main__":
    how, where = sys.argv[1:]
    ringpool.supervisor.ABORT_GRACE_S = 30  # time for the task to clean up
    pool = ringpool.ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    task = tasks.clean_up, where, where + ".cleaned"
    if how == "exits":
        with pool:
            try:
                pool.submit(*task).result()
            except KeyboardInterrupt:
                sys.exit(130)
    pool.submit(*task)
    while not os.path.exists(where):
        pass
    def begin_to_end():
        open(where + ".end", "w").close()
        while how == "begins to end":  # so that the Ctrl-C comes before what ringpool has registered
            time.sleep(0.01)
    threading._register_atexit(begin_to_end)  # called before those that are registered already
"""


@pytest.mark.parametrize("how", ["exits", "begins to end", "is at its end"])
def test_after_a_ctrl_c_a_program_is_back_soon_that(how, path, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(CTRL_C_ELSEWHERE)
    program = subprocess.Popen(
        [sys.executable, script, how, str(path)],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=environment(),
    )
    wait_until(path.exists)
    if how != "exits":
        wait_until(Path(str(path) + ".end").exists)
    began = time.monotonic()
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=WAIT_S)
    took_s = time.monotonic() - began
    assert took_s < LONG_S
    assert Path(str(path) + ".cleaned").exists(), (took_s, err)
    if how == "exits":
        assert (program.returncode, err) == (130, "")


# ---- all at once ----


@pytest.mark.parametrize(
    ("method", "seed"),
    [("fork", 0), ("fork", 1), ("forkserver", 0), pytest.param("spawn", 0, marks=pytest.mark.slow)],
)
def test_the_innocent_never_pay(method, seed):
    """Tasks about as long as their limits, others cancelled at random, among tasks that must come out right."""
    rng = random.Random(seed)
    done = {"right": 0, "overran": 0, "cancelled": 0}
    with pool(2, method) as executor:
        limited = executor.options(timeout=0.004, grace=0.01)
        innocent, others, to_cancel = [], [], []
        for i in range(300):
            innocent.append((i, executor.submit(tasks.square, i)))
            kind = rng.random()
            if kind < 0.4:
                others.append(limited.submit(tasks.compute, rng.choice([0.002, 0.004, 0.004, 0.006])))
            elif kind < 0.6:
                to_cancel.append(executor.options(grace=0.01).submit(tasks.compute, 0.003))
            if rng.random() < 0.2 and to_cancel:
                rng.choice(to_cancel).cancel(running=True)
            if i % 20 == 0:
                time.sleep(0.01)
        canceller = threading.Thread(
            target=lambda: [f.cancel(running=True) for f in to_cancel if time.sleep(0.001) is None]
        )
        canceller.start()
        assert [future.result(WAIT_S) for _, future in innocent] == [i * i for i, _ in innocent]
        canceller.join()
        for future in others + to_cancel:
            try:
                future.result(WAIT_S)
                done["right"] += 1
            except TaskTimeout:
                done["overran"] += 1
            except concurrent.futures.CancelledError:
                done["cancelled"] += 1
        assert executor.submit(tasks.square, 4).result(WAIT_S) == 16
    assert all(done.values()), done
