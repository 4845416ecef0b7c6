"""Programs for test_refusals.py, each with a system that refuses something. Also what their workers import."""

from __future__ import annotations

import ctypes
import errno
import logging
import multiprocessing
import multiprocessing.forkserver
import multiprocessing.popen_fork
import multiprocessing.popen_forkserver
import multiprocessing.popen_spawn_posix
import os
import resource
import signal
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

# All that a program needs that has become a user without the right to read this file and the interpreter's.
import cloudpickle  # noqa: F401
import refuse
from files import await_file

import ringpool
import ringpool.errors
import ringpool.executor
import ringpool.refusals
import ringpool.zygote  # noqa: F401
from ringpool import ProcessPoolExecutor, TaskTimeout, WorkerDied

CANNOT = 77  # the exit code of a program that is not allowed to set its stage


def sit(path: str) -> None:
    """Takes no notice of being told to end."""
    while True:
        try:
            await_file(path)
            return
        except TaskTimeout:
            pass


def has_parent() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and parent.is_alive()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def wait_until(condition: Any) -> None:
    deadline = time.monotonic() + 50
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def use(method: str, folder: str) -> None:
    """Results, deaths, deadlines, recycling, the end."""
    recycled = None if method == "fork" else 3
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context, max_tasks_per_child=recycled) as pool:
        assert pool.submit(has_parent).result()
        assert list(pool.map(abs, range(-9, 0))) == list(range(9, 0, -1))
        died = pool.submit(die).exception()
        assert type(died) is WorkerDied and died.exitcode == -signal.SIGKILL
        late = pool.options(timeout=0.05, grace=60).submit(await_file, f"{folder}/never").exception()
        assert type(late) is TaskTimeout and not late.killed
        killed = pool.options(timeout=0.05, grace=0.05).submit(sit, f"{folder}/never").exception()
        assert type(killed) is TaskTimeout and killed.killed
        assert [pool.submit(pow, 2, i).result() for i in range(10)] == [2**i for i in range(10)]
    assert ProcessPoolExecutor()._max_workers >= 1


def calls(folder: str, method: str, code: str, *refused: str) -> None:
    refuse.refuse(*refused, code=getattr(errno, code))
    use(method, folder)


def memory(folder: str, code: str) -> None:
    refuse.refuse("memfd_create", code=getattr(errno, code))
    try:
        with ProcessPoolExecutor(1) as pool:
            pool.submit(pow, 2, 3)
    except OSError as error:
        assert error.errno == getattr(errno, code)
        text = str(error)
        assert "refuses memfd_create" in text and "seccomp" in text and "sealed" in text, text
    else:
        raise AssertionError("no error")


def orphans(folder: str, method: str) -> None:
    """Ends at once, and leaves a forked child behind, beside workers that are busy."""
    refuse.refuse("pidfd_open")
    first = ProcessPoolExecutor(1, multiprocessing.get_context(method))
    first.submit(pow, 2, 3).result()
    second = ProcessPoolExecutor(1, multiprocessing.get_context(method))
    second.submit(pow, 2, 3).result()
    for pool in (first, second):
        pool.submit(await_file, f"{folder}/never")
    if os.fork() == 0:
        await_file(f"{folder}/stop")
        os._exit(0)
    pids = [process.pid for pool in (first, second) for process in pool._supervisor.processes]
    pids += [
        pool._supervisor._launcher.zygote._core.pid for pool in (first, second) if pool._supervisor._launcher.zygote
    ]
    Path(folder, "part").write_text(" ".join(map(str, pids)))
    Path(folder, "part").rename(Path(folder, "pids"))
    os.kill(os.getpid(), signal.SIGKILL)


def no_proc(folder: str, method: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, new_user, private, recursive = 0x20000, 0x10000000, 0x40000, 0x4000
    if (
        libc.unshare(new_namespace | new_user)
        or libc.mount(b"none", b"/", None, private | recursive, None)
        or libc.mount(b"none", b"/proc", b"tmpfs", 0, None)
    ):
        sys.exit(CANNOT)
    assert not os.listdir("/proc")
    use(method, folder)


def default_encodings(folder: str, method: str) -> None:
    use(method, folder)


def drop() -> None:
    """Becomes a user that has no other process."""
    user = 60000 + os.getpid() % 5000
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)


def other_user(folder: str, what: str) -> None:
    """Root starts a pool, and becomes another user."""
    warnings: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: warnings.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("concurrent.futures").addHandler(handler)
    os.chmod(folder, 0o777)
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"))
    assert pool.submit(os.getuid).result() == 0
    drop()
    gate = f"{folder}/gate"
    assert type(pool.submit(die).exception()) is WorkerDied
    pid = pool.submit(os.getpid).result()
    Path(folder, "pid").write_text(str(pid))
    if what == "deadline":
        late = pool.options(timeout=0.05, grace=0.05).submit(await_file, gate)
        wait_until(lambda: warnings)
        assert "cannot be signalled" in warnings[0] and "another user" in warnings[0]
        Path(gate).touch()
        error = late.exception()
        assert type(error) is TaskTimeout and not error.killed
        assert pool.submit(abs, -3).result() == 3
        pool.shutdown()
    elif what == "kill":
        future = pool.submit(await_file, gate)
        wait_until(future.running)
        try:
            pool.kill_workers()
        except PermissionError as error:
            assert "another user" in str(error)
        else:
            raise AssertionError("no error")
        Path(gate).touch()
        assert future.result() is None
        pool.shutdown()
    elif what == "end":
        future = pool.submit(await_file, f"{folder}/never")
        wait_until(future.running)
        pool.shutdown(timeout=0.05)
        assert future.cancelled()
    elif what == "exit":
        global left
        left = pool
        pool.submit(await_file, gate)
        Path(gate).touch()


def limit(folder: str, method: str, which: str, value: str) -> None:
    if which == "RLIMIT_NPROC" and os.getuid() == 0:  # which it does not hold for
        drop()
    resource.setrlimit(getattr(resource, which), (int(value), int(value)))
    try:
        with ProcessPoolExecutor(2, multiprocessing.get_context(method)) as pool:
            pool.submit(pow, 2, 3).result()
    except (OSError, BrokenProcessPool) as error:
        assert which in str(error), error
    else:
        raise AssertionError("no error")


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
    print("passed")
