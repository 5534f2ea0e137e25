"""Filters of signals against dense float64 transcriptions of their papers' equations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from c2f_dgl.baselines import graph_filters
from c2f_dgl.baselines.anchors import singular_vectors
from c2f_dgl.baselines.registry import SYSTEMS
from c2f_dgl.graph.entities import normalised
from tests.baselines.made import all_scores, dense, random_context

RANK = 6


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several lots of users."""
    monkeypatch.setattr(graph_filters, "_SIGNAL_BLOCK", 1_000)


def spectrum(context) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """R, P and V V^T (rank RANK) from the Laplacian's eigenvectors, the items' degrees."""
    r, by_user, by_item = dense(context)
    normal = np.diag(by_user**-0.5) @ r @ np.diag(by_item**-0.5)
    laplacian = np.eye(r.shape[1]) - normal.T @ normal
    vectors = np.linalg.eigh(laplacian)[1][:, :RANK]  # of the lowest frequencies
    return r, np.eye(r.shape[1]) - laplacian, vectors @ vectors.T, by_item


def compare(name: str, context, expected: np.ndarray) -> None:
    fitted = SYSTEMS[name].train(context)
    np.testing.assert_allclose(all_scores(context, fitted.ranker), expected, atol=2e-6 * np.abs(expected).max())
    assert fitted.values == {"low-pass": RANK * 25} and fitted.bytes == 4 * RANK * 25


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_gfcf_is_its_equation(seed: int, alpha: float) -> None:
    context = random_context(graph_filters.FilterSettings(rank=RANK, alpha=alpha), seed)
    r, walk, ideal, by_item = spectrum(context)
    root = np.diag(by_item**0.5)
    compare("anchor-gfcf", context, r @ (walk + alpha * np.linalg.inv(root) @ ideal @ root))


def test_each_component_of_a_graph_takes_a_direction_that_ranks_by_popularity() -> None:
    context = random_context(graph_filters.FilterSettings(), seed=5)
    parts = [context.split.train[:30, :14], context.split.train[30:45, 14:18], context.split.train[45:59, 18:24]]
    by_user, by_item = ([np.asarray(part.sum(axis=axis)).ravel() for part in parts] for axis in (1, 0))
    r, degree = sp.block_diag(parts, format="csr"), np.concatenate(by_item)
    right = singular_vectors(normalised(r), len(parts), context)
    low_pass = (r.toarray() / degree**0.5) @ right.T @ right * degree**0.5
    popular = [np.outer(left, right) / left.sum() for left, right in zip(by_user, by_item, strict=True)]
    np.testing.assert_allclose(low_pass, sp.block_diag(popular).toarray(), atol=1e-5)


def runge_kutta(f, start: np.ndarray, length: float) -> np.ndarray:
    one = f(start)
    two = f(start + length / 2 * one)
    three = f(start + length / 2 * two)
    four = f(start + length * three)
    return start + length / 6 * (one + 2 * two + 2 * three + four)


@pytest.mark.parametrize("merge", ["early", "late"])
@pytest.mark.parametrize("solver", ["euler", "rk4"])
def test_bspm_blurs_by_one_step_and_sharpens_by_another(solver: str, merge: str) -> None:
    settings = graph_filters.BspmSettings(rank=RANK, alpha=0.2, sharpening=1.7, solver=solver, merge=merge)
    context = random_context(settings, seed=3)
    r, walk, ideal, by_item = spectrum(context)
    euler = lambda f, start, length: start + length * f(start)
    low_pass = lambda x: x @ np.diag(by_item**-0.5) @ ideal @ np.diag(by_item**0.5)
    blurred = euler(lambda x: x @ walk - x, r, 1.0)
    smooth = euler(lambda x: low_pass(x) - x, r, 1.0)
    sharpen = lambda x: {"euler": euler, "rk4": runge_kutta}[solver](lambda y: -y @ walk, x, 1.7)
    early = merge == "early"
    compare("anchor-bspm", context, sharpen(blurred + 0.2 * smooth) if early else sharpen(blurred) + 0.2 * smooth)


@pytest.mark.parametrize(
    ("degree", "flatness", "exponent"), [(8, 10.0, 0.2), (8, 1.5, 0.4), (3, 2.0, 0.0), (1, 1.0, 0.5)]
)
def test_chebycf_is_an_interpolated_plateau(degree: int, flatness: float, exponent: float) -> None:
    settings = graph_filters.ChebySettings(rank=RANK, alpha=0.2, degree=degree, flatness=flatness, exponent=exponent)
    context = random_context(settings, seed=4)
    r, walk, ideal, by_item = spectrum(context)
    nodes = np.cos(np.pi * (np.arange(degree + 1) + 0.5) / (degree + 1))
    plateau = np.where(nodes < 0, 1 + np.abs(nodes) ** flatness, 1 - np.abs(nodes) ** flatness) / 2
    polynomial = np.polynomial.Polynomial.fit(nodes, plateau, degree, domain=[-1, 1])
    eigenvalues, vectors = np.linalg.eigh(np.eye(len(walk)) - 2 * walk)
    flexible = vectors @ np.diag(polynomial(eigenvalues)) @ vectors.T
    pre, post = np.diag(by_item**-exponent), np.diag(by_item**exponent)
    compare("anchor-chebycf", context, r @ pre @ (flexible + 0.2 * ideal) @ post)
