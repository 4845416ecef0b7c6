"""One measurement: one contender, one case, one round, in an interpreter of its own.

`take` starts the interpreter and waits for it; `answer` is what runs there. The order and the answer are JSON, the
answer in a file, for a contender may print what it likes. The interpreter leads a session of its own, so that Ctrl-C
reaches only the process that waits for it, which kills it with all processes that it has started.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from .cases import CASES
from .contenders import Cannot, Contender
from .setting import Found, Setting, WrongAnswer

_MARK = "RINGPOOL_BENCH_MEASUREMENT"
_TRACKERS_S = 3.0  # for what takes milliseconds, and longer where large files are removed


@dataclass(frozen=True)
class Outcome:
    """What has become of a measurement.

    Args:
        kind: "found", or why there is nothing: "cannot" (the library has no way), "late" (it took too long), "wrong" (a
            result was), "failed".
        message: A sentence, if nothing was found.
        metrics, distributions, notes: As in `setting.Found`.
    """

    kind: str
    message: str = ""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    distributions: list[dict[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def take(case: str, setting: Setting, limit_s: float) -> Outcome:
    """Measure in a fresh interpreter.

    However this ends, also by an exception of a signal handler, no process of the measurement is left.

    Args:
        case: Its name.
        setting: Which contender to measure, and how large.
        limit_s: Seconds after which it is killed.

    Returns:
        What it has found, or why it has not.
    """
    with tempfile.TemporaryDirectory(prefix="ringpool-bench-") as folder:
        order, answer, words = (Path(folder, name) for name in ("order", "answer", "words"))
        order.write_text(json.dumps({"case": case, "setting": asdict(setting), "limit_s": limit_s}))
        mark = uuid.uuid4().hex
        path = os.pathsep.join(part for part in sys.path if part)
        child = None
        try:
            with words.open("wb") as errors:
                # By -c, so that there is no main module which workers would import anew.
                child = subprocess.Popen(
                    [sys.executable, "-c", f"from {__name__} import answer; answer({str(order)!r}, {str(answer)!r})"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=errors,
                    start_new_session=True,
                    env={**os.environ, "PYTHONPATH": path, _MARK: mark},
                )
            status = child.wait(limit_s)
        except subprocess.TimeoutExpired:
            return Outcome("late", f"TimeoutError: not done after {limit_s:g} s")
        finally:
            # It may have begun though its start was interrupted.
            _kill_all(None if child is None else child.pid, mark)
            if child is not None:
                child.wait()
        if answer.exists():
            return Outcome(**json.loads(answer.read_text()))
        last = words.read_text(errors="replace").strip().rpartition("\n")[2]
        return Outcome("failed", f"the interpreter ended with status {status}: {last:.300}")


def _kill_all(session: int | None, mark: str) -> None:
    """Kill all processes of a session, if it is known, and those which carry its mark in their environment.

    The resource trackers of multiprocessing and of loky end by themselves when all others are gone, and remove what
    those have left in /dev/shm. They are killed only if they do not.
    """
    line = f"{_MARK}={mark}".encode()
    begin = time.monotonic()
    while time.monotonic() < begin + 10:
        found = 0
        patient = time.monotonic() < begin + _TRACKERS_S
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            with contextlib.suppress(OSError):  # one that has just ended, or another user's
                state, parent, _, belongs = (entry / "stat").read_text().rpartition(")")[2].split()[:4]
                if state in "ZX":
                    continue
                environment = (entry / "environ").read_bytes()
                if not environment and int(parent) == os.getpid():
                    found += 1  # it is being started: the kernel shows its environment a moment later
                elif int(belongs) == session or line in environment:
                    found += 1
                    if not (patient and b"resource_tracker" in (entry / "cmdline").read_bytes()):
                        os.kill(int(entry.name), signal.SIGKILL)
        if not found:
            return
        time.sleep(0.002)


def answer(order_file: str, answer_file: str) -> None:
    """Measure here, and write what became of it.

    Args:
        order_file: What `take` has written.
        answer_file: Where an `Outcome` goes, as JSON.
    """
    order = json.loads(Path(order_file).read_text())
    signal.alarm(int(order["limit_s"]) + 10)  # should the process that waits for this be gone
    setting = Setting(**{**order["setting"], "contender": Contender(**order["setting"]["contender"])})
    found = Found()
    try:
        CASES[order["case"]].measure(setting, found)
    except Cannot as cannot:
        outcome = Outcome("cannot", str(cannot))
    except WrongAnswer as wrong:
        outcome = Outcome("wrong", f"WrongAnswer: {wrong}")
    except Exception as error:
        outcome = Outcome("failed", f"{type(error).__name__}: {error}"[:500])
    else:
        outcome = Outcome("found", "", found.metrics, found.distributions, found.notes)
    Path(answer_file + ".new").write_text(json.dumps(asdict(outcome)))
    os.replace(answer_file + ".new", answer_file)
