"""`python -m ringpool bench`: its arguments, arithmetic, cases, turns and exit status. Nothing is timed."""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import contenders as odd
import optional
import pytest
from waiting import wait_until

from ringpool.__main__ import main, parse
from ringpool.bench import cases, measure, page, report, run
from ringpool.bench.contenders import CONTENDERS, FIRST, Cannot, Contender
from ringpool.bench.measure import Outcome
from ringpool.bench.report import Record, Report
from ringpool.bench.setting import Setting, WrongAnswer, percentile

optional.module("rich")

LIMIT = 60.0  # s; for what should take a second
STDLIB = CONTENDERS["stdlib"]


def command(*words: str) -> list[str]:
    return ["bench", "--quick", "--rounds", "1", "--scale", "0.02", *words]


def found(value: float = 1.0, **more: Any) -> Outcome:
    metric = {"name": "time", "unit": "s", "higher_is_better": False, "x": None, "series": "", "value": value, **more}
    return Outcome("found", "", [metric])


def empty_report(*names: str, rounds: int = 3) -> Report:
    return Report("bench", dict.fromkeys(names or ("ringpool", "stdlib"), "1.0"), [], 2, "fork", rounds, quick=True)


# ---- the command line ----


def test_arguments_have_defaults_that_depend_on_quick() -> None:
    full, quick = parse(["bench"]), parse(["bench", "--quick"])
    assert (full.rounds, quick.rounds) == (5, 3)
    assert full.workers >= 2
    assert full.cases == list(cases.CASES)
    assert full.against == ["stdlib"]
    assert full.start_method in {"fork", "forkserver", "spawn"}
    assert full.json is None


def test_arguments_are_taken() -> None:
    words = "bench --cases burst,io,burst --against loky,mp.Pool --workers 3 --rounds 2 --start-method spawn"
    options = parse([*words.split(), "--json", "out", "--html", "page"])
    assert (options.cases, options.against) == (["burst", "io"], ["loky", "mp.Pool"])
    assert (options.workers, options.rounds, options.start_method) == (3, 2, "spawn")
    assert (options.json, options.html) == ("out", "page")


@pytest.mark.parametrize(
    "words",
    [
        "",
        "bench --cases nosuch",
        "bench --cases ,",
        "bench --against nosuch",
        "bench --against ringpool",
        "bench --workers 0",
        "bench --rounds x",
        "bench --start-method thread",
        "bench --limit 0",
        "bench --limit nan",
        "bench --limit soon",
        "bench --json same --html same",
        "bench --json /no/such/folder/file",
        "bench --html /",
    ],
)
def test_arguments_that_make_no_sense_exit_with_status_2(words: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse(words.split())
    assert stopped.value.code == 2
    assert "invalid" not in capsys.readouterr().err.replace("invalid choice", "")  # argparse's words for a bare error


def test_a_file_that_cannot_be_written_is_refused_and_the_trial_leaves_no_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parse(["bench", "--json", str(tmp_path)])
    assert f"{tmp_path} cannot be written: Is a directory" in capsys.readouterr().err
    old, new, pipe = tmp_path / "old", tmp_path / "new", tmp_path / "pipe"
    old.write_text("kept until the end")
    os.mkfifo(pipe)
    assert parse(["bench", "--json", str(old), "--html", str(new)]).html == str(new)
    assert old.read_text() == "kept until the end" and not new.exists()
    assert parse(["bench", "--json", str(pipe)]).json == str(pipe)  # to open it would block


def test_all_is_every_name() -> None:
    options = parse(["bench", "--against", "all", "--cases", "all"])
    assert options.cases == list(cases.CASES)
    assert {"stdlib", "mp.Pool", "ray"} < set(options.against) and not {"ringpool", "threads"} & set(options.against)


def test_version_is_that_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.strip() == f"ringpool {FIRST.version()}"


def test_help_states_the_question_of_every_case(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["bench", "--help"])
    text = capsys.readouterr().out
    for case in cases.CASES.values():
        assert case.question.endswith("?") or "?" in case.question
        assert case.question in text


def test_without_rich_one_sentence_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert main(command()) == 1
    assert "install 'ringpool[bench]'" in capsys.readouterr().err


def test_import_of_ringpool_does_not_import_the_benchmark() -> None:
    probe = "import ringpool, sys; sys.exit(any(name.startswith('ringpool.bench') for name in sys.modules))"
    subprocess.run([sys.executable, "-c", probe], check=True, timeout=LIMIT)


# ---- arithmetic ----


def test_ratio_says_how_many_times_better_the_first_is() -> None:
    assert report.ratios([3.0, 4.0], [300.0, 200.0], higher_is_better=False) == [100, 50]
    assert report.ratios([40.0, 10.0], [10.0, 20.0], higher_is_better=True) == [4, 0.5]


def test_ratio_of_nothing_is_not_a_number() -> None:
    for first, other in ([0.0], [1.0]), ([1.0], [0.0]), ([-1.0], [1.0]), ([math.nan], [1.0]), ([1.0], [math.nan]):
        assert math.isnan(report.ratios(first, other, higher_is_better=True)[0])
        assert math.isnan(report.ratios(first, other, higher_is_better=False)[0])


def test_spread_is_median_and_range() -> None:
    assert report.spread([3.0, 1.0, 20000.0]) == "3.00 [1.00-20.0k]"
    assert report.spread([math.nan, 12.34]) == "12.3"
    assert report.spread([math.nan]) == "-"
    assert report.spread([]) == "-"


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (0, "0.00"),
        (0.00123, "0.0012"),
        (0.092, "0.09"),
        (9.996, "10.0"),
        (99.96, "100"),
        (2005.4, "2,005"),
        (9999.6, "10.0k"),
        (815_836, "816k"),
        (999_600, "1.00M"),
        (1.2e9, "1.20G"),
        (-12_345, "-12.3k"),
    ],
)
def test_numbers_have_about_three_digits(value: float, says: str) -> None:
    assert report.brief(value) == says


