"""Where a drop-in is easily not one: what the stdlib does without saying so, and state that must not stay."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import copyreg
import inspect
import multiprocessing
import os
import pickle
import re
import select
import signal
import socket
import subprocess
import sys
import textwrap
import time
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import resource_sharer

import pytest
import tasks_dropin as tasks
from levels import METHODS, USUAL_METHOD
from limits import LIMIT
from programs import environment
from waiting import collector_held_up, wait_until

import ringpool

CLASSES = {"stdlib": concurrent.futures.ProcessPoolExecutor, "ringpool": ringpool.ProcessPoolExecutor}


@pytest.fixture(params=CLASSES.values(), ids=CLASSES.keys())
def executor_class(request):
    return request.param


@pytest.fixture
def executor():
    with ringpool.ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as made:
        yield made


def ask(executor, fn, *args):
    return executor.submit(fn, *args).result(LIMIT)


# ---- the end of a script ----

SCRIPT = """
import atexit, multiprocessing, {module}

def square(x):
    return x * x

if __name__ == "__main__":
    executor = {module}.ProcessPoolExecutor(2, multiprocessing.get_context({method!r}){options})
    futures = [executor.submit(square, i) for i in range(6)]
    atexit.register(lambda: print([future.exception() or future.result() for future in futures]))
"""


@pytest.mark.parametrize(
    ("module", "method", "options"),
    [
        *(("concurrent.futures", method, "") for method in METHODS),
        *(("ringpool", method, "") for method in METHODS),
        # Each successor starts after the script's last line, at which Python deletes __main__.__file__. (The stdlib's
        # pool breaks here.)
        ("ringpool", "spawn", ", max_tasks_per_child=1"),
        ("ringpool", "forkserver", ", max_tasks_per_child=1"),
    ],
)
def test_a_script_that_ends_at_once_completes_tasks_of_its_own_functions(module, method, options, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT.format(module=module, method=method, options=options))
    ended = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=LIMIT)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("[0, 1, 4, 9, 16, 25]\n", "", 0)


# ---- the class, as libraries look at it ----

STDLIB = concurrent.futures.ProcessPoolExecutor


@pytest.fixture(params=["pool", "view"])
def stand_in(request, executor):
    return executor if request.param == "pool" else executor.options(name="x")


def test_a_pool_is_an_instance_of_the_stdlibs_class(stand_in):
    assert isinstance(stand_in, STDLIB) and not isinstance(stand_in, concurrent.futures.ThreadPoolExecutor)
    assert isinstance(stand_in, type(stand_in)) and issubclass(type(stand_in), concurrent.futures.Executor)


def test_a_pool_has_all_public_methods_of_the_stdlibs_class(stand_in):
    ours = {name for kind in type(stand_in).__mro__ if kind is not concurrent.futures.Executor for name in vars(kind)}
    theirs = {name for kind in (STDLIB, concurrent.futures.Executor) for name in vars(kind)}
    assert {name for name in theirs if not name.startswith("_")} <= ours
    assert {"__init__", "__exit__"} <= ours


def test_a_pool_is_one_where_the_stdlibs_class_was_never_imported():
    code = """if True:
        import multiprocessing, sys
        import ringpool
        with ringpool.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as pool:
            assert pool.submit(abs, -7).result() == 7
            assert pool.__class__ is ringpool.ProcessPoolExecutor
        assert "concurrent.futures.process" not in sys.modules
        import concurrent.futures
        assert isinstance(pool, concurrent.futures.ProcessPoolExecutor)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=LIMIT)


@pytest.mark.parametrize(
    ("chosen", "options", "method"),
    [
        ("", "", USUAL_METHOD),
        ("", ", max_tasks_per_child=3", "spawn"),
        ("multiprocessing.set_start_method('spawn')", "", "spawn"),
        ("multiprocessing.set_start_method('fork')", "", "fork"),
    ],
    ids=["the default", "recycled", "spawn", "fork"],
)
@pytest.mark.parametrize("module", ["concurrent.futures", "ringpool"])
def test_the_start_method_is_that_of_the_running_python_unless_told_otherwise(module, chosen, options, method):
    code = f"""if True:
        import multiprocessing, {module}
        {chosen}
        with {module}.ProcessPoolExecutor(1{options}) as pool:
            print(pool._mp_context.get_start_method())
    """
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=LIMIT)
    assert (ended.stdout, ended.stderr) == (f"{method}\n", "")


