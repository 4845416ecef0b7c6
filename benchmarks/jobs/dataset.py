"""Count over a data set: every source file of the installed Python, and a CSV file of millions of rows.

1. Each file of the standard library is parsed, and the nodes of its syntax tree are counted by kind. Checked: the
   lines of every file by reading it as text; in a sample of the files, the functions and classes by `tokenize`, which
   knows no syntax tree.
2. A CSV file of orders, which the program writes, is cut into blocks of bytes at ends of lines; NumPy parses each, and
   adds up the turnover of each shop. Checked: the orders repeat after 70,000, so the sums of all follow from those of
   the first, which plain Python adds up without the file.

    python benchmarks/jobs/dataset.py [--executor NAME] [--workers N] [--files N] [--rows N] [--block BYTES]
"""

from __future__ import annotations

import argparse
import ast
import collections
import io
import math
import sys
import sysconfig
import tempfile
import time
import tokenize
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from executors import WrongResult, add_arguments, open_pool, positive

SAMPLE = 30  # source files that are counted again, by other means
SHOPS, MOST, CENTS = 100, 7, 10_000
PERIOD = math.lcm(SHOPS, MOST, CENTS)  # orders


class Counts(NamedTuple):
    """What a source file has: lines, and nodes of its syntax tree by kind; none if it does not parse."""

    lines: int
    kinds: dict[str, int] | None


def count_nodes(path: str) -> Counts:
    """Parse one source file and count. Some files of Python's own tests are there because they do not parse."""
    source = Path(path).read_bytes()
    lines = len(source.splitlines())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Invalid escapes in old strings.
            tree = ast.parse(source, path)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Counts(lines, None)
    return Counts(lines, dict(collections.Counter(type(node).__name__ for node in ast.walk(tree))))


def definitions(kinds: dict[str, int]) -> tuple[int, int]:
    """Return how many functions and how many classes are among the nodes."""
    return kinds.get("FunctionDef", 0) + kinds.get("AsyncFunctionDef", 0), kinds.get("ClassDef", 0)


