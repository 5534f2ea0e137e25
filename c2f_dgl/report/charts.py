"""Charts as geometry: scales, ticks and points in pixels, which a template turns into inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

# Width and height: as many pixels as the page gives a chart where there are three or two in a row.
SMALL, LARGE = (340.0, 215.0), (460.0, 280.0)
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 14.0, 12.0, 40.0

# Lines longer than this are thinned: the screen shows no more, and pages stay small.
_MOST_POINTS = 300


@dataclass(frozen=True)
class Point:
    """A marked point.

    Parameters
    ----------
    x, y : float
    title : str
        Shown when it is pointed at.
    style : str
        CSS classes.
    label : str
        A letter in place of a symbol.
    symbol : int
        Number of the symbol.
    """

    x: float
    y: float
    title: str
    style: str = ""
    label: str = ""
    symbol: int = 0


@dataclass(frozen=True)
class Curve:
    """A line through points in data units; ``style`` is its CSS classes."""

    points: Sequence[tuple[float, float]]
    style: str


@dataclass(frozen=True)
class Tick:
    """A tick at a pixel, and its label."""

    at: float
    label: str


@dataclass(frozen=True)
class Chart:
    """What the template draws; all coordinates in pixels of a width x height box."""

    title: str
    x_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[tuple[str, str]]
    points: list[Point]
    rules: list[tuple[float, str]]
    width: float
    height: float

    @property
    def left(self) -> float:
        """Left edge of the plot."""
        return _LEFT

    @property
    def right(self) -> float:
        """Right edge of the plot."""
        return self.width - _RIGHT

    @property
    def bottom(self) -> float:
        """Bottom edge of the plot."""
        return self.height - _BOTTOM


def chart(
    title: str,
    x_label: str,
    *,
    curves: Sequence[Curve] = (),
    points: Sequence[Point] = (),
    rules: Sequence[tuple[float, str]] = (),
    size: tuple[float, float] = SMALL,
    log_x: bool = False,
    whole_x: bool = False,
    from_zero: bool = False,
) -> Chart | None:
    """Scale curves, points and labelled horizontal rules, all in data units, to a chart; None if there is nothing.

    Parameters
    ----------
    title, x_label : str
    curves, points
    rules : sequence of (y, label)
    size : (width, height)
    log_x : bool
        All x must be positive.
    whole_x : bool
        Ticks of x at whole numbers only.
    from_zero : bool
        y starts at 0.
    """
    width, height = size
    placed = [xy for curve in curves for xy in curve.points] + [(p.x, p.y) for p in points]
    if not placed:
        return None
    xs = [math.log10(x) if log_x else x for x, _ in placed]
    ys = [y for _, y in placed] + [y for y, _ in rules]
    x_low, x_high = _padded(min(xs), max(xs), 0.08 if log_x else 0.0)
    y_low, y_high = _padded(min(ys), max(ys), 0.06)
    if from_zero:
        y_low = 0.0

    def x_at(x: float) -> float:
        u = math.log10(x) if log_x else x
        return round(_LEFT + (u - x_low) / (x_high - x_low) * (width - _LEFT - _RIGHT), 1)

    def y_at(y: float) -> float:
        return round(height - _BOTTOM - (y - y_low) / (y_high - y_low) * (height - _TOP - _BOTTOM), 1)

    x_values = _log_ticks(x_low, x_high) if log_x else _ticks(x_low, x_high, 6, 1.0 if whole_x else 0.0)
    return Chart(
        title,
        x_label,
        [Tick(x_at(x), label) for x, label in x_values],
        [Tick(y_at(y), label) for y, label in _ticks(y_low, y_high, 5)],
        [
            (" ".join(f"{x_at(x):g},{y_at(y):g}" for x, y in thinned(curve.points)), curve.style)
            for curve in curves
            if len(curve.points) > 1
        ],
        [replace(p, x=x_at(p.x), y=y_at(p.y)) for p in points],
        [(y_at(y), label) for y, label in rules],
        width,
        height,
    )


def thinned(points: Sequence[tuple[float, float]], most: int = _MOST_POINTS) -> list[tuple[float, float]]:
    """At most about `most` of the points, evenly taken, the first and the last among them."""
    step = -(-len(points) // most)
    return [*points[:-1:step], *points[-1:]] if step > 1 else list(points)


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    if high <= low:
        room = abs(low) * 0.05 or 0.5
        return low - room, high + room
    return low - share * (high - low), high + share * (high - low)


def _ticks(low: float, high: float, most: int, smallest: float = 0.0) -> list[tuple[float, str]]:
    """Round numbers in [low, high], at most `most`, with as many decimals as tell them apart."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(s for f in (1, 2, 5, 10, 20) if (s := f * power) >= (high - low) / most * (1 - 1e-9))
    step = max(step, smallest)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, f"{k * step:,.{decimals}f}") for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[tuple[float, str]]:
    """1, 2 and 5 times powers of ten, the powers alone where those are many, evenly spaced ones where few."""
    factors: tuple[int, ...] = (1, 2, 5) if high - low < 2.4 else (1,)
    values = [f * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for f in factors]
    inside = [(value, _short(value)) for value in values if low <= math.log10(value) <= high]
    return inside if len(inside) > 2 else _ticks(10**low, 10**high, 5)


def _short(value: float) -> str:
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"
