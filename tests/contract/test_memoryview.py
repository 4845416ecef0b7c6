"""A memoryview arrives as one: the same elements in the same shape, in memory that is the receiver's own."""

from __future__ import annotations

import copyreg
import functools
import gc
import hashlib
import io
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest
import tasks_libraries as tasks
from limits import LIMIT
from pools import pool
from tasks_libraries import MEMORYVIEWS, Record, facts

from ringpool._core import decode_pickled, encode_pickled, memoryview_of


def round_trip(value):
    return decode_pickled(encode_pickled(value))


@pytest.mark.parametrize("name", MEMORYVIEWS)
def test_each_kind_arrives_as_it_was(name):
    view = MEMORYVIEWS[name]()
    again = round_trip(view)
    assert facts(again) == facts(view) and again.c_contiguous and not again.readonly
    again, _ = round_trip((view, lambda: 0))  # by cloudpickle
    assert facts(again) == facts(view) and again.c_contiguous and not again.readonly
    again = round_trip(again)  # and can be sent on
    assert facts(again) == facts(view)


def test_each_kind_passes_both_ways_and_large_ones_are_used_where_they_lie():
    with pool() as executor:
        for name, make in MEMORYVIEWS.items():
            view = make()
            large = view.nbytes >= tasks.LARGE
            assert executor.submit(tasks.facts_of, view).result(LIMIT) == (*facts(view), True, False, large), name
            again = executor.submit(tasks.make_view, name).result(LIMIT)
            assert facts(again) == facts(view) and again.c_contiguous and not again.readonly, name
            assert tasks.in_pool(tasks.address(again)) == large, name
            assert executor._client.results.blocks_of_workers == large, name
            del again
            assert executor._client.results.blocks_of_workers == 0, name


def test_each_is_the_receivers_own_and_can_be_written_to():
    with pool() as executor:
        for name, make in MEMORYVIEWS.items():
            view = make()
            as_it_was = facts(view)
            assert executor.submit(tasks.overwrite, view).result(LIMIT) == b"\1" * view.nbytes, name
            assert facts(view) == as_it_was, name
            executor.submit(tasks.keep, view).result(LIMIT)
            again = executor.submit(tasks.same, view).result(LIMIT)
            tasks.overwrite(again)
            assert facts(view) == as_it_was == executor.submit(tasks.kept_facts).result(LIMIT), name


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_it_may_be_anywhere_in_what_is_sent(method):
    small, large = memoryview(bytearray(b"small")), tasks.numbers()
    nested = {"small": [small, (large,)], "record": Record("large", large)}
    with pool(1, method) as executor:
        args, kwargs = executor.submit(tasks.echo, small, nested, large=large).result(LIMIT)
        assert facts(args[0]) == facts(small) and facts(kwargs["large"]) == facts(large)
        assert facts(args[1]["small"][0]) == facts(small) and facts(args[1]["small"][1][0]) == facts(large)
        assert args[1]["record"] == Record("large", large) and args[1]["record"].data is args[1]["small"][1][0]
        assert executor.submit(lambda: facts(large)).result(LIMIT) == facts(large)
        assert executor.submit(lambda view: view, small).result(LIMIT) == small
        assert executor.submit(functools.partial(facts, large)).result(LIMIT) == facts(large)
        items = [small, large, [small], {"large": large}]
        assert list(executor.map(tasks.same, items, timeout=LIMIT)) == items
        assert list(executor.map(lambda view: facts(view), [small, large])) == [facts(small), facts(large)]
        futures = executor.submit_many(facts, [(small,), (large,)])
        assert [future.result(LIMIT) for future in futures] == [facts(small), facts(large)]
        assert executor.options(retries=1).submit(facts, large).result(LIMIT) == facts(large)
        for view in (small, large):
            error = executor.submit(tasks.fail_with, view).exception(LIMIT)
            assert type(error) is tasks.Failure and facts(error.data) == facts(view) and error.args[0] is error.data


def test_it_may_be_shared_and_is_read_only_then():
    large = tasks.numbers()
    with pool() as executor:
        shared = executor.share({"data": large})
        again = executor.submit(lambda table: tasks.facts_of(table["data"]), shared).result(LIMIT)
        assert again == (*facts(large), True, True, True)


def test_it_may_be_an_initializers_argument_under_fork():
    view = memoryview(bytearray(b"abc"))
    with pool(initializer=tasks.keep, initargs=(view,)) as executor:
        assert executor.submit(tasks.kept_facts).result(LIMIT) == facts(view)


