"""No warning of ours where warnings are errors, in Python's development mode: `python -W error -X dev`.

A warning that nothing can raise any more, such as that of a file that is collected open, is in the standard error.
"""

from __future__ import annotations

import re
import subprocess
import sys

import optional
import pytest
from levels import METHODS
from limits import LIMIT
from programs import ROOT, environment

pytestmark = [pytest.mark.ci, pytest.mark.matrix]

SAMPLES = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.MULTILINE | re.DOTALL)
WITH_METHOD = """
import multiprocessing

if __name__ == "__main__":
    multiprocessing.set_start_method({!r})
"""
# numpy would start threads when it is imported, and from 3.12 on a fork beside threads warns, in the stdlib too.
ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def run(text, method, folder):
    """The standard output and the standard error of a program."""
    program = folder / "program.py"
    program.write_text(WITH_METHOD.format(method) + text)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-X", "dev", str(program)],
        env=environment(**ONE_THREAD),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        stdin=subprocess.DEVNULL,
        cwd=folder,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout, done.stderr


@pytest.mark.parametrize("sample", SAMPLES, ids=range(1, len(SAMPLES) + 1))
@pytest.mark.parametrize("method", METHODS)
def test_the_samples_of_the_readme_give_no_warning(method, sample, tmp_path):
    for module in "numpy", "tqdm":
        if re.search(rf"\bimport {module}\b", sample) or (module == "tqdm" and "progress=True" in sample):
            optional.need(module)
    _, errors = run(sample, method, tmp_path)  # errors: also what a sample says there itself
    assert "Warning" not in errors and "Exception ignored" not in errors, errors


STRESS = """
import asyncio
import gc
import os
import signal
import sys
import threading
import time
import warnings

from waiting import wait_until

import ringpool
from ringpool import ProcessPoolExecutor


def square(x):
    return x * x


def warn(x):
    warnings.warn("of the task's own")


def strict():
    return sys.flags.dev_mode, "error" in sys.warnoptions


async def ask(pool):
    loop = asyncio.get_running_loop()
    loop.slow_callback_duration = 1000  # development mode would report what takes a tenth of a second
    waited = [loop.run_in_executor(pool, square, i) for i in range(50)]
    waited += [asyncio.wrap_future(pool.submit(square, i)) for i in range(50, 100)]
    return await asyncio.gather(*waited)


def use(pool):
    squares = [i * i for i in range(500)]
    assert pool.submit(strict).result(30) == (True, True)
    assert type(pool.submit(warn, 1).exception(30)) is UserWarning
    assert list(pool.map(square, range(500), timeout=30)) == squares
    assert list(pool.map(square, range(500), timeout=30, chunksize=7)) == squares
    assert sorted(pool.map(square, range(500), timeout=30, ordered=False)) == squares
    assert [future.result(30) for future in pool.submit_many(square, [(i,) for i in range(500)])] == squares
    assert asyncio.run(ask(pool)) == squares[:100]
    endless = pool.map(square, iter(int, 1), buffersize="auto")
    assert next(endless) == 0
    endless.close()
    shared = pool.share(b"x" * 1_000_000)
    assert pool.submit(len, shared).result(30) == 1_000_000
    for size in 10, 10_000, 3_000_000:
        assert pool.submit(lambda block: memoryview(block)[1:], b"y" * size).result(30) == b"y" * (size - 1)
    failed = pool.submit(square, "no number")
    assert type(failed.exception(30)) is TypeError
    told = threading.Event()
    pool.submit(square, 2).add_done_callback(lambda future: told.set())
    assert told.wait(30)


def lose_workers(pool):
    assert type(pool.submit(os._exit, 3).exception(30)) is ringpool.WorkerDied
    assert type(pool.submit(signal.raise_signal, signal.SIGKILL).exception(30)) is ringpool.WorkerDied
    assert type(pool.options(timeout=0.05, grace=0.1).submit(time.sleep, 100).exception(30)) is ringpool.TaskTimeout
    running = pool.submit(time.sleep, 100)
    wait_until(running.running, "the task that is to be cancelled")
    waiting = [pool.submit(square, i) for i in range(100)]
    assert running.cancel(running=True)
    for future in waiting[50:]:
        future.cancel()
    assert [future.result(30) for future in waiting[:50]] == [i * i for i in range(50)]


def await_the_end_of_threads():
    # A fork beside those of another pool warns, from 3.12 on, in the stdlib too.
    wait_until(lambda: len(os.listdir("/proc/self/task")) == 1, "the end of threads")


def main():
    with ProcessPoolExecutor(2) as pool:
        threads = [threading.Thread(target=use, args=(pool,)) for _ in range(2)]
        use(pool)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        lose_workers(pool)
        use(pool)
    await_the_end_of_threads()
    with ProcessPoolExecutor(2, initializer=square, initargs=(2,), max_tasks_per_child=5) as pool:
        assert list(pool.map(square, range(30), timeout=30, chunksize=1)) == [i * i for i in range(30)]
    await_the_end_of_threads()
    pool = ProcessPoolExecutor(1)
    future = pool.submit(square, 3)
    del pool
    gc.collect()
    assert future.result(30) == 9
    await_the_end_of_threads()
    pool = ProcessPoolExecutor(1)
    pool.submit(time.sleep, 100)
    pool.kill_workers()
    pool.shutdown()
    await_the_end_of_threads()


if __name__ == "__main__":
    main()
    left_open = ProcessPoolExecutor(1)
    left_open.submit(print, "done", flush=True)
"""


@pytest.mark.parametrize("method", METHODS)
def test_a_program_that_uses_all_there_is_gives_no_warning(method, tmp_path):
    assert run(STRESS, method, tmp_path) == ("done\n", "")
