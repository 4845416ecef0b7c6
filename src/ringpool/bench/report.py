"""What was measured, how contenders compare, and how that is written: a table, or JSON.

A ratio says how many times better the second contender is than the first, so below 1 it loses. It is computed
round by round, from measurements made next to each other, and shown as the median of these with their range.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringpool.machine import usable_cpus

from .cases import Case, Metric

if TYPE_CHECKING:
    from rich.table import Table


def ratios(first: Sequence[float], second: Sequence[float], higher_is_better: bool) -> list[float]:
    """Return, round by round, how many times better the second contender is.

    Args:
        first: One number a round.
        second: The same for the other; rounds that only one of them has are left out.
        higher_is_better: Whether larger numbers are better.

    Returns:
        A ratio a round, not a number where one of the two is not above zero.
    """
    pairs = zip(first, second, strict=False)
    if higher_is_better:
        return [b / a if a > 0 and b > 0 else math.nan for a, b in pairs]
    return [a / b if a > 0 and b > 0 else math.nan for a, b in pairs]


def brief(value: float) -> str:
    """Write a number with about three digits that matter."""
    if math.isnan(value):
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(values: Sequence[float]) -> str:
    """Write numbers as "median [min-max]"; "-" if there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return "-"
    return f"{brief(statistics.median(numbers))} [{brief(min(numbers))}-{brief(max(numbers))}]"


@dataclass
class Record:
    """All rounds of one case: for each contender, one dictionary of metrics a round."""

    case: Case
    rounds: dict[str, list[dict[str, float]]]

    def values(self, contender: str, metric: Metric) -> list[float]:
        """Return one contender's numbers for one metric, a number a round."""
        return [measured[metric.name] for measured in self.rounds[contender]]

    def ratios(self, metric: Metric) -> list[float]:
        """Return how many times better the second contender is, a ratio a round."""
        first, second = (self.values(contender, metric) for contender in self.rounds)
        return ratios(first, second, metric.higher_is_better)


@dataclass
class Report:
    """What one run of the command has measured so far.

    Args:
        contenders: Their names, in the order of `CONTENDERS`.
        workers: Worker processes of each pool.
        start_method: How they are started.
        asked_rounds: How many rounds were asked for; an interrupted run has fewer.
        quick: Whether the smaller sizes were used.
        records: A record for each case begun.
        notes: Sentences that the cases leave for the reader.
        cut_short: Whether the run ended early, by Ctrl-C or by a wrong result.
    """

    contenders: tuple[str, str]
    workers: int
    start_method: str
    asked_rounds: int
    quick: bool
    records: list[Record] = field(default_factory=list)
    notes: dict[str, str] = field(default_factory=dict)
    cut_short: bool = False
    machine: dict[str, str | int | float] = field(default_factory=lambda: machine())

    def headline(self) -> str:
        """Return one line on what ran where."""
        return (
            f"{self.machine['cpu']}, {self.machine['cpus']} cores, {self.machine['system']}; "
            f"Python {self.machine['python']}, ringpool {self.machine['ringpool']}; {self.start_method}, "
            f"{self.workers} workers, {self.asked_rounds} rounds{', quick' if self.quick else ''}; "
            f"load at the start {self.machine['load']}"
        )

    def losses(self) -> list[str]:
        """Return the cases in which the second contender's median ratio is below 1."""
        lost = []
        for record in self.records:
            for metric in record.case.metrics:
                found = [ratio for ratio in record.ratios(metric) if not math.isnan(ratio)]
                if found and statistics.median(found) < 1:
                    lost.append(f"{record.case.name} {metric.name}")
        return lost

    def table(self) -> Table:
        """Return the comparison as a table for `rich`."""
        from rich.table import Table
        from rich.text import Text

        lost = self.losses()
        first, second = self.contenders
        caption = Text(f"median [min-max] of all rounds; a ratio above 1 says that {second} is better")
        table = Table(caption=caption)
        table.add_column("case")
        table.add_column("unit")
        table.add_column(first, justify="right")
        table.add_column(second, justify="right")
        table.add_column("ratio", justify="right")
        for record in self.records:
            for metric in record.case.metrics:
                label = f"{record.case.name} {metric.name}"
                ratio = spread(record.ratios(metric))
                table.add_row(
                    label,
                    metric.unit,
                    Text(spread(record.values(first, metric))),
                    Text(spread(record.values(second, metric))),
                    Text(f"{ratio} loses", style="red") if label in lost else Text(ratio),
                )
        return table

    def summary(self) -> list[str]:
        """Return the sentences that stand under the table."""
        lost = self.losses()
        second = self.contenders[1]
        lines = [*self.notes.values()]
        if lost:
            lines.append(f"{second} loses in: {', '.join(lost)}.")
        if self.cut_short:
            lines.append("The run was cut short: the table holds what had been measured.")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return everything, each round included, as what `json.dump` takes; what is not a number is null."""
        return {
            "machine": self.machine,
            "start_method": self.start_method,
            "workers": self.workers,
            "asked_rounds": self.asked_rounds,
            "quick": self.quick,
            "cut_short": self.cut_short,
            "notes": self.notes,
            "cases": [
                {
                    "name": record.case.name,
                    "question": record.case.question,
                    "metrics": [
                        {
                            "name": metric.name,
                            "unit": metric.unit,
                            "higher_is_better": metric.higher_is_better,
                            "rounds": {name: record.values(name, metric) for name in self.contenders},
                            "ratios": [None if math.isnan(r) else r for r in record.ratios(metric)],
                        }
                        for metric in record.case.metrics
                    ],
                }
                for record in self.records
            ],
        }


def machine() -> dict[str, str | int | float]:
    """Return what a reader must know of the machine to judge a number."""
    cpu = platform.machine()
    with Path("/proc/cpuinfo").open() as lines:
        for line in lines:
            if line.startswith("model name"):
                cpu = line.partition(":")[2].strip()
                break
    return {
        "cpu": cpu,
        "cpus": usable_cpus(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "ringpool": installed_version(),
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def installed_version() -> str:
    """Return the version of the installed ringpool, or "unknown" when it runs from a folder of sources."""
    try:
        return importlib.metadata.version("ringpool")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"
