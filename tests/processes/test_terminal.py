"""Workers are in the process group and the session of the program: what the terminal does to them, what ends with the
program, what is killed with a task, and what stays."""

from __future__ import annotations

import contextlib
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import tasks_terminal as tasks
from files import await_file
from levels import METHODS
from programs import environment
from waiting import make_overdue, wait_until

from ringpool import TaskTimeout, WorkerDied
from ringpool.supervisor import TURN_S

WAIT_S = 60.0

ENVIRONMENT = environment()

each_method = pytest.mark.parametrize("method", METHODS)

# As a shell does it: leads the session of a terminal, and starts the program in a process group of its own. If the
# group of a program were an orphan, no Ctrl-Z would stop it.
SHELL = """
import fcntl, os, signal, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
pid = os.fork()
if pid == 0:
    os.setpgid(0, 0)
    if sys.argv[1] == "foreground":
        signal.signal(signal.SIGTTOU, signal.SIG_IGN)
        os.tcsetpgrp(0, os.getpid())
    for each in signal.SIGTTOU, signal.SIGINT, signal.SIGQUIT:
        signal.signal(each, signal.SIG_DFL)
    os.execv(sys.executable, [sys.executable, *sys.argv[2:]])
signal.signal(signal.SIGINT, signal.SIG_IGN)
_, status = os.waitpid(pid, 0)
print("exit", os.waitstatus_to_exitcode(status), flush=True)
"""


def state_of(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


def is_there(pid):
    return state_of(pid) not in "ZX"


def is_stopped(pid):
    return state_of(pid) == "T"


def children_of(pid):
    with contextlib.suppress(OSError):
        lists = [(task / "children").read_text() for task in Path(f"/proc/{pid}/task").iterdir()]
        return [int(child) for each in lists for child in each.split()]
    return []


def await_end_of(*pids):
    for pid in pids:
        wait_until(lambda pid=pid: not is_there(pid), f"the end of {pid}")


def pids_in(path):
    await_file(path)
    return [int(pid) for pid in path.read_text().split()]


class Terminal:
    """A program of tasks_terminal.py in a terminal, as its foreground job or in the background."""

    def __init__(self, *arguments, how="foreground", **environment):
        self.keys, self._line = pty.openpty()
        self._shell = subprocess.Popen(
            [sys.executable, "-c", SHELL, how, tasks.__file__, *map(str, arguments)],
            stdin=self._line,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env=ENVIRONMENT | environment,
        )
        os.close(self._line)
        self.program, *self.workers = (int(pid) for pid in self._shell.stdout.readline().split())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.program, signal.SIGKILL)
        self._shell.kill()
        self._shell.wait()
        for pipe in self._shell.stdout, self._shell.stderr:
            pipe.close()

    def close(self):
        if self.keys >= 0:
            os.close(self.keys)
        self.keys = -1

    def press(self, keys):
        os.write(self.keys, keys)

    def end(self):
        """What the program and its workers have printed, to the last of them that could print."""
        return self._shell.communicate(timeout=WAIT_S)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "running"


@pytest.fixture
def doomed():
    """Pids of what is killed after the test."""
    pids = []
    yield pids
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


# ---- where workers are ----


@each_method
def test_workers_are_in_the_group_and_the_session_of_the_program(method):
    here = os.getpgrp(), os.getsid(0)
    with tasks.pool("ringpool", method) as executor:
        assert executor.submit(tasks.where_it_is).result(WAIT_S) == here
        for nested in METHODS:
            assert executor.submit(tasks.where_a_nested_worker_is, nested).result(WAIT_S) == here


@each_method
def test_a_task_can_use_the_terminal(method):
    with Terminal("ringpool", method, "use_the_terminal") as terminal:
        seen = b""
        while b"ask" not in seen:
            seen += os.read(terminal.keys, 1000)
        terminal.press(b"hello\n")
        out, err = terminal.end()
    assert (out, err) == ("'hello\\n'\nexit 0\n", "")


@pytest.mark.parametrize("kind", ["ringpool", "stdlib"])
def test_a_background_job_whose_task_reads_the_terminal_is_stopped(kind, path):
    with Terminal(kind, "fork", "read_the_terminal", path, f"{path}.gate", how="background") as terminal:
        await_file(path)
        assert not is_stopped(terminal.program)
        Path(f"{path}.gate").touch()
        wait_until(lambda: is_stopped(terminal.program), "the program is stopped")


