"""What users may rely on: the same tests on the stdlib's executor and on ours.

A test that says nothing else runs on both, with the forkserver. `@only_ringpool` marks what ringpool promises beyond
the stdlib; `@all_start_methods`, what is worth trying under each.
"""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import functools
import gc
import itertools
import math
import multiprocessing
import operator
import os
import queue
import random
import select
import struct
import subprocess
import sys
import threading
import time
import traceback
import weakref
from fractions import Fraction
from pathlib import Path

import pytest
import tasks_contract as tasks
from levels import METHODS
from limits import LIMIT as WAIT_S
from programs import environment
from waiting import wait_until

import ringpool

CLASSES = {"stdlib": concurrent.futures.ProcessPoolExecutor, "ringpool": ringpool.ProcessPoolExecutor}

only_ringpool = pytest.mark.parametrize("executor_class", [ringpool.ProcessPoolExecutor], ids=["ringpool"])
all_start_methods = pytest.mark.parametrize(
    "start_method", [pytest.param(method, marks=pytest.mark.every_method) for method in METHODS]
)


@pytest.fixture(params=CLASSES.values(), ids=CLASSES.keys())
def executor_class(request):
    return request.param


@pytest.fixture
def start_method():
    return "forkserver"


@pytest.fixture
def make_pool(executor_class, start_method, gates):
    """Makes executors; after the test, opens its gates and shuts the executors down."""
    made = []

    def make(max_workers=1, **options):
        options.setdefault("mp_context", multiprocessing.get_context(start_method))
        made.append(executor_class(max_workers, **options))
        return made[-1]

    yield make
    for each in gates:
        each.open()
    while made:
        made.pop().shutdown(cancel_futures=True)


@pytest.fixture
def pool(make_pool):
    return make_pool(2)


@pytest.fixture(scope="module", params=CLASSES.values(), ids=CLASSES.keys())
def shared_pool(request):
    """A pool of one worker, for tests that only want to send something there and back."""
    with request.param(1, multiprocessing.get_context("forkserver")) as executor:
        assert executor.submit(tasks.echo, "ready").result(WAIT_S) == "ready"
        yield executor


class Gate:
    """Holds tasks up until it is opened, and tells how many have come to it. Two named pipes; no process polls.

    Args:
        path: Where its pipes go; what tasks are given, as a string.
    """

    def __init__(self, path):
        self.path = str(path)
        self._fds = []
        for name in ("entered", "door"):
            os.mkfifo(f"{path}.{name}")
            # Reader and writer at once, so that neither a task nor this process blocks in open().
            self._fds.append(os.open(f"{path}.{name}", os.O_RDWR | os.O_NONBLOCK))

    def wait_entered(self, n=1):
        """Waits until n more tasks have come."""
        for _ in range(n):
            assert select.select([self._fds[0]], [], [], WAIT_S)[0], "no task has come to the gate"
            os.read(self._fds[0], 1)

    def open(self, n=4096):
        """Lets n tasks pass, now or when they come."""
        with contextlib.suppress(BlockingIOError):  # it is wide open already
            os.write(self._fds[1], b"x" * n)

    def close(self):
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
def gates():
    """The gates of a test. They stay until its executors are gone: a task may still have to pass them."""
    made = []
    yield made
    for each in made:
        each.close()


@pytest.fixture
def make_gate(gates, tmp_path):
    def make():
        gates.append(Gate(tmp_path / f"gate{len(gates)}"))
        return gates[-1]

    return make


@pytest.fixture
def gate(make_gate):
    return make_gate()


