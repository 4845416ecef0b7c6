"""What the system refuses: system calls, limits, signals to another user's processes.

Where there is a way without, it is taken; elsewhere one sentence says what was refused. The programs are in
tasks_refused.py.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pytest
import refuse
import tasks_nested
import tasks_refused as tasks
from files import await_file
from levels import METHODS
from waiting import wait_until

import ringpool
from ringpool.supervisor import Supervisor

WAIT_S = 100.0
CALLS = ["pidfd_open", "pidfd_send_signal", "eventfd2", "sched_getaffinity"]

needs_filters = pytest.mark.skipif(not refuse.SUPPORTED, reason="the numbers of system calls are not known here")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def run(*words, options=()):
    program = [sys.executable, *options, tasks.__file__, *map(str, words)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=WAIT_S, stdin=subprocess.DEVNULL)
    if done.returncode == tasks.CANNOT:
        pytest.skip("this is not allowed here")
    assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr
    return done


@needs_filters
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("refused", [*([call] for call in CALLS), CALLS], ids=[*CALLS, "all"])
def test_pools_work_where_a_sandbox_refuses_calls_that_there_is_a_way_without(method, refused, tmp_path):
    run("calls", tmp_path, method, "EPERM", *refused)


@needs_filters
def test_pools_work_where_the_kernel_lacks_these_calls(tmp_path):
    run("calls", tmp_path, "fork", "ENOSYS", *CALLS)


@needs_filters
@pytest.mark.parametrize("code", ["EPERM", "ENOSYS"])
def test_where_memory_files_are_refused_an_error_says_so(code, tmp_path):
    run("memory", tmp_path, code)


@needs_filters
@pytest.mark.parametrize("method", METHODS)
def test_without_pidfds_workers_end_with_their_program_though_a_forked_child_lives(method, tmp_path):
    program = [sys.executable, tasks.__file__, "orphans", str(tmp_path), method]
    done = subprocess.run(program, timeout=WAIT_S, stdin=subprocess.DEVNULL)
    try:
        assert done.returncode == -9
        pids = [int(word) for word in (tmp_path / "pids").read_text().split()]
        assert len(pids) == (4 if method == "fork" else 2)
        wait_until(lambda: all(map(tasks_nested.gone, pids)), "the end of the workers and zygotes")
    finally:
        (tmp_path / "stop").touch()


@pytest.mark.parametrize("method", METHODS)
def test_pools_work_without_proc(method, tmp_path):
    run("no_proc", tmp_path, method)


@pytest.mark.parametrize("method", METHODS)
def test_no_encoding_is_left_to_the_locale(method, tmp_path):
    run("default_encodings", tmp_path, method, options=("-X", "warn_default_encoding", "-W", "error::EncodingWarning"))


@needs_root
@pytest.mark.parametrize("what", ["deadline", "kill", "end", "exit"])
def test_a_program_that_has_become_another_user_hears_that_workers_cannot_be_signalled_and_ends(what):
    with tempfile.TemporaryDirectory() as folder:  # not pytest's: others cannot enter that
        run("other_user", folder, what)
        pid = int(Path(folder, "pid").read_text())
    wait_until(lambda: tasks_nested.gone(pid), "the end of the worker")


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("which", "value"), [("RLIMIT_NOFILE", 8), ("RLIMIT_FSIZE", 4096), ("RLIMIT_NPROC", 1)])
def test_a_limit_that_is_too_small_is_named(which, value, method, tmp_path):
    run("limit", tmp_path, method, which, value)


def test_no_caller_waits_for_a_thread_of_the_pool_that_failed_though_workers_cannot_be_killed(monkeypatch, tmp_path):
    def refused(*_):
        raise PermissionError(1, "not this one")

    executor = ringpool.ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    assert executor.submit(pow, 2, 3).result() == 8
    (process,) = executor._supervisor.processes
    future = executor.submit(await_file, str(tmp_path / "gate"))
    wait_until(future.running, "the task")
    monkeypatch.setattr(process._popen, "_send_signal", refused)
    monkeypatch.setattr(Supervisor, "_enforce", refused)
    executor._client.staff.alarm()
    with pytest.raises(BrokenProcessPool, match="not this one"):
        future.result(WAIT_S)
    executor.shutdown()
    assert process not in multiprocessing.active_children()  # multiprocessing would wait for it when the program ends
    monkeypatch.undo()
    process.kill()
    process.join()
