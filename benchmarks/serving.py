"""Ranking with numpy alone against torch, implicit and faiss: `python benchmarks/serving.py RUN [--runs 9]`.

The best 20 of all items, seen ones not left out, for one user and for 1,000, from the same float32 embeddings of a
run's model, alternating in one process; and the peak memory of a fresh process for each way that loads them and ranks
the 1,000 (read from /proc, so on Linux). Writes medians to benchmarks/results/serving/<data set>.json. Needs
`implicit` and `faiss-cpu`.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
from safetensors.numpy import load_file

K = 20
Rank = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--memory", choices=WAYS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.memory:
        peak(arguments.memory, arguments.run)
        return
    for package in ("implicit", "faiss"):
        if importlib.util.find_spec(package) is None:
            sys.exit(f"{package} is not installed: pip install implicit faiss-cpu")
    from c2f_dgl.api import load_run
    from c2f_dgl.exports import export
    from c2f_dgl.files import write_text
    from c2f_dgl.training.folder import processor, versions

    model, split = load_run(arguments.run, device="cpu")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export("artifact", model, split, folder / "artifact", embeddings=True)
        export("embeddings", model, split, folder / "embeddings")
        memory = {
            way: int(
                subprocess.run(
                    [sys.executable, __file__, str(folder), "--memory", way],
                    check=True,
                    stdout=subprocess.PIPE,
                    text=True,
                ).stdout
            )
            for way in WAYS
        }
        rank = {way: make(folder) for way, make in WAYS.items()}
    users = np.random.default_rng(0).permutation(split.n_users)[:1000]
    queries = {"1 user": users[:1], f"{len(users):,} users": users}
    wanted = rank["numpy"](users)
    agreement = {way: float((call(users) == wanted).mean()) for way, call in rank.items()}
    seconds: dict[str, dict[str, list[float]]] = {size: {way: [] for way in WAYS} for size in queries}
    for turn in range(arguments.runs + 1):  # the first is a warm-up
        for size, some in queries.items():
            for way, call in rank.items():
                started = time.perf_counter()
                call(some)
                if turn:
                    seconds[size][way].append(time.perf_counter() - started)
    result = {
        "data": split.name,
        "users": split.n_users,
        "items": split.n_items,
        "d": int(model.scorer().items.shape[1]),
        "k": K,
        "median seconds": {size: {way: median(found) for way, found in ways.items()} for size, ways in seconds.items()},
        "least, most": {size: {way: [min(x), max(x)] for way, x in ways.items()} for size, ways in seconds.items()},
        "peak bytes of a process": memory,
        "same items as numpy": agreement,
        "threads": threads(),
        "processor": processor(),
        "versions": {**versions(), **{name: importlib.metadata.version(name) for name in ("implicit", "faiss-cpu")}},
    }
    path = Path(__file__).parent / "results" / "serving" / f"{split.name}.json"
    write_text(path, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def with_numpy(folder: Path) -> Rank:
    from c2f_dgl.serving import ServingModel

    model = ServingModel.load(folder / "artifact")
    return lambda rows: model.items.find(model.recommend(model.users.ids[rows], K, exclude_seen=False)[0])


def with_torch(folder: Path) -> Rank:
    import torch

    from c2f_dgl.evaluation.ranking import Scorer, top_items

    found = load_file(folder / "embeddings" / "embeddings.safetensors")
    scorer = Scorer(torch.from_numpy(found["users"]), torch.from_numpy(found["items"]))
    return lambda rows: top_items(scorer, rows, K, None)[0]


def with_implicit(folder: Path) -> Rank:
    from implicit.cpu.als import AlternatingLeastSquares

    found = load_file(folder / "embeddings" / "embeddings.safetensors")
    model = AlternatingLeastSquares(factors=found["items"].shape[1])
    model.user_factors, model.item_factors = found["users"], found["items"]
    return lambda rows: model.recommend(rows, None, N=K, filter_already_liked_items=False)[0]


def with_faiss(folder: Path) -> Rank:
    import faiss

    found = load_file(folder / "embeddings" / "embeddings.safetensors")
    index = faiss.IndexFlatIP(found["items"].shape[1])
    index.add(found["items"])
    return lambda rows: index.search(found["users"][rows], K)[1]


WAYS: dict[str, Callable[[Path], Rank]] = {
    "numpy": with_numpy,
    "torch": with_torch,
    "implicit": with_implicit,
    "faiss": with_faiss,
}


def peak(way: str, folder: Path) -> None:
    """Print the peak memory of this process once it has ranked."""
    n_users = len(json.loads((folder / "embeddings" / "ids.json").read_text())["users"])
    WAYS[way](folder)(np.random.default_rng(0).permutation(n_users)[:1000])
    # Not getrusage: its peak counts what the parent held at the fork.
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:"))
    print(int(line.split()[1]) * 1024)


def threads() -> dict[str, int]:
    """Threads of every linear algebra library that was loaded."""
    from threadpoolctl import threadpool_info

    return {f"{pool['internal_api']} {Path(pool['filepath']).name}": pool["num_threads"] for pool in threadpool_info()}


if __name__ == "__main__":
    main()
