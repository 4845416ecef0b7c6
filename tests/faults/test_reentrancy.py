"""What a program may do to a pool at any point of the pool's own work: in signal handlers, destructors, reducers and
callbacks, and while another thread ends it. Nothing of that waits for ever, and nothing of that costs another task.

The storms try every pair of a place and an action; they run in processes of their own (tasks_reentrancy.py). The other
tests each bring about one situation that a storm would seldom meet.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import weakref
from concurrent.futures.process import BrokenProcessPool

import pytest
import tasks_reentrancy as tasks
from files import await_file
from levels import METHODS
from limits import FREE_THREADED
from limits import LIMIT as WAIT_S
from pools import pool
from programs import environment
from waiting import wait_until

ACTIONS = ["submit", "cancel", "result", "shutdown"]


def python(*arguments: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=tasks.DEADLINE_S + 10,
        **options,
    )


@pytest.fixture
def alarm():
    """signal.SIGALRM is free again afterwards."""
    before = signal.getsignal(signal.SIGALRM)
    yield lambda handler, seconds: (signal.signal(signal.SIGALRM, handler), signal.setitimer(0, seconds))
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


# ---- storms ----


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("place", list(tasks.PLACES))
def test_an_action_at_a_place_neither_hangs_nor_harms(place, action):
    ended = python("-m", "tasks_reentrancy", place, action, "fork", 0.25)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "acted\n", "")


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("place", list(tasks.PLACES))
def test_an_action_at_a_place_neither_hangs_nor_harms_for_long(place, action, method):
    ended = python("-m", "tasks_reentrancy", place, action, method, 10)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "acted\n", "")


# ---- during the start of the pool ----


@pytest.fixture
def at_fork():
    """Calls a function before each fork of this test."""
    hooks = []
    os.register_at_fork(before=lambda: hooks[0]() if hooks else None)
    yield hooks
    hooks.clear()


def begin_with(method, at_fork, action, **options):
    """An executor, and the first future of it, with an action called while the first worker was started."""
    done = []

    def once():
        if not done:
            done.append(None)
            action(executor)

    if method == "fork":
        executor = pool(method=method, **options)
        at_fork.append(once)
    else:
        executor = pool(method=method, initializer=tasks.echo, initargs=(tasks.Calls(once),), **options)
    return executor, done


@pytest.mark.parametrize("method", METHODS)
def test_a_task_submitted_while_the_pool_begins_is_done(method, at_fork):
    made = []
    executor, _ = begin_with(method, at_fork, lambda pool: made.extend(pool.submit(tasks.square, i) for i in range(3)))
    with executor:
        assert executor.submit(tasks.square, 9).result(WAIT_S) == 81
        assert [future.result(WAIT_S) for future in made] == [0, 1, 4]


@pytest.mark.parametrize("method", METHODS)
def test_more_tasks_than_the_board_holds_may_come_while_the_pool_begins(method, at_fork):
    made = []
    executor, _ = begin_with(
        method, at_fork, lambda pool: made.extend(pool.submit(tasks.square, i) for i in range(9000)), n=2
    )
    with executor:
        assert executor.submit(tasks.square, 9).result(WAIT_S) == 81
        assert [future.result(WAIT_S) for future in made] == [i * i for i in range(9000)]


@pytest.mark.parametrize("method", METHODS)
def test_a_task_may_be_cancelled_while_the_pool_begins(method, at_fork):
    seen = []
    executor, _ = begin_with(method, at_fork, lambda pool: seen.append(pool.submit(tasks.square, 1).cancel()))
    with executor:
        assert executor.submit(tasks.square, 9).result(WAIT_S) == 81
    assert seen == [True]


@pytest.mark.parametrize("method", METHODS)
def test_waiting_in_the_thread_that_begins_the_pool_times_out_or_is_refused(method, at_fork):
    seen = []

    def wait(executor):
        future = executor.submit(tasks.square, 1)
        with pytest.raises(TimeoutError):
            future.result(0.05)
        with pytest.raises(RuntimeError, match="cannot wait"):
            future.result()
        seen.append(future)

    executor, _ = begin_with(method, at_fork, wait)
    with executor:
        assert executor.submit(tasks.square, 9).result(WAIT_S) == 81
        assert seen[0].result(WAIT_S) == 1


@pytest.mark.parametrize("wait", [True, False])
@pytest.mark.parametrize("method", METHODS)
def test_a_pool_may_be_shut_down_while_it_begins(method, wait, at_fork):
    executor, done = begin_with(method, at_fork, lambda pool: pool.shutdown(wait))
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.square, 9)
    assert done
    executor.shutdown()


@pytest.mark.parametrize("how", ["terminate_workers", "kill_workers"])
@pytest.mark.parametrize("method", METHODS)
def test_workers_may_be_ended_while_the_pool_begins(method, how, at_fork):
    made = []

    def end(executor):
        made.append(executor.submit(tasks.square, 1))
        getattr(executor, how)()

    executor, _ = begin_with(method, at_fork, end, n=2)
    with pytest.raises(BrokenProcessPool, match=how):
        executor.submit(tasks.square, 9)
    executor.shutdown()
    assert made[0].cancelled()


def test_a_beginning_that_fails_fails_the_tasks_that_others_have_submitted_meanwhile():
    made, called = [], []

    def submit_and_fail():
        made.append(executor.submit(tasks.square, 3))
        made[-1].add_done_callback(called.append)
        raise ValueError("does not want to leave")

    executor = pool(method="spawn", initializer=tasks.echo, initargs=(tasks.Calls(submit_and_fail),))
    for i in range(2):
        with pytest.raises(ValueError, match="does not want to leave") as raised:
            executor.submit(tasks.square, 9)
        error = made[i].exception(WAIT_S)
        assert type(error) is ValueError and str(error) == "does not want to leave"
        assert error.__cause__ is raised.value  # each has one of its own
    assert called == made
    executor.shutdown()


def test_another_thread_submits_and_shuts_down_while_the_pool_begins(at_fork):
    made, threads = [], []

    def other():
        made.append(executor.submit(tasks.square, 3))
        submitted.set()
        executor.shutdown()

    def start_other(_):
        threads.append(threading.Thread(target=other))
        threads[0].start()
        assert submitted.wait(WAIT_S)  # it does not wait for the first thread

    submitted = threading.Event()
    executor, _ = begin_with("spawn", at_fork, start_other)
    with contextlib.suppress(RuntimeError):  # either thread may be the first
        assert executor.submit(tasks.square, 9).result(WAIT_S) == 81
    threads[0].join(WAIT_S)
    assert not threads[0].is_alive()
    assert made[0].result(0) == 9


def test_ctrl_c_while_the_pool_begins_is_raised_and_no_worker_is_left(at_fork):
    def interrupt(_):
        raise KeyboardInterrupt

    executor, _ = begin_with("spawn", at_fork, interrupt, n=2)
    with pytest.raises(KeyboardInterrupt):
        executor.submit(tasks.square, 9)
    with pytest.raises(RuntimeError, match="after shutdown"):
        executor.submit(tasks.square, 9)
    executor.shutdown()


# ---- which thread leads while a leader's thread is busy ----


def test_what_a_task_called_may_wait_for_another_task_when_it_is_dropped(tmp_path):
    """The leader settles a task, drops what it called, and is to wait above itself: no other thread reads the rings.
    The worker is never idle with a result unread, which would wake the collector."""
    seen = []
    release = tmp_path / "release"
    with pool() as executor:

        def dropped():
            inner = executor.submit(tasks.late, 0.2, 25)
            executor.submit(tasks.touch_and_wait, str(tmp_path / "entered"), str(release))
            seen.append(inner.result(WAIT_S / 2))
            release.touch()

        executor.submit(tasks.Squares(dropped, late=0.2), 3)
        assert executor.submit(tasks.late, 0.2, 16).result(WAIT_S) == 16
    assert seen == [25]


def test_a_leader_that_leaves_does_not_name_a_thread_that_is_in_a_signal_handler(alarm, tmp_path):
    releases = [tmp_path / f"release.{i}" for i in range(3)]
    entered = [tmp_path / f"entered.{i}" for i in range(3)]
    seen = []
    with pool(2) as executor:
        outer = executor.submit(tasks.touch_and_wait, str(entered[0]), str(releases[0]))
        other = executor.submit(tasks.touch_and_wait, str(entered[1]), str(releases[1]))
        thread = threading.Thread(target=lambda: seen.append(other.result(WAIT_S) > 0))

        def handler(signum, frame):
            releases[1].touch()
            thread.join(WAIT_S)  # it leaves the lead to a thread that waits
            inner = executor.submit(tasks.late, 0.2, 9)
            busy = executor.submit(tasks.touch_and_wait, str(entered[2]), str(releases[2]))
            seen.append(inner.result(WAIT_S))
            releases[2].touch()
            seen.append(busy.result(WAIT_S) > 0)
            releases[0].touch()

        wait_until(lambda: entered[0].exists() and entered[1].exists(), "the tasks")
        thread.start()
        alarm(handler, 0.1)
        assert outer.result(WAIT_S) > 0
    assert seen == [True, 9, True]


def test_others_get_their_results_while_the_leader_is_held_up(tmp_path):
    """It waits, in a destructor, for a thread that waits for a result; the worker is busy meanwhile."""
    release = tmp_path / "release"
    seen = []
    with pool() as executor:

        def dropped():
            inner = executor.submit(tasks.late, 0.2, 9)
            executor.submit(tasks.touch_and_wait, str(tmp_path / "entered"), str(release))
            thread = threading.Thread(target=lambda: seen.append(inner.result(WAIT_S / 2)))
            thread.start()
            thread.join(WAIT_S)
            release.touch()

        executor.submit(tasks.Squares(dropped, late=0.2), 3)
        assert executor.submit(tasks.late, 0.2, 16).result(WAIT_S) == 16
    assert seen == [9]


# ---- what a destructor sees ----


def test_a_future_is_whole_when_what_it_called_is_dropped(tmp_path):
    seen = []
    with pool() as executor:
        executor.submit(await_file, str(tmp_path / "release"))

        def dropped():
            (future,) = futures
            seen.append((future.done(), future.cancel(), future.running(), future.result(WAIT_S), future.exception(0)))

        futures = [executor.submit(tasks.Squares(dropped), 3)]
        (tmp_path / "release").touch()
        assert futures[0].result(WAIT_S) == 9
        wait_until(lambda: seen, "the destructor")
        assert executor._client.pending == 0
    assert seen == [(True, False, False, 9, None)]


def test_a_future_is_cancelled_when_what_it_called_is_dropped(tmp_path):
    seen, called = [], []
    release = tmp_path / "release"
    with pool() as executor:
        executor.submit(tasks.touch_and_wait, str(tmp_path / "entered"), str(release))
        wait_until((tmp_path / "entered").exists, "the busy task")

        def dropped():
            (future,) = futures
            seen.append((future.cancelled(), future.done(), future.cancel()))

        futures = [executor.submit(tasks.Squares(dropped), 3)]
        futures[0].add_done_callback(called.append)
        assert futures[0].cancel()
        assert seen == [(True, True, True)]
        assert called == futures
        release.touch()


def test_the_pool_may_be_shut_down_by_what_is_dropped_during_a_drain():
    for _ in range(20):
        executor = pool(2)
        submitted = []

        def dropped(executor=executor, submitted=submitted):
            if submitted:
                executor.shutdown()

        futures = [executor.submit(tasks.Squares(dropped), i) for i in range(20)]
        submitted.append(True)
        assert [future.result(WAIT_S) for future in futures] == [i * i for i in range(20)]
        executor.shutdown()


def test_futures_without_references_may_end_in_any_way(tmp_path):
    code = """
    import multiprocessing, pathlib, sys, weakref
    import ringpool, tasks_reentrancy as tasks
    executor = ringpool.ProcessPoolExecutor(1, multiprocessing.get_context("fork"), on_worker_death="break")
    ended = []
    death = executor.submit(tasks.die_after, sys.argv[1])
    watches = []
    for i in range(1000):
        future = executor.submit(tasks.square, i)
        future.of_mine = tasks.Squares(lambda i=i: ended.append(i))
        watches.append(weakref.ref(future, lambda _, i=i: ended.append(i)))
        del future
    pathlib.Path(sys.argv[1]).touch()
    assert death.exception(30) is not None
    executor.shutdown()
    assert sorted(ended) == sorted(2 * list(range(1000)))
    """
    ended = python("-X", "dev", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(code), tmp_path / "submitted")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_garbage_that_waits_for_the_result_that_is_being_taken_in_gets_it():
    """Tuples are objects whose creation may collect garbage."""
    seen = []

    class Trap:
        def __init__(self, future):
            self.me, self.future = self, future

        def __del__(self):
            seen.append(self.future.result(WAIT_S))

    thresholds = gc.get_threshold()
    with pool() as executor:
        try:
            for i in range(300):
                future = executor.submit(tasks.echo, (i, (i, (i,))))
                Trap(future)
                gc.set_threshold(i % 20 + 1)
                assert future.result(WAIT_S) == (i, (i, (i,)))
                gc.set_threshold(*thresholds)
        finally:
            gc.set_threshold(*thresholds)

        def all_are_seen():
            gc.collect()  # does nothing while a thread of the pool collects, and waits in a destructor
            return len(seen) == 300

        wait_until(all_are_seen, "the end of all destructors")
        assert sorted(seen) == [(i, (i, (i,))) for i in range(300)]
        assert gc.isenabled()


# ---- callbacks ----

RAISED = [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError, ZeroDivisionError]


@pytest.mark.parametrize("error", RAISED)
def test_whatever_a_callback_raises_all_others_are_called(error, tmp_path):
    def raises(_):
        raise error

    called = []
    with pool() as executor:
        executor.submit(await_file, str(tmp_path / "release"))
        futures = [executor.submit(tasks.square, i) for i in range(20)]
        for future in futures:
            future.add_done_callback(raises)
            future.add_done_callback(called.append)
        (tmp_path / "release").touch()
        assert [future.result(WAIT_S) for future in futures] == [i * i for i in range(20)]
        done, _ = concurrent.futures.wait(futures, WAIT_S)
        assert len(done) == 20
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9
    assert set(called) == set(futures)
    assert len(called) == 20


@pytest.mark.parametrize("error", RAISED)
@pytest.mark.parametrize("how", ["cancel", "shutdown"])
def test_whatever_a_callback_raises_in_cancelling_every_waiter_wakes(error, how, tmp_path):
    """What is no Exception is raised by cancel(), when all is done. shutdown() leaves the callbacks to the
    collector, as the stdlib leaves them to a thread of its own."""

    def raises(_):
        raise error

    called, seen = [], []
    passed_on = how == "cancel" and not issubclass(error, Exception)
    passed = pytest.raises(error) if passed_on else contextlib.nullcontext()
    release = tmp_path / "release"
    with pool() as executor:
        executor.submit(tasks.touch_and_wait, str(tmp_path / "entered"), str(release))
        wait_until((tmp_path / "entered").exists, "the busy task")
        futures = [executor.submit(tasks.square, i) for i in range(5)]

        def result(future):
            with pytest.raises(concurrent.futures.CancelledError):
                future.result(WAIT_S)
            seen.append("result")

        def wait(future):
            done, _ = concurrent.futures.wait([future], WAIT_S)
            seen.extend("wait" for _ in done)

        threads = [threading.Thread(target=target, args=(future,)) for future in futures for target in (result, wait)]
        for thread in threads:
            thread.start()
        wait_until(lambda: all(future._waiters for future in futures), "those in wait()")
        for future in futures:
            future.add_done_callback(raises)
            future.add_done_callback(called.append)
        with passed:
            if how == "shutdown":
                executor.shutdown(wait=False, cancel_futures=True)
            else:
                for i, future in enumerate(futures):
                    if i == 4:
                        assert future.cancel() or True
                    else:
                        with contextlib.suppress(error):
                            future.cancel()
        for thread in threads:
            thread.join(WAIT_S)
        assert all(future.cancelled() for future in futures)
        release.touch()
    assert sorted(seen) == ["result"] * 5 + ["wait"] * 5
    assert called == futures


def test_a_callback_may_collect_garbage_and_shut_down_and_wait(tmp_path):
    seen = []
    with pool(2) as executor:

        def callback(_):
            gc.collect()
            seen.append(executor.submit(tasks.square, 3).result(WAIT_S))
            executor.shutdown()
            with pytest.raises(RuntimeError):
                executor.submit(tasks.square, 3)
            seen.append("end")

        executor.submit(tasks.square, 2).add_done_callback(callback)
        wait_until(lambda: len(seen) == 2, "the callback")
    assert seen == [9, "end"]


def test_a_callback_may_wait_for_a_result_for_which_there_is_no_room_yet(arenas_of):
    """It holds the collector up, which makes room in the workers' memory by copying results out."""
    arenas_of(1 << 20)
    seen = []
    with pool() as executor:
        held = [executor.submit(tasks.make, 500_000)]  # no thread asks for it
        concurrent.futures.wait(held, WAIT_S)

        def callback(_):
            each = [executor.submit(tasks.make, 500_000) for _ in range(4)]
            seen.extend(len(future.result(WAIT_S)) for future in reversed(each))

        executor.submit(tasks.square, 2).add_done_callback(callback)
        wait_until(lambda: len(seen) == 4, "the callback")
        assert len(held[0].result(WAIT_S)) == 500_000