def alike(one, other):
    """Whether two values are of the same types throughout, and equal to the last bit (a NaN is like itself)."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return struct.pack("d", one) == struct.pack("d", other)
    if isinstance(one, complex):
        return alike(one.real, other.real) and alike(one.imag, other.imag)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(alike(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return alike(list(one.items()), list(other.items()))
    return one == other


# ---- what can be called ----


@pytest.mark.parametrize(
    ("fn", "args", "kwargs", "expected"),
    [
        pytest.param(tasks.identify, (), {}, ((), {}), id="no arguments"),
        pytest.param(
            tasks.identify, (1, "a"), {"fn": 2, "self": 3}, ((1, "a"), {"fn": 2, "self": 3}), id="any keyword"
        ),
        pytest.param(tasks.identify, (), {"x": None}, ((), {"x": None}), id="keywords alone"),
        pytest.param(tasks.nothing, (), {}, None, id="nothing returned"),
        pytest.param(pow, (2, 10), {}, 1024, id="a builtin"),
        pytest.param(pow, (2, 10), {"mod": 1000}, 24, id="a builtin with keywords"),
        pytest.param(math.hypot, (3, 4), {}, 5.0, id="a builtin of a module"),
        pytest.param(operator.itemgetter(1), ([5, 6],), {}, 6, id="an itemgetter"),
        pytest.param(int, ("ff", 16), {}, 255, id="a builtin class"),
        pytest.param(dict, (), {"a": 1}, {"a": 1}, id="a builtin class with keywords"),
        pytest.param(Fraction, (1, 3), {}, Fraction(1, 3), id="a class of the stdlib"),
        pytest.param(tasks.Adder, (5,), {}, tasks.Adder(5), id="a class"),
        pytest.param(tasks.Adder(5), (1,), {}, 6, id="a callable object"),
        pytest.param(tasks.Adder(5), (1,), {"times": 2}, 12, id="a callable object with keywords"),
        pytest.param(tasks.Adder(5).plus, (1,), {}, 6, id="a bound method"),
        pytest.param(tasks.Adder.plus, (tasks.Adder(5), 1), {}, 6, id="an unbound method"),
        pytest.param(tasks.Adder.of_ten, (1,), {}, 11, id="a class method"),
        pytest.param(tasks.Adder.double, (4,), {}, 8, id="a static method"),
        pytest.param(tasks.Adder.Nested.triple, (4,), {}, 12, id="a method of a nested class"),
        pytest.param("abc".upper, (), {}, "ABC", id="a method of a string"),
        pytest.param([3, 1, 2].index, (2,), {}, 2, id="a method of a list"),
        pytest.param(str.upper, ("abc",), {}, "ABC", id="a method descriptor"),
        pytest.param(dict.fromkeys, ("ab",), {}, {"a": None, "b": None}, id="a class method of a builtin"),
        pytest.param(functools.partial(tasks.add, 2), (3,), {}, 5, id="a partial"),
        pytest.param(functools.partial(tasks.add, y=2), (3,), {}, 5, id="a partial with keywords"),
        pytest.param(functools.partial(tasks.Adder(1), times=3), (1,), {}, 6, id="a partial of an object"),
    ],
)
def test_submit_calls_anything_that_can_be_called(shared_pool, fn, args, kwargs, expected):
    assert alike(shared_pool.submit(fn, *args, **kwargs).result(WAIT_S), expected)


@pytest.mark.parametrize("executor_class", CLASSES.values(), ids=CLASSES.keys())
def test_submit_takes_its_function_by_position_only(make_pool, executor_class):
    with pytest.raises(TypeError):
        make_pool().submit()
    with pytest.raises(TypeError):
        make_pool().submit(fn=tasks.nothing)


def test_submit_of_something_that_cannot_be_called_fails_in_the_task(shared_pool):
    future = shared_pool.submit(5)
    assert isinstance(future.exception(WAIT_S), TypeError)
    assert "not callable" in str(future.exception())


def test_wrong_number_of_arguments_fails_in_the_task(shared_pool):
    assert isinstance(shared_pool.submit(tasks.square).exception(WAIT_S), TypeError)
    assert isinstance(shared_pool.submit(tasks.square, 1, 2).exception(WAIT_S), TypeError)
    assert shared_pool.submit(tasks.square, 3).result(WAIT_S) == 9


# ---- what can be sent ----

VALUES = {
    "None": None,
    "ellipsis": ...,
    "bools": (True, False, 1, 0),
    "floats": (0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, -math.nan, 5e-324, sys.float_info.max),
    "complex": (1j, complex(-0.0, math.nan)),
    "small ints": (0, 1, -1, 255, 256, 2**31 - 1, 2**31, -(2**31), 2**32, 2**53 + 1),
    "ints about 64 bits": (2**63 - 1, 2**63, 2**63 + 1, -(2**63), -(2**63) - 1, 2**64 - 1, 2**64),
    "int of 63 bits": 2**63 - 1,
    "int of 64 bits": 2**63,
    "least int of 64 bits": -(2**63),
    "one less": -(2**63) - 1,
    "int of 200 bits": 2**200,
    "negative int of 200 bits": -(2**200),
    "int of 9,000 bits": 3**5678,
    "empty containers": ((), [], {}, set(), frozenset(), "", b"", bytearray()),
    "surrogate": "\ud800",
    "surrogates among others": "a\udcff\udc80é\U0001f40d",
    "pair of surrogates": "\ud83d\ude00",
    "zero bytes": "a\0b\0",
    "latin": "\xe9\xff",
    "two bytes a character": "\u0100\uffff",
    "four bytes a character": "\U00010000\U0010ffff",
    "bytes": bytes(range(256)),
    "bytearray": bytearray(b"abc"),
    "tuple in tuple": (1, (2, (3, (4, (5,))))),
    "tuples to depth 7": functools.reduce(lambda inner, _: (inner,), range(7), 1),
    "tuples to depth 8": functools.reduce(lambda inner, _: (inner,), range(8), 1),
    "tuples to depth 9": functools.reduce(lambda inner, _: (inner,), range(9), 1),
    "tuples to depth 100": functools.reduce(lambda inner, _: (inner,), range(100), 1),
    "tuple of 255": (None,) * 255,
    "tuple of 256": (None,) * 256,
    "tuple of 100,000": tuple(range(100_000)),
    "named tuple": tasks.Point(1, "two"),
    "named tuple in tuple": (tasks.Point(1, 2), tasks.Point(None, (tasks.Point(3, 4),))),
    "struct sequence": os.stat_result(range(10)),
    "list": [1, "a", None, [2.5]],
    "dict": {"a": 1, 2: [3], (4, 5): {"b": None}},
    "ordered": collections.OrderedDict([("b", 1), ("a", 2)]),
    "counter": collections.Counter("abca"),
    "set": {1, "a", (2, 3)},
    "frozenset": frozenset({1, 2}),
    "dataclass": tasks.Record("a", [1, 2], tasks.Record("b", [])),
    "range": range(1, 10**30, 7),
    "slice": slice(1, None, 2),
    "fraction": Fraction(22, 7),
    "path": Path("/a/b"),
    "class": tasks.Record,
    "builtin class": dict,
    "function": tasks.square,
    "builtin": len,
    "partial": functools.partial,
    "exception class": KeyError,
}


@pytest.mark.parametrize("value", VALUES.values(), ids=VALUES.keys())
def test_a_value_comes_back_as_it_was_sent(shared_pool, value):
    assert alike(shared_pool.submit(tasks.echo, value).result(WAIT_S), value)
    assert alike(shared_pool.submit(tasks.identify, value, key=value).result(WAIT_S), ((value,), {"key": value}))
    assert alike(list(shared_pool.map(tasks.echo, [value, value], chunksize=2, timeout=WAIT_S)), [value, value])


def test_an_exception_that_is_a_value_comes_back_as_a_value(shared_pool):
    sent = tasks.Odd("just a value")
    sent.detail = [1]
    got = shared_pool.submit(tasks.echo, sent).result(WAIT_S)
    assert type(got) is tasks.Odd
    assert (got.args, got.detail, got.__cause__) == (sent.args, [1], None)


def test_an_object_sent_twice_in_one_call_is_one_object_there(shared_pool):
    one = [1]
    assert shared_pool.submit(operator.is_, one, one).result(WAIT_S) is True
    assert shared_pool.submit(operator.is_, one, [1]).result(WAIT_S) is False


# About where the slots of the board, the slots of the result ring, one byte of length and a page end.
LENGTHS = [0, 1, *range(80, 96), *range(190, 206), *range(250, 260), 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20]
UNITS = {"bytes": b"x", "ascii": "x", "latin": "\xe9", "two bytes": "\u0153", "four bytes": "\U0001f40d"}


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS.keys())
def test_bytes_and_str_of_any_length_come_back(shared_pool, unit):
    futures = {n: shared_pool.submit(tasks.echo, unit * n) for n in LENGTHS}
    for n, future in futures.items():
        assert future.result(WAIT_S) == unit * n, n


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS.keys())
def test_every_length_up_to_300_goes_each_way_alone(shared_pool, unit):
    there = [shared_pool.submit(tasks.size_and_ends, unit * n) for n in range(300)]
    back = [shared_pool.submit(tasks.make, unit, n) for n in range(300)]
    for n in range(300):
        assert there[n].result(WAIT_S) == (n, unit[: min(n, 1)], unit[: min(n, 1)]), n
        assert back[n].result(WAIT_S) == unit * n, n


@pytest.mark.parametrize("unit", UNITS.values(), ids=UNITS.keys())
def test_20_million_bytes_go_each_way(shared_pool, unit):
    n = 20_000_000 // (len(unit.encode("utf-16-le")) if isinstance(unit, str) and ord(unit) > 255 else 1)
    assert shared_pool.submit(tasks.echo, unit * n).result(WAIT_S) == unit * n
    assert shared_pool.submit(tasks.size_and_ends, unit * n).result(WAIT_S) == (n, unit, unit)
    assert shared_pool.submit(tasks.make, unit, n).result(WAIT_S) == unit * n


@only_ringpool
def test_a_task_gets_its_arguments_as_they_were_at_submit(make_pool, gate):
    pool = make_pool()
    pool.submit(tasks.pass_gate, gate.path)
    items, record, buffer = [1, [2]], tasks.Record("before", [1]), bytearray(b"before")
    future = pool.submit(tasks.identify, items, record, buffer=buffer)
    items[1].append(3)
    items.append(4)
    record.name = "after"
    buffer[:] = b"after!"
    gate.open()
    assert future.result(WAIT_S) == (([1, [2]], tasks.Record("before", [1])), {"buffer": bytearray(b"before")})


@only_ringpool
def test_what_map_sends_is_as_it_was_at_the_call(make_pool, gate):
    pool = make_pool()
    pool.submit(tasks.pass_gate, gate.path)
    items = [[1], [2], [3]]
    singly = pool.map(tasks.echo, items, timeout=WAIT_S)
    chunked = pool.map(tasks.echo, items, timeout=WAIT_S, chunksize=2)
    for item in items:
        item.append("late")
    gate.open()
    assert list(singly) == list(chunked) == [[1], [2], [3]]


def test_two_results_are_two_objects(pool):
    first, second = (pool.submit(tasks.make, [1], 3).result(WAIT_S) for _ in range(2))
    assert first == second == [1, 1, 1]
    assert first is not second


def test_result_gives_the_same_object_each_time(pool):
    future = pool.submit(tasks.make, [1], 3)
    assert future.result(WAIT_S) is future.result(WAIT_S)
    failed = pool.submit(tasks.fail_with, ValueError("once"))
    assert failed.exception(WAIT_S) is failed.exception(WAIT_S)
    with pytest.raises(ValueError) as caught:
        failed.result(WAIT_S)
    assert caught.value is failed.exception()


def test_arguments_that_cannot_be_pickled_fail_that_task_alone(pool):
    future = pool.submit(tasks.echo, threading.Lock())
    assert isinstance(future.exception(WAIT_S), TypeError)
    assert "pickle" in str(future.exception())
    assert pool.submit(tasks.square, 4).result(WAIT_S) == 16


def test_a_result_that_cannot_be_pickled_fails_that_task_alone(pool):
    future = pool.submit(tasks.give_a_lock)
    assert isinstance(future.exception(WAIT_S), TypeError | AttributeError | RuntimeError)
    assert "pickle" in str(future.exception())
    assert pool.submit(tasks.square, 4).result(WAIT_S) == 16


# ---- map ----


def test_map_yields_results_in_the_order_of_the_items(pool):
    assert list(pool.map(tasks.square, range(200), timeout=WAIT_S)) == [x * x for x in range(200)]


@pytest.mark.parametrize("chunksize", [1, 2, 3, 7, 49, 50, 51, 1000])
def test_map_yields_the_same_for_any_chunksize(pool, chunksize):
    assert list(pool.map(tasks.square, range(50), timeout=WAIT_S, chunksize=chunksize)) == [x * x for x in range(50)]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_ends_with_the_shortest_of_its_iterables(pool, chunksize):
    sums = pool.map(tasks.add, range(10), itertools.repeat(5, 7), timeout=WAIT_S, chunksize=chunksize)
    assert list(sums) == [x + 5 for x in range(7)]


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_over_nothing_yields_nothing(pool, chunksize):
    assert list(pool.map(tasks.square, [], timeout=WAIT_S, chunksize=chunksize)) == []
    assert list(pool.map(tasks.square, timeout=WAIT_S, chunksize=chunksize)) == []
    assert list(pool.map(tasks.add, [], itertools.count(), timeout=WAIT_S, chunksize=chunksize)) == []


@pytest.mark.parametrize("chunksize", [1, 4])
def test_map_raises_an_error_at_its_place_and_then_is_at_its_end(pool, chunksize):
    results = pool.map(functools.partial(tasks.fail_on, 4), range(12), timeout=WAIT_S, chunksize=chunksize)
    assert [next(results) for _ in range(4)] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="bad item 4"):
        next(results)
    assert next(results, "the end") == "the end"


@pytest.mark.parametrize("chunksize", [1, 2])
def test_map_raises_timeout_error_when_a_result_is_late(make_pool, gate, chunksize):
    pool = make_pool()
    results = pool.map(tasks.pass_gate, [gate.path], [1], timeout=0.05, chunksize=chunksize)
    with pytest.raises(TimeoutError):
        next(results)
    assert next(results, "the end") == "the end"


def test_map_gives_what_was_done_in_time_however_late_it_is_asked(make_pool, executor_class, gate):
    pool = make_pool()
    results = pool.map(tasks.echo, [1, 2], timeout=0.3)
    deadline = time.monotonic() + 0.3
    marker = pool.submit(tasks.nothing)
    pool.submit(tasks.pass_gate, gate.path)
    gate.wait_entered()  # both are done by now
    if executor_class is not ringpool.ProcessPoolExecutor:
        marker.result(WAIT_S)  # the stdlib's own thread has taken them in
    while time.monotonic() < deadline:
        select.select([], [], [], deadline - time.monotonic())
    # what is there is given, however late it is asked for
    assert list(results) == [1, 2]


def test_timeout_of_zero_is_not_no_timeout(make_pool, gate):
    pool = make_pool()
    with pytest.raises(TimeoutError):
        next(pool.map(tasks.pass_gate, [gate.path], timeout=0))


def test_map_without_timeout_waits(make_pool, gate):
    pool = make_pool()
    results = pool.map(tasks.pass_gate, [gate.path] * 3, range(3), timeout=None)
    gate.wait_entered()
    opener = threading.Timer(0.1, gate.open)
    opener.start()
    assert list(results) == [0, 1, 2]
    opener.join(WAIT_S)


@pytest.mark.parametrize("chunksize", [0, -1])
def test_map_refuses_a_chunksize_below_one(pool, chunksize):
    with pytest.raises(ValueError, match="chunksize must be >= 1"):
        pool.map(tasks.square, [1], chunksize=chunksize)


def test_map_reads_its_iterables_and_starts_at_the_call(make_pool, gate):
    pool = make_pool()
    items = iter([gate.path, gate.path])
    results = pool.map(tasks.pass_gate, items, [1, 2], timeout=WAIT_S)
    assert next(items, "all read") == "all read"
    gate.wait_entered()
    gate.open()
    assert list(results) == [1, 2]


def test_map_passes_on_what_its_iterable_raises(pool):
    def items():
        yield 1
        raise LookupError("no more items")

    with pytest.raises(LookupError, match="no more items"):
        pool.map(tasks.square, items())
    assert pool.submit(tasks.square, 2).result(WAIT_S) == 4


def test_map_of_items_that_cannot_be_pickled_raises_at_their_place(pool):
    results = pool.map(tasks.echo, [1, threading.Lock(), 3], timeout=WAIT_S)
    assert next(results) == 1
    with pytest.raises(TypeError, match="pickle"):
        next(results)


@pytest.mark.parametrize("how", ["close", "drop"])
def test_leaving_a_map_cancels_what_has_not_started(make_pool, gate, tmp_path, how):
    pool = make_pool()
    ran = tmp_path / "ran"
    pool.submit(tasks.pass_gate, gate.path)
    gate.wait_entered()
    results = pool.map(tasks.note, [str(ran)] * 500, range(500), timeout=0.01)
    with pytest.raises(TimeoutError):  # a generator that has not begun has nothing to leave
        next(results)
    if how == "close":
        results.close()
    del results
    gc.collect()
    last = pool.submit(tasks.note, str(ran), "last")
    gate.open()
    last.result(WAIT_S)
    # the stdlib has handed max_workers + 1 tasks on already, and these can no longer be cancelled
    assert set(tasks.read_lines(ran)) <= {"0", "1", "last"}
    if isinstance(pool, ringpool.ProcessPoolExecutor):
        assert tasks.read_lines(ran) == ["last"]


def test_an_error_in_a_map_cancels_what_has_not_started(make_pool, gate, tmp_path):
    pool = make_pool()
    ran = tmp_path / "ran"
    error = ValueError("the first fails")
    results = pool.map(
        tasks.fail_or_pass_or_note,
        itertools.chain(["fail", "pass"], itertools.repeat("note")),
        itertools.chain([error, gate.path], itertools.repeat(str(ran))),
        range(500),
        timeout=WAIT_S,
    )
    gate.wait_entered()
    with pytest.raises(ValueError, match="the first fails"):
        next(results)
    last = pool.submit(tasks.note, str(ran), "last")
    gate.open()
    last.result(WAIT_S)
    # the stdlib has handed two more on by then, and these can no longer be cancelled
    assert set(tasks.read_lines(ran)) <= {"2", "3", "last"}
    if isinstance(pool, ringpool.ProcessPoolExecutor):
        assert tasks.read_lines(ran) == ["last"]


# ---- map with a buffersize ----

has_buffersize = pytest.mark.parametrize(
    "executor_class",
    [
        pytest.param(
            CLASSES["stdlib"],
            id="stdlib",
            marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="the stdlib's map has no buffersize"),
        ),
        pytest.param(CLASSES["ringpool"], id="ringpool"),
    ],
)


class Counted:
    """An endless iterator that knows how many items have been taken."""

    def __init__(self):
        self.taken = 0

    def __iter__(self):
        return self

    def __next__(self):
        self.taken += 1
        return self.taken - 1


@has_buffersize
@pytest.mark.parametrize("buffersize", [1, 2, 7])
def test_map_with_a_buffersize_reads_an_endless_iterable_as_it_goes(make_pool, buffersize):
    items = Counted()
    results = make_pool(2).map(tasks.square, items, buffersize=buffersize, timeout=WAIT_S)
    assert items.taken == buffersize
    for i in range(20):
        assert next(results) == i * i
        assert items.taken == buffersize + i + 1
    results.close()


@has_buffersize
def test_buffersize_counts_chunks(make_pool):
    items = Counted()
    results = make_pool(2).map(tasks.square, items, buffersize=2, chunksize=5, timeout=WAIT_S)
    assert items.taken == 10
    assert [next(results) for _ in range(5)] == [0, 1, 4, 9, 16]
    assert items.taken == 15
    assert next(results) == 25
    assert items.taken == 20


@has_buffersize
@pytest.mark.parametrize("buffersize", [1, 3, 10, 100])
@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_yields_the_same_for_any_buffersize(make_pool, buffersize, chunksize):
    results = make_pool(2).map(tasks.square, range(10), buffersize=buffersize, chunksize=chunksize, timeout=WAIT_S)
    assert list(results) == [x * x for x in range(10)]


@has_buffersize
@pytest.mark.parametrize("buffersize", [0, -1])
def test_map_refuses_a_buffersize_below_one(make_pool, buffersize):
    with pytest.raises(ValueError, match=r"^buffersize must be None or > 0$"):
        make_pool().map(tasks.square, [1], buffersize=buffersize)


@has_buffersize
@pytest.mark.parametrize("buffersize", ["1", 1.0, []])
def test_map_refuses_a_buffersize_that_is_no_integer(make_pool, buffersize):
    with pytest.raises(TypeError, match=r"^buffersize must be an integer or None$"):
        make_pool().map(tasks.square, [1], buffersize=buffersize)


@has_buffersize
def test_map_with_a_buffersize_does_not_keep_its_executor(make_pool, executor_class):
    executor = executor_class(1, multiprocessing.get_context("forkserver"))
    results = executor.map(tasks.square, itertools.count(), buffersize=3, timeout=WAIT_S)
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    wait_until(lambda: gone() is None, "the executor's end")
    assert list(results) == [0, 1, 4]


# ---- futures ----


def test_a_future_is_one_of_the_stdlib(pool):
    future = pool.submit(tasks.square, 3)
    assert isinstance(future, concurrent.futures.Future)
    assert future.result(WAIT_S) == 9
    assert (future.done(), future.running(), future.cancelled()) == (True, False, False)
    assert future.exception() is None
    assert "finished returned int" in repr(future)


def test_states_of_a_future_that_runs_waits_is_cancelled_and_fails(make_pool, gate):
    pool = make_pool()
    running = pool.submit(tasks.pass_gate_and_raise, gate.path, KeyError("k"))
    gate.wait_entered()
    waiting = [pool.submit(tasks.square, i) for i in range(10)]
    cancelled = waiting.pop()
    assert cancelled.cancel()
    assert cancelled.cancel()  # again
    assert (cancelled.cancelled(), cancelled.done(), cancelled.running()) == (True, True, False)
    assert (running.running(), running.done(), running.cancelled()) == (True, False, False)
    assert not running.cancel()
    assert (waiting[-1].running(), waiting[-1].done(), waiting[-1].cancelled()) == (False, False, False)
    assert "state=running" in repr(running)
    assert "state=pending" in repr(waiting[-1])
    assert "state=cancelled" in repr(cancelled)
    for ask in (cancelled.result, cancelled.exception):
        with pytest.raises(concurrent.futures.CancelledError):
            ask(WAIT_S)
    gate.open()
    assert isinstance(running.exception(WAIT_S), KeyError)
    assert (running.running(), running.done(), running.cancelled(), running.cancel()) == (False, True, False, False)
    assert "finished raised KeyError" in repr(running)
    assert [future.result(WAIT_S) for future in waiting] == [i * i for i in range(9)]
    assert not waiting[0].cancel()


@only_ringpool
def test_a_future_runs_exactly_while_its_task_does(make_pool, make_gate):
    pool = make_pool()
    gates = [make_gate() for _ in range(3)]
    futures = [pool.submit(tasks.pass_gate, each.path, i) for i, each in enumerate(gates)]
    for i, each in enumerate(gates):
        each.wait_entered()
        assert [future.running() for future in futures] == [j == i for j in range(3)]
        assert [future.done() for future in futures] == [j < i for j in range(3)]
        each.open()
        assert futures[i].result(WAIT_S) == i
        assert not futures[i].running()


@pytest.mark.parametrize("timeout", [0, 0.0, -1, 0.02])
def test_waiting_in_vain_raises_timeout_error(make_pool, gate, timeout):
    future = make_pool().submit(tasks.pass_gate, gate.path, "late")
    with pytest.raises(TimeoutError):
        future.result(timeout)
    with pytest.raises(TimeoutError):
        future.exception(timeout=timeout)
    gate.open()
    assert future.result(WAIT_S) == "late"
    assert future.result(timeout) == "late"


def test_many_threads_may_wait_for_one_future(make_pool, gate):
    future = make_pool().submit(tasks.pass_gate, gate.path, "for all")
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(future.result, WAIT_S) for _ in range(8)]
        gate.wait_entered()
        gate.open()
        assert [each.result(WAIT_S) for each in waiting] == ["for all"] * 8


def test_a_waiting_thread_sees_that_its_future_is_cancelled(make_pool, gate):
    pool = make_pool()
    pool.submit(tasks.pass_gate, gate.path)
    last = [pool.submit(tasks.square, i) for i in range(10)][-1]
    asked = threading.Event()

    def ask():
        asked.set()
        last.result(WAIT_S)

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(ask)
        assert asked.wait(WAIT_S)
        assert last.cancel()
        assert isinstance(waiting.exception(WAIT_S), concurrent.futures.CancelledError)


@only_ringpool
def test_every_unclaimed_task_can_be_cancelled_and_then_never_runs(make_pool, gate, tmp_path):
    pool = make_pool()
    ran = tmp_path / "ran"
    first = pool.submit(tasks.pass_gate, gate.path)
    gate.wait_entered()
    # more than the 1,024 slots of the board
    futures = [pool.submit(tasks.note, str(ran), i) for i in range(3000)]
    assert all(future.cancel() for future in futures[::2])
    assert not first.cancel()
    gate.open()
    for i, future in enumerate(futures):
        assert future.cancelled() == (i % 2 == 0)
        if i % 2:
            assert future.result(WAIT_S) == i
    pool.shutdown()
    assert tasks.read_lines(ran) == [str(i) for i in range(1, 3000, 2)]


@only_ringpool
@pytest.mark.parametrize("n", [1, 1023, 1024, 1025, 2049])
def test_cancelling_all_that_waits_makes_room_for_others(make_pool, gate, tmp_path, n):
    pool = make_pool()
    ran = tmp_path / "ran"
    pool.submit(tasks.pass_gate, gate.path)
    gate.wait_entered()
    for _ in range(3):
        futures = [pool.submit(tasks.note, str(ran), "never") for _ in range(n)]
        assert all(future.cancel() for future in reversed(futures))
    last = [pool.submit(tasks.note, str(ran), i) for i in range(n)]
    gate.open()
    assert [future.result(WAIT_S) for future in last] == list(range(n))
    assert tasks.read_lines(ran) == [str(i) for i in range(n)]


@only_ringpool
def test_a_task_that_waits_for_room_runs_though_all_before_it_are_cancelled(make_pool, gate):
    pool = make_pool(initializer=tasks.pass_gate, initargs=(gate.path,))
    *before, last = [pool.submit(abs, -i) for i in range(1025)]  # one more than the board holds
    gate.wait_entered()
    assert all(future.cancel() for future in before)
    gate.open()
    assert last.result(WAIT_S) == 1024


def test_cancelled_tasks_of_a_long_queue_never_run(make_pool, gate, tmp_path):
    pool = make_pool()
    ran = tmp_path / "ran"
    pool.submit(tasks.pass_gate, gate.path)
    gate.wait_entered()
    futures = [pool.submit(tasks.note, str(ran), i) for i in range(300)]
    cancelled = {i for i, future in enumerate(futures) if i % 3 == 0 and future.cancel()}
    assert set(range(3, 300, 3)) <= cancelled
    gate.open()
    pool.shutdown()
    assert tasks.read_lines(ran) == [str(i) for i in range(300) if i not in cancelled]


# ---- callbacks ----


def test_callbacks_are_called_with_the_future_in_the_order_they_were_added(make_pool, gate):
    future = make_pool().submit(tasks.pass_gate, gate.path, 1)
    calls, done = [], threading.Event()
    for i in range(5):
        future.add_done_callback(lambda f, i=i: calls.append((i, f.result(0))))
    future.add_done_callback(lambda _: done.set())
    assert not calls
    gate.open()
    assert done.wait(WAIT_S)
    assert calls == [(i, 1) for i in range(5)]


def test_an_exception_in_a_callback_is_logged_and_harms_no_other_task(make_pool, gate, caplog):
    pool = make_pool()
    future = pool.submit(tasks.pass_gate, gate.path, 1)
    done = threading.Event()
    future.add_done_callback(lambda _: 1 / 0)
    future.add_done_callback(lambda _: done.set())
    gate.open()
    assert done.wait(WAIT_S)
    assert future.result(WAIT_S) == 1
    future.add_done_callback(lambda _: [][1])  # now in this thread
    logged = [(r.name, r.exc_info[0]) for r in caplog.records if "exception calling callback" in r.message]
    caplog.clear()  # its tracebacks hold frames that hold the executor's queues
    assert logged == [("concurrent.futures", ZeroDivisionError), ("concurrent.futures", IndexError)]
    assert pool.submit(tasks.square, 3).result(WAIT_S) == 9


@pytest.mark.parametrize("how", ["done", "failed", "cancelled"])
def test_a_callback_added_afterwards_runs_at_once_in_the_calling_thread(make_pool, gate, how):
    pool = make_pool()
    if how == "cancelled":
        pool.submit(tasks.pass_gate, gate.path)
        future = [pool.submit(tasks.square, 1) for _ in range(10)][-1]
        assert future.cancel()
    else:
        future = pool.submit(tasks.fail_on, 1, 1 if how == "failed" else 2)
        future.exception(WAIT_S)
    calls = []
    future.add_done_callback(lambda f: calls.append((f, threading.current_thread())))
    assert calls == [(future, threading.current_thread())]


def test_callbacks_of_a_cancelled_future_run_once_in_the_cancelling_thread(make_pool, gate):
    pool = make_pool()
    pool.submit(tasks.pass_gate, gate.path)
    future = [pool.submit(tasks.square, 1) for _ in range(10)][-1]
    calls = []
    future.add_done_callback(lambda f: calls.append((f.cancelled(), threading.current_thread())))
    assert future.cancel()
    assert future.cancel()
    gate.open()
    pool.shutdown()
    assert calls == [(True, threading.current_thread())]


def test_callbacks_come_while_no_thread_waits_for_the_result(pool):
    done = threading.Semaphore(0)
    for i in range(300):
        pool.submit(tasks.square, i).add_done_callback(lambda _: done.release())
    for _ in range(300):
        assert done.acquire(timeout=WAIT_S)


def test_callbacks_come_while_another_thread_waits_for_another_future(make_pool, make_gate):
    pool = make_pool(2)
    long, short = make_gate(), make_gate()
    last = pool.submit(tasks.pass_gate, long.path, "last")
    first = pool.submit(tasks.pass_gate, short.path, "first")
    done = threading.Event()
    first.add_done_callback(lambda _: done.set())
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(last.result, WAIT_S)
        long.wait_entered()
        short.wait_entered()
        short.open()
        assert done.wait(WAIT_S)
        assert not waiting.done()
        long.open()
        assert waiting.result(WAIT_S) == "last"


def test_a_callback_may_submit(pool):
    results, done = [], threading.Event()

    def again(future):
        results.append(future.result(0))
        if len(results) < 50:
            pool.submit(tasks.add, results[-1], 1).add_done_callback(again)
        else:
            done.set()

    pool.submit(tasks.echo, 0).add_done_callback(again)
    assert done.wait(WAIT_S)
    assert results == list(range(50))


@only_ringpool  # in the stdlib, the thread that would bring the other result is the one that waits
def test_a_callback_may_wait_for_the_result_of_another_future(make_pool):
    pool = make_pool(2)
    results, done = [], threading.Event()

    def callback(_):
        results.append(pool.submit(tasks.square, 5).result(WAIT_S))
        results.extend(pool.map(tasks.square, range(3), timeout=WAIT_S))
        done.set()

    pool.submit(tasks.nothing).add_done_callback(callback)
    assert done.wait(WAIT_S)
    assert results == [25, 0, 1, 4]


@only_ringpool
def test_a_callback_may_wait_for_a_future_that_has_callbacks_itself(make_pool, make_gate):
    pool = make_pool(2)
    first, gate = make_gate(), make_gate()
    calls, done = [], threading.Event()
    other = pool.submit(tasks.pass_gate, gate.path, "other")
    other.add_done_callback(lambda f: (calls.append(f.result(0)), done.set()))

    def callback(_):
        gate.open()
        calls.append(("waited", other.result(WAIT_S)))

    pool.submit(tasks.pass_gate, first.path).add_done_callback(callback)
    first.open()
    assert done.wait(WAIT_S)
    assert calls == [("waited", "other"), "other"]


# ---- wait and as_completed ----


def test_wait_returns_when_all_are_done(make_pool, gate):
    pool = make_pool(2)
    futures = {pool.submit(tasks.fail_on, 2, i) for i in range(5)} | {pool.submit(tasks.pass_gate, gate.path)}
    done, pending = concurrent.futures.wait(futures, timeout=0.05)
    assert len(pending) >= 1
    assert done | pending == futures
    gate.open()
    done, pending = concurrent.futures.wait(futures, WAIT_S, concurrent.futures.ALL_COMPLETED)
    assert (done, pending) == (futures, set())


def test_wait_returns_when_the_first_is_done(make_pool, make_gate):
    pool = make_pool(2)
    gates = [make_gate(), make_gate()]
    futures = [pool.submit(tasks.pass_gate, each.path) for each in gates]
    gates[1].open()
    done, pending = concurrent.futures.wait(futures, WAIT_S, concurrent.futures.FIRST_COMPLETED)
    assert (done, pending) == ({futures[1]}, {futures[0]})
    # those done before count
    done, pending = concurrent.futures.wait(futures, WAIT_S, concurrent.futures.FIRST_COMPLETED)
    assert (done, pending) == ({futures[1]}, {futures[0]})


def test_wait_returns_when_the_first_has_failed(make_pool, make_gate):
    pool = make_pool(3)
    gates = [make_gate() for _ in range(3)]
    futures = [
        pool.submit(tasks.pass_gate, gates[0].path),
        pool.submit(tasks.pass_gate, gates[1].path),
        pool.submit(tasks.pass_gate_and_raise, gates[2].path, KeyError("k")),
    ]
    gates[1].open()
    futures[1].result(WAIT_S)
    done, _ = concurrent.futures.wait(futures, 0.05, concurrent.futures.FIRST_EXCEPTION)
    assert done == {futures[1]}
    gates[2].open()
    done, pending = concurrent.futures.wait(futures, WAIT_S, concurrent.futures.FIRST_EXCEPTION)
    assert (done, pending) == ({futures[1], futures[2]}, {futures[0]})


def test_wait_for_the_first_failure_returns_when_all_succeed(pool):
    futures = {pool.submit(tasks.square, i) for i in range(20)}
    done, pending = concurrent.futures.wait(futures, WAIT_S, concurrent.futures.FIRST_EXCEPTION)
    assert (done, pending) == (futures, set())


@pytest.mark.parametrize("mode", ["ALL_COMPLETED", "FIRST_COMPLETED", "FIRST_EXCEPTION"])
def test_wait_sees_that_a_future_is_cancelled_meanwhile(make_pool, gate, mode):
    pool = make_pool()
    pool.submit(tasks.pass_gate, gate.path)
    last = [pool.submit(tasks.square, i) for i in range(10)][-1]
    entered = threading.Event()

    def wait():
        entered.set()
        return concurrent.futures.wait([last], WAIT_S, getattr(concurrent.futures, mode))

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(wait)
        assert entered.wait(WAIT_S)
        assert last.cancel()
        gate.open()  # the stdlib tells of a cancelled future when its turn comes
        assert waiting.result(WAIT_S) == ({last}, set())


def test_as_completed_yields_every_future_once_as_they_come(make_pool, make_gate):
    pool = make_pool(2)
    gates = [make_gate(), make_gate()]
    futures = [pool.submit(tasks.pass_gate, each.path) for each in gates]
    completed = concurrent.futures.as_completed([*futures, *futures], timeout=WAIT_S)
    gates[1].open()
    assert next(completed) is futures[1]
    gates[0].open()
    assert next(completed) is futures[0]
    assert list(completed) == []


def test_as_completed_yields_done_failed_and_cancelled_futures(make_pool, gate):
    pool = make_pool()
    done = pool.submit(tasks.square, 3)
    failed = pool.submit(tasks.fail_on, 1, 1)
    assert isinstance(failed.exception(WAIT_S), ValueError)
    running = pool.submit(tasks.pass_gate, gate.path)
    gate.wait_entered()
    waiting = [pool.submit(tasks.square, i) for i in range(10)]
    assert waiting[-1].cancel()
    gate.open()
    futures = {done, failed, running, *waiting}
    assert set(concurrent.futures.as_completed(futures, timeout=WAIT_S)) == futures


def test_as_completed_raises_timeout_error_and_says_what_is_missing(make_pool, gate):
    pool = make_pool(2)
    futures = [pool.submit(tasks.square, 3), pool.submit(tasks.pass_gate, gate.path)]
    futures[0].result(WAIT_S)
    completed = concurrent.futures.as_completed(futures, timeout=0.05)
    assert next(completed) is futures[0]
    with pytest.raises(TimeoutError, match=r"1 \(of 2\) futures unfinished"):
        next(completed)


def test_as_completed_keeps_up_with_thousands(pool):
    futures = {pool.submit(tasks.square, i): i for i in range(3000)}
    seen = 0
    for future in concurrent.futures.as_completed(futures, timeout=WAIT_S):
        assert future.result(0) == futures[future] ** 2
        seen += 1
    assert seen == 3000


def test_futures_of_processes_and_of_threads_wait_together(make_pool, gate):
    pool = make_pool(2)
    opened = threading.Event()
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        mixed = [
            pool.submit(tasks.pass_gate, gate.path, "process"),
            threads.submit(lambda: opened.wait(WAIT_S) and "thread"),
        ]
        completed = concurrent.futures.as_completed(mixed, timeout=WAIT_S)
        opened.set()
        assert next(completed) is mixed[1]
        done, pending = concurrent.futures.wait(mixed, WAIT_S, concurrent.futures.FIRST_COMPLETED)
        assert (done, pending) == ({mixed[1]}, {mixed[0]})
        gate.open()
        assert next(completed) is mixed[0]
        done, pending = concurrent.futures.wait(mixed, WAIT_S)
        assert (done, pending) == (set(mixed), set())
        assert [each.result(0) for each in mixed] == ["process", "thread"]


def test_futures_of_both_executors_wait_together():
    context = multiprocessing.get_context("forkserver")
    with CLASSES["stdlib"](1, context) as theirs, CLASSES["ringpool"](1, context) as ours:
        futures = [executor.submit(tasks.square, i) for i in range(50) for executor in (theirs, ours)]
        assert concurrent.futures.wait(futures, WAIT_S) == (set(futures), set())
        assert [future.result(0) for future in futures] == [i * i for i in range(50) for _ in range(2)]


# ---- asyncio ----


def test_asyncio_runs_tasks_in_the_executor(pool):
    async def main():
        loop = asyncio.get_running_loop()
        calls = [loop.run_in_executor(pool, tasks.square, i) for i in range(200)]
        results = await asyncio.wait_for(asyncio.gather(*calls), WAIT_S)
        with pytest.raises(ValueError, match="bad item 1"):
            await asyncio.wait_for(loop.run_in_executor(pool, tasks.fail_on, 1, 1), WAIT_S)
        return results

    assert asyncio.run(main()) == [i * i for i in range(200)]


def test_asyncio_wraps_a_future_that_is_done_and_one_that_is_not(make_pool, gate):
    pool = make_pool()

    async def main():
        done = pool.submit(tasks.square, 3)
        done.result(WAIT_S)
        late = pool.submit(tasks.pass_gate, gate.path, "late")
        wrapped = [asyncio.wrap_future(done), asyncio.wrap_future(late)]
        assert await asyncio.wait_for(wrapped[0], WAIT_S) == 9
        assert not wrapped[1].done()
        gate.open()
        return await asyncio.wait_for(wrapped[1], WAIT_S)

    assert asyncio.run(main()) == "late"


def test_cancelling_in_asyncio_cancels_what_has_not_started(make_pool, gate, tmp_path):
    pool = make_pool()
    ran = tmp_path / "ran"

    async def main():
        loop = asyncio.get_running_loop()
        running = loop.run_in_executor(pool, tasks.pass_gate, gate.path, "ran on")
        await loop.run_in_executor(None, gate.wait_entered)
        waiting = [pool.submit(tasks.note, str(ran), i) for i in range(10)]
        wrapped = asyncio.wrap_future(waiting[-1])
        wrapped.cancel()
        await asyncio.sleep(0)  # one turn of the loop, which passes it on
        assert waiting[-1].cancelled()
        gate.open()
        return await asyncio.wait_for(running, WAIT_S)

    assert asyncio.run(main()) == "ran on"
    pool.shutdown()
    assert tasks.read_lines(ran) == [str(i) for i in range(9)]


def test_cancelling_an_awaited_task_that_runs_lets_it_run_on(make_pool, gate):
    pool = make_pool()

    async def main():
        future = pool.submit(tasks.pass_gate, gate.path, "ran on")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.wrap_future(future), 0.05 if gate.wait_entered() is None else 0)
        assert not future.cancelled()
        return future

    future = asyncio.run(main())
    gate.open()
    assert future.result(WAIT_S) == "ran on"


def test_a_pending_future_that_is_cancelled_cancels_its_asyncio_future(make_pool, gate):
    pool = make_pool()
    pool.submit(tasks.pass_gate, gate.path)

    async def main():
        last = [pool.submit(tasks.square, i) for i in range(10)][-1]
        wrapped = asyncio.wrap_future(last)
        assert last.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(wrapped, WAIT_S)

    asyncio.run(main())


# ---- many threads ----


def test_eight_threads_submit_at_once_and_each_gets_its_own_results(pool):
    start = threading.Barrier(8)

    def use(k):
        start.wait(WAIT_S)
        futures = [pool.submit(tasks.add, 10_000 * k, i) for i in range(300)]
        mapped = list(pool.map(tasks.add, range(100), [k] * 100, timeout=WAIT_S, chunksize=k + 1))
        return [future.result(WAIT_S) for future in futures], mapped

    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        users = [threads.submit(use, k) for k in range(8)]
        for k, each in enumerate(users):
            assert each.result(WAIT_S) == ([10_000 * k + i for i in range(300)], [i + k for i in range(100)])


def test_one_thread_submits_and_another_takes_the_results(pool):
    line = queue.SimpleQueue()

    def take():
        return [future.result(WAIT_S) for future in iter(line.get, None)]

    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        taker = threads.submit(take)
        for i in range(2000):
            line.put(pool.submit(tasks.square, i))
        line.put(None)
        assert taker.result(WAIT_S) == [i * i for i in range(2000)]


@pytest.mark.parametrize("seed", [1])
def test_every_future_of_20000_mixed_and_partly_cancelled_tasks_is_accounted_for(make_pool, seed, record_property):
    record_property("seed", seed)
    pool = make_pool(3)
    told = collections.Counter()
    lock = threading.Lock()

    def tell(future):
        with lock:
            told[future] += 1

    def use(k):
        rng = random.Random(seed * 10 + k)
        mine, counts = [], collections.Counter()
        for i in range(5000):
            kind = rng.randrange(6)
            future = pool.submit(tasks.kind_of_load, kind, i)
            if rng.random() < 0.1:
                future.add_done_callback(tell)
                counts["callbacks"] += 1
            mine.append((kind, i, future))
            if rng.random() < 0.2:
                rng.choice(mine)[2].cancel()
            if rng.random() < 0.01:
                with contextlib.suppress(Exception, concurrent.futures.CancelledError):
                    rng.choice(mine)[2].result(WAIT_S)
        for kind, i, future in mine:
            if future.cancelled():
                counts["cancelled"] += 1
                with pytest.raises(concurrent.futures.CancelledError):
                    future.result(WAIT_S)
            elif kind == 3:
                error = future.exception(WAIT_S)
                assert (type(error), str(error)) == (tasks.Odd, str(i))
                counts["failed"] += 1
            else:
                assert alike(future.result(WAIT_S), tasks.kind_of_load(kind, i))
                counts["returned"] += 1
            assert future.done()
        return counts

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        users = [threads.submit(use, k) for k in range(4)]
        total = sum((each.result(2 * WAIT_S) for each in users), collections.Counter())
    pool.shutdown()
    assert total["cancelled"] + total["failed"] + total["returned"] == 20_000
    assert (len(told), set(told.values())) == (total["callbacks"], {1})
    assert total["cancelled"] > 0


# ---- errors of tasks ----


def test_an_error_has_the_remote_traceback_as_its_cause(pool):
    error = pool.submit(tasks.fail_at_a_line_to_be_seen).exception(WAIT_S)
    assert (type(error), error.args) == (LookupError, ("see my line",))
    assert 'raise LookupError("see my line")  # a line to be seen' in str(error.__cause__)
    assert "in fail_at_a_line_to_be_seen" in str(error.__cause__)
    assert "tasks_contract.py" in str(error.__cause__)


def test_the_remote_traceback_is_in_what_an_uncaught_error_prints(pool):
    try:
        pool.submit(tasks.fail_at_a_line_to_be_seen).result(WAIT_S)
    except LookupError:
        text = traceback.format_exc()
    assert "# a line to be seen" in text
    assert "direct cause" in text


def test_the_remote_traceback_shows_the_chain_of_causes(pool):
    error = pool.submit(tasks.fail_in_a_chain).exception(WAIT_S)
    assert type(error) is RuntimeError
    assert "KeyError: 'inner'" in str(error.__cause__)
    assert "RuntimeError: outer" in str(error.__cause__)


def test_an_error_keeps_its_attributes_and_notes(pool):
    error = pool.submit(tasks.fail_with_notes).exception(WAIT_S)
    assert type(error) is tasks.Odd
    assert error.detail == {"code": 7, "items": [1, 2]}
    assert error.__notes__ == ["first note", "second note"]
    assert "second note" in str(error.__cause__)


def test_an_exception_group_arrives_whole(pool):
    error = pool.submit(tasks.fail_with_a_group).exception(WAIT_S)
    assert type(error) is ExceptionGroup
    assert [(type(each), each.args) for each in error.exceptions] == [(ValueError, ("one",)), (TypeError, ("two",))]


@pytest.mark.parametrize(
    "error",
    [
        ValueError("plain"),
        KeyError("missing"),
        OSError(2, "No such file", "name"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
        StopIteration(3),
        StopAsyncIteration(4),
        KeyboardInterrupt("by the task"),
        SystemExit(7),
        SystemExit("words"),
        GeneratorExit("early"),
        tasks.Stop("not an Exception"),
        concurrent.futures.CancelledError("raised, not cancelled"),
        TimeoutError("raised, not in the caller"),
        MemoryError("none left"),
    ],
    ids=repr,
)
def test_whatever_a_task_raises_is_the_exception_of_its_future(shared_pool, error):
    future = shared_pool.submit(tasks.fail_with, error)
    found = future.exception(WAIT_S)
    assert type(found) is type(error)
    assert (found.args, str(found)) == (error.args, str(error))
    assert "fail_with" in str(found.__cause__)
    with pytest.raises(type(error)) as caught:
        future.result(WAIT_S)
    assert caught.value is found
    assert not future.cancelled()
    # and the pool goes on with the same worker
    assert shared_pool.submit(tasks.square, 3).result(WAIT_S) == 9


def test_a_worker_that_raises_exits_stays_the_same_process(make_pool):
    pool = make_pool()
    first = pool.submit(tasks.pid).result(WAIT_S)
    for task in (functools.partial(tasks.leave, 3), tasks.interrupt):
        assert isinstance(pool.submit(task).exception(WAIT_S), SystemExit | KeyboardInterrupt)
    assert pool.submit(tasks.pid).result(WAIT_S) == first


def test_a_system_exit_reaches_callbacks_and_waiters(pool):
    future = pool.submit(tasks.leave, 3)
    done = threading.Event()
    future.add_done_callback(lambda _: done.set())
    assert concurrent.futures.wait([future], WAIT_S).done == {future}
    assert done.wait(WAIT_S)
    assert future.exception(0).code == 3


# ---- shutdown ----


def test_submit_after_shutdown_is_refused(make_pool):
    for used in (False, True):
        pool = make_pool()
        if used:
            assert pool.submit(tasks.square, 2).result(WAIT_S) == 4
        pool.shutdown()
        with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
            pool.submit(tasks.square, 2)
        with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
            pool.map(tasks.square, [2])


@pytest.mark.parametrize(
    "options", [{}, {"chunksize": 5}, *([{"buffersize": 3}] if sys.version_info >= (3, 14) else [])]
)
@pytest.mark.parametrize("used", [False, True], ids=["never used", "used"])
def test_nothing_can_be_mapped_after_shutdown(make_pool, used, options):
    pool = make_pool()
    if used:
        assert pool.submit(tasks.square, 2).result(WAIT_S) == 4
    pool.shutdown()
    with contextlib.closing(pool.map(tasks.square, [], **options)) as results:
        assert list(results) == []
    assert list(pool.map(tasks.square, range(3), (), **options)) == []
    with pytest.raises(RuntimeError, match=r"^cannot schedule new futures after shutdown$"):
        pool.map(tasks.square, iter([1, 2]), **options)


def test_leaving_the_with_block_waits_for_all_tasks(make_pool):
    with make_pool(2) as pool:
        futures = [pool.submit(tasks.burn, 0.001) for _ in range(100)]
    assert all(future.done() and not future.cancelled() for future in futures)
    assert {future.result(0) for future in futures} == {0.001}


def test_an_exception_leaves_the_with_block_and_all_tasks_are_done(make_pool):
    with pytest.raises(ZeroDivisionError), make_pool() as pool:
        future = pool.submit(tasks.burn, 0.05)
        1 / 0  # noqa: B018
    assert future.result(0) == 0.05


def test_results_still_come_after_a_shutdown_that_does_not_wait(make_pool, gate):
    pool = make_pool(2)
    futures = [pool.submit(tasks.pass_gate, gate.path, i) for i in range(20)]
    gate.wait_entered(2)
    pool.shutdown(wait=False)
    assert not any(future.done() for future in futures)
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(tasks.nothing)
    gate.open()
    assert [future.result(WAIT_S) for future in futures] == list(range(20))


def test_shutdown_that_cancels_spares_the_task_that_runs(make_pool, gate, tmp_path):
    pool = make_pool()
    ran = tmp_path / "ran"
    running = pool.submit(tasks.pass_gate, gate.path, "ran on")
    gate.wait_entered()
    waiting = [pool.submit(tasks.note, str(ran), i) for i in range(2000)]
    pool.shutdown(wait=False, cancel_futures=True)
    gate.open()
    assert running.result(WAIT_S) == "ran on"
    not_cancelled = []
    for future in waiting:
        with contextlib.suppress(concurrent.futures.CancelledError):
            not_cancelled.append(future.result(WAIT_S))
    assert tasks.read_lines(ran) == [str(i) for i in not_cancelled]
    # the stdlib has handed two on by then
    assert not_cancelled == ([] if isinstance(pool, ringpool.ProcessPoolExecutor) else [0, 1][: len(not_cancelled)])


@only_ringpool  # in the stdlib, wait() is never told of these
@pytest.mark.parametrize("wait", ["before", "after"])
def test_shutdown_that_cancels_tells_callbacks_and_waiters(make_pool, gate, wait):
    pool = make_pool()
    running = pool.submit(tasks.pass_gate, gate.path)
    gate.wait_entered()
    waiting = [pool.submit(tasks.nothing) for i in range(50)]
    told = []
    for future in waiting:
        future.add_done_callback(told.append)
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        if wait == "before":
            begun = threading.Event()
            waiter = threads.submit(lambda: (begun.set(), concurrent.futures.wait(waiting, WAIT_S))[1])
            assert begun.wait(WAIT_S)
        pool.shutdown(wait=False, cancel_futures=True)
        if wait == "after":
            waiter = threads.submit(concurrent.futures.wait, waiting, WAIT_S)
        assert waiter.result(WAIT_S) == (set(waiting), set())
    wait_until(lambda: told == waiting, "the callbacks")  # the collector's, perhaps after wait() has returned
    assert not running.done()
    gate.open()
    assert running.result(WAIT_S) is None


@pytest.mark.parametrize("used", [False, True])
def test_shutdown_may_be_called_again(make_pool, used):
    pool = make_pool()
    if used:
        pool.submit(tasks.nothing)
    pool.shutdown(wait=False)
    pool.shutdown()
    pool.shutdown(cancel_futures=True)
    pool.shutdown(wait=False)
    with pool:
        pass


def test_shutdown_from_a_callback(make_pool):
    pool = make_pool(2)
    called, futures = threading.Event(), []

    def callback(_):
        pool.shutdown(wait=False)
        called.set()

    futures = [pool.submit(tasks.square, i) for i in range(50)]
    futures[0].add_done_callback(callback)
    assert called.wait(WAIT_S)
    assert [future.result(WAIT_S) for future in futures] == [i * i for i in range(50)]
    pool.shutdown()


@only_ringpool  # the stdlib's thread tries to join itself
def test_shutdown_that_waits_from_a_callback(make_pool):
    pool = make_pool(2)
    errors, called = [], threading.Event()

    def callback(_):
        try:
            pool.shutdown(wait=True)
        except BaseException as error:
            errors.append(error)
        called.set()

    futures = [pool.submit(tasks.square, i) for i in range(50)]
    futures[0].add_done_callback(callback)
    assert called.wait(WAIT_S)
    assert errors == []
    assert [future.result(WAIT_S) for future in futures] == [i * i for i in range(50)]


@only_ringpool  # in the stdlib, both may close the same pipe: OSError, bad file descriptor
def test_shutdown_from_two_threads_at_once(make_pool, gate):
    pool = make_pool()
    future = pool.submit(tasks.pass_gate, gate.path, 5)
    gate.wait_entered()
    start = threading.Barrier(3)

    def shut_down():
        start.wait(WAIT_S)
        pool.shutdown()
        return future.done()

    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        both = [threads.submit(shut_down) for _ in range(2)]
        start.wait(WAIT_S)
        gate.open()
        assert [each.result(WAIT_S) for each in both] == [True, True]


def test_threads_that_submit_while_another_shuts_down_get_a_future_or_the_refusal(make_pool):
    pool = make_pool(2)
    pool.submit(tasks.nothing).result(WAIT_S)
    start = threading.Barrier(5)

    def submit():
        start.wait(WAIT_S)
        futures = []
        with contextlib.suppress(RuntimeError):
            for i in range(100_000):
                futures.append(pool.submit(tasks.square, i))
        return futures

    with concurrent.futures.ThreadPoolExecutor(4) as threads:
        users = [threads.submit(submit) for _ in range(4)]
        start.wait(WAIT_S)
        pool.shutdown()
        for each in users:
            for i, future in enumerate(each.result(WAIT_S)):
                assert future.result(WAIT_S) == i * i


def test_results_can_be_had_after_the_executor_is_gone(executor_class, start_method):
    with executor_class(1, multiprocessing.get_context(start_method)) as executor:
        small, large = executor.submit(tasks.make, "x", 3), executor.submit(tasks.make, "x", 3_000_000)
        failed = executor.submit(tasks.fail_on, 1, 1)
    del executor
    gc.collect()
    assert small.result(0) == "xxx"
    assert large.result(0) == "x" * 3_000_000
    assert str(failed.exception(0)) == "bad item 1"


def test_an_executor_that_is_garbage_completes_its_tasks(executor_class, start_method, gate):
    executor = executor_class(2, multiprocessing.get_context(start_method))
    futures = [executor.submit(tasks.pass_gate, gate.path, i) for i in range(2000)]
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    wait_until(lambda: gone() is None, "the executor's end")  # the stdlib's own thread holds it now and then
    gate.open()
    assert [future.result(WAIT_S) for future in futures] == list(range(2000))


def test_an_executor_that_was_never_used_is_collected(executor_class):
    executor = executor_class(2)
    gone = weakref.ref(executor)
    del executor
    gc.collect()
    assert gone() is None


# ---- the end of the interpreter ----

LEFT_OPEN = """
import multiprocessing, sys
import {module}
import tasks_contract as tasks

