"""Accuracy against learned values, on paper: one point a system, its name beside it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from c2f_dgl.bench.table import Row
from c2f_dgl.io.files import replacing

_OURS, _ANCHORS, _OTHERS = "#7a3e9d", "#999999", "#1f6fb4"


def draw(path: Path, title: str, rows: Sequence[Row]) -> None:
    """Write the figure as SVG or PNG, by the suffix of `path`; systems without learned values at the left edge."""
    done = [row for row in rows if row.seeds]
    sizes = [row.values for row in done if row.values]
    least = min(sizes, default=1) / 4
    with figure(path, {"Date": None}, figsize=(8.0, 5.2)) as (drawn, axes):
        axis = axes[0][0]
        for row in done:
            x, y = row.values or least, row.test["ndcg@20"]
            colour = _OURS if row.name.startswith("c2f-") else _OTHERS if row.values else _ANCHORS
            axis.errorbar(x, y, yerr=row.spread.get("ndcg@20"), fmt="o", markersize=5, capsize=2, color=colour)
            axis.annotate(row.name, (x, y), xytext=(5, 3), textcoords="offset points", color=colour, fontsize=8)
        left = " (grey, at the left: none)" if len(sizes) < len(done) else ""
        axis.set(xscale="log", xlabel=f"learned values{left}", ylabel="test N@20")
        axis.set_title(title, loc="left", fontsize=9)
        axis.grid(color="0.92", linewidth=0.8)
        axis.set_axisbelow(True)
        axis.margins(x=0.12)
        drawn.tight_layout()


@contextmanager
def figure(path: Path, metadata: dict[str, Any], **layout: Any) -> Iterator[tuple[Any, Any]]:
    """A matplotlib figure and its axes to draw on, then written to `path`: an SVG always as the same bytes."""
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "agg")
    from matplotlib import pyplot as plt

    with plt.rc_context({"svg.hashsalt": "c2f_dgl", "svg.fonttype": "none", "font.size": 9}):
        drawn, axes = plt.subplots(squeeze=False, **layout)
        yield drawn, axes
        with replacing(path) as aside:
            drawn.savefig(aside, format=path.suffix[1:], metadata=metadata if path.suffix == ".svg" else None, dpi=150)
            if path.suffix == ".svg":
                # Matplotlib ends some lines of path data with blanks.
                text = re.sub(r"[ \t]+\n", "\n", aside.read_text(encoding="utf-8"))
                aside.write_text(text, encoding="utf-8")
        plt.close(drawn)
