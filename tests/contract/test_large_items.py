"""Items of map and submit_many that lie apart, in blocks of their own: all arrive, and their memory comes back."""

from __future__ import annotations

import concurrent.futures
import contextlib
import functools
import gc
import itertools
import random
import resource
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import optional
import pytest
import tasks_map as tasks
from files import await_file
from limits import FREE_THREADED
from pools import pool
from tasks_views import Buffers
from test_map import WAIT_S, each_chunksize
from waiting import kill_one, wait_until
from words import Words

import ringpool

np = optional.module("numpy")

MIB = 1 << 20
SMALL = 4 * MIB  # of arguments, where the pool is to run out of memory for them


def array(i: int, n: int) -> np.ndarray:
    return np.random.default_rng(i).integers(0, 1 << 60, n // 8)


def readonly(i: int, n: int) -> np.ndarray:
    values = array(i, n)
    values.setflags(write=False)
    return values


def of_all_kinds(most: int = 1_500_000) -> list:
    """Small and large, compact and pickled, with and without buffers, of sizes on both sides of each limit."""
    values: list = [None, 1, "text", (1, [2]), {3}, bytes(100)]
    for n in (4000, 16_000, 16_383, 16_384, 16_385, 20_000, 65_535, 65_536, 70_000, 250_000, most):
        values += [random.Random(n).randbytes(n), bytearray(n), "é" * (n // 2), array(n, n), readonly(n, n)]
        values += [{"text": "x" * n}, [str(i) for i in range(n // 20)], set(range(n // 20))]
        values += [array(n, n)[::2], array(n, n // 64 * 64).reshape(8, -1).T, array(n, n).astype("M8[s]")]
        values += [(array(n, n), array(n + 1, 5 * n), "between", random.Random(n).randbytes(n), [array(n + 2, n)])]
    random.Random(1).shuffle(values)
    return values


@contextlib.contextmanager
def opened(gate: Path) -> Iterator[None]:
    """What waits at the gate goes on in the end, also if the test fails."""
    try:
        yield
    finally:
        gate.touch()


def await_blocks(executor: ringpool.ProcessPoolExecutor, n: int) -> None:
    """Returns when nothing is pending and n blocks are in use. The collector thread, which workers ring, frees what
    they have let go of."""
    wait_until(lambda: executor._client.pending == 0, "the end of all that is pending")
    gc.collect()
    wait_until(lambda: executor._client.segment.blocks == n, f"{n} blocks in use, when nothing is pending")


# ---- they arrive ----


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_items_of_all_kinds_and_sizes_arrive_as_arguments_of_submit_do(method):
    values = of_all_kinds()
    with pool(2, method) as executor:
        expected = [executor.submit(tasks.describe, value).result(WAIT_S) for value in values]
        for chunksize in (None, 1, 7):
            assert list(executor.map(tasks.describe, values, chunksize=chunksize, timeout=WAIT_S)) == expected
            futures = executor.submit_many(tasks.describe, [(value,) for value in values], chunksize=chunksize)
            assert [future.result(WAIT_S) for future in futures] == expected
        assert list(executor.map(tasks.describe, values, buffersize="auto", timeout=WAIT_S)) == expected
        unordered = executor.map(tasks.describe, values, ordered=False, timeout=WAIT_S)
        assert sorted(map(repr, unordered)) == sorted(map(repr, expected))
        pairs = executor.map(tasks.describe_pair, values, reversed(values), timeout=WAIT_S)
        assert list(pairs) == [[a, b] for a, b in zip(expected, reversed(expected), strict=True)]
        # A function that goes by value is sent with each chunk.
        assert list(executor.map(lambda x: tasks.describe(x), values, timeout=WAIT_S)) == expected
        await_blocks(executor, 3)  # the functions


@each_chunksize
@pytest.mark.parametrize("buffersize", [None, "auto", 3])
def test_more_than_the_memory_holds_arrives(arenas_of, chunksize, buffersize):
    arenas_of(SMALL)
    values = [value for value in of_all_kinds(250_000) for _ in range(2)]
    with pool(2) as executor:
        expected = [executor.submit(tasks.describe, value).result(WAIT_S) for value in values]
        for ordered in (True, False):
            results = executor.map(
                tasks.describe, values, chunksize=chunksize, buffersize=buffersize, ordered=ordered, timeout=WAIT_S
            )
            assert sorted(map(repr, results)) == sorted(map(repr, expected))
        if buffersize is None:
            futures = executor.submit_many(tasks.describe, [(value,) for value in values], chunksize=chunksize)
            assert [future.result(WAIT_S) for future in futures] == expected
        await_blocks(executor, 1)


def test_items_are_what_they_were_at_the_call(arenas_of):
    arenas_of(SMALL)
    data, values = bytearray(300_000), np.zeros(40_000)

    def items():
        for i in range(40):  # more than the memory holds: some wait
            data[:] = bytes([i]) * len(data)
            values[:] = i
            yield data, values

    with pool(2) as executor:
        results = executor.map(tasks.describe, items(), timeout=WAIT_S)
        futures = executor.submit_many(tasks.describe, ((each,) for each in items()))
        expected = [tasks.describe((bytearray([i]) * len(data), np.full(40_000, float(i)))) for i in range(40)]
        assert list(results) == expected
        assert [future.result(WAIT_S) for future in futures] == expected


def test_an_item_that_cannot_be_sent_keeps_its_place_among_large_ones(arenas_of):
    arenas_of(SMALL)
    values = [array(i, 300_000) for i in range(30)]
    values[11] = threading.Lock()
    values[17] = bytes(2 * SMALL)
    values[23] = [array(1, SMALL), array(2, SMALL)]
    with pool(2) as executor:
        futures = executor.submit_many(tasks.describe, [(value,) for value in values])
        for i, future in enumerate(futures):
            if i in (11, 17, 23):
                assert isinstance(future.exception(WAIT_S), TypeError if i == 11 else MemoryError)
            else:
                assert future.result(WAIT_S) == tasks.describe(values[i])
        results = executor.map(tasks.describe, values, timeout=WAIT_S)
        assert list(itertools.islice(results, 11)) == [tasks.describe(value) for value in values[:11]]
        with pytest.raises(TypeError):
            next(results)
        await_blocks(executor, 1)


def test_shared_objects_within_large_items_arrive():
    with pool(2) as executor:
        shared = executor.share(array(0, MIB))
        items = [(shared, bytes(30_000)) if i % 2 else (shared, array(i, 300_000)) for i in range(20)]
        expected = [tasks.describe((readonly(0, MIB), value)) for _, value in items]
        results = executor.map(tasks.describe, items, timeout=WAIT_S)
        del shared, items
        assert list(results) == expected


def test_items_may_use_and_end_the_pool_as_they_are_encoded(arenas_of):
    arenas_of(SMALL)

    class Asks:
        """With a buffer that is taken out before its user code runs."""

        def __init__(self, i, do):
            self.i, self.do = i, do

        def __reduce__(self):
            self.do()
            return tuple, ([array(self.i, 200_000), self.i],)

    with pool(2) as executor:
        use = functools.partial(lambda: executor.submit(tasks.square, 1).result(WAIT_S))
        results = executor.map(tasks.describe, [Asks(i, use) for i in range(40)], timeout=WAIT_S)
        assert list(results) == [tasks.describe((array(i, 200_000), i)) for i in range(40)]
        end = functools.partial(executor.shutdown, wait=False, cancel_futures=True)
        with pytest.raises(RuntimeError, match="shutdown"):
            executor.map(tasks.describe, [Asks(i, end if i == 20 else int) for i in range(40)])
        executor.shutdown()
        await_blocks(executor, 0)


# ---- where they lie ----


@pytest.mark.parametrize("way", ["map", "auto", "submit_many"])
def test_large_items_are_copied_into_no_memory_of_the_parents_own(arenas_of, way, tmp_path):
    """Each page of such memory would be touched for the first time: it comes from the system, and goes back."""
    arenas_of(1 << 30)
    values = array(1, 40 * MIB)
    pages = 4 * values.nbytes // resource.getpagesize()

    def faults(run) -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        assert run() == [len(values)] * 4
        return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

    with pool(2) as executor:
        ways = {
            "submit": lambda: [f.result() for f in [executor.submit(tasks.size, values) for _ in range(4)]],
            "map": lambda: list(executor.map(tasks.size, [values] * 4)),
            "auto": lambda: list(executor.map(tasks.size, [values] * 4, buffersize="auto")),
            "submit_many": lambda: [f.result() for f in executor.submit_many(tasks.size, [(values,)] * 4)],
        }
        with opened(tmp_path / "gate"):  # all arguments are there at once, so the memory for them has been touched then
            waiting = [executor.submit(await_file, tmp_path / "gate") for _ in range(2)]
            waiting += [executor.submit(tasks.size, values) for _ in range(4)]
        assert [future.result() for future in waiting] == [None] * 2 + [len(values)] * 4
        faults(ways["submit"])
        assert faults(ways[way]) < faults(ways["submit"]) + pages // 4


@pytest.mark.parametrize("n", [20_000, 200_000])
def test_buffersize_auto_bounds_large_items_in_bytes(arenas_of, tmp_path, n):
    arenas_of(2 * SMALL)
    taken = 0

    def items():
        nonlocal taken
        while True:
            taken += 1
            yield bytes(n)

    gate = tmp_path / "gate"
    with pool(2) as executor, opened(gate):
        executor.submit(tasks.wait_then_size, str(tmp_path), b"").result(WAIT_S)
        gates = itertools.repeat(str(gate))
        results = executor.map(tasks.wait_then_size, gates, items(), buffersize="auto", timeout=WAIT_S)
        most = [taken, executor._client.segment.blocks - 1]  # each is in one; and the function
        gate.touch()
        for _ in range(1000):
            assert next(results) == n
            most.append(executor._client.segment.blocks - 1)
        results.close()
    assert (MIB if n == 200_000 else 0) < most[0] * n == most[1] * n
    chunks = 3 * 2  # at most these are under way: each may have a block, which names its items
    assert (max(most) - chunks) * n <= MIB + n  # an eighth of the memory for arguments


def test_each_worker_has_an_item_ahead_however_large_they_are(arenas_of):
    arenas_of(SMALL)
    with pool(2) as executor:
        values = [array(i, 900_000) for i in range(20)]
        taken = []
        results = executor.map(tasks.describe, (taken.append(i) or v for i, v in enumerate(values)), buffersize="auto")
        assert len(taken) >= 4
        assert list(results) == [tasks.describe(value) for value in values]


@pytest.mark.skipif(FREE_THREADED, reason="no other thread may take its turn: for that there has to be a GIL")
def test_what_an_item_becomes_while_it_is_encoded_is_what_its_memory_is_counted_by(arenas_of, tmp_path):
    """It finds no room; what a worker has let go of is freed for it; with that goes a handle, whose end changes it."""
    arenas_of(SMALL)
    item = [bytes(1_900_000), None]
    gate = tmp_path / "gate"
    interval = sys.getswitchinterval()

    def values():
        yield item
        for i in range(20):
            if i == 10:  # are read while the first of them waits, if the memory is not believed to be full
                gate.touch()
            yield bytes(20_000)

    with pool(1) as executor, opened(gate), Words(executor._client) as words:
        inner = executor.share([1])
        weakref.finalize(inner, item.__setitem__, 1, Buffers(bytearray(300_000)))
        outer = executor.share((inner, Buffers(bytearray(5 * MIB // 2))))
        del inner
        executor.submit(tasks.wait_then_size, str(tmp_path), outer).result(WAIT_S)
        executor.submit(tasks.square, 1).result(WAIT_S)
        gates = itertools.chain([str(tmp_path), str(gate)], itertools.repeat(str(tmp_path)))
        try:
            sys.setswitchinterval(WAIT_S)  # the collector's thread is not to free it
            released = words.worker(0)["releases"]
            del outer
            deadline = time.monotonic() + WAIT_S
            while words.worker(0)["releases"] == released:  # without a pause, in which others would run
                assert time.monotonic() < deadline
            assert item[1] is None
            results = executor.map(
                tasks.wait_then_size, gates, values(), chunksize=1, buffersize="auto", timeout=WAIT_S
            )
            assert item[1] is not None
        finally:
            sys.setswitchinterval(interval)
        assert list(results) == [2, *[20_000] * 20]


# ---- deaths ----


@each_chunksize
@pytest.mark.parametrize("room", [SMALL, 64 * MIB])  # of which the worker copies what it finds, or makes views of it
def test_a_death_costs_the_large_item_that_ran_and_no_other(arenas_of, chunksize, room):
    arenas_of(room)
    items = [(i, array(i, 150_000)) for i in range(60)]
    with pool(2) as executor:
        fn = functools.partial(tasks.describe_or_die, 37)
        futures = executor.submit_many(fn, [(item,) for item in items], chunksize=chunksize)
        for i, future in enumerate(futures):
            if i == 37:
                assert isinstance(future.exception(WAIT_S), ringpool.WorkerDied)
            else:
                assert future.result(WAIT_S) == tasks.describe(items[i])
        await_blocks(executor, 0)  # the function goes with each chunk


def test_an_item_that_is_run_anew_finds_what_was_sent(arenas_of, tmp_path):
    arenas_of(SMALL)
    values = [array(i, 200_000) for i in range(30)]
    with pool(2) as executor:
        fn = functools.partial(tasks.overwrite_and_die_once, str(tmp_path))
        results = executor.options(retries=1).map(fn, range(30), values, timeout=WAIT_S)
        assert list(results) == [tasks.describe(value) for value in values]
        await_blocks(executor, 0)


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("room", [SMALL, 64 * MIB])
def test_workers_killed_at_random_cost_one_large_item_each(arenas_of, seed, room):
    arenas_of(room)
    rng = random.Random(seed)
    values = [array(i, rng.choice([100, 20_000, 100_000, 600_000])) for i in range(300)]
    values += [tuple(values[i : i + 3]) for i in range(100)]
    rng.shuffle(values)
    with pool(2) as executor:
        kills = 8
        futures = executor.submit_many(tasks.describe, [(value,) for value in values])
        results = executor.options(retries=1000).map(tasks.describe, values, timeout=2 * WAIT_S)
        for _ in range(kills):
            kill_one(executor, rng)
        lost = 0
        for value, future in zip(values, futures, strict=True):
            if isinstance(future.exception(WAIT_S), ringpool.WorkerDied):
                lost += 1
            else:
                assert future.result() == tasks.describe(value)
        assert lost <= kills
        assert list(results) == [tasks.describe(value) for value in values]
        await_blocks(executor, 1)
        assert executor.submit(tasks.size, bytes(room // 2)).result(WAIT_S) == room // 2


# ---- the blocks come back ----


def test_what_workers_keep_of_items_is_theirs_until_they_let_go():
    with pool(1) as executor:
        values = [array(i, 100_000) for i in range(9)]
        results = executor.map(tasks.keep, [2] * 9, values, chunksize=3, timeout=WAIT_S)
        assert list(results) == [1] + [2] * 8
        # The function's; and two for each item: of its buffer, and of what leads to that.
        await_blocks(executor, 1 + 2 * 2)
        assert executor.submit(tasks.keep, 0, None).result(WAIT_S) == 0
        wait_until(lambda: executor._client.segment.blocks == 1, "the blocks of what the worker has let go of")


def test_what_is_let_go_of_while_a_later_item_of_the_chunk_runs_is_free_then(tmp_path):
    gate = tmp_path / "gate"
    with pool(1) as executor, opened(gate):
        items = [(str(gate), i, array(i, 100_000)) for i in range(3)]
        futures = executor.submit_many(tasks.keep_then_wait, items, chunksize=3)
        assert futures[0].result(WAIT_S) == 0
        wait_until(lambda: executor._client.segment.blocks == 1 + 2 * 2, "the blocks of the first item")
        gate.touch()
        assert [future.result(WAIT_S) for future in futures] == [0, 1, 2]
        await_blocks(executor, 1)


def test_the_blocks_of_a_killed_worker_that_kept_items_come_back():
    with pool(1) as executor:
        list(executor.map(tasks.keep, [3] * 9, [array(i, 100_000) for i in range(9)]))
        await_blocks(executor, 1 + 3 * 2)
        kill_one(executor, random.Random(1))
        await_blocks(executor, 1)


@pytest.mark.parametrize("how", ["close", "drop", "cancel", "cancel one by one", "shutdown"])
def test_items_that_never_run_give_their_blocks_back(arenas_of, tmp_path, how):
    arenas_of(SMALL)
    gate = tmp_path / "gate"
    with pool(1) as executor, opened(gate):
        executor.submit(tasks.size, b"").result(WAIT_S)
        fn = functools.partial(tasks.wait_then_size, str(gate))
        items = [bytes(200_000) for _ in range(60)]  # three times what the memory holds
        futures: list[concurrent.futures.Future] = []
        results = None
        if how.startswith("cancel"):
            futures = executor.submit_many(fn, [(item,) for item in items])
            wait_until(lambda: futures[0].running(), "the first item runs")
        else:
            results = executor.map(fn, items)
            wait_until(lambda: executor._client.segment.blocks > 1, "items")
        assert executor._client.segment.blocks > 5
        if how == "cancel":
            for future in futures:
                future.cancel()
        elif how == "cancel one by one":
            order = list(futures)
            random.Random(1).shuffle(order)
            for future in order:
                future.cancel()
        elif how == "close":
            results.close()
        elif how == "drop":
            del results
        else:
            executor.shutdown(wait=False, cancel_futures=True)
        if how != "drop":
            wait_until(lambda: executor._client.segment.blocks <= 1 + 3, "all blocks but those of what runs")
        gate.touch()
        if how == "shutdown":
            executor.shutdown()
        await_blocks(executor, 0 if how == "shutdown" else 1)  # the function has one as long as there is a pool


# ---- beside other tasks ----


def test_items_in_the_memory_do_not_keep_a_task_waiting_that_needs_it(arenas_of, tmp_path):
    """The task waits for memory that the items have, which were put into the queue after it."""
    arenas_of(SMALL)
    gate = tmp_path / "gate"
    with pool(1) as executor, opened(gate):
        executor.submit(tasks.size, b"").result(WAIT_S)
        first = executor.submit(functools.partial(tasks.wait_then_size, str(gate)), bytes(5 * MIB // 2))
        second = executor.submit(tasks.size, bytes(13 * MIB // 4))
        items = executor.map(tasks.size, [bytes(400_000)] * 3, timeout=WAIT_S)
        later = executor.map(tasks.size, [bytes(300_000)] * 30, timeout=WAIT_S)
        gate.touch()
        assert first.result(WAIT_S) == 5 * MIB // 2
        assert second.result(WAIT_S) == 13 * MIB // 4
        assert list(items) == [400_000] * 3
        assert list(later) == [300_000] * 30
        await_blocks(executor, 1)


def test_a_map_that_waits_leaves_memory_for_tasks_and_shared_objects(arenas_of, tmp_path):
    arenas_of(SMALL)
    gate = tmp_path / "gate"
    with pool(2) as executor, opened(gate):
        results = executor.map(functools.partial(tasks.wait_then_size, str(gate)), [bytes(120_000)] * 100)
        executor.share(bytes(700_000))
        gate.touch()
        assert list(results) == [120_000] * 100


def test_maps_of_large_items_and_tasks_from_several_threads_are_all_right(arenas_of):
    arenas_of(SMALL)
    failures = []

    def play(executor, seed):
        rng = random.Random(seed)
        try:
            for _ in range(12):
                sizes = rng.choices([50, 20_000, 300_000], k=rng.randrange(1, 30))
                values = [array(rng.randrange(1000), n) for n in sizes]
                expected = [tasks.describe(value) for value in values]
                way = rng.randrange(5)
                if way == 0:
                    assert [f.result(WAIT_S) for f in [executor.submit(tasks.describe, v) for v in values]] == expected
                elif way == 1:
                    assert list(executor.map(tasks.describe, values, timeout=WAIT_S)) == expected
                elif way == 2:
                    got = list(executor.map(tasks.describe, values, buffersize="auto", timeout=WAIT_S))
                    assert got == expected
                elif way == 3:
                    with contextlib.closing(executor.map(tasks.describe, values, timeout=WAIT_S)) as results:
                        assert next(results) == expected[0]
                else:
                    futures = executor.submit_many(tasks.describe, [(value,) for value in values])
                    for i in rng.sample(range(len(values)), len(values) // 2):
                        futures[i].cancel()
                    for want, future in zip(expected, futures, strict=True):
                        assert future.cancelled() or future.result(WAIT_S) == want
        except BaseException as error:
            failures.append(error)

    with pool(2) as executor:
        threads = [threading.Thread(target=play, args=(executor, seed)) for seed in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        await_blocks(executor, 1)


# ---- results ----


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_results_of_all_kinds_and_sizes_come_back_as_those_of_submit_do(method):
    values = of_all_kinds()
    with pool(2, method) as executor:
        expected = [tasks.describe(executor.submit(tasks.echo, value).result(WAIT_S)) for value in values]
        for chunksize in (None, 1, 7):
            results = executor.map(tasks.echo, values, chunksize=chunksize, timeout=WAIT_S)
            assert [tasks.describe(result) for result in results] == expected
            futures = executor.submit_many(tasks.echo, [(value,) for value in values], chunksize=chunksize)
            assert [tasks.describe(future.result(WAIT_S)) for future in futures] == expected
        unordered = executor.map(tasks.echo, values, ordered=False, timeout=WAIT_S)
        assert sorted(repr(tasks.describe(result)) for result in unordered) == sorted(map(repr, expected))
        del results, unordered, futures
        gc.collect()
        assert executor._client.results.blocks_of_workers == 0
        await_blocks(executor, 1)


def test_large_results_are_views_of_where_their_worker_has_put_them():
    with pool(1) as executor:
        fn = functools.partial(tasks.fill, 2)
        results = list(executor.map(fn, [80_000] * 20, chunksize=5, timeout=WAIT_S))
        futures = executor.submit_many(fn, [(80_000,)] * 20, chunksize=5)
        results += [future.result(WAIT_S) for future in futures]
        assert executor._client.results.blocks_of_workers == 40  # the heads have gone home
        results[7][:] = -1
        assert all((result == 2).all() for i, result in enumerate(results) if i != 7)
        del results, futures
        gc.collect()
        assert executor._client.results.blocks_of_workers == 0


@each_chunksize
@pytest.mark.parametrize("n", [70_000, 400_000])
def test_large_results_that_exceed_the_memory_come_through_whenever_they_are_read(arenas_of, chunksize, n):
    arenas_of(MIB, 3 * MIB)
    with pool(2) as executor:
        expected = [tasks.describe(tasks.fill(i, n)) if i % 4 != 3 else None for i in range(60)]

        def check(results):
            for i, result in enumerate(results):
                if i % 4 == 3:
                    assert result["again"][0] is result["values"] and (result["values"] == i).all()
                    assert (result["more"] == np.arange(n // 8)).all()
                else:
                    assert tasks.describe(result) == expected[i]

        check(executor.map(tasks.fill, range(60), itertools.repeat(n), chunksize=chunksize, timeout=WAIT_S))
        results = executor.map(tasks.fill, range(60), itertools.repeat(n), chunksize=chunksize, timeout=WAIT_S)
        futures = executor.submit_many(tasks.fill, [(i, n) for i in range(60)], chunksize=chunksize)
        concurrent.futures.wait(futures, WAIT_S)
        check(future.result() for future in futures)
        check(results)
        del results, futures
        gc.collect()
        wait_until(lambda: executor._client.results.blocks_of_workers == 0, "the blocks of all results")


@pytest.mark.parametrize("how", ["close", "drop", "unread"])
def test_large_results_that_are_not_read_give_their_blocks_back(how):
    with pool(2) as executor:
        results = executor.map(tasks.fill, range(40), itertools.repeat(100_000), timeout=WAIT_S)
        if how != "unread":
            next(results)
        if how == "close":
            results.close()
        del results
        wait_until(lambda: executor._client.pending == 0, "the end of all items")
        gc.collect()
        wait_until(lambda: executor._client.results.blocks_of_workers == 0, "the blocks of all results")


@each_chunksize
def test_a_death_costs_no_large_result_before_it(chunksize):
    with pool(2) as executor:
        fn = functools.partial(tasks.fill_or_die, 26)
        futures = executor.submit_many(fn, [(i, 100_000) for i in range(60)], chunksize=chunksize)
        for i, future in enumerate(futures):
            if i == 26:
                assert isinstance(future.exception(WAIT_S), ringpool.WorkerDied)
            elif i % 4 != 3:
                assert tasks.describe(future.result(WAIT_S)) == tasks.describe(tasks.fill(i, 100_000))
            else:
                assert (future.result(WAIT_S)["values"] == i).all()


@pytest.mark.parametrize("chunksize", [1, 4])
def test_an_item_that_is_ended_is_so_though_it_has_a_large_result(chunksize, tmp_path):
    gate = tmp_path / "gate"
    with pool(1) as executor:
        calls = [(str(gate), i, 100_000) for i in range(8)]
        futures = executor.submit_many(tasks.outlast, calls, chunksize=chunksize)
        wait_until(gate.exists, "the second call")
        assert futures[1].cancel(running=True)
        for i, future in enumerate(futures):
            if i == 1:
                with pytest.raises(concurrent.futures.CancelledError):
                    future.result(WAIT_S)
            else:
                assert future.result(WAIT_S) == bytes(100_000)


def test_a_large_result_that_raises_as_it_is_decoded_ends_the_iterator():
    with pool(1) as executor:
        results = executor.map(tasks.StopsAsItIsDecoded, [array(1, 100_000)] * 2, timeout=WAIT_S)
        with pytest.raises(RuntimeError, match="StopIteration"):
            next(results)
        assert list(results) == []


def test_items_of_a_chunk_that_is_not_whole_do_not_keep_a_task_waiting_that_needs_their_memory(arenas_of):
    """The next item of the chunk is the result of that task."""
    arenas_of(SMALL)
    with pool(1) as executor:

        def items():
            for _ in range(3):
                yield bytes(600_000)
            yield bytes(executor.submit(tasks.size, bytes(3 * MIB)).result(WAIT_S))

        results = executor.map(tasks.size, items(), chunksize=10, timeout=WAIT_S)
        assert list(results) == [600_000] * 3 + [3 * MIB]