if __name__ == "__main__":
    context = multiprocessing.get_context("{method}")
    executor = {module}.ProcessPoolExecutor(2, context)
    for i in range({n}):
        executor.submit(tasks.note, {ran!r}, i)
    {end}
"""


def run_script(directory, text):
    """Runs a script in development mode, in a process that finds what this one finds."""
    script = directory / "script.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, "-X", "dev", str(script)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )


@pytest.mark.parametrize(
    ("module", "method"),
    [("concurrent.futures", "forkserver"), *(("ringpool", method) for method in METHODS)],
)
@pytest.mark.parametrize("n", [1, 30, 1500])
def test_an_executor_left_open_completes_its_tasks_when_the_interpreter_ends(tmp_path, module, method, n):
    ran = tmp_path / "ran"
    text = LEFT_OPEN.format(module=module, method=method, n=n, ran=str(ran), end="pass")
    ended = run_script(tmp_path, text)
    # Python 3.12 and later warn of every fork, in development mode, while there are threads
    stderr = "" if method == "fork" and "DeprecationWarning" in ended.stderr else ended.stderr
    assert (ended.returncode, ended.stdout, stderr) == (0, "", "")
    assert sorted(map(int, tasks.read_lines(ran))) == list(range(n))


@pytest.mark.parametrize("end", ["del executor", "executor.shutdown(wait=False)", "executor.shutdown()"])
@pytest.mark.parametrize("module", ["concurrent.futures", "ringpool"])
def test_pending_tasks_are_completed_however_the_executor_is_left(tmp_path, module, end):
    ran = tmp_path / "ran"
    ended = run_script(tmp_path, LEFT_OPEN.format(module=module, method="forkserver", n=50, ran=str(ran), end=end))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
    assert sorted(map(int, tasks.read_lines(ran))) == list(range(50))


@pytest.mark.parametrize("module", ["concurrent.futures", "ringpool"])
def test_an_exit_code_is_kept_with_an_executor_left_open(tmp_path, module):
    ran = tmp_path / "ran"
    ended = run_script(
        tmp_path, LEFT_OPEN.format(module=module, method="forkserver", n=9, ran=str(ran), end="sys.exit(5)")
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (5, "", "")
    assert len(tasks.read_lines(ran)) == 9


@only_ringpool
def test_an_executor_that_was_never_used_lets_the_interpreter_end(tmp_path, executor_class):
    ended = run_script(tmp_path, "import ringpool\nexecutor = ringpool.ProcessPoolExecutor(2)\n")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


@only_ringpool
def test_a_future_kept_past_the_interpreters_end_does_no_harm(tmp_path, executor_class):
    ran = tmp_path / "ran"
    end = "kept = [executor.submit(tasks.make, 'x', 10**6) for _ in range(5)]; kept[0].result()"
    ended = run_script(tmp_path, LEFT_OPEN.format(module="ringpool", method="forkserver", n=1, ran=str(ran), end=end))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


# ---- the arguments of an executor ----


def error_of(executor_class, start_method, options):
    options = {"mp_context": multiprocessing.get_context(start_method), **options}
    try:
        executor_class(**options)
    except Exception as error:
        return type(error), str(error)
    return None


@pytest.mark.parametrize(
    "options",
    [
        {"max_workers": 0},
        {"max_workers": -1},
        {"initializer": 5},
        {"initializer": "name"},
        {"max_tasks_per_child": 0},
        {"max_tasks_per_child": -1},
        {"max_tasks_per_child": "x"},
        {"max_tasks_per_child": 1.5},
        {"max_workers": "x"},
        {"unknown": 1},
    ],
    ids=str,
)
def test_an_error_in_an_argument_is_the_stdlibs(options):
    theirs, ours = (error_of(each, "forkserver", options) for each in CLASSES.values())
    assert theirs is not None
    if "unknown" in options:
        assert ours is not None
        assert ours[0] is theirs[0]
    else:
        assert ours == theirs


def test_max_tasks_per_child_with_fork_is_refused_as_in_the_stdlib():
    theirs, ours = (error_of(each, "fork", {"max_tasks_per_child": 2}) for each in CLASSES.values())
    assert theirs is not None
    assert theirs[0] is ValueError
    assert ours == theirs


@pytest.mark.parametrize("policy", ["", "restart", None, 1, "BREAK"])
def test_on_worker_death_is_replace_or_break(policy):
    with pytest.raises(ValueError, match="on_worker_death must be 'replace' or 'break'"):
        ringpool.ProcessPoolExecutor(1, on_worker_death=policy)


def test_more_workers_than_1024_are_refused():
    with pytest.raises(ValueError, match="1024"):
        ringpool.ProcessPoolExecutor(1025)
    ringpool.ProcessPoolExecutor(1024).shutdown()


@pytest.mark.parametrize("n", [1, 2])
def test_by_default_there_is_a_worker_for_each_processor_that_may_be_used(tmp_path, n):
    processors = sorted(os.sched_getaffinity(0))
    if len(processors) < n:
        pytest.skip(f"needs {n} processors")
    ended = run_script(
        tmp_path,
        "import os, ringpool\n"
        f"os.sched_setaffinity(0, {processors[:n]})\n"
        "executor = ringpool.ProcessPoolExecutor()\n"
        "print(executor._max_workers)\n"
        "executor.shutdown()\n",
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"{n}\n", "")


def test_options_of_the_stdlib_go_by_position_as_there(executor_class):
    context = multiprocessing.get_context("forkserver")
    with executor_class(1, context, tasks.initialize, (os.devnull, 5)) as executor:
        assert executor.submit(tasks.initialized).result(WAIT_S)[1] == [5]
    with pytest.raises(TypeError):
        executor_class(1, context, None, (), 5) if executor_class is CLASSES["ringpool"] else executor_class(*range(9))


# ---- workers ----


def test_the_initializer_runs_once_in_each_worker_before_its_first_task(make_pool, make_gate, tmp_path):
    ran = tmp_path / "initialized"
    pool = make_pool(3, initializer=tasks.initialize, initargs=(str(ran), "value"))
    gates = [make_gate() for _ in range(3)]
    futures = [pool.submit(tasks.initialized_at_gate, each.path) for each in gates]
    for each in gates:
        each.wait_entered()  # so each has a worker of its own
    for each in gates:
        each.open()
    results = [future.result(WAIT_S) for future in futures]
    assert [values for _, values in results] == [["value"]] * 3
    assert sorted(map(str, (pid for pid, _ in results))) == sorted(tasks.read_lines(ran))
    for _ in range(50):
        assert pool.submit(tasks.initialized).result(WAIT_S) in results


@only_ringpool  # the stdlib's pool may stop for ever with more than max_tasks_per_child tasks pending
@pytest.mark.parametrize("start_method", ["forkserver", "spawn"])
@pytest.mark.parametrize("max_tasks", [1, 3])
def test_max_tasks_per_child_replaces_processes(make_pool, max_tasks, start_method):
    pool = make_pool(1, max_tasks_per_child=max_tasks)
    pids = [future.result(WAIT_S) for future in [pool.submit(tasks.pid) for _ in range(20)]]
    runs = [len(list(group)) for _, group in itertools.groupby(pids)]
    assert runs == [max_tasks] * (20 // max_tasks) + [20 % max_tasks] * bool(20 % max_tasks)
    assert len(set(pids)) == len(runs)
    assert os.getpid() not in pids


@only_ringpool
def test_max_tasks_per_child_without_a_context_spawns(executor_class):
    with executor_class(1, max_tasks_per_child=2) as executor:
        pids = [executor.submit(tasks.pid).result(WAIT_S) for _ in range(4)]
    assert pids[0] == pids[1] != pids[2] == pids[3]


@only_ringpool
def test_successors_of_workers_run_the_initializer_too(make_pool, tmp_path):
    ran = tmp_path / "initialized"
    pool = make_pool(1, initializer=tasks.initialize, initargs=(str(ran), "value"), max_tasks_per_child=2)
    results = [pool.submit(tasks.initialized).result(WAIT_S) for _ in range(6)]
    assert [values for _, values in results] == [["value"]] * 6
    pids = [str(pid) for pid, _ in results]
    assert list(dict.fromkeys(pids)) == tasks.read_lines(ran)[:3]


@only_ringpool
def test_max_tasks_per_child_and_shutdown_with_tasks_pending(make_pool):
    pool = make_pool(2, max_tasks_per_child=2)
    futures = [pool.submit(tasks.square, i) for i in range(15)]
    pool.shutdown()
    assert [future.result(0) for future in futures] == [i * i for i in range(15)]


def test_as_many_tasks_run_at_once_as_there_are_workers(make_pool, make_gate):
    pool = make_pool(4)
    gates = [make_gate() for _ in range(4)]
    futures = [pool.submit(tasks.pass_gate, each.path, i) for i, each in enumerate(gates)]
    for each in gates:
        each.wait_entered()
    for each in reversed(gates):
        each.open()
    assert [future.result(WAIT_S) for future in futures] == [0, 1, 2, 3]


def test_one_worker_runs_tasks_in_the_order_of_submit(make_pool, tmp_path):
    pool = make_pool()
    ran = tmp_path / "ran"
    futures = [pool.submit(tasks.note, str(ran), i) for i in range(2500)]
    futures[-1].result(WAIT_S)
    assert tasks.read_lines(ran) == [str(i) for i in range(2500)]


def test_ctrl_c_in_a_worker_is_not_its_affair(make_pool):
    """Of ringpool; the stdlib's worker raises it in the task."""
    pool = make_pool()
    error = pool.submit(tasks.ignores_sigint).exception(WAIT_S)
    assert error is None or isinstance(error, KeyboardInterrupt)
    if isinstance(pool, ringpool.ProcessPoolExecutor):
        assert error is None


