"""Objects shared with all tasks: encoded once, decoded once a worker, and gone with the last handle."""

from __future__ import annotations

import contextlib
import copy
import functools
import gc
import os
import pickle
import random
import sys
import threading
import time
import types
import weakref
from concurrent.futures import wait

import optional
import pytest
import tasks_share as tasks
from files import await_file
from limits import FREE_THREADED, LIMIT
from pools import pool
from tasks_views import Buffers, crc, filled
from waiting import kill_one, wait_until
from words import Words

from ringpool import Shared, WorkerDied

MIB = 1 << 20


def no_blocks_but(executor, n: int) -> None:
    gc.collect()
    wait_until(lambda: executor._client.segment.blocks == n, f"{n} blocks, not {executor._client.segment.blocks}")


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_tasks_see_the_object_wherever_the_handle_is(method):
    table = {i: str(i) for i in range(1000)}
    with pool(2, method) as executor:
        shared = executor.share(table)
        assert type(shared) is Shared
        assert executor.submit(tasks.same, shared).result(LIMIT) == table
        assert executor.submit(tasks.same, [1, (shared, {"x": shared})]).result(LIMIT) == [1, (table, {"x": table})]
        assert executor.submit(tasks.same, {1, 2}, more=shared).result(LIMIT) == ({1, 2}, table)
        assert executor.submit(functools.partial(tasks.look_up, shared), 7).result(LIMIT) == "7"
        assert executor.submit(lambda i: shared[i], 8).result(LIMIT) == "8"
        assert list(executor.map(tasks.look_up, [shared] * 50, range(50))) == [str(i) for i in range(50)]
        assert list(executor.map(functools.partial(tasks.look_up, shared), range(50))) == [str(i) for i in range(50)]
        assert list(executor.map(lambda i: shared[i], range(50))) == [str(i) for i in range(50)]
        futures = executor.submit_many(tasks.look_up, [(shared, i) for i in range(50)])
        assert [future.result(LIMIT) for future in futures] == [str(i) for i in range(50)]
        assert executor.options(retries=1).submit(tasks.look_up, shared, 9).result(LIMIT) == "9"
        long = "x" * 100_000  # in a block
        assert executor.submit(tasks.same, (long, shared)).result(LIMIT) == (long, table)


def test_several_shared_objects_may_be_arguments_of_one_task():
    with pool(2) as executor:
        shared = [executor.share(["object", i]) for i in range(5)]
        assert executor.submit(tasks.same, shared).result(LIMIT) == [["object", i] for i in range(5)]
        within = executor.share({"other": shared[0], "own": 1})
        del shared
        assert executor.submit(tasks.same, within).result(LIMIT) == {"other": ["object", 0], "own": 1}


def kind_of(value):
    return type(value).__name__


@pytest.mark.parametrize("value", [None, 0, "text", b"bytes" * 10_000, (), {"a": [1, 2]}, lambda: 5], ids=kind_of)
def test_any_argument_can_be_shared(value):
    with pool(2) as executor:
        again = executor.submit(tasks.same, executor.share(value)).result(LIMIT)
        assert again() == 5 if callable(value) else (type(again) is type(value) and again == value)


def test_it_is_decoded_once_a_worker():
    with pool(2) as executor:
        shared = executor.share(tasks.Counted())
        counts = {executor.submit(tasks.count_of, shared).result(LIMIT) for _ in range(100)}
        counts |= set(executor.map(tasks.count_of, [shared] * 100))
        assert {count for _, count in counts} == {1} and len(counts) <= 2


def test_its_buffers_cannot_be_written_to_and_lie_in_memory_once():
    with pool(1) as executor:
        data = filled(8 * MIB, 3)
        executor._client.create()
        before = os.fstat(executor._client.segment.memfd).st_blocks * 512
        shared = executor.share(Buffers(data))
        assert shared.nbytes > 8 * MIB and str(shared.nbytes) in repr(shared)
        for _ in range(20):
            assert executor.submit(tasks.sum_up, shared).result(LIMIT) == (True, crc(data))
        assert os.fstat(executor._client.segment.memfd).st_blocks * 512 - before < 9 * MIB
        data[:] = bytes(8 * MIB)  # what is shared is what it was
        assert executor.submit(tasks.sum_up, shared).result(LIMIT) == (True, crc(filled(8 * MIB, 3)))


