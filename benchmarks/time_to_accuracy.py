"""Seconds from an empty process to a test figure: `python -m benchmarks.time_to_accuracy DATASET [--runs 3]`.

For each target a run of the command line, timed whole: the interpreter, reading the data, choosing on validation,
training and the test figure. The settings of a target are those that were found to reach it soonest; the run fails
where its test N@20, of the checkpoint chosen on validation, does not. Targets are the published coarse stage's, the
paper's, and those of the paper's uncompressed LightGCN. Writes benchmarks/results/time_to_accuracy/<data set>.json.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import measure

# Target test N@20 on Gowalla, and what is set on top of the preset.
TARGETS = {
    "published code, coarse": (0.0984, ("coarse.m=70",)),
    "paper, coarse to fine": (0.1009, ("coarse.m=80",)),
    "paper, uncompressed LightGCN, d = 128": (0.1059, ("coarse.m=120",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="gowalla")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--preset", default="quick")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    machine = measure.machine()
    found = {
        name: {"target": target, **timed(arguments, target, options)} for name, (target, options) in TARGETS.items()
    }
    record = {"data": Path(arguments.dataset).name, "preset": arguments.preset, "machine": machine, "targets": found}
    print(measure.keep("time_to_accuracy", record["data"], record))
    missed = [name for name, row in found.items() if not row["reached"]]
    sys.exit(f"not reached: {', '.join(missed)}" if missed else 0)


def timed(arguments: argparse.Namespace, target: float, options: tuple[str, ...]) -> dict:
    """Whole-process seconds, and what the last run reached."""
    seconds = []
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
        for run in range(arguments.runs):
            out = Path(folder) / str(run)
            command = [sys.executable, "-m", "c2f_dgl.cli.main", "train", arguments.dataset, "--out", str(out)]
            command += ["--preset", arguments.preset, "--device", arguments.device]
            command += [part for option in options for part in ("--set", option)]
            started = time.perf_counter()
            subprocess.run(command, check=True)
            seconds.append(time.perf_counter() - started)
        summary = json.loads((out / "summary.json").read_text())
    stage = summary["stages"][summary["chosen"]]
    row = {
        **measure.spread(seconds),
        "options": list(options),
        "valid": stage["valid"]["ndcg@20"],
        "test": stage["test"]["ndcg@20"],
        "learned_values": stage["parameters"]["total"],
    }
    row["reached"] = row["test"] >= target
    print(f"{target}: N@20 {row['test']:.4f} in {row['median_seconds']:.1f} s, {row['learned_values']:,} values")
    return row


if __name__ == "__main__":
    main()
