"""Everything that is to be known of a GPU, in one command: `python -m benchmarks.gpu [DATASET]`.

In this order: the steps of both engines on each kernel that this DGL has, alternating, and the collapsed one as a share
of the device's bound (as `benchmarks.roofline` has it); basis, update and evaluation; a whole run of the `fast` preset
from an empty process; and the `published` preset to convergence for three seeds, kept as `benchmarks/preset.py` keeps
runs. Writes benchmarks/results/gpu/<data set>.json after each part, so that a stopped run leaves what it has measured.
`--device cpu` takes the same way without a GPU.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks import measure, roofline, throughput
from c2f_dgl.config.schema import CoarseConfig
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.graph.propagate import chosen_kernel
from c2f_dgl.training.sampler import TripletSampler
from c2f_dgl.training.stage import update_assignment

PRESET = Path(__file__).with_name("preset.py")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset", nargs="?", default="gowalla")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--batches", type=int, nargs="+", default=[8192, 32768], metavar="TRIPLETS")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--seeds", type=int, nargs="*", default=[2024, 2025, 2026], help="of the published preset")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="for the published preset")
    arguments = parser.parse_args()
    if arguments.device == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no GPU", where="--device cuda", expected="a CUDA build of torch and a GPU")
    split = measure.load(arguments.dataset)
    record = {"data": split.name, "device": arguments.device, "machine": measure.machine()}
    measured: dict[str, Callable[[], dict]] = {
        "steps": lambda: steps(split, arguments.batches, arguments.runs, arguments.device),
        "roofline": lambda: roofline.measured(split, arguments.batches, arguments.runs, arguments.device),
        "parts": lambda: parts(split, arguments.runs, arguments.device),
        "fast": lambda: whole_run(arguments.dataset, arguments.device),
    }
    for name, take in measured.items():
        record[name] = take()
        print(name, json.dumps(record[name], indent=1))
        path = measure.keep("gpu", split.name, record)
    print(path)
    if arguments.seeds:
        command = [sys.executable, str(PRESET), arguments.dataset, "--preset", "published", "--seeds"]
        command += [*map(str, arguments.seeds), *(part for option in arguments.set for part in ("--set", option))]
        subprocess.run(command, check=True)


def kernels(device: str) -> list[str]:
    """Those that run on `device`: a DGL that was built without CUDA has its own on the CPU alone."""
    on_gpu = device == "cpu" or chosen_kernel("auto", torch.device(device)) == "dgl"
    return ["csr", "dgl"] if on_gpu else ["csr"]


def steps(split: Split, batches: list[int], runs: int, device: str) -> dict:
    """Seconds and triplets a second of a step, per batch size, engine and kernel."""
    sampler = TripletSampler(split.train, throughput.NEGATIVES, device)
    takers = {
        f"{engine}, {kernel}": throughput.taker(throughput.own(throughput.build(split, engine, kernel, device)))
        for engine, of in (("collapsed", ["csr"]), ("message_passing", kernels(device)))
        for kernel in of
    }
    found: dict[str, dict] = {}
    for size in batches:
        n = size // throughput.NEGATIVES
        batch = next(sampler.batches(n, n, np.random.default_rng(0)))
        ways = {name: lambda take=take, batch=batch: take(batch) for name, take in takers.items()}
        found[str(size)] = {name: measure.spread(times) for name, times in measure.alternate(ways, runs).items()}
        for row in found[str(size)].values():
            row["triplets_a_second"] = n * throughput.NEGATIVES / row["median_seconds"]
    return found


def parts(split: Split, runs: int, device: str) -> dict:
    """Seconds of what training does beside its steps."""
    models = {kernel: throughput.build(split, "collapsed", kernel, device) for kernel in kernels(device)}
    model, size = models["csr"], 8192 // throughput.NEGATIVES
    sampler = TripletSampler(split.train, throughput.NEGATIVES, device)
    ways: dict[str, Callable[[], object]] = {
        **{f"basis propagated, {kernel}": lambda of=of: of.engine.rebuild(of.graph) for kernel, of in models.items()},
        "whole assignment update": lambda: update_assignment(model, CoarseConfig()),
        "sampling an epoch": lambda: list(sampler.batches(split.train.nnz, size, np.random.default_rng(1))),
        "evaluation of all users": lambda: evaluate(model.scorer(), split.train, split.test),
    }
    return {name: measure.spread(measure.alternate({name: take}, runs)[name]) for name, take in ways.items()}


def whole_run(dataset: str, device: str) -> dict:
    """A run of the default preset from an empty process: seconds and what it reached."""
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as folder:
        out = Path(folder) / "run"
        command = [sys.executable, "-m", "c2f_dgl.cli.main", "train", dataset, "--out", str(out), "--device", device]
        started = time.perf_counter()
        subprocess.run(command, check=True)
        seconds = time.perf_counter() - started
        summary = json.loads((out / "summary.json").read_text())
    return {"seconds": seconds, "chosen": summary["chosen"], "stages": summary["stages"]}


if __name__ == "__main__":
    main()
