"""What is shipped: the sdist, the wheel, an installation, docstrings, and what an import costs a worker."""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
import tomllib
import venv
import zipfile
from pathlib import Path

import builds
import optional
import pytest
from builds import package_sources
from limits import FREE_THREADED
from programs import ROOT

import ringpool

LIMIT = 30.0  # s; for what should take a second or two
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def run(
    *command: str | Path, limit: float = LIMIT, code: int | None = 0, variables: dict[str, str] | None = None, **options
) -> subprocess.CompletedProcess[str]:
    """Runs a program; its exit status must be `code`, unless that is None."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")} | (
        variables or {}
    )
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=limit,
        check=False,
        env=environment,
        stdin=subprocess.DEVNULL,
        **options,
    )
    assert code is None or done.returncode == code, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done


def python(code: str, *options: str) -> str:
    """The standard output of a piece of code in a fresh interpreter."""
    return run(sys.executable, *options, "-c", textwrap.dedent(code)).stdout


# ---- sdist, wheel, installation ----


@pytest.fixture(scope="module")
def built() -> tuple[Path, Path]:
    """The sdist, and the wheel that was built from it and not from this tree."""
    optional.need("build")
    # What was built here before goes with it, and must not be shipped.
    copy, files = package_sources()

    def make(folder: Path) -> None:
        tree = copy(folder)
        as_debian_does = {"CPPFLAGS": f"{os.environ.get('CPPFLAGS', '')} -g"}  # whose Pythons hand it to extensions
        run(sys.executable, "-m", "build", "--outdir", folder, tree, limit=280.0, cwd=folder, variables=as_debian_does)
        shutil.rmtree(tree)

    out = builds.built("dist", files, make)
    (sdist,), (wheel,) = out.glob("*.tar.gz"), out.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="module")
def sdist_files(built) -> set[str]:
    with tarfile.open(built[0]) as archive:
        return {member.name.split("/", 1)[1] for member in archive.getmembers() if member.isfile()}


@pytest.fixture(scope="module")
def wheel_files(built) -> set[str]:
    with zipfile.ZipFile(built[1]) as archive:
        return set(archive.namelist())


def in_tree(*patterns: str) -> set[str]:
    return {str(path.relative_to(ROOT)) for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()}


pytestmark = pytest.mark.deadline(300)


@pytest.mark.ci
@pytest.mark.parametrize(
    "patterns",
    [
        ["csrc/*.h", "csrc/*.c"],
        ["src/ringpool/**/*.pyx", "src/ringpool/**/*.pxd"],
        ["src/ringpool/*.py", "src/ringpool/*/*.py"],
        ["src/ringpool/*.pyi", "src/ringpool/py.typed"],
        ["tests/**/*.py", "tests/native/*.[ch]", "tests/model/*.pml"],
        ["README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "pyproject.toml", "setup.py"],
        # What the README refers to, and its picture.
        ["docs/**/*.md", "docs/*.svg", "benchmarks/*.py", "benchmarks/*.json", "benchmarks/jobs/*.py"],
    ],
    ids=lambda patterns: patterns[0],
)
def test_the_sdist_holds_all_that_building_testing_and_reading_need(sdist_files, patterns):
    assert not in_tree(*patterns) - sdist_files


@pytest.mark.ci
def test_the_sdist_holds_nothing_that_was_built(sdist_files):
    built = [name for name in sdist_files if re.search(r"\.(so|pyc|o)$|__pycache__|(^|/)build/|_core\.c$", name)]
    assert not built


@pytest.mark.ci
def test_the_wheel_holds_the_package_its_types_and_its_core(wheel_files):
    wanted = in_tree("src/ringpool/*.py", "src/ringpool/*/*.py", "src/ringpool/*.pyi", "src/ringpool/py.typed")
    assert not {name.removeprefix("src/") for name in wanted} - wheel_files
    assert {"ringpool/py.typed", "ringpool/_core.pyi"} <= wheel_files
    assert sum(re.fullmatch(r"ringpool/_core\..*\.so", name) is not None for name in wheel_files) == 1


@pytest.mark.ci
def test_the_wheel_holds_no_sources_of_the_core_and_no_tests(wheel_files):
    assert not [name for name in wheel_files if re.search(r"\.(pyx|pxd|c|h|o)$|__pycache__|(^|/)tests?/", name)]
    assert {name.split("/")[0].split("-")[0] for name in wheel_files} == {"ringpool"}


# Of glibc 2.34, which took libpthread in: built with an older one, the core asks for less.
NEWEST_GLIBC = (2, 34)


@pytest.mark.ci
def test_the_core_in_the_wheel_asks_for_no_newer_c_library_and_for_no_other(built):
    optional.need("auditwheel")
    tags = re.findall(r'"(\w+?)_(\d+)_(\d+)_\w+"', run(sys.executable, "-m", "auditwheel", "show", built[1]).stdout)
    assert tags and all(name in ("manylinux", "musllinux") for name, _, _ in tags)
    assert all((int(major), int(minor)) <= NEWEST_GLIBC for name, major, minor in tags if name == "manylinux")


@pytest.mark.ci
def test_the_core_in_the_wheel_has_names_of_functions_and_no_debug_information(built, tmp_path):
    optional.need("auditwheel")
    program = """
        import sys
        from elftools.elf.elffile import ELFFile
        with open(sys.argv[1], "rb") as file:
            print(*(section.name for section in ELFFile(file).iter_sections()))
    """
    with zipfile.ZipFile(built[1]) as archive:
        (name,) = (name for name in archive.namelist() if re.fullmatch(r"ringpool/_core\..*\.so", name))
        core = archive.extract(name, tmp_path)
    sections = run(sys.executable, "-c", textwrap.dedent(program), core).stdout.split()
    assert ".symtab" in sections and not [each for each in sections if each.startswith(".debug")]


@pytest.mark.ci
def test_the_wheel_carries_the_licence_and_the_metadata(built, wheel_files):
    assert any(name.endswith("/LICENSE") for name in wheel_files)
    with zipfile.ZipFile(built[1]) as archive:
        (name,) = (name for name in wheel_files if name.endswith(".dist-info/METADATA"))
        metadata = archive.read(name).decode()
    assert f"Version: {ringpool.__version__}\n" in metadata
    assert "Requires-Dist: cloudpickle" in metadata and "License-Expression: MIT" in metadata
    assert "# ringpool" in metadata  # the README


PROGRAM = """
import os
import sys
from multiprocessing import get_context

