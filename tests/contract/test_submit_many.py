"""submit_many: futures of items that travel in chunks, each its own master."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import random
import signal
import threading
import weakref
from concurrent.futures.process import BrokenProcessPool

import pytest
import tasks_map as tasks
from compiling import extension
from limits import NO_MEMORY_IS_SURVIVED
from pools import pool
from test_map import WAIT_S, each_chunksize, ready, runs
from waiting import wait_until

import ringpool


def outcome(future: concurrent.futures.Future) -> object:
    """The result, or the type of what was raised."""
    try:
        return future.result(WAIT_S)
    except (Exception, concurrent.futures.CancelledError) as error:
        return type(error)


@pytest.fixture
def at_gate(tmp_path):
    """A pool of one, 100 calls in chunks of 10, and the fourth, which waits until it is let go."""
    (tmp_path / "runs").mkdir()
    gate = tmp_path / "gate"
    fn = functools.partial(tasks.note_and_wait_on, str(tmp_path / "runs"), 3, str(gate), 0.0)
    with pool(1) as executor:
        futures = executor.submit_many(fn, ((i,) for i in range(100)), chunksize=10)
        wait_until(lambda: 3 in runs(tmp_path / "runs"), "the call at the gate")
        yield executor, futures, gate.touch
        gate.touch()


# ---- the results ----


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
@pytest.mark.parametrize("n", [1, 3])
def test_every_call_has_its_result(n, method):
    with pool(n, method) as executor:
        for size in (0, 1, 2, 5, 100, 20_000):
            futures = executor.submit_many(tasks.square, zip(range(size)))
            assert [future.result(WAIT_S) for future in futures] == [i * i for i in range(size)]
            assert all(future.done() and not future.running() for future in futures)


@each_chunksize
def test_values_of_every_kind_and_size_come_through(chunksize):
    values = [None, 1.5, "a", {"a": [1, 2]}, [1, {2: 3}], bytes(100_000), {1, 2}, 1 << 100, (), "b" * 70_000] * 20
    with pool(2) as executor:
        futures = executor.submit_many(tasks.pair, [(value, i) for i, value in enumerate(values)], chunksize=chunksize)
        assert [future.result(WAIT_S) for future in futures] == [(value, i) for i, value in enumerate(values)]


def test_arguments_may_be_any_iterables():
    with pool(1) as executor:
        futures = executor.submit_many(tasks.pair, iter([[1, 2], "ab", range(2)]))
        assert [future.result(WAIT_S) for future in futures] == [(1, 2), ("a", "b"), (0, 1)]
        with pytest.raises(TypeError, match="iterable"):
            executor.submit_many(tasks.square, [(1,), 2])
        with pytest.raises(ValueError, match="chunksize"):
            executor.submit_many(tasks.square, [(1,)], chunksize=0)
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9


@each_chunksize
def test_each_future_raises_what_its_own_call_raised(chunksize):
    with pool(2) as executor:
        fn = functools.partial(tasks.fail_on, 50)
        outcomes = [outcome(f) for f in executor.submit_many(fn, zip(range(100)), chunksize=chunksize)]
        assert outcomes == [*range(50), LookupError, *range(51, 100)]
        args = [(threading.Lock() if i == 50 else i,) for i in range(100)]
        futures = executor.submit_many(tasks.echo, args, chunksize=chunksize)
        assert [outcome(f) for f in futures] == [*range(50), TypeError, *range(51, 100)]


def test_a_function_that_cannot_be_sent_is_every_futures_error():
    lock = threading.Lock()
    with pool(1) as executor:
        futures = executor.submit_many(lambda x: lock, zip(range(3)))
        assert [outcome(f) for f in futures] == [TypeError] * 3


def test_what_the_arguments_raise_cancels_what_has_not_started(tmp_path):
    def arguments():
        yield from zip(range(5000))
        raise LookupError("no more")

    with pool(1) as executor:
        with pytest.raises(LookupError, match="no more"):
            executor.submit_many(functools.partial(tasks.note, str(tmp_path)), arguments())
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9
        n = len(runs(tmp_path))
        assert n < 5000
    assert len(runs(tmp_path)) == n


# ---- watched futures ----


def test_callbacks_waiters_and_asyncio_are_told():
    async def gather(futures):
        return await asyncio.gather(*map(asyncio.wrap_future, futures))

    with pool(2) as executor:
        told = []
        futures = executor.submit_many(tasks.sleep_at_random, zip(range(300)))
        for future in futures:
            future.add_done_callback(lambda future: told.append(future.result()))
        assert {f.result() for f in concurrent.futures.as_completed(futures, WAIT_S)} == set(range(300))
        wait_until(lambda: len(told) == 300, "the callbacks")
        assert sorted(told) == list(range(300))
        futures = executor.submit_many(tasks.sleep_at_random, zip(range(300)))
        assert len(concurrent.futures.wait(futures, WAIT_S).done) == 300
        futures = executor.submit_many(tasks.sleep_at_random, zip(range(300)))
        assert asyncio.run(asyncio.wait_for(gather(futures), WAIT_S)) == list(range(300))


def test_threads_may_wait_for_different_calls():
    with pool(2) as executor, concurrent.futures.ThreadPoolExecutor(8) as threads:
        futures = executor.submit_many(tasks.sleep_at_random, zip(range(400)))
        assert list(threads.map(lambda f: f.result(WAIT_S), futures)) == list(range(400))


def test_the_futures_need_not_be_kept(tmp_path):
    executor = pool(2)
    executor.submit_many(functools.partial(tasks.note, str(tmp_path)), zip(range(3000)))
    executor.shutdown()
    assert runs(tmp_path) == dict.fromkeys(range(3000), 1)


# ---- cancellation ----


def test_what_runs_is_running_and_what_is_behind_it_is_not(at_gate):
    _, futures, go = at_gate
    assert futures[3].running()
    assert not futures[3].cancel()
    assert not any(future.running() or future.done() for future in futures[4:])
    go()
    assert [future.result(WAIT_S) for future in futures] == list(range(100))


@pytest.mark.parametrize("order", ["forwards", "backwards", "at random"])
def test_any_call_that_has_not_begun_can_be_cancelled_and_never_runs(order, at_gate, tmp_path):
    """In the chunk that runs, on the board, in the queue, and not yet sent."""
    _, futures, go = at_gate
    chosen = [5, 6, 9, 10, 12, 19, 25, 26, 27, 28, 38, 50, 51, 98, 99]
    if order == "backwards":
        chosen.reverse()
    elif order == "at random":
        random.Random(1).shuffle(chosen)
    for i in chosen:
        assert futures[i].cancel()
        assert futures[i].cancelled() and futures[i].cancel()
    go()
    want = [concurrent.futures.CancelledError if i in chosen else i for i in range(100)]
    assert [outcome(future) for future in futures] == want
    assert runs(tmp_path / "runs") == {i: 1 for i in range(100) if i not in chosen}


@each_chunksize
@pytest.mark.parametrize("seed", range(2))
def test_cancels_while_they_run_leave_each_run_once_or_cancelled(seed, chunksize, tmp_path):
    rng = random.Random(seed)
    gate, folder = tmp_path / "gate", tmp_path / "runs"
    folder.mkdir()
    with pool(2) as executor:
        for _ in range(2):  # both workers are busy, until something is cancelled
            executor.submit(tasks.wait_for, str(gate))
        futures = executor.submit_many(
            functools.partial(tasks.note, str(folder)), zip(range(3000)), chunksize=chunksize
        )
        chosen = rng.sample(range(3000), 1000)
        cancelled = set()
        for i in chosen:
            if futures[i].cancel():
                cancelled.add(i)
                gate.touch()
        outcomes = [outcome(future) for future in futures]
    assert outcomes == [concurrent.futures.CancelledError if i in cancelled else i for i in range(3000)]
    assert runs(folder) == {i: 1 for i in range(3000) if i not in cancelled}
    assert cancelled


def test_all_may_be_cancelled(at_gate, tmp_path):
    _, futures, go = at_gate
    assert [future.cancel() for future in futures] == [False] * 4 + [True] * 96
    assert len(concurrent.futures.wait(futures[4:], WAIT_S).done) == 96
    go()
    assert [future.result(WAIT_S) for future in futures[:4]] == [0, 1, 2, 3]
    assert set(runs(tmp_path / "runs")) == {0, 1, 2, 3}


@pytest.mark.parametrize("grace", [10.0, 0.0], ids=["it ends by itself", "its worker is killed"])
def test_a_call_that_runs_can_be_ended_alone(grace, tmp_path):
    (tmp_path / "runs").mkdir()
    fn = functools.partial(tasks.note_and_wait_on, str(tmp_path / "runs"), 3, str(tmp_path / "never"), 0.0)
    with pool(1) as executor:
        futures = executor.options(grace=grace).submit_many(fn, zip(range(100)), chunksize=10)
        wait_until(lambda: 3 in runs(tmp_path / "runs"), "the call that does not end")
        assert futures[3].cancel(running=True)
        assert futures[3].cancel()  # will be
        want = [concurrent.futures.CancelledError if i == 3 else i for i in range(100)]
        assert [outcome(future) for future in futures] == want
    assert runs(tmp_path / "runs") == dict.fromkeys(range(100), 1)


@pytest.mark.parametrize("n", [1, 4])
def test_a_call_that_has_run_for_long_is_ended_though_others_lie_behind_it(n, tmp_path):
    """So long that its result comes as a part of its chunk, before the end of it."""
    (tmp_path / "runs").mkdir()
    fn = functools.partial(tasks.note_and_wait_on, str(tmp_path / "runs"), n - 1, str(tmp_path / "never"), 0.0)
    with pool(1) as executor:
        futures = executor.submit_many(fn, zip(range(8)), chunksize=8)
        wait_until(lambda: n - 1 in runs(tmp_path / "runs"), "the call that does not end")
        threading.Event().wait(0.05)
        assert futures[n - 1].cancel(running=True)
        want = [concurrent.futures.CancelledError if i == n - 1 else i for i in range(8)]
        assert [outcome(future) for future in futures] == want


def test_a_limit_of_time_holds_for_each_call():
    with pool(2) as executor:
        view = executor.options(timeout=2, grace=10)
        futures = view.submit_many(tasks.sleep_if, [(i, 30 if i % 10 == 3 else 0) for i in range(30)])
        want = [ringpool.TaskTimeout if i % 10 == 3 else i for i in range(30)]
        assert [outcome(future) for future in futures] == want


# ---- deaths, and the end of the pool ----


def test_every_call_may_end_in_a_death():
    """So nothing is drained that would have the next ones sent."""
    with pool(1) as executor:
        futures = executor.submit_many(os._exit, [(3,)] * 8, chunksize=1)
        assert [outcome(future) for future in futures] == [ringpool.WorkerDied] * 8
        view = executor.options(timeout=0.05, grace=0)
        futures = view.submit_many(tasks.never_end, [()] * 5)
        assert [outcome(future) for future in futures] == [ringpool.TaskTimeout] * 5


@each_chunksize
def test_a_death_costs_the_call_that_ran(chunksize, tmp_path):
    fn = functools.partial(tasks.note_and_die_once, str(tmp_path), 50)
    with pool(2) as executor:
        outcomes = [outcome(f) for f in executor.submit_many(fn, zip(range(100)), chunksize=chunksize)]
    assert outcomes == [ringpool.WorkerDied if i == 50 else i for i in range(100)]
    assert runs(tmp_path) == dict.fromkeys(range(100), 1)


@pytest.mark.parametrize("seed", range(3))
def test_workers_killed_at_random_cost_one_call_each(seed):
    rng = random.Random(seed)
    with pool(2) as executor:
        futures = executor.submit_many(tasks.sleep_at_random, zip(range(2000)))
        kills = 0
        while not all(future.done() for future in futures):
            pids = ready(executor)
            if pids and kills < 20:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(rng.choice(pids), signal.SIGKILL)
                    kills += 1
            threading.Event().wait(0.02)
        outcomes = [outcome(future) for future in futures]
    lost = [i for i, got in enumerate(outcomes) if got is ringpool.WorkerDied]
    assert [got for i, got in enumerate(outcomes) if i not in lost] == [i for i in range(2000) if i not in lost]
    assert len(lost) <= kills


def test_where_a_death_breaks_the_pool_every_future_says_so():
    with pool(1, on_worker_death="break") as executor:
        # So few that they are submitted before any other thread can see the death, and break the pool.
        futures = executor.submit_many(functools.partial(tasks.die_on, 50), zip(range(500)), chunksize=10)
        outcomes = [outcome(future) for future in futures]
    assert outcomes[:50] == list(range(50))
    assert all(issubclass(got, concurrent.futures.process.BrokenProcessPool) for got in outcomes[60:])


def test_shutdown_may_cancel_what_has_not_started(at_gate):
    executor, futures, go = at_gate
    told = []
    futures[99].add_done_callback(told.append)
    executor.shutdown(wait=False, cancel_futures=True)
    assert all(future.cancelled() for future in futures[4:])
    go()
    executor.shutdown()
    assert [outcome(future) for future in futures[:4]] == [0, 1, 2, 3]
    assert told == [futures[99]]


class ShortOfMemory:
    """A client whose n-th allocation at a recovery fails."""

    def __init__(self, client, nth: int) -> None:
        self.client = client
        self.nth = nth
        self.memory = extension("short_of_memory")

    def __getattr__(self, name: str):
        return getattr(self.client, name)

    def begin_recovery(self, w: int):
        begin_recovery = self.client.begin_recovery
        self.memory.fail_nth(self.nth)
        try:
            return begin_recovery(w)
        finally:
            self.memory.fail_none()


@pytest.mark.parametrize("nth", range(1, 9))
def test_a_recovery_without_memory_loses_no_call(nth):
    fn = functools.partial(tasks.die_on, 5)
    with pool(1) as executor:
        wait_until(lambda: executor.submit(int).result(WAIT_S) == 0 and ready(executor), "the worker")
        executor._supervisor.client = ShortOfMemory(executor._client, nth)
        futures = executor.submit_many(fn, zip(range(10)), chunksize=10)
        outcomes = [outcome(future) for future in futures]
    lost = {MemoryError, ringpool.WorkerDied, BrokenProcessPool}
    assert all(found in lost or (i != 5 and found == i) for i, found in enumerate(outcomes))


@pytest.mark.skipif(not NO_MEMORY_IS_SURVIVED, reason="CPython does not survive it: gh-152125")
def test_a_call_for_which_the_queue_has_no_memory_fails_and_no_other_does(tmp_path):
    """Whichever allocation of a submit_many fails, also that of a new block of the queue: one for 256 tasks."""
    memory = extension("short_of_memory")
    gate = tmp_path / "gate"
    (tmp_path / "runs").mkdir()
    with pool(1) as executor:
        client = executor._client
        at_gate = executor.submit(tasks.note_and_wait_on, str(tmp_path / "runs"), 3, str(gate), 0.0, 3)
        wait_until(lambda: 3 in runs(tmp_path / "runs"), "the call at the gate")
        before = []
        while client.pending == client.tasks.outstanding:  # until the board is full
            before.append(executor.submit(abs, -1))
        pending, failed = [], []
        while len(pending) < 256:
            for nth in range(1, 100):
                memory.fail_nth(nth)
                try:
                    (future,) = executor.submit_many(abs, [(-2,)])
                except MemoryError:
                    continue
                finally:
                    memory.fail_none()
                if not future.done():
                    pending.append(future)
                    break
                failed.append(future)
        gate.touch()
        assert at_gate.result(WAIT_S) == 3
        assert {outcome(future) for future in before} == {1}
        assert {outcome(future) for future in pending} == {2}
        assert {outcome(future) for future in failed} == {MemoryError}


def test_workers_that_are_killed_fail_what_they_ran_and_the_rest_is_cancelled(at_gate):
    executor, futures, _ = at_gate
    executor.kill_workers()
    outcomes = [outcome(future) for future in futures]
    assert outcomes[3] is ringpool.WorkerDied
    assert outcomes[:3] == [0, 1, 2]
    assert set(outcomes[4:]) == {concurrent.futures.CancelledError}


def test_no_pool_that_is_shut_down_takes_any():
    executor = pool(1)
    executor.shutdown()
    with pytest.raises(RuntimeError, match="shutdown"):
        executor.submit_many(tasks.square, [(1,)])


def test_a_subclass_sees_every_call():
    seen = []

    class Counting(ringpool.ProcessPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            seen.append(args)
            return super().submit(fn, *args, **kwargs)

    with Counting(1) as executor:
        assert [f.result(WAIT_S) for f in executor.submit_many(tasks.square, zip(range(5)))] == [0, 1, 4, 9, 16]
    assert seen == [(i,) for i in range(5)]


# ---- code of the user's in between ----


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("cancel", [True, False])
def test_arguments_may_shut_the_pool_down_as_they_are_encoded(wait, cancel):
    class Closes:
        def __reduce__(self):
            executor.shutdown(wait=wait, cancel_futures=cancel)
            return int, (9,)

    for place in (0, 700):
        with pool(1) as executor:
            args = [(i,) for i in range(700)]
            args.insert(place, (Closes(),))
            with pytest.raises(RuntimeError, match="shutdown"):
                executor.submit_many(tasks.echo, args)


@pytest.mark.parametrize("chunksize", [None, 100])
def test_what_gives_the_arguments_may_end_the_pool(chunksize):
    def gives(end):
        yield (2,)
        yield (3,)
        end()

    with pool(1) as executor:
        futures = executor.submit_many(tasks.square, gives(executor.shutdown), chunksize=chunksize)
        assert [outcome(future) for future in futures] == [4, 9]
    with pool(1, on_worker_death="break") as executor:
        broken = concurrent.futures.process.BrokenProcessPool
        futures = executor.submit_many(
            tasks.square, gives(lambda: executor.submit(os._exit, 1).exception()), chunksize=chunksize
        )
        for got, want in zip([outcome(future) for future in futures], [4, 9], strict=True):
            assert got == want or issubclass(got, broken)


def test_what_a_dropped_future_runs_sees_the_others_done():
    got = []
    with pool(1) as executor:
        futures = executor.submit_many(tasks.square, zip(range(10)), chunksize=10)
        others = futures[1:]
        watch = weakref.ref(futures[0], lambda _: got.append(others[0].result(WAIT_S)))
        futures.clear()
        assert others[-1].result(WAIT_S) == 81
        wait_until(lambda: got == [1], "the callback")
        assert watch() is None


def test_slow_arguments_do_not_keep_the_workers_waiting(tmp_path):
    """The pool runs each call before the next has been given."""

    def gives():
        for i in range(5):
            yield (i,)
            wait_until(lambda i=i: i in runs(tmp_path), "the call that has been given")

    with pool(2) as executor:
        futures = executor.submit_many(functools.partial(tasks.note, str(tmp_path)), gives())
        assert [future.result(WAIT_S) for future in futures] == list(range(5))


def test_callbacks_may_submit_more():
    done = threading.Event()
    with pool(2) as executor:

        def again(future):
            more = executor.submit_many(tasks.square, zip(range(10)))
            more[-1].add_done_callback(lambda future: done.set())

        executor.submit_many(tasks.square, zip(range(10)))[-1].add_done_callback(again)
        assert done.wait(WAIT_S)


def test_arguments_may_use_the_pool_as_they_are_encoded():
    with pool(1) as executor:

        class Uses:
            def __reduce__(self):
                (future,) = executor.submit_many(tasks.square, [(4,)])
                return int, (future.result(WAIT_S),)

        futures = executor.submit_many(tasks.echo, [(Uses(),) for _ in range(20)])
        assert [future.result(WAIT_S) for future in futures] == [16] * 20


def test_in_a_forked_child_the_futures_are_refused(at_gate):
    _, futures, go = at_gate
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            for ask in (futures[50].result, futures[50].cancel, futures[50].running, futures[3].done):
                with pytest.raises(RuntimeError, match="forked"):
                    ask()
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    go()
    assert [future.result(WAIT_S) for future in futures] == list(range(100))
