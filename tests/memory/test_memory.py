"""Payloads too large for a slot: they arrive, wait for room, outlive their pool, and their blocks come back."""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import random
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import optional
import pytest
import tasks_memory as tasks
from files import await_file
from limits import LIMIT, WITHOUT_RESERVE
from pools import pool
from programs import environment
from waiting import wait_until
from words import Words

from ringpool import ProcessPoolExecutor, WorkerDied, _core, budget, machine, pickling

MIB = 1 << 20
SMALL = 4 * MIB  # that an arena may hold, in the tests that fill one


@pytest.fixture
def small_arenas(arenas_of):
    arenas_of(SMALL)


def all_done(futures) -> bool:
    return all(future.done() for future in futures)


def living(executor: ProcessPoolExecutor) -> set[int]:
    return {process.pid for process in executor._supervisor.processes}


def mapped() -> int:
    """Pools whose shared memory this process has mapped."""
    return Path("/proc/self/maps").read_text().count("/memfd:ringpool")


@pytest.fixture(autouse=True)
def _no_mapping_is_left():
    before = mapped()
    yield
    gc.collect()
    wait_until(lambda: mapped() <= before, "the shared memory of the test's pools is unmapped")


# ---- sizes ----


def around(*sizes: int) -> list[int]:
    return sorted({size + d for size in sizes for d in (-2, -1, 0, 1, 2) if size + d >= 0})


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_every_small_size_passes_both_ways(method):
    # The limits of a slot (200 bytes), of a result (88) and of a block (512) are in there, with whatever pickle adds.
    with pool(1, method) as executor:
        for make in (bytes, bytearray, lambda data: [data]):
            values = [make(tasks.pattern(n, n)) for n in range(1100)]
            assert list(executor.map(tasks.same, values, timeout=LIMIT)) == values


@pytest.mark.parametrize("n", [0, 1, 40, 85, 86, 88, 190, 195, 196, 200, 512, 4096])
def test_strings_of_every_width_pass_both_ways(n):
    with pool() as executor:
        for char in ("a", "\xe9", "\u20ac", "\U0001f600", "\ud800"):
            value = char * n
            assert executor.submit(tasks.same, value).result(LIMIT) == value


def test_sizes_around_whole_blocks_pass_both_ways():
    sizes = around(*(512 << k for k in range(12)))
    sizes += [n - overhead for n in (512, 1024, 1 << 16) for overhead in range(40)]  # what pickle adds is some 20 bytes
    with pool(2) as executor:
        values = [tasks.pattern(n, n) for n in sizes]
        assert list(executor.map(tasks.same, values, timeout=LIMIT)) == values


@pytest.mark.parametrize("n", [MIB, 16 * MIB + 1, 64 * MIB])
def test_large_payloads_pass_both_ways(n):
    with pool() as executor:
        data = tasks.pattern(n, 1)
        assert executor.submit(tasks.digest, data).result(LIMIT) == tasks.digest(data)
        assert executor.submit(tasks.pattern, n, 2).result(LIMIT) == tasks.pattern(n, 2)
        assert executor.submit(tasks.same, data).result(LIMIT) == data


# ---- arguments that are written while they are read ----

STREAM, PIECE, HEAD = 32_768, 16_384, 16  # see stream.pyx; what comes before the characters is about that long


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_streams_of_sizes_around_whole_pieces_arrive(method):
    with pool(2, method) as executor:
        for n in [n - d for n in (STREAM, STREAM + PIECE, 8 * PIECE) for d in (0, 1, HEAD - 1, HEAD, HEAD + 1)]:
            for make in (bytes, bytearray):
                values = (make(tasks.pattern(n, 1)), n, make(tasks.pattern(PIECE, 2)))
                assert executor.submit(tasks.echo, *values).result(LIMIT) == values


@pytest.mark.parametrize("char", ["a", "\xe9", "\u20ac", "\U0001f600", "\ud800"])
def test_strings_of_every_width_are_streamed(char):
    with pool() as executor:
        for n in (STREAM, STREAM + PIECE + 1):
            value = char * n
            assert executor.submit(tasks.same, value).result(LIMIT) == value


def test_whatever_comes_before_and_after_a_long_value_arrives_with_it():
    long = tasks.pattern(3 * STREAM, 3)
    around = [None, -1, 2.5, "\u20ac", b"b", (), [1, {"k": bytearray(b"v")}], "s" * 70_000, b"b" * 70_000]
    np = optional.module("numpy")
    array = np.arange(5000.0).reshape(50, 100)
    with pool() as executor:
        shared = executor.share({"shared": 1})
        for value in ([*around, long, *around], {"a": long, "b": [around, (long, long)]}, [around] * 6 + [long]):
            assert executor.submit(tasks.same, value).result(LIMIT) == value
        again = executor.submit(tasks.same, (array, long, array.T[0].copy(), array[1, 1], shared)).result(LIMIT)
        assert np.array_equal(again[0], array) and again[1] == long and again[4] == {"shared": 1}
        assert np.array_equal(again[2], array[:, 0]) and again[3] == array[1, 1]
        nine = [long[i:] for i in range(9)]  # more than are passed on without a tuple
        assert executor.submit(tasks.echo, *nine).result(LIMIT) == tuple(nine)
        assert executor._client.segment.blocks == 3  # the functions, and the shared object


