"""Everything that is read from a worker is checked: see fuzz_driver.py."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import pytest
from programs import SUPPORT
from waiting import wait_until


def fuzz(seed: int, rounds: int, limit: float) -> None:
    """Runs the driver in a session of its own. Whatever its workers write, it neither crashes nor hangs."""
    command = [sys.executable, str(SUPPORT / "fuzz_driver.py"), str(seed), str(rounds)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=SUPPORT
    )
    try:
        output, errors = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        errors += f"\nstill running after {limit} s"
    assert (process.returncode, errors) == (0, ""), f"seed {seed}: {process.returncode}\n{output}\n{errors}"
    report = json.loads(output)
    print(f"seed {seed}: {report}")
    outcomes = report["outcomes"]
    assert outcomes["result"] > 10 * rounds  # the honest go on working
    assert sum(n for name, n in outcomes.items() if name not in ("result", "ValueError", "CancelledError")) > 0
    wait_until(lambda: is_empty(process.pid), "the end of all its processes")


def is_empty(group: int) -> bool:
    """Whether no process is left in it. The last is multiprocessing's tracker, which ends when it sees that all others
    have."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.mark.ci
@pytest.mark.deadline(150)
@pytest.mark.parametrize("seed", range(1, 5))
def test_whatever_a_worker_writes_every_future_is_done_and_the_pool_works(seed):
    fuzz(seed, 10, 120)


@pytest.mark.slow
@pytest.mark.deadline(300)
@pytest.mark.parametrize("seed", range(100, 140))
def test_the_same_many_times(seed):
    fuzz(seed, 40, 280)
