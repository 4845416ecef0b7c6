"""CPython's own tests of ProcessPoolExecutor, run against ours: the contract, as its authors wrote it down.

The tests come from the running Python (`test.test_concurrent_futures`); cpython_runner.py says how our
class gets into them, which ones are left out and which ones expect something else of us. Each case below
is one start method and one group, in a child process with a deadline.

Many installations leave the `test` package out, or parts of it: then the cases are skipped. Distributions
have a package of their own for it (Debian: libpython3.11-testsuite); a folder on PYTHONPATH that holds a
`test` package of the same Python version does as well.

CPython's tests sleep a lot. By default each group runs with at least one start method, and the groups in
which the start method matters most with two or three; `--run-slow` runs the whole table, and in it the
tests that CPython marks as mostly waiting.
"""

import json
import os
import signal
import subprocess
import sys

import optional
import pytest
from levels import METHODS
from programs import SUPPORT

RUNNER = SUPPORT / "cpython_runner.py"
OURS = "ringpool:ProcessPoolExecutor"
STDLIB = "concurrent.futures:ProcessPoolExecutor"

# group: (the start methods of the default run, the fewest tests that must have passed). The fewest is a
# little below what 3.11 leaves after exclusions and skips: it only catches a run that finds hardly any tests.
GROUPS = {
    "as_completed": (("forkserver",), 5),
    "wait": (("spawn",), 7),
    "executor": (("fork", "spawn"), 10),
    "shutdown": (METHODS, 6),
    "init": (METHODS, 2),
    "deadlock": (("fork", "forkserver"), 12),
}
CASES = [
    pytest.param(
        group,
        start_method,
        id=f"{group}-{start_method}",
        marks=[] if start_method in quick else [pytest.mark.slow],
    )
    for group, (quick, _) in GROUPS.items()
    for start_method in METHODS
]

# The slowest group takes 20 s on an idle machine. Arbitrary above that: room for a loaded one.
DEADLINE_S = 150
# After its deadline a child still has to write its stacks.
GRACE_S = 20


def run_group(group, start_method, spec, report_path, *, walltime):
    """Runs one group in a child process.

    Returns:
        (exit code, output, report): the exit code is None if the child, or a process that it left behind, had
        to be killed; the report is the list of the runner's JSON objects.
    """
    command = [sys.executable, str(RUNNER), group, start_method, spec, str(report_path)]
    child = subprocess.Popen(
        [*command, str(DEADLINE_S), "1" if walltime else "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        # The pipe ends when the last process that inherited it does: so this waits for stray workers as well.
        output, _ = child.communicate(timeout=DEADLINE_S + GRACE_S)
        code = child.returncode
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        output, _ = child.communicate()
        code = None
    report = report_path.read_text().splitlines() if report_path.exists() else []
    return code, output, [json.loads(line) for line in report]


def explain(code, output, report):
    """Returns what went wrong in a run, as lines; none if all is well."""
    lines = []
    ends = {entry["id"]: entry for entry in report if entry["event"] == "end"}
    for entry in report:
        if entry["event"] == "start" and entry["id"] not in ends:
            lines.append(f"did not end: {entry['id']}")
        elif entry["event"] == "end" and entry["outcome"] == "failed":
            lines.append(f"failed: {entry['id']}\n{entry['text']}")
        elif entry["event"] == "summary" and entry["environment_altered"]:
            lines.append("a test left a thread or a child process behind; the output below says which")
    if code is None:
        lines.append(f"killed after {DEADLINE_S + GRACE_S} s: it, or a process it left behind, still ran")
    elif code != 0 and not lines:
        lines.append(f"exit code {code} without a failed test")
    if lines:
        lines.append(f"output:\n{output[-8000:]}")
    return lines


def check_group(group, start_method, spec, report_path, *, walltime):
    code, output, report = run_group(group, start_method, spec, report_path, walltime=walltime)
    missing = [entry["text"] for entry in report if entry["event"] == "missing"]
    if missing:
        optional.lack(optional.CPYTHON_TESTS, missing[0])
    problems = explain(code, output, report)
    assert not problems, "\n".join(problems)
    passed = [entry["id"] for entry in report if entry.get("outcome") == "passed"]
    assert len(passed) >= GROUPS[group][1], f"only these passed: {passed}"


@pytest.mark.ci
@pytest.mark.matrix
@pytest.mark.deadline(DEADLINE_S + GRACE_S + 30)
@pytest.mark.parametrize(("group", "start_method"), CASES)
def test_cpython_tests_of_a_group_pass_with_our_executor(group, start_method, tmp_path, request):
    walltime = bool(request.config.getoption("--run-slow", default=False))
    check_group(group, start_method, OURS, tmp_path / "report", walltime=walltime)


@pytest.mark.slow
@pytest.mark.deadline(DEADLINE_S + GRACE_S + 30)
@pytest.mark.parametrize("group", GROUPS)
def test_cpython_tests_of_a_group_pass_with_the_standard_executor(group, tmp_path):
    # If this fails, the fault is in the harness or in the machine, and not in ringpool.
    check_group(group, "forkserver", STDLIB, tmp_path / "report", walltime=False)
