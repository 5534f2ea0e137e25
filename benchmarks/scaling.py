"""How training grows with the data: `python -m benchmarks.scaling [--interactions 1e6 1e7 1e8] [--steps 100]`.

`planted` at growing sizes, with 5 users and 1 item per 100 interactions, m = 300 and d = 128; then, at the smallest of
them, with N, m and d varied one at a time. Each in a process of its own: seconds to draw the data, to build the graph,
for an assignment update, for an epoch (from some steps, drawn as training draws them), and the peak memory. The
exponents are slopes of least squares on logarithms. Writes benchmarks/results/scaling/<name>.json; points that are in
it already are not measured again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from itertools import islice

import numpy as np
import torch
from rich.console import Console
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interactions", type=float, nargs="+", default=[1e6, 1e7, 1e8])
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--memory-budget", type=float, metavar="GIB", help="of the collapsed basis")
    parser.add_argument("--name", default="planted")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(one(**json.loads(arguments.one))))
        return
    budget = arguments.memory_budget
    base = {"interactions": int(min(arguments.interactions)), "users": 0, "items": 0, "m": 300, "d": 128}
    base |= {"steps": arguments.steps, "memory_budget": budget}
    base |= {"users": base["interactions"] // 20, "items": base["interactions"] // 100}
    sweeps = {
        "interactions": [
            {**base, "interactions": int(n), "users": int(n) // 20, "items": int(n) // 100}
            for n in arguments.interactions
        ],
        # At a fixed number of interactions; eight a user are drawn at least.
        "N": [{**base, "users": base["users"] * 2 // k, "items": base["items"] * 2 // k} for k in (4, 2, 1)],
        "m": [{**base, "m": m} for m in (75, 150, 300, 600)],
        "d": [{**base, "d": d} for d in (32, 64, 128, 256)],
    }
    console, machine, done = Console(stderr=True), measure.machine(), measured_before(arguments.name, base)
    found: dict[str, dict] = {}
    for name, points in sweeps.items():
        rows = []
        for point in points:
            key = json.dumps(point)
            if key not in done:
                with console.status(f"{name}: {point}"):
                    done[key] = child(key)
            rows.append(done[key])
            figures = "  ".join(f"{figure} {done[key][figure]:,.4g}" for figure in FIGURES)
            print(f"{name:12} {value(name, point):>12,}  {figures}")
        sizes = [value(name, row) for row in rows]
        found[name] = {"points": rows, "exponents": {of: exponent(sizes, [r[of] for r in rows]) for of in FIGURES}}
        print(name, found[name]["exponents"])
    print(measure.keep("scaling", arguments.name, {"machine": machine, "sweeps": found}))


def measured_before(name: str, point: dict) -> dict[str, dict]:
    """Points of the record there is, by the JSON of what was asked for; `point` is one that is asked for."""
    path = measure.RESULTS / "scaling" / f"{name}.json"
    if not path.exists():
        return {}
    rows = (row for sweep in json.loads(path.read_text())["sweeps"].values() for row in sweep["points"])
    return {json.dumps({key: row[key] for key in point}): row for row in rows}


def value(name: str, point: dict) -> int:
    """What is varied in a sweep."""
    return point["users"] + point["items"] if name == "N" else point[name]


def exponent(sizes: list[int], figures: list[float]) -> float | None:
    """Slope of log figure against log size; None for a single size."""
    return float(np.polyfit(np.log(sizes), np.log(figures), 1)[0]) if len(set(sizes)) > 1 else None


def child(point: str) -> dict:
    """`one` in a fresh process, whose peak memory is its own."""
    command = [sys.executable, "-m", "benchmarks.scaling", "--one", point]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def one(
    interactions: int, users: int, items: int, m: int, d: int, steps: int, memory_budget: float | None
) -> dict[str, float | str | None]:
    """Figures of one size."""
    record: dict[str, float | str | None] = {"interactions": interactions, "users": users, "items": items}
    record |= {"m": m, "d": d, "steps": steps, "memory_budget": memory_budget}

    def timed(name: str, started: float) -> None:
        record[name] = time.perf_counter() - started

    started = time.perf_counter()
    inter, _ = generate_planted(users, items, interactions, 30, 10, seed=2024)
    nothing = csr_matrix((users, items), dtype=np.float32)
    split = Split("planted", inter.to_csr(), nothing, nothing, inter.user_ids, inter.item_ids, ())
    del inter
    timed("seconds_of_data", started)
    started = time.perf_counter()
    graph = interaction_graph(split.train)
    timed("seconds_of_graph", started)
    budget = None if memory_budget is None else memory_budget * 2**30
    started = time.perf_counter()
    model = throughput.build(split, "auto", "csr", graph=graph, m=m, d=d, memory_budget=budget)
    timed("seconds_of_engine", started)
    engine = model.engine
    record["basis"] = engine.storage if isinstance(engine, Collapsed) else "message passing"
    started = time.perf_counter()
    update_assignment(model, CoarseConfig(m=m))
    timed("seconds_an_update", started)
    started = time.perf_counter()
    sampler = TripletSampler(split.train, throughput.NEGATIVES)
    timed("seconds_of_sampler", started)
    size, take = 8192 // throughput.NEGATIVES, throughput.taker(throughput.own(model))
    n_steps = -(-split.train.nnz // size)
    batches = sampler.batches(split.train.nnz, size, np.random.default_rng(0))
    started = time.perf_counter()
    first = next(batches)  # draws many batches
    sampling = (time.perf_counter() - started) * max(1.0, split.train.nnz / DRAWN)
    take(first)
    started, taken = time.perf_counter(), 0
    for batch in islice(batches, steps):
        take(batch)
        taken += 1
    record["seconds_an_epoch"] = (time.perf_counter() - started) / taken * n_steps + sampling
    record["sampling_share"] = sampling / record["seconds_an_epoch"]
    record["peak_bytes"] = measure.memory()
    record["threads"] = torch.get_num_threads()
    return record


if __name__ == "__main__":
    main()
