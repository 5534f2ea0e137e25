"""The filter term against its formula, dense."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.graph import neighbourhood as module
from c2f_dgl.graph.neighbourhood import PLAIN, FilterShape, ItemFilter, _inverse, item_filter
from c2f_dgl.serving import Csr


def dense(term: ItemFilter) -> np.ndarray:
    """D_i^(-e) G D_i^f of a filter."""
    return term.history_weight[:, None] * term.weights.toarray()


def dense_filter(r: np.ndarray, k: int, shape: FilterShape = PLAIN) -> np.ndarray:
    """D_i^(-e) G D_i^f, the cosines rounded to float32 before the largest are chosen."""
    users, items = (np.maximum(r.sum(axis=axis), 1) for axis in (1, 0))
    walks = r.T @ np.diag(users ** (-2 * shape.user)) @ r
    loops = walks.diagonal().copy()
    np.fill_diagonal(walks, 0)
    k = len(items) if shape.ridge else k
    cosines = (walks / np.sqrt(np.outer(items, items))).round(7)
    for row, cosine in zip(walks, cosines, strict=True):
        row[np.argsort(-cosine, kind="stable")[k:]] = 0
    gram = (walks / np.outer(items, items) ** shape.item) ** shape.power
    if shape.ridge:
        own = (loops / items ** (2 * shape.item)) ** shape.power
        own = np.maximum(own, own[own > 0].min(initial=1.0))
        # Each item regressed on all others, one at a time: what the inverse of the whole matrix gives at once.
        weights = np.zeros_like(gram)
        for item in range(len(items)):
            others = np.arange(len(items)) != item
            penalty = np.diag(own + shape.ridge * np.sqrt(own * own.mean()))[np.ix_(others, others)]
            weights[others, item] = np.linalg.solve(gram[np.ix_(others, others)] + penalty, gram[others, item])
        gram = np.where(gram > 0, weights, 0)
    return np.diag(items**-shape.history) @ gram @ np.diag(items**shape.target)


shapes = st.builds(
    FilterShape,
    user=st.sampled_from([0.2, 0.5]),
    item=st.sampled_from([0.3, 0.5, 0.7]),
    power=st.sampled_from([1.0, 2.0, 3.0]),
    ridge=st.sampled_from([0.0, 0.5, 4.0]),
    history=st.sampled_from([-0.2, 0.0, 0.5]),
    target=st.sampled_from([-0.1, 0.0, 0.4]),
)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 9), st.integers(1, 10), st.integers(1, 12), shapes)
def test_filter_is_its_formula(seed: int, n_users: int, n_items: int, k: int, block: int, shape: FilterShape) -> None:
    rng = np.random.default_rng(seed)
    r = (rng.random((n_users, n_items)) < 0.4).astype(float)
    histories = Csr.from_pairs(*np.nonzero(r), r.shape)
    whole, module._ROW_BLOCK = module._ROW_BLOCK, block
    try:
        found = item_filter(histories, k, shape)
        pairs = np.indices((n_items, n_items)).reshape(2, -1)
        contributions = found.contributions(*pairs).reshape(n_items, n_items)
    finally:
        module._ROW_BLOCK = whole
    expected = dense_filter(r, k, shape)
    np.testing.assert_allclose(dense(found), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(contributions, expected, rtol=1e-5, atol=1e-5)
    assert found.weights.getnnz(axis=1).max(initial=0) <= (n_items if shape.ridge else k)


def test_of_equal_neighbours_the_first_are_kept() -> None:
    found = item_filter(Csr.from_pairs(np.zeros(5, dtype=int), np.arange(5), (1, 5)), 2)
    assert found.weights[[0, 3]].indices.tolist() == [1, 2, 0, 1]


@pytest.mark.parametrize("definite", [True, False])
def test_symmetric_matrices_are_inverted_whether_definite_or_not(definite: bool) -> None:
    values = np.random.default_rng(0).normal(size=(7, 7))
    symmetric = values @ values.T + np.eye(7) if definite else values + values.T
    assert (np.linalg.eigvalsh(symmetric).min() > 0) == definite
    inverse = _inverse(torch.as_tensor(symmetric, dtype=torch.float32))
    np.testing.assert_allclose(inverse.numpy() @ symmetric, np.eye(7), atol=1e-4)
