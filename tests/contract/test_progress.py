"""progress: how many items of a map are done, as a bar or by a function."""

from __future__ import annotations

import functools
import itertools
import sys
import threading
import time

import pytest
import tasks_map as tasks
from pools import pool
from test_map import WAIT_S, runs
from waiting import wait_until

import ringpool
from ringpool import progress


def test_a_function_is_told_what_is_done_and_what_there_is():
    told = []
    with pool(2) as executor:
        results = executor.map(
            tasks.sleep_if, range(100), [0.005] * 100, progress=lambda done, total: told.append((done, total))
        )
        assert list(results) == list(range(100))
    counts = [done for done, _ in told]
    assert counts == sorted(counts) and len(set(counts)) > 2
    assert {total for _, total in told} == {100}
    assert told[-1] == (100, 100)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("buffersize", [None, 5, "auto"])
def test_where_the_items_do_not_say_how_many_they_are_the_last_call_does(buffersize, ordered):
    told = []
    with pool(2) as executor:
        results = executor.map(
            tasks.square,
            iter(range(2000)),
            buffersize=buffersize,
            ordered=ordered,
            progress=lambda *args: told.append(args),
        )
        assert sorted(results) == sorted(i * i for i in range(2000))
    assert {total for _, total in told[:-1]} == {None}
    assert told[-1] == (2000, 2000)


def test_a_slow_iterable_does_not_keep_the_progress_back():
    told = []

    def slow():
        """Gives items until progress has been told of one that is done."""
        deadline = time.monotonic() + WAIT_S
        for i in itertools.count():
            if (told and told[-1][0] > 0) or time.monotonic() > deadline:
                return
            time.sleep(0.01)
            yield i

    with pool(2) as executor:
        results = executor.map(tasks.square, slow(), progress=lambda *args: told.append(args))
        assert told[-1][0] > 0
        n = sum(1 for _ in results)
        assert told[-1] == (n, n)


def test_more_items_than_an_index_can_count_have_no_total():
    told = []
    with pool(2) as executor:
        results = executor.map(
            tasks.square, range(10**30), buffersize=1, progress=lambda done, total: told.append((done, total))
        )
        assert [next(results) for _ in range(3)] == [0, 1, 4]
        results.close()
    assert {total for _, total in told} <= {None}


def test_the_bar_of_a_map_that_is_dropped_is_closed(monkeypatch):
    closed = []
    monkeypatch.setattr(progress.Meter, "close", lambda self: closed.append(self))
    with pool(2) as executor:
        for read in (0, 1):
            results = executor.map(tasks.square, range(10), progress=lambda *args: None)
            for _ in range(read):
                next(results)
            del results
            assert len(closed) == read + 1


def test_what_progress_raises_the_iterator_raises_even_if_it_is_stop_iteration():
    reading = threading.Event()

    def stop(done, total):
        if done and reading.is_set():
            raise StopIteration

    with pool(2) as executor:
        results = executor.map(tasks.sleep_if, range(100), [0.005] * 100, progress=stop)
        reading.set()
        with pytest.raises(RuntimeError, match="StopIteration"):
            list(results)


def test_the_shortest_of_several_iterables_says_how_many():
    told = []
    with pool(2) as executor:
        list(executor.map(tasks.pair, range(7), "abcde", progress=lambda *args: told.append(args)))
        assert told[-1] == (5, 5) and {total for _, total in told} == {5}
        list(executor.map(tasks.square, [], progress=lambda *args: told.append(args)))
        assert told[-1] == (0, 0)


def test_items_are_counted_one_by_one_though_they_travel_together(tmp_path):
    """The item at the gate lets 50 of its chunk before it be done, and none behind it."""
    (tmp_path / "runs").mkdir()
    told = []
    fn = functools.partial(tasks.note_and_wait_on, str(tmp_path / "runs"), 50, str(tmp_path / "gate"), 0.0)
    with pool(1) as executor:
        results = executor.map(fn, range(100), chunksize=100, progress=lambda *args: told.append(args), timeout=WAIT_S)
        reader = threading.Thread(target=list, args=(results,))
        reader.start()
        wait_until(lambda: 50 in runs(tmp_path / "runs"), "the item at the gate")
        n = len(told)
        wait_until(lambda: len(told) > n + 1, "another call")
        assert told[-1] == (50, 100)
        (tmp_path / "gate").touch()
        reader.join()
    assert told[-1] == (100, 100)


def test_true_draws_a_bar(capsys):
    with pool(2) as executor:
        assert list(executor.map(tasks.square, range(300), progress=True)) == [i * i for i in range(300)]
        assert "300/300" in capsys.readouterr().err
        assert len(list(executor.map(tasks.square, iter(range(300)), progress=True))) == 300
        assert "300/300" in capsys.readouterr().err
        with pytest.raises(LookupError):
            # The last ones are not read.
            list(executor.map(functools.partial(tasks.fail_on, 3), range(10), progress=True, buffersize=1))
        assert "10/10" not in capsys.readouterr().err


def test_without_tqdm_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "tqdm.auto", None)
    with pool(1) as executor:
        with pytest.raises(ImportError, match=r"pip install 'ringpool\[progress\]'"):
            executor.map(tasks.square, range(3), progress=True)
        assert list(executor.map(tasks.square, range(3), progress=False)) == [0, 1, 4]


def test_what_is_no_function_is_refused():
    with pool(1) as executor, pytest.raises(TypeError, match="progress must be"):
        executor.map(tasks.square, range(3), progress="yes")


def test_what_the_function_raises_ends_the_map(tmp_path):
    reading = threading.Event()

    def stop(done, total):
        if done and reading.is_set():
            raise LookupError(done)

    with pool(1) as executor:
        fn = functools.partial(tasks.note, str(tmp_path))
        results = executor.map(fn, range(100_000), progress=stop, chunksize=1, buffersize=100)
        reading.set()
        with pytest.raises(LookupError):
            list(results)
        with pytest.raises(StopIteration):
            next(results)
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9
    assert len(runs(tmp_path)) < 100_000


def test_a_subclass_that_sees_every_task_is_counted_too():
    told = []

    class Own(ringpool.ProcessPoolExecutor):
        def submit(self, fn, /, *args, **kwargs):
            return super().submit(fn, *args, **kwargs)

    with Own(1) as executor:
        results = executor.map(tasks.square, range(10), chunksize=3, progress=lambda *args: told.append(args))
        assert list(results) == [i * i for i in range(10)]
    assert told[-1] == (10, 10)


def test_options_take_it_along():
    told = []
    with pool(1) as executor:
        view = executor.options(retries=1)
        assert list(view.map(tasks.square, range(10), progress=lambda *args: told.append(args))) == [
            i * i for i in range(10)
        ]
    assert told[-1] == (10, 10)