def test_a_result_that_interrupts_its_unpickling_wakes_the_waiting_threads():
    with pool() as executor:
        future = executor.submit(tasks.make_interrupts)
        done, _ = concurrent.futures.wait([future], WAIT_S)
        assert done == {future}
        if FREE_THREADED:  # there the thread that asks is the first to unpickle it, and it may be the user's Ctrl-C
            with pytest.raises(KeyboardInterrupt):
                future.exception(WAIT_S)
        else:
            assert isinstance(future.exception(WAIT_S), KeyboardInterrupt)
        assert executor.submit(tasks.square, 3).result(WAIT_S) == 9


# ---- conditions ----


def test_cancel_does_not_wait_for_the_holder_of_the_condition(tmp_path):
    """The holder may wait for cancel(), in a handler that interrupted wait(), which holds its futures' conditions."""
    release = tmp_path / "release"
    called = []
    with pool() as executor:
        executor.submit(tasks.touch_and_wait, str(tmp_path / "entered"), str(release))
        wait_until((tmp_path / "entered").exists, "the busy task")
        future = executor.submit(tasks.square, 3)
        waiter = threading.Thread(target=lambda: called.extend(concurrent.futures.wait([future], WAIT_S).done))
        waiter.start()
        wait_until(lambda: future._waiters, "wait()")
        with future._condition:
            canceller = threading.Thread(target=future.cancel)
            canceller.start()
            canceller.join(WAIT_S)
            assert not canceller.is_alive()
            assert future.cancelled()
            assert future._state != "CANCELLED_AND_NOTIFIED"  # not while the holder of the condition may look
        waiter.join(WAIT_S)
        assert called == [future]
        assert future._state == "CANCELLED_AND_NOTIFIED"
        release.touch()