def test_percentile_is_the_nearest_rank() -> None:
    samples = [float(number) for number in range(100, 0, -1)]
    assert percentile(samples, 99) == 99
    assert percentile(samples, 100) == 100
    assert percentile([5.0], 99) == 5


def test_a_missing_result_is_a_wrong_answer() -> None:
    with pytest.raises(WrongAnswer, match="stdlib gave 1 results in a test, not 2"):
        Setting(STDLIB, 2, "fork").check("a test", [1], [1, 2])


def test_each_round_begins_with_the_next() -> None:
    assert [run.turns(["a", "b", "c"], number) for number in range(4)] == [
        ["a", "b", "c"],
        ["b", "c", "a"],
        ["c", "a", "b"],
        ["a", "b", "c"],
    ]


def test_a_record_keeps_every_round_and_compares_round_by_round() -> None:
    record = Record(cases.CASES["burst"], ["ringpool", "stdlib", "loky"])
    for number, (own, theirs) in enumerate([(2.0, 8.0), (4.0, 2.0)]):
        record.add(number, "stdlib", found(theirs))
        record.add(number, "ringpool", found(own))
    record.add(0, "loky", Outcome("failed", "OSError: no"))
    record.add(1, "loky", found(4.0))
    (metric,) = record.metrics()
    assert metric["rounds"]["ringpool"] == [2, 4] and metric["rounds"]["stdlib"] == [8, 2]
    assert math.isnan(metric["rounds"]["loky"][0]) and metric["rounds"]["loky"][1] == 4
    assert metric["ratios"]["stdlib"] == [4, 0.5] and metric["ratios"]["loky"][1] == 1
    assert record.failures() == {"loky": ["round 1: OSError: no"]}
    assert record.ends("loky") == ""


def test_a_contender_that_cannot_or_is_late_is_not_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def take(case: str, setting: Setting, limit_s: float) -> Outcome:
        name = setting.contender.name
        asked.append(name)
        return {"loky": Outcome("late", "too long"), "mp.Pool": Outcome("cannot", "no way")}.get(name, found())

    monkeypatch.setattr(measure, "take", take)
    filled = empty_report("ringpool", "stdlib", "loky", "mp.Pool")
    run.fill(filled, ["burst"], 1.0, 1.0)
    assert [asked.count(name) for name in ("ringpool", "stdlib", "loky", "mp.Pool")] == [3, 3, 1, 1]
    assert asked[:4] == ["ringpool", "stdlib", "loky", "mp.Pool"] and asked[4] == "stdlib"
    assert filled.records[0].failures() == {
        "loky": ["round 1: too long; not tried again"],
        "mp.Pool": ["cannot: no way"],
    }


def test_losses_are_named_and_a_wrong_result_is_an_error() -> None:
    report = empty_report()
    record = Record(cases.CASES["burst"], list(report.contenders))
    report.records.append(record)
    record.add(0, "ringpool", found(2.0))
    record.add(0, "stdlib", found(1.0))
    assert report.losses() == ["burst time (stdlib)"]
    assert not report.wrong()
    record.add(1, "stdlib", Outcome("failed", "OSError"))
    assert not report.wrong()  # its own affair
    record.add(1, "ringpool", Outcome("failed", "OSError"))
    assert report.wrong()
    record.add(1, "ringpool", found())
    record.add(1, "stdlib", Outcome("wrong", "WrongAnswer: x"))
    assert report.wrong()


