"""Builds that all processes of a test run share, with later runs too: kept by a hash of their sources.

They are under .pytest_cache/builds of the checkout. One that has not been used for two weeks is removed.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

import optional
from programs import ROOT

KEPT_S = 14 * 24 * 3600
# What changes the outcome of a compiler and of a build of a package, besides their sources and arguments.
ENVIRONMENT = ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS", "PATH", "RINGPOOL_DEBUG", "RINGPOOL_CRASH_POINTS")
BUILD_S = 280


@cache
def _folder() -> Path:
    folder = ROOT / ".pytest_cache" / "builds"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError:  # a checkout of another user: what is built lasts as long as temporary files do
        return Path(tempfile.mkdtemp(prefix="ringpool-builds-"))
    for path in folder.iterdir():
        with contextlib.suppress(OSError):  # another run removes it
            if time.time() - path.stat().st_mtime > KEPT_S:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
    return folder


def built(name: str, of: Iterable[Path | str], make: Callable[[Path], object]) -> Path:
    """Returns the folder of a build, which is made if there is none of the same sources.

    Args:
        name: What it is, in words that can be in the name of a file.
        of: All that it is made of: files, whose contents count, and words, such as arguments of the compiler.
        make: Makes it in a folder that it is given. If it raises, no build is left.
    """
    digest = hashlib.sha256()
    environment = [f"{each}={os.environ.get(each)}" for each in ENVIRONMENT]
    for each in [*environment, *of]:
        content = each.read_bytes() if isinstance(each, Path) else b""
        digest.update(f"{each}\0{len(content)}\0".encode() + content)
    path = _folder() / f"{name}-{digest.hexdigest()[:24]}"
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            unfinished = Path(f"{path}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(path)
        os.utime(path)
    return path


def package_sources(*skipped: str) -> tuple[Callable[[Path], Path], list[Path | str]]:
    """How a build of the package begins.

    Args:
        skipped: Patterns of names that are left out of the copy, besides what is never shipped.

    Returns:
        A function that copies the checkout into a folder, and what the copy is of, for built(). A copy is needed,
        because building leaves traces where it runs.
    """
    patterns = (".*", "build", "dist", "*.egg-info", "__pycache__", *skipped)
    ignore = shutil.ignore_patterns(*patterns)
    files: list[Path | str] = [sys.version, sys.executable]
    for folder, folders, names in os.walk(ROOT):
        left_out = ignore(folder, [*folders, *names])
        folders[:] = sorted(set(folders) - left_out)
        files += [Path(folder, name) for name in sorted(set(names) - left_out)]

    def copy(to: Path) -> Path:
        shutil.copytree(ROOT, to / "tree", ignore=ignore)
        return to / "tree"

    return copy, files


def package(name: str, **variables: str) -> Path:
    """The folder of a build of ringpool, for the PYTHONPATH of processes that are to import it.

    Args:
        name: As of built().
        variables: Of the environment of the build. Flags of the compiler and the linker come after those that the
            environment has.
    """
    optional.need("build")
    # Nothing that was built here: an ordinary build of this tree must never pick up an object of this one. And nothing
    # that has no part in it, so that the build serves until what it is of is changed.
    copy, files = package_sources("*.so", "tests", "docs", "benchmarks", "CHANGELOG.md", "CONTRIBUTING.md")

    def make(folder: Path) -> None:
        tree = copy(folder)
        command = [sys.executable, "-m", "build", "--wheel", "--outdir", str(folder), str(tree)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        for variable, value in variables.items():
            before = f"{environment.get(variable, '')} " if variable.endswith("FLAGS") else ""
            environment[variable] = before + value
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=BUILD_S)
        assert done.returncode == 0, done.stdout + done.stderr
        shutil.rmtree(tree)
        (wheel,) = folder.glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "package")

    return built(name, [*(f"{each}={value}" for each, value in variables.items()), *files], make) / "package"
