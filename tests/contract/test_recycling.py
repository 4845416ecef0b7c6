"""Workers that are replaced after a number of tasks or bytes: by a successor that is ready before they leave."""

from __future__ import annotations

import collections
import contextlib
import gc
import itertools
import mmap
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import tasks_recycling as tasks
from limits import LIMIT as WAIT_S
from waiting import wait_until

import ringpool

MIB = 1 << 20

each_method = pytest.mark.parametrize("method", ["forkserver", "spawn"])


def pool(method="forkserver", workers=1, **options):
    return ringpool.ProcessPoolExecutor(workers, multiprocessing.get_context(method), **options)


def own_memory():
    """Of this process, as max_memory_per_child counts it."""
    with open("/proc/self/statm") as file:
        _, resident, shared, *_ = (int(pages) for pages in file.read().split())
    return (resident - shared) * mmap.PAGESIZE


def workers_of(executor):
    return [process.pid for process in executor._supervisor.processes]


def ready_workers_of(executor):
    """Without those that start: three of those in a row that die break the pool."""
    supervisor = executor._supervisor
    with supervisor._lock:
        places = list(supervisor._places)
    return [place.process.pid for place in places if supervisor.client.segment.worker_started(place.index)]


@each_method
@pytest.mark.parametrize("max_tasks", [1, 2, 7])
def test_a_worker_runs_its_number_of_tasks_and_no_more(method, max_tasks):
    with pool(method, max_tasks_per_child=max_tasks) as executor:
        ran = collections.Counter(
            f.result(WAIT_S) for f in [executor.submit(tasks.pid_of) for _ in range(3 * max_tasks)]
        )
    assert list(ran.values()) == [max_tasks] * 3


@each_method
@pytest.mark.parametrize("max_tasks", [1, 3])
def test_the_successor_is_initialised_before_the_old_worker_leaves(method, max_tasks, tmp_path):
    path = tmp_path / "starts"
    with pool(method, max_tasks_per_child=max_tasks, initializer=tasks.note_start, initargs=(str(path),)) as executor:
        for _ in range(2 * max_tasks + 1):
            executor.submit(tasks.pid_of).result(WAIT_S)
        starts = [[int(pid) for pid in line.split()] for line in path.read_text().splitlines()]
    assert len(starts) >= 3
    for (before, *_), (_, *there) in itertools.pairwise(starts):
        assert before in there


def test_never_do_more_workers_take_tasks_than_the_pool_has(tmp_path):
    with pool(max_tasks_per_child=3) as executor:
        path = str(tmp_path / "alone")
        ran = [f.result(WAIT_S) for f in [executor.submit(tasks.alone, path) for _ in range(60)]]
    assert len(set(ran)) == 20


def test_an_idle_worker_that_has_not_used_up_its_tasks_has_no_successor():
    with pool(max_tasks_per_child=1000) as executor:
        executor.submit(time.sleep, 0.2).result(WAIT_S)  # by the mean, 999 more take long
        executor.submit(tasks.pid_of).result(WAIT_S)
        assert len(workers_of(executor)) == 1


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_worker_that_has_grown_is_replaced(method):
    inherited = own_memory() if method == "fork" else 0
    with pool(method, max_memory_per_child=150 * MIB + inherited) as executor:
        slim = executor.submit(tasks.grow, MIB).result(WAIT_S)
        assert executor.submit(tasks.pid_of).result(WAIT_S) == slim
        assert executor.submit(tasks.grow, 200 * MIB).result(WAIT_S) == slim
        # Also without another task.
        wait_until(lambda: not tasks.is_there(slim), "the end of a worker that no task needs")
        assert executor.submit(tasks.pid_of).result(WAIT_S) != slim


def test_a_worker_that_has_grown_works_until_its_successor_is_ready():
    with pool(workers=2, max_memory_per_child=MIB) as executor:  # each is too large from the start
        results = [executor.submit(pow, i, 2) for i in range(2000)]
        assert [future.result(WAIT_S) for future in results] == [i * i for i in range(2000)]


@pytest.mark.parametrize("max_tasks", [1, 4])
def test_tasks_that_are_pending_at_shutdown_are_done(max_tasks):
    with pool(workers=2, max_tasks_per_child=max_tasks) as executor:
        futures = [executor.submit(pow, i, 2) for i in range(20)]
        executor.shutdown(wait=False)
    assert [future.result(WAIT_S) for future in futures] == [i * i for i in range(20)]


def test_tasks_of_an_executor_that_is_garbage_are_done():
    executor = pool(workers=2, max_tasks_per_child=2)
    futures = [executor.submit(pow, i, 2) for i in range(20)]
    supervisor = executor._supervisor
    del executor
    gc.collect()
    assert [future.result(WAIT_S) for future in futures] == [i * i for i in range(20)]
    supervisor.join()


def test_interpreter_exit_with_successors_parked():
    script = """if True:
        import ringpool, multiprocessing
        if __name__ == "__main__":
            pool = ringpool.ProcessPoolExecutor(2, multiprocessing.get_context("forkserver"), max_tasks_per_child=2)
            futures = [pool.submit(pow, i, 2) for i in range(13)]
        """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=WAIT_S)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_successor_takes_over_from_a_worker_that_is_killed(tmp_path):
    with pool(max_tasks_per_child=2) as executor:
        first = executor.submit(tasks.pid_of).result(WAIT_S)
        running = executor.submit(tasks.wait_long, str(tmp_path / "runs"))  # its last, so a successor is started
        wait_until(lambda: len(workers_of(executor)) == 2, "a successor")
        wait_until((tmp_path / "runs").exists, "the start of the task")
        os.kill(first, signal.SIGKILL)
        assert isinstance(running.exception(WAIT_S), ringpool.WorkerDied)
        assert executor.submit(tasks.pid_of).result(WAIT_S) != first


def test_a_successor_that_is_killed_is_replaced(tmp_path):
    with pool(max_tasks_per_child=2) as executor:
        first = executor.submit(tasks.pid_of).result(WAIT_S)
        running = executor.submit(tasks.wait_long, str(tmp_path / "runs"))
        for _ in range(3):
            wait_until(lambda: len(ready_workers_of(executor)) == 2, "a successor")
            (successor,) = set(ready_workers_of(executor)) - {first}
            os.kill(successor, signal.SIGKILL)
            wait_until(lambda pid=successor: pid not in workers_of(executor), "its recovery")
        later = executor.submit(tasks.pid_of)
        assert running.cancel(running=True)
        assert later.result(WAIT_S) not in (first, successor)


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_lose_nothing_but_what_ran(seed):
    """Workers that come and go, and are killed at any point of that."""
    rng = random.Random(seed)
    with pool(workers=2, max_tasks_per_child=3) as executor:
        futures = [executor.submit(pow, i, 2) for i in range(400)]
        for _ in range(15):
            time.sleep(rng.random() * 0.03)
            there = ready_workers_of(executor)
            if there:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(there), signal.SIGKILL)
        died = 0
        for i, future in enumerate(futures):
            error = future.exception(WAIT_S)
            if error is None:
                assert future.result() == i * i
            else:
                assert isinstance(error, ringpool.WorkerDied), error
                died += 1
        assert died <= 15
        assert executor.submit(pow, 2, 3).result(WAIT_S) == 8


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), (-1, ValueError), (1.5, TypeError), ("1G", TypeError)])
def test_a_wrong_memory_limit_is_refused(value, error):
    with pytest.raises(error, match="max_memory_per_child"):
        ringpool.ProcessPoolExecutor(1, max_memory_per_child=value)
