"""Results that their worker's arena cannot hold: they are lent room in the overflow, all come to their turn, and what
is lent comes back, even if a borrower dies, gives up or keeps it."""

from __future__ import annotations

import gc
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import CancelledError, wait

import pytest
import tasks_views as tasks
from files import await_file
from limits import LIMIT
from pools import pool
from programs import environment
from waiting import await_borrowers, collector_held_up, kill_one, wait_until
from words import Words

from ringpool import ProcessPoolExecutor, WorkerDied

MIB = 1 << 20
SHARE, OVERFLOW = MIB, 8 * MIB
N = 3 * MIB  # more than a worker has of its own; two of them take up the overflow, for blocks are whole powers of two


@pytest.fixture(autouse=True)
def _arenas(arenas_of):
    arenas_of(SHARE, OVERFLOW)


def blocks(executor: ProcessPoolExecutor) -> int:
    gc.collect()
    return executor._client.segment.blocks_lent


def no_blocks(executor: ProcessPoolExecutor) -> None:
    """A loan that was not made use of ends with the next result; so each worker has one."""
    executor.submit(abs, -1).result(LIMIT)
    wait_until(lambda: blocks(executor) == 0, "the end of all loans")


def filled(n: int, seed: int) -> bytes:
    return bytes(tasks.filled(n, seed))


