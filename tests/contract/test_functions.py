"""Which functions can be sent, and that none is ever served stale: what counts is what it is at its submit."""

from __future__ import annotations

import functools
import gc
import math
import operator
import subprocess
import sys
import textwrap
import types
from multiprocessing import get_context

import pytest
import tasks_faults as tasks
from levels import METHODS
from limits import LIMIT

from ringpool import ProcessPoolExecutor, functions

FACTOR = 3


@pytest.fixture
def executor():
    with ProcessPoolExecutor(1, get_context("spawn")) as made:
        yield made


def ask(executor, fn, *args, **kwargs):
    return executor.submit(fn, *args, **kwargs).result(LIMIT)


def top_level(x, y=2, *, z=3):
    return x, y, z


class Counter:
    """An instance whose state its methods tell."""

    def __init__(self, start):
        self.value = start

    def plus(self, n):
        return self.value + n

    __call__ = plus

    @classmethod
    def name(cls):
        return cls.__name__

    @staticmethod
    def double(x):
        return 2 * x


# ---- what can be sent ----


@pytest.mark.parametrize("method", METHODS)
def test_functions_of_every_kind_can_be_sent(method):
    def closure(x):
        return x + offset

    def outer(x):
        def inner(y):
            return x, y, offset

        return inner(x + 1)

    def generator(n):
        yield from range(n)

    def listed(n):
        return list(generator(n))

    offset = 10
    with ProcessPoolExecutor(2, get_context(method)) as executor:
        assert ask(executor, lambda x: x + 1, 4) == 5
        assert ask(executor, lambda: FACTOR) == 3
        assert ask(executor, closure, 1) == 11
        assert ask(executor, outer, 1) == (1, 2, 10)
        assert ask(executor, listed, 3) == [0, 1, 2]
        assert ask(executor, top_level, 1) == (1, 2, 3)
        assert ask(executor, top_level, 1, z=5) == (1, 2, 5)
        assert ask(executor, top_level, 1, y=4) == (1, 4, 3)
        assert ask(executor, math.hypot, 3, 4) == 5
        assert ask(executor, len, "abc") == 3
        assert ask(executor, int, "7") == 7
        assert ask(executor, dict, a=1) == {"a": 1}
        assert ask(executor, Counter, 3).value == 3
        assert ask(executor, Counter(3), 4) == 7
        assert ask(executor, Counter(3).plus, 4) == 7
        assert ask(executor, Counter.name) == "Counter"
        assert ask(executor, Counter.double, 4) == 8
        assert ask(executor, Counter.plus, Counter(1), 2) == 3
        assert ask(executor, str.upper, "abc") == "ABC"
        assert ask(executor, "a-b".split, "-") == ["a", "b"]
        assert ask(executor, [3, 1].index, 1) == 1
        assert ask(executor, functools.partial(pow, 2), 5) == 32
        assert ask(executor, functools.partial(lambda x, y: x - y, y=1), 5) == 4
        assert ask(executor, functools.partial(top_level, z=0), 1, y=0) == (1, 0, 0)
        assert ask(executor, operator.itemgetter(1), "abc") == "b"
        assert list(executor.map(lambda x: x * offset, range(50), timeout=LIMIT)) == [10 * i for i in range(50)]
        assert list(executor.map(closure, range(50), chunksize=7, timeout=LIMIT)) == [10 + i for i in range(50)]


def test_a_recursive_lambda_and_functions_that_call_each_other_can_be_sent(executor):
    fact = lambda n: 1 if n < 2 else n * fact(n - 1)  # noqa: E731

    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    for _ in range(3):
        assert ask(executor, fact, 5) == 120
        assert ask(executor, even, 10) is True
        assert ask(executor, odd, 10) is False


def test_lambdas_travel_as_arguments_and_as_results(executor):
    offset = 7
    assert ask(executor, lambda f, x: f(x), lambda x: x + offset, 1) == 8
    assert ask(executor, map_with, lambda x: x * 2, [1, 2]) == [2, 4]
    assert ask(executor, make_adder, 5)(6) == 11
    assert ask(executor, lambda n: lambda x: x + n, 5)(6) == 11
    assert ask(executor, lambda: {"f": [lambda: offset]})["f"][0]() == 7
    assert ask(executor, map_with, f=lambda x: -x, items=[1]) == [-1]


