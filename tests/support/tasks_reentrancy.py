"""What the workers of test_reentrancy.py run, and its storms, which run in processes of their own:

python -m tasks_reentrancy PLACE ACTION METHOD SECONDS
"""

from __future__ import annotations

import contextlib
import faulthandler
import gc
import itertools
import multiprocessing
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from files import await_file

import ringpool

DEADLINE_S = 45  # of a storm. All waits within it are shorter


def square(x: int) -> int:
    return x * x


def touch_and_wait(entered: str, release: str) -> int:
    Path(entered).touch()
    await_file(release)
    return os.getpid()


def late(seconds: float, value: int) -> int:
    time.sleep(seconds)
    return value


def make(n: int) -> bytes:
    return bytes(n)


def die_after(path: str) -> None:
    await_file(path)
    os._exit(9)


def interrupt() -> Any:
    raise KeyboardInterrupt("of unpickling")


class Interrupts:
    """Pickles; cannot be unpickled."""

    def __reduce__(self) -> Any:
        return interrupt, ()


def make_interrupts() -> Interrupts:
    return Interrupts()


class Calls:
    """Calls a function of this process when it is pickled; arrives as what that returns."""

    def __init__(self, fn: Any) -> None:
        self.fn = fn

    def __reduce__(self) -> Any:
        return echo, (self.fn(),)


def echo(value: Any) -> Any:
    return value


class Squares:
    """A task; calls a function of the process that submitted it when it is dropped."""

    def __init__(self, dropped: Any = None, late: float = 0) -> None:
        self.dropped = dropped
        self.late = late

    def __call__(self, x: int) -> int:
        time.sleep(self.late)
        return x * x

    def __reduce__(self) -> Any:
        return Squares, (None, self.late)

    def __del__(self) -> None:
        if self.dropped is not None:
            self.dropped()


# ---- storms ----


class Storm:
    """Pools that are begun, used and shut down again and again, while at some place an action befalls them."""

    def __init__(self, action: str, method: str) -> None:
        self.action = action
        self.method = method
        self.main = os.getpid()
        self.pool: Any = None
        self.depth = 0
        self.acted = 0
        self.made: list[Any] = []
        self.errors: list[BaseException] = []

    def act(self) -> None:
        if self.pool is None or self.depth or os.getpid() != self.main:
            return
        self.depth += 1
        try:
            self.act_on(self.pool)
            self.acted += 1
        except BaseException as error:
            self.errors.append(error)
        finally:
            self.depth -= 1

    def act_on(self, pool: Any) -> None:
        if self.action == "shutdown":
            pool.shutdown()
            return
        try:
            future = pool.submit(square, 3)
        except RuntimeError as error:
            if "after shutdown" not in str(error):
                raise
            return
        self.made.append(future)
        if self.action == "cancel":
            future.cancel()
        elif self.action == "result":
            with contextlib.suppress(TimeoutError):  # the workers may be about to be started, by this very thread
                assert future.result(0.02) == 9

    def round(self, submit: Any) -> None:
        futures = {}
        self.pool = pool = ringpool.ProcessPoolExecutor(2, multiprocessing.get_context(self.method))
        try:
            for i in range(100):
                futures[i] = submit(pool, i)
                if i % 7 == 0:
                    futures[i].result(DEADLINE_S / 2)
        except RuntimeError as error:
            if "after shutdown" not in str(error):
                raise
        for i, future in futures.items():
            assert future.result(DEADLINE_S / 2) == i * i
        pool.shutdown()
        self.pool = None
        # Those of an action may have come after the end of the loop, but none after the shutdown.
        for future in self.made:
            assert future.done()
            assert future.cancelled() or future.result(0) == 9
        self.made.clear()
        assert not self.errors, self.errors


def plain(pool: Any, i: int) -> Any:
    return pool.submit(square, i)


