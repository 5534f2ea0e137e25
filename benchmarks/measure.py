"""What the speed benchmarks share: data by name, alternating runs, memory of a part of a process, records on disk."""

from __future__ import annotations

import gc
import json
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import torch

from c2f_dgl import load_dataset
from c2f_dgl.data.planted import generate_planted
from c2f_dgl.data.splits import Split, random_split
from c2f_dgl.io.files import write_text
from c2f_dgl.training.folder import processor, versions

RESULTS = Path(__file__).parent / "results"

# `planted` at the sizes of the paper's Table 2: users, items, interactions.
SHAPES = {"yelp2020-shape": (71_135, 45_063, 1_782_999), "amazon-book-shape": (52_643, 91_599, 2_984_108)}


def load(name: str, *, seed: int = 2024) -> Split:
    """A data set by name or path, or `planted` at a shape: one of `SHAPES`, or USERSxITEMSxINTERACTIONS."""
    shape = SHAPES.get(name)
    if shape is None and name.replace("x", "").isdigit():
        users, items, interactions = map(int, name.split("x"))
        shape = users, items, interactions
    if shape is None:
        return load_dataset(name)
    inter, _ = generate_planted(*shape, n_coarse=30, n_fine_per_coarse=10, seed=seed)
    return random_split(inter, seed=seed, valid=0.05, test=0.1, name=name)


def alternate(ways: Mapping[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of each way, `runs` times each, A B A B, after a round of warming up."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for run in range(runs + 1):
        for way, take in ways.items():
            wait()
            started = time.perf_counter()
            take()
            wait()
            if run:
                seconds[way].append(time.perf_counter() - started)
    return seconds


def wait() -> None:
    """Until the GPU, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def spread(times: list[float]) -> dict[str, float]:
    """Median, least and most of some seconds."""
    return {"median_seconds": median(times), "least": min(times), "most": max(times), "runs": len(times)}


def peak_bytes(take: Callable[[], object]) -> int:
    """Most memory that is resident while `take` runs, beyond what was before it (Linux; 0 elsewhere)."""
    status, refs = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not refs.exists():
        take()
        return 0
    gc.collect()
    refs.write_text("5")  # sets the peak back to what is resident now
    before = _kib(status, "VmRSS")
    take()
    return 1024 * max(0, _kib(status, "VmHWM") - before)


def resident_peak() -> int:
    """Most memory that has been resident in this process (Linux; 0 elsewhere)."""
    status = Path("/proc/self/status")
    return 1024 * _kib(status, "VmHWM") if status.exists() else 0


def _kib(status: Path, field: str) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": gpu,
        "load_before": round(os.getloadavg()[0], 2),
        "versions": versions(),
    }


def keep(benchmark: str, name: str, record: dict[str, Any]) -> Path:
    """Write a record to benchmarks/results/<benchmark>/<name>.json."""
    path = RESULTS / benchmark / f"{name}.json"
    write_text(path, json.dumps(record, indent=2) + "\n")
    return path
