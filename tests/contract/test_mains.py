"""Programs that are started in other ways than `python script.py`: their own functions and classes work in tasks.

What a worker that starts afresh can run again, it finds by name; the rest travels by value. With CPython 3.11 the
stdlib's executor breaks in the ways that are marked with a star, unless the method is "fork", and fails the tasks in
those with two stars, whatever the method.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import textwrap
import zipapp
from pathlib import Path

import optional
import pytest
from limits import FREE_THREADED

LIMIT = 60.0  # s; for what takes a second or two

PROGRAM = """\
import multiprocessing

import ringpool

METHODS = "fork", "forkserver", "spawn"
number = 0


class Point:
    def __init__(self, x):
        self.x = x

    def doubled(self):
        return Point(2 * self.x)


def square(x):
    return x * x


def load(x):
    global number
    number = x


def loaded():
    return number


def main():
    for method in METHODS:
        context = multiprocessing.get_context(method)
        with ringpool.ProcessPoolExecutor(1, context) as pool:
            results = [pool.submit(square, 7).result(timeout=30), *pool.map(square, range(3), timeout=30)]
            results.append(pool.submit(Point.doubled, Point(4)).result(timeout=30).x)
        print(method, *results)
        if method == "fork" and BY_NAME:
            with ringpool.ProcessPoolExecutor(1, context, load, (5,)) as pool:
                doubled = pool.submit(Point(4).doubled).result(timeout=30)
                print(pool.submit(loaded).result(timeout=30), isinstance(doubled, Point))


METHODS = "fork", "forkserver", "spawn"
BY_NAME = {by_name}

if __name__ == "__main__":
    main()
"""


def run(*command: str | Path, cwd: Path, **options) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    options.setdefault("input", "")
    return subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=LIMIT, **options
    )


def write(folder: Path, program: str) -> None:
    """The program as a script, a module, a package, a folder and an archive."""
    for name in ("script.py", "my-script", "package/__main__.py", "package/module.py", "folder/__main__.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(program)
    (folder / "package/__init__.py").touch()
    (folder / "link.py").symlink_to("script.py")
    (folder / "moves.py").write_text(program.replace("    main()\n", "    import os; os.chdir('/'); main()\n"))
    (folder / "vanishes.py").write_text("import os\nif __name__ == '__main__': os.remove(__file__)\n" + program)
    (folder / "runs_path.py").write_text(
        "import runpy\nif __name__ == '__main__': runpy.run_path('script.py', run_name='__main__')\n"
    )
    zipapp.create_archive(folder / "folder", folder / "archive.pyz")


RUN_MODULE = "import runpy; runpy.run_module({!r}, run_name='__main__', alter_sys={})"
EXEC = "exec(compile(open('script.py').read(), 'script.py', 'exec'), {'__name__': '__main__'})"

# How the program is started; whether its __main__ is one that workers find things in by name, at least forked ones.
WAYS = {
    "script": (["script.py"], True),
    "script whose name is no module's": (["my-script"], True),
    "link to a script": (["link.py"], True),
    "script that changes its folder": (["moves.py"], True),
    "script that vanishes *": (["vanishes.py"], True),
    "module": (["-m", "script"], True),
    "module of a package": (["-m", "package.module"], True),
    "package *": (["-m", "package"], True),
    "folder *": (["folder"], True),
    "archive *": (["archive.pyz"], True),
    "run_path": (["runs_path.py"], True),
    "run_module": (["-c", RUN_MODULE.format("package.module", True)], True),
    "run_module of a package *": (["-c", RUN_MODULE.format("package", True)], True),
    "run_module, not as __main__ **": (["-c", RUN_MODULE.format("package.module", False)], False),
    "exec **": (["-c", EXEC], False),
    "cProfile **": (["-m", "cProfile", "script.py"], False),
    "cProfile of a module **": (["-m", "cProfile", "-m", "package"], False),
    "trace **": (["-m", "trace", "--count", "-C", "covers", "script.py"], False),
    "pdb *": (["-m", "pdb", "-c", "continue", "-c", "quit", "script.py"], True),
    "session after a script": (["-i", "script.py"], True),
    "-c *": (["-c"], False),
    "standard input *": (["-"], False),
    "standard input, not named *": ([], False),
    "descriptor *": (["/dev/fd/{}"], True),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_program_runs_its_own_functions_however_it_is_started(way, tmp_path):
    arguments, by_name = WAYS[way]
    if FREE_THREADED and "cProfile" in way:
        pytest.skip("cProfile is not safe among threads, such as a pool's: it crashes at the program's end")
    program = PROGRAM.format(by_name=by_name)
    write(tmp_path, program)
    options = {}
    if arguments == ["-c"]:
        arguments = [*arguments, program]
    elif arguments in ([], ["-"]):
        options["input"] = program
    with contextlib.ExitStack() as stack:
        if arguments == ["/dev/fd/{}"]:
            read, written = os.pipe()
            stack.callback(os.close, read)
            with open(written, "w") as file:
                file.write(program)
            arguments = [f"/dev/fd/{read}"]
            options["pass_fds"] = [read]
        done = run(sys.executable, *arguments, cwd=tmp_path, **options)
    lines = [f"{method} 49 0 1 4 8" for method in ("fork", "forkserver", "spawn")]
    if by_name:
        lines.insert(1, "5 True")
    assert [line for line in done.stdout.splitlines() if line in lines] == lines, done.stdout + done.stderr
    assert "Traceback" not in done.stderr and done.returncode == 0, done.stderr


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_what_workers_do_not_find_in_the_main_file_is_an_error_that_says_why(method, tmp_path):
    (tmp_path / "script.py").write_text(
        textwrap.dedent(f"""
            import multiprocessing
            import ringpool

            if __name__ == "__main__":
                class Point:
                    pass

                def square(x):
                    return x * x

                with ringpool.ProcessPoolExecutor(1, multiprocessing.get_context({method!r})) as pool:
                    for call in ((square, 7), (id, Point()), (getattr, 7, "x")):
                        error = pool.submit(*call).exception(timeout=30)
                        print(type(error).__name__, error, *getattr(error, "__notes__", ()))
                    print(pool.submit(pow, 2, 3).result(timeout=30))
        """)
    )
    done = run(sys.executable, "script.py", cwd=tmp_path)
    assert not done.stderr
    of_function, of_class, of_task, result = done.stdout.splitlines()
    assert of_function.startswith("AttributeError module '__mp_main__' has no attribute 'square' ")
    assert of_class.startswith("AttributeError ") and "'Point'" in of_class and "'__mp_main__'" in of_class
    for said in (of_function, of_class):
        assert 'under `if __name__ == "__main__":`' in said and "define it at the top level" in said
    assert of_task == "AttributeError 'int' object has no attribute 'x'" and result == "8"


def test_the_stdlibs_processes_are_told_what_they_were_told(tmp_path):
    """A main file that is none stays in what multiprocessing tells them: only ours do without."""
    program = """
        import multiprocessing.spawn

        import ringpool
        from ringpool.worker import Name

        with ringpool.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            pool.submit(int).result()
        for name in ("SpawnProcess-1", Name("RingpoolProcess-1")):
            print(multiprocessing.spawn.get_preparation_data(name).get("init_main_from_path"))
    """
    done = run(sys.executable, "-", cwd=tmp_path, input=textwrap.dedent(program))
    assert done.stdout.splitlines() == [str(tmp_path / "<stdin>"), "None"], done.stderr


# ---- frozen programs ----

FROZEN = """
import multiprocessing
import sys

