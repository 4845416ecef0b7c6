"""The command line: `python -m ringpool bench` compares with the standard library on this machine."""

from __future__ import annotations

import argparse
import multiprocessing
import sys
from collections.abc import Sequence

from . import bench
from .bench import cases, report
from .machine import usable_cpus


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not at least 1")
    return number


def _case_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    unknown = [name for name in names if name not in cases.CASES]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"no case is called {', '.join(unknown) or 'that'}; there are {', '.join(cases.CASES)}"
        )
    return names


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m ringpool",
        description="A process pool whose tasks and results travel through shared memory.",
    )
    top.add_argument("--version", action="version", version=f"ringpool {report.installed_version()}")
    commands = top.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "bench",
        help="compare with concurrent.futures on this machine",
        description="Measure the standard library's ProcessPoolExecutor and ringpool's in turns, check every "
        "result, and print a table.",
        epilog="cases:\n" + "\n".join(f"  {case.name:<10} {case.question}" for case in cases.CASES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--quick", action="store_true", help="smaller sizes and 3 rounds: about a minute")
    command.add_argument(
        "--cases",
        type=_case_names,
        default=list(cases.CASES),
        metavar="NAME,...",
        help="only these cases (default: all)",
    )
    command.add_argument(
        "--workers",
        type=_positive,
        default=max(2, min(4, usable_cpus())),
        metavar="N",
        help="worker processes of each pool (default: the cores, at least 2 and at most 4; here %(default)s)",
    )
    command.add_argument(
        "--start-method",
        choices=multiprocessing.get_all_start_methods(),
        default=multiprocessing.get_context().get_start_method(),
        help="how workers are started (default: what this Python does; here %(default)s)",
    )
    command.add_argument(
        "--rounds",
        type=_positive,
        metavar="N",
        help="measurements of each case (default: 5, or 3 with --quick)",
    )
    command.add_argument("--json", metavar="FILE", help="write every round to this file")
    command.add_argument("--scale", type=float, default=1.0, help=argparse.SUPPRESS)
    return top


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv: The arguments; those of the process if None.

    Returns:
        The options, with every default filled in.

    Raises:
        SystemExit: After `--help` and `--version`, and with status 2 if the arguments make no sense.
    """
    options = parser().parse_args(argv)
    if options.rounds is None:
        options.rounds = 3 if options.quick else 5
    return options


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments; those of the process if None.

    Returns:
        The exit status.
    """
    return bench.run(parse(argv))


if __name__ == "__main__":
    sys.exit(main())