def in_a_signal_handler(storm: Storm, rounds: Any) -> None:
    signal.signal(signal.SIGALRM, lambda signum, frame: storm.act())
    signal.setitimer(signal.ITIMER_REAL, 0.001, 0.001)
    for _ in rounds:
        storm.round(plain)
    signal.setitimer(signal.ITIMER_REAL, 0)


class Trap:
    """Garbage that acts when it is collected."""

    def __init__(self, storm: Storm) -> None:
        self.me = self
        self.storm = storm

    def __del__(self) -> None:
        self.storm.act()


def in_a_collected_object(storm: Storm, rounds: Any) -> None:
    def submit(pool: Any, i: int) -> Any:
        Trap(storm)
        return pool.submit(square, i)

    for n in rounds:
        gc.set_threshold(n % 40 + 1)
        storm.round(submit)
    gc.set_threshold(700)


def in_what_a_task_called(storm: Storm, rounds: Any) -> None:
    for _ in rounds:
        storm.round(lambda pool, i: pool.submit(Squares(storm.act), i))


class Reduces(int):
    storm: Storm | None = None

    def __reduce__(self) -> Any:
        if Reduces.storm is not None:
            Reduces.storm.act()
        return int, (int(self),)


def in_a_reduce_of_an_argument(storm: Storm, rounds: Any) -> None:
    Reduces.storm = storm
    for _ in rounds:
        storm.round(lambda pool, i: pool.submit(square, Reduces(i)))


class Rebuilt:
    def __init__(self, value: int) -> None:
        self.value = value

    def __reduce__(self) -> Any:
        return rebuild, (self.value,)


def rebuild(value: int) -> int:
    if Reduces.storm is not None:
        Reduces.storm.act()
    return value


def square_to_rebuild(x: int) -> Rebuilt:
    return Rebuilt(x * x)


def in_the_rebuilding_of_a_result(storm: Storm, rounds: Any) -> None:
    Reduces.storm = storm
    for _ in rounds:
        storm.round(lambda pool, i: pool.submit(square_to_rebuild, i))


def in_a_callback(storm: Storm, rounds: Any) -> None:
    def submit(pool: Any, i: int) -> Any:
        future = pool.submit(square, i)
        future.add_done_callback(lambda _: storm.act())
        return future

    for _ in rounds:
        storm.round(submit)


def while_a_thread_shuts_down(storm: Storm, rounds: Any) -> None:
    for n in rounds:
        pool: list[Any] = []
        delay = random.Random(n).random() * 0.02

        def shut_down(pool: list[Any] = pool, delay: float = delay) -> None:
            while not pool:
                time.sleep(0.0005)
            time.sleep(delay)
            pool[0].shutdown()

        def submit(executor: Any, i: int, pool: list[Any] = pool) -> Any:
            if not pool:
                pool.append(executor)
            storm.act()
            return executor.submit(square, i)

        thread = threading.Thread(target=shut_down)
        thread.start()
        storm.round(submit)
        thread.join()


PLACES = {
    "signal handler": in_a_signal_handler,
    "collected object": in_a_collected_object,
    "what a task called": in_what_a_task_called,
    "reduce of an argument": in_a_reduce_of_an_argument,
    "rebuilding of a result": in_the_rebuilding_of_a_result,
    "callback": in_a_callback,
    "other thread shuts down": while_a_thread_shuts_down,
}


def until(deadline: float) -> Any:
    for n in itertools.count():
        if n and time.monotonic() > deadline:
            return
        yield n


def main(place: str, action: str, method: str, seconds: str) -> None:
    faulthandler.dump_traceback_later(DEADLINE_S, exit=True)
    unraisable: list[Any] = []
    sys.unraisablehook = lambda info: unraisable.append(info.exc_value)
    logged: list[Any] = []
    threading.excepthook = lambda info: logged.append(info.exc_value)
    storm = Storm(action, method)
    PLACES[place](storm, until(time.monotonic() + float(seconds)))
    assert storm.acted, "nothing befell the pool"
    assert not unraisable, unraisable
    assert not logged, logged
    print("acted")


if __name__ == "__main__":
    main(*sys.argv[1:])