def check_sources(paths: list[str], counts: list[Counts]) -> None:
    """Check the lines of every file, and the definitions in a sample.

    Raises:
        WrongResult: With the file that was counted wrong.
    """
    if len(counts) != len(paths):
        raise WrongResult(f"There are {len(counts)} results of {len(paths)} files.")
    for path, found in zip(paths, counts, strict=True):
        with open(path, encoding="latin-1") as file:  # Every byte is a character, and no other ends a line.
            lines = sum(1 for _ in file)
        if found.lines != lines:
            raise WrongResult(f"{path} has {lines} lines, not {found.lines}.")
    for path, found in list(zip(paths, counts, strict=True))[:: max(1, len(paths) // SAMPLE)]:
        if found.kinds is None:
            if count_nodes(path).kinds is not None:
                raise WrongResult(f"{path} parses here, but did not in a worker.")
            continue
        with open(path, "rb") as source:
            words = collections.Counter(
                token.string for token in tokenize.tokenize(source.readline) if token.type == tokenize.NAME
            )
        if definitions(found.kinds) != (words["def"], words["class"]):
            raise WrongResult(f"{path} has {words['def']} functions and {words['class']} classes, not {found.kinds}.")


class Block(NamedTuple):
    """A part of a CSV file: it begins with a line and ends with one. Both in bytes."""

    path: str
    start: int
    size: int


class Sales(NamedTuple):
    """What some orders come to: how many they are, the sum of their numbers, and the cents that each shop took."""

    rows: int
    numbers: int
    turnover: npt.NDArray[np.int64]


def order(number: int) -> tuple[int, int, int, int]:
    """Return one row of the CSV file: the order's number, shop, quantity, and price of a piece in cents."""
    return number, number % SHOPS, 1 + number % MOST, number * 37 % CENTS


def write_orders(path: Path, rows: int) -> None:
    """Write the CSV file."""
    with path.open("w") as file:
        file.write("order,shop,quantity,cents\n")
        file.writelines(",".join(map(str, order(number))) + "\n" for number in range(rows))


def cut(path: Path, size: int) -> list[Block]:
    """Cut a CSV file, without its first line, into blocks of about `size` bytes, at ends of lines."""
    blocks: list[Block] = []
    with path.open("rb") as file:
        start = len(file.readline())
        while True:
            file.seek(start + size)
            file.readline()
            end = min(file.tell(), path.stat().st_size)
            if end <= start:
                return blocks
            blocks.append(Block(str(path), start, end - start))
            start = end


def add_up(block: Block) -> Sales:
    """Parse a block and add up what its orders come to."""
    with open(block.path, "rb") as file:
        file.seek(block.start)
        text = file.read(block.size)
    rows = np.loadtxt(io.BytesIO(text), dtype=np.int64, delimiter=",", ndmin=2)
    turnover = np.zeros(SHOPS, np.int64)
    np.add.at(turnover, rows[:, 1], rows[:, 2] * rows[:, 3])
    return Sales(len(rows), int(rows[:, 0].sum()), turnover)


def total(sales: Iterable[Sales]) -> Sales:
    """Add up what blocks come to."""
    rows, numbers, turnovers = zip(*sales, strict=True)
    return Sales(sum(rows), sum(numbers), np.sum(turnovers, axis=0))


def check_orders(rows: int, sales: Sales) -> None:
    """Check the sums without the file and without NumPy.

    Raises:
        WrongResult: With the sum that is wrong.
    """
    periods, rest = divmod(rows, PERIOD)
    turnover = [0] * SHOPS
    for number in range(min(rows, PERIOD)):
        _, shop, quantity, cents = order(number)
        turnover[shop] += quantity * cents * (periods + (number < rest))
    for what, found, expected in (
        ("number of rows", sales.rows, rows),
        ("sum of the orders' numbers", sales.numbers, rows * (rows - 1) // 2),
        ("turnover of the shops", sales.turnover.tolist(), turnover),
    ):
        if found != expected:
            raise WrongResult(f"The {what} is {found!r:.200}, and should be {expected!r:.200}.")


def sources(limit: int | None) -> list[str]:
    """Return the source files of the standard library, at most `limit` of them, spread over all."""
    library = Path(sysconfig.get_path("stdlib"))
    found = (path for path in library.rglob("*.py") if "site-packages" not in path.relative_to(library).parts)
    paths = sorted(str(path) for path in found if path.is_file())
    return paths if limit is None else paths[:: max(1, len(paths) // max(1, limit))][:limit]


def main() -> None:
    """Count, check and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--files", type=positive, help="the number of source files to take; default: all")
    parser.add_argument("--rows", type=positive, default=4_000_000, help="of the CSV file; default: %(default)s")
    parser.add_argument("--block", type=positive, default=1 << 18, help="bytes of it in a task; default: %(default)s")
    arguments = parser.parse_args()
    paths = sources(arguments.files)
    with tempfile.TemporaryDirectory() as scratch:
        orders = Path(scratch, "orders.csv")
        write_orders(orders, arguments.rows)

        start = time.perf_counter()
        with open_pool(arguments.executor, arguments.workers, arguments.start_method) as pool:
            counts = list(pool.map(count_nodes, paths))
            between = time.perf_counter()
            blocks = cut(orders, arguments.block)
            sales = total(pool.map(add_up, blocks))
        end = time.perf_counter()

    try:
        check_sources(paths, counts)
        check_orders(arguments.rows, sales)
    except WrongResult as wrong:
        sys.exit(f"data set, {arguments.executor}: {wrong}")
    nodes: collections.Counter[str] = collections.Counter()
    for each in counts:
        nodes.update(each.kinds or {})
    functions, classes = definitions(nodes)
    print(f"data set, {arguments.executor}: {len(paths):,} source files, {nodes.total():,} nodes, ", end="")
    print(f"{functions:,} functions, {classes:,} classes, {sum(each.kinds is None for each in counts)} do not parse")
    print(f"{between - start:.3f} s, {len(paths) / (between - start):,.0f} files a second, output checked")
    print(f"{sales.rows:,} rows in {len(blocks)} blocks, {sales.turnover.sum() / 100:,.2f} turned over")
    print(f"{end - between:.3f} s, {sales.rows / (end - between):,.0f} rows a second, output checked")


if __name__ == "__main__":
    main()
