"""`python -m ringpool bench`: its arguments, arithmetic, cases and exit status. Nothing is timed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ringpool import bench
from ringpool.__main__ import main, parse
from ringpool.bench import cases, report

pytest.importorskip("rich")

SOURCE = '''"""A module."""

import os


class Outer:
    """A class."""

    class Inner:
        def method(self):
            return [lambda: os]

    async def later(self): ...


def function():
    return "\\d"
'''


class OffByOne(ProcessPoolExecutor):
    """An executor whose results are wrong."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        if fn is cases.square:
            return super().submit(cases.square, args[0] + 1)
        return super().submit(fn, *args, **kwargs)

    def map(self, fn: Callable[..., Any], *iterables: Any, **kwargs: Any) -> Iterator[Any]:
        answers = list(super().map(fn, *iterables, **kwargs))
        return iter(answers[1:] + answers[:1])


STDLIB = cases.CONTENDERS[0]
WRONG = cases.Contender("wrong", f"{__name__}:OffByOne")
TWIN = cases.Contender("twin", STDLIB.target)


def command(*words: str) -> list[str]:
    return ["bench", "--quick", "--rounds", "1", "--scale", "0.02", *words]


def test_arguments_have_defaults_that_depend_on_quick() -> None:
    full, quick = parse(["bench"]), parse(["bench", "--quick"])
    assert (full.rounds, quick.rounds) == (5, 3)
    assert full.workers >= 2
    assert full.cases == list(cases.CASES)
    assert full.start_method in {"fork", "forkserver", "spawn"}
    assert full.json is None


def test_arguments_are_taken() -> None:
    words = "bench --cases burst,idle --workers 3 --rounds 2 --start-method spawn --json out.json"
    options = parse(words.split())
    assert options.cases == ["burst", "idle"]
    assert (options.workers, options.rounds, options.start_method) == (3, 2, "spawn")
    assert options.json == "out.json"


@pytest.mark.parametrize(
    "words",
    [
        "",
        "bench --cases nosuch",
        "bench --cases ,",
        "bench --workers 0",
        "bench --rounds x",
        "bench --start-method thread",
    ],
)
def test_arguments_that_make_no_sense_exit_with_status_2(words: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(words.split())
    assert stopped.value.code == 2


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip() == f"ringpool {report.installed_version()}"


def test_help_states_the_question_of_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    text = capsys.readouterr().out
    for case in cases.CASES.values():
        assert case.question.endswith("?")
        assert case.question in text


def test_a_module_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "known.py"
    path.write_text(SOURCE)
    found = cases.measure_module(str(path))
    assert (found.functions, found.classes, found.lines) == (3, 2, 17)
    # Module > Outer > Inner > method > Return > List > Lambda > Name > Load.
    assert found.depth == 9
    path.write_text("x = 1\n")
    # Module, Assign, Name, Store, Constant.
    assert cases.measure_module(str(path)) == cases.Measures(5, 0, 0, 1, 4)


def test_files_that_do_not_parse_are_left_out(tmp_path: Path) -> None:
    good, bad, worse = (tmp_path / name for name in ("good.py", "bad.py", "worse.py"))
    good.write_text("x = 1\n")
    bad.write_text("def\n")
    worse.write_bytes(b"# coding: nosuch\n")
    paths, measured, _ = cases.measured_in_a_loop((str(bad), str(good), str(worse)))
    assert paths == [str(good)]
    assert len(measured) == 1


def test_standard_library_is_found_without_site_packages() -> None:
    files = cases.stdlib_files()
    assert any(path.endswith("concurrent/futures/process.py") for path in files)
    assert not any("site-packages" in path for path in files)
    assert list(files) == sorted(files)


def test_ratio_says_how_many_times_better_the_second_is() -> None:
    assert report.ratios([300.0, 200.0], [3.0, 4.0], higher_is_better=False) == [100, 50]
    assert report.ratios([10.0, 20.0], [40.0, 10.0], higher_is_better=True) == [4, 0.5]


def test_ratio_is_taken_round_by_round_and_drops_a_round_that_one_lacks() -> None:
    assert report.ratios([2.0, 8.0, 9.0], [1.0, 2.0], higher_is_better=False) == [2, 4]


def test_ratio_of_nothing_is_not_a_number() -> None:
    for first, second in ([0.0], [1.0]), ([1.0], [0.0]), ([-1.0], [1.0]):
        assert math.isnan(report.ratios(first, second, higher_is_better=True)[0])
        assert math.isnan(report.ratios(first, second, higher_is_better=False)[0])


def test_spread_is_median_and_range() -> None:
    assert report.spread([3.0, 1.0, 20000.0]) == "3.00 [1.00-20,000]"
    assert report.spread([math.nan, 12.34]) == "12.3 [12.3-12.3]"
    assert report.spread([math.nan]) == "-"
    assert report.spread([]) == "-"


def test_percentile_is_the_nearest_rank() -> None:
    samples = [float(number) for number in range(100, 0, -1)]
    assert cases.percentile(samples, 99) == 99
    assert cases.percentile(samples, 100) == 100
    assert cases.percentile([5.0], 99) == 5


def test_contenders_take_turns_and_losses_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cases, "CASES", {})
    order: list[str] = []

    @cases.case("made up", cases.Metric("time", "s"), cases.Metric("rate", "/s", higher_is_better=True))
    def _made_up(setting: cases.Setting) -> dict[str, float]:
        """Which is better?"""
        order.append(setting.contender.name)
        return {"time": 2.0, "rate": 8.0} if setting.contender is STDLIB else {"time": 1.0, "rate": 2.0}

    found = report.Report(("stdlib", "ringpool"), 2, "fork", 3, quick=True)
    bench.measure(found, ["made up"], 1.0)
    assert order == ["stdlib", "ringpool", "ringpool", "stdlib", "stdlib", "ringpool"]
    assert found.losses() == ["made up rate"]
    metrics = found.as_json()["cases"][0]["metrics"]
    assert metrics[0]["rounds"] == {"stdlib": [2, 2, 2], "ringpool": [1, 1, 1]}
    assert [metric["ratios"] for metric in metrics] == [[2, 2, 2], [0.25, 0.25, 0.25]]


