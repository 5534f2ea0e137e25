"""Assignments against the dense transcription, and the properties that training relies on."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.optimize
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import orthogonal_mp

from c2f_dgl.tiers.assignment import (
    Assignment,
    anchored,
    bridge,
    bridge_from_partition,
    pinv,
    pursuit,
    through,
    top_entries,
)
from tests import dense
from tests.strategies import draw_assignment

shapes = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 10), st.integers(1, 5))


def draw(shape: tuple[int, int, int, int]) -> tuple[np.random.Generator, torch.Tensor, torch.Tensor, int]:
    seed, n, m, d = shape
    rng = np.random.default_rng(seed)
    rows, atoms = rng.normal(size=(n, d)), rng.normal(size=(m, d))
    return rng, torch.as_tensor(rows), torch.as_tensor(atoms), int(rng.integers(1, m + 1))


@given(shapes)
def test_pinv_is_equation_11(shape: tuple[int, int, int, int]) -> None:
    _, rows, atoms, t = draw(shape)
    found = pinv(rows, atoms, t)
    np.testing.assert_allclose(found.dense(), dense.pinv_assignment(rows.numpy(), atoms.numpy(), t), atol=1e-9)


@given(shapes)
def test_top_entries_keeps_the_largest_and_no_negative_ones(shape: tuple[int, int, int, int]) -> None:
    rng, _, _, t = draw(shape)
    scores = rng.normal(size=(shape[1], shape[2]))
    found = top_entries(torch.as_tensor(scores), t)
    np.testing.assert_array_equal(found.dense(), dense.top_t(scores, t))
    assert found.n_values == int((dense.top_t(scores, t) > 0).sum())


@given(shapes, st.integers(1, 6))
def test_bridge_is_equations_23_24(shape: tuple[int, int, int, int], m_r: int) -> None:
    rng, rows, atoms, _ = draw(shape)
    finer = torch.as_tensor(rng.normal(size=(m_r, rows.shape[1])))
    t = int(rng.integers(1, m_r + 1))
    scores = dense.bridged(rows.numpy(), atoms.numpy(), finer.numpy())
    np.testing.assert_allclose(bridge(rows, atoms, finer, t).dense(), dense.top_t(scores, t), atol=1e-8)
    soft = np.exp(scores - scores.max(axis=1, keepdims=True))
    soft /= soft.sum(axis=1, keepdims=True)
    found = bridge(rows, atoms, finer, t, softmax=True).dense()
    np.testing.assert_allclose(found.sum(dim=1), np.sort(soft, axis=1)[:, -t:].sum(axis=1), atol=1e-8)


@given(shapes, st.integers(1, 6), st.sampled_from([0.0, 0.5, 0.6, 1.0]))
def test_first_bridge_is_steps_1_to_3(shape: tuple[int, int, int, int], m_r: int, anchor: float) -> None:
    rng, _, _, t = draw(shape)
    s_c = draw_assignment(rng, shape[1], shape[2], t)
    parts, t_r = rng.integers(0, m_r, shape[1]), int(rng.integers(1, m_r + 1))
    found = bridge_from_partition(s_c, parts, m_r, t_r, anchor, softmax=False).dense().numpy()
    expected = dense.bridged_start(s_c.dense().numpy(), parts, m_r, anchor)
    # Ties may be cut either way: the kept mass is what is determined.
    np.testing.assert_allclose(found.sum(axis=1), np.sort(expected, axis=1)[:, -t_r:].sum(axis=1), atol=1e-9)
    np.testing.assert_allclose(found[found > 0], expected[found > 0], atol=1e-9)


@given(shapes)
def test_pursuit_never_leaves_more_than_fewer_atoms_or_nothing_would(shape: tuple[int, int, int, int]) -> None:
    _, rows, atoms, _ = draw(shape)
    left = rows.norm(dim=1)
    for t in range(1, len(atoms) + 1):
        found = pursuit(rows, atoms, t)
        assert (found.weights >= 0).all()
        assert all(len(set(row)) == t for row in found.indices.tolist())
        now = (rows - found.compose(atoms)).norm(dim=1)
        assert (now <= left + 1e-6).all()
        left = torch.minimum(left, now)


@given(shapes)
def test_pursuit_fits_its_atoms_as_nonnegative_least_squares(shape: tuple[int, int, int, int]) -> None:
    _, rows, atoms, t = draw(shape)
    t = min(t, rows.shape[1], 2)  # with two atoms, dropping the negative one is the exact constrained optimum
    found = pursuit(rows, atoms, t)
    for row, indices, weights in zip(rows.numpy(), found.indices.numpy(), found.weights.numpy(), strict=True):
        best, residual = scipy.optimize.nnls(atoms.numpy()[indices].T, row)
        np.testing.assert_allclose(np.linalg.norm(row - weights @ atoms.numpy()[indices]), residual, atol=1e-6)
        np.testing.assert_allclose(weights, best, atol=1e-4)


def test_pursuit_is_sklearns_where_all_correlations_are_positive() -> None:
    rng = np.random.default_rng(0)
    atoms = np.abs(rng.normal(size=(20, 8)))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    truth = np.zeros((50, 20))
    np.put_along_axis(truth, rng.random((50, 20)).argsort(axis=1)[:, :2], rng.random((50, 2)) + 0.5, axis=1)
    rows = truth @ atoms
    expected = orthogonal_mp(atoms.T, rows.T, n_nonzero_coefs=1).T
    found = pursuit(torch.as_tensor(rows), torch.as_tensor(atoms), 1).dense().numpy()
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_pursuit_finds_planted_assignments_that_pinv_smears() -> None:
    rng = np.random.default_rng(1)
    atoms = torch.as_tensor(rng.normal(size=(300, 64)))
    truth = draw_assignment(rng, 500, 300, 2)
    rows = truth.compose(atoms)
    errors = {}
    for strategy in (pinv, pursuit):
        found = strategy(rows, atoms, 2)
        errors[strategy.__name__] = float((rows - found.compose(atoms)).norm() / rows.norm())
    assert errors["pursuit"] < 0.05 < 0.3 < errors["pinv"]


@given(st.integers(0, 2**32 - 1), st.integers(1, 10), st.integers(1, 8), st.sampled_from([0.0, 0.5, 1.0]))
def test_anchored_rows_are_distinct_and_sum_to_one(seed: int, rows: int, m: int, anchor: float) -> None:
    rng = np.random.default_rng(seed)
    parts, t = rng.integers(0, m, rows), int(rng.integers(1, m + 1))
    found = anchored(parts, m, t, anchor, rng)
    assert found.indices.shape == (rows, t)
    assert all(len(set(row)) == t for row in found.indices.tolist())
    np.testing.assert_array_equal(found.indices[:, 0], parts)
    np.testing.assert_allclose(found.weights.sum(dim=1), 1.0, rtol=1e-6)


@given(shapes, st.integers(1, 4))
def test_through_is_the_product(shape: tuple[int, int, int, int], m_2: int) -> None:
    rng, _, _, t = draw(shape)
    first, second = draw_assignment(rng, shape[1], shape[2], t), draw_assignment(rng, shape[2], m_2, 1)
    np.testing.assert_allclose(through(first, second).dense(), first.dense() @ second.dense(), atol=1e-12)


def test_a_zero_row_gets_an_empty_assignment() -> None:
    found = pursuit(torch.zeros(1, 3), torch.eye(3), 2)
    assert found.n_values == 0
    assert isinstance(found, Assignment)


@pytest.mark.parametrize("t", [1, 2])
def test_blocks_give_the_same_as_one_piece(t: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    rows, atoms = torch.as_tensor(rng.normal(size=(50, 4))), torch.as_tensor(rng.normal(size=(7, 4)))
    whole = pursuit(rows, atoms, t).dense()
    monkeypatch.setattr("c2f_dgl.tiers.assignment._ROW_BLOCK", 8)
    np.testing.assert_allclose(pursuit(rows, atoms, t).dense(), whole, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_atoms_of_nothing_get_no_weight(dtype: torch.dtype) -> None:
    rows, atoms = torch.ones(2, 3, dtype=dtype), torch.zeros(4, 3, dtype=dtype)
    assert (pursuit(rows, atoms, 2).weights == 0).all()
