"""Tests of the default level, run with a build of the core that checks itself.

The build is a copy in a folder of its own, which comes first in the path of the processes that the test starts. So the
core in the checkout stays as it is.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import builds
import pytest
from programs import ROOT, environment

# What exercises the parts of the parent, whose check() a debug build runs after each drain.
CHECKED = ("contract/test_map.py", "contract/test_submit_many.py", "faults/test_faults.py", "memory/test_*.py")


def path_first(package: Path, variables: dict[str, str]) -> dict[str, str]:
    """The environment of a program that is to import a build of ringpool."""
    inherited = environment(**variables)
    inherited["PYTHONPATH"] = f"{package}{os.pathsep}{inherited['PYTHONPATH']}"
    # Not what pytest-xdist tells the processes that it starts: a run of pytest that a test starts has others.
    return {name: value for name, value in inherited.items() if not name.startswith("PYTEST_")}


def run(package: Path, tests: list[str], options: list[str], **variables: str) -> None:
    """Runs tests with the ringpool of a build; fails with the end of what pytest says if they do."""
    inherited = path_first(package, variables)
    look = [sys.executable, "-c", "import ringpool._core; print(ringpool._core.__file__)"]
    core = subprocess.run(look, env=inherited, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(core).is_relative_to(package)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *tests]
    done = subprocess.run(
        command, cwd=ROOT, env=inherited, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    output = done.stdout.decode(errors="replace")
    print(output[-20_000:])
    assert done.returncode == 0, f"pytest ended with {done.returncode}: see its output"


def holds(package: Path, symbol: bytes) -> bool:
    """Whether the core of a build refers to a symbol."""
    (core,) = package.glob("ringpool/_core.*.so")
    return symbol in core.read_bytes()


@pytest.mark.ci
@pytest.mark.deadline(1200)
def test_the_invariants_of_all_parts_hold_in_a_debug_build():
    package = builds.package("debug", RINGPOOL_DEBUG="1")
    assert holds(package, b"__assert_fail")
    files = [path for each in CHECKED for path in ROOT.glob(f"tests/{each}")]
    assert len(files) >= len(CHECKED)
    # By folders and names: of a file that is given by its path, all levels would run.
    names = ["-k", " or ".join(path.name for path in files)]
    run(package, sorted({str(path.parent) for path in files}), ["-n", "2", *names])
