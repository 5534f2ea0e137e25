from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch

from c2f_dgl.tiers.spectral import fit_codebook, spectral_embedding, spherical_centres
from tests import dense


def interactions(seed: int = 0) -> sp.csr_matrix:
    r = (np.random.default_rng(seed).random((40, 30)) < 0.2).astype(np.float32)
    r[3] = 0  # a user and an item without interactions
    r[:, 5] = 0
    return sp.csr_matrix(r)


def test_spectral_embedding_is_the_svd_of_the_normalised_interactions() -> None:
    r = interactions()
    expected = np.linalg.svd(dense.normalised(dense.bipartite(r.toarray()))[:40, 40:])
    users, values, items = spectral_embedding(r, 6, seed=0)
    np.testing.assert_allclose(values, expected[1][:6], atol=1e-3)
    np.testing.assert_allclose(users.T @ users, np.eye(6), atol=1e-4)
    approximation = (expected[0][:, :6] * expected[1][:6]) @ expected[2][:6]
    np.testing.assert_allclose((users * values) @ items.T, approximation, atol=0.02)


def test_rank_is_cut_to_what_the_matrix_has() -> None:
    users, values, items = spectral_embedding(interactions(), 100, seed=0)
    assert users.shape == (40, 30) and values.shape == (30,) and items.shape == (30, 30)


def test_centres_find_planted_directions() -> None:
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(5, 8))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    labels = rng.integers(0, 5, 400)
    rows = (truth[labels] + 0.02 * rng.normal(size=(400, 8))) * rng.uniform(0.5, 3, size=(400, 1))
    centres = spherical_centres(rows, 20, np.ones(400), seed=0)
    assert centres.shape == (20, 8)
    np.testing.assert_allclose(np.linalg.norm(centres, axis=1), 1.0, rtol=1e-5)
    assert ((centres @ truth.T).max(axis=1) > 0.98).all()


def test_more_clusters_than_rows_leaves_the_rest_empty() -> None:
    centres = spherical_centres(np.eye(3), 5, np.ones(3), seed=0)
    np.testing.assert_array_equal(centres, np.pad(np.eye(3), ((0, 2), (0, 0))))


@pytest.mark.parametrize("rows", [30, 20_000])
def test_fit_codebook_is_least_squares(rows: int) -> None:
    rng = np.random.default_rng(0)
    basis, targets = rng.normal(size=(rows, 7)), rng.normal(size=(rows, 3))
    expected = np.linalg.lstsq(basis, targets, rcond=None)[0]
    found = fit_codebook(torch.as_tensor(basis), torch.as_tensor(targets), ridge=0.0)
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_an_atom_nobody_uses_stays_solvable() -> None:
    basis = torch.zeros(6, 2, dtype=torch.float64)
    basis[:, 0] = 1.0
    found = fit_codebook(basis, torch.ones(6, 1, dtype=torch.float64))
    np.testing.assert_allclose(found, [[1.0], [0.0]], atol=1e-6)
