"""Everything that is to be known of a GPU, in one command: `python -m benchmarks.gpu [DATASET]`.

In this order: the steps of both engines on each kernel that this DGL has, alternating, and the collapsed one as a share
of the device's bound (as `benchmarks.roofline` has it); basis, update and evaluation; a whole run of the `fast` preset
from an empty process; and the `published` preset to convergence for three seeds, resumed in
runs/published. Writes benchmarks/results/gpu/<data set>.json after each part, so that a stopped run leaves what it has
measured. `--device cpu` takes the same way without a GPU.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import measure, roofline, throughput
from c2f_dgl.data.splits import Split
from c2f_dgl.graph.propagate import chosen_kernel
from c2f_dgl.training.checks import check_device
from c2f_dgl.training.sampler import TripletSampler


def main() -> None:
    parser = measure.parser(__doc__, device="cuda", batches=[8192, 32768], runs=9)
    parser.add_argument("dataset", nargs="?", default="gowalla")
    parser.add_argument("--seeds", type=int, nargs="*", default=[2024, 2025, 2026], help="of the published preset")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for the published preset")
    arguments = parser.parse_args()
    device, runs = arguments.device, arguments.runs
    check_device(device)
    split = measure.load(arguments.dataset)
    options = [part for option in arguments.set for part in ("--set", option)]
    measured: dict[str, Callable[[], dict[str, Any]]] = {
        "steps": lambda: steps(split, arguments.batches, runs, device),
        "roofline": lambda: roofline.measured(split, arguments.batches, runs, device),
        "parts": lambda: parts(split, runs, device),
        "fast": lambda: whole_run(arguments.dataset, device),
    }
    for seed in arguments.seeds:
        out = Path("runs") / "published" / f"{Path(arguments.dataset).name}-{seed}"
        published = ["--preset", "published", "--seed", str(seed), "--device", device, "--resume", *options]
        measured[f"published, seed {seed}"] = partial(figures, arguments.dataset, out, published)
    record: dict[str, Any] = {"data": split.name, "device": device, "machine": measure.machine()}
    for name, take in measured.items():
        record[name] = take()
        print(name, json.dumps(record[name], indent=1))
        path = measure.keep("gpu", split.name, record)
    print(path)


def kernels(device: str) -> list[str]:
    """Those that run on `device`: a DGL that was built without CUDA has its own on the CPU alone."""
    on_gpu = device == "cpu" or chosen_kernel("auto", torch.device(device)) == "dgl"
    return ["csr", "dgl"] if on_gpu else ["csr"]


def sampler_on(split: Split, device: str) -> TripletSampler:
    """The sampler that training takes on `device`."""
    return TripletSampler(split.train, throughput.NEGATIVES, device)


def steps(split: Split, batches: list[int], runs: int, device: str) -> dict[str, Any]:
    """Seconds and triplets a second of a step, per batch size, engine and kernel."""
    sampler = sampler_on(split, device)
    ways = [("collapsed", "csr"), *(("message_passing", kernel) for kernel in kernels(device))]
    steppers = {
        f"{engine}, {kernel}": throughput.stepper(throughput.our_step(throughput.build(split, engine, kernel, device)))
        for engine, kernel in ways
    }
    rows: dict[str, Any] = {}
    for size in batches:
        n = size // throughput.NEGATIVES
        batch = next(sampler.batches(n, n, np.random.default_rng(0)))
        seconds = measure.alternate({name: partial(take, batch) for name, take in steppers.items()}, runs)
        rows[str(size)] = {name: measure.spread(times) for name, times in seconds.items()}
        for row in rows[str(size)].values():
            row["triplets_a_second"] = n * throughput.NEGATIVES / row["median_seconds"]
    return rows


def parts(split: Split, runs: int, device: str) -> dict[str, Any]:
    """Seconds of what training does beside its steps."""
    models = {kernel: throughput.build(split, "collapsed", kernel, device) for kernel in kernels(device)}
    sampler, size = sampler_on(split, device), 8192 // throughput.NEGATIVES
    sample = lambda: list(sampler.batches(split.train.nnz, size, np.random.default_rng(1)))
    ways = throughput.repeated_parts(split, models, sample)
    return {name: measure.timed(take, runs) for name, take in ways.items()}


def whole_run(dataset: str, device: str) -> dict[str, Any]:
    """A run of the default preset from an empty process."""
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
        return figures(dataset, Path(folder) / "run", ["--device", device])


def figures(dataset: str, out: Path, options: list[str]) -> dict[str, Any]:
    """Seconds of a run, and what it reached."""
    seconds, summary = measure.train_run(dataset, out, options)
    return {"seconds": seconds, "chosen": summary["chosen"], "stages": summary["stages"]}


if __name__ == "__main__":
    main()
