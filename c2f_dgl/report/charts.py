"""The charts of a page, as geometry in pixels which a template turns into inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from c2f_dgl.report.collect import Reference, RunReport

# Width and height: as many pixels as the page gives a chart where there are three or two in a row.
_SMALL, _LARGE = (340.0, 215.0), (460.0, 280.0)
_LEFT, _RIGHT, _TOP, _BOTTOM = 54.0, 14.0, 12.0, 40.0

# Lines longer than this are thinned: the screen shows no more, and pages stay small.
_MOST_POINTS = 300

_CURVES = {"ndcg@20": "Validation NDCG@20", "recall@20": "Validation recall@20", "loss": "Training loss"}

XY = tuple[float, float]
Curve = tuple[Sequence[XY], str]  # a line through points in data units, and its CSS classes
Tick = tuple[float, str]  # where it is, and its label
Runs = Sequence[tuple[int, RunReport]]  # with their numbers on the page


@dataclass(frozen=True)
class Point:
    """A marked point."""

    x: float
    y: float
    title: str  # shown when it is pointed at
    style: str = ""  # CSS classes
    label: str = ""  # a letter in place of a symbol
    symbol: int = 0


@dataclass(frozen=True)
class Chart:
    """What the template draws: all coordinates in pixels; lines and horizontal rules with a style or a label."""

    title: str
    x_label: str
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    lines: list[tuple[str, str]]
    points: list[Point]
    rules: list[tuple[float, str]]
    width: float
    height: float
    left: float
    right: float
    bottom: float


def chart(
    title: str,
    x_label: str,
    *,
    curves: Sequence[Curve] = (),
    points: Sequence[Point] = (),
    rules: Sequence[tuple[float, str]] = (),
    size: XY = _SMALL,
    log_x: bool = False,
    whole_x: bool = False,
    from_zero: bool = False,
) -> Chart | None:
    """Curves, points and rules (y, label), all in data units, as a chart of a size; None if there is nothing.

    x is logarithmic (`log_x`), with ticks at whole numbers only (`whole_x`); y starts at 0 (`from_zero`).
    """
    right, bottom = size[0] - _RIGHT, size[1] - _BOTTOM
    drawn = [xy for line, _ in curves for xy in line] + [(point.x, point.y) for point in points]
    if not drawn:
        return None
    xs = [math.log10(x) if log_x else x for x, _ in drawn]
    ys = [y for _, y in drawn] + [y for y, _ in rules]
    x_low, x_high = _padded(min(xs), max(xs), 0.08 if log_x else 0.0)
    y_low, y_high = _padded(min(ys), max(ys), 0.06)
    if from_zero:
        y_low = 0.0

    def x_at(x: float) -> float:
        u = math.log10(x) if log_x else x
        return round(_LEFT + (u - x_low) / (x_high - x_low) * (right - _LEFT), 1)

    def y_at(y: float) -> float:
        return round(bottom - (y - y_low) / (y_high - y_low) * (bottom - _TOP), 1)

    x_values = _log_ticks(x_low, x_high) if log_x else _ticks(x_low, x_high, 6, 1.0 if whole_x else 0.0)
    return Chart(
        title,
        x_label,
        x_ticks=[(x_at(x), label) for x, label in x_values],
        y_ticks=[(y_at(y), label) for y, label in _ticks(y_low, y_high, 5)],
        lines=[
            (" ".join(f"{x_at(x):g},{y_at(y):g}" for x, y in thinned(line)), style)
            for line, style in curves
            if len(line) > 1
        ],
        points=[replace(point, x=x_at(point.x), y=y_at(point.y)) for point in points],
        rules=[(y_at(y), label) for y, label in rules],
        width=size[0],
        height=size[1],
        left=_LEFT,
        right=right,
        bottom=bottom,
    )


def thinned(points: Sequence[XY], most: int = _MOST_POINTS) -> list[XY]:
    """At most about `most` of the points, evenly taken, the first and the last among them."""
    step = -(-len(points) // most)
    return [*points[:-1:step], *points[-1:]] if step > 1 else list(points)


def _padded(low: float, high: float, share: float) -> tuple[float, float]:
    if high <= low:
        room = abs(low) * 0.05 or 0.5
        return low - room, high + room
    return low - share * (high - low), high + share * (high - low)


def _ticks(low: float, high: float, most: int, smallest: float = 0.0) -> list[Tick]:
    """Round numbers in [low, high], at most `most`, with as many decimals as tell them apart."""
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(s for f in (1, 2, 5, 10, 20) if (s := f * power) >= (high - low) / most * (1 - 1e-9))
    step = max(step, smallest)
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [(k * step, f"{k * step:,.{decimals}f}") for k in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[Tick]:
    """1, 2 and 5 times powers of ten, the powers alone where those are many, evenly spaced ones where few."""
    factors: tuple[int, ...] = (1, 2, 5) if high - low < 2.4 else (1,)
    values = [f * 10.0**e for e in range(math.floor(low), math.ceil(high) + 1) for f in factors]
    inside = [(value, _short(value)) for value in values if low <= math.log10(value) <= high]
    return inside if len(inside) > 2 else _ticks(10**low, 10**high, 5)


def _short(value: float) -> str:
    size, unit = next((unit for unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")) if value >= unit[0]), (1.0, ""))
    return f"{value / size:g}{unit}"


def size_charts(runs: Runs, references: list[Reference]) -> list[Chart | None]:
    """Test NDCG@20 against learned values and against bytes; a reference of no size known is a line, or left out."""
    charts = []
    for key, unit in (("values", "learned values"), ("bytes", "bytes")):
        points, rules = [], []
        for number, reference in enumerate(references):
            size, y = getattr(reference, key), reference.metrics["ndcg@20"]
            if size is not None:
                title = f"{reference.name}: {_amount(size, key)}, NDCG@20 {y:.4f}"
                points.append(Point(size, y, title, "reference", reference_letter(number)))
            elif reference.values is None:
                rules.append((y, reference_letter(number)))
        for number, run in runs:
            for stage in sorted(run.stages, key=lambda stage: stage.name != run.chosen):
                if stage.test:
                    size, y = stage.values["total"] if key == "values" else stage.bytes, stage.test["ndcg@20"]
                    title = f"{run.name}, {stage.name}: {_amount(size, key)}, NDCG@20 {y:.4f}"
                    style = f"run r{number} {'' if stage.name == run.chosen else 'hollow'}"
                    points.append(Point(size, y, title, style, symbol=number))
        title = f"Test NDCG@20 against {unit}"
        charts.append(chart(title, unit, points=points, rules=rules, size=_LARGE, log_x=True))
    return charts


def curve_charts(runs: Runs, stage: str) -> list[Chart | None]:
    """Figures of a stage against epochs."""
    return [_curve_chart(runs, stage, key, title) for key, title in _CURVES.items()]


def training_charts(runs: Runs, stages: list[str]) -> list[Chart | None]:
    """Sparsity and churn of the stages against epochs."""
    titles = {"sparsity": "sparsity of the codebook", "churn": "assignment churn"}
    names = [(key, stage, f"{stage}: {title}") for key, title in titles.items() for stage in stages]
    return [_curve_chart(runs, stage, key, title, from_zero=True) for key, stage, title in names]


def _curve_chart(runs: Runs, stage: str, key: str, title: str, *, from_zero: bool = False) -> Chart | None:
    """One figure of the records of a stage against epochs; the updating phase is dashed, its churn is marked."""
    curves, points = [], []
    for number, run in runs:
        lines: dict[str, list[XY]] = {"fixed": [], "updating": []}
        last: XY | None = None
        for record in (record for record in run.records if record["stage"] == stage):
            value = record.get("valid", {}).get(key) if "@" in key else record.get(key)
            if value is None:
                continue
            phase = "updating" if record["phase"] == "updating" else "fixed"
            if phase == "updating" and not lines[phase] and last is not None and key != "churn":
                lines[phase].append(last)
            last = (record["epoch"], value)
            lines[phase].append(last)
        curves += [(line, f"r{number} {phase}") for phase, line in lines.items()]
        drawn = [xy for line in lines.values() for xy in line]
        style = f"{'small' if len(drawn) > 1 else 'run'} r{number}"
        points += [Point(x, y, f"{run.name}, epoch {x}: {y:.4g}", style, symbol=number) for x, y in thinned(drawn, 60)]
        best = next((report.epoch for report in run.stages if report.name == stage and "@" in key), None)
        if best in (at := dict(drawn)):
            title = f"{run.name}, best at epoch {best}: {at[best]:.4g}"
            points.append(Point(best, at[best], title, f"run r{number}", symbol=number))
    return chart(title, "epoch", curves=curves, points=points, whole_x=True, from_zero=from_zero)


def slice_charts(runs: Runs) -> list[Chart | None]:
    """NDCG@20 of users by activity and of items by popularity, with intervals; those without training are left out."""
    charts = []
    for by, title in (("activity", "Users by activity: NDCG@20"), ("popularity", "Items by popularity: NDCG@20")):
        curves, points = [], []
        for number, run in runs:
            known = [part for part in run.slices[by] if part.degree > 0]
            figures = [part.figures["ndcg@20"] for part in known]
            curves.append(([(p.degree, f[0]) for p, f in zip(known, figures, strict=True)], f"r{number} fixed"))
            for part, (mean, low, high) in zip(known, figures, strict=True):
                label = f"{run.name}, {part.name}: {mean:.4f}"
                if not math.isnan(low):
                    label += f" ({low:.4f} to {high:.4f})"
                    curves.append(([(part.degree, low), (part.degree, high)], f"r{number} fixed"))
                points.append(Point(part.degree, mean, label, f"run r{number}", symbol=number))
        charts.append(chart(title, "training interactions", curves=curves, points=points, size=_LARGE, log_x=True))
    return charts


def usage_charts(runs: Runs) -> list[Chart | None]:
    """Rows above each tier that use each atom, from the most to the least used."""
    charts = []
    tiers = [(number, run.name, tier) for number, run in runs for tier in run.tiers]
    for name in dict.fromkeys(tier.name for _, _, tier in tiers):
        curves, points = [], []
        for number, run_name, tier in tiers:
            if tier.name != name:
                continue
            counts = sorted(tier.counts.tolist(), reverse=True)
            share = 100 / max(len(counts) - 1, 1)
            ranked = [(rank * share, float(count)) for rank, count in enumerate(counts)]
            curves.append((ranked, f"r{number} fixed"))
            points += [
                Point(x, y, f"{run_name}: {y:,.0f} uses at {x:.0f} %", f"small r{number}", symbol=number)
                for x, y in thinned(ranked, 6)
            ]
        title, x_label = f"{name}: uses of each meta-embedding", "% of the codebook, most used first"
        charts.append(chart(title, x_label, curves=curves, points=points, from_zero=True))
    return charts


def reference_letter(number: int) -> str:
    """What stands for a reference in charts."""
    return chr(ord("A") + number)


def _amount(size: float, key: str) -> str:
    return f"{size:,} values" if key == "values" else format_size(size)


def format_size(size: float) -> str:
    """Bytes in the unit that suits."""
    for unit in ("B", "kB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" or size >= 100 else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} MB"
