"""Each anchor against a dense float64 transcription, and above most popular."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from c2f_dgl.baselines import anchors
from c2f_dgl.baselines.system import Context
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate


def dense(context: Context) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R, user degrees, item degrees; at least 1."""
    r = context.split.train.toarray().astype(np.float64)
    return r, np.maximum(r.sum(axis=1), 1), np.maximum(r.sum(axis=0), 1)


def unseen(context: Context, scores: np.ndarray) -> np.ndarray:
    """Scores of what a user has not seen, else nought: the rest is never ranked."""
    return np.where(context.split.train.toarray() > 0, 0.0, scores)


def all_scores(context: Context, ranker) -> np.ndarray:
    return ranker.scores(torch.arange(context.split.n_users)).double().numpy()


@pytest.mark.parametrize("shrink", [0.0, 20.0])
def test_knn_sums_the_largest_cosines(planted_context, shrink: float) -> None:
    context = planted_context(anchors.KnnSettings(k=7, shrink=shrink))
    r, _, by_item = dense(context)
    cosine = r.T @ r / (np.sqrt(np.outer(by_item, by_item)) + shrink)
    np.fill_diagonal(cosine, 0)
    kept = np.zeros_like(cosine)
    order = np.argsort(-cosine.round(6), axis=1, kind="stable")[:, :7]
    np.put_along_axis(kept, order, np.take_along_axis(cosine, order, axis=1), axis=1)
    found = all_scores(context, anchors.train_knn(context).ranker)
    # Rounding may break ties in the cut otherwise: nearly all scores agree, and sums of the kept do.
    assert np.isclose(found, r @ kept, atol=1e-5).mean() > 0.98
    np.testing.assert_allclose(found.sum(), (r @ kept).sum(), rtol=1e-4)


def test_a_rank_is_at_most_what_the_interactions_have(planted_context) -> None:
    context = planted_context(anchors.SvdSettings(rank=10_000))
    few = replace(context.split, train=context.split.train[:30], user_ids=context.split.user_ids[:30])
    fitted = anchors.train_svd(replace(context, split=few))
    assert fitted.phases[0]["rank"] == 30
    assert torch.isfinite(fitted.ranker.scores(torch.arange(30))).all()


def test_svd_is_the_best_low_rank_approximation(planted_context) -> None:
    context = planted_context(anchors.SvdSettings(rank=20, item_scale=0.0))
    r, by_user, by_item = dense(context)
    left, values, right = np.linalg.svd(r / np.sqrt(np.outer(by_user, by_item)), full_matrices=False)
    best = (left[:, :20] * values[:20]) @ right[:20]
    fitted = anchors.train_svd(context)
    error = np.linalg.norm(all_scores(context, fitted.ranker) - best) / np.linalg.norm(best)
    assert error < 0.05
    # The users' factors are the interactions times the items', which are all that is stored.
    assert fitted.values == {"items": 20 * 800} and fitted.bytes == 4 * 20 * 800
    scaled = anchors.train_svd(planted_context(anchors.SvdSettings(rank=20, item_scale=0.5)))
    expected = all_scores(context, fitted.ranker) * np.sqrt(r.sum(axis=0) + 1)
    np.testing.assert_allclose(all_scores(context, scaled.ranker), expected, rtol=1e-4, atol=1e-5)


def test_gfcf_is_both_filters(planted_context) -> None:
    context = planted_context(anchors.GfcfSettings(rank=20, alpha=0.3, neighbours=10_000))
    r, by_user, by_item = dense(context)
    normalised = r / np.sqrt(np.outer(by_user, by_item))
    right = np.linalg.svd(normalised, full_matrices=False)[2][:20]
    root = np.sqrt(by_item)
    expected = r @ (normalised.T @ normalised) + 0.3 * ((r / root) @ right.T @ right) * root
    found = all_scores(context, anchors.train_gfcf(context).ranker)
    left, right_ = unseen(context, found), unseen(context, expected)
    assert np.linalg.norm(left - right_) / np.linalg.norm(right_) < 0.02


def test_ease_is_the_constrained_least_squares_solution(planted_context) -> None:
    context = planted_context(anchors.EaseSettings(l2=50.0))
    r, _, _ = dense(context)
    inverse = np.linalg.inv(r.T @ r + 50.0 * np.eye(r.shape[1]))
    weights = np.eye(r.shape[1]) - inverse / np.diag(inverse)
    fitted = anchors.train_ease(context)
    assert np.all(np.diag(fitted.ranker.weights) == 0)
    np.testing.assert_allclose(fitted.ranker.weights, weights, atol=1e-5)
    np.testing.assert_allclose(all_scores(context, fitted.ranker), r @ weights, atol=1e-4)


def test_ease_refuses_what_does_not_fit(planted_context) -> None:
    with pytest.raises(InputError, match="800 x 800 items"):
        anchors.train_ease(planted_context(anchors.EaseSettings(memory=0.001)))


@pytest.mark.parametrize("system", [system for system in anchors.SYSTEMS if system.name != "anchor-popular"])
def test_they_rank_above_most_popular(planted_context, popular_ndcg: float, system) -> None:
    context = planted_context(system.defaults)
    fitted = system.train(context)
    assert evaluate(fitted.ranker, context.split.train, context.split.valid)["ndcg@20"] > 1.3 * popular_ndcg


def test_most_popular_has_nothing_learned(planted_context, popular_ndcg: float) -> None:
    context = planted_context(anchors.PopularSettings())
    fitted = anchors.train_popular(context)
    assert evaluate(fitted.ranker, context.split.train, context.split.valid)["ndcg@20"] == popular_ndcg
    assert not fitted.values
