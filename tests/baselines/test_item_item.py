"""Anchors from item to item against dense float64 transcriptions."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp

from c2f_dgl.baselines import item_item
from c2f_dgl.baselines.registry import SYSTEMS
from tests.baselines.made import all_scores, dense, largest_of_rows, random_context


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several blocks of rows, and several lots of lookups and systems."""
    monkeypatch.setattr(item_item, "_ROW_BLOCK", 7)
    monkeypatch.setattr(item_item, "_ENTRIES", 100)


@pytest.mark.parametrize("shrink", [0.0, 20.0])
@pytest.mark.parametrize("seed", [1, 2])
def test_knn_sums_the_largest_cosines(seed: int, shrink: float) -> None:
    context = random_context(item_item.KnnSettings(k=7, shrink=shrink), seed)
    r, _, by_item = dense(context)
    cosine = r.T @ r / (np.sqrt(np.outer(by_item, by_item)) + shrink)
    expected = np.where(largest_of_rows(cosine, 7), cosine, 0)
    fitted = SYSTEMS["anchor-knn"].train(context)
    np.testing.assert_allclose(all_scores(context, fitted.ranker), r @ expected, atol=1e-5)
    assert not fitted.values and fitted.bytes == 8 * np.count_nonzero(expected) + 4 * 26


@pytest.mark.parametrize(("alpha", "beta", "k"), [(1.0, 0.0, 30), (0.6, 0.4, 7), (1.5, -0.2, 3)])
def test_rp3beta_walks_three_steps(alpha: float, beta: float, k: int) -> None:
    settings = item_item.Rp3betaSettings(k=k, transition_power=alpha, popularity_power=beta)
    context = random_context(settings, seed=3)
    r, by_user, by_item = dense(context)
    to_items, to_users = (r / by_user[:, None]) ** alpha, (r.T / by_item[:, None]) ** alpha
    walks = to_users @ to_items / by_item**beta
    # The walk's first step: the same factor for all that a user is recommended.
    expected = to_items @ np.where(largest_of_rows(walks, k), walks, 0) * by_user[:, None] ** alpha
    fitted = SYSTEMS["anchor-rp3beta"].train(context)
    np.testing.assert_allclose(all_scores(context, fitted.ranker), expected, rtol=1e-4, atol=1e-6)
    assert not fitted.values


def constrained(r: np.ndarray, l2: float) -> np.ndarray:
    """The B without a diagonal that minimises |R - R B|^2 + l2 |B|^2."""
    inverse = np.linalg.inv(r.T @ r + l2 * np.eye(r.shape[1]))
    return np.eye(r.shape[1]) - inverse / np.diag(inverse)


def test_ease_is_the_constrained_least_squares_solution() -> None:
    context = random_context(item_item.EaseSettings(l2=5.0), seed=4)
    r, _, _ = dense(context)
    weights = item_item.ease(context)
    assert np.all(np.diag(weights) == 0)
    np.testing.assert_allclose(weights, constrained(r, 5.0), atol=1e-5)
    fitted = SYSTEMS["anchor-ease"].train(context)
    np.testing.assert_allclose(all_scores(context, fitted.ranker), r @ constrained(r, 5.0), atol=1e-4)
    assert fitted.values == {"B": 25 * 25}


@pytest.mark.parametrize(("support", "memory"), [(5, 1.0), (5, 1e-6), (1, 1e-6), (100, 1.0)])
def test_ease_in_blocks_is_a_ridge_on_the_items_that_help_most(support: int, memory: float) -> None:
    context = random_context(item_item.EaseSettings(), seed=5, n_users=400)  # any two items are seen together
    r, _, by_item = dense(context)
    by_item[-1] = 0  # has no interactions
    gram = r.T @ r
    chosen = largest_of_rows(gram / np.sqrt(by_item + 5.0), support)
    expected = np.zeros(gram.shape)
    for item, others in enumerate(chosen):
        system = gram[np.ix_(others, others)] + 5.0 * np.eye(others.sum())
        expected[others, item] = np.linalg.solve(system, gram[others, item])
    weights = item_item.sparse_ease(context.split.train, 5.0, support, memory)
    np.testing.assert_allclose(weights.toarray(), expected, atol=1e-6)
    if support == 100:
        np.testing.assert_allclose(weights.toarray(), constrained(r, 5.0), atol=1e-6)


def test_ease_is_done_in_blocks_where_it_does_not_fit() -> None:
    fits, does_not = (25**2 * 24 / 2**30 * share for share in (1.01, 0.99))
    context = random_context(item_item.EaseSettings(memory=fits), seed=6)
    assert isinstance(item_item.ease(context), np.ndarray)
    context = random_context(item_item.EaseSettings(memory=does_not, support=4), seed=6)
    fitted = SYSTEMS["anchor-ease"].train(context)
    assert sp.issparse(item_item.ease(context))
    assert fitted.values == {"B": 4 * 24} and fitted.bytes == 8 * 4 * 24 + 4 * 26
