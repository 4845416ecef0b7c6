"""Programs whose threads are greenlets, as after `gevent.monkey.patch_all()`: waits give way to other greenlets.

The scenarios are in tasks_greenlets.py. Each program is one of its own, since what such a library replaces stays so.
"""

from __future__ import annotations

import subprocess
import sys

import pytest
import tasks_greenlets as tasks

WAIT_S = 100.0

METHODS = {"gevent": ["fork", "spawn"], "eventlet": ["fork", "spawn"]}
if sys.version_info < (3, 14):
    # From 3.14 on, multiprocessing reads from a socket that gevent has made one that does not block, and fails.
    # eventlet leaves no fork server on any version.
    METHODS["gevent"].append("forkserver")


def needs(library):
    return pytest.mark.needs(library)


@pytest.mark.parametrize("order", ["first", "last"])  # ringpool is imported
@pytest.mark.parametrize(
    ("library", "method"),
    [pytest.param(lib, method, marks=needs(lib)) for lib, methods in METHODS.items() for method in methods],
)
def test_whatever_waits_for_tasks_gives_way_to_other_greenlets(library, method, order, tmp_path):
    program = [sys.executable, "-W", "ignore", tasks.__file__, library, order, method, str(tmp_path)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=WAIT_S)
    assert (done.returncode, done.stdout) == (0, "passed\n"), done.stderr
    assert (tmp_path / "notes").read_text() == "xxxxx"  # what was pending at the end has been finished


PATCHED_LATE = """
import ringpool
pool = ringpool.ProcessPoolExecutor(1)
assert pool.submit(pow, 2, 3).result() == 8
import gevent.monkey
gevent.monkey.patch_all()
future = pool.submit(pow, 2, 4)
assert future.result() == 16
assert list(pool.map(abs, [-1, -2])) == [1, 2]
pool.shutdown()
"""

NOT_PATCHED = """
import gevent, ringpool
pool = ringpool.ProcessPoolExecutor(1)
assert gevent.spawn(lambda: pool.submit(pow, 2, 4).result()).get() == 16
assert not pool._client.waiters.green
pool.shutdown()
"""


@needs("gevent")
@pytest.mark.parametrize("program", [PATCHED_LATE, NOT_PATCHED], ids=["patched late", "not patched"])
def test_a_pool_with_real_threads_works_beside_greenlets(program):
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=WAIT_S)


DEATHS = """
import os, sys
import eventlet
eventlet.monkey_patch()
import ringpool
with ringpool.ProcessPoolExecutor(1) as pool:
    for _ in range(5):
        assert type(pool.submit(os._exit, 3).exception()) is ringpool.WorkerDied
        eventlet.sleep(0)
"""


@needs("eventlet")
def test_a_death_is_heard_of_though_nothing_else_happens():
    """What eventlet puts in the place of os.read waits, whatever the descriptor says."""
    subprocess.run([sys.executable, "-W", "ignore", "-c", DEATHS], check=True, timeout=WAIT_S)
