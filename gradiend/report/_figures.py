"""Line charts as view data: Python computes places in a box of fixed size, the template draws SVG.

A box is as wide as a phone, and larger screens show several side by side, so that text in a chart is always readable.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from gradiend.report._format import is_number, number, step
from gradiend.visualizer._style import without_middle

WIDTH, HEIGHT = 330.0, 210.0
MOST_MEANS = 240
_LEFT, _TOP, _BOTTOM = 46.0, 20.0, 36.0
_CHARACTER = 6.1
"""Width of a character of a label, a little more than fonts of 11 pixels need."""
_LABEL_CHARS = 14
_LABEL_GAP = 13.0

Point = tuple[float, float]


def nice_ticks(low: float, high: float, most: int = 5) -> list[tuple[float, str]]:
    """Round numbers between `low` and `high`, at most `most` + 1 of them, written with the decimals that they need."""
    raw = (high - low) / most
    power = math.floor(math.log10(raw))
    gap = next(factor * 10.0**power for factor in (1, 2, 5, 10) if factor * 10.0**power >= raw * (1 - 1e-9))
    decimals = max(0, -math.floor(math.log10(gap) + 1e-9))
    first = math.ceil(low / gap - 1e-9)
    ticks = [i * gap for i in range(first, math.floor(high / gap + 1e-9) + 1)]
    return [(tick, number(tick, decimals)) for tick in ticks]


@dataclass(frozen=True)
class Axis:
    """A range of numbers and the pixels that it is drawn on."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a number."""
        low, high = (math.log10(end) if self.log else end for end in (self.low, self.high))
        share = ((math.log10(value) if self.log else value) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self, most: int = 5) -> list[tuple[float, str]]:
        """(pixel, label) of round numbers; those of a long logarithmic axis are 1, 2 and 5 times powers of ten."""
        found = nice_ticks(self.low, self.high, most)
        if self.log and self.high > 4 * self.low:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            for factors in ((1, 2, 5), (1,)):
                values = [factor * 10.0**power for power in powers for factor in factors]
                found = [(value, f"{value:.12g}") for value in values if self.low <= value <= self.high]
                if len(found) <= most + 1:
                    break
            found = found[:: math.ceil(len(found) / (most + 1)) or 1]
        return [(self(value), label) for value, label in found]


@dataclass(frozen=True)
class Series:
    """Named points in the order in which a line connects them."""

    name: str
    points: Sequence[Point]
    look: int
    """Number of its colour, line style and marker."""
    intervals: Sequence[tuple[float, float] | None] = ()
    """The interval of each point's value; empty without intervals."""
    hollow: Sequence[bool] = ()
    """Whether each point is drawn hollow; empty for none."""
    marked: bool = True
    """Whether points have markers; a line of very many points has none."""
    joined: bool = True
    """Whether a line connects the points."""


@dataclass(frozen=True)
class Rule:
    """A reference line across the chart."""

    value: float
    name: str
    vertical: bool = False
    kind: str = "reference"
    """The class of its look: reference, limit or chosen."""


@dataclass(frozen=True)
class Mark:
    """A drawn point."""

    x: float
    y: float
    tip: str
    hollow: bool
    bar: tuple[float, float] | None


@dataclass(frozen=True)
class DrawnLine:
    """A drawn series; the label stands right of its last point."""

    name: str
    look: int
    path: str
    marks: tuple[Mark, ...]
    label: str
    label_y: float


@dataclass(frozen=True)
class Chart:
    """A chart in pixels of a box of `WIDTH` by `HEIGHT`."""

    title: str
    x_name: str
    left: float
    right: float
    top: float
    bottom: float
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    lines: Sequence[DrawnLine]
    rules: Sequence[tuple[float, Rule]]
    described: str
    """A description of the chart, for readers who cannot see it."""
    width: float = field(default=WIDTH, init=False)
    height: float = field(default=HEIGHT, init=False)