import ringpool


class Point:
    def __init__(self, x):
        self.x = x


def doubled(point):
    return Point(2 * point.x)


if __name__ == "__main__":
    multiprocessing.freeze_support()
    with ringpool.ProcessPoolExecutor(2, multiprocessing.get_context(sys.argv[1])) as pool:
        point = pool.submit(doubled, Point(4)).result(timeout=30)
        three = pool.submit(lambda: 3).result(timeout=30)
        error = pool.submit(int, "x").exception(timeout=30)
        print(sys.frozen, point.x, isinstance(point, Point), three, *pool.map(abs, [-1, 2]), type(error).__name__)
        assert isinstance(pool.submit(multiprocessing.process.os._exit, 3).exception(timeout=30), ringpool.WorkerDied)
"""


@pytest.fixture(scope="module")
def frozen(tmp_path_factory) -> Path:
    optional.need("PyInstaller", "objdump")
    folder = tmp_path_factory.mktemp("frozen")
    (folder / "program.py").write_text(FROZEN)
    # tqdm would bring pandas and more, if they are there: many times the size and the time.
    options = ["--log-level", "ERROR", "--exclude-module", "tqdm", "--specpath", folder, "--workpath", folder / "work"]
    command = [sys.executable, "-m", "PyInstaller", *options, "--distpath", folder / "dist", "program.py"]
    done = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True, timeout=5 * LIMIT)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "dist/program/program"


@pytest.mark.ci
@pytest.mark.xdist_group("frozen")
@pytest.mark.deadline(6 * LIMIT)
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_a_frozen_program_works_with_each_start_method(frozen, method, tmp_path):
    done = run(frozen, method, cwd=tmp_path)
    assert done.stdout == "True 8 True 3 1 2 ValueError\n" and done.returncode == 0, done.stdout + done.stderr
    assert not done.stderr


def test_pyinstaller_is_told_of_all_that_programs_need():
    optional.module("PyInstaller")
    from importlib import metadata

    (entry,) = metadata.entry_points(group="pyinstaller40", name="hook-dirs", module="ringpool._pyinstaller")
    (folder,) = entry.load()()
    told = {}
    exec(Path(folder, "hook-ringpool.py").read_text(), told)
    package = Path(folder).parent
    modules = {f"ringpool.{path.stem}" for path in package.glob("*.py") if not path.stem.startswith("__")}
    assert {*modules, "ringpool._core"} <= set(told["hiddenimports"])
    assert not [name for name in told["hiddenimports"] if name.startswith(("ringpool.bench", "ringpool._py"))]