@pytest.mark.parametrize("name", ["burst", "stdlib"])
def test_a_wrong_result_exits_with_status_1_and_says_whose_it_is(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cases, "CONTENDERS", (STDLIB, WRONG))
    assert main(command("--cases", name)) == 1
    captured = capsys.readouterr()
    assert "wrong gave a wrong answer" in captured.err
    assert "cut short" in captured.out


def test_a_missing_result_is_a_wrong_answer() -> None:
    with pytest.raises(cases.WrongAnswer, match="stdlib gave 1 results in a test, not 2"):
        cases.Setting(STDLIB, 2, "fork").check("a test", [1], [1, 2])


def test_ctrl_c_prints_what_was_measured_and_exits_with_status_130(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(cases, "CASES", {})
    calls: list[str] = []

    @cases.case("made up", cases.Metric("time", "s"))
    def _made_up(setting: cases.Setting) -> dict[str, float]:
        """Who is interrupted?"""
        calls.append(setting.contender.name)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return {"time": 4321.0}

    written = tmp_path / "out.json"
    assert main(["bench", "--rounds", "5", "--json", str(written)]) == 130
    out = capsys.readouterr().out
    assert "4,321" in out
    assert "cut short" in out
    document = json.loads(written.read_text())
    assert document["cut_short"]
    assert document["cases"][0]["metrics"][0]["ratios"] == [1.0]


def test_without_rich_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(command()) == 1
    assert "install 'ringpool[bench]'" in capsys.readouterr().err


@pytest.mark.parametrize("name", list(cases.CASES))
def test_every_case_yields_its_metrics(name: str) -> None:
    case = cases.CASES[name]
    setting = cases.Setting(TWIN, 2, "fork", quick=True, scale=0.02)
    found = case.measure(setting)
    assert set(found) == {metric.name for metric in case.metrics}
    assert all(math.isfinite(value) for value in found.values())


def test_import_of_ringpool_does_not_import_the_benchmark() -> None:
    probe = "import ringpool, sys; sys.exit(any(name.startswith('ringpool.bench') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", probe], check=True, timeout=60)


def test_the_command_compares_both_executors_on_this_machine(tmp_path: Path) -> None:
    written = tmp_path / "out.json"
    done = subprocess.run(
        [sys.executable, "-m", "ringpool", *command("--cases", "roundtrip,stdlib", "--json", str(written))],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "roundtrip p99" in done.stdout
    assert "stdlib wall" in done.stdout
    document = json.loads(written.read_text())
    assert [case["name"] for case in document["cases"]] == ["roundtrip", "stdlib"]
    assert not document["cut_short"]
    for case in document["cases"]:
        for metric in case["metrics"]:
            assert {name: len(rounds) for name, rounds in metric["rounds"].items()} == {
                "stdlib": 1,
                "ringpool": 1,
            }
