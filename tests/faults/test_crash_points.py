"""A worker is killed at each numbered point of the protocols and of its loop: see crash_driver.py and csrc/step.h."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import builds
import crash_driver
import pytest
import tasks_crash
from levels import METHODS
from programs import SUPPORT

LIMIT = 100.0  # s; for what takes a few; the driver gives up sooner, and says why

WARNINGS = "-Wall -Wextra -Werror"  # a warning is an error in this build


@pytest.fixture(scope="module")
def package() -> Path:
    """A folder with a build of ringpool that has the points."""
    return builds.package("crash-points", RINGPOOL_CRASH_POINTS="1", CFLAGS=WARNINGS)


def drive(package: Path, *arguments: str) -> list:
    """The lines of JSON that the driver prints."""
    environment = os.environ | {"PYTHONPATH": f"{package}{os.pathsep}{SUPPORT}"}
    command = [sys.executable, str(SUPPORT / "crash_driver.py"), *arguments]
    try:
        done = subprocess.run(
            command,
            cwd=package,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired as expired:
        pytest.fail(f"no end: {arguments}\n{expired.stdout!r}\n{expired.stderr!r}")
    assert done.returncode == 0, f"{arguments}\n{done.stdout}\n{done.stderr}"
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def kill_at_every_point(package: Path, workload: str, method: str, nth: int) -> None:
    deaths = drive(package, workload, "--method", method, "--nth", str(nth))
    wanted = [
        (case.point, case.after)
        for case in crash_driver.WORKLOADS[workload].cases
        if nth == 1 or case.point not in crash_driver.ONCE_A_LIFE
    ]
    assert [(death["point"], death["after"]) for death in deaths] == wanted
    lost = sum(death["died"] for death in deaths)
    print(f"{workload}: {len(deaths)} deaths, {lost} tasks lost, {sum(death['done'] for death in deaths)} done")


@pytest.mark.ci
@pytest.mark.deadline(300)
def test_every_point_is_in_a_workload_that_kills_there(package):
    (points,) = drive(package, "list")
    assert len(points) > 50
    killed = {case.point for workload in crash_driver.WORKLOADS.values() for case in workload.cases}
    assert set(points) == killed | set(crash_driver.PARENT)


@pytest.mark.ci
@pytest.mark.deadline(300)
@pytest.mark.parametrize("workload", crash_driver.WORKLOADS)
def test_a_worker_killed_at_a_point_costs_its_own_task_at_most_and_nothing_is_lost(package, workload):
    kill_at_every_point(package, workload, "fork", 1)


@pytest.mark.ci
@pytest.mark.deadline(300)
@pytest.mark.parametrize("workload", [n for n, w in crash_driver.WORKLOADS.items() if not (w.at_start or w.hold)])
def test_no_wake_up_is_lost_when_a_process_is_slow_between_two_steps(package, workload):
    held = drive(package, workload, "--hold")
    wanted = [case.point for case in crash_driver.held_cases(crash_driver.WORKLOADS[workload])]
    assert [each["point"] for each in held] == wanted


@pytest.mark.slow
@pytest.mark.deadline(300)
@pytest.mark.parametrize("nth", [1, 2, 5, 30])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("workload", crash_driver.WORKLOADS)
def test_the_same_at_later_passings_and_under_every_start_method(package, workload, method, nth):
    if nth > 1 and all(case.point in crash_driver.ONCE_A_LIFE for case in crash_driver.WORKLOADS[workload].cases):
        pytest.skip("a worker passes these points once")
    if nth > 1 and crash_driver.WORKLOADS[workload].at_start:
        pytest.skip("a worker leaves once")
    kill_at_every_point(package, workload, method, nth)


def test_an_ordinary_build_has_no_points():
    assert tasks_crash.steps() is None
    core = Path(tasks_crash._core.__file__).read_bytes()
    assert b"rp_step" not in core
