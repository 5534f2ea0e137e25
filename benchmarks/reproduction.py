"""The authors' training curves beside ours: `python -m benchmarks.reproduction DATASET RUN [--set KEY=VALUE ...]`.

RUN is one of `RUNS`. It is trained in the folder --runs, or gone on with where it was stopped, and what it has
validated so far is written to benchmarks/results/reproduction/RUN-SEED.json; --keep writes that alone.
`python -m benchmarks.tables` then renews docs/reproduction.md.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.errata import SHOWN, authors
from benchmarks.measure import RESULTS
from c2f_dgl.io.files import replacing, write_text

# Batches four times the authors', at four times the rate: an epoch by message passing costs a quarter.
LARGE = ("coarse.training.batch_size=32768", "coarse.training.lr=0.004")
# The paper's equations, at batches and rate that differ from it in the same way.
PRINTED = ("finer={}", *LARGE)

# Preset, options, and what they are.
RUNS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "published": (
        "published",
        (*LARGE, "coarse.training.fixed_epochs=20"),
        "the authors' code; S updated from epoch 20 on, not from 90",
    ),
    "paper": ("paper", (), "the equations as printed, to the end of both stages"),
    "printed": ("paper", PRINTED, "the equations as printed, batches as above"),
    "printed-biases": ("paper", (*PRINTED, "model.biases=true"), "and a bias per user and item"),
    "printed-normal": ("paper", (*PRINTED, "coarse.start=normal"), "and E^c from N(0, 1)"),
    "printed-prenormalise": ("paper", (*PRINTED, "model.prenormalise=true"), "and A normalised twice"),
    "printed-tanh": ("paper", (*PRINTED, "model.activation=tanh"), "and tanh on the input embeddings"),
}

METRICS = ("ndcg@5", "ndcg@20", "recall@20")
FOLDER = RESULTS / "reproduction"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("run", choices=RUNS)
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--keep", action="store_true")
    arguments = parser.parse_args()
    out = arguments.runs / f"{arguments.run}-{arguments.seed}"
    preset, options, _ = RUNS[arguments.run]
    if not arguments.keep:
        from c2f_dgl.cli.runs import train

        changes = [*options, *arguments.set]
        train(arguments.dataset, out, preset, "both", changes, arguments.seed, "auto", None, resume=True)
    keep(out, arguments.run, arguments.seed)


def keep(run: Path, name: str, seed: int) -> None:
    """Record what a run has validated so far, and its test figures where it is over."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    summary = run / "summary.json"
    record: dict[str, Any] = {
        "options": RUNS[name][1],
        "environment": json.loads((run / "environment.json").read_text()),
        "epochs": len(lines),
        "seconds": round(sum(line["seconds"] for line in lines), 1),
        "test": None,
        "valid": [
            {"stage": line["stage"], "phase": line["phase"], "epoch": line["epoch"], **line["valid"]}
            for line in lines
            if "valid" in line
        ],
    }
    if summary.is_file():
        record["test"] = {stage: found["test"] for stage, found in json.loads(summary.read_text())["stages"].items()}
    write_text(FOLDER / f"{name}-{seed}.json", json.dumps(record, indent=1) + "\n")


def records() -> dict[str, dict[str, Any]]:
    """Our runs by name and seed, in the order of `RUNS`."""
    found = {path.stem: json.loads(path.read_text()) for path in FOLDER.glob("*.json")}
    return {stem: found[stem] for stem in sorted(found, key=lambda stem: list(RUNS).index(stem.rpartition("-")[0]))}


def curves(stage: str = "coarse", *, until: int = 40) -> str:
    """Validation of the authors and of our runs, every five epochs of a stage."""
    theirs = authors().query("dataset == 'gowalla' and stage == @stage and seed == 2024 and split == 'valid'")
    columns = {"authors": theirs.astype({"epoch": int}).set_index("epoch")[list(METRICS)]}
    for stem, record in records().items():
        own = pd.DataFrame(record["valid"]).query("stage == @stage")
        columns[stem.rpartition("-")[0]] = own.drop_duplicates("epoch").set_index("epoch")[list(METRICS)]
    lines = [f"| epoch | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for epoch in range(0, until + 1, 5):
        cells = (
            " / ".join(f"{column.loc[epoch, metric]:.4f}" for metric in METRICS) if epoch in column.index else ""
            for column in columns.values()
        )
        lines.append(f"| {epoch} | {' | '.join(cells)} |")
    return "\n".join(lines)


def ends() -> str:
    """Test figures of finished runs beside the authors', and how far the others came."""
    lines = ["| run | what it is | epochs | test N@20 / R@20, stage by stage |", "|---|---|---|---|"]
    theirs = authors().query("dataset == 'gowalla' and split == 'test'")
    for (stage, seed), rows in theirs.groupby(["stage", "seed"], sort=True):
        best = rows.sort_values("ndcg@20").iloc[-1]
        lines.append(
            f"| authors | their code, seed {seed} | | {stage} {best['ndcg@20']:.4f} / {best['recall@20']:.4f} |"
        )
    for stem, record in records().items():
        name, _, seed = stem.rpartition("-")
        test = "; ".join(
            f"{stage} {figures['ndcg@20']:.4f} / {figures['recall@20']:.4f}"
            for stage, figures in (record["test"] or {}).items()
        )
        lines.append(f"| {name} | {RUNS[name][2]}, seed {seed} | {record['epochs']} | {test or 'not over'} |")
    return "\n".join(lines)


def errata() -> str:
    """Where the paper or its code does not hold."""
    rows = (line.partition(": ") for line in SHOWN.read_text().splitlines())
    lines = ["| where | what `python -m benchmarks.errata` shows |", "|---|---|"]
    return "\n".join([*lines, *(f"| {place} | {shown} |" for place, _, shown in rows)])


def draw(path: Path) -> None:
    """Validation N@20 against the epoch of the coarse stage, the authors' runs and ours."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot as plt

    theirs = authors().query("dataset == 'gowalla' and stage == 'coarse' and split == 'valid'")
    with plt.rc_context({"svg.hashsalt": "c2f_dgl", "svg.fonttype": "none", "font.size": 9}):
        figure, axis = plt.subplots(figsize=(7.2, 4.2))
        axis.plot(theirs["epoch"].astype(int), theirs["ndcg@20"], color="0.4", label="authors", linewidth=2)
        for stem, record in records().items():
            own = pd.DataFrame(record["valid"]).query("stage == 'coarse'")
            axis.plot(own["epoch"], own["ndcg@20"], marker="o", markersize=3, label=stem.rpartition("-")[0])
        axis.set_xlabel("epoch of the coarse stage")
        axis.set_ylabel("validation N@20, Gowalla")
        axis.legend(frameon=False, fontsize=8)
        figure.tight_layout()
        with replacing(path) as aside:
            figure.savefig(aside, format="svg", metadata={"Date": None})
            aside.write_text("\n".join(line.rstrip() for line in aside.read_text().splitlines()) + "\n")
        plt.close(figure)


if __name__ == "__main__":
    main()