def map_with(f, items):
    return [f(item) for item in items]


def make_adder(n):
    return lambda x: x + n


def test_local_classes_and_their_instances_travel(executor):
    class Point:
        def __init__(self, x):
            self.x = x

        def __eq__(self, other):
            return type(other) is type(self) and other.x == self.x

        def moved(self, by):
            return Point(self.x + by)

    assert ask(executor, lambda p: p.moved(2), Point(1)).x == 3
    assert ask(executor, Point(1).moved, 4) == Point(5)
    assert ask(executor, Point, 8) == Point(8)
    assert ask(executor, lambda: Point) is Point


# ---- never stale ----


def test_a_rebound_cell_is_seen(executor):
    value = 1

    def fn():
        return value

    assert ask(executor, fn) == 1
    value = 2
    assert ask(executor, fn) == 2
    value = 1
    assert ask(executor, fn) == 1


def test_a_changed_list_in_a_closure_is_seen(executor):
    items = [1]

    def fn():
        return items

    assert ask(executor, fn) == [1]
    items.append(2)
    assert ask(executor, fn) == [1, 2]


def test_a_list_inside_a_tuple_in_a_closure_is_seen_when_it_changes(executor):
    items = ([1], 2)
    fn = lambda: items  # noqa: E731
    assert ask(executor, fn) == ([1], 2)
    items[0].append(2)
    assert ask(executor, fn) == ([1, 2], 2)


def test_rebound_defaults_are_seen(executor):
    def fn(x=1, *, y=2):
        return x, y

    assert ask(executor, fn) == (1, 2)
    fn.__defaults__ = (3,)
    assert ask(executor, fn) == (3, 2)
    fn.__kwdefaults__ = {"y": 4}
    assert ask(executor, fn) == (3, 4)
    fn.__kwdefaults__["y"] = 5
    assert ask(executor, fn) == (3, 5)
    fn.__defaults__ = None
    assert ask(executor, fn, 0) == (0, 5)
    with pytest.raises(TypeError, match="missing 1 required positional argument"):
        ask(executor, fn)


def test_a_renamed_keyword_default_is_seen(executor):
    def fn(*, a=1, b=2):
        return a, b

    assert ask(executor, fn) == (1, 2)
    fn.__kwdefaults__ = {"a": 2, "b": 1}
    assert ask(executor, fn) == (2, 1)
    fn.__kwdefaults__ = {"b": 2, "a": 1}
    assert ask(executor, fn) == (1, 2)


def test_a_changed_default_is_seen(executor):
    def fn(x=[1]):  # noqa: B006
        return x

    assert ask(executor, fn) == [1]
    fn.__defaults__[0].append(2)
    assert ask(executor, fn) == [1, 2]


def test_what_a_task_does_to_its_default_stays_with_the_task(executor):
    def fn(x=[]):  # noqa: B006
        x.append(1)
        return x

    assert [ask(executor, fn) for _ in range(3)] == [[1]] * 3


def test_other_code_is_seen(executor):
    def fn():
        return 1

    assert ask(executor, fn) == 1
    fn.__code__ = (lambda: 2).__code__
    assert ask(executor, fn) == 2


def test_function_attributes_are_seen(executor):
    def fn():
        return fn.factor

    fn.factor = 1
    assert ask(executor, fn) == 1
    fn.factor = 2
    assert ask(executor, fn) == 2
    fn.factor = [3]
    assert ask(executor, fn) == [3]
    fn.factor.append(4)
    assert ask(executor, fn) == [3, 4]


def test_another_module_name_is_seen(executor):
    def fn():
        return fn.__module__

    assert ask(executor, fn) == __name__
    fn.__module__ = "another"
    assert ask(executor, fn) == "another"


def test_a_changed_name_and_docstring_are_seen(executor):
    def fn():
        return fn.__name__, fn.__qualname__, fn.__doc__

    assert ask(executor, fn)[0] == "fn"
    fn.__name__, fn.__qualname__, fn.__doc__ = "other", "an.other", "words"
    assert ask(executor, fn) == ("other", "an.other", "words")