# ---- under every start method ----


@only_ringpool
@all_start_methods
def test_calls_errors_and_large_values_under_each_start_method(make_pool, start_method):
    pool = make_pool(2)
    assert pool.submit(pow, 2, 10).result(WAIT_S) == 1024
    assert pool.submit(tasks.Adder(5).plus, 1).result(WAIT_S) == 6
    assert pool.submit(lambda x: x + 1, 1).result(WAIT_S) == 2
    assert pool.submit(tasks.identify, 1, b=[2]).result(WAIT_S) == ((1,), {"b": [2]})
    assert pool.submit(tasks.echo, tasks.Record("a", [1])).result(WAIT_S) == tasks.Record("a", [1])
    assert pool.submit(tasks.echo, "é" * 3_000_000).result(WAIT_S) == "é" * 3_000_000
    error = pool.submit(tasks.fail_at_a_line_to_be_seen).exception(WAIT_S)
    assert "# a line to be seen" in str(error.__cause__)
    assert isinstance(pool.submit(tasks.leave, 1).exception(WAIT_S), SystemExit)
    assert list(pool.map(tasks.square, range(3000), timeout=WAIT_S)) == [i * i for i in range(3000)]
    assert list(pool.map(tasks.square, range(3000), timeout=WAIT_S, chunksize=100)) == [i * i for i in range(3000)]


