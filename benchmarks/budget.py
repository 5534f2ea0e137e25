"""Accuracy against what is learned: our coarse tier beside LEGCF, a truncated SVD and GF-CF, budget after budget.

    python -m benchmarks.budget DATASET [--values 50000 100000 ...] [--systems coarse svd legcf gfcf] [--seeds 2024 ...]

A record goes to benchmarks/results/budget/<data>-<system>-<seed>-<values>.json, with the bytes that store what is
learned in float32. `coarse` is the preset `fast` without a fine tier and without epochs after its start. What is there
already is left out. LEGCF stops after --minutes. GF-CF has no budget.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import torch

from c2f_dgl import api
from c2f_dgl.baselines.registry import find_system
from c2f_dgl.baselines.system import Context
from c2f_dgl.config.load import load_config
from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.io.files import write_text
from c2f_dgl.io.progress import Reporter
from c2f_dgl.training.build import start_graph
from c2f_dgl.training.folder import processor, versions

RESULTS = Path(__file__).parent / "results" / "budget"

# As the bench calls them.
RIVALS = {"svd": "anchor-svd-budget", "legcf": "legcf", "gfcf": "anchor-gfcf"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--values", type=int, nargs="+", default=[50_000, 100_000, 190_000, 500_000, 1_000_000])
    parser.add_argument("--systems", nargs="+", default=["gfcf", "svd", "coarse", "legcf"])
    parser.add_argument("--seeds", type=int, nargs="+", default=[2024])
    parser.add_argument("--minutes", type=float, default=10.0)
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        split = load_dataset(arguments.dataset, seed=seed)
        for system in arguments.systems:
            for values in arguments.values if system != "gfcf" else [0]:
                path = RESULTS / f"{split.name}-{system}-{seed}-{values}.json"
                if path.exists():
                    print(f"{path.name}: there already")
                    continue
                started = time.perf_counter()
                if system == "coarse":
                    found = coarse(split, values, seed)
                else:
                    found = rival(system, split, values, seed, arguments.minutes)
                record = {
                    "data": split.name,
                    "system": system,
                    "seed": seed,
                    "budget": values,
                    **found,
                    "seconds": round(time.perf_counter() - started, 1),
                    "processor": processor(),
                    "versions": versions(),
                }
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(path, json.dumps(record, indent=2) + "\n")
                print(f"{path.name}: N@20 {record['test']['ndcg@20']:.4f}, {record['values']:,} values")


def coarse(split: Split, values: int, seed: int) -> dict[str, Any]:
    """`fast` without a fine tier, as it starts."""
    budget = values / (split.n_users + split.n_items)
    overrides = [f"seed={seed}", f"model.budget={budget!r}", "finer={}", "coarse.training.fixed_epochs=0"]
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
        run = Path(folder) / "run"
        config = load_config("fast", [*overrides, f"data.source={split.name}"])
        stage = api.train(split, run, config)["stages"]["coarse"]
        model, _ = api.load_run(run)
    return {
        "values": stage["parameters"]["total"],
        "valid": stage["valid"],
        "test": stage["test"],
        "bytes": model.count_bytes(),
    }


def rival(system: str, split: Split, values: int, seed: int, minutes: float) -> dict[str, Any]:
    """A system of the bench, with its default settings."""
    described, device = find_system(RIVALS[system]), torch.device("cpu")
    graph = start_graph(split, load_config("paper").model)
    deadline = time.monotonic() + 60 * minutes
    context = Context(split, graph, values, described.defaults, seed, device, Reporter(), deadline)
    fitted = described.train(context)
    return {
        "values": sum(fitted.values.values()),
        "bytes": fitted.bytes,
        "valid": evaluate(fitted.ranker, split.train, split.valid),
        "test": evaluate(fitted.ranker, split.train, split.test),
    }


if __name__ == "__main__":
    main()
