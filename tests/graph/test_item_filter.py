"""The filter term against its formula, dense."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.evaluation.ranking import Scorer
from c2f_dgl.graph import item_filter as module
from c2f_dgl.graph.hetero import interaction_graph
from c2f_dgl.graph.item_filter import item_filter


def dense_filter(r: np.ndarray, k: int) -> np.ndarray:
    """R D_i^(-1/2) G."""
    user, item = (np.maximum(r.sum(axis=axis), 1) ** -0.5 for axis in (1, 0))
    walk = user[:, None] * r * item
    gram = walk.T @ walk
    np.fill_diagonal(gram, 0)
    for row in gram:
        row[np.argsort(-row, kind="stable")[k:]] = 0
    return (r * item) @ gram


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 9), st.integers(1, 10), st.integers(1, 4))
def test_filter_is_its_formula(seed: int, n_users: int, n_items: int, k: int, block: int) -> None:
    rng = np.random.default_rng(seed)
    r = (rng.random((n_users, n_items)) < 0.4).astype(np.float32)
    r[0, 0] = 1
    users, factors = rng.permutation(n_users), rng.random(n_items)
    whole, module._ROW_BLOCK = module._ROW_BLOCK, block
    try:
        found = item_filter(interaction_graph(sp.csr_matrix(r)), k)
    finally:
        module._ROW_BLOCK = whole
    expected = dense_filter(r.astype(float), k)
    # Entries that tie in float32 may differ in float64's last digit: compare sums of what was kept, too.
    if k >= n_items:
        np.testing.assert_allclose(found.scores(users), expected[users], atol=1e-6)
    assert np.diff(found.neighbours.indptr).max() <= k
    assert (found.neighbours.diagonal() == 0).all()
    np.testing.assert_allclose(
        np.sort(found.neighbours.toarray(), axis=1).sum(axis=1), _kept(r.astype(float), k).sum(axis=1), atol=1e-5
    )
    np.testing.assert_allclose(found.scaled(factors).scores(users), found.scores(users) * factors, atol=1e-6)


def _kept(r: np.ndarray, k: int) -> np.ndarray:
    user, item = (np.maximum(r.sum(axis=axis), 1) ** -0.5 for axis in (1, 0))
    walk = user[:, None] * r * item
    gram = walk.T @ walk
    np.fill_diagonal(gram, 0)
    return np.sort(gram, axis=1)[:, ::-1][:, :k]


def test_scores_mix_what_is_standardised_per_user() -> None:
    rng = np.random.default_rng(0)
    r = (rng.random((6, 9)) < 0.5).astype(np.float32)
    r[2] = 0  # no history: the filter says nothing
    h_users, h_items = rng.normal(size=(6, 3)), rng.normal(size=(9, 3))
    term = item_filter(interaction_graph(sp.csr_matrix(r)), 9)
    scorer = Scorer(torch.as_tensor(h_users), torch.as_tensor(h_items), filter=term, filter_weight=0.3)
    users = torch.tensor([4, 2, 0])
    score, filtered = (h_users @ h_items.T)[users], term.scores(users.numpy()).astype(float)

    def standardised(x: np.ndarray) -> np.ndarray:
        spread = x.std(axis=1, keepdims=True)
        return np.divide(x - x.mean(axis=1, keepdims=True), spread, out=np.zeros_like(x), where=spread > 0)

    expected = 0.7 * standardised(score) + 0.3 * standardised(filtered)
    np.testing.assert_allclose(scorer.scores(users), expected, atol=1e-6)
    assert (filtered[1] == 0).all()
