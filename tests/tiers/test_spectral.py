"""The low-pass filter and the Ritz codebook against dense singular value decompositions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.engines import Propagation
from c2f_dgl.engines.collapsed import propagated_basis
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.tiers.assignment import Assignment, anchored, stack
from c2f_dgl.tiers.spectral import lowpass_weights, ritz_codebook, whitening
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from tests import dense


@given(st.floats(0.05, 1.0), st.sampled_from([1, 3, 5, 9]), st.floats(0.0, 1.0))
def test_weights_are_a_stretched_chebyshev_polynomial(cutoff: float, n_layers: int, value: float) -> None:
    weights = lowpass_weights(cutoff, n_layers)
    assert len(weights) == n_layers + 1
    assert weights[0::2] == weights[1::2]
    degree = (n_layers - 1) // 2
    found = sum(weight * value ** (2 * k) for k, weight in enumerate(weights[0::2]))
    expected = np.polynomial.chebyshev.chebval(2 * (value / cutoff) ** 2 - 1, [0] * degree + [1])
    scale = sum(abs(weight) * value ** (2 * k) for k, weight in enumerate(weights[0::2]))
    assert found == pytest.approx(expected, abs=1e-9 * max(scale, 1.0))
    if value <= cutoff:
        assert abs(expected) <= 1 + 1e-9
    # Of a spectrum that ends at 0.7 the same, stretched.
    stretched = lowpass_weights(cutoff, n_layers, 0.7)[0::2]
    at = sum(weight * (0.7 * value) ** (2 * k) for k, weight in enumerate(stretched))
    assert at == pytest.approx(expected, abs=1e-9 * max(scale, 1.0))


def test_cutoff_zero_is_plain_subspace_iteration() -> None:
    assert lowpass_weights(0.0, 5) == (0, 0, 0, 0, 1, 1)


@pytest.mark.parametrize(("cutoff", "n_layers"), [(0.3, 4), (-0.1, 3), (1.5, 3)])
def test_what_is_no_filter_is_refused(cutoff: float, n_layers: int) -> None:
    with pytest.raises(ValueError, match="odd number of layers"):
        lowpass_weights(cutoff, n_layers)


def drawn(n_users: int, n_items: int) -> sp.csr_matrix:
    r = (np.random.default_rng(0).random((n_users, n_items)) < 0.25).astype(float)
    r[3] = 0  # a user and an item without interactions
    r[:, 5] = 0
    return sp.csr_matrix(r)


def basis(r: sp.csr_matrix, m: int, weights: tuple[float, ...]) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of M for users and items when items alone are composed, in float64."""
    rng = np.random.default_rng(1)
    items = anchored(rng.permutation(r.shape[1]) % m, m, 1, 1.0, rng)
    users = Assignment(torch.zeros(r.shape[0], 0, dtype=torch.int64), torch.zeros(r.shape[0], 0), m)
    graph = interaction_graph(r, dtype=torch.float64)
    tier = Tier("coarse", torch.zeros(m, m, dtype=torch.float64), stack([users, items]))
    embedding = TieredEmbedding(entity_layout(graph), [tier], link_scale=0.0)
    propagation, layout = Propagation(len(weights) - 1, weights), embedding.layout
    identity = torch.eye(m, dtype=torch.float64)
    rows = propagated_basis(embedding.link(graph), embedding, propagation, 0, identity)
    return rows[layout.rows("user")], rows[layout.rows("item")]


def test_items_see_the_filter_and_users_one_more_layer() -> None:
    r = drawn(12, 9)
    b = dense.normalised(dense.bipartite(r.toarray()))[:12, 12:]
    weights = lowpass_weights(0.4, 5)
    users, items = basis(r, 4, weights)
    gram = b.T @ b
    start = np.linalg.lstsq(np.eye(9), items.numpy(), rcond=None)[0]
    polynomial = sum(w * np.linalg.matrix_power(gram, k) for k, w in enumerate(weights[0::2]))
    one_hot = np.zeros((9, 4))
    one_hot[np.arange(9), np.random.default_rng(1).permutation(9) % 4] = 1
    np.testing.assert_allclose(start, polynomial @ one_hot, atol=1e-9)
    np.testing.assert_allclose(users, b @ polynomial @ one_hot, atol=1e-9)


def test_with_an_atom_per_item_the_codebook_gives_the_singular_vectors() -> None:
    r = drawn(30, 12)
    b = dense.normalised(dense.bipartite(r.toarray()))[:30, 30:]
    expected = np.linalg.svd(b)[1]
    users, items = basis(r, 12, (0.0, 0.0, 1.0, 1.0))
    whitened, coordinates, values = ritz_codebook(users, items, 6)
    codebook = whitened @ coordinates
    np.testing.assert_allclose(values, expected[:6], atol=1e-8)
    directions = (items @ codebook).numpy()
    np.testing.assert_allclose(directions.T @ directions, np.eye(6), atol=1e-8)
    np.testing.assert_allclose(users @ codebook, b @ directions, atol=1e-8)


def test_a_filter_brings_few_atoms_nearer_to_the_singular_values() -> None:
    r = drawn(200, 80)
    b = dense.normalised(dense.bipartite(r.toarray()))[:200, 200:]
    spectrum = np.linalg.svd(b)[1]
    expected, cutoff = spectrum[:4], float(spectrum[15])
    found = {
        layers: ritz_codebook(*basis(r, 20, lowpass_weights(cutoff, layers)), 4)[2].numpy() for layers in (1, 5, 9)
    }
    errors = {layers: np.abs(values - expected).max() for layers, values in found.items()}
    assert errors[9] < errors[5] < errors[1]
    assert all((values <= expected + 1e-9).all() for values in found.values())  # Ritz values come from below


def test_directions_that_are_not_there_are_zero() -> None:
    users, items = basis(drawn(30, 6), 6, (0.0, 0.0, 1.0, 1.0))
    twins = torch.cat([users, users], dim=1), torch.cat([items, items], dim=1)
    _, codebook, values = ritz_codebook(*twins, 12)
    assert int((values > 1e-6).sum()) <= 5  # one item has no interactions
    assert torch.isfinite(codebook).all()
    assert (codebook[:, 6:] == 0).all()


def test_whitened_columns_are_orthonormal_however_nearly_parallel() -> None:
    rng = np.random.default_rng(0)
    items = rng.normal(size=(60, 1)) + 1e-4 * rng.normal(size=(60, 8))
    items[:, 3] *= 1e5
    w = whitening(torch.as_tensor(items)).numpy()
    np.testing.assert_allclose(w, np.triu(w))
    whitened = items @ w
    np.testing.assert_allclose(whitened.T @ whitened, np.eye(8), atol=1e-3)


def test_dependent_columns_do_not_stop_the_whitening() -> None:
    items = torch.as_tensor(np.random.default_rng(0).normal(size=(20, 3))) @ torch.ones(3, 5, dtype=torch.float64)
    assert torch.isfinite(whitening(items)).all()


def test_an_atom_that_composes_nothing_is_left_alone() -> None:
    items = torch.as_tensor(np.random.default_rng(0).normal(size=(20, 5)))
    items[:, 2] = 0
    w, codebook, _ = ritz_codebook(torch.as_tensor(np.random.default_rng(1).normal(size=(9, 5))), items, 5)
    assert w.abs().max() < 1e3  # in float32 too
    others = [0, 1, 3, 4]
    torch.testing.assert_close(w[others][:, others], whitening(items[:, others]))
    assert (w @ codebook)[2].abs().max() < 1e-10