def test_warnings_say_when_cores_are_few_or_busy() -> None:
    report = empty_report()
    report.machine.update(cpus=3, load=0.2)
    assert report.warnings() == []
    report.machine.update(cpus=2, load=1.5)
    few, busy = report.warnings()
    assert "2 cores for 2 workers" in few and "busy" in busy
    report.machine.update(cpus=1)
    assert "1 core for 2 workers" in report.warnings()[0]


def test_a_narrow_terminal_shows_every_digit() -> None:
    from rich.console import Console

    report = empty_report()
    report.records.append(Record(cases.CASES["burst"], list(report.contenders)))
    report.records[0].add(0, "ringpool", found(123.0))
    report.records[0].add(1, "ringpool", found(456.0))
    report.records[0].add(1, "stdlib", found(789.0))
    console = Console(width=40, file=io.StringIO())
    console.print(report.table())
    text = console.file.getvalue()
    assert "\u2026" not in text  # an ellipsis
    assert all(len(line) <= 40 for line in text.splitlines())


# ---- measurements, each in an interpreter of its own ----


def setting_of(contender: Contender) -> Setting:
    return Setting(contender, 2, "fork", quick=True, scale=0.02)


def test_a_wrong_answer_is_found() -> None:
    for name in ("burst", "map"):
        outcome = measure.take(name, setting_of(odd.WRONG), LIMIT)
        assert outcome.kind == "wrong" and "wrong gave a wrong answer" in outcome.message


def test_what_fails_says_why() -> None:
    assert measure.take("burst", setting_of(odd.FAILING), LIMIT) == Outcome("failed", "OSError: no such library here")
    outcome = measure.take("burst", setting_of(odd.ENDING), LIMIT)
    assert outcome == Outcome("failed", "the interpreter ended with status 3: a crash")


def _command_line(pid: str) -> bytes:
    """Empty if it has ended."""
    try:
        return Path("/proc", pid, "cmdline").read_bytes()
    except OSError:
        return b""


def test_what_hangs_is_ended_with_all_that_it_has_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started = tmp_path / "started"
    monkeypatch.setenv(odd.STARTED, str(started))

    def wait(child: subprocess.Popen[bytes], timeout: float | None = None, real: Any = subprocess.Popen.wait) -> int:
        if timeout is None:
            return real(child)
        wait_until(started.exists, "all that it starts")
        raise subprocess.TimeoutExpired(child.args, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    outcome = measure.take("burst", setting_of(odd.HANGING), 60.0)
    assert outcome == Outcome("late", "TimeoutError: not done after 60 s")
    pid, block = started.read_text().split()
    wait_until(lambda: not _command_line(pid) and not Path("/dev/shm", block).exists(), "nothing left of it")


def test_what_has_begun_though_its_start_was_interrupted_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    begun = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            begun.append(self)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Interrupted)
        with pytest.raises(KeyboardInterrupt):
            measure.take("burst", setting_of(odd.HANGING), LIMIT)
    assert begun[0].wait(LIMIT) == -signal.SIGKILL


def test_what_a_library_cannot_do_is_said() -> None:
    outcome = measure.take("asyncio", setting_of(CONTENDERS["mp.Pool"]), LIMIT)
    assert outcome.kind == "cannot" and "asyncio cannot await" in outcome.message
    with pytest.raises(Cannot, match="reason"):
        from ringpool.bench.contenders import cannot

        cannot("reason")(1, 2)


@pytest.mark.ci
@pytest.mark.parametrize("name", ["mp.Pool", "loky", "mpire", "pebble", "joblib"])
def test_every_library_that_is_there_does_what_it_is_asked_for(name: str) -> None:
    if not CONTENDERS[name].installed():
        optional.lack(name)
    for case in ("as_completed", "map", "chunked map"):
        assert measure.take(case, setting_of(CONTENDERS[name]), LIMIT).kind == "found"
    if CONTENDERS[name].after_a_kill:
        outcome = measure.take("recovery", setting_of(CONTENDERS[name]), LIMIT)
        assert outcome == Outcome("cannot", CONTENDERS[name].after_a_kill)


