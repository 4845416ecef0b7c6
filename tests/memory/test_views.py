"""Buffers that are used where they lie: each is its owner's own, keeps its block, and nothing else, and its block goes
home when it dies, in whichever process and order."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
import zlib
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import optional
import pytest
import tasks_views as tasks
from files import await_file
from limits import FORKS_AMONG_THREADS, FREE_THREADED, LIMIT
from pools import pool
from programs import environment
from tasks_views import Buffers
from waiting import kill_one, wait_until

from ringpool import WorkerDied

MIB = 1 << 20
KIB = 1 << 10
SMALL = 4 * MIB


@pytest.fixture
def small_arenas(arenas_of):
    arenas_of(SMALL)


def crcs(value: Buffers) -> list[int]:
    return [tasks.crc(buffer) for buffer in value.buffers]


def made(executor, *sizes: int, seed: int = 0) -> Buffers:
    value = executor.submit(tasks.make, *sizes, seed=seed).result(LIMIT)
    check(value, *sizes, seed=seed)
    return value


def check(value: Buffers, *sizes: int, seed: int = 0) -> None:
    assert crcs(value) == crcs(tasks.make(*sizes, seed=seed)), "a buffer is not what it was"


def blocks_of_workers(executor) -> int:
    gc.collect()
    return executor._client.results.blocks_of_workers


def shared_bytes(executor) -> int:
    """What the system has given to the pool's shared memory."""
    executor._client.create()  # if it was not used before
    return os.fstat(executor._client.segment.memfd).st_blocks * 512


# ---- results ----


def test_a_result_keeps_the_blocks_of_those_buffers_that_are_used_and_no_others():
    with pool() as executor:
        value = made(executor, 100_000, 200_000, 300_000)
        assert blocks_of_workers(executor) == 3
        second = value.buffers[1]
        del value
        assert blocks_of_workers(executor) == 1
        assert tasks.crc(second) == tasks.crc(tasks.filled(200_000, 1))
        part = second[1000:1001]
        del second
        assert blocks_of_workers(executor) == 1 and part[0] == tasks.filled(200_000, 1)[1000]
        del part
        assert blocks_of_workers(executor) == 0


def test_a_result_that_is_dropped_unread_keeps_nothing():
    with pool() as executor:
        futures = [executor.submit(tasks.make, 70_000, 80_000) for _ in range(10)]
        wait_until(lambda: all(future.done() for future in futures), "all results")
        assert blocks_of_workers(executor) == 30
        futures.clear()
        assert blocks_of_workers(executor) == 0


def test_results_are_their_readers_own():
    with pool() as executor:
        values = [made(executor, 100_000, seed=i) for i in range(20)]
        for i, value in enumerate(values):
            if i % 2:
                tasks.overwrite(value)
        more = [made(executor, 100_000, seed=100 + i) for i in range(20)]
        for i, value in enumerate(values):
            if i % 2:
                assert bytes(value.buffers[0]) == bytes(100_000)
            else:
                check(value, 100_000, seed=i)
        for i, value in enumerate(more):
            check(value, 100_000, seed=100 + i)


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_results_outlive_their_worker_and_are_not_the_successors_to_write_to(method):
    with pool(1, method) as executor:
        value, pid = made(executor, MIB, 70_000), executor.submit(os.getpid).result(LIMIT)
        with pytest.raises(WorkerDied):
            executor.submit(tasks.die, value).result(LIMIT)
        assert executor.submit(os.getpid).result(LIMIT) != pid
        more = [made(executor, MIB, 70_000, seed=10 * i) for i in range(5)]
        check(value, MIB, 70_000)
        for i, each in enumerate(more):
            check(each, MIB, 70_000, seed=10 * i)
        tasks.overwrite(value)
        for i, each in enumerate(more):
            check(each, MIB, 70_000, seed=10 * i)
        assert blocks_of_workers(executor) == 12
        del value, more, each
        assert blocks_of_workers(executor) == 0


