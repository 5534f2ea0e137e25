"""Memory of `c2f-dgl serve --workers`: `python -m benchmarks.workers [--workers 1 2 4]`.

A model of codes and a table of as many items as it is said, each served by some processes. Memory is the sum of their
proportional set sizes, the one that starts the others included: pages that several have in common count once. Writes
benchmarks/results/workers/workers.json.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

from benchmarks import measure
from benchmarks.soak import random_model, served
from c2f_dgl.serving import ItemCodes, ServingModel

_HISTORY, _ASKED = 50, 50


def memory(path: Path, workers: int, n_items: int) -> dict[str, Any]:
    """Memory of a service when all of its workers have started and some requests were answered."""
    rng = np.random.default_rng(0)
    with served(path, workers=workers) as (process, host, port):
        for _ in range(_ASKED):
            body = json.dumps({"history": rng.integers(0, n_items, _HISTORY).tolist()}).encode()
            request = Request(f"http://{host}:{port}/recommend", body, {"Content-Type": "application/json"})
            with urlopen(request) as answer:
                assert len(json.load(answer)["items"]) == 10
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        return {"workers": workers, "pss_bytes": sum(map(pss, [process, *map(int, children)]))}


def pss(process: int) -> int:
    """Proportional set size, bytes."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return 1024 * int(re.findall(r"^Pss: +(\d+)", rollup, re.M)[0])


def table() -> str:
    """Memory by model and number of workers."""
    models = measure.read("workers", "workers")["models"]
    counts = " | ".join(f"{row['workers']} worker{'s' * (row['workers'] > 1)}" for row in models[0]["served"])
    lines = []
    for model in models:
        megabytes = " | ".join(f"{row['pss_bytes'] / 1e6:,.0f}" for row in model["served"])
        lines.append(f"{model['model']} | {model['bytes'] / 1e6:,.1f} | {megabytes}")
    return measure.table(f"memory, MB | file, MB | {counts}", lines)


def main(workers: Sequence[int] = (1, 2, 4), items: int = 1_000_000, d: int = 128) -> None:
    codes = random_model()
    vectors = np.random.default_rng(0).normal(size=(items, d)).astype(np.float32)
    weights = np.ones(1, np.float32), np.ones(1, np.float32)
    of_items = ServingModel(ItemCodes.table(vectors), np.zeros(items, np.uint8), *weights, np.arange(items))
    models = {f"codes of {codes.n_items:,} items": codes, f"float32 table of {items:,} items, d = {d}": of_items}
    record: dict[str, Any] = {"machine": measure.machine(), "models": []}
    with measure.folder() as folder:
        for name, model in models.items():
            model.save(path := folder / "model.c2f")
            rows = [memory(path, n, model.n_items) for n in workers]
            record["models"].append({"model": name, "bytes": path.stat().st_size, "served": rows})
            print(record["models"][-1])
    print(measure.keep("workers", "workers", record))


if __name__ == "__main__":
    measure.command(main)
