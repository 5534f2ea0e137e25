"""Anchors of low rank against dense float64 transcriptions; every anchor through the bench's runner."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from c2f_dgl.baselines import anchors
from c2f_dgl.baselines.registry import SYSTEMS
from c2f_dgl.bench import worker
from c2f_dgl.bench.run import Job
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate, most_popular
from c2f_dgl.io.progress import Reporter
from tests.baselines.made import all_scores, dense, random_context

ANCHORS = [name for name, system in SYSTEMS.items() if system.family == "anchor"]


@pytest.mark.parametrize(("a", "b", "c"), [(0.5, 0.5, 0.0), (0.0, 0.0, 0.0), (0.3, 0.7, -0.4), (0.7, 0.2, 0.6)])
def test_svd_is_the_best_low_rank_approximation(a: float, b: float, c: float) -> None:
    settings = anchors.SvdSettings(rank=6, user_exponent=a, item_exponent=b, item_scale=c)
    context = random_context(settings, seed=1)
    r, by_user, by_item = dense(context)
    left, values, right = np.linalg.svd(r * by_user[:, None] ** -a * by_item**-b, full_matrices=False)
    best = (left[:, :6] * values[:6]) @ right[:6] * (r.sum(axis=0) + 1) ** c
    fitted = anchors.train_svd(context)
    np.testing.assert_allclose(all_scores(context, fitted.ranker), best, atol=1e-6 * np.abs(best).max())
    # The users' factors are the interactions times the items', which are all that is stored.
    assert fitted.values == {"items": 6 * 25} and fitted.bytes == 4 * 6 * 25


def test_a_rank_is_at_most_what_the_interactions_have(planted_context) -> None:
    context = planted_context(anchors.SvdSettings(rank=10_000))
    few = replace(context.split, train=context.split.train[:30], user_ids=context.split.user_ids[:30])
    fitted = anchors.train_svd(replace(context, split=few))
    assert fitted.phases[0]["rank"] == 29
    assert torch.isfinite(fitted.ranker.scores(torch.arange(30))).all()
    with pytest.raises(InputError, match="a rank of 0"):
        anchors.train_svd(planted_context(anchors.SvdSettings(), values=799))


def solved(r: np.ndarray, factors: np.ndarray, confidence: float, l2: float) -> np.ndarray:
    """The rows' factors that are least squares given those of the columns."""
    weights = np.where(r > 0, confidence, 1.0)
    systems = np.einsum("ui,ik,il->ukl", weights, factors, factors) + l2 * np.eye(factors.shape[1])
    return np.linalg.solve(systems, np.einsum("ui,ui,ik->uk", weights, r, factors)[:, :, None])[:, :, 0]


def test_ials_is_where_solving_for_either_side_changes_nothing() -> None:
    pytest.importorskip("implicit")
    context = random_context(anchors.IalsSettings(rank=4, confidence=5.0, l2=3.0, iterations=200), seed=2)
    r, _, _ = dense(context)
    fitted = anchors.train_ials(context)
    users, items = (factors.double().numpy() for factors in (fitted.ranker.users, fitted.ranker.items))
    np.testing.assert_allclose(users, solved(r, items, 5.0, 3.0), atol=1e-3)
    np.testing.assert_allclose(items, solved(r.T, users, 5.0, 3.0), atol=1e-3)
    assert np.abs(all_scores(context, fitted.ranker)).max() > 0.3
    assert fitted.values == {"items": 4 * 25} and fitted.bytes == 4 * 4 * 25
    assert fitted.phases[0]["iterations"] == 200


def test_ials_keeps_what_it_has_when_the_time_is_over() -> None:
    pytest.importorskip("implicit")
    settings = anchors.IalsSettings(rank=4, confidence=5.0, l2=3.0)
    context = replace(random_context(settings, seed=2), deadline=time.monotonic())
    fitted = anchors.train_ials(context)
    assert fitted.phases[0]["iterations"] == 1
    users, items = (factors.double().numpy() for factors in (fitted.ranker.users, fitted.ranker.items))
    np.testing.assert_allclose(users, solved(dense(context)[0], items, 5.0, 3.0), atol=1e-5)


def test_a_missing_library_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"implicit is not installed.*pip install 'c2f_dgl\[bench\]'"):
        anchors.train_ials(random_context(anchors.IalsSettings(), seed=0))


@pytest.mark.parametrize("name", ANCHORS)
def test_the_bench_runs_an_anchor_above_most_popular(tmp_path: Path, planted: Split, name: str) -> None:
    if name == "anchor-ials":
        pytest.importorskip("implicit")
    quick = {"anchor-pruned": {"d": 16, "lr": 0.02, "epochs": 40}}.get(name, {})
    record = worker.run(Job("planted", name, 2024, 9_600, 1.0, "cpu", quick), tmp_path, Reporter(quiet=True))
    popular = evaluate(most_popular(planted.train), planted.train, planted.test)["ndcg@20"]
    if name == "anchor-popular":
        assert record["test"]["ndcg@20"] == pytest.approx(popular) and record["values"] == {"total": 0}
    else:
        assert record["test"]["ndcg@20"] > 1.3 * popular
    if SYSTEMS[name].budgeted:
        assert 0 < record["values"]["total"] <= 9_600
