"""`benchmarks/jobs`: each job runs as a user runs it, gives the same with any executor, and finds wrong output."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import ModuleType

import optional
import pytest
from programs import ROOT

optional.module("numpy")
Image = optional.module("PIL.Image")

pytestmark = pytest.mark.ci

JOBS = ROOT / "benchmarks" / "jobs"
EXECUTORS = ["ringpool", "stdlib", "serial"]
LIMIT = 50.0  # s; each run takes about one
SMALL = {
    "dataset": ["--files", "20", "--rows", "70123", "--block", "100000"],
    "simulation": ["--draws", "20500", "--block", "1000"],
}


def run(job: str, *options: str, code: int = 0, ignored: Iterable[str] = ()) -> subprocess.CompletedProcess[str]:
    """Runs a job as a program."""
    # NumPy has threads, of which Python warns at a fork from 3.12 on.
    warnings = ["error", "ignore:This process:DeprecationWarning", *(f"ignore::{category}" for category in ignored)]
    command = [sys.executable, *(word for each in warnings for word in ("-W", each)), str(JOBS / f"{job}.py"), *options]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=LIMIT, check=False, stdin=subprocess.DEVNULL, cwd="/"
    )
    assert done.returncode == code, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module of the jobs; it is gone after the test."""
    monkeypatch.syspath_prepend(JOBS)
    names = ("executors", *SMALL, "images")
    for name in names:
        monkeypatch.setitem(sys.modules, name, sys.modules.get(name))  # what was there comes back
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with pictures of several kinds, in folders of their own, one that is broken, and a text."""
    pictures = tmp_path / "pictures"
    (pictures / "below").mkdir(parents=True)
    Image.linear_gradient("L").resize((300, 200)).save(pictures / "grey.gif")
    Image.radial_gradient("L").convert("RGB").save(pictures / "below" / "round.JPG")
    Image.new("RGBA", (10, 40), (250, 0, 0, 0)).save(pictures / "below" / "transparent.png")
    (pictures / "broken.png").write_bytes(b"no picture")
    (pictures / "words.txt").write_text("no picture either")
    return pictures


# ---- as a user runs them ----


@pytest.mark.parametrize("executor", EXECUTORS)
def test_pictures_of_a_folder_are_converted_and_the_broken_one_is_named(folder, tmp_path, executor):
    out = tmp_path / "out"
    options = ["--folder", str(folder), "--out", str(out), "--size", "48", "--format", "PNG", "--times", "3"]
    done = run("images", "--executor", executor, "--workers", "2", *options)
    assert f"images, {executor}: 9 of 12 pictures of {folder} as PNG, 48 by 48 pixels" in done.stdout
    assert done.stdout.endswith("pictures a second, output checked\n")
    assert done.stderr.startswith(f"{folder / 'broken.png'} cannot be read: UnidentifiedImageError")
    written = sorted(out.iterdir())
    assert len(written) == 9
    for path in written:
        with Image.open(path) as picture:
            assert picture.size == (48, 48)
    with Image.open(out / "000001.png") as picture:  # the sources are sorted
        assert picture.getpixel((0, 0)) == (255, 255, 255), "what was transparent is not white"


def test_without_a_folder_there_are_pictures_in_any_environment():
    # Pillow's two categories for what it finds remarkable in a picture, here one of some package's.
    odd = ["UserWarning", "RuntimeWarning"]
    done = run("images", "--workers", "2", "--size", "16", "--times", "1", ignored=odd)
    assert re.match(r"images, ringpool: [1-9]\d* of \d+ (pictures of the|drawn pictures)", done.stdout)


def test_a_folder_without_pictures_is_an_error(tmp_path):
    assert run("images", "--folder", str(tmp_path), code=1).stderr == f"There are no pictures in {tmp_path}.\n"


def test_where_no_package_brings_pictures_some_are_drawn(load, monkeypatch, capsys):
    images = load("images")
    monkeypatch.setattr(images, "shipped_pictures", lambda: [])
    monkeypatch.setattr(sys, "argv", ["images", "--executor", "serial", "--times", "2", "--size", "20"])
    images.main()
    assert "16 of 16 drawn pictures (the installed packages bring none)" in capsys.readouterr().out


def test_pictures_that_the_program_draws_differ(load, tmp_path):
    images = load("images")
    drawn = images.draw_pictures(tmp_path, 3)
    tasks = [images.Task(str(path), str(tmp_path / f"{path.stem}.webp")) for path in drawn]
    images.check(tasks, [images.convert(task, 20, "WEBP") for task in tasks], 20, "WEBP")
    assert len({images.checksum(task.target, 20, "WEBP") for task in tasks}) == 3


@pytest.mark.parametrize("executor", EXECUTORS)
def test_the_data_set_is_counted_and_checked(executor):
    done = run("dataset", "--executor", executor, "--workers", "2", *SMALL["dataset"])
    assert f"data set, {executor}: 20 source files, " in done.stdout
    assert "70,123 rows in " in done.stdout and done.stdout.count("output checked") == 2
    assert not done.stderr


def test_the_simulation_gives_the_same_digits_with_any_executor_workers_and_start_method():
    runs = [("1", each) for each in EXECUTORS] + [("3", "ringpool"), ("3", "threads")]
    done = [run("simulation", "--executor", each, "--workers", n, *SMALL["simulation"]) for n, each in runs]
    done.append(run("simulation", "--workers", "2", "--start-method", "spawn", *SMALL["simulation"]))
    for each in done:
        assert "20,500 draws in 21 blocks" in each.stdout and "output checked" in each.stdout and not each.stderr
    assert len({re.findall(r"price (\d\.\d{10,}) ", each.stdout)[0] for each in done}) == 1


@pytest.mark.parametrize(
    "words",
    ["simulation --draws 0", "simulation --draws 999", "dataset --rows 0", "images --size x", "images --workers 0"],
)
def test_numbers_that_make_no_sense_are_errors(load, monkeypatch, capsys, words):
    job, *options = words.split()
    monkeypatch.setattr(sys, "argv", [job, *options])
    with pytest.raises(SystemExit) as ended:
        load(job).main()
    assert ended.value.code == 2
    assert re.search("must be at least|no whole number of at least", capsys.readouterr().err)


def test_an_unknown_executor_is_an_error_that_names_those_there_are():
    said = run("simulation", "--executor", "unknown", code=2).stderr
    assert all(name in said for name in ("ringpool", "stdlib", "mp.Pool", "threads", "serial", "loky", "mpire"))


@pytest.mark.parametrize("package", ["loky", "joblib", "mpire", "pebble"])
def test_an_executor_that_is_not_installed_is_an_error_that_names_its_package(load, monkeypatch, package):
    executors = load("executors")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(SystemExit, match=f"not installed: pip install {package}"), executors.open_pool(package, 1):
        pass


# ---- wrong output is found ----


def exit_of(module: ModuleType, monkeypatch: pytest.MonkeyPatch, *options: str) -> str:
    """What a job that is run in this process says when it ends; that it is a text makes the exit status 1."""
    monkeypatch.setattr(sys, "argv", [module.__name__, "--executor", "serial", *options])
    with pytest.raises(SystemExit) as ended:
        module.main()
    assert isinstance(ended.value.code, str)
    return ended.value.code


def test_pictures_of_other_pixels_size_or_format_are_found(load, monkeypatch, folder, tmp_path):
    images = load("images")
    paths = [path for path in images.pictures_in(folder) if path.name != "broken.png"]
    tasks = [images.Task(str(path), str(tmp_path / f"{path.stem}.png")) for path in paths]
    errors = [images.convert(task, 20, "PNG") for task in tasks]
    images.check(tasks, errors, 20, "PNG")
    with pytest.raises(images.WrongResult, match="should be"):
        images.check(tasks, errors, 21, "PNG")
    with pytest.raises(images.WrongResult, match="should be"):
        images.check(tasks, errors, 20, "WEBP")
    with pytest.raises(images.WrongResult, match="2 results of 3"):
        images.check(tasks, errors[1:], 20, "PNG")
    with pytest.raises(images.WrongResult, match="can be read here, but a worker says: nonsense"):
        images.check(tasks, ["nonsense", *errors[1:]], 20, "PNG")
    with monkeypatch.context() as patch:
        patch.setattr(images, "render", lambda source, size: Image.new("RGB", (size, size)))
        images.convert(tasks[1], 20, "PNG")
    with pytest.raises(images.WrongResult, match="has other pixels"):
        images.check(tasks, errors, 20, "PNG")
    Path(tasks[1].target).write_bytes(Path(tasks[0].target).read_bytes()[:-30])
    with pytest.raises(images.WrongResult, match="does not open"):
        images.check(tasks, errors, 20, "PNG")


def test_wrong_pictures_end_the_job(load, monkeypatch, folder):
    images = load("images")
    monkeypatch.setattr(images, "render", lambda source, size: Image.new("RGB", (size, size + 1)))
    assert "should be ((30, 30), 'JPEG')" in exit_of(images, monkeypatch, "--folder", str(folder), "--size", "30")


def test_source_files_that_are_counted_wrong_are_found(load, tmp_path):
    dataset = load("dataset")
    path = tmp_path / "module.py"
    path.write_text('class A:\n    """def b(): pass"""\n    async def c(self): ...\n\ndef d(): ...  # class E')
    paths, counts = [str(path)], [dataset.count_nodes(str(path))]
    assert counts[0].lines == 5 and dataset.definitions(counts[0].kinds) == (2, 1)
    dataset.check_sources(paths, counts)
    for wrong in (
        counts[0]._replace(lines=6),
        counts[0]._replace(kinds=None),
        counts[0]._replace(kinds=counts[0].kinds | {"FunctionDef": 2}),
        counts[0]._replace(kinds=counts[0].kinds | {"ClassDef": 0}),
    ):
        with pytest.raises(dataset.WrongResult, match=r"module\.py"):
            dataset.check_sources(paths, [wrong])
    with pytest.raises(dataset.WrongResult, match="0 results of 1"):
        dataset.check_sources(paths, [])


@pytest.mark.parametrize("rows", [1, 7, 70_000, 140_001])
def test_blocks_hold_each_row_once_and_a_wrong_sum_is_found(load, tmp_path, rows):
    dataset = load("dataset")
    path = tmp_path / "orders.csv"
    dataset.write_orders(path, rows)
    blocks = dataset.cut(path, 100_000)
    assert b"".join(path.read_bytes()[b.start : b.start + b.size] for b in blocks).count(b"\n") == rows
    sales = dataset.total(map(dataset.add_up, blocks))
    dataset.check_orders(rows, sales)
    for wrong in (
        sales._replace(rows=rows + 1),
        sales._replace(numbers=sales.numbers + 1),
        sales._replace(turnover=sales.turnover + 1),
    ):
        with pytest.raises(dataset.WrongResult, match="and should be"):
            dataset.check_orders(rows, wrong)


def test_wrong_counts_end_the_job(load, monkeypatch):
    dataset = load("dataset")
    monkeypatch.setattr(dataset, "sources", lambda limit: [__file__])
    monkeypatch.setattr(dataset, "count_nodes", lambda path: dataset.Counts(-1, {}))
    assert "lines, not -1" in exit_of(dataset, monkeypatch, *SMALL["dataset"])


def test_wrong_blocks_and_prices_are_found(load):
    simulation = load("simulation")
    blocks = simulation.cut(20_500, 1000)
    sums = [simulation.simulate(block, 1) for block in blocks]
    simulation.check(blocks, sums, 1)
    with pytest.raises(simulation.WrongResult, match="Block 0 gives"):
        simulation.check(blocks, sums, 2)
    with pytest.raises(simulation.WrongResult, match="Block 3 gives"):
        simulation.check(blocks, [*sums[:3], sums[4], sums[3], *sums[5:]], 1)
    with pytest.raises(simulation.WrongResult, match="are not those"):
        simulation.check(blocks, sums[1:], 1)


def test_a_wrong_price_ends_the_job(load, monkeypatch):
    simulation = load("simulation")
    sums = {"payoffs": 3000.0, "squares": 20_000.0}
    right = simulation.simulate
    monkeypatch.setattr(simulation, "simulate", lambda block, seed: right(block, seed)._replace(**sums))
    assert "The price is 3.0 +- " in exit_of(simulation, monkeypatch, "--draws", "20000", "--block", "1000")
