"""Which worker died and why: what WorkerDied says besides the exit code."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from multiprocessing import get_context
from pathlib import Path

import pytest
import tasks_died as tasks
from levels import METHODS
from limits import FORKS_AMONG_THREADS, LIMIT
from programs import environment
from waiting import wait_until

from ringpool import ProcessPoolExecutor, WorkerDied, _core, launcher, machine


def death_of(fn, *args, method: str = "fork", **options) -> WorkerDied:
    with ProcessPoolExecutor(1, get_context(method), **options) as executor:
        error = executor.submit(fn, *args).exception(LIMIT)
    assert type(error) is WorkerDied
    return error


# ---- the signal ----


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGRTMIN + 3])
def test_the_signal_is_given_as_a_number_with_a_name_where_it_has_one(number):
    error = death_of(tasks.kill_self, number)
    assert error.signal == number
    assert (type(error.signal) is signal.Signals) is isinstance(number, signal.Signals)
    assert error.exitcode == -number


def test_an_exit_is_no_signal():
    assert death_of(tasks.exit_7).signal is None
    assert WorkerDied(0, 1, None, "f").signal is None


# ---- the stack ----


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("fn", "names"),
    [(tasks.fault, ["fault"]), (tasks.abort, ["abort"]), (tasks.fault_in_a_thread, ["fault", "fault_in_a_thread"])],
)
def test_a_crash_has_the_stacks_of_all_threads(method, fn, names):
    error = death_of(fn, method=method)
    assert error.stack.startswith("Fatal Python error: ")
    for name in names:
        assert re.search(rf'tasks_died\.py", line \d+ in {name}\n', error.stack)
    printed = "".join(traceback.format_exception(error))
    assert error.stack in printed
    assert "test_died.py" not in error.stack  # under fork the worker's first frames are this process's
    assert f"the process with pid {error.pid} terminated abruptly" in printed


@pytest.mark.parametrize("fn", [tasks.exit_7, tasks.kill_self])
def test_an_end_that_is_no_crash_has_no_stack(fn):
    assert death_of(fn).stack is None


def test_a_crash_of_what_a_task_has_forked_is_not_taken_for_the_workers():
    assert death_of(tasks.fault_in_a_fork_and, tasks.exit_7).stack is None
    assert death_of(tasks.fault_in_a_fork_and, tasks.kill_self).stack is None
    stack = death_of(tasks.fault_in_a_fork_and, tasks.abort).stack
    assert stack.count("Fatal Python error") == 1
    assert " in abort\n" in stack


def test_a_pool_within_a_worker_has_the_stacks_of_its_own_workers():
    with ProcessPoolExecutor(1, get_context("fork")) as executor:
        stack = executor.submit(tasks.fault_in_a_pool_of_its_own).result(LIMIT)
    assert " in fault\n" in stack


def test_a_stack_longer_than_its_file_is_cut(monkeypatch):
    monkeypatch.setattr(launcher, "STACK_BYTES", 1000)
    stack = death_of(tasks.fault_below, 90).stack
    assert stack.startswith("Fatal Python error: ")
    assert 800 < len(stack) <= 1000


def test_a_faulthandler_that_the_program_has_enabled_goes_on_as_it_was(tmp_path):
    file = (tmp_path / "inherited").open("w")
    faulthandler.enable(file)
    try:
        error = death_of(tasks.fault)
    finally:
        faulthandler.disable()
        file.close()
    assert error.stack is None
    assert " in fault\n" in (tmp_path / "inherited").read_text()


@pytest.mark.parametrize("method", METHODS)
def test_a_faulthandler_that_an_initializer_enables_is_its_own(method, tmp_path):
    path = tmp_path / "own"
    error = death_of(tasks.fault, method=method, initializer=tasks.enable_faulthandler, initargs=(str(path),))
    assert error.stack is None
    assert " in fault\n" in path.read_text()


def test_a_faulthandler_that_an_initializer_disables_stays_so():
    assert death_of(tasks.fault, initializer=tasks.disable_faulthandler).stack is None


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_that_can_make_no_file_for_stacks_works_without(method, monkeypatch):
    def refuse(name, size):
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(_core, "memfd", refuse)
    with ProcessPoolExecutor(1, get_context(method)) as executor:
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32
        error = executor.submit(tasks.fault).exception(LIMIT)
        assert type(error) is WorkerDied
        assert (error.stack, error.signal) == (None, signal.SIGSEGV)
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32


def test_a_worker_that_cannot_be_started_leaves_no_file_for_stacks(monkeypatch):
    context = get_context("fork")

    def refuse(*_, **__):
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(context, "Process", refuse, raising=False)
    executor = ProcessPoolExecutor(1, context)
    with pytest.raises(OSError, match="temporarily unavailable"):  # conftest.py counts the descriptors
        executor.submit(pow, 2, 5)
    executor.shutdown()


def test_the_file_for_stacks_cannot_grow():
    fd = _core.memfd("test", 100)
    try:
        assert os.pread(fd, 200, 0) == bytes(100)
        assert os.pwrite(fd, b"x" * 100, 0) == 100
        with pytest.raises(PermissionError):
            os.pwrite(fd, b"x", 100)
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


# ---- out of memory ----


@pytest.fixture
def counters(tmp_path, monkeypatch):
    """The file that counts the kernel's kills in this process's control group."""
    monkeypatch.setattr(machine, "_CGROUPS", tmp_path)
    monkeypatch.setattr(machine, "_SELF", tmp_path / "self")
    monkeypatch.setattr(machine, "_VMSTAT", tmp_path / "none")
    (tmp_path / "self").write_text("0::/\n")
    path = tmp_path / "memory.events"
    path.write_text("oom 3\noom_kill 3\n")
    return path


def rise(path, number):
    """What the kernel does to a process that wants too much, from within."""
    path.write_text("oom 4\noom_kill 4\n")
    tasks.kill_self(number)


@pytest.mark.parametrize("method", METHODS)
def test_a_kill_while_the_kernels_count_rises_was_probably_out_of_memory(method, counters):
    error = death_of(rise, counters, signal.SIGKILL, method=method)
    assert error.out_of_memory is True
    assert "was killed by SIGKILL (probably out of memory) while it ran" in str(error)


def test_a_kill_while_the_kernels_count_stands_was_not(counters):
    error = death_of(tasks.kill_self)
    assert error.out_of_memory is False
    assert "memory)" not in str(error).partition(" while ")[0]


def test_another_end_while_the_kernels_count_rises_was_not(counters):
    error = death_of(rise, counters, signal.SIGTERM)
    assert error.out_of_memory is False
    assert "was killed by SIGTERM while" in str(error)


def test_a_rise_before_the_worker_started_does_not_count(counters):
    with ProcessPoolExecutor(1, get_context("fork")) as executor:
        assert executor.submit(rise, counters, signal.SIGKILL).exception(LIMIT).out_of_memory is True
        assert executor.submit(tasks.kill_self).exception(LIMIT).out_of_memory is False


def test_where_the_kernel_does_not_count_the_error_only_guesses(counters):
    counters.unlink()
    error = death_of(tasks.kill_self)
    assert error.out_of_memory is None
    assert "was killed by SIGKILL (often: the system ran out of memory) while" in str(error)


def test_the_death_of_an_idle_worker_that_breaks_the_pool_says_it_too(counters):
    with ProcessPoolExecutor(1, get_context("fork"), on_worker_death="break") as executor:
        future = executor.submit(rise, counters, signal.SIGKILL)
        assert "probably out of memory" in str(future.exception(LIMIT))


def test_a_kill_by_the_pool_itself_was_not_out_of_memory(counters, tmp_path):
    executor = ProcessPoolExecutor(1, get_context("fork"))
    runs = tmp_path / "runs"
    future = executor.submit(touch_and_hang, runs)
    while not runs.exists():
        pass
    counters.write_text("oom_kill 9\n")
    executor.kill_workers()
    error = future.exception(LIMIT)
    executor.shutdown()
    assert (error.signal, error.out_of_memory) == (signal.SIGKILL, False)


def touch_and_hang(path):
    path.touch()
    signal.pause()


@pytest.fixture
def small_group():
    """A control group of 128 MiB, made in the one that the environment names as free to be used."""
    where = os.environ.get("RINGPOOL_TEST_CGROUP")
    if where is None:
        pytest.skip("RINGPOOL_TEST_CGROUP names no folder of a memory control group to make another in")
    folder = Path(where) / f"ringpool-{os.getpid()}"
    folder.mkdir()
    try:
        for name, limit in [("memory.max", 128 << 20), ("memory.swap.max", 0), ("memory.limit_in_bytes", 128 << 20)]:
            if (folder / name).exists():
                (folder / name).write_text(str(limit))
        yield folder
    finally:
        deadline = time.monotonic() + LIMIT
        while folder.exists():
            try:
                folder.rmdir()
            except OSError:  # the kernel has not seen the last process off yet
                assert time.monotonic() < deadline
                time.sleep(0.01)


def test_a_kill_by_the_kernel_itself_is_known_as_such(small_group):
    script = f"""
