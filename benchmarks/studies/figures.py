"""Figures of docs/found.md: each comparison's difference to its control, with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes

from benchmarks.studies.report import digest
from c2f_dgl.bench.plot import figure

COLOURS = {"gowalla": "#7a3e9d", "lastfm": "#1f6fb4", "planted": "#d9822b"}
OTHER = "#555555"

Point = dict[str, Any]


def is_current(path: Path, points: list[Point]) -> bool:
    """Whether the figure at `path` shows these points: by the digest it carries."""
    return path.is_file() and f"points {digest(points)}" in path.read_text(encoding="utf-8")


def described(points: list[Point]) -> dict[str, Any]:
    """Metadata of a figure of these points."""
    return {"Date": None, "Description": f"points {digest(points)}"}


def draw(path: Path, points: list[Point], title: str) -> None:
    """Write the figure of a study, the same bytes for the same points: a panel per sweep, rows for the rest."""
    sweeps = list(dict.fromkeys(point["at"][0] for point in points if point["at"]))
    rows = [point for point in points if not point["at"]]
    panels = len(sweeps) + bool(rows)
    labels = list(dict.fromkeys(point["label"] for point in rows))
    size = (max(6.4, 2.6 * panels), max(2.6, 0.32 * len(labels) + 1.2))
    with figure(path, described(points), ncols=panels, figsize=size) as (drawn, axes):
        for axis, sweep in zip(axes[0], sweeps, strict=False):
            _curve(axis, sweep, [point for point in points if point["at"] and point["at"][0] == sweep])
        if sweeps:
            axes[0][0].set_ylabel("Δ test N@20 to the control, %")
        if rows:
            _rows(axes[0][-1], labels, rows)
        axes[0][0].set_title(title, loc="left", fontsize=9)
        handles, names = axes[0][-1].get_legend_handles_labels()
        drawn.legend(handles, names, loc="outside upper right", ncols=len(names), frameon=False)
        drawn.tight_layout(rect=(0, 0, 1, 0.95))


def _by_data(points: list[Point]) -> dict[str, list[Point]]:
    return {point["data"]: [other for other in points if other["data"] == point["data"]] for point in points}


def _curve(axis: Axes, sweep: str, points: list[Point]) -> None:
    for data, of_data in _by_data(points).items():
        ordered = sorted(of_data, key=lambda point: point["at"][1])
        y = [point["percent"] for point in ordered]
        _errorbar(axis, [point["at"][1] for point in ordered], y, data, fmt="o-", yerr=_errors(ordered))
    axis.axhline(0, color="0.6", linewidth=0.8)
    axis.set_xticks(sorted({point["at"][1] for point in points}))
    axis.set_xlabel(sweep)


def _rows(axis: Axes, labels: list[str], points: list[Point]) -> None:
    by_data = _by_data(points)
    for k, (data, of_data) in enumerate(by_data.items()):
        shift = 0.25 * (k - (len(by_data) - 1) / 2)
        y = [labels.index(point["label"]) + shift for point in of_data]
        _errorbar(axis, [point["percent"] for point in of_data], y, data, fmt="o", xerr=_errors(of_data))
    axis.axvline(0, color="0.6", linewidth=0.8)
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.set_xlabel("Δ test N@20 to the control, %, with its 95 % interval")


def _errorbar(axis: Axes, x: list[float], y: list[float], data: str, **options: Any) -> None:
    axis.errorbar(x, y, markersize=4, capsize=2, color=COLOURS.get(data, OTHER), label=data, **options)


def _errors(points: list[Point]) -> list[list[float]]:
    below = [point["percent"] - point["low"] for point in points]
    return [below, [point["high"] - point["percent"] for point in points]]
