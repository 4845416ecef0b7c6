"""Tests of the default level, run with another build of the core: with its own checks, with AddressSanitizer.

The builds are copies in folders of their own, which come first in the path of the processes that these tests start. So
the core in the checkout stays as it is.
"""

from __future__ import annotations

import functools
import os
import re
import subprocess
import sys
from pathlib import Path

import builds
import pytest
from compiling import LARGE_PAGES, compiler, shared_library
from programs import ROOT, SUPPORT, environment

# What exercises the parts of the parent, whose check() a debug build runs after each drain.
CHECKED = ("contract/test_map.py", "contract/test_submit_many.py", "faults/test_faults.py", "memory/test_*.py")

# What does not run with AddressSanitizer: a folder, a file, a test; and why.
_ADDRESS_SPACE = "limits the address space, of which the sanitizer reserves terabytes"
_AFFINITY = "refuses a system call by which the sanitizer finds the stack of a thread"
_OTHER = "runs nothing of this build of the core"
UNSANITIZED = {
    "bench/test_benchmarks.py": "runs programs under valgrind, which bears no sanitizer",
    "bench/test_page.py": "starts a browser, which bears no sanitizer",
    "contract/test_greenlets.py": "greenlets copy stacks, with what the sanitizer has around the variables",
    "docs": _OTHER,
    "faults/test_refusals.py::test_pools_work_where_a_sandbox_refuses_calls_that_there_is_a_way_without[all": _AFFINITY,
    "faults/test_refusals.py::test_pools_work_where_a_sandbox_refuses_calls_that_there_is_a_way_without[s": _AFFINITY,
    "memory/test_memory.py::test_a_collector_that_has_no_memory_for_a_copy_goes_on_serving": _ADDRESS_SPACE,
    "memory/test_memory.py::test_a_pool_works_where_the_address_space_is_limited": _ADDRESS_SPACE,
    "memory/test_memory.py::test_under_any_limit_of_the_address_space_there_is_room_left_for_work": _ADDRESS_SPACE,
    "memory/test_space.py": _ADDRESS_SPACE,
    "model": _OTHER,
    "native": "has builds of its own with the sanitizer",
    "packaging": "builds the core as it is shipped",
    "unit/test_cython_lint.py": _OTHER,
}
ROOTS = sorted({path.parent.name for path in ROOT.glob("tests/*/test_*.py")})

SANITIZER_OPTIONS = {
    "detect_leaks": 0,  # CPython itself leaves much
    "handle_segv": 0,  # and so on: tests have processes die of these, as they would without the sanitizer
    "handle_sigbus": 0,
    "handle_sigfpe": 0,
    "handle_sigill": 0,
    "handle_abort": 0,
    "allocator_may_return_null": 1,  # a MemoryError is what tests expect
    "quarantine_size_mb": 32,  # of 256 each, which is much for hundreds of processes
}


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


@pytest.mark.ci
@pytest.mark.deadline(1200)
def test_memory_is_shared_viewed_and_inherited_where_pages_have_64_kib():
    # As far as a system can show it whose pages are smaller: it would bear with half a page, the assertions do not.
    package = builds.package("pages", RINGPOOL_DEBUG="1", CFLAGS=LARGE_PAGES)
    names = "test_fork.py or test_loans.py or test_memory.py or test_share.py or test_views.py"
    run(
        package,
        ["tests/contract", "tests/memory", "tests/processes"],
        ["-n", "2", "-k", names],
        RINGPOOL_TESTS_DEFINE=LARGE_PAGES,
    )


def test_a_system_with_larger_pages_than_the_core_was_built_for_refuses_its_import():
    preload = shared_library("large_pages", [SUPPORT / "large_pages.c"])
    program = [sys.executable, "-c", "import ringpool"]
    done = subprocess.run(program, env=environment(LD_PRELOAD=str(preload)), capture_output=True, text=True)
    assert done.returncode == 1
    assert re.search(
        "ImportError: .* for systems whose pages have (4096|65536) bytes or fewer, and .* 131072$", done.stderr
    )


