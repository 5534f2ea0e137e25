"""Accuracy against what is learned: our coarse tier beside LEGCF, a truncated SVD and GF-CF, budget after budget.

    python -m benchmarks.budget DATASET [--values 50000 100000 ...] [--systems coarse svd legcf gfcf] [--seeds 2024 ...]

Each is a run of the bench with default settings, `coarse` that of the preset `fast`. A record goes to
benchmarks/results/budget/<data>-<system>-<seed>-<values>.json, with the bytes that store what is learned in float32.
What is there already is left out. All but `coarse`, whose search ends by itself, stop after --minutes. GF-CF has no
budget.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure
from c2f_dgl.bench.run import Job
from c2f_dgl.bench.worker import run
from c2f_dgl.io.progress import Reporter

# As the bench calls them.
SYSTEMS = {"gfcf": "anchor-gfcf", "svd": "anchor-svd-budget", "coarse": "c2f-fast", "legcf": "legcf"}


def main(
    dataset: str,
    values: Sequence[int] = (50_000, 100_000, 190_000, 500_000, 1_000_000),
    systems: Sequence[str] = tuple(SYSTEMS),
    seeds: Sequence[int] = (2024,),
    minutes: float = 10.0,
) -> None:
    data = Path(dataset).name
    jobs = [(seed, system, n) for seed in seeds for system in systems for n in (values if system != "gfcf" else [0])]
    for seed, system, budget in jobs:
        name = f"{data}-{system}-{seed}-{budget}"
        if measure.read("budget", name) is not None:
            print(f"{name}: there already")
            continue
        job = Job(dataset, SYSTEMS[system], seed, budget, 1e6 if system == "coarse" else minutes, "cpu", {})
        with measure.folder() as folder:
            made = run(job, folder, Reporter())
        record = {"data": data, "system": system, "seed": seed, "budget": budget, "values": made["values"]["total"]}
        record |= {key: made[key] for key in ("valid", "test", "bytes", "seconds", "processor", "versions")}
        measure.keep("budget", name, record)
        print(f"{name}: N@20 {record['test']['ndcg@20']:.4f}, {record['values']:,} values")


if __name__ == "__main__":
    measure.command(main)
