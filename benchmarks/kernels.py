"""Kernels and engines against each other, in one process, alternating: `python benchmarks/kernels.py DATASET`.

One training step (forward, backward) of a coarse tier with m = 300, d = 128, L = 3 and 8192 triplets a batch, as the
paper has it, on the same batch. Writes medians, spreads and ratios to benchmarks/results/kernels/<data set>.json.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from c2f_dgl import load_dataset
from c2f_dgl.engines import Propagation
from c2f_dgl.files import write_text
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.model import Readout, Recommender, item_degrees
from c2f_dgl.tiers.assignment import anchored
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training.folder import processor, versions
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import TripletSampler

WAYS = [("collapsed", "csr"), ("message_passing", "csr"), ("message_passing", "dgl")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--triplets", type=int, default=8192)
    arguments = parser.parse_args()
    split, rng = load_dataset(arguments.dataset), np.random.default_rng(0)
    batch = TripletSampler(split.train, 5).epoch(arguments.triplets // 5, arguments.triplets // 5, rng)
    graph = interaction_graph(split.train)
    layout = entity_layout(graph)
    assignment = anchored(rng.integers(0, 300, layout.total), 300, 2, 0.5, rng)
    codebook = torch.randn(300, 128, generator=torch.Generator().manual_seed(0))
    models = {}
    for engine, kernel in WAYS:
        embedding = TieredEmbedding(layout, [Tier("coarse", codebook, assignment)])
        readout = Readout(item_degrees(graph), split.n_users)
        models[engine, kernel] = Recommender(graph, embedding, Propagation(3, kernel=kernel), readout, engine)
    seconds: dict[tuple[str, str], list[float]] = {way: [] for way in WAYS}
    for run in range(arguments.runs + 1):  # the first is a warm-up
        for way, model in models.items():
            started = time.perf_counter()
            batch_loss(model, batch, "bpr", 5e-4).backward()
            if run:
                seconds[way].append(time.perf_counter() - started)
    reference = median(seconds["collapsed", "csr"])
    result = {
        "data": split.name,
        "triplets": arguments.triplets,
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "versions": versions(),
        "steps": {
            f"{engine}, {kernel}": {
                "median_seconds": median(times),
                "least": min(times),
                "most": max(times),
                "times_collapsed": median(times) / reference,
            }
            for (engine, kernel), times in seconds.items()
        },
    }
    path = Path(__file__).parent / "results" / "kernels" / f"{split.name}.json"
    write_text(path, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result["steps"], indent=2))


if __name__ == "__main__":
    main()
