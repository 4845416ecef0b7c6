"""After every test: no child process, no thread of ours, no descriptor is left.

Also a deadline for each test, after which all stacks are printed and the run ends. Which tests run is decided in
support/levels.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import multiprocessing
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any

import levels
import optional
import pytest
from limits import PATIENCE

from ringpool import _core, budget

DEADLINE_S = 300.0  # what hangs, hangs for ever; a test of eight seconds takes 85 on a machine with a load of 20
_STDERR = pytest.StashKey[int]()
LEFT_S = 5.0  # how long what a test leaves may take to go
DOWN_S = 10.0  # how long a process of pytest-xdist may take to end when its pipe is closed


def pytest_addoption(parser: pytest.Parser) -> None:
    levels.add_options(parser)
    parser.addoption("--expect", default="", metavar="PART,...", help="fail where one of these is missing")


def pytest_configure(config: pytest.Config) -> None:
    _take_signals_as_from_a_terminal()
    if not config.getoption("numprocesses", None) or hasattr(config, "workerinput"):
        # These options are for this run, not for one that a test starts. pytest-xdist's processes read them too.
        os.environ.pop("PYTEST_ADDOPTS", None)
    try:
        optional.expect(config.getoption("--expect"))
    except ValueError as error:
        raise pytest.UsageError(str(error)) from None
    config.addinivalue_line("markers", "needs(part, ...): skips where one of these parts is missing: see optional.py")
    config.addinivalue_line(
        "markers", "xdist_group(name): tests that pytest-xdist gives to one process, in their order"
    )
    for marker in (*levels.MARKERS, f"deadline(seconds): may take so long instead of {DEADLINE_S:.0f} s"):
        config.addinivalue_line("markers", marker)
    # pytest suspends its capture while it configures: this is the standard error of the run, not of a test.
    config.stash[_STDERR] = os.dup(2)
    config.add_cleanup(lambda: os.close(config.stash[_STDERR]))


def pytest_report_header() -> str:
    return f"optional parts that are not here: {', '.join(optional.missing()) or 'none'}"


def _take_signals_as_from_a_terminal() -> None:
    """Undoes what a shell does to a background job, and nohup to its program: signals that are ignored or blocked here
    would be so in each program that a test starts, and a Ctrl-C that is tested would do nothing."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for each in signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD:
        if signal.getsignal(each) == signal.SIG_IGN:
            signal.signal(each, signal.SIG_DFL)
    if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN:
        # The run itself goes on, as nohup promises; programs that it starts have the default.
        signal.signal(signal.SIGHUP, lambda *_: None)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    levels.select(config, items)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        optional.need(*marker.args)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Keeps what exists by now out of all later collections, which then look at what the tests have made."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_testnodedown(node: Any, error: object) -> None:
    """Says how a process of pytest-xdist ended, which itself says only that it is there no more."""
    if not error:
        return
    try:
        status = node.gateway._io.popen.wait(DOWN_S)
    except subprocess.TimeoutExpired:
        how = "has closed its pipe, and goes on"
    else:
        how = f"exited with status {status}" if status >= 0 else f"was killed by {_signal_name(-status)}"
    reporter = node.config.pluginmanager.get_plugin("terminalreporter")
    reporter.ensure_newline()
    reporter.write_line(f"[{node.gateway.id}] the process {how}", red=True)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


@pytest.fixture(scope="session", autouse=True)
def _helpers_of_multiprocessing() -> None:
    """Starts what multiprocessing keeps for itself, so that no test seems to leave it behind. So too the file that
    libffi keeps from its first callback on, which ctypes makes when it is imported, up to 3.13."""
    ctypes.CFUNCTYPE(None)(int)
    forkserver.ensure_running()
    resource_tracker.ensure_running()
    with multiprocessing.get_context("forkserver").Pool(1):
        pass


@pytest.fixture
def arenas_of(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Gives pools n bytes for arguments, each worker n or `share` bytes for its results, and loans `overflow` bytes."""

    def give(n: int, overflow: int = 0, share: int | None = None) -> None:
        sizes = 4 * max(n, overflow), n, n if share is None else share, overflow
        monkeypatch.setattr(budget, "sizes", lambda *_: sizes)

    return give


def _children() -> set[int]:
    helpers = {forkserver._forkserver._forkserver_pid, resource_tracker._resource_tracker._pid}
    found: set[int] = set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that has just ended
            found.update(int(pid) for pid in (task / "children").read_text().split())
    found.update(child.pid for child in multiprocessing.active_children() if child.pid)
    return found - helpers


def _descriptors() -> dict[int, str]:
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        try:
            found[int(entry)] = os.readlink(f"/proc/self/fd/{entry}")
        except OSError:  # that of the listing itself
            continue
    return found


def _state() -> dict[str, set[str]]:
    return {
        "child processes": {str(pid) for pid in _children()},
        "threads": {t.name for t in threading.enumerate() if t.name.startswith("ringpool")},
        "descriptors": {f"{fd} -> {to}" for fd, to in _descriptors().items()},
    }


@pytest.fixture(autouse=True)
def _leaves_nothing_behind(request: pytest.FixtureRequest):
    gc.collect()
    before = _state()
    marker = request.node.get_closest_marker("deadline")
    seconds = marker.args[0] if marker else DEADLINE_S
    faulthandler.dump_traceback_later(seconds * PATIENCE, exit=True, file=request.config.stash[_STDERR])
    yield
    for client in tuple(_core._clients):
        client.check_invariants()
    client = None
    gc.collect()
    deadline = time.monotonic() + LEFT_S
    while True:
        after = _state()
        left = {what: sorted(after[what] - before[what]) for what in after if after[what] - before[what]}
        if not left or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    faulthandler.cancel_dump_traceback_later()
    assert not left, f"the test leaves behind: {left}"