def test_a_rebound_global_is_seen_by_a_local_function(executor, monkeypatch):
    # The worker imports this module by name; what a function pickled by value refers to goes along.
    fn = lambda: FACTOR  # noqa: E731
    assert ask(executor, fn) == 3
    monkeypatch.setitem(globals(), "FACTOR", 4)
    assert ask(executor, fn) == 4
    monkeypatch.setitem(globals(), "FACTOR", [5])
    assert ask(executor, fn) == [5]
    globals()["FACTOR"].append(6)
    assert ask(executor, fn) == [5, 6]


def test_a_rebound_global_of_a_nested_function_is_seen(executor, monkeypatch):
    def fn():
        return [(lambda: FACTOR)() for _ in range(2)]

    assert ask(executor, fn) == [3, 3]
    monkeypatch.setitem(globals(), "FACTOR", 4)
    assert ask(executor, fn) == [4, 4]


def test_a_local_helper_that_is_rebound_is_seen(executor):
    def helper():
        return 1

    def fn():
        return helper()

    assert ask(executor, fn) == 1

    helper = lambda: 2  # noqa: E731, F811
    assert ask(executor, fn) == 2
    helper.__code__ = (lambda: 3).__code__
    assert ask(executor, fn) == 3


def test_a_global_helper_that_becomes_a_lambda_is_seen(executor, monkeypatch):
    fn = lambda: make_adder(1)(1)  # noqa: E731
    assert ask(executor, fn) == 2
    monkeypatch.setitem(globals(), "make_adder", lambda n: lambda x: (n, x))
    assert ask(executor, fn) == (1, 1)
    monkeypatch.undo()
    assert ask(executor, fn) == 2


def test_a_function_two_steps_away_that_is_rebound_is_seen(executor):
    depth = 1
    one = lambda: depth  # noqa: E731
    two = lambda: one()  # noqa: E731
    three = lambda: two()  # noqa: E731
    assert ask(executor, three) == 1
    depth = 2
    assert ask(executor, three) == 2
    one = lambda: "other"  # noqa: E731
    assert ask(executor, three) == "other"


def test_a_cell_filled_after_the_first_submit_is_seen(executor):
    def fn():
        return late  # noqa: F821

    with pytest.raises(NameError):
        ask(executor, fn)
    late = 1
    assert ask(executor, fn) == 1
    del late
    with pytest.raises(NameError):
        ask(executor, fn)


def test_a_global_defined_or_deleted_after_the_first_submit_is_seen(executor, monkeypatch):
    fn = lambda: LATE  # noqa: E731, F821
    with pytest.raises(NameError):
        ask(executor, fn)
    monkeypatch.setitem(globals(), "LATE", 1)
    assert ask(executor, fn) == 1
    monkeypatch.delitem(globals(), "LATE")
    with pytest.raises(NameError):
        ask(executor, fn)


def test_the_object_of_a_bound_method_is_seen_as_it_is(executor):
    counter = Counter(1)
    method = counter.plus
    partial = functools.partial(counter.plus, 1)
    assert ask(executor, method, 1) == ask(executor, counter, 1) == ask(executor, partial) == 2
    counter.value = 10
    assert ask(executor, method, 1) == ask(executor, counter, 1) == ask(executor, partial) == 11


def test_the_arguments_of_a_partial_are_seen_as_they_are(executor):
    items = [1]
    partial = functools.partial(len, items)
    assert ask(executor, partial) == 1
    items.append(2)
    assert ask(executor, partial) == 2


def test_an_instance_in_a_closure_is_seen_as_it_is(executor):
    counter = Counter(1)
    fn = lambda n: counter.plus(n)  # noqa: E731
    assert ask(executor, fn, 1) == 2
    counter.value = 10
    assert ask(executor, fn, 1) == 11


def test_a_function_of_a_module_that_is_rebound_here_goes_by_value(executor, monkeypatch):
    """The name in the module means another object now: the worker would import the wrong one."""
    old = tasks.echo
    assert ask(executor, old, 1, 2) == (1, 2)

    def other(i, payload):
        return "other"

    monkeypatch.setattr(tasks, "echo", other)
    assert ask(executor, tasks.echo, 1, 2) == "other"
    assert ask(executor, old, 1, 2) == (1, 2)


@pytest.mark.parametrize("method", METHODS)
def test_a_function_found_by_name_is_the_one_that_has_the_name_in_the_worker(method):
    with ProcessPoolExecutor(1, get_context(method)) as executor:
        assert ask(executor, tasks.take, 1) == 0
        assert ask(executor, tasks.rebind, "take", "rebound_once") is None
        for _ in range(3):
            assert ask(executor, tasks.take, 1) == "once"


def test_a_name_that_a_worker_rebinds_twice_is_looked_up_each_time(executor):
    for name in ("rebound_once", "rebound_twice", "rebound_once"):
        assert ask(executor, tasks.rebind, "take", name) is None
        assert ask(executor, tasks.take, 1) == name.removeprefix("rebound_")


def test_a_name_that_a_worker_binds_to_a_partial_and_then_to_something_else_is_looked_up_each_time(executor):
    assert ask(executor, tasks.rebind, "take", "rebound_partially") is None
    assert ask(executor, tasks.take, 1) == "partially"
    assert ask(executor, tasks.rebind, "take", "rebound_once") is None
    assert ask(executor, tasks.take, 1) == "once"


def test_a_function_found_by_a_dotted_name_is_the_one_that_has_the_name_in_the_worker(executor):
    assert ask(executor, tasks.Holder.held) == "held"
    assert ask(executor, tasks.rebind_in_class, "rebound_once") is None
    assert ask(executor, tasks.Holder.held) == "once"


def test_a_class_found_by_name_is_the_one_that_has_the_name_in_the_worker(executor):
    assert type(ask(executor, tasks.Holder)) is tasks.Holder
    assert ask(executor, tasks.rebind, "Holder", "rebound_partially") is None
    assert ask(executor, tasks.Holder) == "partially"


# ---- an interactive __main__ ----

MAIN = """
import sys
from multiprocessing import get_context
from ringpool import ProcessPoolExecutor

FACTOR = 2
ITEMS = [1]

def helper(x):
    return x * FACTOR

def fn(x, y=1):
    return helper(x) + y

class Point:
    scale = 1
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return type(other) is type(self) and other.x == self.x
    def moved(self, by):
        return Point(self.x * self.scale + by)

class Gone(Exception):
    pass

def fail():
    raise Gone("away")

executor = ProcessPoolExecutor(1, get_context(sys.argv[1]))

def ask(fn, *args, **kwargs):
    return executor.submit(fn, *args, **kwargs).result(30)

print(ask(fn, 3), ask(lambda x: x + FACTOR, 3), list(executor.map(fn, range(3), timeout=30)))
FACTOR = 3
print(ask(fn, 3), ask(lambda x: x + FACTOR, 3))

def helper(x):
    return -x

print(ask(fn, 3))
fn.__defaults__ = (10,)
print(ask(fn, 3))
print(ask(lambda: ITEMS))
ITEMS.append(2)
print(ask(lambda: ITEMS))
print(ask(Point, 4) == Point(4), ask(Point(1).moved, 4) == Point(5), ask(lambda p: p.moved(1), Point(1)).x)
print(ask(isinstance, Point(1), Point))
Point.scale = 100
print(ask(Point(1).moved, 4).x, ask(lambda p: p.moved(1), Point(1)).x)
print(type(executor.submit(fail).exception(30)) is Gone)
print(ask(pow, 2, 5))
executor.shutdown()
"""
SAID = """\
7 5 [1, 3, 5]
10 6
-2
7
[1]
[1, 2]
True True 2
True
104 101
True
32
"""


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("how", ["-c", "-i -"])
def test_functions_and_classes_of_an_interactive_main_travel_and_are_never_stale(how, method):
    options, text = (["-c", MAIN], "") if how == "-c" else (["-q", "-i", "-"], MAIN)
    done = subprocess.run([sys.executable, *options, method], input=text, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr
    assert done.stderr.replace(">>> ", "").replace("... ", "").strip() == ""


@pytest.mark.parametrize("method", METHODS)
def test_functions_and_classes_of_a_script_travel(method, tmp_path):
    script = """
    import sys
    from multiprocessing import get_context
    from ringpool import ProcessPoolExecutor

    FACTOR = 2

    class Point:
        def __init__(self, x):
            self.x = x

        def moved(self, by):
            return Point(self.x + by)

    def fn(x):
        return x * FACTOR

    def main():
        offset = 10
        with ProcessPoolExecutor(1, get_context(sys.argv[1])) as executor:
            def ask(fn, *args):
                return executor.submit(fn, *args).result(30)

            print(ask(fn, 4), ask(lambda x: x + offset + FACTOR, 1))
            print(ask(Point(1).moved, 2).x, ask(isinstance, Point(1), Point))

    if __name__ == "__main__":
        main()
    """
    path = tmp_path / "a_script.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run([sys.executable, path, method], capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout, done.stderr) == (0, "8 13\n3 True\n", "")


@pytest.mark.skipif(sys.version_info < (3, 15), reason="Python has no lazy imports before 3.15")
@pytest.mark.parametrize("method", METHODS)
def test_a_function_travels_with_what_it_imports_lazily(method, tmp_path):
    script = """
        import sys
        from multiprocessing import get_context
        from ringpool import ProcessPoolExecutor

        lazy import colorsys
        lazy import wsgiref.util
        lazy from sched import Event
        lazy import there_is_no_such_module

        if __name__ == "__main__":
            with ProcessPoolExecutor(1, get_context(sys.argv[1])) as executor:
                fn = lambda: (colorsys.ONE_THIRD * 3, wsgiref.util.guess_scheme({}), Event.__name__)
                results = [executor.submit(fn).result(30)]
                blocks = executor._client.segment.blocks
                results += [executor.submit(fn).result(30) for _ in range(3)]
                print(*results, executor._client.segment.blocks - blocks)
                print(executor.submit(lambda: there_is_no_such_module.x).exception(30))
    """
    path = tmp_path / "a_script.py"
    path.write_text(textwrap.dedent(script))
    done = subprocess.run([sys.executable, path, method], capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout.splitlines() == [
        " ".join(["(1.0, 'http', 'Event')"] * 4) + " 0",
        "No module named 'there_is_no_such_module'",
    ]
    assert (done.returncode, done.stderr) == (0, "")


# ---- memory ----


def test_many_lambdas_do_not_pile_up_in_shared_memory():
    with ProcessPoolExecutor(1, get_context("fork")) as executor:
        client = executor._client
        for i in range(2000):
            assert ask(executor, lambda i=i: i) == i
        gc.collect()
        assert client.segment.blocks <= 200  # the latest are kept
        for i in range(2000):
            executor.submit(lambda i=i: i)
        ask(executor, pow, 2, 5)
        gc.collect()
        assert client.segment.blocks <= 200
        assert client.intake.strays == 0


def test_a_lambda_rebound_many_times_keeps_one_block_at_most():
    with ProcessPoolExecutor(1, get_context("fork")) as executor:
        value = 0
        fn = lambda: value  # noqa: E731
        assert ask(executor, fn) == 0
        blocks = executor._client.segment.blocks
        for value in range(1, 1000):
            assert ask(executor, fn) == value
        gc.collect()
        assert executor._client.segment.blocks <= blocks


def test_a_function_forgotten_by_the_pool_is_sent_again():
    made = [lambda i=i: i for i in range(300)]
    with ProcessPoolExecutor(1, get_context("fork")) as executor:
        for _ in range(3):
            assert [f.result(LIMIT) for f in [executor.submit(fn) for fn in made]] == list(range(300))


def test_more_functions_than_a_worker_remembers_are_told_apart():
    made = [lambda i=i: i for i in range(700)]
    with ProcessPoolExecutor(1, get_context("fork")) as executor:
        for _ in range(2):
            for i, fn in enumerate(made):
                assert ask(executor, fn) == i


# ---- by_reference, fingerprint, same ----


def same_after(fn, change) -> bool | None:
    """Whether the fingerprint is the same after the change; None if there is none."""
    before = functions.fingerprint(fn)
    change()
    after = functions.fingerprint(fn)
    return None if before is None or after is None else functions.same(before, after)


def test_what_workers_can_import_goes_by_reference():
    for obj in (top_level, len, math.hypot, int, Counter, Counter.plus, subprocess.run, functions.fingerprint):
        assert functions.by_reference(obj), obj


def test_what_workers_cannot_import_does_not_go_by_reference(monkeypatch):
    def local():
        pass

    renamed = types.FunctionType(top_level.__code__, globals(), "top_level")
    for obj in (local, lambda: 0, renamed, functools.partial(pow), Counter(1), 5, None, "abc".upper):
        assert not functions.by_reference(obj), obj
    monkeypatch.setitem(globals(), "top_level", renamed)
    assert functions.by_reference(renamed)


def test_fingerprints_of_an_unchanged_function_are_the_same():
    x, text, pair = 1, "a", (1, (2.5, "b"))

    def helper():
        return x

    def fn(a, b=2, *, c=3):
        """Words."""
        return helper(), text, pair, FACTOR, math, len, Counter, top_level, MISSING  # noqa: F821

    assert same_after(fn, lambda: None) is True
    assert functions.same(functions.fingerprint(fn), functions.fingerprint(fn))


def test_fingerprints_tell_functions_of_the_same_code_apart():
    one, two = make_adder(1), make_adder(2)
    assert one.__code__ is two.__code__
    assert not functions.same(functions.fingerprint(one), functions.fingerprint(two))
    assert not functions.same([], [None])
    assert not functions.same([1.5], [float("1.5")])
    assert functions.same([], [])


def test_fingerprints_end_for_functions_that_refer_to_each_other():
    def even(n):
        return n == 0 or odd(n - 1)

    def odd(n):
        return n != 0 and even(n - 1)

    assert same_after(even, lambda: None) is True


@pytest.mark.parametrize(
    "value",
    [
        [1],
        {1: 2},
        {1},
        bytearray(b"a"),
        Counter(1),
        object(),
        ([1],),
        (1, ({},)),
        frozenset({1}),
        type("Local", (), {}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_function_that_refers_to_what_may_change_in_place_has_no_fingerprint(value):
    def default(x=value):
        return x

    def kwdefault(*, x=value):
        return x

    def helper():
        return value

    for fn in (lambda: value, default, kwdefault, lambda: helper(), lambda: [value for _ in "a"]):
        assert functions.fingerprint(fn) is None


def test_a_function_with_attributes_or_an_empty_cell_or_annotations_has_no_fingerprint():
    def fn():
        return late

    assert functions.fingerprint(fn) is None
    late = 1
    assert functions.fingerprint(fn) is not None
    fn.attribute = 1
    assert functions.fingerprint(fn) is None

    def annotated(x: int) -> int:
        return x

    assert functions.fingerprint(annotated) is None


def test_every_part_of_a_function_is_in_its_fingerprint(monkeypatch):
    cell = 1

    def make():
        def fn(a=1, *, b=2):
            """Words."""
            return a, b, cell, FACTOR

        return fn

    def bind():
        nonlocal cell
        cell = 2

    changes = {
        "__code__": lambda fn: setattr(fn, "__code__", fn.__code__.replace(co_firstlineno=1)),
        "__defaults__": lambda fn: setattr(fn, "__defaults__", (9,)),
        "no __defaults__": lambda fn: setattr(fn, "__defaults__", None),
        "__kwdefaults__": lambda fn: setattr(fn, "__kwdefaults__", {"b": 9}),
        "names in __kwdefaults__": lambda fn: setattr(fn, "__kwdefaults__", {"other name": 2}),
        "no __kwdefaults__": lambda fn: setattr(fn, "__kwdefaults__", None),
        "__name__": lambda fn: setattr(fn, "__name__", "another"),
        "__qualname__": lambda fn: setattr(fn, "__qualname__", "another"),
        "__doc__": lambda fn: setattr(fn, "__doc__", "Other words."),
        "__module__": lambda fn: setattr(fn, "__module__", "another"),
        "a cell": lambda fn: bind(),
        "a global": lambda fn: monkeypatch.setitem(globals(), "FACTOR", 9),
        "a global that is gone": lambda fn: monkeypatch.delitem(globals(), "FACTOR"),
    }
    unseen = []
    for what, change in changes.items():
        fn = make()
        if same_after(fn, functools.partial(change, fn)):
            unseen.append(what)
    assert unseen == []
