"""The command line: `python -m ringpool bench` compares with other executors on this machine."""

from __future__ import annotations

import argparse
import math
import multiprocessing
import os
import stat
import sys
from collections.abc import Callable, Sequence

from .bench import run
from .bench.cases import CASES
from .bench.contenders import CONTENDERS, FIRST
from .machine import usable_cpus


def _positive(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number and at least 1, not {text}")
    return number


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of seconds above 0, not {text}")
    return seconds


def _writable(path: str) -> str:
    """Return the path of a file that can be written: an error must come before an hour of measuring, not after it."""
    try:
        there = os.path.lexists(path)
        if there and os.path.exists(path) and stat.S_ISFIFO(os.stat(path).st_mode):
            return path  # to open it would wait for a reader
        # Nothing but an attempt tells: modes say nothing to root, nor of a file system that is read only.
        with open(path, "ab"):
            pass
        if not there:
            os.unlink(path)
    except OSError as error:
        raise argparse.ArgumentTypeError(f"{path} cannot be written: {error.strerror}") from None
    return path


def _names(kind: str, known: Sequence[str]) -> Callable[[str], list[str]]:
    """Return a parser of names separated by commas, each once; "all" is every one."""

    def parse_names(text: str) -> list[str]:
        names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
        if names == ["all"]:
            return list(known)
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise argparse.ArgumentTypeError(
                f"unknown {kind}: {', '.join(unknown)}; there are {', '.join(known)}"
                if unknown
                else f"no {kind} was named; there are {', '.join(known)}"
            )
        return names

    return parse_names


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="python -m ringpool",
        description="A process pool whose tasks and results travel through shared memory.",
    )
    top.add_argument("--version", action="version", version=f"ringpool {FIRST.version()}")
    commands = top.add_subparsers(dest="command", required=True)
    command = commands.add_parser(
        "bench",
        help="compare with other executors on this machine",
        description="Measure ringpool and other executors in turns, each measurement in a fresh interpreter, check "
        "every result, and print a table.",
        epilog="cases:\n" + "\n".join(f"  {case.name:<12} {case.question}" for case in CASES.values()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--quick", action="store_true", help="smaller sizes and 3 rounds: about two minutes")
    command.add_argument(
        "--cases",
        type=_names("case", list(CASES)),
        default=list(CASES),
        metavar="NAME,...",
        help="only these of the cases below (default: all)",
    )
    against = [contender.name for contender in CONTENDERS.values() if contender != FIRST and not contender.threads]
    command.add_argument(
        "--against",
        type=_names("contender", against),
        default=["stdlib"],
        metavar="NAME,...",
        help=f"compare with these, where they are installed: {', '.join(against)}, or all (default: stdlib)",
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
    command.add_argument(
        "--limit",
        type=_seconds,
        default=120.0,
        metavar="SECONDS",
        help="end a measurement that takes longer, and note it (default: %(default)g)",
    )
    command.add_argument("--json", type=_writable, metavar="FILE", help="write every round to this file")
    command.add_argument(
        "--html", type=_writable, metavar="FILE", help="write a page with charts to this file, which needs no network"
    )
    command.add_argument("--scale", type=float, default=1.0, help=argparse.SUPPRESS)
    return top


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line.

    Args:
        argv: The arguments; those of the process if None.

    Returns:
        The options, with every default filled in.

    Raises:
        SystemExit: After `--help` and `--version`, and with status 2 if the arguments are invalid.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    top = parser()
    options = top.parse_args(words)
    options.words = words
    if options.json is not None and options.json == options.html:
        top.error("--json and --html name the same file")
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
    return run.run(parse(argv))


if __name__ == "__main__":
    sys.exit(main())
