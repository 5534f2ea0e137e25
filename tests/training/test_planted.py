"""On data whose communities are known: training finds them, and ranks by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import normalized_mutual_info_score

from c2f_dgl import load_config, load_dataset, load_run, train
from c2f_dgl.api import train_run
from c2f_dgl.data.catalogue import planted_folder
from c2f_dgl.evaluation.ranking import Scorer, evaluate
from tests.labels import read_labels


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
    (stage,) = summary["stages"].values()
    assert stage["test"]["ndcg@20"] > 3 * popular["ndcg@20"]
    assert stage["parameters"]["total"] <= (split.n_users + split.n_items) * 128 / 48
    model, _ = load_run(tmp_path / "run", split=split)
    assert evaluate(model.scorer(), split.train, split.test) == pytest.approx(stage["test"], abs=1e-6)


def test_a_run_read_again_ranks_by_every_scalar_that_it_was_judged_with(tmp_path: Path) -> None:
    """Given ones, none of which planted data would choose: a default in place of any of them is seen."""
    given = ["user_exponent=0.3", "item_exponent=0.6", "item_scale=0.4", "filter_weight=0.5", "d=7"]
    options = [*(f"model.{option}" for option in given), "coarse.m=40", "coarse.power=0.5", "data.source=planted"]
    summary = train(load_dataset("planted"), tmp_path / "run", load_config("fast", options))
    model, split = load_run(tmp_path / "run")
    figures = evaluate(model.scorer(), split.train, split.test)
    assert figures == pytest.approx(summary["stages"]["coarse"]["test"], abs=1e-6)


@pytest.mark.parametrize("select", ["ndcg@20", "recall@20"])  # by the first the fine stage is better, by the other not
def test_the_stage_that_validates_best_is_chosen_and_loaded(tmp_path: Path, select: str) -> None:
    options = {"select": select, "coarse.m": 16, "fine.m": 6, "fine.t": 2, "fine.components": 8, "model.d": 8}
    options |= {"fine.start": "normal", "data.source": "planted"}
    for stage in ("coarse", "fine"):
        options |= {f"{stage}.training.{phase}_epochs": 2 for phase in ("fixed", "updating")}
        options |= {f"{stage}.training.evaluate_every": 1, f"{stage}.training.patience": 5}
    config = load_config("paper", [f"{key}={value}" for key, value in options.items()])
    split = load_dataset("planted")
    summary = train(split, tmp_path / "run", config)
    figures = {name: stage["valid"][select] for name, stage in summary["stages"].items()}
    assert len(set(figures.values())) == 2, "else nothing is seen here"
    assert figures[summary["chosen"]] == max(figures.values())
    for stage, figure in ((None, max(figures.values())), *figures.items()):
        model, _ = load_run(tmp_path / "run", stage=stage)
        assert evaluate(model.scorer(), split.train, split.valid)[select] == pytest.approx(figure, abs=1e-6)
    in_memory = train_run(split, None, config)
    stages = {name: {**stage, "seconds": None} for name, stage in in_memory.summary["stages"].items()}
    assert stages == {name: {**stage, "seconds": None} for name, stage in summary["stages"].items()}
    for stage, figure in ((None, max(figures.values())), *figures.items()):
        ranked = evaluate(in_memory.model(stage).scorer(), split.train, split.valid)
        assert ranked[select] == pytest.approx(figure, abs=1e-6)
