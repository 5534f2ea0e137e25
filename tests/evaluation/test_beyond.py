"""What is said of ranked lists beside accuracy, against transcriptions and scikit-learn."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from sklearn.metrics.pairwise import cosine_similarity

from c2f_dgl.errors import InputError
from c2f_dgl.evaluation import beyond
from c2f_dgl.evaluation.beyond import OF_LISTS, auc_per_user, measure
from c2f_dgl.evaluation.metrics import BEYOND, METRICS, check_names
from c2f_dgl.evaluation.ranking import Scorer, evaluate, top_items


def draw(seed: int, n_users: int, n_items: int) -> tuple[Scorer, sp.csr_matrix, sp.csr_matrix]:
    rng = np.random.default_rng(seed)
    users, items = (torch.as_tensor(rng.integers(-2, 3, size=(n, 2)).astype(float)) for n in (n_users, n_items))
    kind = rng.choice(3, p=[0.6, 0.2, 0.2], size=(n_users, n_items))
    kind[0, 0] = 2
    return Scorer(users, items), *(sp.csr_matrix((kind == part).astype(np.float32)) for part in (1, 2))


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 20), st.integers(1, 8))
def test_figures_are_their_definitions(seed: int, n_users: int, n_items: int, k: int) -> None:
    scorer, seen, relevant = draw(seed, n_users, n_items)
    users = np.flatnonzero(relevant.getnnz(axis=1))
    items, scores = top_items(scorer, users, k, seen)
    lists = [row[np.isfinite(score)].tolist() for row, score in zip(items, scores, strict=True)]
    degree = [int((seen.toarray()[:, item] > 0).sum()) for item in range(n_items)]
    counts = [sum(item in shown for shown in lists) for item in range(n_items)]
    cosine = cosine_similarity(seen.T.toarray())
    pairs = [[1 - cosine[a, b] for a, b in itertools.combinations(shown, 2)] for shown in lists]
    mean_of = lambda values: float(np.mean([np.mean(row) for row in values if row])) if any(values) else 0.0
    expected = {
        "coverage": sum(count > 0 for count in counts) / n_items,
        # Half the mean difference of all pairs, over the mean.
        "gini": sum(abs(a - b) for a in counts for b in counts) / (2 * n_items * max(sum(counts), 1)),
        "novelty": mean_of([[-math.log2(max(degree[item], 1) / n_users) for item in shown] for shown in lists]),
        "popularity": mean_of([[degree[item] for item in shown] for shown in lists]),
        "diversity": float(np.mean([np.mean(row) if row else 0.0 for row in pairs])),
    }
    found = measure(scorer, seen, relevant, [k], [*OF_LISTS, "ndcg"])
    assert found.pop(f"ndcg@{k}") == evaluate(scorer, seen, relevant, [k])[f"ndcg@{k}"]
    assert found == pytest.approx({f"{name}@{k}": value for name, value in expected.items()}, abs=1e-6)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(2, 30), st.sampled_from([1, 10**6]))
def test_auc_is_that_of_scikit_learn(seed: int, n_users: int, n_items: int, at_once: int) -> None:
    scorer, seen, relevant = draw(seed, n_users, n_items)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beyond, "_PAIRS", at_once)
        users, areas = auc_per_user(scorer, seen, relevant)
    scores, expected = scorer.scores(torch.arange(n_users)).numpy(), {}
    for user in range(n_users):
        unseen = np.flatnonzero(seen.toarray()[user] == 0)
        held = relevant.toarray()[user, unseen]
        if 0 < held.sum() < len(held):
            expected[user] = roc_auc_score(held, scores[user, unseen])
    assert dict(zip(users.tolist(), areas.tolist(), strict=True)) == pytest.approx(expected)


def test_popularity_is_counted_in_training_where_more_is_hidden() -> None:
    scorer, train, relevant = draw(3, 6, 20)
    seen = train + sp.csr_matrix(relevant.multiply(np.arange(20) < 10))
    found = measure(scorer, seen, relevant, [5], ["popularity"], train)
    items, _ = top_items(scorer, np.flatnonzero(relevant.getnnz(axis=1)), 5, seen)
    assert found["popularity@5"] == pytest.approx(train.getnnz(axis=0)[items].mean())


def test_a_stored_zero_is_not_relevant() -> None:
    scorer, seen, relevant = draw(3, 6, 20)
    stored = relevant.copy()
    stored.data[::2] = 0
    kept = stored.copy()
    kept.eliminate_zeros()
    names = ["ndcg", "auc", "coverage"]
    assert measure(scorer, seen, stored, [5], names) == measure(scorer, seen, kept, [5], names)


def test_names_are_those_there_are() -> None:
    assert {*OF_LISTS, "auc"} == set(BEYOND) and not set(BEYOND) & set(METRICS)
    with pytest.raises(InputError, match="no metric 'aucc'"):
        check_names(["ndcg", "aucc"])
