"""A program whose threads are greenlets, for test_greenlets.py. Also what its workers import.

Each scenario waits for what only another greenlet can bring about: a wait that gives way to no other would never end.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from files import await_file

FIRST = sys.argv[2:3] == ["first"]  # is ringpool imported, and its pool used, before the library is there?

if __name__ == "__main__" and FIRST:
    import concurrent.futures
    import threading

    import ringpool

if __name__ == "__main__":
    if sys.argv[1] == "gevent":
        import gevent.monkey

        gevent.monkey.patch_all()
        start: Any = gevent.spawn
    else:
        import eventlet

        eventlet.monkey_patch()
        start = eventlet.spawn

if not (__name__ == "__main__" and FIRST):
    import concurrent.futures
    import threading

    import ringpool


def square(x: int) -> int:
    return x * x


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def use_greenlets(x: int) -> int:
    """The library works in the worker."""
    seen: list[int] = []
    threads = [threading.Thread(target=lambda: (time.sleep(0.001), seen.append(x))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(seen)


def note(path: str) -> None:
    time.sleep(0.01)
    with open(path, "a") as notes:
        notes.write("x")


def real_threads() -> int:
    return len(os.listdir("/proc/self/task"))


class Gates:
    """Files that a task waits for, which a greenlet makes when others have given way to it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.n = 0

    def new(self) -> str:
        self.n += 1
        path = f"{self.folder}/gate.{self.n}"
        start(self.open_later, path)
        return path

    def open_later(self, path: str) -> None:
        for _ in range(3):
            time.sleep(0.01)
        open(path, "w").close()


def check_waits(pool: Any, gates: Gates) -> None:
    assert pool.submit(square, 3).result() == 9
    gate = gates.new()
    assert pool.submit(await_file, gate).result() is None
    assert pool.submit(await_file, gates.new()).exception() is None
    assert list(pool.map(await_file, [gates.new(), gates.new()], chunksize=1))
    assert len(list(pool.map(await_file, [gates.new() for _ in range(10)], ordered=False))) == 10
    assert [f.result() for f in pool.submit_many(square, [(i,) for i in range(100)])] == [i * i for i in range(100)]
    futures = [pool.submit(await_file, gates.new()) for _ in range(3)]
    assert len(concurrent.futures.wait(futures).done) == 3
    futures = [pool.submit(await_file, gates.new()) for _ in range(3)]
    assert set(concurrent.futures.as_completed(futures)) == set(futures)
    assert list(pool.map(use_greenlets, range(5))) == [0, 3, 6, 9, 12]


def check_time_limits(pool: Any, gates: Gates) -> None:
    gate = f"{gates.folder}/late"
    future = pool.submit(await_file, gate)
    try:
        future.result(0.05)
    except TimeoutError:
        pass
    else:
        raise AssertionError("no TimeoutError")
    open(gate, "w").close()
    assert future.result() is None


def check_many_greenlets(pool: Any) -> None:
    results: list[int] = []
    threads = [threading.Thread(target=lambda i=i: results.append(pool.submit(square, i).result())) for i in range(300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [i * i for i in range(300)]


def check_callbacks(pool: Any, gates: Gates) -> None:
    """They may use the library, which is of the thread that they were made in."""
    ran_in: list[int] = []
    called = threading.Event()

    def note_thread(_: Any) -> None:
        time.sleep(0.001)
        ran_in.append(ringpool._core.thread_id())
        called.set()

    pool.submit(await_file, gates.new()).add_done_callback(note_thread)
    called.wait()
    assert ran_in == [ringpool._core.thread_id()]


def check_deaths(pool: Any) -> None:
    for _ in range(2):
        assert type(pool.submit(die).exception()) is ringpool.WorkerDied
    gate = "/nonexistent/gate"
    assert type(pool.options(timeout=0.05, grace=0).submit(await_file, gate).exception()) is ringpool.TaskTimeout
    assert pool.submit(square, 5).result() == 25


def check_forks(pool: Any, method: str) -> None:
    """Greenlets go on in a forked child, and with them those of the parent's pool."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            signal.alarm(50)
            time.sleep(0.01)
            try:
                pool.submit(square, 1)
            except RuntimeError:
                with ringpool.ProcessPoolExecutor(1, multiprocessing.get_context(method)) as own:
                    code = own.submit(square, 4).result() - 16
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0
    assert pool.submit(square, 5).result() == 25


def main(library: str, order: str, method: str, folder: str) -> None:
    global multiprocessing, left
    import multiprocessing

    gates = Gates(folder)
    start(square, 1)
    context = multiprocessing.get_context(method)
    before = real_threads()
    with ringpool.ProcessPoolExecutor(2, context) as pool:
        check_waits(pool, gates)
        check_time_limits(pool, gates)
        check_many_greenlets(pool)
        check_callbacks(pool, gates)
        check_deaths(pool)
        if library == "gevent":  # a forked child shares the parent's hub with eventlet
            check_forks(pool, method)
        assert pool._client.waiters.green
        last = pool.submit(await_file, gates.new())
    assert last.done()
    assert real_threads() == before
    left = ringpool.ProcessPoolExecutor(1, context)
    for _ in range(5):
        left.submit(note, f"{folder}/notes")
    print("passed")


if __name__ == "__main__":
    main(*sys.argv[1:])
