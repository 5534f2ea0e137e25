"""What the examples' additions do on a data set, and what further relations cost.

    python -m benchmarks.relations effect [--data lastfm] [--seeds 2024 2025 2026] [--examples social counts ...]
    python -m benchmarks.relations cost [--data lastfm]

`effect` trains each example with and without its addition (the model without is the same for all of them, so it is
trained once a seed; that of the third tier is the run's own, before it got one) and keeps one record an example, data
set and seed in benchmarks/results/relations. `cost` times a collapse, and a training step of either engine, with none
to five copies of one further relation of as many edges as there are interactions.
"""

from __future__ import annotations

import importlib
import itertools
import statistics
import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

import numpy as np
import torch

from benchmarks import measure
from benchmarks.throughput import rebuilt
from c2f_dgl import load_dataset
from c2f_dgl.config.graph import GraphConfig
from c2f_dgl.config.load import load_config
from c2f_dgl.data.relations import add_relations, sized
from c2f_dgl.data.splits import Split
from c2f_dgl.examples import compare
from c2f_dgl.training.build import start_graph, start_model
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import Triplets, TripletSampler

# Each example, the record of the model without its addition (None: the same run, without its last stage), and what both
# are called.
EXAMPLES: dict[str, tuple[str | None, str, str]] = {
    "social": ("without", "social links, `user-trusts-user`", "`fast`"),
    "counts": ("without", "listening counts as weights", "`fast`"),
    "communities": ("without", "METIS communities of artists, a node type", "`fast`"),
    "tiers": (None, "a third tier", "`paper`, small (d = 32, m = 60, 12 epochs)"),
}

_MOST_RELATIONS = 5
_REPEATS = 3


def main(
    what: Annotated[str, ("effect", "cost")],
    data: str = "lastfm",
    seeds: Sequence[int] = (2024, 2025, 2026),
    examples: Annotated[Sequence[str], EXAMPLES] = tuple(EXAMPLES),
) -> None:
    if what == "cost":
        measure.keep("relations", f"cost-{data}", cost(data))
        return
    for seed, example in itertools.product(seeds, examples):
        for name, added in ((EXAMPLES[example][0], False), (example, True)):
            record = f"{name}-{data}-{seed}"
            if name is not None and measure.read("relations", record) is None:
                measure.keep("relations", record, effect(example, data, seed, added))


def effect(example: str, data: str, seed: int, added: bool) -> dict[str, Any]:
    """Figures of an example with its addition or without."""
    module = importlib.import_module(f"c2f_dgl.examples.{example}.train")
    started = time.process_time()
    split, config = module.prepare(data, seed, added)
    with measure.folder() as folder:
        figures = compare.measure(split, config, folder / "run")
    seconds = round(time.process_time() - started, 1)
    return {"data": data, "seed": seed, "processor_seconds": seconds, **figures}


def cost(data: str) -> dict[str, Any]:
    """Median processor seconds of a rebuild and of a step on one thread, by number of further relations."""
    torch.set_num_threads(1)
    split, rng = load_dataset(data), np.random.default_rng(0)
    ends = rng.integers(0, split.n_users, (2, split.train.nnz))
    rows = []
    for n in range(_MOST_RELATIONS + 1):
        added, schema = with_relations(split, n, ends)
        row: dict[str, Any] = {"relations": n}
        for engine in ("collapsed", "message_passing"):
            config = load_config("paper", [f"model.engine={engine}"], graph=schema)
            config = config.model_copy(update={"graph": sized(schema, added)})
            graph = start_graph(added, config.model, config.graph)
            model = start_model(config, graph, added, torch.device("cpu")).model
            row["edges"] = sum(graph.num_edges(etype) for etype in graph.canonical_etypes)
            batch = next(TripletSampler(added.train, 5).epoch(1638, 1638, rng).batches(1638))

            def step(model: Any = model, batch: Triplets = batch) -> None:
                model.zero_grad()
                batch_loss(model, batch, "bpr", 5e-4).backward()

            ways = {engine: step} | ({"rebuild": partial(rebuilt, model)} if engine == "collapsed" else {})
            # The processor's seconds: other work does not count.
            taken = measure.alternate(ways, _REPEATS, clock=time.process_time)
            row |= {way: statistics.median(seconds) for way, seconds in taken.items()}
        rows.append(row)
    return {"data": data, "rows": rows}


def with_relations(split: Split, n: int, ends: np.ndarray) -> tuple[Split, GraphConfig]:
    """A split with n relations between users that hold the same edges."""
    one = {"source": "user", "destination": "user", "symmetric": False}
    schema = GraphConfig.model_validate({"relations": {f"relation_{k}": one for k in range(n)}})
    return add_relations(split, schema, {name: tuple(ends) for name in schema.relations}), schema


if __name__ == "__main__":
    measure.command(main)
