"""The whole test part, as most of the literature reports it: chosen on a tenth of the training part, solved on all.

    python -m benchmarks.full_test DATASET [--preset best] [--seeds 2024 2025 2026]

The scalars are chosen on validation items drawn from the training part (`data.protocol=full-test`). With them the
model is solved once more on the whole training part, and that one is tested, once. Figures go to
benchmarks/results/full_test/; `python -m benchmarks.tables` lays published ones beside them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import scipy.sparse as sp
import torch

from benchmarks import measure
from c2f_dgl import load_config, load_dataset
from c2f_dgl.config.sizes import resolve_sizes
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.io.progress import Reporter
from c2f_dgl.training.build import spectral_model, start_graph


def main() -> None:
    parser = measure.parser(__doc__, preset="best", seeds=[2024, 2025, 2026])
    parser.add_argument("dataset")
    arguments = parser.parse_args()
    name = Path(arguments.dataset).name
    runs = [full_test(arguments.dataset, arguments.preset, seed) for seed in arguments.seeds]
    record = {"data": name, "preset": arguments.preset, "runs": runs}
    measure.keep("full_test", f"{name}-{arguments.preset}", record)


def full_test(dataset: str, preset: str, seed: int) -> dict[str, object]:
    """Figures of one seed."""
    started, device, reporter = time.perf_counter(), torch.device("cpu"), Reporter()
    config = load_config(preset, [f"seed={seed}"])
    split = load_dataset(dataset, protocol="full-test", seed=seed)
    config = resolve_sizes(config, split.n_users, split.n_items)
    with reporter.busy("choosing"):
        graph = start_graph(split, config.model, config.graph)
        model, choice = spectral_model(config, graph, split, device, reporter)
    valid = evaluate(model.scorer(), split.train, split.valid)
    whole = replace(split, train=sp.csr_matrix(split.train + split.valid))
    with reporter.busy("solving again"):
        graph = start_graph(whole, config.model, config.graph)
        model, _ = spectral_model(config, graph, whole, device, reporter, choice)
    test, seconds = evaluate(model.scorer(), whole.train, split.test), time.perf_counter() - started
    return {"seed": seed, "valid": valid, "test": test, "chosen": str(choice), "seconds": round(seconds, 1)}


if __name__ == "__main__":
    main()
