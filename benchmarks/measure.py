"""What the benchmarks share: options, data by name, alternating runs, memory of part of a process, records on disk."""

from __future__ import annotations

import argparse
import gc
import inspect
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import mean, median, stdev
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import torch

from c2f_dgl import load_dataset
from c2f_dgl.bench.table import spread as spread_cell
from c2f_dgl.data.planted import generate_planted
from c2f_dgl.data.splits import Split, random_split
from c2f_dgl.io.files import write_text
from c2f_dgl.training.folder import processor, versions

RESULTS = Path(__file__).parent / "results"

# `planted` at the sizes of the paper's Table 2: users, items, interactions.
SHAPES = {"yelp2020-shape": (71_135, 45_063, 1_782_999), "amazon-book-shape": (52_643, 91_599, 2_984_108)}


def command(main: Callable[..., Any], words: Sequence[str] | None = None) -> Any:
    """What `main` returns, called with the options of the command line.

    Parameters without a default are positional, a list takes several values, a bool is a flag, and ``Annotated[T,
    choices]`` is one of some.
    """
    parser = argparse.ArgumentParser(description=(main.__globals__["__doc__"] or "").partition("\n")[0])
    hints = get_type_hints(main, include_extras=True)
    for name, parameter in inspect.signature(main).parameters.items():
        hint, choices = hints[name], None
        if get_origin(hint) is Annotated:
            hint, choices = get_args(hint)
        several, kind = get_origin(hint) is Sequence, next(iter(get_args(hint)), hint)
        if parameter.default is parameter.empty:
            parser.add_argument(name, type=kind, choices=choices, nargs="+" if several else None)
        elif kind is bool:
            parser.add_argument(f"--{name}".replace("_", "-"), action="store_true")
        else:
            flag, nargs = f"--{name}".replace("_", "-"), "*" if several else None
            parser.add_argument(flag, type=kind, choices=choices, nargs=nargs, default=parameter.default)
    return main(**vars(parser.parse_args(words)))


@contextmanager
def folder() -> Iterator[Path]:
    """A folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="c2f_dgl-") as name:
        yield Path(name)


def table(head: str, rows: Iterable[str]) -> str:
    """A Markdown table of lines whose cells stand between ` | `."""
    first, *others = (f"| {line} |" for line in (head, *rows))
    return "\n".join([first, "|---" * (head.count("|") + 1) + "|", *others])


def load(name: str, *, seed: int = 2024) -> Split:
    """A data set by name or path, or `planted` at a shape: one of `SHAPES`, or USERSxITEMSxINTERACTIONS."""
    shape = SHAPES.get(name, name.split("x") if name.replace("x", "").isdigit() else None)
    if shape is None:
        return load_dataset(name)
    inter, _ = generate_planted(*map(int, shape), n_coarse=30, n_fine_per_coarse=10, seed=seed)
    return random_split(inter, seed=seed, valid=0.05, test=0.1, name=name)


def train_run(dataset: str, out: Path, options: Sequence[str]) -> tuple[float, dict[str, Any]]:
    """Seconds of a whole process that trains by the command line, and the summary of its run."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-m", "c2f_dgl", "train", dataset, "--out", str(out), *options], check=True)
    return time.perf_counter() - started, json.loads((out / "summary.json").read_text())


def alternate(
    ways: Mapping[str, Callable[[], object]], runs: int, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each way, `runs` times each, A B A B, after a round of warming up."""
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for run in range(runs + 1):
        for way, take in ways.items():
            wait()
            started = clock()
            take()
            wait()
            if run:
                seconds[way].append(clock() - started)
    return seconds


def wait() -> None:
    """Wait until the GPU, if there is one, has done what it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def spread(times: list[float]) -> dict[str, float]:
    """Median, least and most of some seconds."""
    return {"median_seconds": median(times), "least": min(times), "most": max(times), "runs": len(times)}


def timed(ways: Mapping[str, Callable[[], object]], runs: int) -> dict[str, dict[str, float]]:
    """`spread` of each way's seconds, as `alternate` takes them."""
    return {way: spread(seconds) for way, seconds in alternate(ways, runs).items()}


def apart(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns in a process of its own, which begins with nothing in memory."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def mean_spread(values: Sequence[float]) -> str:
    """Mean and, of several values, standard deviation, as tables have it."""
    return spread_cell(mean(values), stdev(values) if len(values) > 1 else None)


def peak_bytes(take: Callable[[], object]) -> int:
    """Most memory that is resident while `take` runs, beyond what was before it (Linux; 0 elsewhere)."""
    refs = Path("/proc/self/clear_refs")
    if not refs.exists():
        take()
        return 0
    gc.collect()
    refs.write_text("5")  # sets the peak back to what is resident now
    before = memory("VmRSS")
    take()
    return max(0, memory("VmHWM") - before)


def memory(field: str = "VmHWM", process: int | str = "self") -> int:
    """Bytes a process holds, by the field of its status: VmRSS, VmHWM for the most it held (Linux; 0 elsewhere)."""
    status = Path(f"/proc/{process}/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith(field)), 0)


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "load_before": round(os.getloadavg()[0], 2),
        "versions": versions(),
    }


def keep(benchmark: str, name: str, record: dict[str, Any]) -> Path:
    """Write a record to benchmarks/results/<benchmark>/<name>.json."""
    path = RESULTS / benchmark / f"{name}.json"
    write_text(path, json.dumps(record, indent=2) + "\n")
    return path


def read(benchmark: str, name: str) -> Any:
    """A record, or None where nobody has measured it."""
    return read_all(benchmark, name).get(name)


def read_all(benchmark: str, pattern: str = "*") -> dict[str, Any]:
    """Records of a benchmark by their names."""
    paths = sorted((RESULTS / benchmark).glob(f"{pattern}.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in paths}
