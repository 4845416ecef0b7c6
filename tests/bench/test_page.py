"""The page of a run: what is on it, and that a browser draws it."""

from __future__ import annotations

import base64
import json
import math
import re
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import optional
import pytest

from ringpool.bench import charts, page
from ringpool.bench.cases import Case
from ringpool.bench.measure import Outcome
from ringpool.bench.report import Record, Report
from ringpool.bench.setting import QUANTILES

CHROMIUM = optional.program("chromium")
NAMES = ["ringpool", "stdlib", "loky", "mpire", "pebble", "joblib", "mp.Pool", "ray", "dask", "threads"]
LIMIT = 120.0  # s; for a browser that starts for the first time


def metric(name: str, value: float, unit: str = "us", better: bool = False, x: Any = None, series: str = "") -> dict:
    place = None if x is None else dict(zip(("name", "unit", "value"), x, strict=True))
    return {"name": name, "unit": unit, "higher_is_better": better, "x": place, "series": series, "value": value}


def outcome(case: str, speed: float) -> Outcome:
    """What a contender of that speed might have measured."""
    metrics, distributions = [metric("time", 1000 / speed)], []
    if case == "round trip":
        values = [1000 / speed * (1 + quantile**8) for quantile in QUANTILES]
        distributions = [{"name": "hot", "unit": "us", "quantiles": list(QUANTILES), "values": values}]
    elif case == "payload":
        for kind in ("bytes", "float64"):
            for size in (16, 1 << 10, 64 << 10, 1 << 20, 128 << 20):
                metrics.append(metric(f"{size} {kind}", speed * size, "MB/s", True, ("payload", "bytes", size), kind))
    elif case == "grain":
        for grain in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
            x, share = ("grain", "s", grain), min(99, speed * grain * 1e5)
            metrics.append(metric(f"{grain}", share, "%", True, x, "efficiency"))
            metrics.append(metric(f"{grain}, rate", 0.02 * share / grain, "tasks/s", True, x, "throughput"))
    elif case == "scaling":
        for workers in (1, 2, 4):
            metrics.append(metric(f"{workers}", workers * 900, "tasks/s", True, ("workers", "", workers), "1 ms"))
    return Outcome("found", "", metrics, distributions)


def a_run(names: list[str] = NAMES, cases: tuple[str, ...] = ("round trip", "payload", "grain", "scaling")) -> Any:
    report = Report("python -m ringpool bench", dict.fromkeys(names, "1.0 <b>"), ["dask<"], 2, "fork", 3, quick=True)
    for case in cases:
        record = Record(Case(case, f"How long does {case} take & why <is> it?", None), names)
        for number in range(3):
            for place, name in enumerate(names):
                if place == 3 and number == 1:
                    record.add(number, name, Outcome("failed", "<script>it broke</script>"))
                else:
                    record.add(number, name, outcome(case, 100 / (place + 1) ** 2 * (1 + number * (place + 1) / 20)))
        report.records.append(record)
    return json.loads(json.dumps(report.as_json(), allow_nan=False))


def drawings(html: str) -> dict[str, list[ElementTree.Element]]:
    """The charts of a page by their kind; a chart that is not well-formed fails here."""
    found: dict[str, list[ElementTree.Element]] = {}
    for text in re.findall(r"<svg.*?</svg>", html, re.DOTALL):
        element = ElementTree.fromstring(text)
        found.setdefault(element.attrib["class"].removeprefix("chart "), []).append(element)
    return found


def test_each_kind_of_number_has_its_chart():
    found = drawings(page.render(a_run()))
    assert {kind: len(each) for kind, each in found.items()} == {
        "ratios": 1,
        "latency": 1,
        "payload": 2,
        "grain": 2,
        "scaling": 1,
    }
    for kind in ("latency", "payload", "grain", "scaling"):
        text = "".join(found[kind][0].itertext())
        assert all(name in text for name in NAMES), kind
    tooltips = [element.text or "" for element in found["latency"][0].iter("{http://www.w3.org/2000/svg}title")]
    assert len(tooltips) == len(NAMES) * len(QUANTILES)
    assert any(tip.startswith("ringpool, percentile 99: ") for tip in tooltips)


def test_curves_are_medians_where_the_axes_say():
    curve = charts.Curve("it", 0, [charts.Point(10, 50, 40, 60, "here"), charts.Point(1000, 100, 100, 100, "there")])
    (chart,) = drawings(
        charts.curves("kind", "title", charts.Axis("x", 10, 1000, [], True), charts.linear("y", [100]), [curve])
    )["kind"]
    dots = [
        (float(e.attrib["cx"]), float(e.attrib["cy"]))
        for e in chart.iter("{http://www.w3.org/2000/svg}circle")
        if list(e)
    ]
    left, right = charts.LEFT, charts.WIDTH - charts.RIGHT
    top, bottom = charts.TOP, charts.HEIGHT - charts.BOTTOM
    assert dots == [(left, (top + bottom) / 2), (right, top)]


def test_what_was_measured_is_on_the_page_in_numbers_and_as_data():
    run = a_run()
    html = page.render(run)
    assert "python -m ringpool bench" in html and "The run was cut short" not in html
    assert html.count("<h2>") == len(run["cases"]) + 1  # and the data
    data = re.search(r'href="data:application/json;base64,([^"]+)"', html)
    assert data and json.loads(base64.b64decode(data[1])) == run
    run["cut_short"] = True
    assert "The run was cut short" in page.render(run)


