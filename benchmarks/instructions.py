"""How many instructions do submit, the worker's loop and result take, a task? Counted by `valgrind --tool=callgrind`.

Times on a shared machine tell changes of ten percent at best; instructions are the same from run to run, nearly, so
that a regression of a percent is seen.

    python benchmarks/instructions.py --json before.json
    python benchmarks/instructions.py --compare before.json

The parent's side and the worker's run one after the other in one process, which valgrind can follow: all tasks are
submitted, then the worker's loop runs them, then all results are taken. No thread waits, so this says nothing of waking
and sleeping. Each number is the difference between many tasks and few, divided by that of their numbers, so that what
happens once does not count; both run in one process, and what comes before them is counted apart. Python's garbage
collection is off.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ringpool.future  # it tells the core what a future is
import ringpool.pickling  # noqa: F401 (which the core imports at its first pickle)
from ringpool import _core

SHORT, LONG = 100, 500  # tasks: fewer than a ring holds
SIZES = (1 << 30, 1 << 28, 1 << 28, 1 << 28)  # bytes: of address space, of arguments, of results, of loans
# What a user calls, or a worker does, and the name of its C function.
PARTS = {
    "submit": r"__pyx_pw_8ringpool_5_core_6Client_\d+submit",
    "worker": r"__pyx_pw_8ringpool_5_core_6Worker_\d+run",
    "result": r"__pyx_pw_8ringpool_5_core_10FutureBase_\d+result",
}
# Called once before the tasks of each run; there callgrind writes down what it has counted, and begins anew.
DUMP = "__pyx_pw_8ringpool_5_core_7Segment_*give_turn"


def nop() -> None:
    """Do nothing."""


def echo(*values: Any) -> Any:
    """Send the arguments back."""
    return values


def array_of(n: int) -> Any:
    """Return an array of n numbers."""
    import numpy as np

    return np.arange(n, dtype=np.float64)


CASES: dict[str, tuple[Callable[..., Any], Callable[[], tuple[Any, ...]]]] = {
    "nop()": (nop, tuple),
    "echo(1, 2.0, 'three')": (echo, lambda: (1, 2.0, "three")),
    "echo(bytes of 1 KiB)": (echo, lambda: (bytes(1024),)),
    "echo(dict of 8)": (echo, lambda: ({str(i): i for i in range(8)},)),
    "echo(array of 16 B)": (echo, lambda: (array_of(2),)),
    "echo(array of 1 KiB)": (echo, lambda: (array_of(128),)),
    "echo(a set)": (echo, lambda: ({1, 2, 3},)),
}


def run_tasks(case: str, n: int) -> None:
    """Run n tasks of a case."""
    fn, make_args = CASES[case]
    args = make_args()
    client = _core.Client(1, 1, 2, SIZES)
    client.create()
    worker = _core.Worker(os.dup(client.segment.memfd), 1, 2, SIZES, 0)
    client.segment.give_turn(0, 1)
    futures = [client.submit(fn, args, None) for _ in range(n)]
    client.stop()
    worker.run(1)
    results = [future.result() for future in futures]
    expected = fn(*args)
    assert len(results) == n and repr(results[0]) == repr(results[-1]) == repr(expected), results[-1]


def run_here(case: str) -> None:
    """Run a case with few tasks and with many, and end the process: what callgrind watches."""
    gc.collect()
    gc.disable()
    run_tasks(case, SHORT)
    run_tasks(case, LONG)
    os._exit(0)


def inclusive(file: str) -> dict[str, int]:
    """Return the instructions of each part, with all that it calls, as callgrind has written them to a file.

    Raises:
        RuntimeError: If a part is not found.
    """
    annotate = ["callgrind_annotate", "--inclusive=yes", "--threshold=100", "--show-percs=no", file]
    text = subprocess.run(annotate, capture_output=True, text=True, check=True).stdout
    found = {}
    for part, name in PARTS.items():
        counts = re.findall(rf"^ *([\d,]+) .*:{name} ", text, re.MULTILINE)
        if not counts:
            raise RuntimeError(f"callgrind saw no {part}")
        found[part] = max(int(count.replace(",", "")) for count in counts)
    return found


def measure(case: str) -> dict[str, float]:
    """Return the instructions a task of each part of a case.

    Raises:
        RuntimeError: If valgrind or the run fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out = f"{folder}/callgrind.out"
        command = ["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", f"--dump-before={DUMP}"]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        ran = subprocess.run(
            [*command, sys.executable, __file__, "--run", case], capture_output=True, text=True, env=environment
        )
        if ran.returncode:
            raise RuntimeError(f"valgrind ended with status {ran.returncode}:\n{ran.stderr}")
        # The first file has what came before the first run, the second has that run, the last has the other.
        short, long = inclusive(f"{out}.2"), inclusive(out)
    return {part: (long[part] - short[part]) / (LONG - SHORT) for part in PARTS}


def main(argv: list[str] | None = None) -> int:
    """Measure all cases, or those asked for, and print them; the status is 2 without valgrind."""
    parser = argparse.ArgumentParser(description="Instructions a task, by callgrind.")
    parser.add_argument("--case", action="append", choices=CASES, help="one of the cases (default: all)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the numbers to FILE")
    parser.add_argument("--compare", metavar="FILE", type=Path, help="say how each differs from that in FILE")
    parser.add_argument("--run", metavar="CASE", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.run:
        run_here(options.run)
    if not shutil.which("valgrind"):
        print("this needs valgrind (Debian: apt install valgrind)", file=sys.stderr)
        return 2
    before = json.loads(options.compare.read_text()) if options.compare else {}
    found = {}
    print(f"{'':24}" + "".join(f"{part:>18}" for part in PARTS))
    for case in options.case or CASES:
        found[case] = measure(case)
        cells = []
        for part, count in found[case].items():
            was = before.get(case, {}).get(part)
            cells.append(f"{count:,.0f}" + (f" ({100 * (count / was - 1):+.1f}%)" if was else ""))
        print(f"{case:24}" + "".join(f"{cell:>18}" for cell in cells), flush=True)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
