"""Price an option by Monte Carlo, with independent random streams, and the same digits for any number of workers.

The option pays what the geometric mean of a share's price at the ends of twelve months exceeds the strike. Its price
has a closed form (Kemna and Vorst, 1990), so the answer is known.

Three things make the result reproducible. The draws are cut into blocks of a fixed size, whatever the number of
workers. Block n has a random stream of its own: the n-th child of one `numpy.random.SeedSequence`. And the sums of the
blocks are added without loss (`math.fsum`), so their order does not matter.

The output is checked: the price is within five standard errors of the closed form, and a sample of the blocks gives the
same bits in this process.

    python benchmarks/jobs/simulation.py [--executor NAME] [--workers N] [--draws N] [--block N] [--seed N]
"""

from __future__ import annotations

import argparse
import functools
import math
import statistics
import sys
import time
from typing import NamedTuple

import numpy as np
from executors import WrongResult, add_arguments, open_pool, positive

SHARE, STRIKE = 100.0, 105.0  # prices
RATE, VOLATILITY = 0.03, 0.2  # a year
YEARS, MONTHS = 1.0, 12
SAMPLE = 20  # blocks that are simulated again in this process
FEWEST = 1000  # draws
ERRORS = 5.0  # standard errors; chance goes beyond in one run of two million


class Block(NamedTuple):
    """One task: its number, which is that of its random stream, and how many draws it has."""

    number: int
    draws: int


class Sums(NamedTuple):
    """What a block gives: the draws, the sum of their discounted payoffs, and that of the squares."""

    draws: int
    payoffs: float
    squares: float


class Estimate(NamedTuple):
    """The price, and its standard error."""

    price: float
    error: float


def simulate(block: Block, seed: int) -> Sums:
    """Draw paths of the share's price and add the payoffs up.

    Args:
        block: Which stream, and how many draws.
        seed: That of the whole simulation.

    Returns:
        The sums, which depend on the arguments alone.
    """
    stream = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(block.number,)))
    step = YEARS / MONTHS
    steps = stream.standard_normal((block.draws, MONTHS))
    steps *= VOLATILITY * math.sqrt(step)
    steps += (RATE - VOLATILITY**2 / 2) * step
    mean = SHARE * np.exp(np.cumsum(steps, axis=1).mean(axis=1))
    payoffs = np.maximum(mean - STRIKE, 0.0) * math.exp(-RATE * YEARS)
    return Sums(block.draws, float(payoffs.sum()), float(np.square(payoffs).sum()))


def cut(draws: int, size: int) -> list[Block]:
    """Cut a number of draws into blocks of a size; the last may be smaller."""
    return [Block(i, min(size, draws - i * size)) for i in range(math.ceil(draws / size))]


def combine(sums: list[Sums]) -> Estimate:
    """Make the estimate of the sums of all blocks, in any order."""
    draws = sum(each.draws for each in sums)
    mean = math.fsum(each.payoffs for each in sums) / draws
    variance = math.fsum(each.squares for each in sums) / draws - mean**2
    return Estimate(mean, math.sqrt(variance / draws))


def closed_form() -> float:
    """Return the exact price: the geometric mean of lognormal prices is lognormal itself."""
    mu = math.log(SHARE) + (RATE - VOLATILITY**2 / 2) * YEARS * (MONTHS + 1) / (2 * MONTHS)
    variance = VOLATILITY**2 * YEARS * (MONTHS + 1) * (2 * MONTHS + 1) / (6 * MONTHS**2)
    d = (mu - math.log(STRIKE)) / math.sqrt(variance)
    below = statistics.NormalDist().cdf
    mean = math.exp(mu + variance / 2) * below(d + math.sqrt(variance)) - STRIKE * below(d)
    return math.exp(-RATE * YEARS) * mean


def check(blocks: list[Block], sums: list[Sums], seed: int) -> None:
    """Check the estimate against the closed form, and a sample of the blocks against this process.

    Raises:
        WrongResult: With what is wrong.
    """
    if [each.draws for each in sums] != [block.draws for block in blocks]:
        raise WrongResult(f"The {len(sums)} results are not those of the {len(blocks)} blocks.")
    for block, found in list(zip(blocks, sums, strict=True))[:: max(1, len(blocks) // SAMPLE)]:
        expected = simulate(block, seed)
        if found != expected:
            raise WrongResult(f"Block {block.number} gives {found}, and in this process {expected}.")
    price, error = combine(sums)
    if not abs(price - closed_form()) <= ERRORS * error:
        raise WrongResult(f"The price is {price} +- {error}, and should be {closed_form()}.")


def main() -> None:
    """Simulate, check and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_arguments(parser)
    parser.add_argument("--draws", type=positive, default=10_000_000, help="paths of the price; default: %(default)s")
    parser.add_argument("--block", type=positive, default=2_000, help="draws in a task, which the digits depend on")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.draws < FEWEST:
        parser.error(f"--draws must be at least {FEWEST}: fewer do not tell how far off the price may be")
    blocks = cut(arguments.draws, arguments.block)

    start = time.perf_counter()
    with open_pool(arguments.executor, arguments.workers, arguments.start_method) as pool:
        sums = list(pool.map(functools.partial(simulate, seed=arguments.seed), blocks))
    seconds = time.perf_counter() - start

    try:
        check(blocks, sums, arguments.seed)
    except WrongResult as wrong:
        sys.exit(f"simulation, {arguments.executor}: {wrong}")
    price, error = combine(sums)
    print(f"simulation, {arguments.executor}: {arguments.draws:,} draws in {len(blocks):,} blocks")
    print(f"price {price!r} +- {error:.2g}, exactly {closed_form():.6f}")
    print(f"{seconds:.3f} s, {arguments.draws / seconds:,.0f} draws a second, output checked")


if __name__ == "__main__":
    main()
