"""A SIGINT that comes to workers, as a Ctrl-C sends it, never hurts them nor makes them print."""

from __future__ import annotations

import subprocess
import sys

import pytest
from limits import LIMIT as WAIT_S
from programs import environment

# Its main module takes long to import in a worker; meanwhile, and later, the workers get SIGINT all the time. The child
# of a fork server gets none before its initializer runs: until it has read what it is to be, it is CPython's, which
# lets it die.
SCRIPT = """
import contextlib, multiprocessing, os, signal, sys, threading, time
import ringpool

if __name__ != "__main__":
    time.sleep(0.3)

def note():
    open(sys.argv[2] + f"/{os.getpid()}", "w").close()
    time.sleep(0.3)

def square(i):
    return i * i

if __name__ == "__main__":
    from waiting import wait_until

    method, noted = sys.argv[1:]
    pool = ringpool.ProcessPoolExecutor(2, multiprocessing.get_context(method), initializer=note)
    futures = [pool.submit(square, i) for i in range(1000)]
    done = threading.Event()
    sent = 0
    def interrupt():
        global sent
        while not done.is_set():
            time.sleep(0.001)
            for each in pool._supervisor.processes:
                if method == "forkserver" and not os.path.exists(f"{noted}/{each.pid}"):
                    continue
                with contextlib.suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGINT)
                    sent += 1
    threads = [threading.Thread(target=interrupt)]
    threads[0].start()
    try:
        assert [future.result(20) for future in futures] == [i * i for i in range(1000)]
        time.sleep(0.1)
    finally:
        done.set()
        threads[0].join()
    assert sent
    wait_until(lambda: pool._supervisor._places.starts >= 2, "the second start")
    assert pool._supervisor._places.starts == 2  # none was replaced
    pool.shutdown()
"""


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_workers_ignore_sigint_from_their_first_moment(method, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, path, method, tmp_path],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert (done.returncode, done.stderr) == (0, "")