def test_arrays_are_shared():
    np = optional.module("numpy")
    with pool(2) as executor:
        values = np.arange(100_000.0)
        shared = executor.share({"values": values, "name": "x"})
        assert executor.submit(tasks.column, shared, "values").result(LIMIT) == (float(values.sum()), False)


def test_it_goes_when_the_handle_and_its_tasks_are_gone(tmp_path):
    gate = tmp_path / "gate"
    with pool(2) as executor:
        executor.submit(tasks.hold, 0, str(tmp_path)).result(LIMIT)
        first = executor._client.segment.blocks
        shared = executor.share(Buffers(filled(MIB, 1)))
        assert executor._client.segment.blocks == first + 2
        futures = [executor.submit(tasks.hold, shared, str(gate)) for _ in range(4)]
        del shared
        gc.collect()
        assert executor._client.segment.blocks == first + 2
        gate.touch()
        assert [future.result(LIMIT) for future in futures] == [crc(filled(MIB, 1))] * 4
        no_blocks_but(executor, first)  # though the workers, asleep, had it
        executor.share(Buffers(filled(MIB, 1)))  # never used
        no_blocks_but(executor, first)


@pytest.mark.parametrize("how", ["map", "submit_many", "dropped map", "cancelled", "queued"])
def test_it_stays_for_tasks_of_every_kind_and_no_longer(how, tmp_path):
    gate = tmp_path / "gate"
    with pool(1) as executor:
        executor.submit(tasks.look_up, [0], 0).result(LIMIT)
        executor.submit(await_file, str(tmp_path)).result(LIMIT)
        first = executor._client.segment.blocks
        waiting = executor.submit(await_file, str(gate))  # what comes after it queues
        if how == "map":
            results = executor.map(tasks.look_up, [executor.share(list(range(100)))] * 100, range(100))
            gate.touch()
            assert list(results) == list(range(100))
            del results
        elif how == "submit_many":
            futures = executor.submit_many(tasks.look_up, [(executor.share([i]), 0) for i in range(20)])
            gate.touch()
            assert [future.result(LIMIT) for future in futures] == list(range(20))
            del futures
        elif how == "dropped map":
            results = executor.map(tasks.look_up, [executor.share([1])] * 100, [0] * 100)
            gate.touch()
            next(results)
            results.close()
            del results
        elif how == "cancelled":
            assert executor.submit(tasks.look_up, executor.share([1]), 0).cancel()
            gate.touch()
        else:
            shared = executor.share([7])
            futures = [executor.submit(tasks.look_up, shared, 0) for _ in range(3000)]
            del shared
            gate.touch()
            assert {future.result(LIMIT) for future in futures} == {7}
        waiting.result(LIMIT)
        no_blocks_but(executor, first)


def test_what_a_task_keeps_of_it_keeps_its_memory():
    with pool(1) as executor:
        for fn in (tasks.keep, tasks.kept, tasks.sleep):
            executor.submit(fn, 0).result(LIMIT)
        first = executor._client.segment.blocks
        executor.submit(tasks.keep, executor.share(Buffers(filled(MIB, 1)))).result(LIMIT)
        for i in range(20):  # these must not be put where it lies
            executor.submit(tasks.sleep, 0).result(LIMIT)
            executor.share(Buffers(filled(MIB, 2 + i)))
        assert executor.submit(tasks.kept, 1).result(LIMIT) == crc(filled(MIB, 1))
        assert executor._client.segment.blocks > first
        executor.submit(tasks.keep, 0).result(LIMIT)
        no_blocks_but(executor, first)


