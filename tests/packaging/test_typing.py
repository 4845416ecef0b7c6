"""What type checkers make of programs that use ringpool, and of ringpool itself."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import optional
import pytest
from programs import ROOT

pytestmark = pytest.mark.ci

LIMIT = 200.0  # s; for what takes some ten seconds on an idle machine
CHECKERS = ["mypy", "basedpyright"]

# A line that ends with "wrong: a, b" must have errors of these kinds only, and at least one from each checker; kinds
# that begin with "report" are pyright's. All other lines must have none.
PROGRAM = """
import asyncio
import concurrent.futures
import functools
from collections.abc import Iterator
from multiprocessing import get_context
from typing import assert_type

from ringpool import Future, ProcessPoolExecutor, Shared, TaskTimeout, WorkerDied
from ringpool.executor import ExecutorView


def area(width: int, height: int = 2) -> int:
    return width * height


def begin(name: str) -> None:
    print(name)


class Model:
    def predict(self, record: str) -> float:
        return float(len(record))


def predict(model: Model, record: str) -> float:
    return model.predict(record)


def print_result(future: concurrent.futures.Future[int]) -> None:
    print(future.result())


def end_too_late(future: Future[int]) -> None:
    assert_type(future.cancel(running=True), bool)


def best(models: list[Model], /, *, record: str) -> Model:
    return max(models, key=lambda model: model.predict(record))


with ProcessPoolExecutor(
    2, get_context("spawn"), begin, ("x",), max_tasks_per_child=5, on_worker_death="break"
) as pool:
    future: Future[int] = pool.submit(area, 6, height=7)
    number: int = future.result(timeout=1.0)
    results: Iterator[int] = pool.map(area, [1, 2], [3, 4], timeout=2.0, chunksize=2, buffersize=10)
    error: BaseException | None = future.exception()
    stdlib: concurrent.futures.Future[int] = future
    done, pending = concurrent.futures.wait([future])
    executor: concurrent.futures.Executor = pool
    processes: concurrent.futures.ProcessPoolExecutor = pool
    future.add_done_callback(lambda each: print(each.result() + 1))
    future.add_done_callback(lambda each: print(each.cancel(running=True)))
    future.add_done_callback(print_result)
    future.add_done_callback(end_too_late)
    assert_type(future.result(), int)
    assert_type((future.done(), future.running(), future.cancelled()), tuple[bool, bool, bool])
    many = pool.submit_many(area, [(1, 2), (3, 4)])
    assert_type(many, list[Future[int]])
    try:
        pool.submit(area, 1)
    except WorkerDied as death:
        code: int | None = death.exitcode
        words: tuple[int, int, str] = (death.worker, death.pid, death.task)
    except TaskTimeout as late:
        print(late)
    pool.shutdown(wait=True, cancel_futures=True, timeout=1.0)
    pool.terminate_workers()
    pool.kill_workers()

    # Tasks that run can be cancelled, also in views.
    cancelled: bool = future.cancel(running=True) or future.cancel()
    view = pool.options(timeout=1.0, retries=2)
    assert_type(view, ExecutorView)
    assert_type(view.submit(area, 1), Future[int])
    processes = view
    view.submit(area, 1).cancel(running=False)

    # What is shared is to the tasks what it stands for.
    model = pool.share(Model())
    assert_type(pool.submit(predict, model, "a"), Future[float])
    assert_type(pool.submit(best, [model, pool.share(Model())], record="a"), Future[Model])
    scores = list(pool.map(functools.partial(predict, model), ["a", "b"]))
    assert_type(scores, list[float])
    assert_type(view.submit(predict, view.share(Model()), "a").result(), float)
    if isinstance(model, Shared):
        print(model.nbytes + 1)


async def main() -> int:
    loop = asyncio.get_running_loop()
    assert_type(await asyncio.wrap_future(pool.submit(area, 1)), int)
    return await loop.run_in_executor(pool, area, 3, 4)


