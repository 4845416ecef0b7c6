"""What was measured, how contenders compare, and how that is written: a table, or JSON.

A ratio says how many times better the first contender, ringpool, is than another, so below 1 it loses. It is computed
round by round, from measurements made next to each other, and shown as the median of these with their range.
"""

from __future__ import annotations

import datetime
import math
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ringpool.machine import usable_cpus, usable_memory

from .cases import Case
from .measure import Outcome

if TYPE_CHECKING:
    from rich.table import Table

_SIZES = ((1e9, "G"), (1e6, "M"), (1e3, "k"))
BUSY_LOAD = 0.5  # a core; arbitrary: above it one measurement in two shares a core with something else


def ratios(first: Sequence[float], other: Sequence[float], higher_is_better: bool) -> list[float]:
    """Return, round by round, how many times better the first contender is.

    Args:
        first: One number a round; not a number where there is none.
        other: The same for the other; rounds that only one of them has are left out.
        higher_is_better: Whether larger numbers are better.

    Returns:
        A ratio a round, not a number where one of the two is not above zero.
    """
    pairs = zip(first, other, strict=False)
    if higher_is_better:
        return [a / b if a > 0 and b > 0 else math.nan for a, b in pairs]
    return [b / a if a > 0 and b > 0 else math.nan for a, b in pairs]


def brief(value: float) -> str:
    """Write a number with about three digits that matter: 0.004, 0.12, 3.46, 250, 2,005, 10.4k, 1.51M."""
    if math.isnan(value):
        return "-"
    if 0 < abs(value) < 0.0095:
        return f"{value:.2g}"
    size, letter = next((pair for pair in _SIZES if abs(value) >= max(0.9995 * pair[0], 9999.5)), (1.0, ""))
    value /= size
    digits = next((digits for least, digits in ((99.95, 0), (9.995, 1)) if abs(value) >= least), 2)
    return f"{value:,.{digits}f}{letter}"


def spread(values: Sequence[float]) -> str:
    """Write numbers as "median [min-max]", one alone as it is; "-" if there is none."""
    numbers = [value for value in values if not math.isnan(value)]
    if not numbers:
        return "-"
    if len(numbers) == 1:
        return brief(numbers[0])
    return f"{brief(statistics.median(numbers))} [{brief(min(numbers))}-{brief(max(numbers))}]"