def test_workers_yet_to_come_have_it_and_those_that_are_gone_do_not_keep_it():
    with pool(1) as executor:
        executor.submit(tasks.sleep, 0).result(LIMIT)
        shared = executor.share(Buffers(filled(MIB, 1)))
        seen = set()
        for _ in range(3):
            assert executor.submit(tasks.sum_up, shared).result(LIMIT) == (True, crc(filled(MIB, 1)))
            seen.add(executor.submit(os.getpid).result(LIMIT))
            with pytest.raises(WorkerDied):
                executor.submit(tasks.die, shared).result(LIMIT)
        assert len(seen) == 3
        del shared
        no_blocks_but(executor, 4)  # the functions
        shared = executor.share(Buffers(filled(MIB, 1)))
        executor.submit(tasks.keep, shared).result(LIMIT)
        del shared
        with pytest.raises(WorkerDied):
            executor.submit(tasks.die, 0).result(LIMIT)
        no_blocks_but(executor, 5)


def test_a_worker_that_is_gone_keeps_no_object_that_was_within_another():
    with pool(1) as executor:
        for fn in (tasks.keep, tasks.die):
            executor.submit(fn, 0).exception(LIMIT)
        functions = executor._client.segment.blocks
        inner = executor.share([1])
        outer = executor.share(types.SimpleNamespace(buffers=[Buffers(filled(MIB, 1)), inner]))
        executor.submit(tasks.keep, outer).result(LIMIT)
        del inner, outer
        with pytest.raises(WorkerDied):
            executor.submit(tasks.die, 0).result(LIMIT)
        no_blocks_but(executor, functions)


def test_recycled_workers_have_it():
    with pool(2, "forkserver", max_tasks_per_child=2) as executor:
        shared = executor.share(Buffers(filled(MIB, 1)))
        futures = [executor.submit(tasks.sum_up, shared) for _ in range(20)]
        assert [future.result(LIMIT) for future in futures] == [(True, crc(filled(MIB, 1)))] * 20


def test_a_handle_is_good_for_its_own_pool_only():
    with pool(1) as executor, pool(1) as other:
        shared = executor.share([1])
        for argument in (shared, [shared], ({1}, shared)):
            with pytest.raises(ValueError, match="shared object of another pool"):
                other.submit(tasks.same, argument).result(LIMIT)
        with pytest.raises(ValueError, match="shared object of another pool"):
            list(other.map(tasks.same, [shared]))
        assert executor.submit(tasks.same, shared).result(LIMIT) == [1]
        for fail in (pickle.dumps, copy.deepcopy):
            with pytest.raises(TypeError, match="an argument of a task of its pool"):
                fail(shared)
        with pytest.raises(TypeError, match=r"use ProcessPoolExecutor\.share"):
            Shared()


def test_what_cannot_be_shared_says_why(arenas_of):
    arenas_of(4 * MIB)
    with pool(1) as executor:
        with pytest.raises(TypeError, match="lock"):
            executor.share(threading.Lock())
        with pytest.raises(MemoryError, match=r"5\d+ bytes.*4194304 bytes"):
            executor.share(bytes(5 * MIB))
        shared = executor.share(bytes(MIB))
        assert executor.submit(len, shared).result(LIMIT) == MIB
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.share(1)
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit(len, shared)


def test_an_object_that_does_not_decode_fails_its_tasks_alone():
    with pool(1) as executor:
        executor.submit(tasks.sleep, 0).result(LIMIT)
        shared = executor.share(tasks.Undecodable())
        for _ in range(3):
            with pytest.raises(ArithmeticError, match="not here"):
                executor.submit(tasks.sleep, shared).result(LIMIT)
        assert executor.submit(tasks.sleep, 0).result(LIMIT) is None
        del shared
        no_blocks_but(executor, 1)


def test_a_pool_within_a_task_shares_for_itself():
    with pool(1) as executor:
        shared = executor.share([5])
        assert executor.submit(tasks.share_in_a_pool_of_ones_own, shared).result(LIMIT) == ([5], [6])


def test_it_is_shared_through_options_and_after_the_executors_fork():
    with pool(1) as executor:
        shared = executor.options(timeout=10).share([3])
        assert executor.options(timeout=10).submit(tasks.same, shared).result(LIMIT) == [3]
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                with pytest.raises(RuntimeError, match="needs one of its own"):
                    executor.share(1)
                del shared
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(pid, 0)[1] == 0
        assert executor.submit(tasks.same, shared).result(LIMIT) == [3]