def test_streams_from_several_threads_are_right():
    def send(me: int) -> None:
        for i in range(40):
            data = tasks.pattern(STREAM + 20_011 * i, 100 * me + i)
            assert executor.submit(tasks.digest, data).result(LIMIT) == tasks.digest(data)

    with pool(2) as executor, ThreadPoolExecutor(4) as threads:
        for sent in [threads.submit(send, i) for i in range(4)]:
            sent.result(2 * LIMIT)


def test_a_stream_to_workers_that_are_yet_to_start_arrives():
    with pool(2, "spawn") as executor:
        data = [tasks.pattern(2 * STREAM, i) for i in range(4)]
        futures = [executor.submit(tasks.digest, each) for each in data]
        assert [future.result(LIMIT) for future in futures] == [tasks.digest(each) for each in data]


def test_a_large_keyword_argument_and_a_large_function_arrive():
    data = tasks.pattern(MIB, 5)
    with pool() as executor:
        assert executor.submit(tasks.echo, data=data).result(LIMIT) == ((), {"data": data})
        assert executor.submit(lambda: data[-9:]).result(LIMIT) == data[-9:]


@pytest.mark.parametrize("n", [50, 100, 1000, MIB])
def test_exceptions_with_texts_of_any_length_arrive(n):
    with pool() as executor:
        error = executor.submit(tasks.throw_long, n).exception(LIMIT)
        assert type(error) is ValueError and error.args == ("x" * n,)
        assert str(error.__cause__).count("x" * n) == 1


def test_large_chunks_of_map_arrive():
    with pool(2) as executor:
        values = [tasks.pattern(100_000, n) for n in range(60)]
        assert list(executor.map(tasks.same, values, chunksize=20, timeout=LIMIT)) == values


def test_an_array_passes_both_ways():
    np = optional.module("numpy")
    with pool() as executor:
        values = tasks.array(100_000, 1)
        result = executor.submit(tasks.same, values).result(LIMIT)
        assert result.dtype == values.dtype and np.array_equal(result, values)
        result[0, 0] = -1.0  # it is the caller's own
        assert np.array_equal(executor.submit(tasks.transposed, values).result(LIMIT), values.T)
        assert np.array_equal(executor.submit(tasks.array, 50_000, 7).result(LIMIT), tasks.array(50_000, 7))


# ---- buffers that pickles leave out ----

BUFFER_SIZES = [0, 1, 1000, *around(16384, 65536), MIB, 5 * MIB + 3]


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.parametrize("make", [bytes, bytearray])
def test_buffers_of_every_size_pass_both_ways_and_are_the_receivers_own(make, method):
    with pool(1, method) as executor:
        blobs = [tasks.Blob(make(tasks.pattern(n, n))) for n in BUFFER_SIZES]
        expected = [(make is bytes, tasks.digest(bytes(blob.data))[1]) for blob in blobs]
        assert executor.submit(tasks.kinds, blobs).result(LIMIT) == expected
        for blob in blobs:
            (again,) = executor.submit(tasks.echo, blob).result(LIMIT)
            assert again == blob and again.readonly is (make is bytes)
            assert type(again.data) is (memoryview if len(blob.data) >= pickling._large_buffer else make)
            if make is bytearray and again.data:
                again.data[0] ^= 0xFF
                assert executor.submit(tasks.same, blob).result(LIMIT) == blob
        assert tasks.kinds(blobs) == expected


@pytest.mark.parametrize("n", [1, 40, 255, 256, 257])
def test_any_number_of_buffers_arrives(n):
    with pool() as executor:
        blobs = [tasks.Blob(bytearray(tasks.pattern(70_000 + i, i))) for i in range(n)]
        assert executor.submit(tasks.same, blobs).result(LIMIT) == blobs
        assert executor.submit(tasks.echo, *blobs, last=blobs[0]).result(LIMIT) == (tuple(blobs), {"last": blobs[0]})
        assert executor.submit(lambda: [blob.data[-1] for blob in blobs]).result(LIMIT) == [b.data[-1] for b in blobs]
        assert list(executor.map(tasks.same, blobs, timeout=LIMIT)) == blobs
        assert [f.result(LIMIT) for f in executor.submit_many(tasks.same, [(b,) for b in blobs])] == blobs


def test_a_buffer_that_is_found_before_pickle_fails_arrives_by_cloudpickle():
    blob, n = tasks.Blob(bytearray(100_000)), 5
    with pool() as executor:
        again, fn = executor.submit(tasks.same, (blob, lambda: n)).result(LIMIT)
        assert again == blob and fn() == 5


