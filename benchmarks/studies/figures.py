"""Figures of docs/found.md: each comparison's difference to its control, with its interval."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

from benchmarks.studies.report import digest
from c2f_dgl.io.files import replacing

COLOURS = {"gowalla": "#7a3e9d", "lastfm": "#1f6fb4", "planted": "#d9822b"}
OTHER = "#555555"


def is_current(path: Path, plotted: list[dict[str, Any]]) -> bool:
    """Whether the figure at `path` shows these points: by the digest it carries."""
    return path.is_file() and f"points {digest(plotted)}" in path.read_text(encoding="utf-8")


def draw(path: Path, title: str, plotted: list[dict[str, Any]]) -> None:
    """Write the figure of a study, the same bytes for the same points: a panel per sweep, rows for the rest."""
    sweeps = list(dict.fromkeys(point["at"][0] for point in plotted if point["at"]))
    rows = [point for point in plotted if not point["at"]]
    panels = len(sweeps) + bool(rows)
    labels = list(dict.fromkeys(point["label"] for point in rows))
    with plt.rc_context({"svg.hashsalt": "c2f_dgl", "svg.fonttype": "none", "font.size": 9}):
        height = max(2.6, 0.32 * len(labels) + 1.2)
        figure, axes = plt.subplots(1, panels, figsize=(max(6.4, 2.6 * panels), height), squeeze=False)
        for axis, sweep in zip(axes[0], sweeps, strict=False):
            _curve(axis, sweep, [point for point in plotted if point["at"] and point["at"][0] == sweep])
        if sweeps:
            axes[0][0].set_ylabel("Δ test N@20 to the control, %")
        if rows:
            _rows(axes[0][-1], labels, rows)
        axes[0][0].set_title(title, loc="left", fontsize=9)
        handles, names = axes[0][-1].get_legend_handles_labels()
        figure.legend(handles, names, loc="outside upper right", ncols=len(names), frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 0.95))
        with replacing(path) as aside:
            metadata = {"Date": None, "Description": f"points {digest(plotted)}"}
            figure.savefig(aside, format="svg", metadata=metadata)
            # Matplotlib ends some lines of path data with blanks.
            text = re.sub(r"[ \t]+\n", "\n", aside.read_text(encoding="utf-8"))
            aside.write_text(text, encoding="utf-8")
        plt.close(figure)


def _curve(axis: Axes, sweep: str, points: list[dict[str, Any]]) -> None:
    for data in dict.fromkeys(point["data"] for point in points):
        some = sorted((point for point in points if point["data"] == data), key=lambda point: point["at"][1])
        axis.errorbar(
            [point["at"][1] for point in some],
            [point["percent"] for point in some],
            yerr=_errors(some),
            fmt="o-",
            markersize=4,
            capsize=2,
            color=COLOURS.get(data, OTHER),
            label=data,
        )
    axis.axhline(0, color="0.6", linewidth=0.8)
    axis.set_xticks(sorted({point["at"][1] for point in points}))
    axis.set_xlabel(sweep)


def _rows(axis: Axes, labels: list[str], points: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(point["data"] for point in points))
    for k, data in enumerate(names):
        some = [point for point in points if point["data"] == data]
        axis.errorbar(
            [point["percent"] for point in some],
            [labels.index(point["label"]) + 0.25 * (k - (len(names) - 1) / 2) for point in some],
            xerr=_errors(some),
            fmt="o",
            markersize=4,
            capsize=2,
            color=COLOURS.get(data, OTHER),
            label=data,
        )
    axis.axvline(0, color="0.6", linewidth=0.8)
    axis.set_yticks(range(len(labels)), labels)
    axis.invert_yaxis()
    axis.set_xlabel("Δ test N@20 to the control, %, with its 95 % interval")


def _errors(points: list[dict[str, Any]]) -> list[list[float]]:
    return [
        [point["percent"] - point["low"] for point in points],
        [point["high"] - point["percent"] for point in points],
    ]