@pytest.mark.ci
@pytest.mark.deadline(240)
def test_the_command_measures_every_case(tmp_path: Path) -> None:
    written = tmp_path / "out.json"
    drawn = tmp_path / "out.html"
    words = command("--json", str(written), "--html", str(drawn))
    done = subprocess.run([sys.executable, "-m", "ringpool", *words], capture_output=True, text=True, timeout=230)
    assert done.returncode == 0, done.stderr
    assert "round trip hot p99" in done.stdout and "ratio above 1" in done.stdout
    document = json.loads(written.read_text())
    assert document["format"] == 1 and not document["cut_short"]
    assert document["contenders"] == ["ringpool", "stdlib"]
    assert document["command"].startswith("python -m ringpool bench --quick")
    assert set(document["versions"]) == set(document["contenders"])
    by_name = {case["name"]: case for case in document["cases"]}
    assert list(by_name) == list(cases.CASES)
    for case in document["cases"]:
        assert case["metrics"], case["name"]
        assert not case["failures"], case
        for metric in case["metrics"]:
            contenders = [*document["contenders"], *cases.CASES[case["name"]].also]
            assert list(metric["rounds"]) == contenders
            assert all(len(rounds) == 1 for rounds in metric["rounds"].values())
            assert list(metric["ratios"]) == contenders[1:]
            (own,) = metric["rounds"]["ringpool"]
            assert own is not None and math.isfinite(own), (case["name"], metric)
    (hot, idle) = by_name["round trip"]["distributions"]
    assert [hot["name"], idle["name"]] == ["hot", "idle"]
    for values in (*hot["rounds"]["ringpool"], *hot["rounds"]["stdlib"]):
        assert len(values) == len(hot["quantiles"]) and values == sorted(values)
    for name in ("payload", "grain", "scaling"):
        points = [metric["x"]["value"] for metric in by_name[name]["metrics"]]
        assert len(set(points)) >= 2
    assert drawn.read_text() == page.render(document)
    for kind in ("ratios", "latency", "payload", "grain", "scaling"):
        assert f'class="chart {kind}"' in drawn.read_text()
    assert sorted(metric["x"]["value"] for metric in by_name["scaling"]["metrics"]) == [
        metric["x"]["value"] for metric in by_name["scaling"]["metrics"]
    ]


def test_a_contender_that_is_not_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setitem(CONTENDERS, "loky", Contender("loky", "no_such_package", "nowhere:nothing"))
    monkeypatch.setattr(measure, "take", lambda *_: found())
    written = tmp_path / "out.json"
    assert main(command("--against", "loky,stdlib", "--cases", "burst", "--json", str(written))) == 0
    said = capsys.readouterr()
    assert "Not installed: loky." in said.out
    assert "Not installed: loky (pip install no_such_package)." in said.err
    document = json.loads(written.read_text())
    assert (document["missing"], document["contenders"]) == (["loky"], ["ringpool", "stdlib"])


def test_a_wrong_result_exits_with_status_1_and_says_whose_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    outcomes = iter([found(), Outcome("wrong", "WrongAnswer: stdlib gave a wrong answer")])
    monkeypatch.setattr(measure, "take", lambda *_: next(outcomes))
    assert main(command("--cases", "burst")) == 1
    assert "stdlib gave a wrong answer" in capsys.readouterr().out


def test_files_are_written_before_the_table_and_one_that_cannot_be_does_not_cost_the_other(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def gone(report: Report) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(measure, "take", lambda *_: found())
    drawn = tmp_path / "out.html"
    words = command("--cases", "burst", "--json", "/dev/full", "--html", str(drawn))
    assert main(words) == 1
    assert "/dev/full cannot be written: No space left on device" in capsys.readouterr().err
    assert drawn.read_text().startswith("<!doctype html>")
    drawn.unlink()
    monkeypatch.setattr(Report, "table", gone)
    with pytest.raises(BrokenPipeError):
        main(words)
    assert drawn.exists()


@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_leaves_what_was_measured(signal_: signal.Signals, tmp_path: Path) -> None:
    written, drawn = tmp_path / "out.json", tmp_path / "out.html"
    files = ["--json", str(written), "--html", str(drawn)]
    words = ["bench", "--cases", "burst,io", "--rounds", "50", "--scale", "0.1", *files]
    process = subprocess.Popen(
        [sys.executable, "-m", "ringpool", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    begun: set[str] = set()

    def three_have_begun() -> bool:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        begun.update(child for child in children if b"ringpool.bench.measure" in _command_line(Path("/proc", child)))
        return len(begun) >= 3

    wait_until(three_have_begun, "the third measurement")
    os.kill(process.pid, signal_)
    output, errors = process.communicate(timeout=LIMIT)
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert "cut short" in output
    document = json.loads(written.read_text())
    assert document["cut_short"]
    assert "The run was cut short" in drawn.read_text()
    (metric,) = document["cases"][0]["metrics"]
    assert sum(value is not None for rounds in metric["rounds"].values() for value in rounds) >= 2
    wait_until(
        lambda: not any(b"ringpool.bench" in _command_line(Path("/proc", pid)) for pid in begun), "no measurement"
    )
