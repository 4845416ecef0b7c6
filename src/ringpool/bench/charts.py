"""Charts as SVG text: curves with their spread, and ratios on a line.

They need no script and no network. Colours are variables of the style sheet `STYLE`, which knows light and dark; each
contender also has a marker of its own, as colours may not suffice. Every marker has a tooltip with its numbers.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH, HEIGHT = 480, 320  # small enough for letters to be read on a telephone, where a chart is 376 pixels wide
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 52, 46  # around the area of the curves
LINE, ROW = 16, 20  # heights of a line of the title or of the legend, and of a row of ratios
NEXT = 5  # from one marker of a row to that below it
TITLE = 54  # letters in a line of the title
NAMES = 190  # width of the names of rows
COLOURS = 10

STYLE = """
:root { color-scheme: light dark; --back: #ffffff; --ink: #1c2024; --quiet: #5c6670; --line: #d8dde2; --panel: #f5f7f9;
  --c0: #0b63ce; --c1: #d2500a; --c2: #24813a; --c3: #9333b8; --c4: #c01f5d; --c5: #0b7f92; --c6: #7a5b00;
  --c7: #5438c9; --c8: #56606a; --c9: #8a4b2a; }
@media (prefers-color-scheme: dark) { :root { --back: #14171a; --ink: #e8ebee; --quiet: #9aa5b0; --line: #363d44;
  --panel: #1c2126; --c0: #62a8ff; --c1: #ff9457; --c2: #62c77b; --c3: #d08cf0; --c4: #ff7fae; --c5: #4fc6da;
  --c6: #d9b84a; --c7: #a594ff; --c8: #a3adb7; --c9: #d9a07e; } }
svg { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .quiet { fill: var(--quiet); }
svg .grid { stroke: var(--line); stroke-width: 1; }
svg .even { stroke: var(--quiet); stroke-width: 1.5; stroke-dasharray: 4 3; }
svg .curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
svg .band { opacity: 0.16; stroke: none; }
svg .range { stroke-width: 2; opacity: 0.55; }
svg .title { font-weight: 600; font-size: 13px; }
""" + "\n".join(f"svg .c{i} {{ stroke: var(--c{i}); fill: var(--c{i}); }}" for i in range(COLOURS))


@dataclass(frozen=True)
class Point:
    """A number with its spread, at a place of a curve.

    Args:
        x: Where it stands.
        y: The median of the rounds.
        low: The least of them.
        high: The largest of them.
        says: The tooltip.
    """

    x: float
    y: float
    low: float
    high: float
    says: str


@dataclass(frozen=True)
class Curve:
    """The points of one contender.

    Args:
        name: Of the contender.
        colour: Which of the `COLOURS` it has in every chart; the same number is that of its marker.
        points: At least one, by ascending x.
    """

    name: str
    colour: int
    points: Sequence[Point]


@dataclass(frozen=True)
class Axis:
    """How numbers become places.

    Args:
        label: What the axis shows, with its unit.
        low: The number at its beginning.
        high: The number at its end, above `low`.
        ticks: Numbers with a line across the chart, and what stands there.
        log: Whether equal steps are equal ratios; `low` is above zero then.
    """

    label: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    log: bool

    def share(self, value: float) -> float:
        """Return where a number stands, 0 at the beginning and 1 at the end; a number outside stands at the edge."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def amount(value: float) -> str:
    """Write a number as 0.05, 1, 250, 12k or 3.4M."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}"


def decades(label: str, values: Sequence[float], says: Callable[[float], str] = amount) -> Axis:
    """Return a logarithmic axis from power of ten to power of ten around numbers above zero."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    high = max(high, low + 1)
    step = math.ceil((high - low) / 8)
    ticks = [(10.0**power, says(10.0**power)) for power in range(low, high + 1, step)]
    return Axis(label, 10.0**low, 10.0**high, ticks, log=True)


def linear(label: str, values: Sequence[float]) -> Axis:
    """Return an axis from zero to a round number above all numbers, with about five ticks."""
    top = max(*values, 1e-9)
    step = 10.0 ** math.floor(math.log10(top / 4))
    step *= next(factor for factor in (1, 2, 2.5, 5, 10) if step * factor >= top / 5)
    count = math.ceil(top / step - 1e-9)
    return Axis(label, 0, count * step, [(i * step, amount(i * step)) for i in range(count + 1)], log=False)


def places(label: str, values: Sequence[tuple[float, str]]) -> Axis:
    """Return a logarithmic axis with a tick at each of the numbers, which are above zero, with their names."""
    numbers = [value for value, _ in values]
    low, high = min(numbers), max(numbers)
    room = max(1.2, (high / low) ** 0.05)  # for what stands at the ends
    return Axis(label, low / room, high * room, values, log=True)


def marker(x: float, y: float, colour: int, says: str = "") -> str:
    """Return the marker of a contender at a place, with a tooltip."""
    shape, place = (
        ("circle", f'cx="{x:.1f}" cy="{y:.1f}" r="4"'),
        ("rect", f'x="{x - 3.6:.1f}" y="{y - 3.6:.1f}" width="7.2" height="7.2"'),
        ("path", f'd="M{x:.1f} {y - 4.8:.1f}l4.6 8.4h-9.2z"'),
        ("path", f'd="M{x:.1f} {y - 5:.1f}l5 5l-5 5l-5-5z"'),
        ("path", f'd="M{x:.1f} {y + 4.8:.1f}l4.6-8.4h-9.2z"'),
    )[colour % 5]
    tip = f"<title>{escape(says)}</title>" if says else ""
    return f'<{shape} {place} class="c{colour % COLOURS}">{tip}</{shape}>'


def heading(title: str, names: Sequence[tuple[str, int]]) -> tuple[str, float]:
    """Return the title, below it markers with names, in as many lines as they need, and where what follows begins."""
    parts = []
    lines = textwrap.wrap(title, TITLE) or [""]
    for number, line in enumerate(lines):
        parts.append(f'<text x="8" y="{17 + number * LINE}" class="title">{escape(line)}</text>')
    more = (len(lines) - 1) * LINE
    x, y = 8.0, 36.0 + more
    for name, colour in names:
        width = 26 + 7 * len(name)
        if x + width > WIDTH and x > 8:
            x, y = 8.0, y + LINE
        parts.append(marker(x + 5, y - 4, colour) + f'<text x="{x + 14:.1f}" y="{y:.1f}">{escape(name)}</text>')
        x += width
    return "".join(parts), y - 36 + TOP


def svg(kind: str, title: str, width: float, height: float, parts: Sequence[str]) -> str:
    """Return the picture around its parts, with the title that is read aloud."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" class="chart {kind}" role="img" '
        f'aria-label="{escape(title)}">{"".join(parts)}</svg>'
    )


def curves(kind: str, title: str, x_axis: Axis, y_axis: Axis, drawn: Sequence[Curve]) -> str:
    """Return a chart of curves, each with a band from its least to its largest round.

    Args:
        kind: A word that tells this chart from others in the page.
        title: What it shows.
        x_axis: From left to right.
        y_axis: From the bottom up.
        drawn: The curves; the first is drawn last, above all others.

    Returns:
        SVG text.
    """

    def across(value: float) -> float:
        return LEFT + x_axis.share(value) * (WIDTH - LEFT - RIGHT)

    above_all, top = heading(title, [(curve.name, curve.colour) for curve in drawn])
    height = HEIGHT + top - TOP
    bottom = height - BOTTOM

    def up(value: float) -> float:
        return bottom - y_axis.share(value) * (bottom - top)

    parts = [above_all]
    for value, says in y_axis.ticks:
        y = up(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="quiet" x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{escape(says)}</text>')
    for value, says in x_axis.ticks:
        x = across(value)
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        parts.append(
            f'<text class="quiet" x="{x:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{escape(says)}</text>'
        )
    parts.append(
        f'<text class="quiet" x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{height - 10:.1f}" text-anchor="middle">'
        f"{escape(x_axis.label)}</text>"
    )
    middle = (top + bottom) / 2
    parts.append(
        f'<text class="quiet" transform="translate(14 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        f"{escape(y_axis.label)}</text>"
    )
    for curve in reversed(drawn):
        tone = f"c{curve.colour % COLOURS}"
        above = [f"{across(point.x):.1f} {up(point.high):.1f}" for point in curve.points]
        below = [f"{across(point.x):.1f} {up(point.low):.1f}" for point in reversed(curve.points)]
        line = [f"{across(point.x):.1f} {up(point.y):.1f}" for point in curve.points]
        parts.append(f'<path class="band {tone}" d="M{"L".join(above + below)}Z"/>')
        parts.append(f'<path class="curve {tone}" style="fill:none" d="M{"L".join(line)}"/>')
        parts += [marker(across(point.x), up(point.y), curve.colour, point.says) for point in curve.points]
    return svg(kind, title, WIDTH, height, parts)


@dataclass(frozen=True)
class Ratio:
    """How many times better the first contender is than another in one question.

    Args:
        row: The question.
        name: Of the other.
        colour: Of the other.
        point: The ratio, as y, with its spread.
    """

    row: str
    name: str
    colour: int
    point: Point


def ratios(kind: str, title: str, first: str, drawn: Sequence[Ratio]) -> str:
    """Return a chart with a row for each question, and in it a marker for each other contender, one below the other.

    Args:
        kind: A word that tells this chart from others in the page.
        title: What it shows.
        first: The contender that is compared with all others.
        drawn: The ratios; at least one.

    Returns:
        SVG text.
    """
    rows = list(dict.fromkeys(ratio.row for ratio in drawn))
    names = list(dict.fromkeys((ratio.name, ratio.colour) for ratio in drawn))
    ends = [end for ratio in drawn for end in (ratio.point.low, ratio.point.high)]
    axis = decades(f"times better than the other: {first} wins right of 1, and loses left of it", [*ends, 0.7, 1.4])
    above_all, top = heading(title, names)
    row = ROW if len(names) == 1 else max(ROW, 8 + NEXT * len(names))
    bottom = top + 6 + row * len(rows)

    def across(value: float) -> float:
        return NAMES + axis.share(value) * (WIDTH - NAMES - RIGHT)

    parts = [above_all]
    for value, says in axis.ticks:
        x = across(value)
        line = "even" if value == 1 else "grid"
        parts.append(f'<line class="{line}" x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}"/>')
        parts.append(
            f'<text class="quiet" x="{x:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{escape(says)}</text>'
        )
    parts.append(
        f'<text class="quiet" x="{WIDTH - RIGHT}" y="{bottom + 36:.1f}" text-anchor="end">{escape(axis.label)}</text>'
    )
    heights = {name: top + 6 + row * (number + 0.5) for number, name in enumerate(rows)}
    lanes = {name: NEXT * (number - (len(names) - 1) / 2) for number, (name, _) in enumerate(names)}
    for name, y in heights.items():
        parts.append(f'<text x="{NAMES - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>')
        edge = y if len(names) == 1 else y + row / 2  # one line carries its markers, several are parted by lines
        parts.append(f'<line class="grid" x1="{NAMES}" x2="{WIDTH - RIGHT}" y1="{edge:.1f}" y2="{edge:.1f}"/>')
    for ratio in drawn:
        y, point = heights[ratio.row] + lanes[ratio.name], ratio.point
        tone = f"c{ratio.colour % COLOURS}"
        left, right = across(point.low), across(point.high)
        parts.append(f'<line class="range {tone}" x1="{left:.1f}" x2="{right:.1f}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(marker(across(point.y), y, ratio.colour, point.says))
    return svg(kind, title, WIDTH, bottom + 46, parts)