def test_what_libraries_read_of_the_stdlibs_class_is_there(executor_class):
    context = multiprocessing.get_context("forkserver")
    with executor_class(3, context) as executor:
        assert executor._max_workers == 3 and executor._mp_context is context
        assert executor._processes == {} and not executor._broken and not executor._shutdown_thread
        pid = ask(executor, os.getpid)
        processes = executor._processes
        assert processes[pid].pid == pid and processes[pid].is_alive()
        assert not executor._broken and not executor._shutdown_thread
    assert not executor._processes and not executor._broken and executor._shutdown_thread
    assert not any(process.is_alive() for process in processes.values())


def test_a_view_has_what_libraries_read_of_its_pool():
    with ringpool.ProcessPoolExecutor(1) as executor:
        view = executor.options(name="x")
        ask(view, tasks.nine)
        for name in ("_max_workers", "_mp_context", "_processes", "_broken", "_shutdown_thread"):
            assert getattr(view, name) == getattr(executor, name)
        assert view._max_workers == len(view._processes) == 1


def test_a_broken_pool_says_so_to_libraries(executor_class):
    options = {} if executor_class is STDLIB else {"on_worker_death": "break"}
    with executor_class(1, **options) as executor:
        seen = []  # as soon as a future tells of it
        future = executor.submit(tasks.kill_self)
        future.add_done_callback(lambda _: seen.append((executor._broken, executor._shutdown_thread)))
        assert isinstance(future.exception(LIMIT), BrokenProcessPool)
        wait_until(lambda: seen, "the callback")
        ((broken, shut_down),) = seen
        assert isinstance(broken, str) and shut_down
        with pytest.raises(BrokenProcessPool):
            executor.submit(tasks.kill_self)


def test_a_program_may_end_the_workers_one_by_one(executor_class):
    """As programs do that time out, with Pythons that have no terminate_workers."""
    with executor_class(1) as executor:
        future = executor.submit(time.sleep, 100)
        processes = executor._processes
        executor.shutdown(wait=False, cancel_futures=True)
        for process in processes.values():
            process.terminate()
        assert future.cancelled() or isinstance(future.exception(LIMIT), BrokenProcessPool)


def test_an_attribute_that_ours_have_not_is_an_attribute_error(stand_in):
    with pytest.raises(AttributeError, match="_pending_work_items"):
        stand_in._pending_work_items  # noqa: B018


def test_the_stdlibs_exit_handler_knows_nothing_of_ours(executor):
    known = len(concurrent.futures.process._threads_wakeups)
    ask(executor, tasks.nine)
    assert len(concurrent.futures.process._threads_wakeups) == known


# ---- the names of workers ----


@pytest.mark.parametrize("method", METHODS)
def test_the_name_of_a_worker_has_a_number_as_programs_parse_it(executor_class, method):
    with executor_class(2, multiprocessing.get_context(method)) as executor:
        assert ask(executor, tasks.number_in_name) >= 1


@pytest.mark.parametrize("method", METHODS)
def test_the_number_is_an_index_that_a_successor_takes_over(method):
    with ringpool.ProcessPoolExecutor(1, multiprocessing.get_context(method)) as executor:
        for _ in range(3):
            assert ask(executor, tasks.number_in_name) == 1
            assert isinstance(executor.submit(os._exit, 1).exception(LIMIT), ringpool.WorkerDied)


# ---- what a task does to its function stays with the task ----

COUNT = 0


def make_counter():
    n = 0

    def count():
        nonlocal n
        n += 1
        return n

    return count


def make_global_counter():
    def count():
        global COUNT
        COUNT += 1
        return COUNT

    return count


def make_attribute_counter():
    def count():
        count.n = getattr(count, "n", 0) + 1
        return count.n

    return count


@pytest.mark.parametrize("make", [make_counter, make_global_counter, make_attribute_counter])
def test_a_task_of_a_function_sent_by_value_starts_from_what_it_was_at_submit(executor, make):
    count = make()
    assert [ask(executor, count) for _ in range(3)] == [1, 1, 1]


