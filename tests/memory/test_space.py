"""Address space: a pool takes about as much of it as it has memory in use, so that a limit (RLIMIT_AS, `ulimit -v`)
that is set at any time leaves a program and its workers what the stdlib's pool would leave them."""

from __future__ import annotations

import concurrent.futures
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import optional
import pytest
import tasks_space as tasks
from files import await_file
from levels import METHODS
from limits import FREE_THREADED, LIMIT, WITHOUT_RESERVE
from pools import pool
from programs import environment
from tasks_space import MIB
from waiting import wait_until

SLACK = 64 * MIB  # more than what the pools themselves, and a program's allocator, take


def run_script(tmp_path: Path, body: str, *, limit: int | None = None, **variables: str) -> str:
    """Runs a program, under a limit of its address space that its shell has set."""
    script = tmp_path / "script.py"
    script.write_text(HEAD + textwrap.dedent(body))
    env = environment(**variables)
    set_limit = None if limit is None else lambda: tasks.limit_to(limit)
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=100, env=env, preexec_fn=set_limit
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


HEAD = """
import concurrent.futures, sys
from multiprocessing import get_context
import tasks_space as tasks
from tasks_space import MIB
from ringpool import ProcessPoolExecutor

def works(executor, most=4 * MIB):
    sizes = [1, 500, 5000, 70_000, 300_000, MIB + 1, most]
    for n in sizes:
        data = tasks.blob(n, n)
        assert executor.submit(tasks.there_and_back, data).result(30) == data
    assert list(executor.map(tasks.blob, [3000] * 300, range(300))) == [tasks.blob(3000, i) for i in range(300)]
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_takes_no_more_address_space_than_the_stdlibs_but_what_is_in_use(method, tmp_path):
    """Of the program and of an idle worker; and when large payloads have come and gone."""
    told = run_script(
        tmp_path,
        f"""
        if __name__ == "__main__":
            for cls in concurrent.futures.ProcessPoolExecutor, ProcessPoolExecutor:
                before = tasks.space()
                with cls(2, get_context({method!r})) as executor:
                    of_worker = executor.submit(tasks.space).result()
                    of_program = tasks.space() - before
                    if cls is ProcessPoolExecutor:
                        for n in (200 * MIB, 1000):
                            assert len(executor.submit(tasks.there_and_back, bytes(n)).result()) == n
                    print(of_worker, of_program, executor.submit(tasks.space).result(), tasks.space() - before)
        """,
    )
    theirs, ours = (list(map(int, line.split())) for line in told.splitlines())
    started_later = theirs[1] if method == "fork" else 0  # the threads of the first pool have left their stacks
    assert ours[0] <= theirs[0] + started_later + SLACK
    assert ours[1] <= max(theirs[1], 0) + 3 * SLACK  # two threads, and the allocator's regions for them
    assert ours[2] <= ours[0] + 600 * MIB
    assert ours[3] <= ours[1] + 600 * MIB


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("by", ["initializer", "task", "program before", "program after"])
def test_a_limit_set_at_any_time_leaves_what_the_stdlib_leaves(by, method, tmp_path):
    told = run_script(
        tmp_path,
        f"""
        if __name__ == "__main__":
            for cls in concurrent.futures.ProcessPoolExecutor, ProcessPoolExecutor:
                options = dict(initializer=tasks.limit_to, initargs=(1024 * MIB,)) if {by!r} == "initializer" else {{}}
                if {by!r} == "program before":
                    tasks.limit_to(1024 * MIB)
                with cls(1, get_context({method!r}), **options) as executor:
                    assert executor.submit(pow, 2, 5).result(30) == 32
                    if {by!r} == "program after":
                        tasks.limit_to(1024 * MIB)
                    if {by!r} == "task":
                        executor.submit(tasks.limit_to, 1024 * MIB).result(30)
                    in_worker, here = executor.submit(tasks.room).result(30), tasks.room()
                    assert executor.submit(tasks.does_what_programs_do).result(30) == "right"
                    works(executor)
                    print(in_worker, here)
                tasks.lift()
            assert tasks.does_what_programs_do() == "right"
        """,
        **WITHOUT_RESERVE,
    )
    theirs, ours = (list(map(int, line.split())) for line in told.splitlines())
    # MiB. The stacks of the first pool's two threads are in the second's workers. Without a GIL, the allocator has also
    # taken a segment of 32 MiB for each; and room() is right to 16.
    slack = (160 + FREE_THREADED * (2 * 32 + 16)) if method == "fork" else 32
    assert ours[0] >= theirs[0] - slack and ours[1] >= theirs[1] - 320


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("mib", [300, 500, 1000])
def test_a_program_that_its_shell_limits_works(method, mib, tmp_path):
    run_script(
        tmp_path,
        f"""
        if __name__ == "__main__":
            with ProcessPoolExecutor(2, get_context({method!r})) as executor:
                works(executor)
                assert executor.submit(tasks.does_what_programs_do).result(30) == "right"
        """,
        # Without a GIL, the allocator takes a segment of 32 MiB for each thread.
        limit=(mib + FREE_THREADED * 3 * 32) * MIB,
    )


@pytest.fixture
def unlimited():
    yield
    tasks.lift()


def outcome(future: concurrent.futures.Future) -> object:
    try:
        return future.result(LIMIT)
    except MemoryError as error:
        return error


def test_a_worker_without_address_space_fails_the_tasks_that_need_it_and_no_other():
    data = tasks.blob(8 * MIB, 1)
    with pool() as executor:
        pid = executor.submit(os.getpid).result(LIMIT)
        executor.submit(tasks.limit_to, 1).result(LIMIT)  # less than it has
        for future in executor.submit(len, data), executor.submit(tasks.blob, 2 * MIB, 2):
            assert "cannot map" in str(outcome(future))
        sizes = (1, 3000, 10, 3 * MIB, 20)
        many = executor.submit_many(tasks.blob, [(n, 1) for n in sizes], chunksize=5)
        found = [outcome(future) for future in many]
        assert "cannot map" in str(found.pop(3))
        assert found == [tasks.blob(n, 1) for n in sizes if n < MIB]
        with pytest.raises(ValueError, match="xxx"):
            executor.submit(int, "x" * 3000).result(LIMIT)
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32
        executor.submit(tasks.lift).result(LIMIT)
        assert executor.submit(len, data).result(LIMIT) == len(data)
        assert executor.submit(tasks.there_and_back, data).result(LIMIT) == data
        assert executor.submit(os.getpid).result(LIMIT) == pid


def test_a_worker_that_has_no_room_for_an_exception_either_says_so_and_lives_on():
    with pytest.raises(ValueError, match=r"at least \d+") as caught:
        pool(shared_memory_limit=1)
    with pool(shared_memory_limit=int(str(caught.value).split()[-1])) as executor:
        pid = executor.submit(os.getpid).result(LIMIT)
        # Most of what its arena may have. When that is back, it is given to the system, and with it goes the mapping.
        assert len(executor.submit(tasks.blob, 300_000, 1).result(LIMIT)) == 300_000
        executor.submit(tasks.limit_to, 1).result(LIMIT)
        assert "no room for the result" in str(outcome(executor.submit(tasks.blob, 5000, 1)))
        sizes = (50, 5000, 20)
        found = [outcome(future) for future in executor.submit_many(tasks.blob, [(n, 1) for n in sizes], chunksize=3)]
        assert "no room for the result" in str(found[1])
        assert all(
            each == tasks.blob(n, 1) or isinstance(each, MemoryError) for n, each in zip(sizes, found, strict=True)
        )
        executor.submit(tasks.lift).result(LIMIT)
        assert executor.submit(tasks.blob, 5000, 1).result(LIMIT) == tasks.blob(5000, 1)
        assert executor.submit(os.getpid).result(LIMIT) == pid


def test_results_that_the_program_has_no_address_space_for_fail_and_no_others(unlimited):
    with pool(2, "fork") as executor:
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32
        tasks.leave(4 * MIB)
        futures = [executor.submit(tasks.blob, n, 7) for n in (100, 64 * MIB, 3000, 64 * MIB, 10)]
        concurrent.futures.wait(futures, LIMIT)
        found = [outcome(future) for future in futures]
        assert [type(each) for each in found] == [bytes, MemoryError, bytes, MemoryError, bytes]
        tasks.lift()
        assert executor.submit(tasks.blob, 64 * MIB, 7).result(LIMIT) == tasks.blob(64 * MIB, 7)
        wait_until(lambda: executor._client.results.blocks_of_workers == 0, "all blocks are back")


def test_arguments_that_the_program_has_no_address_space_for_wait_or_fail(unlimited, tmp_path):
    gate = tmp_path / "gate"
    data = tasks.blob(32 * MIB, 3)
    with pool() as executor:
        busy = executor.submit(await_file, str(gate))
        wait_until(busy.running, "a task that runs")
        tasks.leave(40 * MIB)  # for the copy that waits, not for the block
        waiting = executor.submit(len, data)
        assert not waiting.done()
        gate.touch()
        busy.result(LIMIT)
        assert isinstance(outcome(waiting), MemoryError)
        assert executor.submit(len, b"x" * 3000).result(LIMIT) == 3000
        gate.unlink()
        tasks.lift()
        busy = executor.submit(await_file, str(gate))
        tasks.leave(40 * MIB)
        waiting = executor.submit(len, data)
        tasks.lift()
        gate.touch()
        assert waiting.result(LIMIT) == len(data)  # there was room when the other was done


def test_views_keep_their_memory_where_much_else_comes_and_goes():
    np = optional.module("numpy")
    with pool(2, "fork") as executor:
        kept = [executor.submit(np.full, 300_000, float(i)).result(LIMIT) for i in range(4)]
        for n in (1, 40 * MIB, 1000, 40 * MIB, 20 * MIB) * 3:
            assert len(executor.submit(np.zeros, n, np.uint8).result(LIMIT)) == n
        assert all((array == i).all() for i, array in enumerate(kept))


def test_an_idle_pool_keeps_little_of_what_large_payloads_needed():
    with pool() as executor:
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32
        before, in_worker = tasks.space(), executor.submit(tasks.space).result(LIMIT)
        for _ in range(2):
            data = executor.submit(tasks.there_and_back, bytes(300 * MIB)).result(LIMIT)
            assert len(data) == 300 * MIB
            del data
        executor.submit(pow, 2, 5).result(LIMIT)
        assert tasks.space() - before < 300 * MIB
        wait_until(
            lambda: executor.submit(tasks.space).result(LIMIT) - in_worker < 300 * MIB, "the worker, idle", LIMIT
        )


@pytest.mark.parametrize("method", METHODS)
def test_a_task_that_closes_all_descriptors_reads_no_other_file(method, tmp_path):
    """Its worker has a descriptor of the pool's, whose number may become another file's."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * 4 * MIB)
    with pool(method=method, on_worker_death="replace") as executor:
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32
        executor.submit(tasks.put_file_everywhere, str(path)).result(LIMIT)
        data = tasks.blob(2 * MIB, 9)
        found = outcome(executor.submit(tasks.there_and_back, data))
        assert isinstance(found, MemoryError) and "has closed the descriptor" in str(found)
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32
        assert path.read_bytes() == b"x" * 4 * MIB


def test_a_child_that_a_task_forks_does_not_have_the_pools_memory_open(tmp_path):
    with pool() as executor:
        assert executor.submit(tasks.pool_files_in_a_child, str(tmp_path / "told")).result(LIMIT) == 0
        assert (tmp_path / "told").read_text() == "[]"


def test_a_limit_of_the_address_space_is_none_of_the_sizes(unlimited):
    sizes = pool()._client.segment.sizes
    tasks.leave(512 * MIB)
    assert pool()._client.segment.sizes == sizes
    assert resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY
