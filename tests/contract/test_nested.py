"""Pools inside tasks: a worker's own are pools like any other; its parent's are refused in words, and never hang.

What is waited for is bounded: by the deadline of each wait, and by that of the test.
"""

from __future__ import annotations

import concurrent.futures
import functools
import multiprocessing
import os
import pickle
import signal
import threading
import weakref

import pytest
import tasks_nested as tasks
from files import await_file
from levels import METHODS
from limits import LIMIT as WAIT_S
from pools import pool
from waiting import wait_until

import ringpool

KINDS = ["ringpool", "stdlib", "multiprocessing.Pool"]


# ---- pools of the worker's own ----


@pytest.mark.parametrize("inner", METHODS)
@pytest.mark.parametrize("outer", METHODS)
def test_a_task_may_make_and_use_a_pool(outer, inner):
    with pool(method=outer) as executor:
        assert executor.submit(tasks.squares_by, "ringpool", inner, 50).result(WAIT_S) == [i * i for i in range(50)]


@pytest.mark.parametrize("kind", KINDS[1:])
@pytest.mark.parametrize("method", METHODS)
def test_a_task_may_use_the_stdlibs_pools(method, kind):
    with pool(method=method) as executor:
        assert executor.submit(tasks.squares_by, kind, method, 20).result(WAIT_S) == [i * i for i in range(20)]


@pytest.mark.parametrize("method", ["fork", "forkserver"])
def test_two_workers_nest_at_once_again_and_again(method):
    with pool(2, method) as executor:
        futures = [executor.submit(tasks.squares_by, "ringpool", "fork", 10) for _ in range(20)]
        assert [future.result(WAIT_S) for future in futures] == [[i * i for i in range(10)]] * 20


def test_pools_nest_four_deep():
    with pool() as executor:
        assert executor.submit(tasks.squares_at_depth, 4, 5).result(WAIT_S) == [0, 1, 4, 9, 16]


def test_the_name_of_a_nested_worker_begins_with_the_number_of_the_worker_above():
    assert tasks.names_of_workers(2) == ["RingpoolProcess-1", "RingpoolProcess-2"]
    with pool() as executor:
        for _ in range(2):  # also in a successor
            names = executor.submit(tasks.names_of_workers, 2).result(WAIT_S)
            assert names == ["RingpoolProcess-1:1", "RingpoolProcess-1:2"]
            assert executor.submit(os._exit, 3).exception(WAIT_S)


@pytest.mark.parametrize("method", METHODS)
def test_the_name_of_a_worker_in_a_child_of_multiprocessing_begins_with_the_number_of_the_child(method):
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context(method)) as children:
        numbers, names = children.submit(tasks.numbers_and_names, 1).result(WAIT_S)
    assert names == [f"RingpoolProcess-{numbers}:1"]


def test_a_death_in_a_nested_pool_is_its_tasks_affair_alone():
    with pool() as executor:
        with pytest.raises(ringpool.WorkerDied, match="die"):
            executor.submit(tasks.fail_in_nested).result(WAIT_S)
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("method", METHODS)
def test_a_pool_that_a_task_leaves_open_serves_later_tasks_and_ends_with_its_worker(method, kind):
    with pool(method=method) as executor:
        inner = executor.submit(tasks.leave_open, kind, method).result(WAIT_S)
        assert executor.submit(tasks.use_what_was_left).result(WAIT_S) == inner
    assert tasks.gone(inner)


@pytest.mark.parametrize("inner", METHODS)
@pytest.mark.parametrize("outer", METHODS)
def test_the_workers_of_a_nested_pool_are_gone_when_the_outer_worker_is_killed(outer, inner, tmp_path):
    paths = [tmp_path / f"pid.{name}" for name in ("0", "1", "outer")]
    with pool(method=outer) as executor:
        future = executor.submit(tasks.nest_and_wait, inner, str(tmp_path / "pid"))
        wait_until(lambda: all(path.exists() for path in paths), "the nested workers")
        pids = [int(path.read_text()) for path in paths]
        os.kill(pids[2], signal.SIGKILL)
        with pytest.raises(ringpool.WorkerDied, match="SIGKILL"):
            future.result(WAIT_S)
        wait_until(lambda: all(map(tasks.gone, pids)), "the end of the nested workers")


# ---- the parent's pool ----


@pytest.mark.parametrize("method", METHODS)
def test_an_executor_or_a_future_cannot_travel_however_it_is_wrapped(method):
    with pool(method=method) as executor:
        future = executor.submit(tasks.square, 3)
        sent = {
            "argument": executor.submit(tasks.echo, executor),
            "keyword": executor.submit(tasks.echo, value=[executor]),
            "bound method": executor.submit(tasks.Holder(executor).work),
            "partial": executor.submit(functools.partial(tasks.echo, executor)),
            "closure": executor.submit(lambda: executor.submit(tasks.square, 3).result()),
            "its own method": executor.submit(executor.submit, tasks.square, 3),
            "core": executor.submit(tasks.echo, executor._client),
        }
        for how, each in sent.items():
            error = each.exception(WAIT_S)
            assert isinstance(error, TypeError), how
            assert "a task that needs one makes one in the worker" in str(error), how
        for each in (
            executor.submit(tasks.echo, future),
            executor.submit(lambda: future.result()),
            executor.submit(future.result),
        ):
            error = each.exception(WAIT_S)
            assert isinstance(error, TypeError)
            assert "send the result" in str(error)
        assert executor.submit(tasks.square, 4).result(WAIT_S) == 16


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_an_executor_cannot_be_pickled_by_any_protocol(protocol):
    with pool() as executor, pytest.raises(TypeError, match="cannot pickle 'ProcessPoolExecutor' object"):
        pickle.dumps(executor, protocol)


@pytest.mark.parametrize("method", METHODS[1:])
def test_an_executor_cannot_be_an_initializers_argument(method):
    other = pool()
    executor = pool(method=method, initializer=tasks.echo, initargs=(other,))
    with other, executor, pytest.raises(TypeError, match="makes one in the worker"):
        executor.submit(tasks.square, 3)


@pytest.fixture
def inheriting(tmp_path):
    """A pool whose forked workers find the pool itself and the future of a task that is running in another pool."""
    gate = tmp_path / "gate"
    with pool() as other:
        tasks.inherited["future"] = other.submit(await_file, str(gate))
        with pool() as executor:
            tasks.inherited["executor"] = executor
            yield executor
        gate.touch()
    tasks.inherited.clear()


@pytest.mark.parametrize("how", ["submit", "map", "map in chunks", "terminate_workers", "kill_workers"])
def test_an_inherited_executor_says_that_it_is_the_parents(inheriting, how):
    kind, text = inheriting.submit(tasks.raised_by, how).result(WAIT_S)
    assert kind == "RuntimeError"
    assert "belongs to the process that made it" in text
    assert "make it there" in text
    assert inheriting.submit(tasks.square, 3).result(WAIT_S) == 9


@pytest.mark.parametrize(
    "how",
    [
        *("result", "result with a timeout", "exception", "done", "running", "cancel", "add_done_callback", "wait"),
        "as_completed",
    ],
)
def test_an_inherited_future_that_is_pending_says_that_it_is_the_parents(inheriting, how):
    kind, text = inheriting.submit(tasks.raised_by, how).result(WAIT_S)
    assert kind == "RuntimeError"
    assert "belongs to the process that submitted it" in text


@pytest.mark.parametrize("wait", [True, False])
def test_shutting_an_inherited_executor_down_does_nothing(inheriting, wait):
    assert "pending" in inheriting.submit(tasks.shut_down_inherited, wait).result(WAIT_S)
    assert inheriting.submit(tasks.square, 3).result(WAIT_S) == 9


def test_an_inherited_executor_that_was_never_used_is_the_childs_own():
    with pool() as other, pool() as executor:
        tasks.inherited.update(executor=other, future=None)
        assert executor.submit(tasks.raised_by, "submit").result(WAIT_S) == ("nothing", "")
        assert executor.submit(tasks.raised_by, "map").result(WAIT_S) == ("nothing", "")
        assert executor.submit(tasks.shut_down_inherited, True).result(WAIT_S) == "None"
        assert executor.submit(tasks.raised_by, "submit").result(WAIT_S)[0] == "RuntimeError"
        assert other.submit(tasks.square, 3).result(WAIT_S) == 9
    tasks.inherited.clear()


def in_a_child(act):
    """What act() returns in a forked child, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(WAIT_S))
            os.write(writer, repr(act()).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader) as file:
        told = file.read()
    assert os.waitpid(pid, 0)[1] == 0
    return told


@pytest.mark.parametrize("method", METHODS)
def test_a_pool_that_was_never_used_works_in_a_child_in_its_child_and_in_the_parent(method):
    def use():
        with executor:
            return executor.submit(tasks.square, 3).result(WAIT_S)

    executor = pool(method=method)
    assert in_a_child(lambda: (in_a_child(use), use())) == "('9', 9)"
    assert in_a_child(use) == "9"
    with executor:
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9
        assert "belongs to the process that made it" in in_a_child(use)


def test_a_pool_that_has_shared_an_object_was_used():
    with pool() as executor:
        shared = executor.share([1, 2])
        assert "belongs to the process that made it" in in_a_child(lambda: executor.submit(len, shared))
        assert executor.submit(len, shared).result(WAIT_S) == 2


def test_a_pool_that_is_shut_down_and_was_never_used_stays_so_in_a_child():
    executor = pool()
    executor.shutdown()
    assert "after shutdown" in in_a_child(lambda: executor.submit(tasks.square, 3))


@pytest.mark.parametrize("end", ["shutdown", "shutdown without waiting", "terminate", "kill", "garbage", "exit"])
def test_a_pool_that_is_never_used_has_no_descriptor_no_mapping_and_no_thread(end):
    def state():
        with open("/proc/self/maps") as maps:
            mapped = "memfd:ringpool" in maps.read()
        return sorted(os.listdir("/proc/self/fd")), mapped, threading.active_count()

    def act():
        before = state()
        executor = pool()
        executor.options(timeout=1)
        assert executor._client.segment.memfd == -1 and executor._client.segment.blocks == 0
        found = state()
        if end == "exit":
            executor.__exit__(None, None, None)
        elif end in ("terminate", "kill"):
            getattr(executor, f"{end}_workers")()
        elif end != "garbage":
            executor.shutdown(wait=end == "shutdown", timeout=1)
        if end == "garbage":
            watch = weakref.ref(executor._client)
            del executor
            assert watch() is None
        else:
            why = "has ended its workers" if end in ("terminate", "kill") else "after shutdown"
            with pytest.raises(RuntimeError, match=why):
                executor.submit(tasks.square, 3)
            with pytest.raises(RuntimeError, match=why):
                executor.share(3)
        return found == before and state() == before

    assert in_a_child(act) == "True"  # where nothing else happens


def test_a_child_forked_in_another_thread_while_the_pool_begins_can_leave_it():
    """The lock of the beginning may be held for ever in the child."""
    executor = pool(method="spawn")
    executor._client.create()  # as begin() does before it takes the lock
    lock = executor._supervisor._lock
    held, release = threading.Event(), threading.Event()

    def hold():
        with lock:
            held.set()
            release.wait(WAIT_S)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(WAIT_S)
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(int(WAIT_S))
            with executor:
                executor.submit(tasks.square, 3)
        except RuntimeError:
            os._exit(0)
        finally:
            os._exit(1)
    release.set()
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
    executor.shutdown()