# ---- never stale ----


def test_a_submodule_imported_after_the_first_submit_is_seen(executor, monkeypatch):
    import wsgiref

    monkeypatch.delitem(sys.modules, "wsgiref.util", raising=False)
    monkeypatch.delattr(wsgiref, "util", raising=False)
    fn = lambda: wsgiref.util.guess_scheme({})  # noqa: E731
    with pytest.raises(AttributeError):
        ask(executor, fn)
    import wsgiref.util

    assert ask(executor, fn) == "http"


def test_a_function_whose_name_means_another_by_now_is_not_mistaken_for_it_by_a_successor(monkeypatch):
    old = tasks.nine
    with ringpool.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
        assert ask(executor, old) == 9
        monkeypatch.setattr(tasks, "nine", tasks.ten)
        assert isinstance(executor.submit(tasks.kill_self).exception(LIMIT), ringpool.WorkerDied)
        assert ask(executor, old) == 9


# ---- reducers ----


@pytest.mark.parametrize("executor_class", CLASSES.values(), ids=CLASSES.keys())
def test_a_reducer_that_replaces_another_is_used(executor_class, monkeypatch):
    with executor_class(1, multiprocessing.get_context("forkserver")) as executor:
        monkeypatch.setitem(copyreg.dispatch_table, tasks.Reduced, tasks.reduce_first)
        assert ask(executor, tasks.reduced_by, tasks.Reduced()) == "first"
        monkeypatch.setitem(copyreg.dispatch_table, tasks.Reduced, tasks.reduce_second)
        assert ask(executor, tasks.reduced_by, tasks.Reduced()) == "second"


@pytest.fixture
def ends():
    """Both ends of a pipe and of a socket pair."""
    pipe, pair = multiprocessing.Pipe(), socket.socketpair()
    yield {"connection": pipe, "socket": pair}
    for end in (*pipe, *pair):
        end.close()
    resource_sharer.stop()


def received(end):
    if isinstance(end, socket.socket):
        end.settimeout(LIMIT)
        return end.recv(5)
    assert end.poll(LIMIT)
    return end.recv_bytes()


@pytest.mark.parametrize("kind", ["connection", "socket"])
def test_connections_and_sockets_travel_as_arguments(executor_class, ends, kind):
    here, there = ends[kind]
    with executor_class(1, multiprocessing.get_context("forkserver")) as executor:
        ask(executor, tasks.greet, there)
        assert received(here) == b"hello"


@pytest.mark.parametrize("kind", ["connection", "socket"])
def test_connections_and_sockets_travel_beside_lambdas(executor, ends, kind):
    here, there = ends[kind]
    ask(executor, tasks.apply, lambda end: tasks.greet(end), there)
    assert received(here) == b"hello"


@pytest.mark.parametrize("module", ["concurrent.futures", "ringpool"])
def test_connections_travel_from_a_main_that_workers_cannot_import(module):
    code = f"""
    import multiprocessing, {module}
    import tasks_dropin as tasks
    here, there = multiprocessing.Pipe()
    with {module}.ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as executor:
        executor.submit(tasks.greet, there).result(30)
        print(here.recv_bytes() if here.poll(30) else "nothing came")
    """
    ended = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (ended.stdout, ended.stderr) == ("b'hello'\n", "")


# ---- the fork server ----