def test_threads_that_ask_at_once_get_the_same_condition_and_list(tmp_path):
    before = sys.getswitchinterval()
    with pool() as executor, concurrent.futures.ThreadPoolExecutor(4) as threads:
        try:
            sys.setswitchinterval(1e-6)
            executor.submit(await_file, str(tmp_path / "release"))
            for _ in range(200):
                future = executor.submit(tasks.square, 3)
                start = threading.Barrier(4)

                def ask(future=future, start=start):
                    start.wait(WAIT_S)
                    return future._condition, future._waiters, future._done_callbacks

                asked = [threads.submit(ask) for _ in range(4)]
                found = [each.result(WAIT_S) for each in asked]
                for i in range(3):
                    assert all(each[i] is found[0][i] for each in found)
        finally:
            sys.setswitchinterval(before)
            (tmp_path / "release").touch()


# ---- shutdown ----


@pytest.mark.parametrize("wait", [True, False])
def test_shutdown_within_shutdown(alarm, wait, tmp_path):
    seen = []
    executor = pool()
    executor.submit(tasks.touch_and_wait, str(tmp_path / "entered"), str(tmp_path / "release"))

    def handler(signum, frame):
        threading.Timer(0.05, (tmp_path / "release").touch).start()
        executor.shutdown(wait)
        seen.append(wait)

    alarm(handler, 0.05)
    executor.shutdown()
    assert seen == [wait]


