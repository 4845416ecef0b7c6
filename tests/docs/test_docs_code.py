"""Every block of Python in the README and in docs/ is a program that runs, and prints what its comments say.

A block is a whole program: it imports what it uses, and starts workers under ``if __name__ == "__main__"``. One that is
no program (a signature, a fragment of an explanation) is marked as ``text``.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = next(parent for parent in Path(__file__).parents if (parent / "pyproject.toml").exists())
LIMIT = 60.0  # s; for what should take a second
OPTIONAL = {"numpy", "tqdm"}

PROGRAMS = [
    pytest.param(code, id=f"{page.relative_to(ROOT)}-{number}")
    for page in sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
    for number, code in enumerate(
        re.findall(r"^```(?:python|py)\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL), 1
    )
]


def promised(code: str) -> list[str]:
    """Returns the lines that a program's comments say it prints: ``print(...)  # 42``, or a comment below the print."""
    found = []
    for line, after in zip(code.splitlines(), [*code.splitlines()[1:], ""], strict=True):
        here = re.search(r"\bprint\(.*\)  # (\S.*)$", line)
        below = re.match(r"\s*# (\S.*)$", after) if re.search(r"\bprint\(.*\)$", line) else None
        found += [match[1] for match in (here, below) if match]
    return found


def without_chance(text: str) -> str:
    """Returns a text without what differs from one run to the next."""
    return re.sub(r"pid \d+|\d+ MiB|worker \d+", "...", text)


def run(code: str, folder: Path) -> str:
    program = folder / "program.py"
    program.write_text(code)
    done = subprocess.run(
        [sys.executable, program],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        stdin=subprocess.DEVNULL,
        cwd=folder,
        env={name: value for name, value in os.environ.items() if not name.startswith("PYTHON")},
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.deadline(LIMIT + 30)
@pytest.mark.parametrize("code", PROGRAMS)
def test_every_block_of_python_runs_and_prints_what_it_says(code, tmp_path):
    for module in OPTIONAL:
        if re.search(rf"\bimport {module}\b", code) or (module == "tqdm" and "progress=True" in code):
            pytest.importorskip(module)
    said = without_chance(run(code, tmp_path)).splitlines()
    for line in promised(code):
        assert without_chance(line) in said


def test_the_readme_has_programs_and_they_promise_output():
    programs = [param for param in PROGRAMS if param.id.startswith("README.md")]
    assert len(programs) >= 5
    assert all(promised(param.values[0]) for param in programs)


def test_a_promise_stands_behind_a_print_or_below_it():
    code = 'print(6 * 7)  # 42\nprint("x")\n# x\nprint("y")\n\nx = 1  # one\n# none\n'
    assert promised(code) == ["42", "x"]