@only_ringpool
@all_start_methods
def test_cancelling_and_callbacks_under_each_start_method(make_pool, gate, start_method):
    pool = make_pool()
    running = pool.submit(tasks.pass_gate, gate.path, 1)
    gate.wait_entered()
    waiting = [pool.submit(tasks.square, i) for i in range(1500)]
    assert running.running()
    assert all(future.cancel() for future in waiting[::2])
    done = threading.Event()
    waiting[-1].add_done_callback(lambda _: done.set())
    gate.open()
    assert done.wait(WAIT_S)
    assert [future.result(WAIT_S) for future in waiting[1::2]] == [i * i for i in range(1, 1500, 2)]


@only_ringpool
@all_start_methods
def test_initializers_run_under_each_start_method(make_pool, start_method, tmp_path):
    ran = tmp_path / "initialized"
    pool = make_pool(2, initializer=tasks.initialize, initargs=(str(ran), start_method))
    results = {pool.submit(tasks.initialized).result(WAIT_S)[0] for _ in range(50)}
    assert {str(pid) for pid in results} <= set(tasks.read_lines(ran))
    pool.shutdown()
    assert len(set(tasks.read_lines(ran))) == len(tasks.read_lines(ran)) <= 2


@only_ringpool
@all_start_methods
def test_garbage_executors_complete_under_each_start_method(executor_class, start_method, gate):
    executor = executor_class(2, multiprocessing.get_context(start_method))
    futures = [executor.submit(tasks.pass_gate, gate.path, i) for i in range(1200)]
    del executor
    gc.collect()
    gate.open()
    assert [future.result(WAIT_S) for future in futures] == list(range(1200))


@only_ringpool
@all_start_methods
def test_asyncio_and_as_completed_under_each_start_method(make_pool, start_method):
    pool = make_pool(2)

    async def main():
        loop = asyncio.get_running_loop()
        return await asyncio.wait_for(
            asyncio.gather(*(loop.run_in_executor(pool, tasks.square, i) for i in range(100))), WAIT_S
        )

    assert asyncio.run(main()) == [i * i for i in range(100)]
    futures = {pool.submit(tasks.square, i): i for i in range(100)}
    assert {futures[each] for each in concurrent.futures.as_completed(futures, timeout=WAIT_S)} == set(range(100))
