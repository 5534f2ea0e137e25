"""The table and the figure of `benchmarks.device`: bytes against accuracy, means over seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import measure
from benchmarks.studies.figures import described
from c2f_dgl.bench.plot import figure

TITLES = {
    "ours": "codes, and neighbours where they pay",
    "fine": "a coarse and fine codes",
    "coarse": "a coarse code alone",
    "opq": "OPQ",
    "pq": "PQ",
    "int4": "SVD, int4",
    "int8": "SVD, int8",
    "float32": "SVD, float32",
    "pruned": "SVD, pruned",
}

_STYLES = {"ours": ("#7a3e9d", "o-", 2.0), "fine": ("#b48ac9", "o-", 1.0), "coarse": ("#b48ac9", "o:", 1.0)}
_OTHERS = {"opq": "#1f6fb4", "pq": "#6baed6", "int4": "#d9822b", "int8": "#e8b37d", "float32": "0.6", "pruned": "0.4"}


def table() -> str:
    """Test N@20 of device models within a number of bytes, beside other ways to make the same items small."""
    lines = []
    for data, budget, seeds, scores in _budgets():
        best = f"{max(scores.values()):.4f}"
        cells = (f"{scores[name]:.4f}" if name in scores else "not run" for name in TITLES)
        bold = (f"**{cell}**" if cell == best else cell for cell in cells)
        lines.append(" | ".join([f"{data}, {seeds} seed{'s' * (seeds > 1)}", f"{budget:,}", *bold]))
    return measure.table(" | ".join(["test N@20", "bytes", *TITLES.values()]), lines)


def points() -> list[dict[str, Any]]:
    """What `draw` draws: a curve for each data set and system."""
    curves = defaultdict[tuple[str, str], list[tuple[int, float]]](list)
    for data, budget, _, scores in _budgets():
        for system, score in scores.items():
            curves[data, system].append((budget, score))
    return [{"data": data, "system": system, "points": curve} for (data, system), curve in curves.items()]


def draw(path: Path, curves: list[dict[str, Any]]) -> None:
    """Test N@20 against bytes, a panel a data set."""
    names = list(dict.fromkeys(curve["data"] for curve in curves))
    n_rows = -(-len(names) // 3)
    with figure(path, described(curves), nrows=n_rows, ncols=3, figsize=(9.6, 2.6 * n_rows + 0.6)) as (drawn, axes):
        for axis, data in zip(axes.flat, names, strict=False):
            of_data = [curve for curve in curves if curve["data"] == data]
            for curve in of_data:
                x, y = zip(*curve["points"], strict=True)
                colour, marks, width = _STYLES.get(curve["system"], (_OTHERS.get(curve["system"]), "s--", 1.0))
                axis.plot(x, y, marks, color=colour, linewidth=width, markersize=3, label=TITLES[curve["system"]])
            axis.set_xscale("log")
            budgets = sorted({x for curve in of_data for x, _ in curve["points"]})
            axis.set_xticks(budgets, labels=[f"{budget // 1000:,} kB" for budget in budgets])
            axis.minorticks_off()
            axis.set_title(data, loc="left", fontsize=9)
            best = max(y for curve in of_data for _, y in curve["points"])
            axis.set_ylim(0.8 * best, 1.01 * best)  # what is 20 % below is not looked for
            axis.grid(color="0.92", linewidth=0.8)
        for axis in axes.flat[len(names) :]:
            axis.set_axis_off()
        axes[0][0].set_ylabel("test N@20")
        drawn.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False)
        drawn.tight_layout(rect=(0, 0.5 / (2.6 * n_rows + 0.6), 1, 1))


def _budgets() -> Iterator[tuple[str, int, int, dict[str, float]]]:
    """Each data set and number of bytes: on how many seeds, and the mean test N@20 of each system that ran on all."""
    tests = defaultdict[tuple[str, int], dict[str, list[float]]](lambda: defaultdict(list))
    for record in measure.read_all("device").values():
        for row in record["rows"]:
            tests[record["data"], row["budget"]][row["system"]].append(row["test"]["ndcg@20"])
    for (data, budget), by_system in sorted(tests.items()):
        seeds = max(len(figures) for figures in by_system.values())
        whole = {system: mean(figures) for system, figures in by_system.items() if len(figures) == seeds}
        yield data, budget, seeds, whole