pool.submit(area, "six")  # wrong: arg-type, reportArgumentType
pool.submit(area, 1, 2, 3)  # wrong: call-arg, reportCallIssue
pool.submit(area, 1, height="x")  # wrong: arg-type, reportArgumentType
text: str = pool.submit(area, 1).result()  # wrong: assignment, reportAssignmentType
texts: list[str] = list(pool.map(area, [1]))  # wrong: arg-type, reportArgumentType, reportAssignmentType
ProcessPoolExecutor("two")  # wrong: arg-type, reportArgumentType
ProcessPoolExecutor(on_death=1)  # wrong: call-arg, reportCallIssue
ProcessPoolExecutor(1, None, None, (), 5)  # wrong: call-arg, misc, reportCallIssue
pool.submit(area, 1).outcome()  # wrong: attr-defined, reportAttributeAccessIssue, reportUnknownMemberType
pool.submit(area, 1).cancel(True)  # wrong: call-arg, misc, reportCallIssue
pool.submit(area, 1).cancel(running="yes")  # wrong: arg-type, reportArgumentType
pool.submit(area, 1).add_done_callback(area)  # wrong: arg-type, reportArgumentType
pool.submit(area, 1).result(timeout="1 s")  # wrong: arg-type, reportArgumentType
pool.submit(predict, pool.share("no model"), "a")  # wrong: arg-type, reportArgumentType
pool.options(timeout="1 s")  # wrong: arg-type, reportArgumentType
pool.options(retries=1).submit(area, "six")  # wrong: arg-type, reportArgumentType
Shared().shape  # wrong: attr-defined, reportAttributeAccessIssue, reportUnknownMemberType, reportUnusedExpression
"""


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    """In a process of its own: mypy leaves millions of objects, among which each later test would look for garbage."""
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=LIMIT)


def mypy(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    optional.need("mypy")
    return run(sys.executable, "-m", "mypy", "--strict", *arguments)


def errors_of_mypy(folder: Path) -> list[tuple[int, str, str]]:
    (folder / "mypy.ini").write_text("[mypy]\n")
    done = mypy("--config-file", folder / "mypy.ini", "--cache-dir", folder / "cache", folder / "program.py")
    assert not done.stderr, done.stderr
    found = re.findall(r"program\.py:(\d+): error: (.*)  \[([\w-]+)\]$", done.stdout, re.MULTILINE)
    assert len(found) == done.stdout.count(": error: "), done.stdout
    return [(int(line), kind, text) for line, text, kind in found]


def errors_of_basedpyright(folder: Path) -> list[tuple[int, str, str]]:
    """By the rules of pyright's strict mode. basedpyright has a Node.js in its wheels; pyright would fetch one."""
    optional.need("basedpyright")
    settings = {
        "include": ["program.py"],
        "typeCheckingMode": "strict",
        "pythonVersion": "{}.{}".format(*sys.version_info),
        "pythonPlatform": "Linux",
    }
    (folder / "pyrightconfig.json").write_text(json.dumps(settings))
    command = [sys.executable, "-m", "basedpyright", "--outputjson", "--pythonpath", sys.executable, "-p", folder]
    done = run(*command)
    assert done.stdout, done.stderr
    report = json.loads(done.stdout)
    assert report["summary"]["filesAnalyzed"] == 1, done.stdout
    return [
        (each["range"]["start"]["line"] + 1, each.get("rule", ""), each["message"])
        for each in report["generalDiagnostics"]
        if each["severity"] == "error"
    ]


@pytest.mark.deadline(LIMIT + 30)
@pytest.mark.parametrize("checker", CHECKERS)
def test_the_checker_accepts_what_is_right_in_a_program_and_finds_what_is_wrong(checker, tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    found = {"mypy": errors_of_mypy, "basedpyright": errors_of_basedpyright}[checker](tmp_path)
    wrong = {
        number: set(line.partition("# wrong: ")[2].split(", "))
        for number, line in enumerate(PROGRAM.splitlines(), 1)
        if "# wrong: " in line
    }
    assert not [error for error in found if error[1] not in wrong.get(error[0], set())]
    assert set(wrong) == {line for line, _, _ in found}, "not all that is wrong is found"


@pytest.mark.deadline(LIMIT + 30)
def test_the_package_itself_passes_the_type_checker():
    done = mypy("--config-file", ROOT / "pyproject.toml", ROOT / "src/ringpool")
    assert done.returncode == 0, done.stdout + done.stderr


# What stubtest finds and no stub can mend: patterns of names, each block with the reason.
ALLOWED = r"""
# Classes of Cython cannot be subclassed, or not together with each other. Marks that say so (final, disjoint_base) are
# newer than the Pythons that we serve. Classes that Python files do not use are not in the stub at all.
ringpool\._core\.[A-Z]\w+
ringpool\.contents\._Content

# What Cython adds.
ringpool\._core\.(Options\.)?__(reduce|setstate)_cython__
ringpool\._core\.__(test|pyx_capi)__

# A class of Cython without arguments: its __init__ takes anything, as far as can be seen from outside.
ringpool\._core\.(FutureBase|Shared)\.__init__

# Generic, which a class of Cython is not; concurrent.futures.Future, which each future is too, has the types.
ringpool\._core\.FutureBase\.(result|set_result)

# What pickles name, or pickling.py is given, and no Python file imports.
ringpool\._core\.(array_as|dumps_error|held_here|reduce_array|reduce_memoryview|shared_here)

# Names for type checkers alone, since typing takes longer to import than all of the package.
ringpool\.future\._T
ringpool\.lifecycle\.Pool
ringpool\.progress\.Progress
ringpool\.pickling\.Reducer
ringpool\.replay\.Need
ringpool\.session\.Store

# For type checkers the stdlib's class, which takes long to import; else the base of it.
ringpool\.executor\._Executor\.\w+

# functools.cache and lru_cache: typeshed knows them as objects that take anything.
ringpool\.functions\.(_can_be_run|_keeps_state|by_value_pickler)
ringpool\.launcher\._leave_out_main

# mypy's own names, and that of an exception, which is unbound after its clause.
ringpool\.errors\.BrokenProcessPool-redefinition
ringpool\.functions\.Pickler@\d+
ringpool\.error
"""

# Modules that cannot be imported without an optional package.
NEEDS = {"PyInstaller": r"ringpool\._pyinstaller\..*"}


@pytest.mark.deadline(LIMIT + 30)
def test_types_agree_with_what_is_there_at_run_time(tmp_path):
    """In the whole package: the core by its stub, the rest by its annotations."""
    optional.need("mypy")
    missing = [modules for package, modules in NEEDS.items() if importlib.util.find_spec(package) is None]
    (tmp_path / "allowed").write_text("\n".join([ALLOWED, *missing]))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    options = ["--concise", "--allowlist", tmp_path / "allowed", "--mypy-config-file", tmp_path / "pyproject.toml"]
    done = run(sys.executable, "-m", "mypy.stubtest", "ringpool", "--ignore-unused-allowlist", *options)
    assert done.returncode == 0, done.stdout + done.stderr
