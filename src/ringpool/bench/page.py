"""The report as one HTML page: charts, tables, the machine, the raw data. It needs no network and no script.

It is drawn from the JSON of a run (see `Report.as_json`), so a page can be made of a file as well as of a run.
"""

from __future__ import annotations

import base64
import json
import math
import statistics
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from . import charts
from .report import brief, counted, spread

STYLE = """
body { background: var(--back); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 0 auto; padding: 24px;
  max-width: 1360px; }
h1 { font-size: 24px; margin: 0 0 4px; } h2 { font-size: 17px; margin: 36px 0 8px; }
p { margin: 6px 0; max-width: 80ch; } .quiet { color: var(--quiet); } .loses { color: var(--c4); font-weight: 600; }
code { background: var(--panel); padding: 1px 5px; border-radius: 4px; overflow-wrap: anywhere; }
.charts { columns: 3 400px; column-gap: 16px; margin: 16px 0; }
.chart { display: block; width: 100%; height: auto; background: var(--panel); border-radius: 8px; margin-bottom: 16px;
  break-inside: avoid; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; }
th, td { text-align: right; padding: 3px 10px; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } th { color: var(--quiet); font-weight: 600; }
dl { display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; } dd { margin: 0; }
dt { color: var(--quiet); }
@media (max-width: 600px) { body { padding: 12px; } }
"""


def numbers(values: Sequence[float | None]) -> list[float]:
    """Return the numbers of a list in which None stands for what could not be measured."""
    return [value for value in values if value is not None]


def colours(run: dict[str, Any]) -> dict[str, int]:
    """Return the colour of each contender, the same in all charts; those that take part in one case only come last."""
    named = list(run["contenders"])
    for case in run["cases"]:
        for metric in case["metrics"]:
            named += metric["rounds"]
    return {name: number for number, name in enumerate(dict.fromkeys(named))}


def _point(x: float, values: Sequence[float], says: str) -> charts.Point:
    return charts.Point(x, statistics.median(values), min(values), max(values), says)


def ratio_chart(run: dict[str, Any], wanted: Callable[[str, str], bool] = lambda case, metric: True) -> str:
    """Return the chart of all ratios of the numbers that belong to no sweep; "" if there is none.

    Args:
        run: The JSON of a run.
        wanted: Whether to draw a metric, by the names of its case and its own.
    """
    colour = colours(run)
    drawn = []
    for case in run["cases"]:
        for metric in case["metrics"]:
            if metric["x"] is not None or not wanted(case["name"], metric["name"]):
                continue
            row = f"{case['name']}: {metric['name']}"
            for other, found in metric["ratios"].items():
                values = numbers(found)
                if values:
                    says = f"{row}: {spread(values)} times better than {other}"
                    drawn.append(charts.Ratio(row, other, colour[other], _point(0, values, says)))
    if not drawn:
        return ""
    first = run["contenders"][0]
    return charts.ratios("ratios", f"How many times better {first} is: median and range", first, drawn)


def latency_chart(run: dict[str, Any], distribution: dict[str, Any], title: str) -> str:
    """Return the chart of one distribution of latencies, by percentile; "" if there is none.

    Percentiles stand at equal steps, so that the slowest of a thousand have as much room as the rest.
    """
    colour, unit = colours(run), distribution["unit"]
    names = [f"{100 * quantile:g}" for quantile in distribution["quantiles"]]
    curves = []
    for contender, rounds in distribution["rounds"].items():
        if rounds:
            columns = list(enumerate(zip(*rounds, strict=True)))
            points = [
                _point(step, values, f"{contender}, percentile {names[step]}: {spread(values)} {unit}")
                for step, values in columns
            ]
            curves.append(charts.Curve(contender, colour[contender], points))
    if not curves:
        return ""
    ends = [end for curve in curves for point in curve.points for end in (point.low, point.high)]
    x_axis = charts.Axis("percentile", -0.3, len(names) - 0.7, list(enumerate(names)), log=False)
    y_axis = charts.decades(f"from submit to result, {unit}", ends)
    return charts.curves("latency", title, x_axis, y_axis, curves)


# What stands at the axes, where the name in the JSON would not do.
LABELS = {"payload": "size of the argument", "grain": "length of a task", "%": "work's share of the workers' time, %"}


def place(unit: str, value: float) -> str:
    """Write the place in a sweep: seconds and bytes by their usual multiples."""
    if unit == "s":
        size, name = next(pair for pair in ((1, "s"), (1e-3, "ms"), (1e-6, "us")) if value >= 0.999 * pair[0])
        return f"{value / size:g} {name}"
    if unit == "bytes":
        size, name = next(pair for pair in ((1 << 20, "MiB"), (1 << 10, "KiB"), (1, "B")) if value >= pair[0])
        return f"{value / size:g} {name}"
    return f"{value:g}"


