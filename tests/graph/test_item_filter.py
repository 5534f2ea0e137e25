"""Scores with a filter term."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from c2f_dgl.evaluation.ranking import Scorer
from c2f_dgl.graph.hetero import interaction_graph
from c2f_dgl.graph.item_filter import graph_filter
from c2f_dgl.graph.neighbourhood import FilterShape


def test_scores_mix_what_is_standardised_per_user() -> None:
    rng = np.random.default_rng(0)
    r = (rng.random((6, 9)) < 0.5).astype(np.float32)
    r[2] = 0  # no history: the filter says nothing
    h_users, h_items = rng.normal(size=(6, 3)), rng.normal(size=(9, 3))
    term = graph_filter(interaction_graph(sp.csr_matrix(r)), 9)
    scorer = Scorer(torch.as_tensor(h_users), torch.as_tensor(h_items), filter=term, filter_weight=0.3)
    users = torch.tensor([4, 2, 0])
    score, filtered = (h_users @ h_items.T)[users], term.scores(users.numpy()).astype(float)

    def standardised(x: np.ndarray) -> np.ndarray:
        spread = x.std(axis=1, keepdims=True)
        return np.divide(x - x.mean(axis=1, keepdims=True), spread, out=np.zeros_like(x), where=spread > 0)

    expected = 0.7 * standardised(score) + 0.3 * standardised(filtered)
    np.testing.assert_allclose(scorer.scores(users), expected, atol=1e-6)
    assert (filtered[1] == 0).all()


@pytest.mark.parametrize("way", ["dense", "sparse", "sparse, without MKL"])
@pytest.mark.parametrize("ridge", [0.0, 2.0])
def test_scores_are_histories_times_weights(way: str, ridge: float, monkeypatch: pytest.MonkeyPatch) -> None:
    r = (np.random.default_rng(1).random((7, 10)) < 0.4).astype(np.float32)
    r[3] = 0
    shape = FilterShape(user=0.3, item=0.4, power=1.5, ridge=ridge, history=0.2, target=-0.3)
    found = graph_filter(interaction_graph(sp.csr_matrix(r)), 9, shape)
    assert isinstance(found.pairs, torch.Tensor)
    if way != "dense":
        found = replace(found, pairs=found.term.pairs)
    if "without" in way:
        monkeypatch.setattr(torch.backends.mkl, "is_available", lambda: False)
    users = np.array([5, 3, 0])
    expected = (r * found.term.history_weight)[users] @ found.term.weights.toarray()
    np.testing.assert_allclose(found.scores(users), expected, rtol=1e-5, atol=1e-7)
