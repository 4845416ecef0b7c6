"""The command `python -m ringpool bench`: measurements in turns, a progress bar, a table, files.

For each case, in every round, each contender is measured once, right after the other, and the first one changes from
round to round, so that a drift of the machine affects all. Each measurement has an interpreter of its own. One
that fails, or takes too long, is noted, and the next one is taken.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

from . import measure, page
from .cases import CASES
from .contenders import CONTENDERS, FIRST
from .report import Record, Report
from .setting import Setting


def turns(names: list[str], number: int) -> list[str]:
    """Return names in the order of a round: each round begins with the next."""
    first = number % len(names)
    return names[first:] + names[:first]


def fill(
    found: Report, names: list[str], scale: float, limit_s: float, tell: Callable[[str], None] = lambda step: None
) -> None:
    """Measure cases and write every round into a report.

    Args:
        found: Where it says how to measure; its records are filled as measurements end.
        names: The cases to run, by name.
        scale: Every size is multiplied by it.
        limit_s: For one measurement; a contender that takes longer is not asked again in that case.
        tell: Called before each measurement with what comes now.
    """
    for name in names:
        case = CASES[name]
        record = Record(case, [*found.contenders, *case.also])
        found.records.append(record)
        for number in range(found.asked_rounds):
            for contender in turns(record.contenders, number):
                tell(f"{name}, round {number + 1}: {contender}")
                if record.ends(contender):
                    continue
                setting = Setting(CONTENDERS[contender], found.workers, found.start_method, found.quick, scale)
                record.add(number, contender, measure.take(name, setting, limit_s))


def run(options: argparse.Namespace) -> int:
    """Run the command: measure with a progress bar, print the table, write JSON and the page.

    Args:
        options: As the command line has parsed them.

    Returns:
        The exit status: 0, 1 if a result was wrong, ringpool failed or a file could not be written, 130 if interrupted.
    """
    try:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
    except ImportError:
        print("The benchmark draws with rich, which is missing: install 'ringpool[bench]'.", file=sys.stderr)
        return 1

    asked = [CONTENDERS[name] for name in options.against]
    there = [FIRST, *(contender for contender in asked if contender.installed())]
    absent = [contender for contender in asked if not contender.installed()]
    found = Report(
        command=" ".join(["python -m ringpool", *options.words]),
        contenders={contender.name: contender.version() for contender in there},
        missing=[contender.name for contender in absent],
        workers=options.workers,
        start_method=options.start_method,
        asked_rounds=options.rounds,
        quick=options.quick,
    )
    # A pipe has no width; 120 columns hold the table.
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 120)
    errors = Console(stderr=True, highlight=False, soft_wrap=True)
    for line in found.warnings():
        errors.print(f"Warning: {line}", markup=False)
    if absent:
        packages = " ".join(contender.package for contender in absent)
        errors.print(f"Not installed: {', '.join(found.missing)} (pip install {packages}).", markup=False)

    # No refresh from a thread: it would take time from what is measured.
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=errors,
        auto_refresh=False,
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
        disable=not errors.is_terminal,
    ) as progress:
        steps = sum(len(there) + len(CASES[name].also) for name in options.cases) * options.rounds
        bar = progress.add_task("", total=steps, completed=-1)

        def tell(step: str) -> None:
            progress.update(bar, advance=1, description=step, refresh=True)

        try:
            with _ended_as_by_ctrl_c():
                fill(found, options.cases, options.scale, options.limit, tell)
        except KeyboardInterrupt:
            found.cut_short = True

    # The files come first: the reader of the table may have closed the pipe.
    files: dict[str, str] = {}
    if options.json is not None:
        files[options.json] = json.dumps(found.as_json(), indent=1) + "\n"
    if options.html is not None:
        files[options.html] = page.render(found.as_json())
    unwritten = False
    for path, text in files.items():
        try:
            Path(path).write_text(text)
        except OSError as error:
            errors.print(f"{path} cannot be written: {error.strerror}", markup=False)
            unwritten = True
    out.print(found.headline(), markup=False, soft_wrap=True)
    out.print(found.table())
    for line in found.summary():
        out.print(line, markup=False, soft_wrap=True)
    if found.cut_short:
        return 130
    return 1 if unwritten or found.wrong() else 0


@contextlib.contextmanager
def _ended_as_by_ctrl_c() -> Iterator[None]:
    """Let SIGTERM, and the end of the terminal, do what Ctrl-C does: no process is left, and results so far are kept.

    A signal that is ignored (`nohup`) or handled stays so.
    """
    ends = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) == signal.SIG_DFL]
    before = {each: signal.signal(each, signal.default_int_handler) for each in ends}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
