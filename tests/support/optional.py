"""Optional parts of the suite: programs, modules and CPython's own tests. A test that needs one that is missing skips.

CI tells pytest what there must be: `--expect spin,chromium,pandas`. A test that would skip for the lack of one of these
fails instead, so that no part of the suite is left out without notice. `here` stands for all that is installed: what
then fails to be imported, say, is an error too.
"""

from __future__ import annotations

import importlib
import importlib.util
import shutil
from types import ModuleType
from typing import NoReturn

PROGRAMS = {
    "aarch64-gcc": ("aarch64-linux-gnu-gcc",),
    "chromium": ("chromium", "chromium-browser"),
    "herd7": ("herd7",),
    "musl-gcc": ("musl-gcc",),
    "objdump": ("objdump",),
    "qemu-aarch64": ("qemu-aarch64", "qemu-aarch64-static"),
    "spin": ("spin",),
    "valgrind": ("valgrind",),
}
# By the name under which they are imported.
MODULES = (
    *("IPython", "PIL", "PyInstaller", "auditwheel", "basedpyright", "build", "eventlet", "gevent", "joblib", "loky"),
    *("mpire", "mypy", "numpy", "pandas", "pebble", "pyarrow", "rich", "tqdm"),
)
CPYTHON_TESTS = "cpython-tests"
PARTS = {*PROGRAMS, *MODULES, CPYTHON_TESTS}

_expected: frozenset[str] = frozenset()


def expect(names: str) -> None:
    """Makes the lack of these parts, separated by commas, an error. `here` is each that is installed.

    Raises:
        ValueError: A name is not that of a part.
    """
    global _expected
    _expected = frozenset(filter(None, names.split(",")))
    if "here" in _expected:
        _expected = _expected - {"here"} | {name for name in PARTS if is_here(name)}
    if unknown := _expected - PARTS:
        raise ValueError(f"no optional parts of the tests: {', '.join(sorted(unknown))}")


def program(name: str) -> str | None:
    """The path of a program; None if it is not installed."""
    return next(filter(None, map(shutil.which, PROGRAMS[name])), None)


def is_here(name: str) -> bool:
    """Whether a part is here. Imports nothing of it."""
    if name in PROGRAMS:
        return program(name) is not None
    if name == CPYTHON_TESTS:
        return _is_installed("test") and _is_installed("test.support") and _is_installed("test.test_concurrent_futures")
    return _is_installed(name)


def _is_installed(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    # Without an origin it is a mere folder, such as that of builds in the checkout.
    return spec is not None and spec.origin is not None


def missing() -> list[str]:
    """The parts that are not here."""
    return sorted((name for name in PARTS if not is_here(name)), key=str.lower)


def lack(name: str, reason: str = "") -> NoReturn:
    """Ends the test, or the module of tests: a part is not here.

    Raises:
        Skipped: Or Failed, if the part was expected.
    """
    import pytest

    assert name in PARTS, name
    text = f"{name} is not installed{f': {reason}' if reason else ''}"
    if name in _expected:
        pytest.fail(f"{text}, and was expected to be (--expect)", pytrace=False)
    pytest.skip(text, allow_module_level=True)


def need(*names: str) -> None:
    """Ends the test, or the module of tests, unless these parts are here."""
    for name in names:
        if not is_here(name):
            lack(name)


def module(name: str) -> ModuleType:
    """Imports a module, such as `PIL.Image`; ends the test, or the module of tests, if it is not here."""
    part = name.partition(".")[0]
    assert part in PARTS, part
    try:
        return importlib.import_module(name)
    except ImportError as error:
        lack(part, str(error))