def chart(
    title: str, series: Sequence[Series], *, x_name: str, y_name: str, rules: Sequence[Rule] = (), log_x: bool = False,
    x_range: tuple[float, float] | None = None, y_range: tuple[float, float] | None = None, labels: bool = True,
) -> Chart | None:  # fmt: skip
    """Lay out a chart; None if no series has a point.

    The axes include the rules and at least `x_range` and `y_range`; numbers on a logarithmic axis must be positive.
    With `labels`, lines have their names at their ends.
    """
    drawn = [one for one in series if one.points]
    if not drawn:
        return None
    xs = [x for one in drawn for x, _ in one.points] + [rule.value for rule in rules if rule.vertical]
    xs += x_range or ()
    ys = [y for one in drawn for _, y in one.points] + [rule.value for rule in rules if not rule.vertical]
    ys += [end for one in drawn for pair in one.intervals if pair is not None for end in pair]
    names = [without_middle(one.name, _LABEL_CHARS) for one in drawn] if labels else [""] * len(drawn)
    right = WIDTH - 8.0 - max(len(name) for name in names) * _CHARACTER
    bottom = HEIGHT - _BOTTOM
    x_axis = Axis(*_padded(min(xs), max(xs), log=log_x), _LEFT + 6.0, right - 8.0, log_x)
    y_axis = Axis(*_range(ys, y_range), bottom, _TOP)
    ends = _apart([y_axis(one.points[-1][1]) for one in drawn], _TOP, bottom)
    lines = [
        DrawnLine(
            one.name, one.look, _path(one.points, x_axis, y_axis) if one.joined else "",
            _marks(one, x_axis, y_axis, x_name), name, end,
        )
        for one, name, end in zip(drawn, names, ends, strict=True)
    ]  # fmt: skip
    placed = [((x_axis if rule.vertical else y_axis)(rule.value), rule) for rule in rules]
    told = "; ".join(
        f"{one.name} from {step(one.points[0][1])} to {step(one.points[-1][1])}, {len(one.points)} points"
        for one in drawn
    )
    return Chart(
        title, x_name, _LEFT, right, _TOP, bottom, x_axis.ticks(4), y_axis.ticks(5), lines, placed,
        f"{title}. {y_name} against {x_name}: {told}.",
    )  # fmt: skip


def _padded(low: float, high: float, *, log: bool) -> tuple[float, float]:
    """A range with an extent, also where all numbers are the same."""
    if low < high:
        return low, high
    return (low / 2, high * 2) if log else (low - 1, high + 1)


def _range(values: Sequence[float], least: tuple[float, float] | None) -> tuple[float, float]:
    low, high = min(values), max(values)
    if least is not None:
        low, high = min(low, least[0]), max(high, least[1])
    margin = 0.05 * (high - low) or 0.05 * abs(high) or 1.0
    # A range that the caller gives already has its ends where they should be.
    return (
        low if least is not None and low == least[0] else low - margin,
        high if least is not None and high == least[1] else high + margin,
    )


def _path(points: Iterable[Point], x_axis: Axis, y_axis: Axis) -> str:
    return "M" + "L".join(f"{x_axis(x):g},{y_axis(y):g}" for x, y in points)


def _marks(one: Series, x_axis: Axis, y_axis: Axis, x_name: str) -> tuple[Mark, ...]:
    if not one.marked:
        return ()
    hollow = one.hollow or [False] * len(one.points)
    intervals = one.intervals or [None] * len(one.points)
    found = []
    for (x, y), is_hollow, pair in zip(one.points, hollow, intervals, strict=True):
        told = f"{x_name} {step(x)}: {one.name} {step(y)}"
        bar = None
        if pair is not None and all(map(is_number, pair)):
            bar = (y_axis(pair[0]), y_axis(pair[1]))
            told += f", 95 % interval {step(pair[0])} to {step(pair[1])}"
        found.append(Mark(x_axis(x), y_axis(y), told, is_hollow, bar))
    return tuple(found)


def _apart(places: Sequence[float], top: float, bottom: float) -> list[float]:
    """Places moved as little as needed for labels not to touch, in their order."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = dict(enumerate(places))
    for above, below in itertools.pairwise(order):
        moved[below] = max(moved[below], moved[above] + _LABEL_GAP)
    excess = max(0.0, moved[order[-1]] - bottom)
    for i in order:
        moved[i] = max(top, moved[i] - excess)
    return [moved[i] for i in range(len(places))]


def thinned_means(values: Mapping[float, float]) -> list[Point]:
    """(step, value) of at most `MOST_MEANS` points: means over equal numbers of neighbouring steps."""
    steps = list(values)
    width = max(1, math.ceil(len(steps) / MOST_MEANS))
    groups = [steps[i : i + width] for i in range(0, len(steps), width)]
    return [(group[-1], sum(values[one] for one in group) / len(group)) for group in groups]