import ringpool


def area(width, height):
    return width * height, os.getpid()


if __name__ == "__main__":
    for method in ("forkserver", "spawn"):
        with ringpool.ProcessPoolExecutor(2, get_context(method)) as pool:
            result, pid = pool.submit(area, 6, 7).result(timeout=30)
            assert result == 42 and pid != os.getpid()
            assert [each for each, _ in pool.map(area, range(50), range(50), timeout=30)] == [n * n for n in range(50)]
            assert pool.submit(lambda: "lambdas too").result(timeout=30) == "lambdas too"
    print(ringpool.__file__)
"""


@pytest.mark.ci
def test_the_wheel_works_in_an_environment_of_its_own(built, tmp_path):
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    run(home / "bin/python", "-m", "pip", "install", "-q", built[1], limit=200.0, cwd=tmp_path)
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    where = run(home / "bin/python", "-W", "error", program, limit=90.0, cwd=tmp_path).stdout
    assert where.startswith(str(home))
    version = run(home / "bin/python", "-m", "ringpool", "--version", cwd=tmp_path).stdout
    assert version == f"ringpool {ringpool.__version__}\n"
    run(home / "bin/python", "-m", "pip", "check", cwd=tmp_path)


# ---- versions and texts agree ----


def test_the_version_is_the_same_everywhere():
    assert PROJECT["version"] == ringpool.__version__
    assert ringpool.__version__ in (ROOT / "CHANGELOG.md").read_text()


def test_the_pythons_that_are_promised_are_those_that_ci_tests():
    ci = ROOT / ".ci/run"
    if not ci.exists():
        pytest.skip("an sdist has no CI")
    (lanes,) = re.findall(r"^versions=\((.*)\)$", ci.read_text(), re.MULTILINE)
    minors = [int(version.removeprefix("3.")) for version in lanes.split()]
    assert minors == [*range(minors[0], minors[-1] + 1)]
    classified = re.findall(
        r"^Programming Language :: Python :: 3\.(\d+)$", "\n".join(PROJECT["classifiers"]), re.MULTILINE
    )
    assert [int(minor) for minor in classified] == minors
    assert PROJECT["requires-python"] == f">=3.{minors[0]}"
    for page in "README.md", "CONTRIBUTING.md":
        assert f"CPython 3.{minors[0]} to 3.{minors[-1]}" in (ROOT / page).read_text()
    (free_threaded,) = re.findall(r"^free_threaded=\((.*?)\)", ci.read_text(), re.MULTILINE)
    assert free_threaded and {*free_threaded.split()} <= {f"{version}t" for version in lanes.split()}
    assert "Programming Language :: Python :: Free Threading :: 2 - Beta" in PROJECT["classifiers"]


def test_the_command_line_says_its_version():
    done = run(sys.executable, "-m", "ringpool", "--version")
    assert done.stdout == f"ringpool {ringpool.__version__}\n" and not done.stderr


def test_the_readme_has_one_line_that_benchmarks_and_one_line_that_tests():
    lines = re.findall(r"^python3 -m venv .*", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert len(lines) == 2
    bench, test = lines
    assert "python -m ringpool bench" in bench and "pytest" in test
    for line in lines:
        extra = re.search(r"'\.\[(\w+)\]'", line)
        assert extra and extra[1] in PROJECT["optional-dependencies"]


def test_the_files_that_the_readme_refers_to_exist():
    text = (ROOT / "README.md").read_text()
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / target).exists(), target


# ---- imports ----


def test_the_import_gives_no_warning():
    code = "import ringpool; [getattr(ringpool, name) for name in ringpool.__all__]"
    done = run(sys.executable, "-W", "error", "-c", code)
    assert not done.stdout and not done.stderr


def test_names_are_listed_before_they_are_imported():
    names = python("import ringpool; print(*dir(ringpool))").split()
    assert set(ringpool.__all__) <= set(names)


def test_a_name_that_does_not_exist_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Pool'"):
        ringpool.Pool  # noqa: B018


def test_a_star_import_brings_the_public_names():
    assert python("from ringpool import *; print(ProcessPoolExecutor, Future, WorkerDied)").count("ringpool") == 3


@pytest.mark.parametrize("error", ["ModuleNotFoundError", "ImportError"])
def test_where_there_is_no_core_the_import_error_names_the_platforms(error):
    code = f"""
        import sys

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "ringpool._core":
                    raise {error}("no module named ringpool._core", name=name)

        sys.meta_path.insert(0, Finder())
        try:
            import ringpool
        except ImportError as error:
            print(type(error).__name__, error)
            print(type(error.__cause__).__name__)
    """
    said, cause = python(code).splitlines()
    assert said.startswith("ImportError ringpool has no compiled core here")
    for word in ("CPython 3.11", "Linux", "x86-64", "aarch64", sys.platform, sys.implementation.name):
        assert word in said
    assert "{}.{}".format(*sys.version_info) in said
    assert cause == "ImportError"


SUBINTERPRETERS = """
import sys

