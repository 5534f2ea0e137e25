"""Memory of `c2f-dgl serve --workers`: `python -m benchmarks.workers [--workers 1 2 4]`.

A model of codes and a table of as many items as it is said, each served by some processes. Memory is the sum of their
proportional set sizes, the one that starts the others included: pages that several have in common count once. Writes
benchmarks/results/workers/workers.json.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import numpy as np

from benchmarks import measure
from benchmarks.soak import random_model
from c2f_dgl.bench.table import markdown_table
from c2f_dgl.serving import ItemCodes, ServingModel

_HISTORY, _ASKED = 50, 50


def served(path: Path, workers: int, n_items: int) -> dict[str, Any]:
    """Memory of a service when all of its workers have started and some requests were answered."""
    command = [sys.executable, "-m", "c2f_dgl", "serve", str(path), "--port", "0", "--workers", str(workers)]
    server = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert server.stderr is not None
        said, rng = "", np.random.default_rng(0)
        while said.count("startup complete") < workers or "http://" not in said:
            line = server.stderr.readline()
            assert line, said
            said += line
        address = re.findall(r"http://\S+?:\d+", said)[0]
        for _ in range(_ASKED):
            body = json.dumps({"history": rng.integers(0, n_items, _HISTORY).tolist()}).encode()
            with urlopen(Request(f"{address}/recommend", body, {"Content-Type": "application/json"})) as answer:
                assert len(json.load(answer)["items"]) == 10
        children = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        return {"workers": workers, "pss_bytes": sum(map(pss, [server.pid, *map(int, children)]))}
    finally:
        server.terminate()
        server.communicate()


def pss(process: int) -> int:
    """Proportional set size, bytes."""
    rollup = Path(f"/proc/{process}/smaps_rollup").read_text()
    return 1024 * int(re.findall(r"^Pss: +(\d+)", rollup, re.M)[0])


def table() -> str:
    """Memory by model and number of workers."""
    record = measure.read("workers", "workers")
    of_all = [row["workers"] for row in record["models"][0]["served"]]
    rows = [
        [model["model"], f"{model['bytes'] / 1e6:,.1f}", *(f"{row['pss_bytes'] / 1e6:,.0f}" for row in model["served"])]
        for model in record["models"]
    ]
    head = ["memory, MB", "file, MB", *(f"{n} worker{'s' * (n > 1)}" for n in of_all)]
    return markdown_table(head, rows)


def main() -> None:
    arguments = measure.parser(__doc__, workers=[1, 2, 4], items=1_000_000, d=128).parse_args()
    codes, n = random_model(), arguments.items
    vectors = np.random.default_rng(0).normal(size=(n, arguments.d)).astype(np.float32)
    weights = np.ones(1, np.float32), np.ones(1, np.float32)
    of_items = ServingModel(ItemCodes.table(vectors), np.zeros(n, np.uint8), *weights, np.arange(n))
    models = {
        f"codes of {codes.n_items:,} items": codes,
        f"float32 table of {n:,} items, d = {arguments.d}": of_items,
    }
    record: dict[str, Any] = {"machine": measure.machine(), "models": []}
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
        for name, model in models.items():
            model.save(path := Path(folder) / "model.c2f")
            rows = [served(path, workers, model.n_items) for workers in arguments.workers]
            record["models"].append({"model": name, "bytes": os.stat(path).st_size, "served": rows})
            print(record["models"][-1])
    print(measure.keep("workers", "workers", record))


if __name__ == "__main__":
    main()