def test_what_a_dead_worker_leaves_keeps_no_more_memory_than_it_uses(small_arenas):
    with pool() as executor:
        before = shared_bytes(executor)
        value = made(executor, 64 * KIB, MIB)
        first = value.buffers[0]
        with pytest.raises(WorkerDied):
            executor.submit(tasks.die, 0).result(LIMIT)
        assert shared_bytes(executor) - before < MIB + 512 * KIB
        del value
        assert blocks_of_workers(executor) == 1
        assert shared_bytes(executor) - before < 512 * KIB
        assert tasks.crc(first) == tasks.crc(tasks.filled(64 * KIB, 0))


def test_results_kept_from_any_number_of_workers_are_all_right(small_arenas):
    """More workers die than there are arenas to spare: what cannot stay where it lies is a copy."""
    with pool(2) as executor:
        values = []
        for i in range(12):
            values.append(made(executor, 100_000, 70_000, seed=3 * i))
            future = executor.submit(tasks.die, 0)
            with pytest.raises(WorkerDied):
                future.result(LIMIT)
        assert 0 < blocks_of_workers(executor) <= 2 * 3 + 2 * 2
        for i, value in enumerate(values):
            check(value, 100_000, 70_000, seed=3 * i)
        assert executor.submit(os.getpid).result(LIMIT)
        del value
        values.clear()
        assert blocks_of_workers(executor) == 0
        values = [made(executor, 100_000)]  # and then there are arenas to spare again
        assert blocks_of_workers(executor) == 1


def test_results_kept_from_recycled_workers_are_all_right():
    with pool(2, "forkserver", max_tasks_per_child=2) as executor:
        futures = [executor.submit(tasks.make, 90_000, seed=i) for i in range(40)]
        values = [future.result(LIMIT) for future in futures]
        for i, value in enumerate(values):
            check(value, 90_000, seed=i)


def test_results_outlive_the_pool():
    with pool() as executor:
        value, unread = made(executor, 3 * MIB, 70_000), executor.submit(tasks.make, MIB, seed=5)
    check(value, 3 * MIB, 70_000)
    check(unread.result(LIMIT), MIB, seed=5)
    del value.buffers[0]
    assert blocks_of_workers(executor) == 2
    check(unread.result(LIMIT), MIB, seed=5)
    assert crcs(value) == [tasks.crc(tasks.filled(70_000, 1))]


def test_what_is_kept_of_a_pool_that_is_gone_keeps_no_more_memory_than_it_uses():
    with pool() as executor:
        executor._client.create()
        fd = os.dup(executor._client.segment.memfd)
        value = made(executor, 8 * MIB, 64 * KIB)
    try:
        assert 8 * MIB <= os.fstat(fd).st_blocks * 512 < 9 * MIB
        del value.buffers[0]
        assert 64 * KIB <= os.fstat(fd).st_blocks * 512 < 300 * KIB
        assert crcs(value) == [tasks.crc(tasks.filled(64 * KIB, 1))]
        del value
        assert os.fstat(fd).st_blocks == 0
    finally:
        os.close(fd)