if sys.version_info >= (3, 13):
    import _interpreters as interpreters
else:
    import _xxsubinterpreters as interpreters

if sys.version_info >= (3, 13):
    def make(isolated):
        return interpreters.create("isolated" if isolated else "legacy")

    def run(interpreter, code):
        failure = interpreters.exec(interpreter, code)
        if failure is not None:
            raise ImportError(failure.msg)
else:
    def make(isolated):
        return interpreters.create(isolated=isolated)

    run = interpreters.run_string

def attempt(what):
    try:
        what()
    except Exception as error:
        print("the import failed:", error)
    else:
        print("the import works")
"""


@pytest.mark.parametrize("isolated", [True, False])
def test_an_import_in_a_subinterpreter_says_why_it_fails(isolated):
    code = f"""
        import ringpool

        interpreter = make({isolated})
        attempt(lambda: run(interpreter, "import ringpool"))
        interpreters.destroy(interpreter)
    """
    said = python(SUBINTERPRETERS + textwrap.dedent(code))
    assert said.startswith("the import failed:") and "Import it in the main interpreter alone" in said


@pytest.mark.parametrize("isolated", [True, False])
def test_an_import_after_one_in_a_subinterpreter_says_why_it_fails(isolated):
    code = f"""
        interpreter = make({isolated})
        attempt(lambda: run(interpreter, "import ringpool"))
        attempt(lambda: __import__("ringpool"))
        interpreters.destroy(interpreter)
    """
    first, second = python(SUBINTERPRETERS + textwrap.dedent(code)).splitlines()
    assert {first, second} > {"the import works"}  # one interpreter has it
    assert "Import it in the main interpreter alone" in (second if first == "the import works" else first)


@pytest.mark.skipif(not FREE_THREADED, reason="this Python has its GIL always")
def test_an_import_leaves_the_gil_of_a_free_threaded_build_off_and_warns_of_nothing():
    code = """
        import sys
        import ringpool
        print(sys._is_gil_enabled())
    """
    assert python(code, "-W", "error").strip() == "False"
    assert python(code, "-W", "error", "-X", "gil=1").strip() == "True"


@pytest.mark.parametrize("error", ["ModuleNotFoundError", "ImportError"])
def test_an_import_error_of_something_else_is_not_taken_for_a_missing_core(error):
    code = f"""
        import sys

        class Finder:
            def find_spec(self, name, path=None, target=None):
                if name == "pickle":
                    raise {error}("this Python is not whole", name=name)

        sys.meta_path.insert(0, Finder())
        try:
            import ringpool
        except ImportError as error:
            print(error)
    """
    assert python(code).strip() == "this Python is not whole"


HEAVY = ["concurrent.futures", "logging", "typing", "dataclasses", "cloudpickle", "asyncio", "ringpool.executor"]


def test_what_a_worker_imports_stays_small():
    loaded = python("import ringpool.worker, sys; print(*sys.modules, sep='\\n')", "-I").split()
    before = python("import multiprocessing.reduction, sys; print(*sys.modules, sep='\\n')", "-I").split()
    added = set(loaded) - set(before)
    assert not [name for name in HEAVY if name in added]
    assert not [name for name in HEAVY if name in loaded]


def test_a_worker_that_has_run_a_task_has_not_imported_more():
    program = """
        from multiprocessing import get_context
        from ringpool import ProcessPoolExecutor

        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            assert pool.submit(pow, 2, 10).result(30) == 1024
            print(*pool.submit(eval, "[*__import__('sys').modules]").result(30))
    """
    loaded = python(program).split()
    assert "ringpool.worker" in loaded
    assert not [name for name in HEAVY if name in loaded]


# ---- docstrings ----


def public_things() -> dict[str, object]:
    things = {f"ringpool.{name}": getattr(ringpool, name) for name in ringpool.__all__ if name != "__version__"}
    for kind in (ringpool.ProcessPoolExecutor, ringpool.Future, ringpool.WorkerDied):
        for name in dir(kind):
            if not name.startswith("_"):
                things[f"{kind.__name__}.{name}"] = getattr(kind, name)
    return things


@pytest.mark.parametrize("name", [name for name, thing in public_things().items() if callable(thing)])
def test_every_public_name_has_a_docstring(name):
    text = inspect.getdoc(public_things()[name])
    assert text and len(text) > 15, f"{name}: {text!r}"


@pytest.mark.parametrize("module", sorted(p.stem for p in (ROOT / "src/ringpool").glob("*.py") if p.stem != "__main__"))
def test_every_module_has_a_docstring(module):
    imported = __import__("ringpool" if module == "__init__" else f"ringpool.{module}", fromlist=["x"])
    assert imported.__doc__


def test_the_names_say_they_are_of_ringpool():
    assert ringpool.ProcessPoolExecutor.__module__.startswith("ringpool")
    assert repr(ringpool.Future).startswith("<class 'ringpool.")


def test_the_stub_of_the_core_names_what_the_core_has():
    from ringpool import _core

    stub = (ROOT / "src/ringpool/_core.pyi").read_text()
    for name in re.findall(r"^(?:def|class) (\w+)", stub, re.MULTILINE):
        assert hasattr(_core, name), name
    for kind, body in re.findall(r"^class (\w+)[^\n]*:\n((?: {4}.*\n|\n)+)", stub, re.MULTILINE):
        for name in re.findall(r"^ {4}(?:def )?(\w+)[(:]", body, re.MULTILINE):
            assert hasattr(getattr(_core, kind), name), f"{kind}.{name}"
