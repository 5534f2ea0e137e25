from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.errors import InputError
from c2f_dgl.training import sampler
from c2f_dgl.training.sampler import Triplets, TripletSampler


def drawn(train: np.ndarray, k: int, n: int, seed: int = 0) -> Triplets:
    return TripletSampler(sp.csr_matrix(train.astype(float)), k).epoch(n, n, np.random.default_rng(seed))


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(3, 12), st.integers(1, 4))
def test_triplets_are_what_they_claim(seed: int, n_users: int, n_items: int, k: int) -> None:
    r = np.random.default_rng(seed).random((n_users, n_items)) < 0.4
    r[0] = False
    r[0, 0] = True
    k = min(k, n_items - 1)
    triplets = drawn(r, k, 200, seed)
    assert triplets.negatives.shape == (200, k)
    assert r[triplets.users, triplets.positives].all()
    assert not r[triplets.users[:, None], triplets.negatives].any()
    assert all(len(set(row)) == k for row in triplets.negatives.tolist())
    allowed = np.flatnonzero((r.sum(axis=1) > 0) & (r.sum(axis=1) <= n_items - k))
    assert set(triplets.users) <= set(allowed)


def test_draws_are_uniform_over_users_positives_and_negatives() -> None:
    r = np.zeros((3, 6))
    r[0, :1], r[1, :3] = 1, 1
    triplets = drawn(r, 1, 60_000)
    shares = np.bincount(triplets.users, minlength=3) / 60_000
    np.testing.assert_allclose(shares, [0.5, 0.5, 0], atol=0.01)
    of_second = triplets.users == 1
    np.testing.assert_allclose(np.bincount(triplets.positives[of_second]) / of_second.sum(), 1 / 3, atol=0.02)
    negatives = np.bincount(triplets.negatives[of_second, 0], minlength=6) / of_second.sum()
    np.testing.assert_allclose(negatives, [0, 0, 0, 1 / 3, 1 / 3, 1 / 3], atol=0.02)


def test_users_who_have_seen_nearly_everything() -> None:
    r = np.ones((2, 2000))
    r[0, 5:9], r[1, [0, 700, 1999]] = 0, 0
    triplets = drawn(r, 2, 20_000)
    for user, unseen in enumerate(([5, 6, 7, 8], [0, 700, 1999])):
        negatives = triplets.negatives[triplets.users == user]
        items, counts = np.unique(negatives, return_counts=True)
        assert items.tolist() == unseen and (negatives[:, 0] != negatives[:, 1]).all()
        np.testing.assert_allclose(counts / negatives.size, 1 / len(unseen), atol=0.01)


def test_nobody_to_draw_is_said_at_once() -> None:
    with pytest.raises(InputError, match="negatives"):
        TripletSampler(sp.csr_matrix(np.ones((2, 3))), 1)


def test_sets_of_negatives_are_uniform() -> None:
    triplets = drawn(np.array([[1, 0, 1, 0, 0, 0]]), 2, 60_000)
    pairs = np.sort(triplets.negatives, axis=1) @ [6, 1]
    found, counts = np.unique(pairs, return_counts=True)
    assert found.tolist() == [1 * 6 + 3, 1 * 6 + 4, 1 * 6 + 5, 3 * 6 + 4, 3 * 6 + 5, 4 * 6 + 5]
    np.testing.assert_allclose(counts / 60_000, 1 / 6, atol=0.01)


@pytest.mark.parametrize(
    ("size", "k", "shared", "n"),
    [
        (16, 1, False, 2**20),
        (16, 8, False, 2**20),
        (16, 512, False, 2**14),
        (16, 4096, True, 2**15),
        (9, 2**30, True, 9),
    ],
)
def test_what_is_drawn_at_a_time_counts_the_negatives(size: int, k: int, shared: bool, n: int) -> None:
    assert sampler.drawn_at_once(size, k, shared) == n


@pytest.mark.parametrize("shared", [False, True])
def test_batches_drawn_in_pieces_cover_an_epoch(monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    monkeypatch.setattr(sampler, "DRAWN", 10)
    batches = list(TripletSampler(sp.eye(9, format="csr"), 2, shared=shared).batches(23, 4, np.random.default_rng(0)))
    assert [len(batch.users) for batch in batches] == [4, 4, 4, 4, 4, 3]
    assert [len(batch.negatives) for batch in batches] == ([1] * 6 if shared else [4, 4, 4, 4, 4, 3])
    assert len({int(user) for batch in batches for user in batch.users}) > 4


def test_shared_negatives_are_drawn_once_a_batch_from_all_items() -> None:
    r = sp.csr_matrix(np.array([[1.0, 1, 1, 1], [0, 0, 0, 0]]))  # no item is left unseen
    drawn = TripletSampler(r, 50, shared=True).epoch(10, 4, np.random.default_rng(0))
    batches = list(drawn.batches(4))
    assert [len(batch.users) for batch in batches] == [4, 4, 2]
    assert all(batch.negatives.shape == (1, 50) and batch.shared for batch in batches)
    assert len({tuple(batch.negatives[0]) for batch in batches}) == 3
    assert set(drawn.negatives.flat) == {0, 1, 2, 3}
