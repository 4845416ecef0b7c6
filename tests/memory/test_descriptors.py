"""How many descriptors a pool takes, of a program's thousand or so."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import tasks_descriptors as tasks
from programs import environment
from waiting import wait_until

import ringpool

OF_A_POOL = 8  # whatever the number of its workers


def run_script(tmp_path: Path, body: str) -> str:
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(body))
    env = environment()
    ended = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100, env=env)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def test_a_pool_of_300_leaves_a_program_with_1024_descriptors_most_of_them(tmp_path):
    """At most two a worker; by fork it is one. A worker has what the program had, and no other's."""
    told = run_script(
        tmp_path,
        """
        import multiprocessing, resource, time
        import tasks_descriptors as tasks
        from ringpool import ProcessPoolExecutor

        if __name__ == "__main__":
            resource.setrlimit(resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
            before = len(tasks.descriptors())
            with ProcessPoolExecutor(300, multiprocessing.get_context("fork")) as executor:
                assert executor.submit(pow, 2, 5).result() == 32
                while not all(map(executor._client.segment.worker_started, range(300))):
                    time.sleep(0.01)
                in_parent = len(tasks.descriptors()) - before
                in_workers = max(executor.submit(lambda: len(tasks.descriptors())).result() for _ in range(20)) - before
                files = [open("/dev/null") for _ in range(400)]
                assert list(executor.map(abs, range(1000))) == list(range(1000))
                print(in_parent, in_workers)
        """,
    )
    in_parent, in_workers = map(int, told.split())
    assert in_parent <= 300 + OF_A_POOL
    assert in_workers <= OF_A_POOL


@pytest.mark.parametrize(("method", "most"), [("fork", 1), ("spawn", 1), ("forkserver", 2)])
def test_each_further_worker_costs_the_program_a_descriptor_or_two_and_other_workers_none(method, most):
    def taken(n: int) -> tuple[int, int]:
        with ringpool.ProcessPoolExecutor(n, multiprocessing.get_context(method)) as executor:
            executor._client.staff.want(n)
            futures = [executor.submit(tasks.descriptors) for _ in range(n)]
            started = executor._client.segment.worker_started
            wait_until(lambda: all(map(started, range(n))), "all workers")
            return len(tasks.descriptors()), max(len(future.result(30)) for future in futures)

    taken(1)  # the fork server stays
    one, six = taken(1), taken(6)
    assert six[0] - one[0] <= 5 * most
    assert six[1] == one[1]


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_worker_sees_that_its_parent_lives(method):
    with ringpool.ProcessPoolExecutor(1, multiprocessing.get_context(method)) as executor:
        assert executor.submit(tasks.parent_lives).result(30) == (os.getpid(), True)
