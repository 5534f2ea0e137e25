"""How training grows with the data: `python -m benchmarks.scaling [--interactions 1e6 1e7 1e8] [--steps 100]`.

`planted` at growing sizes, with 5 users and 1 item per 100 interactions, m = 300 and d = 128; then, at the smallest of
them, with N, m and d varied one at a time. Each in a process of its own: seconds to draw the data, to build the graph,
for an assignment update, for an epoch (from some steps, drawn as training draws them), and the peak memory. The
exponents are slopes of least squares on logarithms. Writes benchmarks/results/scaling/<name>.json; points that are in
it already are not measured again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix

from benchmarks import measure, throughput
from c2f_dgl.config.schema import CoarseConfig
from c2f_dgl.data.planted import generate_planted
from c2f_dgl.data.splits import Split
from c2f_dgl.engines import Collapsed
from c2f_dgl.graph.hetero import interaction_graph
from c2f_dgl.training.sampler import DRAWN, TripletSampler
from c2f_dgl.training.stage import update_assignment

FIGURES = ("seconds_an_epoch", "seconds_an_update", "peak_bytes")


def main(
    interactions: Sequence[float] = (1e6, 1e7, 1e8),
    steps: int = 100,
    memory_budget: float | None = None,
    name: str = "planted",
) -> None:

    def at(n: float) -> dict[str, Any]:
        sizes = {"interactions": int(n), "users": int(n) // 20, "items": int(n) // 100, "m": 300, "d": 128}
        return {**sizes, "steps": steps, "memory_budget": memory_budget}

    base = at(min(interactions))
    sweeps = {
        "interactions": [at(n) for n in interactions],
        # At a fixed number of interactions; eight a user are drawn at least.
        "N": [{**base, "users": base["users"] * 2 // k, "items": base["items"] * 2 // k} for k in (4, 2, 1)],
        "m": [{**base, "m": m} for m in (75, 150, 300, 600)],
        "d": [{**base, "d": d} for d in (32, 64, 128, 256)],
    }
    machine = measure.machine()
    before = (measure.read("scaling", name) or {"sweeps": {}})["sweeps"].values()
    rows_by_point = {json.dumps({key: row[key] for key in base}): row for sweep in before for row in sweep["points"]}
    record: dict[str, Any] = {}
    for varied, points in sweeps.items():
        for key, point in ((json.dumps(point), point) for point in points):
            if key not in rows_by_point:
                rows_by_point[key] = measure.apart(one, point)  # the peak memory is then the point's
            figures = "  ".join(f"{figure} {rows_by_point[key][figure]:,.4g}" for figure in FIGURES)
            print(f"{varied:12} {value(varied, point):>12,}  {figures}")
        rows = [rows_by_point[json.dumps(point)] for point in points]
        sizes = [value(varied, row) for row in rows]
        slopes = {figure: exponent(sizes, [row[figure] for row in rows]) for figure in FIGURES}
        record[varied] = {"points": rows, "exponents": slopes}
        print(varied, slopes)
    print(measure.keep("scaling", name, {"machine": machine, "sweeps": record}))


def value(name: str, point: dict) -> int:
    """What is varied in a sweep."""
    return point["users"] + point["items"] if name == "N" else point[name]


def exponent(sizes: list[int], figures: list[float]) -> float | None:
    """Slope of log figure against log size; None for a single size."""
    return float(np.polyfit(np.log(sizes), np.log(figures), 1)[0]) if len(set(sizes)) > 1 else None


def one(point: dict[str, Any]) -> dict[str, Any]:
    """Figures of one size; its `memory_budget` is in GiB."""
    interactions, users, items, m, d = (point[key] for key in ("interactions", "users", "items", "m", "d"))
    record = dict(point)

    @contextmanager
    def timed(name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        record[name] = time.perf_counter() - started

    with timed("seconds_of_data"):
        inter, _ = generate_planted(users, items, interactions, 30, 10, seed=2024)
        nothing = csr_matrix((users, items), dtype=np.float32)
        split = Split("planted", inter.to_csr(), nothing, nothing, inter.user_ids, inter.item_ids, ())
        del inter
    with timed("seconds_of_graph"):
        graph = interaction_graph(split.train)
    budget = None if point["memory_budget"] is None else point["memory_budget"] * 2**30
    with timed("seconds_of_engine"):
        model = throughput.build(split, "auto", "csr", graph=graph, m=m, d=d, memory_budget=budget)
    record["basis"] = model.engine.storage if isinstance(model.engine, Collapsed) else "message passing"
    with timed("seconds_an_update"):
        update_assignment(model, CoarseConfig(m=m))
    with timed("seconds_of_sampler"):
        sampler = TripletSampler(split.train, throughput.NEGATIVES)
    size, take = 8192 // throughput.NEGATIVES, throughput.stepper(throughput.our_step(model))
    batches = sampler.batches(split.train.nnz, size, np.random.default_rng(0))
    started = time.perf_counter()
    first = next(batches)  # draws many batches
    sampling = (time.perf_counter() - started) * max(1.0, split.train.nnz / DRAWN)
    take(first)
    started, taken = time.perf_counter(), 0
    for batch in islice(batches, point["steps"]):
        take(batch)
        taken += 1
    seconds_a_step = (time.perf_counter() - started) / taken
    record["seconds_an_epoch"] = seconds_a_step * -(-split.train.nnz // size) + sampling
    record["sampling_share"] = sampling / record["seconds_an_epoch"]
    record["peak_bytes"] = measure.memory()
    record["threads"] = torch.get_num_threads()
    return record


if __name__ == "__main__":
    measure.command(main)
