"""Metrics against ir-measures, an independent library; ranking against a full sort."""

from __future__ import annotations

import ir_measures
import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.metrics import METRICS
from c2f_dgl.evaluation.ranking import CUTOFFS, Scorer, evaluate, evaluate_per_user, top_items


def draw(seed: int, n_users: int, n_items: int) -> tuple[Scorer, sp.csr_matrix, sp.csr_matrix]:
    rng = np.random.default_rng(seed)
    scorer = Scorer(
        torch.as_tensor(rng.normal(size=(n_users, 3))),
        torch.as_tensor(rng.normal(size=(n_items, 3))),
        torch.as_tensor(rng.normal(size=n_items)) if seed % 2 else None,
    )
    kind = rng.choice(3, p=[0.6, 0.2, 0.2], size=(n_users, n_items))
    kind[0, 0] = 2
    return scorer, sp.csr_matrix((kind == 1).astype(np.float32)), sp.csr_matrix((kind == 2).astype(np.float32))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 70))
def test_metrics_are_those_of_ir_measures(seed: int, n_users: int, n_items: int) -> None:
    scorer, seen, relevant = draw(seed, n_users, n_items)
    scores = scorer.scores(torch.arange(n_users)).numpy()
    run = [
        ir_measures.ScoredDoc(str(u), str(i), scores[u, i])
        for u in range(n_users)
        for i in range(n_items)
        if not seen[u, i]
    ]
    qrels = [ir_measures.Qrel(str(u), str(i), 1) for u, i in zip(*relevant.nonzero(), strict=True)]
    by_name = {
        "ndcg": ir_measures.nDCG,
        "recall": ir_measures.R,
        "precision": ir_measures.P,
        "hit": ir_measures.Success,
        "map": ir_measures.AP,
        "mrr": ir_measures.RR,
    }
    assert set(by_name) == set(METRICS)
    measures = {f"{name}@{k}": measure @ k for name, measure in by_name.items() for k in CUTOFFS}
    expected = ir_measures.calc_aggregate(list(measures.values()), qrels, run)
    found = evaluate(scorer, seen, relevant, names=list(METRICS))
    for name, measure in measures.items():
        assert found[name] == pytest.approx(expected[measure], abs=1e-9), name


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 30), st.integers(1, 40))
def test_top_items_is_a_sort_without_the_seen(seed: int, n_users: int, n_items: int, k: int) -> None:
    scorer, seen, _ = draw(seed, n_users, n_items)
    items, scores = top_items(scorer, np.arange(n_users), k, seen)
    full = scorer.scores(torch.arange(n_users)).numpy().copy()
    full[seen.toarray() > 0] = -np.inf
    for u in range(n_users):
        kept = np.isfinite(scores[u])
        assert kept.sum() == min(k, np.isfinite(full[u]).sum())
        order = np.argsort(-full[u], kind="stable")[: kept.sum()]
        np.testing.assert_allclose(full[u][items[u][kept]], full[u][order])


def test_blocks_of_users_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scorer, seen, relevant = draw(5, 20, 30)
    whole = evaluate(scorer, seen, relevant)
    monkeypatch.setattr("c2f_dgl.evaluation.ranking._SCORE_BLOCK", 70)
    assert evaluate(scorer, seen, relevant) == pytest.approx(whole)


def test_users_without_relevant_items_do_not_count() -> None:
    scorer, seen, relevant = draw(5, 20, 30)
    relevant = sp.csr_matrix(relevant.multiply(np.arange(20)[:, None] < 4))
    users, metrics = evaluate_per_user(scorer, seen, relevant)
    assert users.max() < 4
    assert all(len(values) == len(users) for values in metrics.values())


def test_a_stored_zero_is_not_seen() -> None:
    scorer, seen, relevant = draw(5, 20, 30)
    stored = sp.csr_matrix(seen + relevant)
    stored.data[:] = np.asarray(seen[stored.nonzero()]).ravel()
    assert stored.nnz > seen.nnz
    assert evaluate(scorer, stored, relevant) == evaluate(scorer, seen, relevant)


def test_equal_scores_are_ranked_alike_at_every_depth() -> None:
    _, seen, _ = draw(5, 20, 300)
    tied = Scorer(torch.zeros(20, 2), torch.zeros(300, 2))
    users = np.arange(20)
    few, many = (top_items(tied, users, k, seen)[0] for k in (5, 50))
    assert np.array_equal(few, many[:, :5])


def test_nothing_to_evaluate_is_said() -> None:
    scorer, seen, relevant = draw(5, 3, 4)
    with pytest.raises(ValueError, match="no user"):
        evaluate(scorer, seen, relevant * 0)


@pytest.mark.parametrize(("seen", "relevant"), [((3, 6), (3, 4)), ((3, 6), (3, 7)), ((2, 6), (3, 6)), ((3, 4), (3, 4))])
def test_matrices_of_another_shape_are_refused(seen: tuple[int, int], relevant: tuple[int, int]) -> None:
    scorer = Scorer(torch.eye(3, 6), torch.eye(6))
    with pytest.raises(InputError, match=r"expected two of \(n_users, 6\) alike"):
        evaluate(scorer, sp.csr_matrix(seen), sp.csr_matrix(np.ones(relevant)))


def test_a_depth_of_nothing_is_refused() -> None:
    scorer = Scorer(torch.eye(3, 6), torch.eye(6))
    with pytest.raises(InputError, match="k = 0"):
        top_items(scorer, np.arange(3), 0)


def test_some_items_are_ranked_alone() -> None:
    rng = np.random.default_rng(0)
    scorer = Scorer(torch.as_tensor(rng.normal(size=(5, 3))), torch.as_tensor(rng.normal(size=(30, 3))))
    among, users = np.array([3, 4, 11, 20, 29]), np.array([4, 0, 2])
    seen = rng.random((5, 30)) < 0.3
    of_others = seen.copy()
    of_others[:, np.setdiff1d(np.arange(30), among)] = True
    items, scores = top_items(scorer, users, 9, sp.csr_matrix(seen.astype(np.float32)), among=among)
    expected, wanted = top_items(scorer, users, 5, sp.csr_matrix(of_others.astype(np.float32)))
    np.testing.assert_array_equal(scores, wanted)
    assert np.isfinite(scores).any() and np.isin(items, among).all()
    np.testing.assert_array_equal(items[np.isfinite(scores)], expected[np.isfinite(wanted)])
