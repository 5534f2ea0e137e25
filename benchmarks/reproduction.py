"""The authors' training curves beside ours: `python -m benchmarks.reproduction DATASET RUN [--seed 2024]`.

RUN is one of `RUNS`. It is trained in the folder --runs, or gone on with where it was stopped, and what it has
validated so far is written to benchmarks/results/reproduction/RUN-SEED.json; --keep writes that alone.
`python -m benchmarks.tables` then renews docs/research/reproduction.md.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any

import pandas as pd

from benchmarks import measure
from benchmarks.errata import SHOWN, authors
from benchmarks.studies.figures import described
from c2f_dgl.bench.plot import figure

# Batches four times the authors', at four times the rate: an epoch by message passing costs a quarter.
LARGE = ("coarse.training.batch_size=32768", "coarse.training.lr=0.004")
# 25 epochs of the equations as printed, the last five with S updated, in the same batches.
SHORT = ("coarse.training.fixed_epochs=20", "coarse.training.updating_epochs=5", "coarse.training.evaluate_every=5")
# The coarse stage for 75 epochs, S updated from epoch 20 on, and features propagated in bfloat16.
QUICK = ("finer={}", SHORT[0], "coarse.training.updating_epochs=55", "model.kernel=bfloat16")
PRINTED = ("finer={}", *LARGE, *SHORT)

# Preset, options, and what they are.
RUNS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "published": ("published", (*LARGE, *QUICK), "the authors' code; S updated from epoch 20 on, not from 90"),
    "paper": ("paper", (), "the equations as printed, batches and rate of Sec. 4.1.4"),
    "printed": ("paper", PRINTED, "the equations as printed, batches of 32,768"),
    "biases": ("paper", (*PRINTED, "model.biases=true"), "printed, and a bias per user and item"),
    "normal": ("paper", (*PRINTED, "coarse.start=normal"), "printed, and E^c from N(0, 1)"),
    "twice": ("paper", (*PRINTED, "model.prenormalise=true"), "printed, and A normalised twice"),
    "tanh": ("paper", (*PRINTED, "model.activation=tanh"), "printed, and tanh on the input embeddings"),
}
# What is particular about systems here, as far as that may explain another figure than the paper's: how it ran its
# baselines is not at hand.
_RETRAINED = "what is searched or pruned is trained again under what was found"
_LIGHTGCN = "its embeddings feed a LightGCN of three layers"
_SPECIAL = {
    "c2f-fast": "nothing is trained by gradient: a filter of nine layers, its codebook solved for",
    "c2f-best": "as `fast`, and a filter of items over items",
    "full-64": "R@20 is the paper's; no reason is known for N@20",
    "qr-sum": _LIGHTGCN,
    "qr-product": _LIGHTGCN,
    "qr-concat": _LIGHTGCN,
    "legcf": "its phase that updates S gained nothing",
    "dhe": _LIGHTGCN,
    "nimble_tt": f"{_LIGHTGCN}; METIS order and orthogonal start",
    "pep": _RETRAINED,
    "autoemb": _RETRAINED,
    "esapn": _RETRAINED,
    "optembed": _RETRAINED,
}
# Studies of the paper's further tables and figures.
STUDIED = {
    "Table 4, significance": "significance",
    "Fig. 4, cases A to D": "ablation",
    "Fig. 5, sweeps": "sensitivity",
    "Fig. 6, space": "space",
    "the fine stage against as many more coarse steps": "fine-tier",
    "each habit of the code alone": "habits",
}
_LONG = "an epoch takes one to two minutes, and the authors' stage some 220 of them"
NOT_RUN = {
    "Table 3, Yelp2020 and Amazon-book": "their data are not at hand",
    "Table 3, each system tuned and to its own early stop, further seeds": "ten minutes a system",
    "`published` to its early stop, its fine stage, further seeds": _LONG,
    "`paper` to convergence": _LONG,
    "Table 4 and Fig. 4 to 6 of a `published` that has converged": "there is none",
    "the fine stage of a converged `published` against as many more coarse steps": "there is none",
}
METRICS = ("ndcg@5", "ndcg@20", "recall@20")


def main(
    dataset: str, run: Annotated[str, RUNS], seed: int = 2024, runs: Path = Path("runs"), keep: bool = False
) -> None:
    out = runs / f"{run}-{seed}"
    preset, changes, _ = RUNS[run]
    if not keep:
        options = ["--preset", preset, "--seed", str(seed), "--resume", *(f"--set={change}" for change in changes)]
        measure.train_run(dataset, out, options)
    record(out, run, seed)


def record(run: Path, name: str, seed: int) -> None:
    """Write down what a run has validated so far, and its test figures where it is over."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    summary = run / "summary.json"
    stages = json.loads(summary.read_text())["stages"] if summary.is_file() else {}
    stage_tests = {stage: figures["test"] for stage, figures in stages.items()}
    valid = [
        {key: line[key] for key in ("stage", "phase", "epoch")} | line["valid"] for line in lines if "valid" in line
    ]
    figures = {
        "options": RUNS[name][1],
        "environment": json.loads((run / "environment.json").read_text()),
        "epochs": sum(line["epoch"] > 0 for line in lines),
        "seconds": round(sum(line["seconds"] for line in lines), 1),
        "test": stage_tests,
        "valid": valid,
    }
    measure.keep("reproduction", f"{name}-{seed}", figures)


