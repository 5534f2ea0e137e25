from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import SparsePCA

from c2f_dgl.tiers.codebook import lower_triangular, random_codebook, soft_threshold, sparse_pca_codebook
from tests import dense


@given(st.integers(0, 1000), st.floats(0, 5))
def test_soft_threshold_is_equation_16(seed: int, threshold: float) -> None:
    e = np.random.default_rng(seed).normal(size=(4, 5)) * 3
    np.testing.assert_allclose(soft_threshold(torch.as_tensor(e), threshold), dense.soft(e, threshold), atol=1e-12)


def test_sparse_pca_start_is_sklearns_codes_with_zeros_behind() -> None:
    parent = torch.as_tensor(np.random.default_rng(0).normal(size=(30, 6)) * 3)
    found = sparse_pca_codebook(parent, 10, 4, 0.5, np.random.default_rng(7)).numpy()
    rng = np.random.default_rng(7)
    rows = rng.choice(30, size=10, replace=False)
    model = SparsePCA(4, alpha=0.5, random_state=int(rng.integers(2**31)))
    np.testing.assert_allclose(found[:, :4], model.fit_transform(parent.numpy()[rows]))
    assert (found[:, 4:] == 0).all()


def test_scattered_padding_holds_the_same_codes_in_order_at_random_columns() -> None:
    parent = torch.as_tensor(np.random.default_rng(0).normal(size=(30, 6)) * 3)
    trailing = sparse_pca_codebook(parent, 10, 4, 0.5, np.random.default_rng(7)).numpy()
    scattered = sparse_pca_codebook(parent, 10, 4, 0.5, np.random.default_rng(7), padding="scattered").numpy()
    for plain, spread in zip(trailing[:, :4], scattered, strict=True):
        np.testing.assert_allclose(spread[spread != 0], plain[plain != 0])
    assert len({tuple(row != 0) for row in scattered}) > 1


def test_more_fine_than_coarse_rows_draws_with_replacement() -> None:
    parent = torch.as_tensor(np.random.default_rng(0).normal(size=(3, 4)))
    assert sparse_pca_codebook(parent, 8, 2, 0.1, np.random.default_rng(0)).shape == (8, 4)


@pytest.mark.parametrize(("how", "spread"), [("xavier", (2 / (400 + 50)) ** 0.5), ("normal", 1.0)])
def test_random_codebooks_have_the_named_spread_and_are_seeded(how: str, spread: float) -> None:
    first = random_codebook(400, 50, how, torch.Generator().manual_seed(1))
    assert float(first.std()) == pytest.approx(spread, rel=0.05)
    assert torch.equal(first, random_codebook(400, 50, how, torch.Generator().manual_seed(1)))


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6))
def test_a_lower_triangular_codebook_gives_the_same_scores(seed: int, m: int, d: int) -> None:
    e = torch.as_tensor(np.random.default_rng(seed).normal(size=(m, d)))
    lower = lower_triangular(e)
    assert lower.shape == e.shape
    assert (lower.triu(1) == 0).all() and (lower.diagonal() >= 0).all()
    np.testing.assert_allclose(lower @ lower.T, e @ e.T, atol=1e-12)


def test_one_fine_row_is_a_row() -> None:
    parent = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    assert sparse_pca_codebook(parent, 1, 2, 0.1, np.random.default_rng(0)).shape == (1, 4)