def test_a_buffer_that_is_not_contiguous_fails_its_task_alone():
    with pool() as executor:
        odd = tasks.Blob(memoryview(bytes(100_000))[::2])
        with pytest.raises((BufferError, pickle.PicklingError)):
            executor.submit(tasks.same, odd).result(LIMIT)
        assert executor.submit(tasks.same, 1).result(LIMIT) == 1


def test_a_buffer_is_what_it_was_at_the_submit(small_arenas):
    with pool() as executor:
        futures, data = [], bytearray(MIB)
        for i in range(20):  # more than the arena holds: some wait in the queue
            data[:] = bytes([i]) * MIB
            futures.append(executor.submit(tasks.same, tasks.Blob(data)))
        data[:] = bytes(MIB)
        data.extend(b"!")  # the pool holds no export of it
        assert [future.result(LIMIT).data for future in futures] == [bytes([i]) * MIB for i in range(20)]


def test_a_buffer_is_sent_again_when_its_worker_dies(tmp_path):
    with pool() as executor:
        blob = tasks.Blob(tasks.pattern(MIB, 3))
        future = executor.options(retries=1).submit(tasks.die_once, str(tmp_path / "died"), blob)
        assert future.result(LIMIT) == blob


@pytest.mark.parametrize("n", [SMALL, SMALL + 1, 2 * SMALL])
def test_a_buffer_larger_than_the_arena_fails_alone_and_says_so(small_arenas, n):
    with pool() as executor:
        with pytest.raises(MemoryError, match=str(SMALL)):
            executor.submit(tasks.same, tasks.Blob(bytes(n))).result(LIMIT)
        with pytest.raises(MemoryError, match=str(SMALL)):
            executor.submit(tasks.make_blob, n).result(LIMIT)
        assert executor.submit(tasks.make_blob, 100_000).result(LIMIT).data == bytes(100_000)


def test_unread_buffers_are_copied_out_when_their_memory_is_wanted(small_arenas):
    with pool() as executor:
        futures = [executor.submit(tasks.make_blob, MIB, i) for i in range(12)]
        wait_until(lambda: all_done(futures), "all results are there")
        assert [future.result(LIMIT).data for future in futures] == [tasks.pattern(MIB, i) for i in range(12)]
        with pytest.raises(WorkerDied):
            executor.submit(os._exit, 3).result(LIMIT)


# ---- unread results ----


def done_futures(executor: ProcessPoolExecutor, n: int, size: int) -> list:
    """Futures of n results, all there, none decoded."""
    futures = [executor.submit(tasks.pattern, size, seed) for seed in range(n)]
    wait_until(lambda: all_done(futures), "all results are there")
    return futures


def check(futures, size: int) -> None:
    for seed, future in enumerate(futures):
        assert future.result(LIMIT) == tasks.pattern(size, seed), f"result {seed} is not what it was"


@pytest.mark.parametrize("size", [400, 100_000, 5 * MIB])
def test_results_are_read_after_the_pool_was_shut_down(size):
    with pool(2) as executor:
        futures = [executor.submit(tasks.pattern, size, seed) for seed in range(8)]
    assert all_done(futures)
    check(futures, size)


def test_the_shared_memory_goes_with_the_last_result_that_lies_in_it():
    before = mapped()
    with pool() as executor:
        futures = done_futures(executor, 3, 100_000)
    assert mapped() > before
    assert futures[0].result(LIMIT) == tasks.pattern(100_000, 0)
    del futures[1]
    assert mapped() > before
    assert futures[1].result(LIMIT) == tasks.pattern(100_000, 2)
    assert mapped() == before


def test_the_shared_memory_goes_with_the_pool_where_nothing_lies_in_it():
    before = mapped()
    with pool() as executor:
        check(done_futures(executor, 3, 100_000), 100_000)
        assert mapped() > before
    assert mapped() == before


def test_results_are_read_after_the_pool_was_collected_as_garbage():
    executor = pool(2)
    futures = done_futures(executor, 8, 100_000)
    supervisor = executor._supervisor
    del executor
    gc.collect()
    for thread in supervisor._threads:
        thread.join(LIMIT)
        assert not thread.is_alive()
    del supervisor, thread
    gc.collect()
    check(futures, 100_000)


def test_results_that_were_pending_when_the_pool_became_garbage_are_read():
    executor = pool(2)
    futures = [executor.submit(tasks.pattern, 300_000, seed) for seed in range(20)]
    del executor
    gc.collect()
    check(futures, 300_000)


@pytest.mark.parametrize("how", ["kill_workers", "terminate_workers"])
def test_results_are_read_after_the_workers_were_ended(how):
    executor = pool(2)
    futures = done_futures(executor, 8, 100_000)
    getattr(executor, how)()
    executor.shutdown()
    check(futures, 100_000)


