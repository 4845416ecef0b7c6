"""The protocols in C, without Python: each program of tests/native, plain and under the sanitizers.

A program exits with 0 if all is well, with 1 after a failed check; a hang is ended by its watchdog. What it prints says
how far it got, and with which seed.
"""

import os
import platform
import signal
import subprocess

import optional
import pytest
from compiling import BUILDS, CSRC, FLAGS, NATIVE, WARNINGS, binary, compiler, without_aslr

# What a sanitizer finds must fail the test, at once and with a report.
ENVIRONMENT = {
    "ASAN_OPTIONS": "abort_on_error=0:detect_stack_use_after_return=1",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1",
    "LD_BIND_NOW": "1",  # no first call of a function takes step_kill through the dynamic linker
}

PROGRAMS = sorted(path.stem for path in NATIVE.glob("test_*.c"))

# Longer than the watchdogs of the programs, which say more when they bite. They are for what hangs: the slowest program
# takes 6 s on an idle machine, and a minute on one that four others want as well.
TIMEOUT_S = 150

pytestmark = pytest.mark.deadline(TIMEOUT_S + 250)  # with the build, if there is none yet

# To see a failure again, set this to the seed that the failed program printed.
SEED = [os.environ["RINGPOOL_SEED"]] if "RINGPOOL_SEED" in os.environ else []


def prefix(build):
    """What runs a program of a build. What is emulated has one processor: on several, qemu loses the fence between a
    store and a load that an x86 needs."""
    if build == "tsan":
        return without_aslr()
    if build == "aarch64" and platform.machine() != "aarch64":
        optional.need("qemu-aarch64")
        one = str(min(os.sched_getaffinity(0)))
        return ["env", "RINGPOOL_EMULATED=1", "taskset", "-c", one, optional.program("qemu-aarch64")]
    return []


def run(path, *arguments):
    """Runs a program. Returns its exit code, a signal's name if one ended it, and all that it printed."""
    command = [*prefix(path.suffix.removeprefix(".")), str(path), *arguments]
    try:
        done = subprocess.run(
            command,
            env=os.environ | ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as expired:
        return "no end", (expired.stdout or b"").decode(errors="replace")
    output = done.stdout.decode(errors="replace")
    code = done.returncode
    return (signal.Signals(-code).name if code < 0 else code), output


def check_code(code, output, name):
    if code == "SIGALRM":
        code = "a hang, ended by the watchdog"
    assert code == 0, f"{name}: {code}\n{output}"


def check_run(path, *arguments):
    code, output = run(path, *arguments)
    check_code(code, output, f"{path.name} {' '.join(arguments)}")


@pytest.mark.parametrize(
    "build", ["plain", *(pytest.param(each, marks=pytest.mark.ci) for each in BUILDS if each != "plain")]
)
@pytest.mark.parametrize("program", PROGRAMS)
def test_protocol_keeps_its_promises(program, build):
    check_run(binary(program, build), *SEED)


# ThreadSanitizer sees no race between processes, and has nothing to say here.
@pytest.mark.ci
@pytest.mark.parametrize(("build", "seconds"), [("plain", 3), ("asan", 2)])
def test_each_task_ends_once_while_workers_are_killed_at_random(build, seconds):
    check_run(binary("stress_kill", build), str(seconds), *SEED)


@pytest.mark.ci
@pytest.mark.parametrize("stride", [4, pytest.param(1, marks=pytest.mark.slow)])
def test_each_task_ends_once_whatever_the_instruction_after_which_its_worker_dies(stride):
    code, output = run(binary("step_kill", "plain"), str(stride), *SEED)
    if code == 77:
        pytest.skip("no process may be traced here")
    check_code(code, output, "step_kill")


@pytest.mark.ci
def test_thread_sanitizer_is_not_silent_about_a_race():
    code, output = run(binary("bad_race", "tsan"))
    assert "WARNING: ThreadSanitizer: data race" in output
    assert code not in (0, 1)


@pytest.mark.parametrize("mistake", range(6))
def test_the_compiler_refuses_the_wrong_side_of_a_pool(mistake):
    command = [*compiler(), *FLAGS, *WARNINGS, "-fsyntax-only", f"-DMISTAKE={mistake}", f"-I{CSRC}"]
    done = subprocess.run([*command, str(NATIVE / "bad_side.c")], capture_output=True, text=True)
    assert (done.returncode == 0) == (mistake == 0), done.stderr
    assert mistake == 0 or "incompatible" in done.stderr or "_Generic" in done.stderr
