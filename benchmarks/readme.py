"""Writes the table and the picture of the README from a run that is kept in the repository, or checks that they are it.

    python -m ringpool bench --quick --rounds 5 --start-method forkserver --json benchmarks/results.json  # measure
    python benchmarks/readme.py                                                                           # write
    python benchmarks/readme.py --check                                                                   # or compare

The table stands in README.md between the two markers below; the picture is docs/benchmarks.svg.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from pathlib import Path
from typing import Any

from ringpool.bench import charts, page
from ringpool.bench.report import brief, spread

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
README = HERE.parent / "README.md"
PICTURE = HERE.parent / "docs" / "benchmarks.svg"
BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"

# What the table shows, in this order: case, metric, and what a reader calls it.
ROWS = [
    ("round trip", "hot p50", "`submit(nop).result()`, one after the other"),
    ("round trip", "hot p99", "the same, the slowest of a hundred"),
    ("round trip", "idle p50", "the same, 2 ms apart"),
    ("burst", "rate", "all submitted, then all results taken"),
    ("as_completed", "rate", "results by `as_completed`"),
    ("asyncio", "rate", "results awaited in asyncio"),
    ("map", "rate", "`map` of small items, all defaults"),
    ("chunked map", "rate", "the same, `chunksize=250`"),
    ("payload", "1 KiB float64", "an array of 1 KiB, there and back"),
    ("payload", "64 KiB float64", "of 64 KiB"),
    ("payload", "16 MiB float64", "of 16 MiB"),
    ("payload", "16 MiB bytes", "the same as `bytes`"),
    ("grain", "10 us", "tasks of 10 us: share of the time that is work"),
    ("grain", "1 ms", "tasks of 1 ms: the same"),
    ("skewed", "efficiency", "`map` over items of 0.1 to 50 ms: the same"),
    ("start", "forkserver first result", "first result of a new pool"),
    ("start", "forkserver shutdown", "shutdown"),
    ("start", "fork first result", "first result, with `fork`"),
    ("start", "fork shutdown", "shutdown, with `fork`"),
    ("cold start", "forkserver program", "a program of one task, from its start to its end"),
    ("cold start", "fork program", "the same, with `fork`"),
    ("cpu", "a task", "CPU a task, all processes together"),
    ("cpu", "idle", "CPU of an idle pool"),
    ("memory", "a queued task", "memory of a queued task"),
    ("recovery", "next result", "next result after a worker's death"),
    ("recovery", "others lost of 100", "other tasks lost with it, of 100"),
]
UNITS = {"tasks/s": " a second", "items/s": " a second", "%": "%"}


def metric_of(run: dict[str, Any], case: str, name: str) -> dict[str, Any]:
    """Return a metric of a run.

    Raises:
        SystemExit: If the run has not measured it.
    """
    for each in run["cases"]:
        for metric in each["metrics"]:
            if (each["name"], metric["name"]) == (case, name):
                found: dict[str, Any] = metric
                return found
    sys.exit(f"The run has no {name} of {case}: measure all cases, with NumPy and --start-method forkserver.")


def with_unit(metric: dict[str, Any], contender: str) -> str:
    """Return the median of a contender's rounds with its unit."""
    value = statistics.median(page.numbers(metric["rounds"][contender]))
    return brief(value) + UNITS.get(metric["unit"], f" {metric['unit']}")


def row(metric: dict[str, Any], says: str, first: str, other: str) -> str:
    """Return the row of a metric, which says so if the first contender loses."""
    ratio = page.numbers(metric["ratios"][other])
    loses = ", a loss" if ratio and statistics.median(ratio) < 1 else ""
    return f"| {says} | {with_unit(metric, other)} | {with_unit(metric, first)} | {spread(ratio)}{loses} |"


def table(run: dict[str, Any]) -> str:
    """Return the table of the README, with the line under it that says where it was measured."""
    first, other = run["contenders"][:2]
    lines = [f"| | {other} | {first} | ratio |", "| --- | ---: | ---: | ---: |"]
    for case, name, says in ROWS:
        metric = metric_of(run, case, name)
        lines.append(row(metric, says, first, other))
    lines.append(row(metric_of(run, "io", "rate"), "waiting for 10 ms: threads, the right tool", first, "threads"))
    machine = run["machine"]
    command = re.sub(r" --(json|html) \S+", "", run["command"])
    lines += [
        "",
        f"Medians of {run['asked_rounds']} rounds, and ratios round by round with their range: {machine['cpus']} cores "
        f"({machine['cpu']}),",
        f"{run['workers']} workers, {run['start_method']}, {machine['system']}, CPython {machine['python']}, "
        f"{machine['date'][:10]}, load at the start {machine['load']},",
        f"`{command}`.",
        "",
        "![Ratios to the stdlib, case by case](docs/benchmarks.svg)",
    ]
    return "\n".join(lines)


def picture(run: dict[str, Any]) -> str:
    """Return the picture: all ratios on one line, in colours for light and dark.

    It has a ground of its own: the page that shows it need not be as light or as dark as the reader's system says. It
    has a width, since it would be as wide as the page without.
    """
    chart = page.ratio_chart(run).replace("<svg ", f'<svg width="{1.5 * charts.WIDTH:g}" ', 1)
    begin = chart.index(">") + 1
    return f"{chart[:begin]}<style>{charts.STYLE}svg {{ background: var(--back); }}</style>{chart[begin:]}\n"


def written(run: dict[str, Any], readme: str) -> str:
    """Return the README with the table of a run between its markers.

    Raises:
        SystemExit: If it has no markers.
    """
    if readme.count(BEGIN) != 1 or readme.count(END) != 1:
        sys.exit(f"README.md must have one line {BEGIN} and one {END}.")
    before, _, rest = readme.partition(BEGIN)
    after = rest.partition(END)[2]
    return f"{before}{BEGIN}\n{table(run)}\n{END}{after}"


def main(argv: list[str] | None = None) -> int:
    """Write both, or compare; the status is 1 if they differ from what the run gives."""
    parser = argparse.ArgumentParser(description="Table and picture of the README, from benchmarks/results.json.")
    parser.add_argument("--check", action="store_true", help="change nothing; fail if they are not of that run")
    options = parser.parse_args(argv)
    run = json.loads(RESULTS.read_text())
    files = {README: written(run, README.read_text()), PICTURE: picture(run)}
    stale = [path for path, text in files.items() if not path.exists() or path.read_text() != text]
    if options.check:
        for path in stale:
            print(f"{path.name} is not of {RESULTS.name}: run python benchmarks/readme.py", file=sys.stderr)
        return 1 if stale else 0
    for path in stale:
        path.write_text(files[path])
        print(f"wrote {path.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