def test_one_that_occurs_twice_arrives_as_one():
    for view in (memoryview(bytearray(b"abc")), tasks.numbers()):
        first, second = round_trip([view, view])
        assert first is second


def test_garbage_with_one_that_could_not_be_sent_is_collected():
    """The garbage collector of CPython before 3.12.6 crashes where it finds a memoryview and a PickleBuffer of it."""
    for _ in range(3):
        value = [memoryview(bytearray(10)), tasks.numbers(), (each for each in "no")]
        value.append(value)
        with pytest.raises(TypeError, match="generator") as error:
            encode_pickled(value)
        value.append(error)
        del value, error
        gc.collect()
    assert not gc.is_tracked(memoryview_of(b"", "B", 1, (0,)).obj)


def test_the_pool_does_not_hold_it_after_the_submit():
    with pool() as executor:
        data = bytearray(100_000)
        view = memoryview(data)
        future = executor.submit(facts, view)
        view.release()
        data.extend(b"!")
        assert future.result(LIMIT)[-1] == bytes(100_000)


@pytest.mark.parametrize("function", [tasks.same, lambda view: view], ids=["importable", "lambda"])
def test_one_that_cannot_be_sent_fails_its_task_alone(function):
    released = memoryview(b"abc")
    released.release()
    references = memoryview(np.array([object()]))
    some = memoryview(np.zeros(2, [("name", "i4"), ("value", "O")]))
    with pool() as executor:
        with pytest.raises(ValueError, match="released memoryview"):
            executor.submit(function, released).result(LIMIT)
        for view in (references, some):
            with pytest.raises(TypeError, match="memoryview of references to objects"):
                executor.submit(function, [view]).result(LIMIT)
        results = executor.map(function, [1, references, 2])
        assert next(results) == 1
        with pytest.raises(TypeError, match="memoryview of references to objects"):
            next(results)
        assert executor.submit(function, memoryview(b"abc")).result(LIMIT) == b"abc"


def test_a_result_that_cannot_be_sent_fails_its_task_alone():
    with pool() as executor:
        with pytest.raises(TypeError, match="memoryview of references to objects"):
            executor.submit(lambda: memoryview(np.array([object()]))).result(LIMIT)
        assert executor.submit(tasks.make_view, "bytes").result(LIMIT) == b"abc"


def test_a_reducer_that_the_user_has_registered_comes_first(monkeypatch):
    view = memoryview(b"abc")
    monkeypatch.setitem(copyreg.dispatch_table, memoryview, lambda view: (str, (view.tobytes(), "ascii")))
    assert round_trip([view]) == ["abc"]
    assert round_trip([view, lambda: 0])[0] == "abc"
    monkeypatch.setitem(ForkingPickler._extra_reducers, memoryview, lambda view: (len, (view.tobytes(),)))
    assert round_trip([view]) == [3]
    assert round_trip([view, lambda: 0])[0] == 3


@pytest.mark.parametrize("format", ["<i", "T{i:a:}"])
def test_the_memory_under_a_format_that_cast_does_not_take_can_be_used_too(format):
    made, data = memoryview_of(bytearray(range(16)), format, 4, (2, 2)).obj, bytes(range(16))
    assert bytes(made) == data and hashlib.sha256(made).digest() == hashlib.sha256(data).digest()
    assert io.BytesIO(bytes(16)).readinto(made) == 16 and bytes(made) == bytes(16)
    fixed = memoryview_of(data, format, 4, (2, 2)).obj
    with pytest.raises((BufferError, TypeError)):
        io.BytesIO(bytes(16)).readinto(fixed)
    assert np.frombuffer(fixed, np.uint8).tolist() == list(range(16))


@pytest.mark.parametrize(
    ("format", "itemsize", "shape"),
    [
        *(("<i", 4, (2,)), ("<i", 4, (5,)), ("<i", 4, (-4,)), ("<i", -4, (-4,)), ("<i", 4, (2**62, 2**62))),
        *(("<i", 4, (1,) * 65), ("i", 4, (2,)), ("i", 4, (5,)), ("i", 4, (-4,)), ("i", 4, (0,)), ("q", 2, (8,))),
    ],
)
def test_a_shape_that_the_memory_does_not_have_is_refused(format, itemsize, shape):
    with pytest.raises((ValueError, TypeError)):
        memoryview_of(bytes(16), format, itemsize, shape)
