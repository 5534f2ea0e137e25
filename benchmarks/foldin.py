"""Folding users in against training with them: `python benchmarks/foldin.py DATASET`.

A tenth of the users is left out entirely, the rest trained on. The ones left out are then folded in from their part
of the training set (one hop of propagation, no gradient step) and tested on theirs of the test set, against a model
that was trained with those histories, and against popularity. Both runs are resumed if they are there already. Writes
benchmarks/results/foldin/<data set>.json.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from c2f_dgl import load_config, load_dataset, train
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import Scorer, evaluate, most_popular
from c2f_dgl.exports import artifact_of, scorer_of
from c2f_dgl.files import write_text
from c2f_dgl.serving import ServingModel
from c2f_dgl.training.folder import RunFolder, processor, versions
from c2f_dgl.training.run import load_model

SHARE = 0.1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--preset", default="fast")
    parser.add_argument("--seed", type=int, default=2024)
    parser.add_argument("--runs", type=Path, default=Path("runs/foldin"))
    arguments = parser.parse_args()
    split = load_dataset(arguments.dataset, seed=arguments.seed)
    # Only users who can be folded in and tested.
    able = np.flatnonzero((split.train.getnnz(axis=1) > 0) & (split.test.getnnz(axis=1) > 0))
    n_out = int(SHARE * split.n_users)
    out = np.sort(np.random.default_rng(arguments.seed).permutation(able)[:n_out])
    rest = np.setdiff1d(np.arange(split.n_users), out)
    parts = {
        "without": replace(
            split,
            train=split.train[rest],
            valid=split.valid[rest],
            test=split.test[rest],
            user_ids=split.user_ids[rest],
        ),
        # The same users validate both.
        "with": replace(split, valid=(sp.diags(np.isin(np.arange(split.n_users), rest) * 1.0) @ split.valid).tocsr()),
    }
    parts["with"].valid.eliminate_zeros()
    models, seconds = {}, {}
    for name, part in parts.items():
        folder = arguments.runs / f"{split.name}-{arguments.seed}-{name}"
        started = time.perf_counter()
        models[name] = trained(part, folder, arguments.preset, arguments.seed)
        seconds[f"training {name}"] = time.perf_counter() - started
    seen, relevant = split.train[out], split.test[out]
    ids, pairs = split.user_ids[out], seen.tocoo()
    served = models["without"]
    served.propagated  # noqa: B018  (so that folding in is timed alone)
    started = time.perf_counter()
    folded = served.fold_in((ids[pairs.row], split.item_ids[pairs.col]))
    seconds["folding in"] = time.perf_counter() - started
    result = {
        "data": split.name,
        "preset": arguments.preset,
        "seed": arguments.seed,
        "users": split.n_users,
        "left out": len(out),
        "their interactions": int(seen.nnz),
        "folded in": figures(scorer_of(folded), folded.users.find(ids), seen, relevant),
        "trained with": figures(scorer_of(models["with"]), out, seen, relevant),
        "popularity": figures(most_popular(parts["without"].train), np.arange(len(out)), seen, relevant),
        # Of a resumed run: what this call took.
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "threads": torch.get_num_threads(),
        "processor": processor(),
        "versions": versions(),
    }
    path = Path(__file__).parent / "results" / "foldin" / f"{split.name}.json"
    write_text(path, json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


def trained(split: Split, folder: Path, preset: str, seed: int) -> ServingModel:
    """The best model of a run in `folder`, which goes on from where it stands."""
    train(split, folder, load_config(preset, [f"seed={seed}"]), resume=True)
    artifact = artifact_of(load_model(RunFolder(folder), split, None, torch.device("cpu")), split)
    return ServingModel(artifact.learned, artifact.interactions, artifact.user_ids, artifact.item_ids)


def figures(scorer: Scorer, rows: np.ndarray, seen: sp.csr_matrix, relevant: sp.csr_matrix) -> dict[str, Any]:
    """Accuracy for some users."""
    metrics = evaluate(Scorer(scorer.users[torch.as_tensor(rows)], scorer.items, scorer.item_bias), seen, relevant)
    return {name: round(value, 5) for name, value in metrics.items() if name.endswith("@20")}


if __name__ == "__main__":
    main()
