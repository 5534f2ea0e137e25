"""Write the tables and figures of the docs from committed results: `python -m benchmarks.tables [--check]`.

A table stands between `<!-- table: NAME -->` and `<!-- end -->` in a Markdown file, a study's figure in docs/figures.
With --check nothing is written and the exit code says whether all of them are up to date.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from benchmarks import speed
from benchmarks.studies import figures, report
from benchmarks.studies.catalogue import STUDIES
from benchmarks.studies.report import spread

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
FIGURES = ROOT / "docs" / "figures"
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]

METRICS = ("ndcg@20", "recall@20")

# Not ours: printed beside our figures (paper, Table 3; its code's own logs).
PUBLISHED = {
    "gowalla": [
        ("paper, uncompressed LightGCN, d = 128", "0.1059", "0.1576", "9.07 M"),
        ("paper, coarse to fine", "0.1009", "0.1430", "0.19 M"),
    ],
    "lastfm": [],
}


def runs(preset: str, data: str) -> list[dict]:
    """Summaries of the committed runs of a preset, by seed."""
    return [json.loads(path.read_text()) for path in sorted((RESULTS / preset).glob(f"{data}-*/summary.json"))]


def stages(preset: str, data: str) -> str:
    """Validation and test figures of each stage, mean over seeds, beside the published ones."""
    found = runs(preset, data)
    names = list(found[0]["stages"])
    seeds = "1 seed" if len(found) == 1 else f"{len(found)} seeds"
    lines = [
        f"| {data}, {seeds} | valid N@20 | valid R@20 | test N@20 | test R@20 | learned values |",
        "|---|---|---|---|---|---|",
    ]
    for name in names:
        cells = [
            spread([run["stages"][name][split][metric] for run in found])
            for split in ("valid", "test")
            for metric in METRICS
        ]
        most = max(run["stages"][name]["parameters"]["total"] for run in found)
        lines.append(f"| {name} | {' | '.join(cells)} | {most:,} |")
    chosen = [run["stages"][run["chosen"]] for run in found]
    cells = [spread([stage[split][metric] for stage in chosen]) for split in ("valid", "test") for metric in METRICS]
    most = max(stage["parameters"]["total"] for stage in chosen)
    lines.append(f"| **chosen on validation** | {' | '.join(f'**{cell}**' for cell in cells)} | {most:,} |")
    for label, ndcg, recall, values in PUBLISHED[data]:
        lines.append(f"| {label} | | | {ndcg} | {recall} | {values} |")
    return "\n".join(lines)


def cost(preset: str, data: str) -> str:
    """Whole-process seconds and peak memory of the committed runs."""
    found = runs(preset, data)
    seconds = [run["process"]["seconds"] for run in found]
    peak = max(run["process"]["peak_bytes"] for run in found) / 2**30
    least, most = f"{min(seconds):.0f}", f"{max(seconds):.0f}"
    span = most if least == most else f"{least} to {most}"
    return f"{data}: {span} seconds a run on two CPU cores, reading and evaluation included, at most {peak:.1f} GiB."


def kernels(data: str) -> str:
    """One training step of each engine and kernel."""
    result = json.loads((RESULTS / "kernels" / f"{data}.json").read_text())
    lines = [
        f"| one step, {result['triplets']:,} triplets, {data}, {result['threads']} threads | median seconds | ratio |",
        "|---|---|---|",
    ]
    for way, step in result["steps"].items():
        lines.append(f"| {way} | {step['median_seconds']:.3f} | {step['times_collapsed']:.1f} |")
    return "\n".join(lines)


def weights() -> str:
    """Bytes of the learned part of each run in each precision, and the test figures of what was read again."""
    lines = [
        "| run | learned values | precision | bytes, with indices | test N@20 | test R@20 |",
        "|---|---|---|---|---|---|",
    ]
    for path in sorted((RESULTS / "bytes").glob("*.json")):
        record = json.loads(path.read_text())
        name = f"{record['data']}, seed {record['seed']}"
        for precision, found in {"in torch": record["run"], **record["precisions"]}.items():
            size = f"{found['learned_bytes']:,}" if "learned_bytes" in found else ""
            figures = f"{found['ndcg@20']:.4f} | {found['recall@20']:.4f}"
            lines.append(f"| {name} | {record['learned_values']:,} | {precision} | {size} | {figures} |")
    return "\n".join(lines)


TABLES: dict[str, Callable[[], str]] = {
    "fast gowalla": lambda: stages("fast", "gowalla"),
    "fast lastfm": lambda: stages("fast", "lastfm"),
    "best lastfm": lambda: stages("best", "lastfm"),
    "best gowalla": lambda: stages("best", "gowalla"),
    "bytes": weights,
    "kernels gowalla": lambda: kernels("gowalla"),
    "fast cost gowalla": lambda: cost("fast", "gowalla"),
    "fast cost lastfm": lambda: cost("fast", "lastfm"),
    **{
        f"{name} {data}": lambda table=table, data=data: table(data)
        for data in ("gowalla", "yelp2020-shape", "amazon-book-shape")
        for name, table in {"steps": speed.steps, "parts": speed.parts}.items()
    },
    "roofline gowalla": lambda: speed.bound("gowalla"),
    "time to accuracy gowalla": lambda: speed.accuracy("gowalla"),
    "scaling": lambda: speed.growth("planted"),
    "gpu gowalla": lambda: speed.gpu("gowalla"),
    "found": lambda: report.page(STUDIES.values()),
}


def renewed(text: str) -> str:
    """`text` with every table written anew."""

    def fill(match: re.Match[str]) -> str:
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]]()}\n<!-- end -->"

    return re.sub(r"<!-- table: (.+?) -->\n.*?<!-- end -->", fill, text, flags=re.DOTALL)


def main() -> None:
    texts = {path: renewed(path.read_text(encoding="utf-8")) for path in DOCUMENTS}
    stale = [path for path, text in texts.items() if text != path.read_text(encoding="utf-8")]
    shown = {FIGURES / f"{name}.svg": (study.title, report.points(study)) for name, study in STUDIES.items()}
    drawn = {path: what for path, what in shown.items() if what[1]}
    old = [path for path, (_, points) in drawn.items() if not figures.is_current(path, points)]
    if "--check" in sys.argv[1:]:
        names = ", ".join(path.name for path in (*stale, *old))
        sys.exit(f"out of date: {names}" if names else 0)
    for path in stale:
        path.write_text(texts[path], encoding="utf-8")
    for path in old:
        figures.draw(path, *drawn[path])


if __name__ == "__main__":
    main()
