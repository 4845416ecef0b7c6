"""The C compiler: how the tests compile csrc, and programs of tests/native with it."""

from __future__ import annotations

import functools
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType

import optional
import pytest
from builds import built
from programs import ROOT, SUPPORT

NATIVE = ROOT / "tests" / "native"
CSRC = ROOT / "csrc"

# With what a build of the core that is tested defines besides: see tests/native/test_core_builds.py.
FLAGS = ["-std=c11", "-D_GNU_SOURCE", "-g", "-O1", "-pthread", *os.environ.get("RINGPOOL_TESTS_DEFINE", "").split()]
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wstrict-prototypes", "-Werror"]
LARGE_PAGES = "-DRP_PAGE=65536u"
BUILDS = {
    "plain": [],
    "large_pages": [LARGE_PAGES],
    "asan": ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"],
    # A memcpy that the compiler expands in place is hidden from ThreadSanitizer; one that is called is not.
    "tsan": ["-fsanitize=thread", "-fno-builtin"],
    # Static: nothing of that machine or C library has to be installed for a program to run.
    "aarch64": ["-static"],
    # The kernel's headers come with the compiler's, not with musl.
    "musl": [
        "-static",
        "-idirafter",
        "/usr/include",
        "-idirafter",
        f"/usr/include/{sysconfig.get_config_var('MULTIARCH')}",
    ],
}
# The compilers of builds that are not for this machine and its C library: see optional.py.
CROSS_COMPILERS = {"aarch64": "aarch64-gcc", "musl": "musl-gcc"}


@functools.cache
def compiler(build: str = "plain") -> list[str]:
    """Returns the command that compiles C: the one that built this Python, if it is here, but for another machine or C
    library. Ends the test if a compiler for that is not here."""
    if build in CROSS_COMPILERS:
        optional.need(CROSS_COMPILERS[build])
        return [str(optional.program(CROSS_COMPILERS[build]))]
    for command in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"):
        words = shlex.split(command or "")
        if words and shutil.which(words[0]):
            return words
    pytest.fail("the native tests need a C compiler")


@functools.cache
def without_aslr():
    """Returns a prefix that switches address randomisation off, which ThreadSanitizer's runtime bears badly: it stops
    with "unexpected memory mapping" where the kernel uses many random bits."""
    prefix = ["setarch", platform.machine(), "-R"]
    if shutil.which("setarch") and subprocess.run([*prefix, "true"], capture_output=True).returncode == 0:
        return prefix
    return []


def compile_c(arguments, build):
    command = [*compiler(build), *FLAGS, *WARNINGS, *BUILDS[build], f"-I{CSRC}", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode and BUILDS[build] and ("cannot find -l" in done.stderr or "libclang_rt" in done.stderr):
        pytest.fail(f"the compiler has no runtime for {BUILDS[build][0]}; install it:\n{done.stderr}")
    if done.returncode:
        pytest.fail(f"{shlex.join(command)}\n{done.stderr}", pytrace=False)


@functools.cache
def compiler_version(build: str = "plain") -> str:
    return subprocess.run([*compiler(build), "--version"], capture_output=True, text=True).stdout


def shared_library(name: str, sources: Iterable[str | Path]) -> Path:
    """The path of a shared library of some files: of csrc, or with their paths. They may include any of csrc."""
    files = [CSRC / source for source in sources]
    of = [compiler_version(), *FLAGS, *WARNINGS, *files, *sorted(CSRC.glob("*.[ch]"))]

    def make(folder: Path) -> None:
        compile_c(["-shared", "-fPIC", *files, "-o", folder / f"{name}.so"], "plain")

    return built(name, of, make) / f"{name}.so"


@functools.cache
def binary(program: str, build: str) -> Path:
    """The path of a program of tests/native, with the whole of csrc in the same build."""
    of = [compiler_version(build), *FLAGS, *WARNINGS, *BUILDS[build], *sorted(CSRC.glob("*.[ch]"))]
    sources = sorted(CSRC.glob("*.c"))

    def make_objects(folder: Path) -> None:
        for source in sources:
            compile_c(["-c", source, "-o", folder / f"{source.stem}.o"], build)

    objects = built(f"csrc.{build}", of, make_objects)
    of += [NATIVE / f"{program}.c", *sorted(NATIVE.glob("*.h"))]

    def make_program(folder: Path) -> None:
        arguments = [NATIVE / f"{program}.c", *sorted(objects.glob("*.o")), "-o", folder / f"{program}.{build}"]
        compile_c(arguments, build)

    return built(f"{program}.{build}", of, make_program) / f"{program}.{build}"


def extension(name: str) -> ModuleType:
    """The module of a C file of this folder, which any Python that has its file's folder in sys.path can import too."""
    source = SUPPORT / f"{name}.c"
    include = f"-isystem{sysconfig.get_path('include')}"
    of = [compiler_version(), sys.version, include, *FLAGS, *WARNINGS, source]

    def make(folder: Path) -> None:
        compile_c(["-shared", "-fPIC", include, source, "-o", folder / f"{name}.so"], "plain")

    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, built(name, of, make) / f"{name}.so")
        assert spec is not None and spec.loader is not None
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]
