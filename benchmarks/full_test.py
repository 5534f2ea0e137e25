"""The whole test part, as most of the literature reports it.

    python -m benchmarks.full_test DATASET [--preset best] [--seeds 2024 2025 2026] [--on-test]

As `c2f-dgl train --set data.protocol=full-test` does it: the scalars are chosen on validation items drawn from the
training part, and with them the model is solved once more on all of that part and tested, once. With --on-test they are
chosen on a third of the test part, the paper's validation, which then is tested on as well. Figures go to
benchmarks/results/full_test/; `python -m benchmarks.tables` lays published ones beside them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import scipy.sparse as sp

from benchmarks import measure
from c2f_dgl import load_config, load_dataset
from c2f_dgl.api import train_run
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.io.progress import Reporter


def main(dataset: str, preset: str = "best", seeds: Sequence[int] = (2024, 2025, 2026), on_test: bool = False) -> None:
    name = Path(dataset).name
    runs = [full_test(dataset, preset, seed, on_test) for seed in seeds]
    record = {"data": name, "preset": preset, "chosen_on_test": on_test}
    record |= {"dispersion": round(dispersion(load_dataset(dataset)), 2), "runs": runs}
    measure.keep("full_test", f"{name}-{preset}" + "-on-test" * on_test, record)


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
    started, protocol = time.perf_counter(), "paper" if on_test else "full-test"
    config = load_config(preset, [f"seed={seed}", f"data.protocol={protocol}"])
    split = load_dataset(dataset, protocol=protocol, seed=seed)
    run = train_run(split, None, config, reporter=Reporter())
    stage = run.summary["stages"][run.summary["chosen"]]
    relevant = sp.csr_matrix(split.valid + split.test) if on_test else split.test
    test = evaluate(run.model().scorer(), run.data().train, relevant)
    seconds = round(time.perf_counter() - started, 1)
    return {"seed": seed, "valid": stage["valid"], "test": test, "scalars": stage["scalars"], "seconds": seconds}


if __name__ == "__main__":
    measure.command(main)