import os, test_died, tasks_died
from pathlib import Path
if __name__ == "__main__":
    Path({str(small_group / "cgroup.procs")!r}).write_text(str(os.getpid()))
    error = test_died.death_of(tasks_died.take, 1 << 30)
    print(int(error.signal), error.out_of_memory, error.peak_rss > 64 << 20)
"""
    told = subprocess.check_output(
        [sys.executable, "-c", script], text=True, env=environment(), cwd=Path(__file__).parent
    )
    assert told.split() == ["9", "True", "True"]


# ---- the code ----


@pytest.mark.parametrize("method", METHODS)
def test_the_exit_code_is_right_while_other_threads_ask_for_it_too(method):
    """As multiprocessing does, whenever a process is started."""
    if method == "fork" and not FORKS_AMONG_THREADS:
        pytest.skip("a free-threaded CPython may hand a lock to a thread that the child has not")
    over = threading.Event()

    def ask():
        while not over.is_set():
            multiprocessing.active_children()

    threads = [threading.Thread(target=ask) for _ in range(3)]
    with ProcessPoolExecutor(1, get_context(method)) as executor:
        for each in threads:
            each.start()
        try:
            codes = [executor.submit(os._exit, 3).exception(LIMIT).exitcode for _ in range(30)]
        finally:
            over.set()
            for each in threads:
                each.join()
    assert codes == [3] * 30


# ---- the peak of memory ----

MANY = 200 << 20
FEW = 100 << 20  # more than a worker needs for itself


@pytest.mark.parametrize("give_back", [False, True])
def test_the_peak_of_a_forks_memory_is_exact_however_soon_it_dies(give_back):
    error = death_of(tasks.take_and_kill_self, MANY, give_back)
    assert MANY <= error.peak_rss < MANY + FEW + machine.peak_rss()
    assert f" (peak memory: {error.peak_rss / 2**20:.0f} MiB)" in str(error)


def test_the_peak_of_memory_of_a_child_larger_than_its_parent_is_exact_under_spawn():
    script = f"""