def touched(executor: ProcessPoolExecutor) -> int:
    executor._client.create()  # if it was not used before
    return os.fstat(executor._client.segment.memfd).st_blocks * 512


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_results_of_all_kinds_that_are_larger_than_a_workers_share_arrive(method):
    with pool(2, method) as executor:
        assert executor.submit(bytes, N).result(LIMIT) == bytes(N)
        assert executor.submit(tasks.text, N).result(LIMIT) == tasks.text(N)
        value = executor.submit(tasks.make, N // 4, N // 2, 20_000, N // 4, seed=5).result(LIMIT)
        assert [tasks.crc(each) for each in value.buffers] == [
            tasks.crc(each) for each in tasks.make(N // 4, N // 2, 20_000, N // 4, seed=5).buffers
        ]
        del value
        with pytest.raises(LookupError) as caught:
            executor.submit(tasks.fail_with, SHARE // 2).result(LIMIT)  # it goes with its traceback and its repr()
        assert caught.value.args == ("x" * (SHARE // 2),)
        del caught
        assert blocks(executor) == 0


@pytest.mark.parametrize("chunksize", [1, 3, 10])
def test_items_whose_results_are_larger_than_a_workers_share_arrive(chunksize):
    sizes = [N, 10, N, N, 0, 3000, N, SHARE, SHARE // 2, N]
    with pool(2) as executor:
        assert [len(each) for each in executor.map(bytes, sizes, chunksize=chunksize, timeout=LIMIT)] == sizes
        futures = executor.submit_many(tasks.filled, [(n, i) for i, n in enumerate(sizes)], chunksize=chunksize)
        assert [f.result(LIMIT) for f in futures] == [tasks.filled(n, i) for i, n in enumerate(sizes)]
        del futures
        no_blocks(executor)


def test_its_buffers_are_ones_own_and_are_free_with_the_last_of_them():
    with pool(2) as executor:
        value = executor.submit(tasks.make, N // 4, N // 4).result(LIMIT)
        first, second = map(memoryview, value.buffers)
        assert not first.readonly
        first[:] = bytes(N // 4)
        assert tasks.crc(second) == tasks.crc(tasks.filled(N // 4, 1))
        assert blocks(executor) == 1
        del value, first
        assert blocks(executor) == 1
        assert tasks.crc(second) == tasks.crc(tasks.filled(N // 4, 1))
        del second
        assert blocks(executor) == 0


def test_more_than_there_is_room_for_wait_for_each_other_and_unread_ones_are_copied_out():
    with pool(4) as executor:
        futures = [executor.submit(tasks.filled, N, i) for i in range(20)]
        assert not wait(futures, LIMIT).not_done  # though none has been read
        assert touched(executor) <= OVERFLOW + 5 * SHARE + 5 * MIB
        for i, future in enumerate(futures):
            assert future.result() == tasks.filled(N, i)
        del futures, future
        no_blocks(executor)


def test_a_large_one_has_its_turn_however_many_small_ones_there_are():
    over = threading.Event()

    def go_on(executor: ProcessPoolExecutor) -> None:
        while not over.is_set():
            executor.submit(bytes, SHARE + 1).result(LIMIT)

    with pool(4) as executor:
        threads = [threading.Thread(target=go_on, args=(executor,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for i in range(10):
                assert executor.submit(tasks.filled, OVERFLOW - 1000, i).result(LIMIT) == tasks.filled(
                    OVERFLOW - 1000, i
                )
        finally:
            over.set()
            for thread in threads:
                thread.join()
        no_blocks(executor)


def test_one_that_is_larger_than_the_overflow_or_than_what_is_left_of_it_fails_alone_and_says_so():
    with pool(2) as executor:
        for make in (bytes, tasks.make):
            text = rf"takes 8\d+ bytes, more than the {OVERFLOW} bytes .* for a result .see shared_memory_limit"
            with pytest.raises(MemoryError, match=text):
                executor.submit(make, OVERFLOW + 1).result(LIMIT)
        value = executor.submit(tasks.make, N).result(LIMIT)
        for make in (bytes, tasks.make):
            with pytest.raises(MemoryError, match=rf"allocate 7\d+ bytes.*program still uses.*{SHARE}.*{OVERFLOW}"):
                executor.submit(make, 7 * MIB).result(LIMIT)
        assert len(executor.submit(bytes, N).result(LIMIT)) == N
        with pytest.raises(MemoryError, match="program still uses"):
            list(executor.map(bytes, [5, 7 * MIB], chunksize=2, timeout=LIMIT))
        assert tasks.crc(value.buffers[0]) == tasks.crc(tasks.filled(N, 0))
        del value
        assert len(executor.submit(bytes, 7 * MIB).result(LIMIT)) == 7 * MIB
        no_blocks(executor)


def test_what_is_kept_never_uses_up_the_overflow():
    with pool(2) as executor:
        kept = [executor.submit(tasks.make, SHARE + 1, seed=i).result(LIMIT) for i in range(12)]
        assert 0 < blocks(executor) <= 2  # half of it; the others are copies
        assert len(executor.submit(bytes, N).result(LIMIT)) == N
        for i, value in enumerate(kept):
            assert tasks.crc(value.buffers[0]) == tasks.crc(tasks.filled(SHARE + 1, i))
        del kept, value
        no_blocks(executor)


def test_it_outlives_its_worker_unread_or_in_use_and_the_executor():
    with pool(1) as executor:
        value = executor.submit(tasks.make, N).result(LIMIT)
        unread = executor.submit(tasks.filled, N, 7)
        wait_until(unread.done, "the result")
        with pytest.raises(WorkerDied):
            executor.submit(os._exit, 3).result(LIMIT)
        assert unread.result(LIMIT) == tasks.filled(N, 7)
        assert executor.submit(tasks.filled, N, 8).result(LIMIT) == tasks.filled(N, 8)
        assert blocks(executor) == 1
        last = executor.submit(tasks.filled, N, 9)
    assert last.result() == tasks.filled(N, 9)
    assert tasks.crc(value.buffers[0]) == tasks.crc(tasks.filled(N, 0))


def test_a_fork_of_the_program_has_what_lay_there():
    with pool(1) as executor:
        value = executor.submit(tasks.make, N // 2, N // 4).result(LIMIT)
        crcs = [tasks.crc(each) for each in value.buffers]
        child = os.fork()
        if child == 0:
            os._exit(0 if [tasks.crc(each) for each in value.buffers] == crcs else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert [tasks.crc(each) for each in value.buffers] == crcs


def test_a_result_of_a_chunk_that_lies_in_a_loan_when_its_worker_dies_is_not_lost():
    with pool(1) as executor:
        results = executor.map(tasks.fill_or_die, [N, 0, 5, N], chunksize=4, timeout=LIMIT)
        assert next(results) == tasks.filled(N, N)
        with pytest.raises(WorkerDied):
            next(results)
        view = executor.options(retries=1)
        results = view.map(tasks.fill_or_die, [N, 5, N], chunksize=3, timeout=LIMIT)
        assert list(results) == [tasks.filled(n, n) for n in (N, 5, N)]
        no_blocks(executor)


def test_a_task_that_is_ended_while_it_waits_for_a_loan_leaves_it_to_others():
    with pool(1) as executor:
        with collector_held_up(executor):
            for _ in range(3):
                waiting = executor.submit(bytes, N)
                await_borrowers(executor, 1)
                assert waiting.cancel(running=True)
                wait_until(waiting.done, "the end of the task")
                with pytest.raises(CancelledError):
                    waiting.result(0)
        # It may ask for memory of its own, which is not a loan of that size, and for loans.
        for n in (SHARE * 2 // 5, N):
            futures = [executor.submit(tasks.filled, n, i) for i in range(6)]
            assert not wait(futures, LIMIT).not_done
            assert [future.result() for future in futures] == [tasks.filled(n, i) for i in range(6)]
        del futures
        no_blocks(executor)


def test_no_borrower_waits_for_the_loan_of_a_worker_that_has_no_use_for_it_and_asks_for_another(tmp_path):
    """A value that changes while its worker waits for a loan has to be written in another way."""
    with pool(2) as executor:
        for i in range(3):
            paths = [tmp_path / f"{i}.{k}" for k in range(2)]
            with collector_held_up(executor):
                futures = [executor.submit(tasks.make_growing, str(path), 5 * MIB) for path in paths]
                await_borrowers(executor, 2)
                for path in paths:
                    path.touch()
                for path in paths:
                    await_file(f"{path}.grown")
            for future in futures:
                (data,) = future.result(LIMIT)
                assert len(data) == 5 * MIB + 1000
        del futures, future, data
        no_blocks(executor)


def test_a_worker_that_is_killed_while_it_waits_for_a_loan_leaves_it_to_others(tmp_path):
    with pool(2) as executor:
        with collector_held_up(executor):
            waiting = [executor.submit(tasks.note_and_make, str(tmp_path / str(i)), N) for i in range(2)]
            await_borrowers(executor, 2)
            os.kill(int((tmp_path / "0").read_text()), signal.SIGKILL)
            wait_until(waiting[0].done, "the recovery")
        assert type(waiting[0].exception()) is WorkerDied
        assert len(waiting[1].result(LIMIT)) == N
        assert executor.submit(tasks.filled, N, 1).result(LIMIT) == tasks.filled(N, 1)
        waiting.clear()
        no_blocks(executor)


@pytest.mark.deadline(300)
@pytest.mark.parametrize("seed", range(3))
def test_at_random(seed):
    """Results of all sizes and forms, kept, dropped and cancelled, while workers are killed."""
    chance = random.Random(seed)
    pending, kept = [], []

    def check(number: int, n: int, value: tasks.Buffers | list[bytearray]) -> None:
        (data,) = value.buffers if isinstance(value, tasks.Buffers) else value
        assert tasks.crc(data) == tasks.crc(tasks.filled(n, number))

    def take_one(executor: ProcessPoolExecutor) -> None:
        number, n, future = pending.pop(chance.randrange(len(pending)))
        error = future.exception(LIMIT)
        if error is not None:
            assert type(error) is MemoryError and n > OVERFLOW // 2, error  # so much may be kept at most
            return
        check(number, n, future.result())
        if chance.random() < 0.5:
            kept.append((number, n, future.result()))
        if len(kept) > 6:
            check(*kept.pop(chance.randrange(len(kept))))

    with pool(3) as executor:
        view = executor.options(retries=100)
        for number in range(300):
            n = chance.choice([20_000, SHARE // 2, SHARE + 1, N, N, 5 * MIB, OVERFLOW - 1000])
            if chance.random() < 0.3:
                pending.append((number, n, view.submit(tasks.make, n, seed=number)))
            else:
                pending.append((number, n, view.submit(tasks.make_compact, n, number)))
            if chance.random() < 0.1:
                pending.pop(chance.randrange(len(pending)))[2].cancel(running=chance.random() < 0.5)
            if chance.random() < 0.1:
                kill_one(executor, chance)
            while len(pending) > 12:
                take_one(executor)
        while pending:
            take_one(executor)
        kept.clear()
        for process in executor._supervisor.processes:
            os.kill(process.pid, signal.SIGKILL)  # what they borrowed and made no use of
        wait_until(lambda: blocks(executor) + executor._client.results.blocks_of_workers == 0, "no blocks")


def test_an_item_whose_result_lies_in_a_loan_holds_up_no_borrower_while_the_next_one_runs(tmp_path):
    with pool(2) as executor:
        path = tmp_path / "go on"
        first, second = executor.submit_many(tasks.make_or_wait, [(2 * MIB,), (str(path),)], chunksize=2)
        assert len(first.result(LIMIT)) == 2 * MIB
        assert len(executor.submit(bytes, 7 * MIB).result(LIMIT)) == 7 * MIB
        path.touch()
        assert second.result(LIMIT) is None


def test_the_wait_for_a_loan_does_not_count_as_time_of_the_task():
    with pool(2) as executor:
        with collector_held_up(executor), Words(executor._client) as words:
            timed = executor.options(timeout=LIMIT).submit(bytes, N)
            await_borrowers(executor, 1)
            (worker,) = [words.worker(w) for w in range(words.n_workers) if words.worker(w)["loan_bytes"]]
            assert worker["started_ns"] == 0  # the clock has stopped
        assert len(timed.result(LIMIT)) == N


def test_a_fork_while_a_worker_waits_goes_its_own_way():
    """Where results are taken in, user code may run; here it forks, while a worker waits for a loan."""
    script = """
        import os
        import signal
        from multiprocessing import get_context
        from ringpool import ProcessPoolExecutor, budget
        from waiting import await_borrowers, collector_held_up, wait_until

        MIB = 1 << 20
        budget.sizes = lambda *_: (32 * MIB, MIB, MIB, 8 * MIB)
        parent = os.getpid()
        child = 0

        class Forks:
            def __call__(self):
                return 1
            def __reduce__(self):
                return Harmless, ()
            def __del__(self):
                global child
                if os.getpid() == parent and not child:
                    child = os.fork()
                    if child == 0:
                        signal.alarm(20)

        class Harmless:
            def __call__(self):
                return 1

        with ProcessPoolExecutor(3, get_context("fork")) as executor:
            with collector_held_up(executor):
                waiting = executor.submit(bytes, 3 * MIB)
                await_borrowers(executor, 1)
            future = executor.submit(Forks())
            try:
                assert future.result(20) == 1
            except RuntimeError:
                assert os.getpid() != parent
            if os.getpid() != parent:
                os._exit(7)
            assert len(waiting.result(20)) == 3 * MIB
            wait_until(lambda: child, "the fork")
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, 7), code  # 0: it was the collector's thread that forked
    """
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(),
    )
    assert (done.returncode, done.stderr) == (0, "")