@each_method
@pytest.mark.parametrize("task", ["lead_session", "lead_group"])
def test_a_task_can_lead_a_session_or_a_group_of_its_own(task, method):
    with tasks.pool("ringpool", method) as executor:
        pid = executor.submit(os.getpid).result(WAIT_S)
        assert executor.submit(getattr(tasks, task)).result(WAIT_S) == pid
        assert executor.submit(os.getpid).result(WAIT_S) == pid


@each_method
@pytest.mark.parametrize("initializer", ["lead_session", "lead_group"])
def test_an_initializer_can_lead_a_session_or_a_group_of_its_own(initializer, method):
    with tasks.pool("ringpool", method, initializer=getattr(tasks, initializer)) as executor:
        pid = executor.submit(os.getpid).result(WAIT_S)
        assert executor.submit(os.getpgid, 0).result(WAIT_S) == pid


def ignores_sigint(mask):
    return bool(mask >> (signal.SIGINT - 1) & 1)


@each_method
@pytest.mark.parametrize("ignored", [True, False])
def test_programs_that_tasks_start_ignore_sigint_if_the_program_does(ignored, method, path):
    """As the background job of a script does, which gets the Ctrl-C that is meant for others."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN if ignored else signal.default_int_handler)
    try:
        with tasks.pool("stdlib", "spawn") as executor:
            assert ignores_sigint(executor.submit(tasks.signals_ignored_by_a_child).result(WAIT_S)) == ignored
        with tasks.pool("ringpool", method) as executor:
            assert ignores_sigint(executor.submit(tasks.signals_ignored_by_a_child).result(WAIT_S)) == ignored
            pid = executor.submit(os.getpid).result(WAIT_S)
            future = executor.options(timeout=60, grace=WAIT_S).submit(
                tasks.touch_and_await, str(path), f"{path}.never"
            )
            await_file(path)
            make_overdue(executor)
            error = future.exception(WAIT_S)
            assert type(error) is TaskTimeout
            assert not error.killed
            assert executor.submit(os.getpid).result(WAIT_S) == pid
    finally:
        signal.signal(signal.SIGINT, before)


# ---- what ends with the program ----

# How a program ends; what of it is the kernel's doing, and so the same with the stdlib.
ENDINGS = {
    "timeout": lambda terminal: os.killpg(terminal.program, signal.SIGTERM),
    "closed terminal": lambda terminal: terminal.close(),
    "Ctrl-C": lambda terminal: terminal.press(b"\x03"),
    "Ctrl-\\": lambda terminal: terminal.press(b"\x1c"),
    "SIGKILL of the group": lambda terminal: os.killpg(terminal.program, signal.SIGKILL),
    "SIGKILL": lambda terminal: os.kill(terminal.program, signal.SIGKILL),
    "SIGTERM": lambda terminal: os.kill(terminal.program, signal.SIGTERM),
}


@each_method
@pytest.mark.parametrize("ending", ENDINGS)
def test_what_tasks_have_started_ends_with_the_program(ending, method, path):
    with Terminal("ringpool", method, "start_family_and_wait", path) as terminal:
        family = pids_in(path)
        helpers = children_of(terminal.program)
        ENDINGS[ending](terminal)
        await_end_of(terminal.program, *terminal.workers, *family, *helpers)
        if ending != "closed terminal":  # of the shell too
            out, err = terminal.end()
            assert "exit" in out
            assert err.count("Traceback") == (ending == "Ctrl-C"), err


@pytest.mark.parametrize("ending", ["timeout", "closed terminal", "Ctrl-\\", "SIGKILL of the group"])
def test_the_same_ends_with_the_stdlib(ending, path):
    with Terminal("stdlib", "fork", "start_family_and_wait", path) as terminal:
        family = pids_in(path)
        ENDINGS[ending](terminal)
        await_end_of(terminal.program, *terminal.workers, *family)


@each_method
def test_a_program_that_handles_sigterm_of_its_group_ends_as_it_says(method, path):
    with Terminal("ringpool", method, "start_family_and_wait", path, HANDLES_SIGTERM="1") as terminal:
        family = pids_in(path)
        os.killpg(terminal.program, signal.SIGTERM)
        await_end_of(terminal.program, *terminal.workers, *family)
        out, err = terminal.end()
    assert (out, err) == ("exit 3\n", "")


@each_method
def test_what_goes_on_is_killed_when_the_program_is(method, path):
    """The worker's task ignores all that it can, and so does what is stopped."""
    with Terminal("ringpool", method, "start_family", path) as terminal:
        family = pids_in(path)
        os.kill(family[0], signal.SIGSTOP)
        wait_until(lambda: is_stopped(family[0]), "the child is stopped")
        os.kill(terminal.program, signal.SIGKILL)
        await_end_of(*terminal.workers, *family)


