"""What a stage does at every step and says of every epoch, on a model of two numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix

from c2f_dgl.config.load import load_config
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import Scorer, most_popular
from c2f_dgl.io.progress import Reporter
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.tiered import Tier
from c2f_dgl.training.stage import Stage, StageProgress, _churn, learning_rate, train_stage

SPLIT = Split("eye", *(csr_matrix(np.eye(6, k=k), dtype=np.float32) for k in (0, 1, 2)), np.arange(6), np.arange(6))


class Two(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(2))

    def scorer(self) -> Scorer:
        return most_popular(SPLIT.train)

    def count_values(self) -> dict[str, int]:
        return {"total": 2}


def stage(*options: str) -> Stage:
    small = ["fixed_epochs=2", "batch_size=2", "negatives=1", *options]
    config = load_config("lightgcn", [f"table.{option}" for option in small])
    return Stage("table", config.table, None, 0, "ndcg@20")


def test_gradients_are_clipped_by_value() -> None:
    model, seen = Two(), list[list[float]]()
    train_stage(
        model,
        stage("clip=0.5"),
        SPLIT,
        Reporter(quiet=True),
        StageProgress(),
        lambda record: None,
        after_step=lambda: seen.append(model.weight.grad.tolist()),
        objective=lambda model, batch: (model.weight * torch.tensor([1e3, -0.25])).sum(),
    )
    assert len(seen) == 2 * 3 and all(gradient == [0.5, -0.25] for gradient in seen)


@pytest.mark.parametrize(("schedule", "middle", "end"), [("constant", 1.0, 1.0), ("cosine", 0.51, 0.02)])
def test_the_learning_rate_falls_to_a_fiftieth_where_it_falls(schedule: str, middle: float, end: float) -> None:
    training = stage(f"schedule={schedule}", "lr=0.1").training
    rates = [learning_rate(training, step, 10) for step in (0, 5, 10)]
    assert rates == pytest.approx([0.1, 0.1 * middle, 0.1 * end])


def test_churn_is_the_share_of_entries_that_are_new_and_empty_slots_are_none() -> None:
    old = Assignment(torch.tensor([[0, 5], [1, 2], [3, 4]]), torch.tensor([[1.0, 0.0], [0.5, 0.5], [0.5, 0.5]]), 6)
    new = Assignment(torch.tensor([[3, 5], [2, 1], [3, 0]]), torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.5, 0.5]]), 6)
    assert _churn(old, new) == pytest.approx(2 / 5)


def test_learned_values_of_a_thresholded_codebook_are_those_it_leaves() -> None:
    codebook = torch.tensor([[0.3, -0.05, 0.0], [-0.2, 0.09, 0.11]])
    assignment = Assignment(torch.tensor([[0, 1]]), torch.tensor([[1.0, 0.0]]), 2)
    assert Tier("fine", codebook, assignment, threshold=0.1).count_values() == {
        "fine codebook": 3,
        "fine assignment": 1,
    }


def test_an_equal_figure_is_no_improvement() -> None:
    progress = StageProgress(phase=1)
    assert progress.improves(0.5) and not progress.improves(0.5)
    assert progress.stale == 1
