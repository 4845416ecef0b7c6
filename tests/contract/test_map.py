"""map: chunks that follow the items, and the truth about each item in them."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import copy
import functools
import gc
import itertools
import os
import pickle
import random
import signal
import subprocess
import sys
import threading
import time
import tracemalloc
from pathlib import Path

import pytest
import tasks_map as tasks
from limits import LIMIT as WAIT_S
from pools import pool
from waiting import wait_until

import ringpool

each_chunksize = pytest.mark.parametrize("chunksize", [None, 1, 7, 1000])


def runs(folder: Path) -> collections.Counter[int]:
    """How many times each item has been run."""
    return collections.Counter(int(path.name.partition(".")[0]) for path in folder.iterdir())


def ready(executor: ringpool.ProcessPoolExecutor) -> list[int]:
    """The processes of workers that have started. (Three that fail to, in a row, break the pool, as they should.)"""
    started = executor._client.segment.worker_started
    return [p.pid for p in executor._supervisor.processes if started(int(p.name.rpartition("-")[2]) - 1)]


# ---- the results ----


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("n", [1, 3])
def test_every_item_has_its_result_at_its_place(n, method):
    with pool(n, method) as executor:
        for size in (0, 1, 2, 5, 100, 20_000):
            assert list(executor.map(tasks.square, range(size), timeout=WAIT_S)) == [i * i for i in range(size)]


@each_chunksize
@pytest.mark.parametrize("buffersize", [None, 1, 10, 1000])
@pytest.mark.parametrize("ordered", [True, False])
def test_the_same_comes_out_however_it_is_sent(chunksize, buffersize, ordered):
    with pool(2) as executor:
        results = executor.map(
            tasks.sleep_at_random,
            range(600),
            timeout=WAIT_S,
            chunksize=chunksize,
            buffersize=buffersize,
            ordered=ordered,
        )
        got = list(results)
        assert list(results) == []
    assert (got if ordered else sorted(got)) == list(range(600))


@each_chunksize
def test_values_of_every_kind_and_size_come_through(chunksize):
    values = [None, 1, 2.5, "text", b"bytes", (1, (2,)), [1, 2], {"a": [1]}, 2**70, "é" * 300, b"x" * 500_000]
    values += [bytearray(70_000), {i: str(i) for i in range(20_000)}, set(range(10))]
    random.Random(1).shuffle(values)
    with pool(2) as executor:
        assert list(executor.map(tasks.echo, values * 3, timeout=WAIT_S, chunksize=chunksize)) == values * 3
        pairs = list(zip(values, reversed(values), strict=True))
        assert list(executor.map(tasks.pair, *zip(*pairs, strict=True), timeout=WAIT_S, chunksize=chunksize)) == pairs


def test_callables_that_go_by_value_are_sent_with_each_chunk():
    with pool(2) as executor:
        factor = 3
        assert list(executor.map(lambda x: x * factor, range(500), timeout=WAIT_S)) == [3 * i for i in range(500)]
        added = executor.map(functools.partial(tasks.pair, 7), range(500), timeout=WAIT_S)
        assert list(added) == [(7, i) for i in range(500)]
        assert list(executor.map([10, 20, 30].__getitem__, [2, 0, 1], timeout=WAIT_S)) == [30, 10, 20]


def test_two_maps_at_once_do_not_mix():
    with pool(2) as executor:
        first = executor.map(tasks.square, range(5000), timeout=WAIT_S)
        second = executor.map(tasks.echo, range(5000), timeout=WAIT_S)
        for i, (square, same) in enumerate(zip(first, second, strict=True)):
            assert (square, same) == (i * i, i)


def test_threads_may_map_at_the_same_time():
    with pool(2) as executor, concurrent.futures.ThreadPoolExecutor(4) as threads:
        sums = threads.map(lambda k: sum(executor.map(tasks.echo, range(k, k + 3000), timeout=WAIT_S)), range(12))
        assert list(sums) == [sum(range(k, k + 3000)) for k in range(12)]


def test_an_iterable_may_not_read_the_results_that_it_is_read_for():
    def items():
        yield 1
        yield 2
        with pytest.raises(ValueError, match="already"):
            next(results)
        yield 3

    with pool(1) as executor:
        results = executor.map(tasks.echo, items(), buffersize=1, timeout=WAIT_S)
        assert list(results) == [1, 2, 3]


# ---- errors at their places ----


@each_chunksize
@pytest.mark.parametrize(
    ("fn", "error"),
    [(tasks.fail_on, LookupError), (tasks.unpicklable_on, TypeError), (tasks.die_on, ringpool.WorkerDied)],
)
def test_an_item_that_fails_costs_no_result_before_it(fn, error, chunksize):
    with pool(2) as executor:
        results = executor.map(functools.partial(fn, 37), range(100), timeout=WAIT_S, chunksize=chunksize)
        assert list(itertools.islice(results, 37)) == list(range(37))
        with pytest.raises(error):
            next(results)
        assert list(results) == []
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9


@each_chunksize
def test_a_stop_iteration_of_an_item_does_not_end_the_results_in_silence(chunksize):
    with pool(2) as executor:
        results = executor.map(functools.partial(tasks.stop_iteration_on, 3), range(10), chunksize=chunksize)
        assert [next(results) for _ in range(3)] == [0, 1, 2]
        with pytest.raises(RuntimeError, match="raised StopIteration") as info:
            next(results)
        assert isinstance(info.value.__cause__, StopIteration)


@each_chunksize
def test_an_item_that_cannot_be_sent_raises_at_its_place(chunksize):
    items = [*range(37), threading.Lock(), *range(38, 100)]
    with pool(2) as executor:
        results = executor.map(tasks.echo, items, timeout=WAIT_S, chunksize=chunksize)
        assert list(itertools.islice(results, 37)) == list(range(37))
        with pytest.raises(TypeError, match="pickle"):
            next(results)
        assert list(results) == []


def test_a_function_that_cannot_be_sent_raises_when_results_are_asked_for():
    lock = threading.Lock()
    with pool(1) as executor:
        results = executor.map(lambda x: lock, range(3))
        with pytest.raises(TypeError, match="pickle"):
            next(results)
        assert list(executor.map(lambda x: lock, [])) == []


def test_a_function_that_workers_cannot_load_raises_at_the_first_item():
    class Bomb:
        def __call__(self, x):
            return x

        def __reduce__(self):
            return (tasks.fail_on, (1, 1))

    with pool(1) as executor:
        with pytest.raises(LookupError):
            next(executor.map(Bomb(), range(3), timeout=WAIT_S))
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9


def test_a_function_that_kills_a_worker_as_it_is_loaded_costs_each_item_once():
    class Bomb:
        def __call__(self, x):
            return x

        def __reduce__(self):
            return (os._exit, (5,))

    with pool(1) as executor:
        with pytest.raises(ringpool.WorkerDied, match="code 5"):
            next(executor.map(Bomb(), range(4), timeout=WAIT_S, chunksize=4))
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9


def test_what_an_iterable_raises_is_raised_by_map_and_nothing_more_is_run(tmp_path):
    def items():
        yield from range(10)
        raise LookupError

    with pool(1) as executor:
        executor.submit(tasks.wait_for, str(tmp_path / "gate"))
        with pytest.raises(LookupError):
            executor.map(functools.partial(tasks.note, str(tmp_path)), items())
        (tmp_path / "gate").touch()
        executor.submit(tasks.square, 3).result(WAIT_S)
    assert [path.name for path in tmp_path.iterdir()] == ["gate"]


# ---- deaths ----


@each_chunksize
@pytest.mark.parametrize("bad", [0, 37, 99])
def test_a_death_costs_the_item_that_ran_and_no_other_runs_twice(bad, chunksize, tmp_path):
    with pool(2) as executor:
        fn = functools.partial(tasks.note_and_die_once, str(tmp_path), bad)
        results = executor.options(retries=1).map(fn, range(100), timeout=WAIT_S, chunksize=chunksize)
        assert list(results) == list(range(100))
    assert runs(tmp_path) == dict.fromkeys(range(100), 1) | {bad: 2}


@pytest.mark.parametrize("seed", range(3))
def test_workers_killed_at_random_cost_no_result(seed):
    rng = random.Random(seed)
    with pool(3) as executor:
        stop = threading.Event()

        def kill():
            for _ in range(150):  # for ever, they would outrun a machine that starts workers slowly
                if stop.wait(rng.uniform(0.005, 0.03)):
                    break
                for pid in ready(executor)[:1]:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

        killer = threading.Thread(target=kill)
        killer.start()
        try:
            for _ in range(3):
                results = executor.options(retries=1000).map(tasks.sleep_at_random, range(1500), timeout=WAIT_S)
                assert list(results) == list(range(1500))
        finally:
            stop.set()
            killer.join()


def test_where_a_death_breaks_the_pool_the_results_before_it_are_there():
    with pool(1, on_worker_death="break") as executor:
        results = executor.map(functools.partial(tasks.die_on, 37), range(100), timeout=WAIT_S, chunksize=100)
        assert list(itertools.islice(results, 37)) == list(range(37))
        with pytest.raises(concurrent.futures.process.BrokenProcessPool):
            next(results)


# ---- which worker gets which item ----


@pytest.mark.parametrize("first_s", [0.0, 0.05])
def test_a_worker_without_work_takes_over_what_lies_before_a_busy_one(first_s, tmp_path):
    """One item waits for a gate that opens when all others have been run."""
    (tmp_path / "runs").mkdir()
    fn = functools.partial(tasks.note_and_wait_on, str(tmp_path / "runs"), 500, str(tmp_path / "gate"), first_s)
    with pool(2) as executor:
        results = executor.map(fn, range(1000), ordered=False, timeout=WAIT_S)
        wait_until(lambda: len(runs(tmp_path / "runs")) == 1000, "all items begun")
        (tmp_path / "gate").touch()
        assert sorted(results) == list(range(1000))
    assert set(runs(tmp_path / "runs").values()) == {1}


def test_a_chunksize_is_honoured(tmp_path):
    """What lies before a busy worker in its chunk stays there; nothing else does."""
    (tmp_path / "runs").mkdir()
    fn = functools.partial(tasks.note_and_wait_on, str(tmp_path / "runs"), 32, str(tmp_path / "gate"), 0.0)
    with pool(2) as executor:
        results = executor.map(fn, range(100), chunksize=10, timeout=WAIT_S)
        wait_until(lambda: len(runs(tmp_path / "runs")) == 93, "the other chunks")
        assert {33, 34, 35, 36, 37, 38, 39}.isdisjoint(runs(tmp_path / "runs"))
        (tmp_path / "gate").touch()
        assert list(results) == list(range(100))


def test_sizes_may_be_as_large_as_one_likes():
    with pool(1) as executor:
        for buffersize in (None, 10**30):
            results = executor.map(tasks.square, range(5), chunksize=10**30, buffersize=buffersize, timeout=WAIT_S)
            assert list(results) == [0, 1, 4, 9, 16]


# ---- lazily ----


@pytest.mark.parametrize("buffersize", [1, 4, 100])
@pytest.mark.parametrize("ordered", [True, False])
def test_no_more_items_are_read_ahead_than_the_buffer_holds(buffersize, ordered):
    taken = 0

    def items():
        nonlocal taken
        for i in itertools.count():
            taken += 1
            yield i

    with pool(2) as executor:
        results = executor.map(tasks.echo, items(), buffersize=buffersize, ordered=ordered, timeout=WAIT_S)
        assert taken == buffersize
        for read in range(1, 2000):
            next(results)
            assert taken <= read + 2 * buffersize
        results.close()


def test_of_a_chunk_that_comes_in_parts_the_first_counts_for_the_whole():
    """Each item takes so long that its result is sent at once."""
    taken = 0

    def items():
        nonlocal taken
        for i in range(100):
            taken += 1
            yield i

    with pool(1) as executor:
        seconds = itertools.repeat(0.02)
        results = executor.map(tasks.sleep_if, items(), seconds, buffersize=2, chunksize=3, timeout=WAIT_S)
        for read in range(30):
            assert taken == 6 + (read + 2) // 3 * 3
            assert next(results) == read
        results.close()


def test_long_items_are_there_one_by_one_though_they_went_together(tmp_path):
    """While one waits, all before it in its chunk are there."""
    with pool(1) as executor:
        fn = functools.partial(tasks.sleep_or_wait_on, 30, str(tmp_path / "gate"))
        results = executor.map(fn, range(40), chunksize=40, timeout=WAIT_S)
        assert list(itertools.islice(results, 30)) == list(range(30))
        (tmp_path / "gate").touch()
        assert list(results) == list(range(30, 40))


def test_slow_items_do_not_keep_the_workers_waiting(tmp_path):
    def items():
        for i in range(5):
            yield i
            wait_until(lambda i=i: i in runs(tmp_path), "the item that has been given")

    with pool(2) as executor:
        assert list(executor.map(functools.partial(tasks.note, str(tmp_path)), items())) == list(range(5))


def test_leaving_the_iterator_cancels_what_has_not_started(tmp_path):
    (tmp_path / "runs").mkdir()
    fn = functools.partial(tasks.note_and_wait_on, str(tmp_path / "runs"), 0, str(tmp_path / "gate"), 0.0)
    with pool(1) as executor:
        for leave in (lambda results: results.close(), lambda results: None):
            results = executor.map(fn, itertools.chain([-1], range(1000)), chunksize=1)
            assert next(results) == -1
            wait_until(lambda: 0 in runs(tmp_path / "runs"), "the item at the gate")
            leave(results)
            del results
            (tmp_path / "gate").touch()
            assert executor.submit(tasks.square, 3).result(WAIT_S) == 9
            assert set(runs(tmp_path / "runs")) == {-1, 0}
            (tmp_path / "gate").unlink()
            for path in (tmp_path / "runs").iterdir():
                path.unlink()


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("begun", [True, False])
def test_a_program_that_maps_for_the_effects_alone_need_not_read(tmp_path, ordered, begun):
    with pool(2) as executor:
        if begun:
            executor.submit(int).result(WAIT_S)
        executor.map(functools.partial(tasks.note, str(tmp_path)), range(3000), ordered=ordered)
    assert runs(tmp_path) == dict.fromkeys(range(3000), 1)


def test_results_that_no_thread_will_read_are_not_kept():
    def n_chunks() -> int:
        return sum(type(each).__name__ == "Chunk" for each in gc.get_objects())

    with pool(2) as executor:
        blocks = executor._client.segment.blocks
        before = n_chunks()  # of a test in which a deque found no memory for one: then it keeps it (CPython's fault)
        for ordered in (True, False):
            executor.map(tasks.echo, [bytes(50_000)] * 500, ordered=ordered)  # some 25 MB of results
            executor.map(functools.partial(tasks.fail_on, 5), range(10), ordered=ordered)
        wait_until(lambda: executor._client.pending == 0, "the last item")
        wait_until(lambda: n_chunks() <= before, "the end of all chunks")
        assert executor._client.segment.blocks <= blocks + 1


def test_close_cancels_also_what_no_thread_has_read(tmp_path):
    with pool(1) as executor:
        fn = functools.partial(tasks.note_and_wait_on, str(tmp_path), 0, str(tmp_path / "gate"), 0.0)
        results = executor.map(fn, range(1000))
        wait_until(lambda: 0 in runs(tmp_path), "the first item")
        results.close()
        (tmp_path / "gate").touch()
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9
        assert len(list(tmp_path.iterdir())) == 2  # the first item, and the gate


READS_FOR_EVER = """
import itertools, os, signal, sys, threading, time
import ringpool

