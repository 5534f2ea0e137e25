"""Train a preset for several seeds and keep what its figures rest on.

    python benchmarks/preset.py DATASET [--seeds 2024 2025 2026] [--runs runs] [--preset fast] [--set KEY=VALUE]

Each seed is a run of the command line, resumed if it is there already. Its config.yaml, environment.json,
metrics.jsonl and summary.json are copied to benchmarks/results/<preset>/<data set>-<seed>/, with the seconds and the
peak memory of the whole process beside them. `python -m benchmarks.tables` then renews the tables of the docs.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path

import yaml

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--seeds", type=int, nargs="+", default=[2024, 2025, 2026])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        out = arguments.runs / arguments.preset / f"{Path(arguments.dataset).name}-{seed}"
        command = [sys.executable, "-m", "c2f_dgl.cli.main", "train", arguments.dataset, "--out", str(out)]
        command += ["--preset", arguments.preset, "--seed", str(seed), "--resume"]
        command += [part for option in arguments.set for part in ("--set", option)]
        started = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
        # Of the largest child so far; Linux counts in KiB.
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
        keep(out, RESULTS / arguments.preset, seed, {"seconds": round(seconds, 1), "peak_bytes": peak})


def keep(run: Path, results: Path, seed: int, process: dict[str, float]) -> None:
    """Copy a run's small files, with its data set's name in place of the path it was read from."""
    summary = json.loads((run / "summary.json").read_text())
    target = results / f"{summary['data']}-{seed}"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("environment.json", "metrics.jsonl"):
        shutil.copyfile(run / name, target / name)
    (target / "summary.json").write_text(json.dumps({**summary, "process": process}, indent=2) + "\n")
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["data"]["source"] = summary["data"]
    (target / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))


if __name__ == "__main__":
    main()
