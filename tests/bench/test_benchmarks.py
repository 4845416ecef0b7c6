"""The benchmarks for developers run, and what the README shows is of the run that is kept beside them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from programs import ROOT

README = ROOT / "README.md"


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    # pytest-benchmark measures nothing in a process of pytest-xdist, and takes the program for one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_XDIST")}
    return subprocess.run(
        [sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=280
    )


def test_table_and_picture_of_the_readme_are_those_of_the_run_that_is_kept():
    checked = run("benchmarks/readme.py", "--check")
    assert checked.returncode == 0, checked.stderr


def test_a_readme_that_says_something_else_than_the_run_is_found_and_written_anew(tmp_path):
    for path in ("benchmarks/readme.py", "benchmarks/results.json", "docs/benchmarks.svg", "README.md"):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / path, tmp_path / path)
    readme = tmp_path / "README.md"
    text = readme.read_text()
    row = re.search(r"^\| `submit.*$", text, re.MULTILINE)[0]
    readme.write_text(text.replace(row, row.replace(" us ", " ns ")))
    (tmp_path / "docs/benchmarks.svg").unlink()
    checked = run("benchmarks/readme.py", "--check", cwd=tmp_path)
    assert checked.returncode == 1
    assert "README.md" in checked.stderr and "benchmarks.svg" in checked.stderr
    assert run("benchmarks/readme.py", cwd=tmp_path).returncode == 0
    assert readme.read_text() == text
    assert (tmp_path / "docs/benchmarks.svg").read_text() == (ROOT / "docs/benchmarks.svg").read_text()


@pytest.mark.ci
@pytest.mark.deadline(300)
def test_the_suite_of_pytest_benchmark_runs_and_compares_with_what_it_has_saved(tmp_path):
    suite = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "benchmarks"]
    quick = ["--benchmark-max-time=0.001", "--benchmark-min-rounds=1", f"--benchmark-storage=file://{tmp_path}"]
    quick += ["--start-method=fork"]  # whose workers need not import NumPy for each test anew
    saved = run(*suite, *quick, "-k", "ringpool", "--benchmark-autosave")
    assert saved.returncode == 0, saved.stdout
    compared = run(*suite, *quick, "-k", "ringpool and round_trip", "--benchmark-compare")
    assert compared.returncode == 0, compared.stdout
    assert re.search(r"test_round_trip\[ringpool\] \(NOW\)", compared.stdout)
    assert re.search(r"test_round_trip\[ringpool\] \(0001_", compared.stdout)


@pytest.mark.ci
@pytest.mark.needs("valgrind")
@pytest.mark.deadline(300)
def test_instructions_are_counted_and_compared(tmp_path):
    before, after, case = tmp_path / "before.json", tmp_path / "after.json", "nop()"
    before.write_text(json.dumps({case: {"submit": 100}}))
    files = ["--compare", str(before), "--json", str(after)]
    counted = run("benchmarks/instructions.py", "--case", case, *files)
    assert counted.returncode == 0, counted.stderr
    found = json.loads(after.read_text())[case]
    assert set(found) == {"submit", "worker", "result"}
    assert all(100 < count < 100_000 for count in found.values()), found
    assert f"{found['submit']:,.0f} (+{found['submit'] - 100:.1f}%)" in counted.stdout
    assert counted.stdout.count("%") == 1  # what the other file does not have is not compared


@pytest.mark.parametrize("script", sorted(path.name for path in (ROOT / "benchmarks").glob("[!tc]*.py")))
def test_each_script_says_how_it_is_used(script):
    shown = run(f"benchmarks/{script}", "--help")
    assert shown.returncode == 0 and "usage:" in shown.stdout, shown.stderr


@pytest.mark.ci
@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("idle.py", ["--rounds", "1", "--seconds", "0.1"], r"^ringpool .*% of one core"),
        ("overload.py", ["--rounds", "1", "--trips", "20", "--limit", "1", "--busy", "1"], r"^ratio +rate"),
        ("submitters.py", ["--rounds", "1", "--tasks", "100"], r"^ +2 threads: .* of one's"),
        ("wake_floor.py", ["--rounds", "1", "--trips", "10"], r"^ratio to the floor, apart"),
    ],
)
def test_the_scripts_that_measure_by_parts_of_the_command_run(script, arguments, expected):
    ran = run(f"benchmarks/{script}", *arguments)
    assert ran.returncode == 0, ran.stderr
    assert re.search(expected, ran.stdout, re.MULTILINE), ran.stdout
