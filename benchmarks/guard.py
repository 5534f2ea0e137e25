"""Whether every preset and every system of the bench still scores what it scored before the code was moved about.

    python -m benchmarks.guard planted PATH ... [--write] [--only NAME ...]

Each is trained for a few epochs, in a process of its own on one thread; validation N@20 and R@20 and the learned values
are compared with benchmarks/results/guard/<data set>.json to 1e-6, or written there with --write.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import measure
from c2f_dgl.api import train_run
from c2f_dgl.baselines.registry import SYSTEMS
from c2f_dgl.bench.run import Job
from c2f_dgl.bench.worker import run
from c2f_dgl.config.load import load_config, preset_names
from c2f_dgl.io.progress import Reporter

METRICS = ("ndcg@20", "recall@20")

# Too few steps for a good model, enough for a change in any of them to show.
_STAGE = {"fixed_epochs": 2, "updating_epochs": 1, "evaluate_every": 1}
_SYSTEM = {"epochs": 2, "evaluate_every": 1, "search_epochs": 1, "warmup_epochs": 1}
_MINUTES = 60.0


def main(data: Sequence[str], only: Sequence[str] = (), write: bool = False) -> int:
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    different = 0
    for source in data:
        known = measure.read("guard", Path(source).name) or {}
        for name in only or [*(f"preset {name}" for name in preset_names()), *SYSTEMS]:
            figures = measure.apart(figures_of, source, name)
            if write:
                known[name] = figures
                measure.keep("guard", Path(source).name, known)
            before = known.get(name, {})
            same = figures.keys() == before.keys() and all(abs(figures[key] - before[key]) <= 1e-6 for key in figures)
            different += not same
            print(f"{Path(source).name} {name}: {'same' if same else f'{figures}, not {before}'}", flush=True)
    return min(different, 1)


def figures_of(source: str, name: str) -> dict[str, float]:
    """Validation figures and learned values of ``preset NAME`` or of a system."""
    split = measure.load(source)
    if name.startswith("preset "):
        config = load_config(preset := name.removeprefix("preset "))
        parts = {"coarse.training": config.coarse, "table": config.table}
        parts |= {f"finer.{tier}.training": options for tier, options in config.finer.items()}
        if preset not in ("fast", "best", "quick"):
            trained = [part for part, options in parts.items() if options is not None]
            config = load_config(preset, [f"{part}.{key}={value}" for part in trained for key, value in _STAGE.items()])
        summary = train_run(split, None, config, device="cpu", reporter=Reporter(quiet=True)).summary
        stage = summary["stages"][summary["chosen"]]
        return {**{metric: stage["valid"][metric] for metric in METRICS}, "values": stage["parameters"]["total"]}
    settings = {key: value for key, value in _SYSTEM.items() if key in type(SYSTEMS[name].defaults).model_fields}
    values = round(128 / 48 * (split.n_users + split.n_items))
    job = Job(source, name, 2024, values, _MINUTES, "cpu", settings, trial=0)
    record = run(job, Path(), Reporter(quiet=True))
    return {**{metric: record["valid"][metric] for metric in METRICS}, "values": record["values"]["total"]}


if __name__ == "__main__":
    sys.exit(measure.command(main))