def records() -> dict[str, dict[str, Any]]:
    """Our runs of seed 2024, by name."""
    kept = measure.read_all("reproduction", "*-2024")
    return {name: kept[f"{name}-2024"] for name in RUNS if f"{name}-2024" in kept}


def curves() -> str:
    """Validation of the authors and of our runs by epochs of the coarse stage."""
    columns = {"authors": _theirs().set_index("epoch")}
    columns |= {name: _coarse(record).set_index("epoch") for name, record in records().items()}
    return _by_epoch("epoch", columns, (*range(0, 40, 5), *range(40, 221, 20)))


def updating() -> str:
    """Validation of the authors and of `published` by epochs since S is updated, as far as ours went."""
    columns = {}
    for name, rows in (("authors", _theirs()), ("published", _coarse(records()["published"]))):
        updated = rows.query("phase == 'updating'")
        since = updated["epoch"] - rows.query("phase == 'fixed'")["epoch"].max()
        columns[name] = updated.assign(epoch=since).set_index("epoch")
    return _by_epoch("epochs of updating S", columns, columns["published"].index)


def _by_epoch(heading: str, columns: dict[str, pd.DataFrame], epochs: Iterable[int]) -> str:
    lines = []
    for epoch in epochs:
        rows = (column.loc[epoch] if epoch in column.index else None for column in columns.values())
        cells = ("" if row is None else " / ".join(f"{row[metric]:.4f}" for metric in METRICS) for row in rows)
        lines.append(f"{epoch} | {' | '.join(cells)}")
    return measure.table(f"{heading} | {' | '.join(columns)}", lines)


def ends() -> str:
    """Test figures of finished runs beside the authors', and how far the others came."""
    theirs = authors().query("dataset == 'gowalla' and split == 'test'")
    lines = []
    for (stage, seed), figures in theirs.groupby(["stage", "seed"]):
        best = figures.sort_values("ndcg@20").iloc[-1]
        lines.append(f"authors | their code, seed {seed} |  | {stage} {_scores(best)} | ")
    for name, kept in records().items():
        test = "; ".join(f"{stage} {_scores(row)}" for stage, row in kept["test"].items()) or "stopped before its end"
        lines.append(f"{name} | {RUNS[name][2]} | {kept['epochs']} | {test} | {kept['seconds'] / 60:.0f}")
    return measure.table("run | what it is | epochs | test N@20 / R@20 | minutes of training", lines)


