"""Forks: those that make workers, and those of the user while a pool is live."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import textwrap
import threading
from multiprocessing import active_children
from pathlib import Path

import pytest
import tasks_fork as tasks
from levels import METHODS
from limits import FORKS_AMONG_THREADS, LIMIT, PATIENCE
from pools import pool
from programs import environment
from waiting import wait_until

from ringpool import ProcessPoolExecutor, WorkerDied
from ringpool.errors import BrokenProcessPool


def pids(executor: ProcessPoolExecutor) -> set[int]:
    return {p.pid for p in executor._supervisor.processes}


def zygote(executor: ProcessPoolExecutor) -> int:
    return executor._supervisor._launcher.zygote._core.pid


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def ready(executor: ProcessPoolExecutor, n: int) -> bool:
    return len(pids(executor)) == n and all(executor._client.segment.worker_started(w) for w in range(n))


def lose_worker(executor: ProcessPoolExecutor, code: int = 3) -> None:
    error = executor.submit(os._exit, code).exception(LIMIT)
    assert type(error) is WorkerDied and error.exitcode == code, error


@contextlib.contextmanager
def threads(*targets):
    started = [threading.Thread(target=target) for target in targets]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        for thread in started:
            thread.join()


# ---- successors ----


def test_a_successor_does_not_inherit_what_threads_of_the_parent_hold():
    held, over = threading.Event(), threading.Event()

    def hold():
        with tasks.LOCK, tasks.RENEWED, tasks.HANDLER.lock:
            held.set()
            over.wait(LIMIT)

    with pool() as executor:
        executor.submit(pow, 2, 5).result(LIMIT)
        with threads(hold):
            assert held.wait(LIMIT)
            try:
                lose_worker(executor)
                assert executor.submit(tasks.take_locks).result(LIMIT) == sum(range(0, 100_000, 1000))
            finally:
                over.set()


def test_at_fork_handlers_run_once_in_the_parent_and_once_in_each_worker():
    before = dict(tasks.forks)
    with pool(3) as executor:
        seen = {}
        for _ in range(5):
            pid, forks = executor.submit(tasks.pid_and_forks).result(LIMIT)
            seen[pid] = forks
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda pid=pid: pid not in pids(executor), "the recovery")
        wait_until(lambda: ready(executor, 3), "all successors")
    assert len(seen) == 5
    once_in_child = {**before, "before": before["before"] + 1, "after_in_child": before["after_in_child"] + 1}
    assert all(forks == once_in_child for forks in seen.values())
    assert tasks.forks == {**once_in_child, "after_in_child": 0, "after_in_parent": before["after_in_parent"] + 1}


@pytest.mark.deadline(300)
@pytest.mark.parametrize("deaths", [200, pytest.param(1000, marks=pytest.mark.slow)])
def test_hundreds_of_successors_while_threads_are_busy(deaths):
    """Each death comes while threads allocate, log, take locks and start threads."""
    over = threading.Event()

    def work():
        while not over.is_set():
            with tasks.LOCK:
                tasks.LOGGER.error("%s", [bytes(n) for n in range(0, 3000, 100)])
            with tasks.RENEWED:
                threading.Thread(target=int).start()

    with pool(2) as executor:
        executor.submit(pow, 2, 5).result(LIMIT)
        wait_until(lambda: ready(executor, 2), "both workers")
        before, descriptors = dict(tasks.forks), len(os.listdir("/proc/self/fd"))
        with threads(work, work):
            try:
                for _ in range(deaths):
                    lose_worker(executor)
                    assert executor.submit(tasks.take_locks).result(LIMIT) == sum(range(0, 100_000, 1000))
            finally:
                over.set()
        assert tasks.forks == before
        wait_until(lambda: ready(executor, 2), "all successors")
        wait_until(
            lambda: len(os.listdir("/proc/self/fd")) == descriptors, "the closing of the descriptors of the dead"
        )


def test_a_worker_and_its_successor_have_the_identity_of_a_new_process():
    with pool() as executor:
        number = 0
        for _ in range(3):
            identity = executor.submit(tasks.identity).result(LIMIT)
            assert identity["number"] > ((number,))
            number = identity.pop("number")[0]
            pid = identity.pop("pid")
            assert identity == {
                "parent": os.getpid(),
                "name": "RingpoolProcess-1",
                "parent process": os.getpid(),
                "parent is alive": True,
                "children": [],
                "native id": pid,
                "main thread": pid,
                "is main": True,
                "threads": ["MainThread"],
                "method": "fork",
                "stdin": "",
            }
            wait_until(lambda: ready(executor, 1), "the supervisor")  # the worker may be faster than its maker
            assert [(p.pid, p.name, p.exitcode) for p in active_children()] == [(pid, "RingpoolProcess-1", None)]
            process = active_children()[0]
            lose_worker(executor, 5)
            assert process.exitcode == 5


def test_a_pool_made_in_a_thread_that_ends_works_on():
    """The thread is the parent that the system knows of the zygote and the workers."""
    made = []

    def make():
        made.append(pool())
        made[0].submit(pow, 2, 5).result(LIMIT)

    with threads(make):
        pass
    with made[0] as executor:
        found = executor.submit(tasks.identity).result(LIMIT)
        assert found["is main"] and found["native id"] == found["pid"] and found["main thread"] == found["pid"]
        lose_worker(executor)
        found = executor.submit(tasks.identity).result(LIMIT)
        assert found["is main"] and found["native id"] == found["pid"] and found["main thread"] == found["pid"]


def test_every_worker_draws_random_numbers_of_its_own():
    with pool() as executor:
        drawn = {}
        for _ in range(4):
            drawn.update([executor.submit(tasks.random_number).result(LIMIT)])
            lose_worker(executor)
    assert len(set(drawn.values())) == len(drawn) == 4


def test_the_c_library_knows_which_thread_a_worker_is():
    with pool() as executor:
        for _ in range(2):
            assert executor.submit(tasks.signal_main_thread).result(LIMIT)
            lose_worker(executor)


def test_a_robust_mutex_of_a_dead_worker_is_passed_on():
    with pool() as executor:
        assert executor.submit(tasks.lock_and_die).exception(LIMIT).exitcode == 9
        assert executor.submit(tasks.lock).result(LIMIT) == 130  # EOWNERDEAD


# ---- the zygote ----


def test_the_zygote_ends_with_the_pool_although_a_forked_child_has_its_socket():
    read, write = os.pipe()
    executor = pool()
    executor.submit(pow, 2, 5).result(LIMIT)
    pid = zygote(executor)
    child = os.fork()
    if child == 0:
        os.read(read, 1)
        os._exit(0)
    executor.shutdown()
    assert not Path(f"/proc/{pid}").exists()
    os.write(write, b"x")
    assert os.waitpid(child, 0)[1] == 0
    os.close(read)
    os.close(write)


def test_the_zygote_of_another_pool_keeps_no_memory_of_one_that_has_ended():
    many = 64 << 20
    with pool() as ended, pool() as other:
        assert len(ended.submit(bytes, many).result(LIMIT)) == many
        other.submit(pow, 2, 5).result(LIMIT)
        files = [file for file in Path(f"/proc/{zygote(other)}/fd").iterdir() if "memfd:" in os.readlink(file)]
        held = lambda: sum(file.stat().st_blocks * 512 for file in files)  # noqa: E731
        assert held() >= many
        ended.shutdown()
        assert held() < many


def test_the_zygote_ends_with_the_parent_although_a_forked_child_has_its_socket(tmp_path):
    script = """
        import os, signal, sys
        from multiprocessing import get_context, resource_tracker
        from ringpool import ProcessPoolExecutor
        executor = ProcessPoolExecutor(1, get_context("fork"))
        executor.submit(pow, 2, 5).result()
        child = os.fork()
        if child == 0:
            os.close(1)
            os.close(2)
            if resource_tracker._resource_tracker._fd is not None:  # the tracker has a standard error, too
                os.close(resource_tracker._resource_tracker._fd)
            signal.pause()
        print(executor._supervisor._launcher.zygote._core.pid, child, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    """
    ended = run(script, tmp_path)
    pid, child = map(int, ended.stdout.split())
    try:
        wait_until(lambda: is_gone(pid), "the end of the zygote")
        assert not is_gone(child)
    finally:
        os.kill(child, signal.SIGKILL)


def test_signals_do_not_reach_the_zygote():
    with pool() as executor:
        executor.submit(pow, 2, 5).result(LIMIT)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGTSTP, signal.SIGUSR1):
            os.kill(zygote(executor), number)
        lose_worker(executor)
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32


def test_without_its_zygote_a_pool_works_as_long_as_it_has_workers():
    with pool(2) as executor:
        executor.submit(pow, 2, 5).result(LIMIT)
        wait_until(lambda: ready(executor, 2), "all workers")
        os.kill(zygote(executor), signal.SIGKILL)
        lose_worker(executor)
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32
        lose_worker(executor)
        with pytest.raises(BrokenProcessPool, match="No worker could be started") as caught:
            executor.submit(pow, 2, 5).result(LIMIT)
        assert isinstance(caught.value.__cause__, BrokenPipeError)


@pytest.mark.parametrize("left", [0, 1, 2, 3])
def test_a_successor_for_which_there_is_no_descriptor_is_made_later(left):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = []
    with pool(2) as executor:
        supervisor = executor._supervisor
        executor.submit(pow, 2, 5).result(LIMIT)
        wait_until(lambda: ready(executor, 2), "all workers")
        first, second = pids(executor)
        replace, failed = supervisor._replace, threading.Event()

        def replace_without_descriptors():
            if first not in pids(executor) and not failed.is_set():
                with contextlib.suppress(OSError):
                    while True:
                        taken.append(os.open("/dev/null", os.O_RDONLY))
                for fd in taken[:left]:
                    os.close(fd)
                del taken[:left]
                replace()
                failed.set()
            else:
                replace()

        resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
        supervisor._replace = replace_without_descriptors
        try:
            os.kill(first, signal.SIGKILL)
            assert failed.wait(LIMIT)
            assert len(pids(executor)) == (2 if left >= 2 else 1)
            assert {p.pid for p in active_children()} == pids(executor)
            assert executor.submit(pow, 2, 5).result(LIMIT) == 32
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            for fd in taken:
                os.close(fd)
        os.kill(second, signal.SIGKILL)
        wait_until(lambda: second not in pids(executor) and ready(executor, 2), "all successors")
        assert {p.pid for p in active_children()} == pids(executor)
        del supervisor._replace


def test_a_successor_that_cannot_be_watched_is_killed_and_recovered(monkeypatch):
    unwatched = []

    def once(pid):
        unwatched.append(pid)
        monkeypatch.setattr(os, "pidfd_open", pidfd_open)
        wait_until(
            lambda: executor._client.segment.worker_started(0), "the start of the worker, which is then ready for tasks"
        )
        raise OSError(errno.EMFILE, "no more of them")

    pidfd_open = os.pidfd_open
    with pool() as executor:
        executor.submit(pow, 2, 5).result(LIMIT)
        monkeypatch.setattr(os, "pidfd_open", once)
        lose_worker(executor)
        wait_until(lambda: unwatched and not pids(executor) & {*unwatched} and ready(executor, 1), "one more successor")
        assert executor.submit(pow, 2, 5).result(LIMIT) == 32
        assert is_gone(unwatched[0])
        assert {p.pid for p in active_children()} == pids(executor)


@pytest.mark.parametrize(("setup", "exitcode"), [("SIG_IGN", None), ("lambda *_: reap()", "any")])
def test_a_program_that_reaps_all_children_itself_has_a_pool_that_works(tmp_path, setup, exitcode):
    script = f"""
        import os, signal
        from multiprocessing import get_context
        from signal import SIG_IGN
        from ringpool import ProcessPoolExecutor, WorkerDied

        def reap():
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass

        signal.signal(signal.SIGCHLD, {setup})
        with ProcessPoolExecutor(1, get_context("fork")) as executor:
            for _ in range(20):
                error = executor.submit(os._exit, 3).exception(30)
                assert type(error) is WorkerDied, error
                assert error.exitcode in {{None, 3}}
                assert error.exitcode is None or {exitcode!r} == "any"
                assert executor.submit(pow, 2, 5).result(30) == 32
        print("done")
    """
    assert run(script, tmp_path).stdout == "done\n"


@pytest.mark.skipif(sys.version_info < (3, 12), reason="os.fork does not warn")
def test_a_pool_that_begins_among_threads_warns_as_os_fork_does():
    over = threading.Event()
    with threads(over.wait):
        try:
            with pytest.warns(DeprecationWarning, match="multi-threaded"), pool() as executor:
                executor.submit(pow, 2, 5).result(LIMIT)
        finally:
            over.set()


# ---- signals in workers ----


@pytest.mark.parametrize("method", METHODS)
def test_workers_reset_handlers_and_mask(method):
    numbers = (signal.SIGTERM, signal.SIGUSR1, signal.SIGALRM)
    old = {s: signal.signal(s, lambda *_: None) for s in numbers}
    old[signal.SIGUSR2] = signal.signal(signal.SIGUSR2, signal.SIG_IGN)
    read, write = os.pipe2(os.O_NONBLOCK)
    wakeup = signal.set_wakeup_fd(write)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGHUP})
    try:
        with pool(1, method) as executor:
            for _ in range(2):
                found = executor.submit(tasks.signals).result(LIMIT)
                assert found == {
                    "handlers": dict.fromkeys(numbers, signal.SIG_DFL),
                    "ignored": method == "fork" or found["ignored"],  # a forkserver has its own
                    "mask": set(),
                    "wakeup": -1,
                }
                lose_worker(executor)
            assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {*mask, signal.SIGTERM, signal.SIGHUP}
            assert signal.set_wakeup_fd(write) == write
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.set_wakeup_fd(wakeup)
        for number, handler in old.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def test_a_pool_made_with_sigterm_blocked_can_be_terminated(tmp_path):
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        executor = pool()
        running = executor.submit(tasks.touch_and_wait, str(tmp_path / "running"), str(tmp_path / "never"))
        wait_until((tmp_path / "running").exists, "the task")
        executor.terminate_workers()
        assert running.exception(LIMIT).exitcode == -signal.SIGTERM
        executor.shutdown()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_signals_of_workers_do_not_reach_the_event_loop_of_the_parent():
    async def main():
        loop = asyncio.get_running_loop()
        got = []
        for number in (signal.SIGTERM, signal.SIGUSR1):
            loop.add_signal_handler(number, got.append, number)
        with pool() as executor:
            for _ in range(3):
                for number in (signal.SIGTERM, signal.SIGUSR1):
                    assert await loop.run_in_executor(executor, pow, 2, 5) == 32
                    with pytest.raises(WorkerDied) as caught:
                        await loop.run_in_executor(executor, signal.raise_signal, number)
                    assert caught.value.exitcode == -number
            os.kill(os.getpid(), signal.SIGUSR1)
            while not got:
                await asyncio.sleep(0)
        return got

    assert asyncio.run(main()) == [signal.SIGUSR1]


# ---- forks of the user, in scripts of their own ----

HEAD = """
import asyncio, gc, os, signal, sys, threading, time, weakref
from concurrent import futures
from multiprocessing import get_context
from ringpool import ProcessPoolExecutor, WorkerDied
import tasks_fork as tasks

def fork(child):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        child()
        os._exit(0)
    return pid

def ended(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

def refused(use):
    try:
        use()
    except RuntimeError:
        return
    raise AssertionError(use)
"""


def run(script: str, tmp_path: Path) -> subprocess.CompletedProcess:
    path = tmp_path / "script.py"
    path.write_text(HEAD + textwrap.dedent(script))
    # Python 3.12 and later warn of every fork while there are threads; some run with warnings shown.
    return subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", str(path)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=50 * PATIENCE,
        cwd=tmp_path,
    )


WAYS_OUT = {
    "sys.exit": ("sys.exit(4)", 4),
    "os._exit": ("os._exit(4)", 4),
    "the end of the program": ("finish()", 0),
    "an exception": ("raise ValueError('of the child')", 1),
    "Ctrl-C": ("raise KeyboardInterrupt", -signal.SIGINT),
    "shutdown": ("executor.shutdown(wait=True, cancel_futures=True); sys.exit(4)", 4),
    "terminate_workers": ("refused(executor.terminate_workers); sys.exit(4)", 4),
    "kill_workers": ("refused(executor.kill_workers); executor.shutdown(); sys.exit(4)", 4),
    "garbage": ("del executor, pending, large, small; gc.collect(); sys.exit(4)", 4),
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("way", "code"), WAYS_OUT.values(), ids=WAYS_OUT)
def test_a_child_leaves_as_it_likes_and_the_pool_works_on(tmp_path, method, way, code):
    """The child leaves the `with` block and the program, with tasks pending and results that it has not read."""
    script = f"""
        def finish():
            pass  # and go on to the end of the script

        def main():
            with ProcessPoolExecutor(1, get_context({method!r})) as executor:
                worker = executor.submit(os.getpid).result()
                large, small = executor.submit(tasks.blob, 300_000), executor.submit(pow, 2, 5)
                futures.wait([small])
                pending = executor.submit(tasks.touch_and_wait, "running", "go")
                queued = [executor.submit(tasks.blob, 1000) for _ in range(5000)]
                pid = os.fork()
                if pid == 0:
                    {way}
                else:
                    code = ended(pid)
                    open("go", "w").close()
                    assert pending.result(30) == "done"
                    assert [len(f.result(30)) for f in queued] == [1000] * 5000
                    assert len(large.result(30)) == 300_000 and small.result(30) == 32
                    assert executor.submit(os.getpid).result(30) == worker
                    assert type(executor.submit(os._exit, 3).exception(30)) is WorkerDied
                    assert executor.submit(pow, 2, 5).result(30) == 32
                    print(code)

        if __name__ == "__main__":
            main()
    """
    # What the child does is one line, in a function that has no other use of the names that it deletes.
    done = run(script.replace("'", '"'), tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{code}\n"
    if code == 1:
        assert done.stderr.endswith("ValueError: of the child\n") and done.stderr.count("Traceback") == 1
    elif code < 0:
        assert done.stderr.endswith("KeyboardInterrupt\n") and done.stderr.count("Traceback") == 1
    else:
        assert done.stderr == ""


USES = {
    "submit": ("executor.submit(pow, 2, 5)", "this pool belongs to the process that made it"),
    "map": ("executor.map(abs, [1])", "this pool belongs to the process that made it"),
    "submit, after shutdown": ("executor.shutdown(); executor.submit(pow, 2, 5)", "this pool belongs to the process"),
    "result": ("pending.result()", "the task belongs to the process that submitted it"),
    "exception": ("watched.exception()", "the task belongs to the process that submitted it"),
    "wait": ("futures.wait([pending])", "the task belongs to the process that submitted it"),
    "wait, watched": ("futures.wait([watched])", "the task belongs to the process that submitted it"),
    "as_completed": ("next(futures.as_completed([watched]))", "the task belongs to the process that submitted it"),
    "callback": ("pending.add_done_callback(print)", "the task belongs to the process that submitted it"),
    "asyncio": ("asyncio.run(wrap(pending))", "the task belongs to the process that submitted it"),
    "unread result": ("large.result()", "the result lies in memory of the process that submitted the task"),
}


def test_a_child_that_uses_the_pool_gets_a_runtime_error(tmp_path):
    script = f"""
        async def wrap(future):
            await asyncio.wrap_future(future)

        with ProcessPoolExecutor(1, get_context("fork")) as executor:
            large, small = executor.submit(tasks.blob, 300_000), executor.submit(pow, 2, 5)
            small.result()
            pending = executor.submit(tasks.touch_and_wait, "running", "go")
            watched = executor.submit(pow, 2, 6)
            watched.add_done_callback(lambda _: print("told"))
            futures.wait([watched], timeout=0)

            def use():
                for what, (code, text) in {USES!r}.items():
                    signal.alarm(20)
                    try:
                        exec(code, globals())
                    except RuntimeError as error:
                        assert str(error).startswith(text), (what, error)
                    else:
                        raise AssertionError(what)
                assert small.result() == 32 and small.done()
                for ask in (pending.done, pending.running, pending.cancel, watched.cancel):
                    refused(ask)
                repr([pending, watched, large, small])

            assert ended(fork(use)) == 0
            # Threads hold what the child might wait for.
            with executor._supervisor._lock, watched._condition:
                thread = threading.Thread(target=lambda: codes.append(ended(fork(use))))
                codes = []
                thread.start()
                thread.join()
                assert codes == [0]
            open("go", "w").close()
            assert watched.result(30) == 64 and len(large.result(30)) == 300_000
    """
    done = run(script, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("told\n", "", 0)


# Not the forkserver's: Python's own refuses to work in a fork of a process that has used it.
@pytest.mark.parametrize(("method", "of_child"), [("fork", "fork"), ("fork", "spawn"), ("forkserver", "fork")])
def test_a_child_makes_a_pool_of_its_own(tmp_path, method, of_child):
    script = f"""
        def main():
            with ProcessPoolExecutor(1, get_context({method!r})) as executor:
                executor.submit(pow, 2, 5).result()
                pid = os.fork()
                if pid == 0:
                    with ProcessPoolExecutor(2, get_context({of_child!r})) as own:
                        assert type(own.submit(os._exit, 3).exception(30)) is WorkerDied
                        assert own.submit(tasks.own_pool, {of_child!r}).result(30)[1]
                        assert list(own.map(abs, range(-100, 0))) == list(range(100, 0, -1))
                    sys.exit(4)
                assert executor.submit(pow, 2, 5).result(30) == 32
                print(ended(pid))

        if __name__ == "__main__":
            main()
    """
    done = run(script, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("4\n", "", 0)


def test_a_child_holds_none_of_the_pools_memory(tmp_path):
    script = """
        with ProcessPoolExecutor(1, get_context("fork")) as executor:
            executor.submit(pow, 2, 5).result()
            def look():
                fds = [os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if int(fd) != 99
                       and os.path.islink(f"/proc/self/fd/{fd}")]
                assert not [each for each in fds if "ringpool" in each], fds
                assert "ringpool" not in open("/proc/self/maps").read().replace("site-packages/ringpool", "").replace(
                    "ringpool/_core", "")
            assert "memfd:ringpool" in open("/proc/self/maps").read()
            assert ended(fork(look)) == 0
    """
    done = run(script, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


@pytest.mark.skipif(
    not FORKS_AMONG_THREADS, reason="a free-threaded CPython may hand a lock to a thread that the child has not"
)
def test_forks_among_threads_that_use_the_pool_do_no_harm(tmp_path):
    script = """
        over = threading.Event()
        errors = []

        def use(executor, i):
            try:
                while not over.is_set():
                    sent = [executor.submit(tasks.blob, n) for n in (0, 50, 500, 50_000)]
                    sent[1].add_done_callback(lambda _: None)
                    assert [len(f.result(30)) for f in sent] == [0, 50, 500, 50_000]
                    if i == 0:
                        assert type(executor.submit(os._exit, 3).exception(30)) is WorkerDied
            except BaseException as error:
                errors.append(error)

        def leave():
            signal.alarm(20)
            executor.shutdown()
            gc.collect()
            sys.exit(4)

        with ProcessPoolExecutor(2, get_context("fork")) as executor:
            users = [threading.Thread(target=use, args=(executor, i)) for i in range(3)]
            for each in users:
                each.start()
            codes = [ended(fork(leave)) for _ in range(40)]
            over.set()
            for each in users:
                each.join()
        assert not errors, errors
        assert codes == [4] * 40, codes
    """
    done = run(script, tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)


# ---- where the zygote may not copy itself ----

# Lets a filter refuse, in this process and its children, every clone with CLONE_PARENT.
REFUSE_CLONE_PARENT = """
        import ctypes, platform, struct

        def instruction(code, true, false, k):
            return struct.pack("HBBI", code, true, false, k)

        LOAD, EQUAL, ANY_BIT, ANSWER = 0x20, 0x15, 0x45, 0x06
        CLONE = {"x86_64": 56, "aarch64": 220}[platform.machine()]
        program = b"".join([
            instruction(LOAD, 0, 0, 0),             # the number of the system call
            instruction(EQUAL, 0, 3, CLONE),
            instruction(LOAD, 0, 0, 16),            # the flags
            instruction(ANY_BIT, 0, 1, 0x8000),     # CLONE_PARENT
            instruction(ANSWER, 0, 0, 0x50000 | %d),
            instruction(ANSWER, 0, 0, 0x7fff0000),  # allowed
        ])
        buffer = ctypes.create_string_buffer(program, len(program))
        filter = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(program) // 8, ctypes.addressof(buffer)))
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, filter, 0, 0):  # PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP
            print("no filter: errno", ctypes.get_errno())
            sys.exit()
"""


@pytest.mark.parametrize("refusal", [errno.EPERM, errno.ENOSYS], ids=["EPERM", "ENOSYS"])
def test_where_the_zygote_may_not_copy_itself_the_process_forks_its_workers(tmp_path, refusal):
    script = f"""
        {REFUSE_CLONE_PARENT % refusal}
        from multiprocessing import active_children, shared_memory

        def handle(*_):
            raise ValueError("a handler of the program's")

        signal.signal(signal.SIGUSR1, handle)
        with ProcessPoolExecutor(2, get_context("fork")) as executor:
            assert list(executor.map(abs, range(-500, 0))) == [*range(500, 0, -1)]
            for code in range(3, 6):
                error = executor.submit(os._exit, code).exception(30)
                assert type(error) is WorkerDied and error.exitcode == code, error
                assert executor.submit(os.getppid).result(30) == os.getpid()
            assert executor.submit(signal.raise_signal, signal.SIGUSR1).exception(30).exitcode == -signal.SIGUSR1
            name, started = executor.submit(tasks.make_block, b"one").result(30)
            assert not started
            running = executor.submit(time.sleep, 100)
            while not running.running():
                time.sleep(0.01)
            assert running.cancel(running=True)
            assert executor.submit(pow, 2, 5).result(30) == 32
        block = shared_memory.SharedMemory(name)
        block.close()
        block.unlink()
        print("done", active_children())
    """
    ended = run(script, tmp_path)
    if ended.stdout.startswith("no "):
        pytest.skip(ended.stdout.strip())
    assert (ended.stdout, ended.stderr) == ("done []\n", "")


# ---- what multiprocessing tracks ----


@pytest.mark.parametrize("before", ["", "resource_tracker.ensure_running()"], ids=["a new tracker", "an old one"])
def test_shared_memory_that_a_task_makes_outlives_its_worker(tmp_path, before):
    """A tracker that the worker had to start for itself would unlink it, and say so on the standard error."""
    script = f"""
        from multiprocessing import resource_tracker, shared_memory

        {before}
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        with ProcessPoolExecutor(1, get_context("fork")) as executor:
            made = [executor.submit(tasks.make_block, b"one").result(30)]
            assert type(executor.submit(os._exit, 3).exception(30)) is WorkerDied
            made.append(executor.submit(tasks.make_block, b"two").result(30))  # a successor
        for name, started in made:
            assert not started, started
            block = shared_memory.SharedMemory(name)
            print(bytes(block.buf[:3]))
            block.close()
            block.unlink()
        assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == {{signal.SIGTERM}}
    """
    ended = run(script, tmp_path)
    assert (ended.stdout, ended.stderr) == ("b'one'\nb'two'\n", "")


def test_what_a_task_forks_keeps_the_way_to_the_tracker_only_where_any_fork_does(tmp_path):
    """Where the tracker is waited for at the end of the program, a copy would hold that up."""
    script = """
        from multiprocessing import resource_tracker

        resource_tracker.ensure_running()
        with ProcessPoolExecutor(1, get_context("fork")) as executor:
            print(executor.submit(tasks.tracks_in_fork).result(30) == tasks.tracks_in_fork())
    """
    ended = run(script, tmp_path)
    assert (ended.stdout, ended.stderr) == ("True\n", "")


# ---- forks in tasks ----


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("how", "code"), [("exit", 7), ("_exit", 7), ("raise", 1), ("return", 0)])
def test_a_child_that_a_task_forks_ends_when_it_leaves_the_task(method, how, code):
    with pool(1, method) as executor:
        worker = executor.submit(os.getpid).result(LIMIT)
        for _ in range(3):
            assert executor.submit(tasks.fork_and, how).result(LIMIT) == code
        assert executor.submit(os.getpid).result(LIMIT) == worker


@pytest.mark.parametrize(("how", "code"), [("exit", 7), ("raise", 1), ("return", 0)])
def test_a_child_that_a_task_or_an_item_with_a_time_limit_forks_stops_no_clock(how, code):
    """The clock is in memory that the child does not have."""
    with pool() as executor:
        worker = executor.submit(os.getpid).result(LIMIT)
        limited = executor.options(timeout=LIMIT)
        assert limited.submit(tasks.fork_and, how).result(LIMIT) == code
        assert list(limited.map(tasks.fork_and, [how])) == [code]
        assert executor.submit(os.getpid).result(LIMIT) == worker


@pytest.mark.parametrize(("how", "code"), [("exit", 7), ("raise", 1), ("return", 0)])
def test_a_child_that_an_initializer_forks_ends_when_it_leaves_it(how, code):
    with pool(1, initializer=tasks.initialize_and_fork, initargs=(how,)) as executor:
        assert executor.submit(tasks.initialized).result(LIMIT) == code


@pytest.mark.parametrize(("method", "of_task"), [("fork", "fork"), ("fork", "spawn"), ("forkserver", "fork")])
def test_a_task_makes_a_pool_of_its_own(method, of_task):
    with pool(1, method) as executor:
        for _ in range(2):
            assert executor.submit(tasks.own_pool, of_task).result(LIMIT) == ([5, 4, 3, 2, 1], True)
            lose_worker(executor)


def test_futures_of_a_process_that_forks_are_collected():
    """The child's copies go without touching anything of the parent's."""
    with pool() as executor:
        done = [executor.submit(tasks.blob, n) for n in (10, 1000, 300_000)]
        concurrent.futures.wait(done, LIMIT)
        child = os.fork()
        if child == 0:
            done.clear()
            del executor
            gc.collect()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert [len(f.result(LIMIT)) for f in done] == [10, 1000, 300_000]
        assert executor._client.intake.strays == 0
