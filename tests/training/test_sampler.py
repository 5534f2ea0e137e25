from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.errors import InputError
from c2f_dgl.training import sampler
from c2f_dgl.training.device_sampler import DeviceTripletSampler
from c2f_dgl.training.sampler import Triplets, TripletSampler

Draw = Callable[[sp.csr_matrix, int, int, np.random.Generator], Triplets]


def on_host(train: sp.csr_matrix, k: int, n: int, rng: np.random.Generator) -> Triplets:
    return TripletSampler(train, k).epoch(n, n, rng)


def on_device(train: sp.csr_matrix, k: int, n: int, rng: np.random.Generator) -> Triplets:
    (batch,) = DeviceTripletSampler(train, k, torch.device("cpu")).batches(n, n, rng)
    return Triplets(*(x.numpy() for x in (batch.users, batch.positives, batch.negatives)))


EITHER = pytest.mark.parametrize("draw", [on_host, on_device])


@EITHER
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(3, 12), st.integers(1, 4))
def test_triplets_are_what_they_claim(draw: Draw, seed: int, n_users: int, n_items: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    r = rng.random((n_users, n_items)) < 0.4
    r[0] = False
    r[0, 0] = True
    k = min(k, n_items - 1)
    drawn = draw(sp.csr_matrix(r.astype(float)), k, 200, rng)
    assert drawn.negatives.shape == (200, k)
    assert r[drawn.users, drawn.positives].all()
    assert not r[drawn.users[:, None], drawn.negatives].any()
    assert all(len(set(row)) == k for row in drawn.negatives.tolist())
    allowed = np.flatnonzero((r.sum(axis=1) > 0) & (r.sum(axis=1) <= n_items - k))
    assert set(drawn.users) <= set(allowed)


@EITHER
def test_draws_are_uniform_over_users_positives_and_negatives(draw: Draw) -> None:
    r = np.zeros((3, 6))
    r[0, :1], r[1, :3] = 1, 1
    drawn = draw(sp.csr_matrix(r), 1, 60_000, np.random.default_rng(0))
    shares = np.bincount(drawn.users, minlength=3) / 60_000
    np.testing.assert_allclose(shares, [0.5, 0.5, 0], atol=0.01)
    of_second = drawn.users == 1
    np.testing.assert_allclose(np.bincount(drawn.positives[of_second]) / of_second.sum(), 1 / 3, atol=0.02)
    negatives = np.bincount(drawn.negatives[of_second, 0], minlength=6) / of_second.sum()
    np.testing.assert_allclose(negatives, [0, 0, 0, 1 / 3, 1 / 3, 1 / 3], atol=0.02)


@pytest.mark.parametrize("rounds", [0, 16])
def test_users_who_have_seen_nearly_everything(monkeypatch: pytest.MonkeyPatch, rounds: int) -> None:
    """What is left after so many rounds of rejection is drawn by rank, and as uniform."""
    monkeypatch.setattr(sampler, "_ROUNDS", rounds)
    r = np.ones((2, 2000))
    r[0, 5:9], r[1, [0, 700, 1999]] = 0, 0
    drawn = TripletSampler(sp.csr_matrix(r), 2).epoch(20_000, 20_000, np.random.default_rng(0))
    for user, unseen in enumerate(([5, 6, 7, 8], [0, 700, 1999])):
        theirs = drawn.negatives[drawn.users == user]
        found, counts = np.unique(theirs, return_counts=True)
        assert found.tolist() == unseen and (theirs[:, 0] != theirs[:, 1]).all()
        np.testing.assert_allclose(counts / theirs.size, 1 / len(unseen), atol=0.01)


def test_nobody_to_draw_is_said_at_once() -> None:
    with pytest.raises(InputError, match="negatives"):
        TripletSampler(sp.csr_matrix(np.ones((2, 3))), 1)


@EITHER
def test_sets_of_negatives_are_uniform(draw: Draw) -> None:
    drawn = draw(sp.csr_matrix(np.array([[1.0, 0, 1, 0, 0, 0]])), 2, 60_000, np.random.default_rng(0))
    pairs = np.sort(drawn.negatives, axis=1) @ [6, 1]
    found, counts = np.unique(pairs, return_counts=True)
    assert found.tolist() == [1 * 6 + 3, 1 * 6 + 4, 1 * 6 + 5, 3 * 6 + 4, 3 * 6 + 5, 4 * 6 + 5]
    np.testing.assert_allclose(counts / 60_000, 1 / 6, atol=0.01)


@pytest.mark.parametrize(
    ("size", "k", "shared", "drawn"),
    [
        (16, 1, False, 2**20),
        (16, 8, False, 2**20),
        (16, 512, False, 2**14),
        (16, 4096, True, 2**15),
        (9, 2**30, True, 9),
    ],
)
def test_what_is_drawn_at_a_time_counts_the_negatives(size: int, k: int, shared: bool, drawn: int) -> None:
    assert sampler.drawn_at_once(size, k, shared) == drawn


@pytest.mark.parametrize("shared", [False, True])
def test_batches_drawn_in_pieces_cover_an_epoch(monkeypatch: pytest.MonkeyPatch, shared: bool) -> None:
    monkeypatch.setattr(sampler, "DRAWN", 10)
    train = sp.csr_matrix(np.eye(9))
    for made in (
        TripletSampler(train, 2, shared=shared),
        DeviceTripletSampler(train, 2, torch.device("cpu"), shared=shared),
    ):
        batches = list(made.batches(23, 4, np.random.default_rng(0)))
        assert [len(batch.users) for batch in batches] == [4, 4, 4, 4, 4, 3]
        assert [len(batch.negatives) for batch in batches] == ([1] * 6 if shared else [4, 4, 4, 4, 4, 3])
        assert len({int(user) for batch in batches for user in batch.users}) > 4


def test_the_filter_misses_no_member() -> None:
    rng = np.random.default_rng(0)
    members = np.sort(rng.choice(10**12, size=5000, replace=False))
    seen = sampler._Filter(members)
    assert seen.maybe(members).all()
    others = np.setdiff1d(rng.choice(10**12, size=20_000, replace=False), members)
    assert seen.maybe(others).mean() < 2 / sampler._FILTER_BITS


def test_shared_negatives_are_drawn_once_a_batch_from_all_items() -> None:
    r = sp.csr_matrix(np.array([[1.0, 1, 1, 1], [0, 0, 0, 0]]))  # no item is left unseen
    drawn = TripletSampler(r, 50, shared=True).epoch(10, 4, np.random.default_rng(0))
    batches = list(drawn.batches(4))
    assert [len(batch.users) for batch in batches] == [4, 4, 2]
    assert all(batch.negatives.shape == (1, 50) and batch.shared for batch in batches)
    assert len({tuple(batch.negatives[0]) for batch in batches}) == 3
    assert set(drawn.negatives.flat) == {0, 1, 2, 3}
