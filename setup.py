"""Flags of the one compiled module; everything else stands in pyproject.toml."""

import os
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup

here = Path(__file__).parent
headers = sorted(str(p.relative_to(here)) for p in (here / "csrc").glob("*.h"))
sources = sorted(str(p.relative_to(here)) for p in (here / "csrc").glob("*.c"))
cython = sorted(str(p.relative_to(here)) for p in (here / "src/ringpool").rglob("*.p[xy][dx]"))

# A build for tests, in which a process can be told to die at any RP_STEP: see csrc/step.h.
crash_points = [("RP_CRASH_POINTS", "1")] if os.environ.get("RINGPOOL_CRASH_POINTS") else []

# A build for developers: it compiles in a third of the time, runs slower, and checks the invariants of each part.
debug = bool(os.environ.get("RINGPOOL_DEBUG"))

# Many Pythons are built with -g, and hand it on: what is shipped has the names of functions, which profilers show, and
# no more.
keeps_debug_information = debug or "-g" in os.environ.get("CFLAGS", "").split()

# Free-threaded: threads of one process run in csrc at once.
threads = [("RP_THREADS", "1")] if sysconfig.get_config_var("Py_GIL_DISABLED") else []

# gcc's default stops the inlining of what each task passes as soon as the rest of the core grows.
optimization = ["-O0", "-g", "-UNDEBUG"] if debug else ["-O2", "--param=inline-unit-growth=50"]

core = Extension(
    "ringpool._core",
    sources=["src/ringpool/_core.pyx", *sources],
    depends=[*headers, *cython],
    include_dirs=["csrc"],
    define_macros=[("_GNU_SOURCE", "1"), *crash_points, *threads, *([("RP_DEBUG", "1")] if debug else [])],
    extra_compile_args=["-std=c11", *optimization, "-fvisibility=hidden"],
    extra_link_args=["-pthread", *([] if keeps_debug_information else ["-Wl,--strip-debug"])],
)

# Elsewhere the package installs without its core, and importing it says which platforms are served.
setup(ext_modules=[core] if sys.platform == "linux" else [])