def test_a_losing_row_says_so():
    run = a_run(["slow", "fast"], ("round trip",))
    for metric_ in run["cases"][0]["metrics"]:
        metric_["ratios"] = {"fast": [0.5, 0.6, 2.0]}
    assert "0.60 [0.50-2.00] loses" in page.render(run)


def test_text_of_others_is_text():
    html = page.render(a_run())
    assert "<script" not in html and "<b>" not in html
    assert "&lt;script&gt;it broke" in html


def test_nothing_is_fetched():
    html = page.render(a_run())
    assert not re.findall(r'(?:src|href)="(?!data:)[^"]*"', html)
    assert "@import" not in html and "url(" not in html


@pytest.mark.parametrize("cases", [(), ("round trip",), ("scaling",)])
def test_a_run_of_few_cases_or_of_none_has_a_page(cases):
    assert (
        drawings(page.render(a_run(cases=cases))).keys()
        == {
            (): set(),
            ("round trip",): {"ratios", "latency"},
            ("scaling",): {"ratios", "scaling"},
        }[cases]
    )


def test_a_contender_that_measured_nothing_is_left_out_of_the_charts():
    run = a_run(["ringpool", "stdlib", "broken"])
    for case in run["cases"]:
        for each in case["metrics"]:
            each["rounds"]["broken"] = [None] * 3
            each["ratios"]["broken"] = [None] * 3
        for each in case["distributions"]:
            each["rounds"]["broken"] = []
    html = page.render(run)
    for found in drawings(html).values():
        assert all("broken" not in "".join(chart.itertext()) for chart in found)
    assert "<td>broken</td>" not in html


@pytest.mark.parametrize("values", [[1.0], [0.003, 7e9], [5, 5], [99.9, 100.1]])
def test_axes_hold_their_numbers(values):
    for axis in (
        charts.decades("x", values),
        charts.linear("x", values),
        charts.places("x", [(v, "") for v in values]),
    ):
        shares = [axis.share(value) for value in values]
        assert all(0 <= share <= 1 for share in shares)
        assert axis.low <= min(values) and max(values) <= axis.high
        assert 1 <= len(axis.ticks) <= 10
        assert all(0 <= axis.share(tick) <= 1 for tick, _ in axis.ticks)
    assert not math.isnan(charts.linear("x", [0]).share(0))


PROBE = """<script>
addEventListener("load", () => {
  const found = [...document.querySelectorAll("svg.chart")].map(svg => {
    const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
    const outside = [...svg.querySelectorAll("text")].filter(text => {
      const a = text.getBoundingClientRect();
      return a.left < box.left - 1 || a.right > box.right + 1 || a.top < box.top - 1 || a.bottom > box.bottom + 1;
    }).map(text => text.textContent);
    const curve = svg.querySelector(".curve, .range");
    return {kind: svg.classList[1], width: box.width, ratio: box.width / box.height / (view.width / view.height),
      letters: 12 * box.width / view.width, outside, stroke: getComputedStyle(curve).stroke,
      drawn: curve.getTotalLength()};
  });
  const result = document.createElement("pre");
  result.id = "probe";
  result.textContent = JSON.stringify({found, back: getComputedStyle(document.body).backgroundColor,
    wide: document.documentElement.scrollWidth > innerWidth});
  document.body.append(result);
});
</script>"""


def browse(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Load a page; its DOM is on stdout, what it writes to the console on stderr."""
    assert CHROMIUM
    fixed = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--enable-logging=stderr"]
    profile = f"--user-data-dir={path.parent / 'profile'}"
    words = [CHROMIUM, *fixed, profile, *options, "--dump-dom", path.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=True)


def console(ended: subprocess.CompletedProcess[str]) -> list[str]:
    return [line for line in ended.stderr.splitlines() if ":CONSOLE" in line]


@pytest.mark.ci
@pytest.mark.deadline(LIMIT + 30)
@pytest.mark.needs("chromium")
@pytest.mark.parametrize(("width", "scheme"), [(1400, "light"), (500, "dark")])
def test_a_browser_draws_every_chart_without_an_error(width, scheme, tmp_path):
    path = tmp_path / "page.html"
    path.write_text(page.render(a_run()).replace("</body>", PROBE + "</body>"))
    dark = f"--blink-settings=preferredColorScheme={0 if scheme == 'dark' else 1}"
    ended = browse(path, f"--window-size={width},3000", dark)
    assert not console(ended)
    probe = re.search(r'<pre id="probe">(.*?)</pre>', ended.stdout, re.DOTALL)
    assert probe, "the page was not loaded to its end"
    seen = json.loads(probe[1])
    assert sorted(each["kind"] for each in seen["found"]) == sorted(
        ["ratios", "latency", "payload", "payload", "grain", "grain", "scaling"]
    )
    for each in seen["found"]:
        assert each["outside"] == []
        assert each["width"] > 400 and each["drawn"] > 0
        assert each["letters"] > 9, "too small to read"
        assert each["ratio"] == pytest.approx(1, rel=0.02)
        assert each["stroke"] not in {"none", "rgb(0, 0, 0)"}
    red = int(re.findall(r"\d+", seen["back"])[0])
    assert red < 60 if scheme == "dark" else red > 200
    assert not seen["wide"], "the page scrolls sideways"


@pytest.mark.ci
@pytest.mark.deadline(LIMIT + 30)
@pytest.mark.needs("chromium")
def test_the_browser_would_tell_of_an_error(tmp_path: Path):
    """What the test above looks for is there when something is wrong."""
    path = tmp_path / "page.html"
    path.write_text(page.render(a_run()).replace("</body>", "<script>undefined.nothing</script></body>"))
    assert console(browse(path))
