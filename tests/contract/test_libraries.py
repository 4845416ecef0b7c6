"""Objects of NumPy, pandas and Arrow, and buffers by themselves: both ways, equal, and used where they lie."""

from __future__ import annotations

import copyreg
import gc
import pickle

import numpy as np
import optional
import pytest
import tasks_libraries as tasks
from limits import LIMIT
from pools import pool
from tasks_libraries import ARRAYS, ARROW, COLUMNS, IN_PLACE, N
from waiting import wait_until

from ringpool._core import decode_pickled, encode_pickled


def blocks_of_workers(executor) -> int:
    """Those of results that are used where they lie."""
    gc.collect()
    return executor._client.results.blocks_of_workers


# ---- buffers ----


def test_a_buffer_by_itself_arrives_as_bytes_or_if_it_is_large_as_a_memoryview():
    with pool() as executor:
        for data in (b"abc", bytearray(b"abc")):
            again = executor.submit(tasks.same, pickle.PickleBuffer(data)).result(LIMIT)
            assert again == data and type(again) is type(data)
        for data in (bytes(100_000), bytearray(100_000)):
            again = executor.submit(tasks.same, pickle.PickleBuffer(data)).result(LIMIT)
            assert again == data and type(again) is memoryview and not again.readonly  # what the task returns is one
            assert blocks_of_workers(executor) == 1
            del again
            again = executor.submit(pickle.PickleBuffer, data).result(LIMIT)
            assert again == data and again.readonly is (type(data) is bytes)
            del again
            assert blocks_of_workers(executor) == 0


def test_a_buffer_that_is_not_contiguous_fails_its_task_alone():
    with pool() as executor:
        with pytest.raises(pickle.PicklingError, match="contiguous"):
            executor.submit(tasks.same, pickle.PickleBuffer(np.arange(100_000)[::2])).result(LIMIT)
        assert executor.submit(tasks.same, 1).result(LIMIT) == 1


# ---- arrays ----


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays_of_each_kind_pass_both_ways_and_are_used_where_they_lie(name):
    buffers, make = ARRAYS[name]
    made = make()
    with pool() as executor:
        right, writeable, lies = executor.submit(tasks.check_array, name, made).result(LIMIT)
        assert right and lies == bool(buffers)
        again = executor.submit(tasks.make_array, name).result(LIMIT)
        assert tasks.array_facts(again) == tasks.array_facts(made)
        assert blocks_of_workers(executor) == buffers
        assert tasks.in_pool(again.ctypes.data) == bool(buffers)
        if buffers:
            assert writeable and again.flags.writeable
            assert again.flags.aligned and again.flags.forc
            assert not made.flags.f_contiguous or again.flags.f_contiguous
        del again
        assert blocks_of_workers(executor) == 0


@pytest.mark.parametrize("name", ["c", "fortran", "strided", "fixed", "spans"])
def test_an_array_is_the_receivers_own(name):
    made = tasks.make_array(name)
    with pool() as executor:
        assert np.array_equal(executor.submit(tasks.reverse, made).result(LIMIT), made[::-1])
        assert np.array_equal(tasks.reverse(executor.submit(tasks.same, made).result(LIMIT)), made[::-1])
        assert np.array_equal(made, tasks.make_array(name))


@pytest.mark.parametrize("name", tasks.READ_ONLY)
def test_a_read_only_array_arrives_writable_whichever_way_it_takes(name):
    for module in {"image": ("PIL",), "frame": ("pandas",)}.get(name.split()[-1], ()):
        optional.module(module)
    make = tasks.READ_ONLY[name]
    made = make()
    assert not made.flags.writeable
    overwritten = tasks.overwritten
    with pool() as executor:
        several = [
            *(decode_pickled(encode_pickled(made)), decode_pickled(encode_pickled([made, lambda: 0]))[0]),
            *(executor.submit(overwritten, made).result(LIMIT), executor.submit(overwritten, made=made).result(LIMIT)),
            executor.options(retries=1).submit(overwritten, made).result(LIMIT),
            *(executor.submit(make).result(LIMIT), executor.submit(lambda: make()).result(LIMIT)),
            *(*executor.map(overwritten, [made]), *executor.map(lambda _: make(), [1])),
            executor.submit_many(overwritten, [(made,)])[0].result(LIMIT),
            executor.submit(tasks.fail_with, made).exception(LIMIT).data,
        ]
        for again in several:
            assert tasks.array_facts(tasks.overwritten(again)) == tasks.array_facts(made)
    assert not made.flags.writeable


def test_the_arrays_of_a_series_arrive_writable():
    pd = optional.module("pandas")
    made = pd.Series(tasks.fixed(np.arange(N)), copy=False)
    with pool() as executor:
        again = executor.submit(tasks.same, made).result(LIMIT)
        assert np.array_equal(tasks.overwritten(again.array.to_numpy()), made)


def test_an_array_whose_dimensions_are_permuted_arrives_as_it_was():
    made = np.arange(N).reshape(10, 20, -1).transpose(1, 2, 0)
    with pool() as executor:
        assert np.array_equal(executor.submit(tasks.same, made).result(LIMIT), made)


def test_a_memmap_arrives_with_what_its_file_holds(tmp_path):
    (tmp_path / "numbers").write_bytes(np.arange(N).tobytes())
    made = np.memmap(tmp_path / "numbers", np.int64, "r+")
    with pool() as executor:
        again = executor.submit(tasks.reverse, made).result(LIMIT)
        assert np.array_equal(again, np.arange(N)[::-1]) and np.array_equal(made, np.arange(N))
    del made