def table_3() -> str:
    """Systems of the paper's Table 3 on Gowalla: its figures, ours, and what may set them apart by more than 5 %."""
    folder, lines = measure.RESULTS / "bench" / "gowalla", []
    for row in json.loads((folder / "results.json").read_text())["rows"]:
        if (paper := row["paper"]) is None:
            continue
        phases = json.loads((folder / "runs" / f"{row['name']}-2024.json").read_text())["phases"]
        epochs, best = sum(phase.get("epochs", 0) for phase in phases), phases[-1].get("best_epoch")
        change = 100 * (row["test"]["ndcg@20"] / paper["ndcg@20"] - 1)
        end = f"the clock, after {epochs} epochs" if row["cut_short"] else "its own rule"
        why = "" if abs(change) <= 5 else _SPECIAL.get(row["name"], "")
        if change < -5 and row["cut_short"]:
            why = "; ".join(filter(None, ["ended too early" * (best == phases[-1].get("epochs")), why]))
        values = f"{paper['values'] / 1e6:.2f} / {row['values'] / 1e6:.2f}"
        cells = (row["title"], values, _scores(paper), _scores(row["test"]), f"{change:+.0f}", end, why)
        lines.append(" | ".join(cells))
    head = "system | values, paper / here, million | paper N@20 / R@20 | here | N@20, % | ended by | why"
    return measure.table(head, lines)


def studied() -> str:
    """What the studies have run of the paper's further tables and figures: data sets, variants and seeds."""
    lines = []
    for what, study in STUDIED.items():
        cells = []
        for folder in sorted((measure.RESULTS / "studies" / study).iterdir()):
            names, seeds = zip(*(path.stem.rsplit("-", 1) for path in folder.glob("*.json")), strict=True)
            n_variants, n_seeds = len(set(names)), len(set(seeds))
            cells.append(f"{folder.name}: {n_variants} variants, {n_seeds} seed{'s' * (n_seeds > 1)}")
        lines.append(f"{what} | `{study}` | {'; '.join(cells)}")
    lines += [f"{what} |  | not run: {why}" for what, why in NOT_RUN.items()]
    return measure.table("table or figure of the paper | study, in [found.md](../found.md) | run", lines)


def _scores(row: Mapping[str, float]) -> str:
    return f"{row['ndcg@20']:.4f} / {row['recall@20']:.4f}"


def errata() -> str:
    """Where the paper or its code does not hold."""
    lines = (line.replace(": ", " | ", 1) for line in SHOWN.read_text().splitlines())
    return measure.table("where | what `python -m benchmarks.errata` shows", lines)


def points() -> list[dict[str, Any]]:
    """What `draw` draws."""
    kept = {"authors": _theirs(), **{name: _coarse(kept) for name, kept in records().items()}}
    return [{"run": name, **rows[["epoch", "ndcg@20"]].to_dict("list")} for name, rows in kept.items()]


def draw(path: Path, points: list[dict[str, Any]]) -> None:
    """Validation N@20 against the epoch of the coarse stage, the authors' and ours."""
    with figure(path, described(points), figsize=(7.2, 4.2)) as (drawn, axes):
        axis = axes[0][0]
        for curve in points:
            style = {"color": "0.4", "linewidth": 2} if curve["run"] == "authors" else {"marker": "o", "markersize": 3}
            axis.plot(curve["epoch"], curve["ndcg@20"], label=curve["run"], **style)
        axis.set_xlabel("epoch of the coarse stage")
        axis.set_ylabel("validation N@20, Gowalla")
        axis.legend(frameon=False, fontsize=8)
        drawn.tight_layout()


def _theirs() -> pd.DataFrame:
    rows = authors().query("dataset == 'gowalla' and stage == 'coarse' and seed == 2024 and split == 'valid'")
    return rows.astype({"epoch": int})


def _coarse(record: dict[str, Any]) -> pd.DataFrame:
    return pd.DataFrame(record["valid"]).query("stage == 'coarse'").drop_duplicates("epoch")


if __name__ == "__main__":
    measure.command(main)