ex = ringpool.ProcessPoolExecutor(1)
ex.submit(abs, 1).result()
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()  # a thread that runs meanwhile
    if sys.argv[1] == "map":
        ex.map(abs, itertools.count())
    elif sys.argv[1] == "lazy":
        for _ in zip(ex.map(abs, itertools.count(), buffersize=100_000), itertools.repeat(0)):
            pass
    else:
        ex.submit_many(abs, zip(itertools.count()))
except KeyboardInterrupt:
    print("interrupted")
ex.shutdown(wait=False, cancel_futures=True)
ex.kill_workers()
"""


@pytest.mark.parametrize("what", ["map", "lazy", "submit_many"])
def test_a_ctrl_c_ends_the_reading_of_an_endless_iterable_and_threads_run_meanwhile(what):
    command = [sys.executable, "-c", READS_FOR_EVER, what]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S)
    assert done.stdout == "interrupted\n", done.stderr


@pytest.mark.parametrize("ordered", [True, False])
def test_what_ran_is_read_before_the_cancellation_of_the_rest(tmp_path, ordered):
    fn = functools.partial(tasks.note_and_wait_on, str(tmp_path), 1, str(tmp_path / "gate"), 0.0)
    executor = pool(1)
    results = executor.map(fn, range(10), chunksize=1, ordered=ordered)
    wait_until(lambda: 1 in runs(tmp_path), "the item at the gate")
    executor.shutdown(wait=False, cancel_futures=True)
    (tmp_path / "gate").touch()
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(concurrent.futures.CancelledError):
        next(results)
    executor.shutdown()


def test_a_long_chain_of_results_is_garbage_without_recursion():
    """Of a half-read map that is reachable only by way of its own function. In a thread whose stack is small."""

    class Job:
        def work(self, x):
            return x

    def use():
        job = Job()
        job.results = executor.map(job.work, range(30_000), chunksize=1)
        next(job.results)
        wait_until(lambda: executor._client.pending == 0, "all results")
        gc.collect()

    def collect():
        gc.collect()
        collected.append(True)

    collected = []
    with pool(2) as executor:
        use()
        before = threading.stack_size(256 * 1024)
        try:
            thread = threading.Thread(target=collect)
            thread.start()
            thread.join()
        finally:
            threading.stack_size(before)
    assert collected


@pytest.mark.parametrize("load_s", [0.0, 0.005])
def test_a_function_that_is_slow_to_load_is_loaded_for_many_items_at_once(tmp_path, load_s):
    fn = functools.partial(tasks.first_of_two, tasks.SlowToLoad(str(tmp_path), load_s))
    with pool(2) as executor:
        assert list(executor.map(fn, range(4000), timeout=WAIT_S)) == list(range(4000))
    assert len(list(tmp_path.iterdir())) < 200  # loads


def test_the_results_cannot_be_copied():
    with pool(1) as executor:
        results = executor.map(tasks.square, range(10))
        for copier in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises(TypeError, match="read once"):
                copier(results)
        assert list(results) == [i * i for i in range(10)]


def test_a_function_whose_pickling_raises_stop_iteration_does_not_end_the_results():
    with pool(1) as executor, pytest.raises(RuntimeError, match="StopIteration"):
        list(executor.map(tasks.StopsInPickle(), range(5)))


@pytest.mark.parametrize("chunksize", [1.5, "2"])
def test_a_chunksize_that_is_no_integer_is_refused(chunksize):
    with pool(1) as executor:
        with pytest.raises(TypeError):
            executor.map(tasks.square, range(5), chunksize=chunksize)
        with pytest.raises(TypeError):
            executor.submit_many(tasks.square, [(1,)], chunksize=chunksize)


# ---- the end of the pool ----


def test_shutdown_waits_for_all_items_though_no_thread_reads(tmp_path):
    executor = pool(2)
    results = executor.map(functools.partial(tasks.note, str(tmp_path)), range(5000), timeout=WAIT_S)
    executor.shutdown()
    assert list(results) == list(range(5000))
    assert runs(tmp_path) == dict.fromkeys(range(5000), 1)


@pytest.mark.parametrize("first_s", [0.0, 0.05], ids=["no results yet", "some results sent"])
def test_shutdown_may_cancel_what_has_not_started(first_s, tmp_path):
    (tmp_path / "runs").mkdir()
    fn = functools.partial(tasks.note_and_wait_on, str(tmp_path / "runs"), 3, str(tmp_path / "gate"), first_s)
    with pool(1) as executor:
        results = executor.map(fn, range(1000), chunksize=100, timeout=WAIT_S)
        wait_until(lambda: 3 in runs(tmp_path / "runs"), "the item at the gate")
        executor.shutdown(wait=False, cancel_futures=True)
        (tmp_path / "gate").touch()
        assert list(itertools.islice(results, 4)) == [0, 1, 2, 3]
        with pytest.raises(concurrent.futures.CancelledError):
            next(results)
    assert set(runs(tmp_path / "runs")) == {0, 1, 2, 3}


def test_shutdown_with_a_timeout_ends_the_item_that_runs(tmp_path):
    fn = functools.partial(tasks.note_and_wait_on, str(tmp_path), 3, str(tmp_path / "never"), 0.0)
    executor = pool(1)
    results = executor.map(fn, range(1000), timeout=WAIT_S)
    wait_until(lambda: 3 in runs(tmp_path), "the item at the gate")
    began = time.monotonic()
    executor.shutdown(timeout=0)
    assert time.monotonic() - began < 20
    with pytest.raises(concurrent.futures.CancelledError):
        list(results)


def test_workers_that_are_killed_fail_the_map():
    executor = pool(1)
    results = executor.map(time.sleep, [0, 60, 0])
    next(results)
    executor.kill_workers()
    with pytest.raises((ringpool.WorkerDied, concurrent.futures.CancelledError)):
        list(results)
    executor.shutdown()


def test_in_a_forked_child_the_results_are_refused(tmp_path):
    gate = tmp_path / "gate"
    with pool(1) as executor:
        results = executor.map(tasks.wait_for, [str(gate)] * 2, timeout=WAIT_S)
        pid = os.fork()
        if pid == 0:
            try:
                next(results)
            except RuntimeError:
                os._exit(7)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7
        gate.touch()
        assert list(results) == [None, None]


# ---- memory ----


def test_results_larger_than_a_workers_memory_holds_come_through(arenas_of):
    arenas_of(1 << 20)
    with pool(2) as executor:
        sizes = [300_000] * 30 + [10] * 100
        assert [len(each) for each in executor.map(tasks.blow_up, sizes, timeout=WAIT_S)] == sizes
        results = executor.map(tasks.blow_up, [10, 5 << 20, 10], timeout=WAIT_S)
        assert len(next(results)) == 10
        with pytest.raises(MemoryError, match="bytes of shared memory"):
            next(results)
        results = executor.map(len, [bytes(10), bytes(5 << 20), bytes(10)], timeout=WAIT_S)
        assert next(results) == 10
        with pytest.raises(MemoryError, match="bytes of shared memory"):
            next(results)
        assert list(executor.map(len, [bytes(300_000)] * 30, timeout=WAIT_S)) == [300_000] * 30
        wait_until(lambda: executor._client.segment.blocks <= 2, "the blocks of what is done")


def test_a_map_that_is_not_read_gives_its_memory_back(arenas_of):
    arenas_of(1 << 20)
    with pool(1) as executor:
        for _ in range(20):
            results = executor.map(tasks.blow_up, [300_000] * 5, chunksize=2)
            assert len(next(results)) == 300_000
            del results
        assert executor.submit(tasks.blow_up, 900_000).result(WAIT_S) == bytes(900_000)


def test_any_number_of_chunks_that_no_thread_reads_can_be_dropped():
    with pool(1) as executor:
        results = executor.map(tasks.square, range(50_000), chunksize=1)
        wait_until(lambda: executor._client.pending == 0, "all items")
        before = threading.stack_size(1 << 18)  # too small for a list that is freed from within its head
        try:
            thread = threading.Thread(target=results.close)
            thread.start()
        finally:
            threading.stack_size(before)
        thread.join()
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9


def test_what_has_been_read_out_of_order_is_let_go():
    def arguments():
        while True:
            yield bytes(2000)

    with pool(1) as executor:
        results = executor.map(len, arguments(), buffersize=10, chunksize=1, ordered=False)
        for _ in range(2000):
            next(results)
        tracemalloc.start()
        try:
            for _ in range(2000):
                next(results)
            assert tracemalloc.get_traced_memory()[0] < 2_000_000
        finally:
            tracemalloc.stop()
            results.close()


# ---- code of the user's in between ----


class Closes:
    """Ends the iterator while its own result is being decoded."""

    results = None

    def __reduce__(self):
        return _close, ()


def _close():
    with pytest.raises(ValueError, match="being read"):
        Closes.results.close()
    return "closed"


def test_an_iterator_that_is_garbage_together_with_its_function_is_collected():
    class Loop:
        def __call__(self, x):
            return x

        def __reduce__(self):
            return tasks.make_echo, ()

    def leave(executor):
        loop = Loop()
        loop.results = executor.map(loop, range(10))
        next(loop.results)

    with pool(1) as executor:
        for _ in range(20):
            leave(executor)
            gc.collect()
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9


def test_a_result_that_closes_the_iterator_as_it_is_decoded_is_told_not_to():
    with pool(1) as executor:
        Closes.results = executor.map(lambda i: Closes(), range(3), timeout=WAIT_S)
        assert list(Closes.results) == ["closed"] * 3
        Closes.results = None


def test_an_item_may_use_the_pool_as_it_is_encoded():
    with pool(1) as executor:

        class Asks:
            def __init__(self, i):
                self.i = i

            def __reduce__(self):
                executor.submit(tasks.square, 1).result(WAIT_S)
                return int, (self.i,)

        assert list(executor.map(tasks.echo, map(Asks, range(300)), timeout=WAIT_S)) == list(range(300))


def test_retries_go_with_what_another_worker_takes_over(tmp_path):
    """The item that kills its worker is taken from a chunk that waits at a gate."""
    (tmp_path / "runs").mkdir()
    gate = tmp_path / "gate"
    with pool(2) as executor:
        fn = functools.partial(tasks.wait_or_die_once, str(tmp_path / "runs"), str(gate))
        results = executor.options(retries=1).map(fn, range(1000), ordered=False, timeout=WAIT_S)
        wait_until(lambda: len(runs(tmp_path / "runs")) == 1000, "all items begun")
        gate.touch()
        assert sorted(results) == list(range(1000))
    counts = runs(tmp_path / "runs")
    assert {i for i in counts if counts[i] == 2} == {i for i in range(1000) if i % 100 == 99}
    assert max(counts.values()) == 2
