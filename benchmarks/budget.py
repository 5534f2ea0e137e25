"""Accuracy against what is learned: our coarse tier beside LEGCF, a truncated SVD and GF-CF, budget after budget.

    python -m benchmarks.budget DATASET [--values 50000 100000 ...] [--systems coarse svd legcf gfcf] [--seeds 2024 ...]

Each is a run of the bench with default settings, `coarse` that of the preset `fast`. A record goes to
benchmarks/results/budget/<data>-<system>-<seed>-<values>.json, with the bytes that store what is learned in float32.
What is there already is left out. All but `coarse`, whose search ends by itself, stop after --minutes. GF-CF has no
budget.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks import measure
from c2f_dgl.bench.run import Job
from c2f_dgl.bench.worker import run
from c2f_dgl.io.progress import Reporter

# As the bench calls them.
SYSTEMS = {"gfcf": "anchor-gfcf", "svd": "anchor-svd-budget", "coarse": "c2f-fast", "legcf": "legcf"}


def main() -> None:
    budgets = [50_000, 100_000, 190_000, 500_000, 1_000_000]
    parser = measure.parser(__doc__, "dataset", values=budgets, systems=list(SYSTEMS), seeds=[2024], minutes=10.0)
    arguments = parser.parse_args()
    data = Path(arguments.dataset).name
    for seed in arguments.seeds:
        for system in arguments.systems:
            for values in arguments.values if system != "gfcf" else [0]:
                name = f"{data}-{system}-{seed}-{values}"
                if measure.read("budget", name) is not None:
                    print(f"{name}: there already")
                    continue
                minutes = arguments.minutes if system != "coarse" else 1e6
                job = Job(arguments.dataset, SYSTEMS[system], seed, values, minutes, "cpu", {})
                with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
                    run_record = run(job, Path(folder), Reporter())
                record = {"data": data, "system": system, "seed": seed, "budget": values}
                record["values"] = run_record["values"]["total"]
                figures = ("valid", "test", "bytes", "seconds", "processor", "versions")
                measure.keep("budget", name, record | {key: run_record[key] for key in figures})
                print(f"{name}: N@20 {run_record['test']['ndcg@20']:.4f}, {record['values']:,} values")


if __name__ == "__main__":
    main()
