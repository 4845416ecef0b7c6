"""Pools that are left open, in the program, a thread, a child of multiprocessing, or a worker of another pool: what is
pending is finished, and the process ends."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ProcessPoolExecutor

import optional
import pytest
import tasks_left_open as tasks
from levels import METHODS
from waiting import wait_until

import ringpool

N = 50  # tasks
WAIT_S = 60.0


def notes(folder):
    return [int(line) for line in (folder / "notes").read_text().split()]


def is_there(pid):
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return True
    return False


@pytest.fixture
def child():
    """Starts a child of multiprocessing; in the end there is none."""
    started = []

    def start(method, target, *args, **options):
        process = multiprocessing.get_context(method).Process(target=target, args=args, **options)
        process.start()
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.join()
        process.close()


# A forked child makes no pool by the forkserver: multiprocessing takes the parent's for the child's own, and fails.
@pytest.mark.parametrize(
    ("outer", "inner", "keep"),
    [(outer, inner, True) for outer in METHODS for inner in ("fork", "spawn")]
    + [("spawn", "forkserver", True), *((outer, "fork", False) for outer in METHODS)],
)
def test_a_child_of_multiprocessing_finishes_the_tasks_of_a_pool_that_it_leaves_open_and_ends(
    child, outer, inner, keep, tmp_path
):
    process = child(outer, tasks.leave_open, inner, str(tmp_path), N, keep)
    process.join(WAIT_S)
    assert process.exitcode == 0
    assert notes(tmp_path) == list(range(N))


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_of_the_stdlibs_executor_ends_its_pools(method, tmp_path):
    with ProcessPoolExecutor(1, multiprocessing.get_context(method)) as outer:
        pid = outer.submit(tasks.leave_open, "fork", str(tmp_path), N).result(WAIT_S)
    assert not is_there(pid)
    assert notes(tmp_path) == list(range(N))


def test_a_worker_of_loky_ends_its_pools(tmp_path):
    """In a program of its own, for loky keeps a process for itself."""
    optional.module("loky")
    program = [sys.executable, tasks.__file__, "worker of loky", "fork", str(tmp_path), str(N)]
    subprocess.run(program, check=True, timeout=WAIT_S)
    assert notes(tmp_path) == list(range(N))


@pytest.mark.parametrize("method", METHODS)
def test_a_daemonic_process_is_told_that_it_may_have_no_children(method, tmp_path):
    """As by the stdlib's executor; workers of multiprocessing.Pool are such."""
    with multiprocessing.get_context(method).Pool(1) as outer:
        said = outer.apply_async(tasks.try_to_leave_open, ("fork", str(tmp_path))).get(WAIT_S)
        outer.close()
        outer.join()
    assert said == "AssertionError: daemonic processes are not allowed to have children; children: []"


def test_an_interrupted_child_does_not_wait_for_what_runs_in_a_pool_that_it_leaves_open(child, tmp_path):
    process = child("fork", tasks.be_interrupted, "fork", str(tmp_path))
    wait_until((tmp_path / "worker").exists, "the task", WAIT_S)
    worker = int((tmp_path / "worker").read_text())

    def ended():
        # From 3.13 on, the first is printed and forgotten before the pool's end is waited for.
        os.kill(process.pid, signal.SIGINT)
        process.join(0.1)
        return not process.is_alive()

    wait_until(ended, "the end of the child", WAIT_S)
    wait_until(lambda: not is_there(worker), "the end of its worker", WAIT_S)


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_outlives_the_thread_that_has_made_it(method, tmp_path):
    thread = threading.Thread(target=tasks.leave_open, args=(method, str(tmp_path), N))
    thread.start()
    thread.join()
    executor = tasks.kept.pop()
    assert executor.submit(pow, 2, 3).result(WAIT_S) == 8
    executor.shutdown()
    assert notes(tmp_path) == list(range(N))


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_that_a_thread_has_left_open_ends_when_it_is_garbage(method, tmp_path):
    thread = threading.Thread(target=tasks.leave_open, args=(method, str(tmp_path), N, False))
    thread.start()
    thread.join()
    wait_until(lambda: not [t for t in threading.enumerate() if t.name.startswith("ringpool")], "the end of the pool")
    assert notes(tmp_path) == list(range(N))


@pytest.mark.parametrize(("kind", "method"), [*(("ringpool", method) for method in METHODS), ("stdlib", "spawn")])
def test_the_interpreter_finishes_more_tasks_than_there_is_room_for_on_the_board(kind, method, tmp_path):
    n = 3000 if kind == "ringpool" else N
    program = [sys.executable, tasks.__file__, kind, method, str(tmp_path), str(n)]
    subprocess.run(program, check=True, timeout=WAIT_S)
    assert notes(tmp_path) == list(range(n))


LATE = """
import atexit, multiprocessing, sys, threading
from ringpool import ProcessPoolExecutor

def submit():
    try:
        kept.append(ProcessPoolExecutor(1, multiprocessing.get_context("fork")))
        kept[0].submit(pow, 2, 3)
    except RuntimeError as error:
        print(error)

def submit_when_the_main_thread_has_ended():
    threading.main_thread().join()
    submit()

kept = []
if sys.argv[1] == "atexit":
    atexit.register(submit)
else:
    # The hooks of threading run before the main thread counts as ended.
    threading.Thread(target=submit_when_the_main_thread_has_ended).start()
"""


@pytest.mark.parametrize("where", ["atexit", "thread"])
def test_a_pool_that_begins_when_the_interpreter_ends_is_refused(where):
    done = subprocess.run([sys.executable, "-c", LATE, where], capture_output=True, text=True, timeout=WAIT_S)
    assert done.stdout == "cannot schedule new futures after interpreter shutdown\n", done.stderr
    assert (done.returncode, done.stderr) == (0, "")


def test_multiprocessing_cleaning_up_leaves_pools_alone():
    """As test suites have it do."""
    with ringpool.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        assert executor.submit(pow, 2, 3).result(WAIT_S) == 8
        multiprocessing.util._run_finalizers(50)
        assert executor.submit(pow, 2, 4).result(WAIT_S) == 16