import test_died, tasks_died
if __name__ == "__main__":
    print(test_died.death_of(tasks_died.take_and_kill_self, {MANY}, method="spawn").peak_rss)
"""
    # A parent of its own: this one may have been larger, in another test. It would pass that on by an exec, so there is
    # a shell in between.
    command = [sys.executable, "-c", script]
    peak = int(
        subprocess.check_output(
            ["sh", "-c", '"$@"; exit', "sh", *command], env=environment(), cwd=Path(__file__).parent
        )
    )
    assert MANY <= peak < MANY + FEW


def test_the_peak_of_memory_of_what_is_no_child_is_at_most_some_seconds_old():
    with ProcessPoolExecutor(1, get_context("forkserver")) as executor:
        pid = executor.submit(os.getpid).result(LIMIT)
        future = executor.submit(tasks.take_and_sleep, MANY)
        wait_until(lambda: executor._client.segment.worker_peak_rss(0) >= MANY, "a look of the worker's guard")
        os.kill(pid, signal.SIGKILL)
        error = future.exception(LIMIT)
    assert MANY <= error.peak_rss < MANY + FEW


def test_the_peak_of_memory_is_noted_when_a_worker_gets_up_too():
    with ProcessPoolExecutor(1, get_context("forkserver")) as executor:
        assert executor.submit(tasks.take, MANY).result(LIMIT) == MANY
        # Its guard looks once more, and then no more.
        wait_until(lambda: executor._client.segment.worker_peak_rss(0) >= MANY, "a look of the worker's guard")
        assert executor.submit(tasks.kill_self).exception(LIMIT).peak_rss >= MANY
        assert executor.submit(tasks.kill_self).exception(LIMIT).peak_rss < FEW  # of another worker


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_the_memory_of_the_parent_is_not_taken_for_a_workers(method):
    large = b"x" * MANY
    error = death_of(tasks.kill_self, method=method)
    assert error.peak_rss < FEW
    del large


def test_where_the_status_tells_no_peak_the_note_of_the_worker_does(monkeypatch):
    monkeypatch.setattr(_core, "wait_peak_rss", lambda pidfd: 0)
    assert death_of(tasks.kill_self).peak_rss > 1 << 20
    assert WorkerDied(0, 1, -9, "f").peak_rss is None
    assert "peak" not in str(WorkerDied(0, 1, -9, "f"))


def test_waiting_for_a_childs_peak_leaves_its_exit_status():
    child = subprocess.Popen([sys.executable, "-c", "raise SystemExit(7)"])
    pidfd = os.pidfd_open(child.pid)
    try:
        assert _core.wait_peak_rss(pidfd) > 1 << 20
        assert child.wait() == 7
        assert _core.wait_peak_rss(pidfd) == 0
    finally:
        os.close(pidfd)


# ---- the whole ----


def test_all_facts_travel():
    error = WorkerDied(3, 99, -9, "f", 5 << 20, "the stack", True)
    assert str(error) == (
        "worker 3 (pid 99) was killed by SIGKILL (probably out of memory) while it ran f (peak memory: 5 MiB)"
    )
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)
    assert (copy.worker, copy.pid, copy.exitcode, copy.signal, copy.task) == (3, 99, -9, signal.SIGKILL, "f")
    assert (copy.peak_rss, copy.stack, copy.out_of_memory) == (5 << 20, "the stack", True)
