"""The whole test part, as most of the literature reports it.

    python -m benchmarks.full_test DATASET [--preset best] [--seeds 2024 2025 2026] [--on-test]

The scalars are chosen on validation items drawn from the training part (`data.protocol=full-test`). With them the
model is solved once more on the whole training part, and that one is tested, once. With --on-test they are chosen on a
third of the test part, the paper's validation, which then is tested on as well. Figures go to
benchmarks/results/full_test/; `python -m benchmarks.tables` lays published ones beside them.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch

from benchmarks import measure
from c2f_dgl import load_config, load_dataset
from c2f_dgl.config.sizes import resolve_sizes
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.io.progress import Reporter
from c2f_dgl.training.build import spectral_model, start_graph


def main() -> None:
    arguments = measure.parser(__doc__, "dataset", preset="best", seeds=[2024, 2025, 2026], on_test=False).parse_args()
    name = Path(arguments.dataset).name
    runs = [full_test(arguments.dataset, arguments.preset, seed, arguments.on_test) for seed in arguments.seeds]
    record = {
        "data": name,
        "preset": arguments.preset,
        "chosen_on_test": arguments.on_test,
        "dispersion": round(dispersion(load_dataset(arguments.dataset)), 2),
        "runs": runs,
    }
    measure.keep("full_test", f"{name}-{arguments.preset}" + "-on-test" * arguments.on_test, record)


def dispersion(split: Split) -> float:
    """How much more items differ in their share of test interactions than by chance: 1 of a random split.

    The standard deviation of what items of 50 interactions and more have in the test part, each less its expectation
    and over its binomial standard deviation.
    """
    train, test = (np.asarray(part.sum(axis=0)).ravel() for part in (split.train, split.valid + split.test))
    total, share = train + test, test.sum() / (train.sum() + test.sum())
    many = total >= 50
    return float(np.std((test - total * share)[many] / np.sqrt(total * share * (1 - share))[many]))


def full_test(dataset: str, preset: str, seed: int, on_test: bool) -> dict[str, object]:
    """Figures of one seed."""
    started, device, reporter = time.perf_counter(), torch.device("cpu"), Reporter()
    config = load_config(preset, [f"seed={seed}"])
    split = load_dataset(dataset, protocol="paper" if on_test else "full-test", seed=seed)
    config = resolve_sizes(config, split.n_users, split.n_items)
    with reporter.busy("choosing"):
        graph = start_graph(split, config.model, config.graph)
        start = spectral_model(config, graph, split, device, reporter)
        model, choice = start.model, start.choice
    valid = evaluate(model.scorer(), split.train, split.valid)
    if on_test:
        split = replace(split, test=sp.csr_matrix(split.valid + split.test))
    else:
        split = replace(split, train=sp.csr_matrix(split.train + split.valid))
        with reporter.busy("solving again"):
            graph = start_graph(split, config.model, config.graph)
            model = spectral_model(config, graph, split, device, reporter, choice).model
    test, seconds = evaluate(model.scorer(), split.train, split.test), time.perf_counter() - started
    return {"seed": seed, "valid": valid, "test": test, "chosen": str(choice), "seconds": round(seconds, 1)}


if __name__ == "__main__":
    main()
