"""The benchmark behind `python -m ringpool bench`: the standard library's executor and ringpool's, in turns.

`cases` holds the contenders, the questions and the tasks; `report` the arithmetic and the table; this file
runs the rounds. In every round each contender is measured once for each case, right after the other, and who
goes first changes from round to round, so that whatever drifts on the machine meets both. All rounds are
kept.

`import ringpool` never imports this package.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from concurrent.futures import BrokenExecutor
from pathlib import Path

from ringpool.machine import usable_cpus

from . import cases, report


def measure(
    found: report.Report, names: list[str], scale: float, tell: Callable[[str], None] = lambda step: None
) -> None:
    """Measure cases and write every round into a report.

    Args:
        found: Where it says how to measure; its records and notes are filled as rounds end.
        names: The cases to run, by name.
        scale: Every size is multiplied by it.
        tell: Called before each measurement with what comes now.

    Raises:
        WrongAnswer: If an executor gave a result that is not what the task returns.
    """
    contenders = cases.CONTENDERS
    for name in names:
        case = cases.CASES[name]
        record = report.Record(case, {contender.name: [] for contender in contenders})
        found.records.append(record)
        for number in range(found.asked_rounds):
            first = number % len(contenders)
            for contender in contenders[first:] + contenders[:first]:
                tell(f"{name}, round {number + 1}: {contender.name}")
                setting = cases.Setting(contender, found.workers, found.start_method, found.quick, scale, found.notes)
                record.rounds[contender.name].append(case.measure(setting))


def run(options: argparse.Namespace) -> int:
    """Run the command: measure with a progress bar, print the table, write the JSON.

    Args:
        options: `cases`, `quick`, `workers`, `start_method`, `rounds`, `json` and `scale`, as parsed.

    Returns:
        The exit status: 0, 1 if a result was wrong or a pool broke, 130 if interrupted.
    """
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    except ImportError:
        print("The benchmark draws with rich, which is missing: install 'ringpool[bench]'.", file=sys.stderr)
        return 1

    first, second = (contender.name for contender in cases.CONTENDERS)
    found = report.Report((first, second), options.workers, options.start_method, options.rounds, options.quick)
    # A pipe has no width; 120 columns hold the table.
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    if usable_cpus() < options.workers + 1:
        errors.print(
            f"Warning: {usable_cpus()} cores for {options.workers} workers and their parent: "
            "they share, and numbers vary."
        )

    status = 0
    complaint = ""
    # No refresh from a thread: it would take time from what is measured, and forks would copy its locks.
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=errors,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not errors.is_terminal,
    ) as progress:
        steps = len(options.cases) * options.rounds * len(cases.CONTENDERS)
        bar = progress.add_task("", total=steps + 1)

        def tell(step: str) -> None:
            progress.update(bar, advance=1, description=step, refresh=True)

        try:
            measure(found, options.cases, options.scale, tell)
        except KeyboardInterrupt:
            found.cut_short = True
            status = 130
        except (cases.WrongAnswer, BrokenExecutor) as failure:
            found.cut_short = True
            status = 1
            complaint = f"{type(failure).__name__}: {failure}"

    out.print(found.headline(), markup=False, soft_wrap=True)
    out.print(found.table())
    for line in found.summary():
        out.print(line, markup=False, soft_wrap=True)
    if complaint:
        errors.print(complaint, markup=False)
    if options.json is not None:
        Path(options.json).write_text(json.dumps(found.as_json(), indent=1) + "\n")
    return status
