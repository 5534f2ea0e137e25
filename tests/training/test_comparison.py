"""Figures of a comparison against full ranking."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.evaluation.ranking import Scorer, evaluate
from c2f_dgl.graph.item_filter import GraphFilter, quick_to_multiply
from c2f_dgl.graph.neighbourhood import FilterShape, item_filter
from c2f_dgl.model import item_factors
from c2f_dgl.serving import Csr
from c2f_dgl.training.choice import Choice, by_work, ranked, reshaped, scaled, trimmed, weighted
from c2f_dgl.training.comparison import Candidates, Comparison
from c2f_dgl.training.solution import Solution

CHOICE = Choice((0.5, 0.5), (), 0.9, 4, 1.5, 0.3)
SHAPE = FilterShape(power=1.5, target=0.2)


def drawn(seed: int) -> tuple[sp.csr_matrix, sp.csr_matrix, Solution]:
    """Seen and held-out interactions, and a solution of random directions."""
    rng = np.random.default_rng(seed)
    draw = rng.random((12, 60))
    seen, relevant = (sp.csr_matrix(part.astype(np.float32)) for part in (draw < 0.2, (draw >= 0.2) & (draw < 0.3)))
    users, items = (torch.as_tensor(rng.normal(size=(n, 4)), dtype=torch.float32) for n in (12, 60))
    values = torch.tensor([1.0, 0.5, 0.3, 0.0], dtype=torch.float64)
    return seen, relevant, Solution(None, (), None, None, users, items, values)  # type: ignore[arg-type]


def filter_of(seen: sp.csr_matrix, shape: FilterShape) -> GraphFilter:
    histories = Csr.from_pairs(*seen.nonzero(), seen.shape)
    term = item_filter(histories, 9, shape)
    return GraphFilter(histories, term, quick_to_multiply(term.pairs))


def scorer(seen: sp.csr_matrix, solution: Solution, choice: Choice) -> Scorer:
    """What ranks with a choice, in full."""
    power = torch.where(solution.values > 0, solution.values ** (choice.power - 1), 0)[: choice.rank].float()
    scale = torch.as_tensor((seen.getnnz(axis=0) + 1.0) ** choice.item_scale, dtype=torch.float32)
    items = solution.items[:, : choice.rank] * scale[:, None]
    term = None if choice.filter is None else filter_of(seen, choice.filter)
    return Scorer(solution.users[:, : choice.rank] * power, items, None, term, choice.filter_weight)


@pytest.mark.parametrize("each", [60, 20])
@given(seed=st.integers(0, 99))
def test_figures_are_those_of_full_ranking(each: int, seed: int) -> None:
    seen, relevant, solution = drawn(seed)
    choices = [CHOICE, replace(CHOICE, rank=2, power=0.5, item_scale=-0.2)]
    choices += [replace(choice, filter=SHAPE, filter_weight=0.4) for choice in choices]

    def rankings(users: torch.Tensor) -> list[torch.Tensor]:
        return [scorer(seen, solution, choice).scores(users) for choice in choices]

    candidates = Candidates.ranked_first(rankings, each, seen, relevant, torch.device("cpu"))
    degree = torch.as_tensor(seen.getnnz(axis=0), dtype=torch.float32)
    compared = Comparison(candidates, degree, lambda shape: filter_of(seen, shape), "ndcg@20")
    for _ in range(2):  # the second time from what is kept
        figures = compared.figures(solution, choices)
        full = [evaluate(scorer(seen, solution, choice), seen, relevant)["ndcg@20"] for choice in choices]
        assert figures == pytest.approx(full, abs=1e-6)


@pytest.mark.parametrize("item_scale", [0.0, 0.7])
def test_factors_give_scores_of_variance_one(item_scale: float) -> None:
    seen, _, solution = drawn(0)
    factors = solution.unit_factors(seen, 3, 1.5, item_scale).float()
    users = torch.as_tensor(np.flatnonzero(seen.getnnz(axis=1)))
    scale = item_factors(torch.as_tensor(seen.getnnz(axis=0), dtype=torch.float32), item_scale)
    scores = (solution.users[users, :3] * factors) @ (solution.items[:, :3] * factors).T * scale
    assert float(scores.std()) == pytest.approx(1, rel=1e-4)
    choice = replace(CHOICE, rank=3, power=1.5, item_scale=item_scale)
    expected = scorer(seen, solution, choice).scores(users)
    torch.testing.assert_close(scores, expected / expected.std(), rtol=1e-4, atol=1e-5)


def test_steps_go_both_ways_and_end_where_the_model_does() -> None:
    filtered = replace(CHOICE, filter=SHAPE, filter_weight=0.05)
    assert {choice.item_scale for choice in scaled(CHOICE, (-1, 1))} == {0.2, 0.4}
    assert weighted(CHOICE) == [CHOICE]
    assert {choice.filter_weight for choice in weighted(filtered, (-1, 0, 1))} == {0.05, 0.15}
    assert {choice.rank for choice in ranked(CHOICE, most=5)} == {3, 5}
    assert [choice.filter.power for choice in reshaped(filtered, "power") if choice.filter] == [1.0, 2.0]
    low = replace(filtered, filter=replace(SHAPE, power=0.5, ridge=2.0))
    assert [choice.filter.power for choice in reshaped(low, "power") if choice.filter] == [1.0]
    assert [choice.filter.ridge for choice in reshaped(low, "ridge") if choice.filter] == [1.0, 4.0]
    assert len(trimmed([filtered], scale=True, weight=True)) == 6  # no weight below 0
    assert trimmed([CHOICE], scale=False, weight=True) == [CHOICE]
    shuffled = sorted(trimmed([filtered, CHOICE], scale=True, weight=True), key=by_work)
    assert shuffled.index(replace(CHOICE, item_scale=0.4)) < shuffled.index(filtered)