def test_an_array_that_occurs_twice_arrives_as_one():
    for name in ("c", "dates", "strided"):
        made = tasks.make_array(name)
        first, second = decode_pickled(encode_pickled([made, made]))
        assert first is second and np.array_equal(first, made)


def test_a_reducer_that_the_user_has_registered_for_arrays_comes_first(monkeypatch):
    monkeypatch.setitem(copyreg.dispatch_table, np.ndarray, lambda made: (len, (made.tolist(),)))
    assert decode_pickled(encode_pickled([np.arange(N)])) == [N]
    assert decode_pickled(encode_pickled([np.arange(N), lambda: 0]))[0] == N


def test_arrays_among_what_cloudpickle_takes_are_used_where_they_lie():
    dates, strided = tasks.days(), np.arange(2 * N)[::2]
    with pool() as executor:
        lie, again, more = executor.submit(
            lambda: ([tasks.in_pool(each.ctypes.data) for each in (dates, strided)], dates, strided)
        ).result(LIMIT)
        assert lie == [True, True] and blocks_of_workers(executor) == 2
        assert np.array_equal(again, dates) and np.array_equal(more, strided)


# ---- pandas ----


@pytest.mark.parametrize("name", COLUMNS)
def test_a_series_of_each_type_passes_both_ways_and_is_used_where_it_lies(name):
    optional.module("pandas")
    made = tasks.column(name)
    with pool() as executor:
        assert all(executor.submit(tasks.check_column, name, made).result(LIMIT))
        again = executor.submit(tasks.column, name).result(LIMIT)
        tasks.assert_same_frames(again, made)
        if name in IN_PLACE:
            lie = tasks.are_in_pool(again)
            assert lie and all(lie) and blocks_of_workers(executor) == len(lie)
        value = again.iloc[-1]
        again.iloc[0] = value  # it can be written to, and is our own
        assert executor.submit(tasks.first_to, value, made).result(LIMIT).iloc[0] == value
        tasks.assert_same_frames(made, tasks.column(name))


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_a_frame_of_many_types_passes_both_ways_and_is_its_receivers_own(method):
    optional.module("pandas")
    made = tasks.frame()
    with pool(1, method) as executor:
        again = executor.submit(tasks.same, made).result(LIMIT)
        tasks.assert_same_frames(again, made)
        assert all(each for name in IN_PLACE for each in tasks.are_in_pool(again[name]))
        again.loc[:, "int"] = 7
        again["date"] = again["date"].shift(1)
        total = executor.submit(tasks.set_columns, made).result(LIMIT)
        assert total == 7 * N + float(made["float"].sum()) + N
        tasks.assert_same_frames(made, tasks.frame())


def test_parts_of_frames_pass_both_ways():
    pd = optional.module("pandas")
    made = tasks.frame()
    with pool() as executor:
        for part in (
            *(made.iloc[10:-10:3], made[made["bool"]], made.head(3), made.iloc[:0], made[["int", "float"]].T),
            *(made.index, pd.MultiIndex.from_frame(made[["int", "text"]]), pd.DatetimeIndex(made["date"])),
            *(made.set_index(["int32", "category"]), made["float"].groupby(made["int32"] % 7).mean()),
            pd.Series(dtype="float64"),
        ):
            tasks.assert_same_frames(executor.submit(tasks.same, part).result(LIMIT), part)


# ---- Arrow ----


@pytest.mark.parametrize("name", ARROW)
def test_arrow_objects_pass_both_ways_and_are_used_where_they_lie(name):
    pa = optional.module("pyarrow")
    made = tasks.arrow(name)
    with pool() as executor:
        right, lie = executor.submit(tasks.check_arrow, name, made).result(LIMIT)
        assert right and all(lie) and (lie or name == "nothing")
        again = executor.submit(tasks.arrow, name).result(LIMIT)
        assert again.equals(made) and type(again) is type(made)
        buffers = tasks.buffers_of(again)
        assert all(tasks.in_pool(each.address) for each in buffers)
        assert blocks_of_workers(executor) == len({each.address for each in buffers})
        if isinstance(made, pa.Buffer):
            assert again.is_mutable == made.is_mutable
        else:
            again.validate(full=True)
        del again, buffers
        assert blocks_of_workers(executor) == 0


# ---- many buffers ----


@pytest.mark.parametrize("n", [40, 256, 300])
def test_tables_of_many_columns_are_used_where_they_lie(n):
    optional.module("pyarrow")
    made = tasks.columns(n, 2500)
    with pool() as executor:
        again = executor.submit(tasks.same, made).result(LIMIT)
        assert again.equals(made) and blocks_of_workers(executor) == min(n, 256)  # the rest lies in the pickle
        del again
        assert blocks_of_workers(executor) == 0
        wait_until(lambda: executor._client.segment.blocks == 1, "no blocks but that of the function")


def test_frames_of_many_columns_are_used_where_they_lie():
    optional.module("pandas")
    made = tasks.nullables(40, 20_000)
    with pool() as executor:
        again = executor.submit(tasks.same, made).result(LIMIT)
        tasks.assert_same_frames(again, made)
        assert blocks_of_workers(executor) == 80