@pytest.mark.skipif(sys.version_info < (3, 15), reason="new in 3.15")
@pytest.mark.parametrize("module", ["concurrent.futures", "ringpool"])
def test_what_the_user_says_of_errors_in_the_fork_server_is_kept(module, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(
        textwrap.dedent(f"""
        import multiprocessing, os, {module}
        from multiprocessing import forkserver
        import tasks_dropin as tasks

        if __name__ == "__main__":
            multiprocessing.set_forkserver_preload(["__main__"], on_error="fail")
            with {module}.ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as executor:
                print(executor.submit(tasks.on_error).result(30))
            try:
                with {module}.ProcessPoolExecutor(1, multiprocessing.get_context("forkserver")) as executor:
                    executor.submit(pow, 2, 5).result(30)
            except Exception as error:
                print(*error.__notes__)
        else:
            raise ValueError("does not want to be imported")
        """)
    )
    ended = subprocess.run(
        [sys.executable, str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert ended.stdout.startswith("fail\nForkserver process may have crashed during module preloading."), ended.stderr


# ---- small print of the stdlib ----


@pytest.mark.parametrize("chunksize", [1, 3])
def test_the_iterator_of_map_can_be_closed(executor_class, chunksize):
    with (
        executor_class(1, multiprocessing.get_context("forkserver")) as executor,
        contextlib.closing(executor.map(tasks.square, range(10), chunksize=chunksize)) as results,
    ):
        assert next(results) == 0


@pytest.mark.parametrize("chunksize", [1, 3])
def test_map_submits_by_the_submit_of_a_subclass(executor_class, chunksize):
    submitted = []

    class Recording(executor_class):
        def submit(self, fn, /, *args, **kwargs):
            submitted.append(fn)
            return super().submit(fn, *args, **kwargs)

    with Recording(1, multiprocessing.get_context("forkserver")) as executor:
        assert list(executor.map(tasks.square, range(3), chunksize=chunksize, timeout=LIMIT)) == [0, 1, 4]
    assert len(submitted) == (3 if chunksize == 1 else 1)


@pytest.mark.parametrize("state", ["pending", "done"])
def test_a_future_cannot_be_pickled(executor_class, state):
    with executor_class(1, multiprocessing.get_context("forkserver")) as executor:
        future = executor.submit(tasks.square, 3)
        if state == "done":
            future.result(LIMIT)
        with pytest.raises(TypeError):
            pickle.dumps(future)
        future.result(LIMIT)


def test_the_remote_traceback_is_set_off_as_in_the_stdlib(executor_class):
    with executor_class(1, multiprocessing.get_context("forkserver")) as executor:
        error = executor.submit(tasks.square, "a").exception(LIMIT)
    text = str(error.__cause__)
    assert text.startswith('\n"""\nTraceback (most recent call last):\n')
    assert text.endswith('\n"""')


# ---- futures ----

# What a future of ours has from the stdlib's class: a part of its result(), and what is of types alone.
INHERITED = {"_Future__get_result", "__class_getitem__"}


def test_no_method_of_the_stdlibs_future_sees_a_state_that_ours_does_not_have():
    theirs, ours = concurrent.futures.Future, ringpool.Future
    methods = {
        name: method
        for name, method in vars(theirs).items()
        if inspect.isfunction(method) or isinstance(method, (classmethod, property))
    }
    assert {"result", "cancel", "_invoke_callbacks"} <= {*methods}
    inherited = {name for name, method in methods.items() if inspect.getattr_static(ours, name) is method}
    assert inherited == INHERITED


@pytest.mark.parametrize("argument", [3, "a"], ids=["a result", "an exception"])
def test_asyncio_takes_what_is_done_before_the_waiting_threads_are_notified(executor, argument):
    """A thread of the pool notifies them later."""

    async def take():
        return await asyncio.wait_for(asyncio.wrap_future(future), LIMIT)

    with collector_held_up(executor):
        future = executor.submit(tasks.square, argument)
        concurrent.futures.wait([future], 0)
        wait_until(future.done)
        if argument == 3:
            assert asyncio.run(take()) == 9
        else:
            with pytest.raises(TypeError):
                asyncio.run(take())


# ---- words ----


@pytest.mark.parametrize("method", METHODS)
def test_a_broken_pool_says_first_what_the_stdlibs_says(executor_class, method):
    options = {"initializer": tasks.square, "initargs": ("no number",)}
    with executor_class(1, multiprocessing.get_context(method), **options) as executor:
        error = executor.submit(tasks.square, 1).exception(LIMIT)
        assert type(error) is BrokenProcessPool
        assert str(error).startswith(
            "A process in the process pool was terminated abruptly while the future was running or pending."
        )
        with pytest.raises(BrokenProcessPool, match=UNUSABLE):
            executor.submit(tasks.square, 1)


# ---- terminate_workers and kill_workers ----

UNUSABLE = "^A child process terminated abruptly, the process pool is not usable anymore"

HOWS = ["terminate_workers", "kill_workers"]
with_abort = pytest.mark.parametrize(
    "executor_class",
    [
        pytest.param(
            CLASSES["stdlib"],
            id="stdlib",
            marks=pytest.mark.skipif(sys.version_info < (3, 14), reason="the stdlib has neither before 3.14"),
        ),
        pytest.param(CLASSES["ringpool"], id="ringpool"),
    ],
)


def wait_until_exists(path):
    deadline = time.monotonic() + LIMIT
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} never came to be"
        time.sleep(0.002)


def refused(executor, error=BrokenProcessPool):
    """Asserts that no task is taken any more. (The stdlib breaks the pool some time later, and not without a task.)"""
    ours = isinstance(executor, CLASSES["ringpool"])
    with pytest.raises(error if ours else RuntimeError) as raised:
        executor.submit(tasks.square, 1)
    if isinstance(raised.value, BrokenProcessPool):
        assert re.match(UNUSABLE, str(raised.value))
    assert list(executor.map(tasks.square, [])) == []


@with_abort
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("method", METHODS)
def test_aborting_fails_what_runs_and_cancels_or_fails_what_waits(executor_class, how, method, tmp_path):
    executor = executor_class(2, multiprocessing.get_context(method))
    running = [executor.submit(tasks.touch_and_hang, str(tmp_path / str(i))) for i in range(2)]
    waiting = [executor.submit(tasks.square, i) for i in range(50)]
    for i in range(2):
        wait_until_exists(tmp_path / str(i))
    pidfds = [os.pidfd_open(int((tmp_path / str(i)).read_text())) for i in range(2)]
    getattr(executor, how)()
    for future in running:
        assert isinstance(future.exception(LIMIT), BrokenProcessPool)
    if executor_class is CLASSES["stdlib"]:  # it does not notify the waiters of a future that it has cancelled
        waiting = [future for future in waiting if not future.cancelled()]
    done, pending = concurrent.futures.wait(waiting, LIMIT)
    if executor_class is CLASSES["ringpool"]:
        assert all(future.cancelled() for future in done)
    assert all(future.cancelled() or isinstance(future.exception(), BrokenProcessPool) for future in done)
    assert not pending
    for fd in pidfds:
        assert select.select([fd], [], [], LIMIT)[0], "a worker is still there"
        os.close(fd)
    refused(executor)
    executor.shutdown()


@with_abort
@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("before", ["nothing", "a task", "shutdown", "kill_workers", "terminate_workers"])
def test_aborting_is_harmless_whatever_came_before(executor_class, how, before):
    executor = executor_class(1, multiprocessing.get_context("forkserver"))
    if before != "nothing":
        assert ask(executor, tasks.square, 3) == 9
    if before not in ("nothing", "a task"):
        getattr(executor, before)()
    getattr(executor, how)()
    executor.shutdown()
    refused(executor, BrokenProcessPool if before != "shutdown" else RuntimeError)


@with_abort
def test_a_task_that_ignores_sigterm_outlives_terminate_workers_and_not_kill_workers(executor_class, tmp_path):
    executor = executor_class(1, multiprocessing.get_context("forkserver"))
    future = executor.submit(tasks.touch_and_hang, str(tmp_path / "runs"), True)
    wait_until_exists(tmp_path / "runs")
    executor.terminate_workers()
    with pytest.raises(TimeoutError):
        future.result(0.1)
    os.kill(int((tmp_path / "runs").read_text()), signal.SIGKILL)  # after shutdown, the stdlib forgets its processes
    assert isinstance(future.exception(LIMIT), BrokenProcessPool)
    executor.shutdown()


@pytest.mark.parametrize(("how", "name"), [("terminate_workers", "SIGTERM"), ("kill_workers", "SIGKILL")])
def test_the_error_of_an_aborted_task_names_the_signal(how, name, tmp_path):
    executor = ringpool.ProcessPoolExecutor(1, multiprocessing.get_context("forkserver"))
    future = executor.submit(tasks.touch_and_hang, str(tmp_path / "runs"))
    wait_until_exists(tmp_path / "runs")
    getattr(executor, how)()
    with pytest.raises(ringpool.WorkerDied, match=name):
        future.result(LIMIT)
    executor.shutdown()