@functools.cache
def sanitizer() -> str:
    """What must be loaded before a program that is to load a core with AddressSanitizer, for LD_PRELOAD."""
    name = "libasan.so"
    found = subprocess.run([*compiler(), f"-print-file-name={name}"], capture_output=True, text=True).stdout.strip()
    if not os.path.isabs(found):
        pytest.skip(f"the compiler has no {name}: it is not gcc, or the sanitizer is not installed")
    return f"{os.path.realpath(found)} {shared_library('quiet_fork', [SUPPORT / 'quiet_fork.c'])}"


def reports(folder: Path) -> list[str]:
    """What the sanitizer has found. (It also writes a warning where it does not know a thread's stack.)"""
    texts = [path.read_text(errors="replace") for path in sorted(folder.iterdir())]
    return [text for text in texts if "ERROR: AddressSanitizer" in text or "CHECK failed" in text]


@pytest.fixture
def sanitized(tmp_path: Path) -> tuple[Path, dict[str, str]]:
    """A build with the sanitizer, and the environment in which it reports to files of tmp_path."""
    preload = sanitizer()
    flags = "-fsanitize=address"
    package = builds.package("asan", RINGPOOL_DEBUG="1", CFLAGS=f"{flags} -fno-omit-frame-pointer", LDFLAGS=flags)
    assert holds(package, b"__asan_report_load8")
    options = SANITIZER_OPTIONS | {"log_path": tmp_path / "report"}
    return package, {
        "LD_PRELOAD": preload,
        "RINGPOOL_TESTS_PATIENCE": "4",
        "PYTHONMALLOC": "malloc",  # else the sanitizer sees the allocator's arenas, and not the objects in them
        "ASAN_OPTIONS": ":".join(f"{name}={value}" for name, value in options.items()),
    }


@pytest.mark.slow
@pytest.mark.deadline(4 * 3600)
@pytest.mark.xdist_group("sanitized")  # one after the other: each takes all cores
@pytest.mark.parametrize("folder", [each for each in ROOTS if each not in UNSANITIZED])
def test_the_core_passes_the_default_level_with_the_address_sanitizer(folder, sanitized, tmp_path):
    package, variables = sanitized
    parallel = ["-n", "4", "--dist", "loadgroup", "--max-worker-restart=0"]
    left_out = [f"--deselect=tests/{each}" for each in UNSANITIZED]
    try:
        run(package, [f"tests/{folder}"], [*parallel, *left_out], **variables)
    finally:
        found = reports(tmp_path)
        print("\n".join(found))
    assert not found, f"the sanitizer has {len(found)} reports: see the output"


# A worker's end by a report is a task that ends with WorkerDied.
OVERFLOW = """
import ctypes
from multiprocessing import get_context
from ringpool import ProcessPoolExecutor

def overflow():
    ctypes.memmove(ctypes.create_string_buffer(100), bytes(200), 200)

with ProcessPoolExecutor(1, get_context("fork")) as executor:
    error = executor.submit(overflow).exception()
assert type(error).__name__ == "WorkerDied", error
"""


@pytest.mark.slow
@pytest.mark.deadline(1200)
def test_the_sanitizer_reports_what_a_process_that_a_pool_starts_does(sanitized, tmp_path):
    package, variables = sanitized
    done = subprocess.run([sys.executable, "-c", OVERFLOW], env=path_first(package, variables), capture_output=True)
    assert done.returncode == 0, done.stderr
    (report,) = reports(tmp_path)
    assert "heap-buffer-overflow" in report


def test_what_does_not_run_with_the_sanitizer_is_there():
    for each in UNSANITIZED:
        path, _, name = each.partition("::")
        file = ROOT / "tests" / path
        assert file.exists() and (not name or f"def {name.partition('[')[0]}(" in file.read_text()), each
