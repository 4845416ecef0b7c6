"""What cython-lint says of the compiled core: unused names, line lengths and so on. Settings are in pyproject.toml."""

from __future__ import annotations

import collections
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = next(parent for parent in Path(__file__).parents if (parent / "pyproject.toml").exists())
LIMIT = 500.0  # s; for what takes ten on an idle machine

# Style is the same on each Python.
pytestmark = [pytest.mark.ci, pytest.mark.deadline(LIMIT + 60)]

# How often each rule is broken. May only shrink; a rule that is not here is broken nowhere.
DEBTS = {"E501": 13, "Loop control variable": 8}

# The linter takes a header for another module. All headers and bodies are one, and its functions are inlined.
FALSE_ALARM = "Inlining will NOT happen across modules"


def lint(scratch: Path, path: Path) -> list[str]:
    """Returns what cython-lint finds, a line each."""
    pytest.importorskip("cython_lint")
    # It starts pycodestyle by name, which need not be on the PATH: the package is this interpreter's, its script may
    # not be.
    script = scratch / "pycodestyle"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pycodestyle "$@"\n')
    script.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", "from cython_lint.cython_lint import main; raise SystemExit(main())", path],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=ROOT,
        env=os.environ | {"PATH": f"{scratch}{os.pathsep}{os.environ.get('PATH', '')}"},
    )
    assert not done.stderr, done.stderr
    return [finding for finding in done.stdout.splitlines() if FALSE_ALARM not in finding]


def rule(finding: str) -> str:
    text = re.sub(r"^[^:]+:\d+:\d+: ", "", finding)
    code = re.match(r"[EW]\d+", text)
    return code[0] if code else " ".join(text.split()[:3])


def test_the_core_breaks_no_rule_of_cython_lint_more_often_than_it_did(tmp_path):
    found = lint(tmp_path, ROOT / "src/ringpool")
    counts = collections.Counter(rule(finding) for finding in found)
    grown = {name for name, count in counts.items() if count > DEBTS.get(name, 0)}
    assert not grown, "\n".join(finding for finding in found if rule(finding) in grown)


def test_the_linter_would_tell_of_an_unused_name(tmp_path):
    """What the test above looks for is found when something is wrong."""
    path = tmp_path / "wrong.pyx"
    path.write_text("import os\n\n\ndef f():\n    x = 1\n    return 2\n")
    assert {rule(finding) for finding in lint(tmp_path, path)} >= {"'os' imported but", "'x' defined but"}