def test_a_future_is_whole_when_its_shared_object_goes(tmp_path):
    seen = []
    gate = tmp_path / "gate"
    with pool(1) as executor:

        def look(what: str, futures: list) -> None:
            (future,) = futures
            seen.append((what, future.done(), future.cancelled(), future.exception(0) if what == "done" else None))

        for what in ("done", "cancelled"):
            shared, futures = executor.share([what]), []
            weakref.finalize(shared, look, what, futures)
            if what == "cancelled":
                waiting = executor.submit(await_file, str(gate))
            futures.append(executor.submit(tasks.same, shared))
            del shared
            if what == "done":
                assert futures[0].result(LIMIT) == [what]
            else:
                assert futures[0].cancel()
                gate.touch()
                waiting.result(LIMIT)
            wait_until(lambda what=what: what in (each[0] for each in seen), "the end of the object")
    assert seen == [("done", True, False, None), ("cancelled", True, True, None)]


@pytest.mark.skipif(FREE_THREADED, reason="no other thread may take its turn: for that there has to be a GIL")
def test_what_goes_while_a_task_is_sent_may_send_another(arenas_of):
    """A task finds no room; what workers have let go of is freed for it; with that goes a handle that is within it."""
    arenas_of(4 * MIB)
    interval = sys.getswitchinterval()
    sent = []
    with pool(1) as executor, Words(executor._client) as words:
        for i in range(20):
            inner = executor.share([i])
            weakref.finalize(inner, lambda i=i: sent.append(executor.submit(tasks.same, i)))
            outer = executor.share((inner, Buffers(filled(5 * MIB // 2, i))))
            del inner
            executor.submit(tasks.same, (outer, 0)).result(LIMIT)
            executor.submit(tasks.sleep, 0).result(LIMIT)
            try:
                sys.setswitchinterval(LIMIT)  # the collector's thread is not to free it
                before = words.worker(0)["releases"]
                del outer
                deadline = time.monotonic() + LIMIT
                while words.worker(0)["releases"] == before:  # without a pause, in which others would run
                    assert time.monotonic() < deadline
                future = executor.submit(tasks.same, Buffers(filled(5 * MIB // 2, 7)))
            finally:
                sys.setswitchinterval(interval)
            assert crc(future.result(LIMIT).buffers[0]) == crc(filled(5 * MIB // 2, 7))
            assert [each.result(LIMIT) for each in sent] == [i]
            sent.clear()


@pytest.mark.parametrize("what", ["task", "long bytes", "share"])
def test_the_memory_of_an_object_whose_handle_is_gone_is_there_for_the_next(what, arenas_of):
    """Though the worker has it until it finds out."""
    arenas_of(4 * MIB)
    size = 5 * MIB // 2  # there is room for one
    with pool(1) as executor:
        executor.submit(tasks.sum_up, executor.share(Buffers(filled(size, 0)))).result(LIMIT)
        executor.submit(len, b"").result(LIMIT)
        for i in range(30):
            shared = executor.share(Buffers(filled(size, i)))
            future = executor.submit(tasks.sum_up, shared)
            del shared
            if what == "task":
                again = executor.submit(tasks.same, Buffers(filled(size, i))).result(LIMIT)
                assert crc(again.buffers[0]) == crc(filled(size, i))
            elif what == "long bytes":
                assert executor.submit(len, bytes(size)).result(LIMIT) == size
            assert future.result(LIMIT) == (True, crc(filled(size, i)))


def test_the_memory_of_arguments_that_no_task_needs_any_more_is_there_for_an_object(arenas_of):
    """Though no thread has looked whether their task is answered."""
    arenas_of(4 * MIB)
    interval = sys.getswitchinterval()
    with pool(1) as executor, Words(executor._client) as words:
        executor.submit(len, b"").result(LIMIT)
        for i in range(10):
            future = executor.submit(len, bytes(3 * MIB))
            try:
                sys.setswitchinterval(LIMIT)  # the collector is not to look either
                deadline = time.monotonic() + LIMIT
                while words.worker(0)["results written"] < i + 2:
                    assert time.monotonic() < deadline
                shared = executor.share(Buffers(filled(5 * MIB // 2, i)))
            finally:
                sys.setswitchinterval(interval)
            assert future.result(LIMIT) == 3 * MIB
            del shared


def test_an_object_that_a_task_keeps_does_not_hold_up_those_for_which_it_leaves_no_room(arenas_of):
    arenas_of(4 * MIB)
    size = 5 * MIB // 2
    with pool(1) as executor:
        executor.submit(tasks.keep, executor.share(Buffers(filled(size, 0)))).result(LIMIT)
        for _ in range(3):
            with pytest.raises(MemoryError):
                executor.share(Buffers(filled(size, 0)))
            with pytest.raises(MemoryError):
                executor.submit(tasks.same, Buffers(filled(size, 0))).result(LIMIT)
        executor.submit(tasks.keep, 0).result(LIMIT)
        assert executor.submit(len, bytes(size)).result(LIMIT) == size


def test_a_task_that_waits_for_memory_gets_that_of_an_object_without_handles(arenas_of, tmp_path):
    """The other worker is busy meanwhile, and the program does not wait for a result, so nothing else moves it up."""
    arenas_of(4 * MIB)
    size = 5 * MIB // 2
    with pool(2) as executor, Words(executor._client) as words:
        executor.submit(tasks.same, 0).result(LIMIT)
        shared = executor.share(Buffers(filled(size, 0)))
        busy = executor.submit(await_file, str(tmp_path / "gate"))
        wait_until(busy.running, "the busy task")
        future = executor.submit(tasks.same, Buffers(filled(size, 1)))
        assert executor._client.pending == 2 and executor._client.tasks.outstanding == 1
        assert not wait([future], 0).done
        wait_until(lambda: words.shared()["collector sleeps"], "the collector to have looked")
        del shared
        assert wait([future], LIMIT).done
        assert not busy.done()
        (tmp_path / "gate").touch()
        assert crc(future.result(LIMIT).buffers[0]) == crc(filled(size, 1))


def test_nothing_is_left_of_what_a_worker_kept_when_the_pool_has_ended():
    gone = []
    with pool(1) as executor:
        inner = executor.share([1])
        weakref.finalize(inner, gone.append, "inner")
        weakref.finalize(executor._client, gone.append, "client")
        outer = executor.share(types.SimpleNamespace(buffers=[Buffers(filled(MIB, 1)), inner]))
        executor.submit(tasks.keep, outer).result(LIMIT)
        del inner, outer
        gc.collect()
        assert gone == []
    del executor
    gc.collect()
    assert gone == ["inner", "client"]


@pytest.mark.deadline(300)
@pytest.mark.parametrize("seed", range(3))
def test_at_random(seed):
    """Objects are shared, used and let go by several threads, while workers die."""
    chance = random.Random(seed)
    failures = []
    with pool(2) as executor:
        done = threading.Event()

        def use(seed: int) -> None:
            chance = random.Random(seed)
            handles = []
            try:
                while not done.is_set():
                    if len(handles) < 3 or chance.random() < 0.2:
                        n, key = chance.choice([10, 20_000, 300_000]), chance.randrange(1000)
                        handles.append((executor.share(Buffers(filled(n, key))), crc(filled(n, key))))
                    shared, expected = handles.pop(chance.randrange(len(handles)))
                    future = executor.submit(tasks.sum_up, shared)
                    if chance.random() < 0.7:
                        handles.append((shared, expected))
                    del shared
                    with contextlib.suppress(WorkerDied):
                        assert future.result(LIMIT)[1] == expected
            except BaseException as error:
                failures.append(error)
                raise

        threads = [threading.Thread(target=use, args=(seed * 10 + i,)) for i in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(6):
            time.sleep(0.2)
            kill_one(executor, chance)
        done.set()
        for thread in threads:
            thread.join(LIMIT)
        assert not failures
        no_blocks_but(executor, 1)