@each_method
def test_what_has_left_survives_the_program(method, path, doomed):
    with Terminal("ringpool", method, "start_daemon_and_family", path) as terminal:
        doomed += pids_in(path.with_suffix(".left"))
        family = pids_in(path)
        os.kill(terminal.program, signal.SIGKILL)
        await_end_of(*terminal.workers, *family)
        assert all(is_there(pid) for pid in doomed)


def test_the_resource_tracker_of_what_a_task_has_started_removes_what_that_leaves(path):
    # Without a terminal, whose end would end the tracker.
    command = [sys.executable, tasks.__file__, "ringpool", "fork", "start_maker_of_shared_memory", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT) as program:
        try:
            _, worker = (int(pid) for pid in program.stdout.readline().split())
            await_file(path)
            maker, tracker, name = path.read_text().split()
            assert int(tracker) in children_of(int(maker)) and int(maker) in children_of(worker)
            assert Path("/dev/shm", name).exists()
        finally:
            program.kill()
        await_end_of(worker, int(maker), int(tracker))
        assert not Path("/dev/shm", name).exists()
        assert b"leaked shared_memory objects" in program.stderr.read()


# ---- what is killed with a task ----


@pytest.mark.parametrize("end", ["timeout", "cancel", "kill_workers", "terminate_workers"])
@pytest.mark.parametrize(
    ("method", "lead"), [*((method, "") for method in METHODS), ("fork", "setsid"), ("fork", "setpgid")]
)
def test_a_task_is_killed_with_its_child_and_its_grandchild(end, lead, method, path):
    with tasks.pool("ringpool", method) as executor:
        view = executor.options(timeout=60 if end == "timeout" else None, grace=0.1)
        future = view.submit(tasks.start_family, str(path), lead)
        family = pids_in(path)
        if end == "cancel":
            future.cancel(running=True)
        elif end == "timeout":
            make_overdue(executor)
        else:
            getattr(executor, end)()
        error = future.exception(WAIT_S) if end != "cancel" else None
        wait_until(future.done, "the end of the task")
        await_end_of(*family)
    assert future.cancelled() if end == "cancel" else type(error) is (TaskTimeout if end == "timeout" else WorkerDied)


@each_method
def test_what_has_left_survives_its_task(method, path, doomed):
    with tasks.pool("ringpool", method) as executor:
        future = executor.options(grace=0.1).submit(tasks.start_daemon_and_family, str(path))
        doomed += pids_in(path.with_suffix(".left"))
        family = pids_in(path)
        future.cancel(running=True)
        await_end_of(*family)
        wait_until(future.done, "the end of the task")
        assert all(is_there(pid) for pid in doomed)
        assert executor.submit(pow, 2, 3).result(WAIT_S) == 8


@pytest.mark.parametrize("end", ["kill_workers", "terminate_workers"])
def test_a_stopped_worker_is_ended(end, path):
    with tasks.pool("ringpool", "fork") as executor:
        future = executor.submit(tasks.start_family, str(path))
        family = pids_in(path)
        worker = executor._supervisor.processes[0].pid
        os.kill(worker, signal.SIGSTOP)
        wait_until(lambda: is_stopped(worker), "the worker is stopped")
        getattr(executor, end)()
        assert type(future.exception(WAIT_S)) is WorkerDied
        await_end_of(*family)


# ---- Ctrl-Z ----


@each_method
def test_after_ctrl_z_and_fg_the_program_goes_on_where_it_was(method, path):
    with Terminal("ringpool", method, "touch_and_await", path, f"{path}.gate", LIMIT="6") as terminal:
        await_file(path)
        terminal.press(b"\x1a")
        for pid in terminal.program, *terminal.workers:
            wait_until(lambda pid=pid: is_stopped(pid), f"{pid} is stopped")
        time.sleep(7)  # longer than the task's limit
        os.killpg(terminal.program, signal.SIGCONT)
        wait_until(lambda: not is_stopped(terminal.program), "the program goes on")
        time.sleep(2 * TURN_S)  # the supervisor looks whether the task is overdue
        Path(f"{path}.gate").touch()
        out, err = terminal.end()
    assert (out, err) == ("'done'\nexit 0\n", "")
