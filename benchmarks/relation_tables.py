"""Tables of what `benchmarks.relations` has kept."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.studies.report import spread

RESULTS = Path(__file__).parent / "results" / "relations"

# Each example, the record of the model without its addition (None: the same run, without its last stage), and what both
# are called.
EXAMPLES: dict[str, tuple[str | None, str, str]] = {
    "social": ("without", "social links, `user-trusts-user`", "`fast`"),
    "counts": ("without", "listening counts as weights", "`fast`"),
    "communities": ("without", "METIS communities of artists, a node type", "`fast`"),
    "tiers": (None, "a third tier", "`paper`, small (d = 32, m = 60, 12 epochs)"),
}
FIGURES = (("valid", "ndcg@20"), ("test", "ndcg@20"), ("test", "recall@20"))


def records(name: str, data: str) -> list[dict[str, Any]]:
    """Records of an example, or of a model without any, by seed."""
    return [json.loads(path.read_text()) for path in sorted(RESULTS.glob(f"{name}-{data}-[0-9]*.json"))]


def effect(data: str, only: str | None = None) -> str:
    """Each addition beside the model without it, and the mean change of test NDCG@20, seed by seed."""
    lines = [
        f"| {data} | valid N@20 | test N@20 | test R@20 | learned values | change of test N@20 | importances chosen |",
        "|---|---|---|---|---|---|---|",
    ]
    shown = set()
    for example, (baseline, added, base) in EXAMPLES.items():
        if only not in (None, example):
            continue
        after = records(example, data)
        before = [_before_last(run) for run in after] if baseline is None else records(baseline, data)
        if [run["seed"] for run in before] != [run["seed"] for run in after]:
            raise SystemExit(f"benchmarks/results/relations: {example} and {baseline} have other seeds")
        if baseline not in shown:
            lines.append(_row(base, before, "", ""))
            shown.add(baseline)
        changes = [100 * (b["test"]["ndcg@20"] / a["test"]["ndcg@20"] - 1) for a, b in zip(before, after, strict=True)]
        change = f"{mean(changes):+.1f} % ({', '.join(f'{c:+.1f}' for c in changes)})"
        chosen = ", ".join(f"{value:g}" for run in after for value in run["importances"].values())
        lines.append(_row(f"{base} with {added}", after, change, chosen))
    return "\n".join(lines)


def _before_last(run: dict[str, Any]) -> dict[str, Any]:
    """A run as it was before its last stage: the stage that validates better of the others."""
    stages = list(run["stages"].values())[:-1]
    return {"seed": run["seed"], "importances": {}, **max(stages, key=lambda stage: stage["valid"]["ndcg@20"])}


def cost(data: str) -> str:
    """Processor seconds of a collapse and of a step, by number of further relations."""
    record = json.loads((RESULTS / f"cost-{data}.json").read_text())
    lines = [
        f"| further relations, {data} | edges | collapse | step, collapsed | step, message passing |",
        "|---|---|---|---|---|",
    ]
    for row in record["rows"]:
        seconds = " | ".join(f"{row[key]:.3f} s" for key in ("rebuild", "collapsed", "message_passing"))
        lines.append(f"| {row['relations']} | {row['edges']:,} | {seconds} |")
    return "\n".join(lines)


def _row(name: str, runs: list[dict[str, Any]], change: str, chosen: str) -> str:
    cells = [spread([run[part][metric] for run in runs]) for part, metric in FIGURES]
    most = max(run["learned_values"] for run in runs)
    return f"| {name} | {' | '.join(cells)} | {most:,} | {change} | {chosen} |"