def counted(number: int, what: str) -> str:
    """Write a number of things: "1 round", "2 rounds"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


@dataclass
class Record:
    """All rounds of one case.

    Args:
        case: The case.
        contenders: Those that take part in it; all others are compared with the first.
    """

    case: Case
    contenders: list[str]
    rounds: list[dict[str, Outcome]] = field(default_factory=list)

    def add(self, number: int, contender: str, outcome: Outcome) -> None:
        """Add the outcome of a measurement; rounds are numbered from 0."""
        while len(self.rounds) <= number:
            self.rounds.append({})
        self.rounds[number][contender] = outcome

    def ends(self, contender: str) -> str:
        """Return why a contender need not be asked again in this case, "" if it should be."""
        outcomes = [taken[contender] for taken in self.rounds if contender in taken]
        return next((outcome.kind for outcome in outcomes if outcome.kind in {"cannot", "late"}), "")

    def _merged(self, kind: str) -> dict[str, dict[str, Any]]:
        """Return what the measurements have found, by name, in the order in which it was first found."""
        found: dict[str, dict[str, Any]] = {}
        for taken in self.rounds:
            for outcome in taken.values():
                for entry in getattr(outcome, kind):
                    found.setdefault(entry["name"], entry)
        return found

    def metrics(self) -> list[dict[str, Any]]:
        """Return each metric with the number of every contender and round, and the ratios, as the JSON has them."""
        written = []
        for name, like in self._merged("metrics").items():
            rounds = {
                contender: [self._value(taken, contender, name) for taken in self.rounds]
                for contender in self.contenders
            }
            first = rounds[self.contenders[0]]
            written.append(
                {
                    **{key: like[key] for key in ("name", "unit", "higher_is_better", "x", "series")},
                    "rounds": rounds,
                    "ratios": {
                        other: ratios(first, rounds[other], like["higher_is_better"]) for other in self.contenders[1:]
                    },
                }
            )
        return written

    @staticmethod
    def _value(taken: dict[str, Outcome], contender: str, name: str) -> float:
        metrics = taken[contender].metrics if contender in taken else []
        return next((float(metric["value"]) for metric in metrics if metric["name"] == name), math.nan)

    def distributions(self) -> list[dict[str, Any]]:
        """Return the latencies at each quantile, for every contender and round, as the JSON has them."""
        written = []
        for name, like in self._merged("distributions").items():
            rounds: dict[str, list[list[float]]] = {contender: [] for contender in self.contenders}
            for taken in self.rounds:
                for contender, outcome in taken.items():
                    rounds[contender] += [each["values"] for each in outcome.distributions if each["name"] == name]
            written.append({"name": name, "unit": like["unit"], "quantiles": like["quantiles"], "rounds": rounds})
        return written

    def failures(self) -> dict[str, list[str]]:
        """Return what each contender could not do, in sentences."""
        failed: dict[str, list[str]] = {}
        for number, taken in enumerate(self.rounds, 1):
            for contender, outcome in taken.items():
                if outcome.kind == "cannot":
                    failed.setdefault(contender, []).append(f"cannot: {outcome.message}")
                elif outcome.kind != "found":
                    again = "; not tried again" if outcome.kind == "late" else ""
                    failed.setdefault(contender, []).append(f"round {number}: {outcome.message}{again}")
        return failed


@dataclass
class Report:
    """What one run of the command has measured so far.

    Args:
        command: The command line.
        contenders: Name and version of each that was asked for and is there. The first is compared with all others.
        missing: Contenders that were asked for and are not installed.
        workers: Worker processes of each pool.
        start_method: How they are started.
        asked_rounds: How many rounds were asked for; an interrupted run has fewer.
        quick: Whether the smaller sizes were used.
        records: A record for each case begun.
        cut_short: Whether the run was interrupted.
        machine: What a reader must know of the machine.
    """

    command: str
    contenders: dict[str, str]
    missing: list[str]
    workers: int
    start_method: str
    asked_rounds: int
    quick: bool
    records: list[Record] = field(default_factory=list)
    cut_short: bool = False
    machine: dict[str, Any] = field(default_factory=lambda: machine())

    @property
    def first(self) -> str:
        """The contender that all others are compared with."""
        return next(iter(self.contenders))

    def warnings(self) -> list[str]:
        """Return why the numbers may be worse, or vary more, than on a free machine."""
        cpus, load = self.machine["cpus"], self.machine["load"]
        found = []
        if cpus < self.workers + 1:
            found.append(
                f"{counted(cpus, 'core')} for {counted(self.workers, 'worker')} and their parent: "
                "they share, and numbers vary."
            )
        if load > BUSY_LOAD * cpus:
            found.append(
                f"The machine is busy: its load was {load} on {counted(cpus, 'core')} at the start, and numbers vary."
            )
        return found

    def notes(self) -> list[str]:
        """Return the sentences that measurements have left for the reader, each once."""
        outcomes = [outcome for record in self.records for taken in record.rounds for outcome in taken.values()]
        return list(dict.fromkeys(note for outcome in outcomes for note in outcome.notes))

    def headline(self) -> str:
        """Return one line on what ran where."""
        versions = ", ".join(f"{name} {version}" for name, version in self.contenders.items() if name != "stdlib")
        return (
            f"{self.machine['cpu']}, {counted(self.machine['cpus'], 'core')}, {self.machine['system']}; "
            f"Python {self.machine['python']}, {versions}; {self.start_method}, "
            f"{counted(self.workers, 'worker')}, {counted(self.asked_rounds, 'round')}"
            f"{', quick' if self.quick else ''}; "
            f"load at the start {self.machine['load']}"
        )

    def losses(self) -> list[str]:
        """Return where the median ratio is below 1: case and metric, and against which contender."""
        lost = []
        for record in self.records:
            for metric in record.metrics():
                for other, found in metric["ratios"].items():
                    if _loses(found):
                        lost.append(f"{record.case.name} {metric['name']} ({other})")
        return lost

    def wrong(self) -> bool:
        """Return whether some result was wrong, or the first contender failed in a case."""
        return any(
            outcome.kind == "wrong" or (contender == self.first and outcome.kind in {"failed", "late"})
            for record in self.records
            for taken in record.rounds
            for contender, outcome in taken.items()
        )

    def table(self) -> Table:
        """Return the comparison as a table for `rich`."""
        from rich.table import Table
        from rich.text import Text

        table = Table(caption=Text(f"median [min-max] of all rounds; a ratio above 1 says that {self.first} is better"))
        table.add_column("case", overflow="fold")
        table.add_column("unit", overflow="fold")
        # What a narrow terminal has no room for goes to the next line: half a number would be another number.
        table.add_column(self.first, justify="right", overflow="fold")
        table.add_column("against", overflow="fold")
        table.add_column("", justify="right", overflow="fold")
        table.add_column("ratio", justify="right", overflow="fold")
        for record in self.records:
            for metric in record.metrics():
                label, unit = f"{record.case.name} {metric['name']}", metric["unit"]
                own = spread(metric["rounds"][self.first])
                for other, found in metric["ratios"].items():
                    theirs = spread(metric["rounds"][other])
                    if theirs == "-":
                        continue
                    ratio = spread(found)
                    text = Text(f"{ratio} loses", style="red") if _loses(found) else Text(ratio)
                    table.add_row(label, unit, Text(own), other, Text(theirs), text)
                    label = unit = own = ""
                if label:
                    table.add_row(label, unit, Text(own), "", "", "")
        return table

    def summary(self) -> list[str]:
        """Return the sentences that stand under the table."""
        lines = self.notes()
        if self.missing:
            lines.append(f"Not installed: {', '.join(self.missing)}.")
        for record in self.records:
            for contender, sentences in record.failures().items():
                lines += [f"{record.case.name}, {contender}: {sentence}" for sentence in sentences]
        lost = self.losses()
        if lost:
            lines.append(f"{self.first} loses in: {', '.join(lost)}.")
        if self.cut_short:
            lines.append("The run was cut short: the table holds what had been measured.")
        return lines

    def as_json(self) -> dict[str, Any]:
        """Return everything, each round included, in the form that `json.dump` takes; NaN becomes null."""
        written = {
            "format": 1,
            "command": self.command,
            "machine": self.machine,
            "versions": self.contenders,
            "missing": self.missing,
            "contenders": list(self.contenders),
            "workers": self.workers,
            "start_method": self.start_method,
            "asked_rounds": self.asked_rounds,
            "quick": self.quick,
            "cut_short": self.cut_short,
            "warnings": self.warnings(),
            "notes": self.notes(),
            "cases": [
                {
                    "name": record.case.name,
                    "question": record.case.question,
                    "metrics": record.metrics(),
                    "distributions": record.distributions(),
                    "failures": record.failures(),
                }
                for record in self.records
            ],
        }
        cleaned: dict[str, Any] = _without_nan(written)
        return cleaned


def _loses(found: Sequence[float]) -> bool:
    numbers = [ratio for ratio in found if not math.isnan(ratio)]
    return bool(numbers) and statistics.median(numbers) < 1


def _without_nan(value: Any) -> Any:
    """Return a tree of dictionaries and lists with None in place of NaN."""
    if isinstance(value, dict):
        return {key: _without_nan(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_without_nan(each) for each in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def machine() -> dict[str, Any]:
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
        "memory": usable_memory(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2),
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }
