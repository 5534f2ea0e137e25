"""Whether every preset and every system of the bench still scores what it scored before the code was moved about.

    python -m benchmarks.guard planted PATH ... [--write] [--only NAME ...]

Each is trained for a few epochs, in a process of its own on one thread; validation N@20 and R@20 and the learned values
are compared with benchmarks/results/guard/<data set>.json to 1e-6, or written there with --write.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks import measure
from c2f_dgl.config.load import preset_names

METRICS = ("ndcg@20", "recall@20")

# Too few steps for a good model, enough for a change in any of them to show.
_STAGE = {"fixed_epochs": 2, "updating_epochs": 1, "evaluate_every": 1}
_SYSTEM = {"epochs": 2, "evaluate_every": 1, "search_epochs": 1, "warmup_epochs": 1}
_MINUTES = 60.0


def main() -> int:
    parser = measure.parser(__doc__, write=False)
    parser.add_argument("data", nargs="+", help="names or paths of data sets")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="presets and systems")
    arguments = parser.parse_args()
    different = 0
    for source in arguments.data:
        data = Path(source).name
        known = measure.read("guard", data) or {}
        for name in arguments.only or names():
            figures = in_process(source, name)
            if arguments.write:
                known[name] = figures
                measure.keep("guard", data, known)
            same = set(figures) == set(known.get(name, ())) and all(
                abs(figures[key] - known[name][key]) <= 1e-6 for key in figures
            )
            different += not same
            print(f"{data} {name}: {'same' if same else f'{figures}, not {known.get(name)}'}", flush=True)
    return min(different, 1)


def names() -> list[str]:
    from c2f_dgl.baselines.registry import SYSTEMS

    return [*(f"preset {name}" for name in preset_names()), *SYSTEMS]


def in_process(source: str, name: str) -> dict[str, Any]:
    """The figures of `figures_of`, from a process of one thread."""
    call = f"import json; from benchmarks.guard import figures_of; print(json.dumps(figures_of({source!r}, {name!r})))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", call], env=environment, check=True, stdout=subprocess.PIPE, text=True)
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def figures_of(source: str, name: str) -> dict[str, float]:
    """Validation figures and learned values of ``preset NAME`` or of a system."""
    from c2f_dgl import load_dataset

    split = load_dataset(source)
    kind, _, preset = name.rpartition(" ")
    if kind:
        from c2f_dgl.api import train_run
        from c2f_dgl.config.load import load_config

        config = load_config(preset)
        stages = [name for name in ("coarse", "table") if getattr(config, name) is not None]
        stages = [*stages, *(f"finer.{name}" for name in config.finer)]
        if preset not in ("fast", "best", "quick"):
            changes = [
                f"{'table' if s == 'table' else f'{s}.training'}.{k}={v}" for s in stages for k, v in _STAGE.items()
            ]
            config = load_config(preset, changes)
        summary = train_run(split, None, config, device="cpu").summary
        stage = summary["stages"][summary["chosen"]]
        return {**{metric: stage["valid"][metric] for metric in METRICS}, "values": stage["parameters"]["total"]}
    import time

    import torch

    from c2f_dgl.baselines.registry import find_system
    from c2f_dgl.baselines.system import Context, make_settings
    from c2f_dgl.evaluation.ranking import evaluate
    from c2f_dgl.graph.hetero import interaction_graph
    from c2f_dgl.io.progress import Reporter

    system = find_system(name)
    settings = make_settings(system, {k: v for k, v in _SYSTEM.items() if k in type(system.defaults).model_fields})
    values = round(128 / 48 * (split.n_users + split.n_items))
    deadline = time.monotonic() + 60 * _MINUTES
    graph = interaction_graph(split.train)
    reporter = Reporter(quiet=True)
    context = Context(split, graph, values, settings, 2024, torch.device("cpu"), reporter, deadline=deadline)
    fitted = system.train(context)
    metrics = evaluate(fitted.ranker, split.train, split.valid)
    return {**{metric: metrics[metric] for metric in METRICS}, "values": sum(fitted.values.values())}


if __name__ == "__main__":
    sys.exit(main())