def test_results_that_are_kept_never_stop_a_worker(small_arenas):
    """Half of an arena may be kept in use. What is read beyond that is a copy, and the worker's to use again."""
    with pool() as executor:
        values = [made(executor, MIB // 2, seed=i) for i in range(30)]
        assert 0 < blocks_of_workers(executor) <= 4
        for i, value in enumerate(values):
            check(value, MIB // 2, seed=i)


def test_a_result_for_which_what_is_kept_leaves_no_room_fails_alone_and_says_so(small_arenas):
    with pool() as executor:
        value = made(executor, MIB)
        with pytest.raises(MemoryError, match=r"allocate 3\d+ bytes.*program still uses.*4194304 bytes"):
            executor.submit(tasks.make, 3 * MIB).result(LIMIT)
        with pytest.raises(MemoryError, match=r"allocate 3\d+ bytes.*program still uses.*4194304 bytes"):
            executor.submit(bytes, 3 * MIB).result(LIMIT)
        check(value, MIB)
        made(executor, MIB)
        del value
        made(executor, 3 * MIB)


def test_buffers_that_a_reducer_of_ones_own_says_are_read_only_stay_so_and_others_can_be_written_to():
    value = Buffers(bytes(70_000), bytearray(70_000), bytes(10), bytearray(10))
    with pool() as executor:
        assert executor.submit(tasks.read_only, value).result(LIMIT) == [True, False, True, False]
        assert tasks.read_only(executor.submit(tasks.same, value).result(LIMIT)) == [True, False, True, False]


def test_arrays_of_every_kind_are_what_they_were():
    np = optional.module("numpy")
    fixed = np.arange(5000.0)
    fixed.flags.writeable = False
    arrays = {
        "c": np.arange(60_000, dtype=np.int32).reshape(100, 600),
        "fortran": np.asfortranarray(np.arange(60_000.0).reshape(100, 600)),
        "strided": np.arange(60_000.0)[::7],
        "records": np.zeros(5000, dtype=[("a", "i4"), ("b", "f8")]),
        "fixed": fixed,
        "nothing": np.empty((0, 5)),
        "text": np.array(["x" * 20] * 1000),
        "objects": np.array([object] * 3000),
    }
    with pool(2) as executor:
        for again in (
            executor.submit(tasks.same, arrays).result(LIMIT),
            dict(zip(arrays, executor.map(tasks.same, arrays.values()), strict=True)),
        ):
            for name, array in arrays.items():
                assert again[name].dtype == array.dtype and np.array_equal(again[name], array), name
                assert again[name].flags.writeable, name
                assert again[name].flags.f_contiguous == array.flags.f_contiguous or name == "strided", name
                assert again[name].flags.aligned


# ---- arguments ----


def arguments(executor) -> int:
    """Blocks of arguments, when all that workers have let go of is back."""
    return executor._client.segment.blocks


def no_arguments(executor, but: int = 0) -> None:
    wait_until(lambda: arguments(executor) == but, f"{but} blocks, not {arguments(executor)}")


def test_an_argument_that_a_worker_keeps_keeps_its_block_until_it_is_let_go():
    with pool() as executor:
        functions = 0
        for fn, *rest in ((tasks.keep, Buffers()), (tasks.kept,), (tasks.forget,), (tasks.same, 0)):
            executor.submit(fn, *rest).result(LIMIT)
            functions += 1
        assert arguments(executor) == functions
        for i in range(5):
            executor.submit(tasks.keep, tasks.make(70_000, 80_000, seed=2 * i)).result(LIMIT)
        assert arguments(executor) == functions + 15
        for i in range(50):  # these must not be put where those are
            assert crcs(executor.submit(tasks.same, tasks.make(75_000, seed=i)).result(LIMIT)) == crcs(
                tasks.make(75_000, seed=i)
            )
        expected = [tasks.crc(tasks.filled(70_000 + 10_000 * (i % 2), i)) for i in range(10)]
        assert executor.submit(tasks.kept).result(LIMIT) == expected
        executor.submit(tasks.forget, 2).result(LIMIT)
        no_arguments(executor, functions + 9)
        assert executor.submit(tasks.kept).result(LIMIT) == expected[4:]
        executor.submit(tasks.forget).result(LIMIT)
        no_arguments(executor, functions)


@pytest.mark.skipif(FREE_THREADED, reason="it is left to the thread that has unpickled it")
def test_an_argument_is_let_go_between_tasks(tmp_path):
    with pool() as executor:
        executor.submit(tasks.keep, tasks.make(70_000)).result(LIMIT)
        executor.submit(tasks.forget_when, str(tmp_path / "gate")).result(LIMIT)
        assert arguments(executor) > 2
        (tmp_path / "gate").touch()
        no_arguments(executor, 2)


def test_an_argument_is_the_workers_own():
    with pool() as executor:
        value = tasks.make(100_000)
        executor.submit(tasks.keep, value).result(LIMIT)
        executor.submit(tasks.write_to_kept, 7).result(LIMIT)
        check(value, 100_000)
        again = executor.submit(tasks.same, value).result(LIMIT)
        check(again, 100_000)
        executor.submit(tasks.write_to_kept, 8).result(LIMIT)
        check(again, 100_000)
        assert executor.submit(tasks.kept).result(LIMIT) == [zlib.crc32(b"\x08" * 100_000)]


@pytest.mark.parametrize("end", ["dies", "fails", "is cancelled", "is dropped"])
def test_an_argument_goes_home_however_its_task_ends(end, tmp_path):
    with pool() as executor:
        executor.submit(tasks.keep, Buffers()).result(LIMIT)
        executor.submit(tasks.forget).result(LIMIT)
        value = tasks.make(70_000, 100_000)
        if end == "dies":
            executor.submit(tasks.keep, value).result(LIMIT)
            future = executor.submit(tasks.die, value)
            with pytest.raises(WorkerDied):
                future.result(LIMIT)
        elif end == "fails":
            with pytest.raises(ValueError, match="no"):
                executor.submit(tasks.fail, value).result(LIMIT)
        elif end == "is cancelled":
            gate = executor.submit(await_file, str(tmp_path / "gate"))
            assert executor.submit(tasks.sleep, 0, value).cancel()
            running = executor.submit(tasks.sleep, 60, value)
            (tmp_path / "gate").touch()
            gate.result(LIMIT)
            wait_until(running.running, "the task runs")
            assert arguments(executor) >= 3
            assert running.cancel(running=True)
            wait_until(running.done, "its end")
        else:
            executor.submit(tasks.keep, value)
            executor.submit(tasks.forget)
        executor.submit(tasks.sleep, 0).result(LIMIT)
        wait_until(lambda: arguments(executor) <= 5, "no blocks but those of the functions")


def test_what_workers_keep_never_stops_the_pool(small_arenas):
    with pool(2) as executor:
        for i in range(40):
            executor.submit(tasks.keep, tasks.make(300_000, seed=i)).result(LIMIT)
        assert crcs(executor.submit(tasks.same, tasks.make(MIB)).result(LIMIT)) == crcs(tasks.make(MIB))


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_worker_ends_with_arguments_in_its_hands(method):
    with pool(1, method) as executor:
        executor.submit(tasks.keep, tasks.make(100_000)).result(LIMIT)
        (process,) = executor._supervisor.processes
    assert process.exitcode == 0


# ---- forks ----


def test_a_fork_has_results_as_they_were_and_its_own(tmp_path):
    with pool() as executor:
        value = made(executor, 300_000, 70_000)
        expected = crcs(value)
        seen, mine, status = tasks.fork_and_look(value, str(tmp_path))
        assert status == 0 and seen == expected
        assert mine == [zlib.crc32(b"\1" * 300_000), zlib.crc32(b"\1" * 70_000)]
        for i in range(20):  # what the workers make does not depend on it
            made(executor, 300_000, seed=i)
        assert Path(tmp_path, "written").read_text() == repr([zlib.crc32(bytes(300_000)), zlib.crc32(bytes(70_000))])


def test_a_fork_keeps_results_that_its_parent_lets_go(tmp_path):
    with pool() as executor:
        value = made(executor, 300_000)
        go_read, go_write = os.pipe()
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.close(go_write)
                os.read(go_read, 1)
                check(value, 300_000)
                tasks.overwrite(value)
                del value
                gc.collect()
                code = 0
            finally:
                os._exit(code)
        del value
        gc.collect()
        assert blocks_of_workers(executor) == 0
        for i in range(20):  # this is where it lay
            made(executor, 300_000, seed=i)
        os.close(go_write)
        assert os.waitpid(pid, 0)[1] == 0
        os.close(go_read)
        made(executor, 300_000)


def test_a_fork_of_a_fork_has_them_too(tmp_path):
    with pool() as executor:
        value = made(executor, 300_000, 100_000)
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                below = os.fork()
                check(value, 300_000, 100_000)
                if below == 0:
                    tasks.overwrite(value)
                    os._exit(0)
                ended = os.waitpid(below, 0)[1]
                check(value, 300_000, 100_000)
                code = ended
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        check(value, 300_000, 100_000)


def test_a_fork_in_a_task_has_its_arguments(tmp_path):
    with pool() as executor:
        value = tasks.make(300_000, 70_000)
        seen, mine, status = executor.submit(tasks.fork_and_look, value, str(tmp_path)).result(LIMIT)
        assert status == 0 and seen == crcs(value)
        assert mine == [zlib.crc32(b"\1" * 300_000), zlib.crc32(b"\1" * 70_000)]
        check(value, 300_000, 70_000)
        wait_until(lambda: arguments(executor) <= 1, "its blocks are back")


def test_another_pools_workers_have_the_results_that_a_function_refers_to():
    with pool() as executor, pool() as other:
        value = made(executor, 300_000)
        assert other.submit(lambda: crcs(value)).result(LIMIT) == crcs(value)
        process = get_context("fork").Process(target=check, args=(value, 300_000))
        process.start()
        process.join()
        assert process.exitcode == 0


def test_a_fork_leaves_the_parents_views_out_of_later_forks():
    """The addresses are inherited for the time of the fork only."""
    with pool() as executor:
        value = made(executor, 300_000)
        assert inherited() == 0
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        assert inherited() == 0
        check(value, 300_000)


# ---- garbage ----


def test_results_may_be_collected_as_garbage_while_their_worker_is_recovered(tmp_path):
    """With debug hooks of the allocator, which spoil what is freed. Each threshold has the collector run elsewhere."""
    program = tmp_path / "program.py"
    program.write_text(
        "import gc, os, time\n"
        "from multiprocessing import get_context\n"
        "import tasks_views as tasks\n"
        "from ringpool import ProcessPoolExecutor\n"
        "def collected(blocks):  # another thread may be at it\n"
        "    end = time.monotonic() + 30\n"
        "    while pool._client.results.blocks_of_workers != blocks and time.monotonic() < end:\n"
        "        gc.collect()\n"
        "    return pool._client.results.blocks_of_workers == blocks\n"
        "with ProcessPoolExecutor(1, get_context('fork')) as pool:\n"
        "    for threshold in range(50, 850, 50):\n"
        "        gc.disable()\n"
        "        values = [pool.submit(tasks.make, *[65536] * 16).result() for _ in range(50)]\n"
        "        kept = values[0]\n"
        "        values.append(values)\n"
        "        gc.collect(0)\n"
        "        gc.set_threshold(threshold, 0, 1000)  # the next collection is of the elder, too\n"
        "        del values\n"
        "        gc.enable()\n"
        "        assert pool.submit(tasks.die, 0).exception() is not None\n"
        "        assert tasks.crc(kept.buffers[3]) == tasks.crc(tasks.filled(65536, 3))\n"
        "        gc.collect()\n"
        "        assert collected(16)\n"
        "        del kept\n"
        "    assert collected(0)\n"
    )
    env = environment(PYTHONMALLOC="debug")
    done = subprocess.run([sys.executable, str(program)], env=env, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def inherited() -> int:
    """Mappings of pools' memory that a fork would pass on."""
    maps = Path("/proc/self/smaps").read_text().split("/memfd:ringpool")[1:]
    return sum("VmFlags" in each and " dc " not in each.split("VmFlags:")[1].splitlines()[0] + " " for each in maps)


def fork_and(look: Callable[[], object]) -> int:
    """How a child ended that has looked."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            look()
            code = 0
        finally:
            os._exit(code)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("how", ["another fork", "another result", "a result that goes"])
def test_much_may_happen_while_a_thread_is_about_to_fork(how):
    """In a process of its own: a handler that was there before ringpool's runs after that, before a fork."""
    program = """
    import concurrent.futures.thread, logging, os, sys, threading  # the locks of their handlers come last
    held_up, go_on = threading.Event(), threading.Event()

    def hold_up():
        if threading.current_thread() is not threading.main_thread():
            held_up.set()
            go_on.wait()

    os.register_at_fork(before=hold_up)
    from test_views import check, fork_and, inherited, made, pool
    how, ended = sys.argv[1], []
    with pool() as executor:
        values = {0: made(executor, 100_000), 1: made(executor, 300_000, seed=1)}

        def look():
            for seed, value in values.items():
                check(value, len(value.buffers[0]), seed=seed)

        thread = threading.Thread(target=lambda: ended.append(fork_and(look)))
        thread.start()
        held_up.wait()
        if how == "another fork":
            assert fork_and(look) == 0
        elif how == "another result":
            values[2] = made(executor, 100_000, seed=2)
        else:
            del values[0]
        go_on.set()
        thread.join()
        assert ended == [0], ended
        assert inherited() == 0
        look()
        values[3] = made(executor, 100_000, seed=3)
        assert fork_and(look) == 0
        assert inherited() == 0
    """
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program), how]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=50)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.skipif(
    not FORKS_AMONG_THREADS, reason="a free-threaded CPython may hand a lock to a thread that the child has not"
)
def test_threads_fork_at_once_with_results():
    ended: list[int] = []
    with pool() as executor:
        values = [made(executor, 300_000, seed=i) for i in range(3)]

        def fork_often(i: int) -> None:
            for _ in range(50):
                ended.append(fork_and(lambda: check(values[i], 300_000, seed=i)))

        threads = [threading.Thread(target=fork_often, args=(i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        assert ended == [0] * 150
        assert inherited() == 0


# ---- all at once ----


def test_arguments_that_are_kept_leave_half_of_the_memory_whatever_they_came_with(arenas_of):
    """With the buffers of an argument its pickle stays, in which there may be far more."""
    arenas_of(4 * MIB)
    with pool(1) as executor:
        for i in range(20):
            executor.submit(tasks.keep, [tasks.make(16 << 10, seed=i), ["x" * 400_000]]).result(LIMIT)
        assert executor.submit(len, bytes(2 * MIB - 4096)).result(LIMIT) == 2 * MIB - 4096


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.deadline(120)
def test_at_random(small_arenas, seed):
    """Buffers of random sizes, kept here and there and dropped in any order, by several threads, while workers die."""
    chance = random.Random(seed)
    failures = []
    with pool(2) as executor:
        done = threading.Event()

        def use(seed: int) -> None:
            chance = random.Random(seed)
            held: list[tuple[Buffers, list[int]]] = []
            try:
                while not done.is_set():
                    sizes = [
                        chance.choice([0, 100, 16 * KIB, 70_000, 100_000, 400_000])
                        for _ in range(chance.randrange(1, 4))
                    ]
                    value = tasks.make(*sizes, seed=chance.randrange(10**6))
                    expected = crcs(value)
                    try:
                        what = chance.randrange(5)
                        if what == 0:
                            executor.submit(tasks.keep, value).result(LIMIT)
                        elif what == 1:
                            executor.submit(tasks.forget, chance.randrange(3)).result(LIMIT)
                        elif what == 2:
                            assert crcs(executor.submit(tasks.overwrite, value).result(LIMIT)) == [
                                zlib.crc32(bytes(n)) for n in sizes
                            ]
                        else:
                            held.append((executor.submit(tasks.same, value).result(LIMIT), expected))
                        assert crcs(value) == expected
                    except WorkerDied:
                        pass
                    if len(held) > chance.randrange(12):
                        again, as_it_was = held.pop(chance.randrange(len(held)))
                        assert crcs(again) == as_it_was
                for again, as_it_was in held:
                    assert crcs(again) == as_it_was
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=use, args=(seed * 10 + i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            done.wait(0.2)
            kill_one(executor, chance)
        done.set()
        for thread in threads:
            thread.join(LIMIT)
        assert not failures
        assert blocks_of_workers(executor) == 0
        for process in executor._supervisor.processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)  # what they keep is let go
        wait_until(lambda: arguments(executor) <= 4, "no blocks but those of the four functions")


def test_views_at_the_end_of_the_interpreter(tmp_path):
    """In whichever order the interpreter drops what is left."""
    program = tmp_path / "program.py"
    program.write_text(
        "import tasks_views as tasks\n"
        "from ringpool import ProcessPoolExecutor\n"
        "if __name__ == '__main__':\n"
        "    pool = ProcessPoolExecutor(1)\n"
        "    value = pool.submit(tasks.make, 100_000).result()\n"
        "    pool.submit(tasks.keep, value).result()\n"
        "    loop = [value]; loop.append(loop)\n"
    )
    done = subprocess.run([sys.executable, str(program)], env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
