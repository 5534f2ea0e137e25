"""On data whose communities are known: training finds them, and ranks by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score

from c2f_dgl import load_config, load_dataset, load_run, train
from c2f_dgl.data.catalogue import planted_folder
from c2f_dgl.data.planted import read_labels
from c2f_dgl.evaluation.ranking import Scorer, evaluate


@pytest.mark.parametrize(("update", "found"), [("pursuit", 0.93), ("pinv", 0.75)])
def test_learned_assignments_recover_the_planted_communities(tmp_path: Path, update: str, found: float) -> None:
    """As many meta-embeddings as fine communities, started from METIS parts and updated during training."""
    labels = read_labels(planted_folder())
    truth = np.concatenate([labels["user_fine"], labels["item_fine"]])
    options = {
        "data.source": "planted",
        "finer": "{}",
        "coarse.m": 24,
        "coarse.start": "normal",
        "coarse.update": update,
        "model.d": 16,
        "coarse.training.lr": 0.02,
        "coarse.training.fixed_epochs": 5,
        "coarse.training.updating_epochs": 10,
    }
    config = load_config("paper", [f"{key}={value}" for key, value in options.items()])
    split = load_dataset("planted")
    train(split, tmp_path / "run", config)
    model, _ = load_run(tmp_path / "run")
    assignment = model.embedding.tiers[0].assignment
    strongest = assignment.indices.gather(1, assignment.weights.argmax(dim=1, keepdim=True))[:, 0]
    assert normalized_mutual_info_score(truth, strongest.numpy()) > found


def test_fast_is_far_above_most_popular_within_its_budget(tmp_path: Path) -> None:
    split = load_dataset("planted")
    summary = train(split, tmp_path / "run", load_config("fast", ["data.source=planted"]))
    degree = torch.as_tensor(split.train.getnnz(axis=0), dtype=torch.float32)[:, None]
    popular = evaluate(Scorer(torch.ones(split.n_users, 1), degree), split.train, split.test)
    chosen = summary["stages"][summary["chosen"]]
    assert chosen["test"]["ndcg@20"] > 3 * popular["ndcg@20"]
    for stage in summary["stages"].values():
        assert stage["parameters"]["total"] <= (split.n_users + split.n_items) * 128 / 48
    assert summary["chosen"] == max(summary["stages"], key=lambda name: summary["stages"][name]["valid"]["ndcg@20"])
    model, _ = load_run(tmp_path / "run", split=split)
    assert evaluate(model.scorer(), split.train, split.test) == pytest.approx(chosen["test"], abs=1e-6)
