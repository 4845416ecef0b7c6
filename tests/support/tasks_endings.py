"""What the tests of deadlines, cancelling and retries run in workers."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from files import await_file

from ringpool.worker import signal_for_interrupts


def nothing() -> None:
    pass


def square(i: int) -> int:
    return i * i


def sleep(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def touch_and_sleep(path: str, seconds: float = 60.0) -> float:
    Path(path).touch()
    time.sleep(seconds)
    return seconds


def touch_and_await(running: str, gate: str, finished: str) -> None:
    Path(running).touch()
    await_file(gate)
    Path(finished).touch()


def compute(seconds: float) -> float:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return seconds


def sit_in_c(path: str) -> None:
    """Holds the GIL for good: one call of C code that no signal ends."""
    libc = ctypes.PyDLL(None)  # calls with the GIL held
    blocked = (ctypes.c_ulong * 16)(*[0xFFFFFFFFFFFFFFFF] * 16)
    libc.sigprocmask(0, blocked, None)  # SIG_BLOCK: so that nothing interrupts the sleep
    Path(path).touch()
    libc.sleep(60)


def clean_up(running: str, cleaned: str) -> None:
    try:
        touch_and_sleep(running)
    finally:
        Path(cleaned).touch()


def lose_a_signal(running: str, cleaned: str) -> None:
    """The first signal comes to nothing, as one does that comes just before a system call. Writes down how many came
    before and after the exception."""
    before: list[int] = []
    after: list[int] = []
    handler = signal.signal(signal_for_interrupts(), lambda signum, _: before.append(signum))
    Path(running).touch()
    while not before:
        time.sleep(0.001)
    signal.signal(signal_for_interrupts(), handler)
    try:
        time.sleep(60)
    finally:
        signal.signal(signal_for_interrupts(), lambda signum, _: after.append(signum))
        time.sleep(0.3)
        signal.signal(signal_for_interrupts(), handler)
        Path(cleaned).write_text(f"{len(before)} {len(after)}")


def swallow(path: str) -> str:
    """Goes on whatever is raised once the file is there."""
    end = time.monotonic() + 60
    while True:
        try:
            Path(path).touch()
            while time.monotonic() < end:
                time.sleep(1)
            return "never"
        except Exception:
            continue


def catch(path: str) -> str:
    """Returns something else instead of raising."""
    try:
        touch_and_sleep(path)
    except Exception as error:
        return f"caught {type(error).__name__}"
    return "never"


def raise_another(path: str) -> None:
    try:
        touch_and_sleep(path)
    finally:
        raise LookupError("while cleaning up")


def die_n_times(path: str, n: int, value: object = None, **more: object) -> object:
    """Kills its worker the first n times."""
    with open(path, "a+") as file:
        file.seek(0)
        deaths = len(file.read())
        if deaths < n:
            file.write("x")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
    return value, more


def die_at_first(path: str, gate: str) -> str:
    """Kills its worker, the first time, when it may."""
    if os.path.exists(path):
        return "alive"
    Path(path).touch()
    await_file(gate)
    os.kill(os.getpid(), signal.SIGKILL)
    return "never"


def fail_and_count(path: str) -> None:
    with open(path, "a") as file:
        file.write("x")
    raise LookupError("of the task")


def start_child(running: str, ignores: bool) -> None:
    """Has a child process that would live for a minute, and tells its pid. May ignore the signal that is to end it."""
    if ignores:
        signal.signal(signal_for_interrupts(), signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    Path(running + ".new").write_text(str(child.pid))
    os.rename(running + ".new", running)
    time.sleep(60)


def own_handler(path: str) -> None:
    """Ignores the signal that is to end it."""
    signal.signal(signal_for_interrupts(), signal.SIG_IGN)
    swallow(path)


class SlowToPickle:
    """Takes a minute to pickle, each time."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self):
        touch_and_sleep(self.path)
        return int, (7,)


def slow_to_pickle(path: str) -> SlowToPickle:
    return SlowToPickle(path)


def clean_up_in_a_pool_of_its_own(path: str, cleaned: str) -> None:
    from multiprocessing import get_context

    from ringpool import ProcessPoolExecutor

    with ProcessPoolExecutor(1, get_context("fork")) as executor:
        executor.submit(clean_up, path, cleaned).result()


def fork_and_append(i: int, path: str) -> int:
    if i == 0:
        os.fork()
    with open(path, "a") as file:
        file.write(f"{i} ")
    return i
