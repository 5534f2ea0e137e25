"""Seconds from an empty process to a test figure: `python -m benchmarks.time_to_accuracy DATASET [--runs 3]`.

For each target a run of the command line, timed whole: the interpreter, reading the data, choosing on validation,
training and the test figure. The settings of a target are those that were found to reach it soonest; the run fails
where its test N@20, of the checkpoint chosen on validation, does not. Targets are the published coarse stage's, the
paper's, and those of the paper's uncompressed LightGCN. Writes benchmarks/results/time_to_accuracy/<data set>.json.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from benchmarks import measure

PRESET = "quick"

# Target test N@20 on Gowalla, and what is set on top of the preset.
TARGETS = {
    "published code, coarse": (0.0984, "coarse.m=70"),
    "paper, coarse to fine": (0.1009, "coarse.m=80"),
    "paper, uncompressed LightGCN, d = 128": (0.1059, "coarse.m=120"),
}


def main(dataset: str, runs: int = 3) -> None:
    data, machine = Path(dataset).name, measure.machine()
    rows = {name: timed(dataset, runs, *reached_by) for name, reached_by in TARGETS.items()}
    print(measure.keep("time_to_accuracy", data, {"data": data, "preset": PRESET, "machine": machine, "targets": rows}))
    missed = [name for name, row in rows.items() if not row["reached"]]
    sys.exit(f"not reached: {', '.join(missed)}" if missed else 0)


def timed(dataset: str, n_runs: int, target: float, option: str) -> dict[str, Any]:
    """Whole-process seconds, and what the last run reached."""
    options = ["--preset", PRESET, "--device", "cpu", "--set", option]
    with measure.folder() as folder:
        runs = [measure.train_run(dataset, folder / str(run), options) for run in range(n_runs)]
    summary = runs[-1][1]
    stage = summary["stages"][summary["chosen"]]
    valid, test = stage["valid"]["ndcg@20"], stage["test"]["ndcg@20"]
    row = {"target": target, **measure.spread([seconds for seconds, _ in runs]), "options": [option]}
    row |= {"valid": valid, "test": test, "learned_values": stage["parameters"]["total"], "reached": test >= target}
    print(f"{target}: N@20 {test:.4f} in {row['median_seconds']:.1f} s, {row['learned_values']:,} values")
    return row


if __name__ == "__main__":
    measure.command(main)