def test_results_are_read_after_their_worker_was_killed_and_its_successor_has_used_its_memory(small_arenas):
    with pool() as executor:
        futures = done_futures(executor, 3, 400_000)
        (old,) = living(executor)
        os.kill(old, signal.SIGKILL)
        wait_until(lambda: living(executor) and old not in living(executor), "the worker is replaced")
        for seed in range(100, 120):
            assert executor.submit(tasks.pattern, 400_000, seed).result(LIMIT) == tasks.pattern(400_000, seed)
        check(futures, 400_000)


def test_results_are_read_after_the_pool_broke():
    with pool(2, on_worker_death="break") as executor:
        futures = done_futures(executor, 8, 100_000)
        with pytest.raises(WorkerDied):
            executor.submit(os._exit, 3).result(LIMIT)
    check(futures, 100_000)


def test_two_threads_that_read_one_result_get_the_same_object():
    with pool() as executor:
        for seed in range(20):
            (future,) = done_futures(executor, 1, 100_000 + seed)
            both, found = threading.Barrier(4), []

            def read(future=future, both=both, found=found):
                both.wait(LIMIT)
                found.append(future.result(LIMIT))

            threads = [threading.Thread(target=read) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(LIMIT)
            assert len(found) == 4 and all(value is found[0] for value in found)


# ---- pages ----


def resident(executor: ProcessPoolExecutor) -> int:
    """Bytes that the system has given for the pool's shared memory."""
    executor._client.create()  # if it was not used before
    return os.fstat(executor._client.segment.memfd).st_blocks * 512


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_the_memory_of_large_payloads_is_given_back_but_for_what_is_kept_warm(arenas_of, method):
    arenas_of(64 * MIB)
    keep = 8 * MIB  # of each arena
    with pool(1, method) as executor:
        executor.submit(int).result(LIMIT)
        before = resident(executor)
        for _ in range(3):
            future = executor.submit(tasks.echo, bytes(30 * MIB))
            assert future.result(LIMIT) == (bytes(30 * MIB),)
            assert resident(executor) >= before + 30 * MIB  # the worker does not know that it has been read
            del future
            assert len(executor.submit(bytes, 1000).result(LIMIT)) == 1000  # needs a block: the worker learns of it
            assert resident(executor) <= before + 2 * keep + MIB
        assert resident(executor) >= before + keep  # and some is warm


def test_what_a_dead_worker_had_touched_is_given_back(arenas_of):
    arenas_of(256 * MIB)
    with pool(1) as executor:
        executor.submit(int).result(LIMIT)
        before = resident(executor)
        assert len(executor.submit(bytes, 20 * MIB).result(LIMIT)) == 20 * MIB
        assert resident(executor) >= before + 20 * MIB
        with pytest.raises(WorkerDied):
            executor.submit(os._exit, 3).result(LIMIT)
        assert executor.submit(int).result(LIMIT) == 0
        assert resident(executor) <= before + MIB


# ---- an arena that is too small for all ----


@pytest.mark.parametrize("size", [MIB // 2, MIB, 3 * MIB])
def test_results_that_exceed_the_arenas_are_all_held_until_they_are_read(small_arenas, size):
    with pool(2) as executor:
        futures = [executor.submit(tasks.pattern, size, seed) for seed in range(200 * MIB // size)]
        futures[-1].result(LIMIT)
        wait_until(lambda: all_done(futures), "all results are there")
        check(futures, size)


def test_results_that_exceed_the_arenas_do_not_hold_up_shutdown(small_arenas):
    with pool(2) as executor:
        futures = [executor.submit(tasks.pattern, MIB, seed) for seed in range(50)]
    check(futures, MIB)


def test_results_whose_futures_were_dropped_do_not_hold_up_the_pool(small_arenas):
    with pool(2) as executor:
        for seed in range(200):
            executor.submit(tasks.pattern, MIB, seed)
        assert executor.submit(tasks.pattern, MIB, 200).result(LIMIT) == tasks.pattern(MIB, 200)


def test_results_dropped_unread_by_the_thousand_give_their_blocks_back(small_arenas):
    n = 3000  # more than a return ring has places; three times as many blocks of 512 bytes as an arena has
    with pool() as executor:
        for _ in range(8):
            futures = [executor.submit(tasks.pattern, 400, seed) for seed in range(n)]
            futures[-1].result(LIMIT)
            wait_until(lambda futures=futures: all_done(futures), "all results are there")
            del futures
        for seed in range(8):  # the memory is whole again
            assert executor.submit(tasks.pattern, 3 * MIB, seed).result(LIMIT) == tasks.pattern(3 * MIB, seed)


def test_arguments_that_exceed_the_arena_wait_for_their_turn(small_arenas):
    with pool(2) as executor:
        futures = [executor.submit(tasks.consume, tasks.pattern(MIB, seed), seed) for seed in range(50)]
        for seed, future in enumerate(futures):
            assert future.result(LIMIT) == (*tasks.digest(tasks.pattern(MIB, seed)), seed)


def test_arguments_and_results_that_exceed_their_arenas_do_not_wait_for_each_other(small_arenas):
    with pool(2) as executor:
        values = [tasks.pattern(MIB, seed) for seed in range(40)]
        futures = [executor.submit(tasks.same, value) for value in values]
        wait_until(lambda: all_done(futures), "all results are there")
        assert [future.result(LIMIT) for future in futures] == values


def test_small_tasks_pass_behind_arguments_that_wait_for_memory(small_arenas):
    with pool() as executor:
        large = [executor.submit(tasks.consume, tasks.pattern(MIB, seed), seed) for seed in range(10)]
        small = [executor.submit(tasks.same, n) for n in range(2000)]
        assert [future.result(LIMIT) for future in small] == list(range(2000))
        assert [future.result(LIMIT)[2] for future in large] == list(range(10))


def test_arguments_that_wait_for_memory_can_be_cancelled(small_arenas, tmp_path):
    with pool() as executor:
        gate = executor.submit(await_file, str(tmp_path / "gate"))
        futures = [executor.submit(tasks.consume, tasks.pattern(MIB, seed), seed) for seed in range(20)]
        cancelled = [future for future in futures[5:] if future.cancel()]
        assert len(cancelled) == 15
        (tmp_path / "gate").touch()
        assert [future.result(LIMIT)[2] for future in futures[:5]] == list(range(5))
        gate.result(LIMIT)


@pytest.mark.parametrize("n", [SMALL, SMALL + 1, 40 * MIB])
def test_an_argument_larger_than_the_arena_fails_alone_and_says_so(small_arenas, n):
    with pool() as executor:
        before = executor.submit(tasks.same, tasks.pattern(MIB)).result(LIMIT)
        future = executor.submit(tasks.digest, tasks.pattern(n))
        error = future.exception(LIMIT)
        assert type(error) is MemoryError
        assert str(n)[:3] in str(error) and str(SMALL) in str(error) and "arguments" in str(error)
        assert executor.submit(tasks.same, tasks.pattern(MIB)).result(LIMIT) == before


def test_an_argument_that_only_an_empty_arena_could_hold_fails_or_arrives_and_the_pool_goes_on(small_arenas):
    data = tasks.pattern(3 * MIB)
    with pool() as executor:
        small = [executor.submit(tasks.consume, tasks.pattern(MIB, seed), seed) for seed in range(5)]
        future = executor.submit(tasks.digest, data)
        more = [executor.submit(tasks.consume, tasks.pattern(MIB, seed), seed) for seed in range(5, 10)]
        if future.exception(LIMIT) is None:
            assert future.result() == tasks.digest(data)
        else:  # the function itself lies there too
            assert type(future.exception()) is MemoryError
            assert str(3 * MIB)[:3] in str(future.exception()) and "shared memory" in str(future.exception())
        assert [each.result(LIMIT)[2] for each in small + more] == list(range(10))


@pytest.mark.parametrize("n", [SMALL, SMALL + 1, 40 * MIB])
def test_a_result_larger_than_the_arena_fails_alone_and_says_so(small_arenas, n):
    with pool() as executor:
        futures = done_futures(executor, 1, MIB)
        error = executor.submit(tasks.pattern, n).exception(LIMIT)
        assert type(error) is MemoryError
        assert str(n)[:3] in str(error) and str(SMALL) in str(error) and "result" in str(error)
        assert executor.submit(tasks.pattern, MIB, 1).result(LIMIT) == tasks.pattern(MIB, 1)
        check(futures, MIB)


def test_an_exception_larger_than_the_arena_fails_alone_and_says_so(small_arenas):
    with pool() as executor:
        error = executor.submit(tasks.throw_long, 2 * SMALL).exception(LIMIT)
        assert type(error) is MemoryError and str(SMALL) in str(error)
        assert executor.submit(tasks.same, 1).result(LIMIT) == 1


def test_map_over_arguments_larger_than_the_arena_raises_at_the_first_one(small_arenas):
    with pool() as executor:
        results = executor.map(tasks.digest, [b"small", tasks.pattern(SMALL), b"small"], timeout=LIMIT)
        assert next(results) == tasks.digest(b"small")
        with pytest.raises(MemoryError):
            next(results)


def test_a_result_that_is_being_read_stays_whole_while_its_memory_is_wanted(small_arenas, monkeypatch):
    with pool() as executor:
        first = executor.submit(tasks.gated, MIB, 1)
        wait_until(first.done, "the result is there")

        def fill() -> None:
            futures = [executor.submit(tasks.pattern, MIB, seed) for seed in range(2, 12)]
            wait_until(lambda: all_done(futures), "ten more results have passed through the same memory")

        monkeypatch.setattr(tasks, "at_the_gate", fill)
        passed, (data,) = first.result(LIMIT)
        assert passed == "passed"
        assert data == tasks.pattern(MIB, 1), "what was read is another task's result"


def test_a_result_that_is_being_read_stays_whole_while_its_worker_is_replaced(small_arenas, monkeypatch):
    with pool() as executor:
        first = executor.submit(tasks.gated, MIB, 1)
        wait_until(first.done, "the result is there")

        def replace() -> None:
            (old,) = living(executor)
            os.kill(old, signal.SIGKILL)
            wait_until(lambda: living(executor) and old not in living(executor), "the worker is replaced")
            for seed in range(2, 12):
                assert executor.submit(tasks.pattern, MIB, seed).result(LIMIT) == tasks.pattern(MIB, seed)

        monkeypatch.setattr(tasks, "at_the_gate", replace)
        assert first.result(LIMIT)[1] == [tasks.pattern(MIB, 1)]


@pytest.mark.parametrize("seed", range(4))
def test_futures_read_kept_and_dropped_at_random_from_several_threads_are_all_right(small_arenas, seed):
    failures = []
    kept = []

    def play(executor: ProcessPoolExecutor, number: int) -> None:
        rng = random.Random(seed * 100 + number)
        mine = []
        try:
            for turn in range(60):
                n, mark = rng.choice([10, 300, 5000, 200_000, MIB]), number * 1000 + turn
                if rng.random() < 0.5:
                    expected, future = tasks.pattern(n, mark), executor.submit(tasks.pattern, n, mark)
                else:
                    data = tasks.pattern(n, mark)
                    expected, future = (*tasks.digest(data), mark), executor.submit(tasks.consume, data, mark)
                fate = rng.choice(["read", "keep", "drop", "cancel", "keep past the end"])
                if fate == "read":
                    assert future.result(LIMIT) == expected
                elif fate == "cancel":
                    future.cancel()
                elif fate == "keep":
                    mine.append((future, expected))
                elif fate == "keep past the end":
                    kept.append((future, expected))
                if rng.random() < 0.1:
                    for future, expected in mine:
                        assert future.result(LIMIT) == expected
                    mine.clear()
        except BaseException as error:
            failures.append((number, error))

    with pool(2) as executor:
        threads = [threading.Thread(target=play, args=(executor, number)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        wait_until(lambda: executor._client.pending == 0, "all tasks are done")
        assert executor._client.segment.blocks == 2  # the two functions
    for future, expected in kept:
        assert future.result(LIMIT) == expected


# ---- blocks come back ----


def blocks_after(executor: ProcessPoolExecutor) -> int:
    wait_until(lambda: executor._client.pending == 0, "all tasks are done")
    gc.collect()
    return executor._client.segment.blocks


def test_the_arguments_of_tasks_that_are_done_take_no_blocks():
    with pool(2) as executor:
        executor.submit(tasks.digest, b"").result(LIMIT)
        base = executor._client.segment.blocks
        assert base == 1  # the function
        futures = [executor.submit(tasks.digest, tasks.pattern(n * 500, n)) for n in range(300)]
        for future in futures:
            future.result(LIMIT)
        assert executor._client.segment.blocks == base


def test_the_arguments_of_tasks_that_failed_or_were_cancelled_or_dropped_take_no_blocks():
    data = tasks.pattern(100_000)
    with pool() as executor:
        executor.submit(tasks.same, 1).result(LIMIT)
        executor.submit(tasks.throw, ValueError).exception(LIMIT)
        executor.submit(tasks.exit_with, 0, b"").exception(LIMIT)
        base = blocks_after(executor)
        assert base == 3
        for _ in range(10):
            assert executor.submit(tasks.throw, ValueError, data).exception(LIMIT).args == (data,)
        assert blocks_after(executor) == base
        with pytest.raises(WorkerDied):
            executor.submit(tasks.exit_with, 3, data).result(LIMIT)
        assert blocks_after(executor) == base
        for _ in range(50):
            executor.submit(tasks.same, data)
        assert blocks_after(executor) == base
        futures = [executor.submit(tasks.same, data) for _ in range(50)]
        for future in reversed(futures):
            future.cancel()
        del future, futures
        assert blocks_after(executor) == base
        assert isinstance(executor.submit(tasks.same, threading.Lock()).exception(LIMIT), TypeError)
        assert blocks_after(executor) == base


@pytest.mark.parametrize(
    "value",
    [1, tasks.pattern(1000), tasks.pattern(100_000), tasks.Blob(tasks.pattern(100_000))],
    ids=["in the slot", "in a block", "a stream", "a buffer"],
)
def test_arguments_that_were_encoded_when_the_board_proves_to_be_full_take_no_blocks_and_arrive(value, tmp_path):
    with pool() as executor:
        client = executor._client
        assert executor.submit(tasks.same, value).result(LIMIT) == value
        gate = executor.submit(await_file, tmp_path / "gate")
        with Words(client) as words:
            n_slots = words.layout.part("slot").count
            wait_until(lambda: gate.running() and words.board() == {"free": n_slots}, "the task at the gate")
        before = client.segment.blocks
        small = [executor.submit(tasks.same, n) for n in range(n_slots)]
        first, *others = [executor.submit(tasks.same, value) for _ in range(3)]
        counts = client.tasks.outstanding, client.pending, client.segment.blocks
        cancelled = others.pop().cancel()
        (tmp_path / "gate").touch()
        assert counts == (n_slots + 1, n_slots + 4, before) and cancelled
        assert [future.result(LIMIT) for future in [*small, first, *others]] == [*range(n_slots), value, value]
        del first, others
        assert blocks_after(executor) == before


def test_functions_by_value_take_no_more_than_128_blocks():
    with pool() as executor:
        for n in range(400):
            assert executor.submit(lambda n=n: n).result(LIMIT) == n
        assert blocks_after(executor) == 128


# ---- limits of the process ----


def run_script(tmp_path: Path, text: str, limit: float = LIMIT) -> str:
    """Runs a program in a session of its own, which is killed if it takes too long; its standard output."""
    script, output, errors = (tmp_path / name for name in ("script.py", "output", "errors"))
    script.write_text(text)
    with output.open("wb") as out, errors.open("wb") as err:
        process = subprocess.Popen(
            [sys.executable, str(script)],
            env=environment(PYTHONFAULTHANDLER="1", **WITHOUT_RESERVE),
            stdout=out,
            stderr=err,
            start_new_session=True,
        )
        try:
            code = process.wait(limit)
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGABRT)  # faulthandler prints its stacks
            process.wait(5)
            code = f"still running after {limit} s"
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    assert code == 0, f"{code}\n{output.read_text()}\n{errors.read_text()}"
    return output.read_text()


def run_limited(tmp_path: Path, limit: str, workers: int, method: str, body: str) -> str:
    """Runs `body` under a limit that `setrlimit` sets, with a pool called `executor`."""
    head = f"""
        import resource
        from multiprocessing import get_context

        import tasks_memory as tasks
        from ringpool import ProcessPoolExecutor

        MIB = 1 << 20

        if __name__ == "__main__":
            resource.setrlimit({limit})
            with ProcessPoolExecutor({workers}, get_context({method!r})) as executor:
    """
    return run_script(tmp_path, textwrap.dedent(head) + textwrap.indent(textwrap.dedent(body), " " * 8))


ANSWERS = """
    assert executor.submit(pow, 2, 10).result(30) == 1024
    data = tasks.pattern(MIB // 4, 1)
    assert executor.submit(tasks.same, data).result(30) == data
    assert list(executor.map(tasks.same, [data] * 40, timeout=30)) == [data] * 40
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("workers", [1, 2, 8])
def test_a_pool_works_where_the_address_space_is_limited(tmp_path, workers, method):
    run_limited(tmp_path, "resource.RLIMIT_AS, (1 << 30, 1 << 30)", workers, method, ANSWERS)


@pytest.mark.parametrize("mib", [600, 1100, 1300, 1600, 2100, 2200, 2400])
def test_under_any_limit_of_the_address_space_there_is_room_left_for_work(tmp_path, mib):
    run_limited(tmp_path, f"resource.RLIMIT_AS, ({mib} * MIB, {mib} * MIB)", 1, "forkserver", ANSWERS)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
@pytest.mark.parametrize("mib", [16, 1000])
def test_a_limit_of_the_size_of_files_leaves_a_pool_that_works(tmp_path, mib, method):
    run_limited(tmp_path, f"resource.RLIMIT_FSIZE, ({mib} * MIB, resource.RLIM_INFINITY)", 2, method, ANSWERS)


@pytest.mark.parametrize("mib", [10, 40, 100])
def test_a_limit_of_shared_memory_holds_and_nothing_is_lost(mib):
    """Whatever is under way, unread, kept in use, or left by dead workers."""
    with pool(2, shared_memory_limit=mib * MIB) as executor:
        size = executor._client.segment.sizes[2] // 3
        most = 0
        kept = []

        def look() -> None:
            nonlocal most
            most = max(most, os.fstat(executor._client.segment.memfd).st_blocks * 512)

        for i in range(6):
            futures = [executor.submit(tasks.same, tasks.Blob(tasks.pattern(size, seed))) for seed in range(12)]
            futures += [executor.submit(tasks.make_blob, size // 2, seed) for seed in range(12)]
            for seed, future in enumerate(futures):
                n, seed = (size, seed) if seed < 12 else (size // 2, seed - 12)
                look()
                assert future.result(LIMIT) == tasks.Blob(tasks.pattern(n, seed))
                if seed == i:
                    kept.append((future.result(), n, seed))
            with pytest.raises(WorkerDied):
                executor.submit(os._exit, 3).result(LIMIT)
            look()
        assert all(value == tasks.Blob(tasks.pattern(n, seed)) for value, n, seed in kept)
        assert MIB < most <= mib * MIB
        for n in (mib * MIB // 2, mib * MIB):
            for future in (executor.submit(len, bytes(n)), executor.submit(bytes, n)):
                with pytest.raises(MemoryError, match=rf"takes? {str(n)[:3]}\d+ bytes.*shared_memory_limit"):
                    future.result(LIMIT)


@pytest.mark.parametrize("mib", [64, 1000, 24 << 10, 4 << 20])
@pytest.mark.parametrize("workers", [1, 2, 16, 1024])
def test_without_a_limit_half_of_the_memory_is_shared_out(monkeypatch, workers, mib):
    monkeypatch.setattr(machine, "usable_memory", lambda: mib * MIB)
    arena, parent, worker, overflow = budget.sizes(workers)
    # What all may fill at a time, and the half of an arena that each dead worker may leave in use.
    most = _core.fixed_bytes(workers) + parent + workers * worker + (_core.arenas(workers) - 2 - workers) * worker // 2
    most += overflow
    least = _core.fixed_bytes(workers) + (3 * workers + 1) * MIB
    assert most <= max(mib * MIB // 2, least)
    assert most >= 0.99 * mib * MIB // 2 and worker >= MIB // 2 and parent >= workers * worker
    assert overflow >= 0.49 * parent
    assert arena >= min(4 * parent, 64 << 30)


def test_a_payload_of_nearly_half_the_limit_arrives_and_a_result_of_a_workers_share_comes_back():
    with pool(2, shared_memory_limit=64 * MIB) as executor:
        data = tasks.pattern(30 * MIB, 1)
        assert executor.submit(tasks.digest, data).result(LIMIT) == tasks.digest(data)
        assert executor.submit(tasks.length, tasks.Blob(data)).result(LIMIT) == 30 * MIB
        for make in (tasks.pattern, tasks.make_blob):
            assert executor.submit(make, 8 * MIB, 2).result(LIMIT) == make(8 * MIB, 2)
        assert os.fstat(executor._client.segment.memfd).st_blocks * 512 <= 64 * MIB


def test_a_limit_of_shared_memory_that_cannot_be_is_refused():
    for limit in (-1, 0, 1, 3 * MIB):
        with pytest.raises(
            ValueError, match=rf"shared_memory_limit={limit} is too small for 2 worker processes: .*least \d+$"
        ):
            ProcessPoolExecutor(2, shared_memory_limit=limit)
    for limit in (1.5, "1G"):
        with pytest.raises(TypeError, match="shared_memory_limit must be an integer"):
            ProcessPoolExecutor(2, shared_memory_limit=limit)  # type: ignore[arg-type]
    with ProcessPoolExecutor(1, shared_memory_limit=1 << 60) as executor:
        assert executor.submit(len, b"x" * MIB).result(LIMIT) == MIB


def test_a_collector_that_has_no_memory_for_a_copy_goes_on_serving(tmp_path):
    body = """
        import resource
        import threading
        import time
        from multiprocessing import get_context
        from pathlib import Path

        import tasks_memory as tasks
        from ringpool import ProcessPoolExecutor, budget

        MIB = 1 << 20
        budget.sizes = lambda *_: (4 * MIB, 4 * MIB, 4 * MIB, 0)

        with ProcessPoolExecutor(1, get_context("fork")) as executor:
            executor.submit(pow, 2, 10).result(20)
            used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (used + 30 * MIB, resource.RLIM_INFINITY))
            futures = [executor.submit(tasks.pattern, MIB, seed) for seed in range(300)]
            done, since = 0, time.monotonic()
            while time.monotonic() < since + 1:  # until nothing has come for a second: memory for copies has run out
                if done != sum(future.done() for future in futures):
                    done, since = sum(future.done() for future in futures), time.monotonic()
                time.sleep(0.01)
            assert done < 300
            right, told = 0, threading.Event()
            for seed in range(300):
                try:
                    right += len(futures[seed].result(20)) == MIB
                except MemoryError:
                    pass
                futures[seed] = None
            executor.submit(pow, 2, 10).add_done_callback(lambda _: told.set())
            assert told.wait(20), "the collector is gone"
            assert right > 0
    """
    run_script(tmp_path, textwrap.dedent(body))


def test_what_a_limit_does_not_allow_at_all_is_an_os_error_that_names_ringpool(tmp_path):
    body = """
        import resource
        from ringpool import ProcessPoolExecutor

        def main():
            limits = resource.getrlimit(resource.RLIMIT_NOFILE)
            with ProcessPoolExecutor(1) as executor:
                def use_map(fn):
                    executor.map(fn, [1])

                def use_many(fn):
                    executor.submit_many(fn, [[1]])

                for use in executor.submit, executor.share, use_map, use_many:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))
                    try:
                        use(abs)
                    except OSError as error:
                        print(error)
                    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
                assert executor.submit(pow, 2, 10).result(30) == 1024

        if __name__ == "__main__":  # the fork server's workers import this
            main()
    """
    told = run_script(tmp_path, textwrap.dedent(body))
    assert told.splitlines() == ["[Errno 24] ringpool: cannot create the pool's shared memory: Too many open files"] * 4