def test_many_threads_wait_for_the_same_end(tmp_path):
    executor = pool()
    executor.submit(tasks.touch_and_wait, str(tmp_path / "entered"), str(tmp_path / "release"))
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        ended = [threads.submit(executor.shutdown) for _ in range(8)]
        (tmp_path / "release").touch()
        assert [each.result(WAIT_S) for each in ended] == [None] * 8
    assert not any(thread.name.startswith("ringpool") for thread in threading.enumerate())


def test_an_executor_in_a_cycle_ends_when_the_garbage_is_collected():
    class Owner:
        def __init__(self):
            self.executor = pool()
            self.executor.owner = self

        def __del__(self):
            self.executor.shutdown()

    for _ in range(5):
        owner = Owner()
        future = owner.executor.submit(tasks.square, 3)
        gone = weakref.ref(owner.executor)
        del owner
        gc.collect()
        assert gone() is None
        assert future.result(WAIT_S) == 9


# ---- the end of the interpreter ----

START = """
import multiprocessing, os, sys, tempfile, threading, time
import ringpool, tasks_reentrancy as tasks
from pathlib import Path
from files import await_file
from waiting import wait_until
executor = ringpool.ProcessPoolExecutor(2, multiprocessing.get_context("fork"))
"""

ENDS = {
    "in a cycle": (
        """
        class Owner: pass
        owner = Owner(); owner.me = owner; owner.executor = executor; executor.owner = owner
        futures = [executor.submit(tasks.square, i) for i in range(2000)]
        del owner, executor
        """,
        0,
        "",
    ),
    "another thread owns the pool": (
        """
        def work():
            with executor:
                for i in range(500):
                    assert executor.submit(tasks.square, i).result() == i * i
            print("worked")
        threading.Thread(target=work).start()
        executor.submit(tasks.square, 1).result()
        """,
        0,
        None,  # it is refused when the interpreter ends first
    ),
    "sys.exit while a thread waits": (
        """
        started = threading.Event()
        def wait():
            future = executor.submit(time.sleep, 0.3)
            started.set()
            print(future.result())
        threading.Thread(target=wait).start()
        started.wait()
        sys.exit(5)
        """,
        5,
        "None\\n",
    ),
    "sys.exit while a daemon waits": (
        """
        started = threading.Event()
        def wait():
            future = executor.submit(time.sleep, 0.3)
            started.set()
            future.result()
        threading.Thread(target=wait, daemon=True).start()
        started.wait()
        sys.exit(5)
        """,
        5,
        "",
    ),
    "a worker exits while the interpreter ends": (
        """
        for _ in range(3):
            executor.submit(os._exit, 7)
            executor.submit(sys.exit, 7)
            executor.submit(tasks.square, 3).add_done_callback(lambda f: print(f.result()))
        """,
        0,
        "9\\n9\\n9\\n",
    ),
    "a callback submits while the interpreter ends": (
        """
        def again(future):
            try:
                executor.submit(tasks.square, 3)
            except RuntimeError as error:
                print(error)
        folder = tempfile.TemporaryDirectory()
        gate = Path(folder.name) / "gate"
        executor.submit(await_file, str(gate)).add_done_callback(again)
        def open_gate():
            wait_until(lambda: executor._client.closed)
            gate.touch()
        threading.Thread(target=open_gate).start()
        """,
        0,
        "cannot schedule new futures after interpreter shutdown\\n",
    ),
    "os._exit of the parent": (
        """
        executor.submit(time.sleep, 60)
        os._exit(4)
        """,
        4,
        "",
    ),
    "sys.exit in the with block": (
        """
        with executor:
            executor.submit(time.sleep, 0.2).add_done_callback(lambda f: print("done"))
            sys.exit(6)
        """,
        6,
        "done\\n",
    ),
    "destructors use the pool": (
        """
        class Last:
            # With names of its own: without a GIL, globals are None by then.
            def __del__(self, executor=executor, square=tasks.square, write=os.write):
                try:
                    executor.submit(square, 3).result(5)
                except RuntimeError as error:
                    write(1, f"{error}\\n".encode())
        last = Last()
        executor.submit(tasks.square, 3).result()
        """,
        0,
        "cannot schedule new futures after interpreter shutdown\\n",
    ),
}


@pytest.mark.parametrize("end", list(ENDS))
def test_the_interpreter_ends(end):
    code, returncode, stdout = ENDS[end]
    ended = python("-c", START + textwrap.dedent(code))
    assert ended.returncode == returncode, ended.stderr
    if stdout is not None:
        assert ended.stdout == stdout.replace("\\n", "\n")
        assert ended.stderr == ""