def sweep_charts(run: dict[str, Any], case: dict[str, Any]) -> list[str]:
    """Return the charts of a case's sweeps: one for each of its series."""
    colour = colours(run)
    series: dict[str, list[dict[str, Any]]] = {}
    for metric in case["metrics"]:
        if metric["x"] is not None:
            series.setdefault(metric["series"], []).append(metric)
    drawn = []
    for name, metrics in series.items():
        metrics.sort(key=lambda metric: metric["x"]["value"])
        curves = []
        for contender in metrics[0]["rounds"]:
            points = []
            for metric in metrics:
                values = numbers(metric["rounds"].get(contender, []))
                if values:
                    where = place(metric["x"]["unit"], metric["x"]["value"])
                    says = f"{contender}, {where}: {spread(values)} {metric['unit']}"
                    points.append(_point(metric["x"]["value"], values, says))
            if points:
                curves.append(charts.Curve(contender, colour[contender], points))
        if not curves:
            continue
        x, unit = metrics[0]["x"], metrics[0]["unit"]
        ticks = [(metric["x"]["value"], place(x["unit"], metric["x"]["value"])) for metric in metrics]
        ends = [end for curve in curves for point in curve.points for end in (point.low, point.high)]
        share = unit == "%"
        wide = not share and min(ends) > 0 and max(ends) > 20 * min(ends)
        label = LABELS.get(unit, unit)
        y_axis = charts.decades(label, ends) if wide else charts.linear(label, [*ends, 100] if share else ends)
        title = f"{case['question']} ({name})" if len(series) > 1 else case["question"]
        x_axis = charts.places(LABELS.get(x["name"], x["name"]), ticks)
        drawn.append(charts.curves(case["name"], title, x_axis, y_axis, curves))
    return drawn


def table(run: dict[str, Any], case: dict[str, Any]) -> str:
    """Return the table of a case: a row for each number and contender, every round, and the ratio."""
    rounds = max((len(values) for metric in case["metrics"] for values in metric["rounds"].values()), default=0)
    head = ["", "", "median [min-max]", "unit", "ratio", *(f"round {number + 1}" for number in range(rounds))]
    rows = []
    for metric in case["metrics"]:
        for contender, values in metric["rounds"].items():
            if not numbers(values) and contender != run["contenders"][0]:
                continue  # why not stands below the table
            ratio = numbers(metric["ratios"].get(contender, []))
            loses = ratio and statistics.median(ratio) < 1
            cells = [
                escape(metric["name"]) if contender == run["contenders"][0] else "",
                escape(contender),
                spread(numbers(values)),
                escape(metric["unit"]),
                f'<span class="loses">{spread(ratio)} loses</span>' if loses else spread(ratio) if ratio else "",
                *(brief(math.nan if value is None else value) for value in values),
            ]
            rows.append("".join(f"<td>{cell}</td>" for cell in cells))
    if not rows:
        return ""
    heading = "".join(f"<th>{cell}</th>" for cell in head)
    return f'<div class="scroll"><table><tr>{heading}</tr>{"".join(f"<tr>{row}</tr>" for row in rows)}</table></div>'


def render(run: dict[str, Any]) -> str:
    """Return the page of a run.

    Args:
        run: The JSON of a run, as `Report.as_json` gives it.

    Returns:
        HTML text which stands for itself.
    """
    machine = run["machine"]
    facts = {
        "machine": f"{machine['cpu']}, {counted(machine['cpus'], 'core')}, {machine['memory'] / (1 << 30):.1f} GiB",
        "system": f"{machine['system']}, Python {machine['python']}",
        "contenders": ", ".join(f"{name} {version}".strip() for name, version in run["versions"].items()),
        "pools": f"{counted(run['workers'], 'worker')}, {run['start_method']}",
        "rounds": f"{run['asked_rounds']}{', the smaller sizes (--quick)' if run['quick'] else ''}",
        "date": f"{machine['date']}, load at the start {machine['load']}",
    }
    if run["missing"]:
        facts["not installed"] = ", ".join(run["missing"])
    body = ["<h1>ringpool and others, measured</h1>", f"<p><code>{escape(run['command'])}</code></p>", "<dl>"]
    body += [f"<dt>{escape(name)}</dt><dd>{escape(fact)}</dd>" for name, fact in facts.items()]
    body.append("</dl>")
    cut = ["The run was cut short: this is what had been measured."] if run["cut_short"] else []
    body += [f'<p class="loses">{escape(line)}</p>' for line in [*run["warnings"], *cut]]
    body.append(
        '<p class="quiet">Contenders took turns, round by round, each measurement in a fresh interpreter. Curves '
        "and markers are medians of all rounds, bands and lines their range. A ratio compares "
        "measurements of one round.</p>"
    )
    body.append(f'<div class="charts">{ratio_chart(run)}')
    for case in run["cases"]:
        for distribution in case["distributions"]:
            title = f"{case['name']}, {distribution['name']}: how long, by percentile"
            body.append(latency_chart(run, distribution, title))
        body += sweep_charts(run, case)
    body.append("</div>")
    for case in run["cases"]:
        body.append(f"<h2>{escape(case['name'])}</h2><p>{escape(case['question'])}</p>{table(run, case)}")
        for contender, sentences in case["failures"].items():
            body += [f"<p>{escape(contender)}: {escape(sentence)}</p>" for sentence in sentences]
    if run["notes"]:
        body.append("<h2>Notes</h2>")
        body += [f"<p>{escape(note)}</p>" for note in run["notes"]]
    data = base64.b64encode(json.dumps(run, indent=1).encode()).decode()
    body.append(
        '<h2>Data</h2><p><a download="ringpool-bench.json" '
        f'href="data:application/json;base64,{data}">The JSON of this run</a>, with every round.</p>'
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1"><title>ringpool: benchmark</title>'
        f'<link rel="icon" href="data:,"><style>{charts.STYLE}{STYLE}</style></head>\n<body>'
        f"{''.join(body)}</body></html>\n"
    )
