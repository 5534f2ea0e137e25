from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.errors import InputError
from c2f_dgl.training.sampler import TripletSampler


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(3, 12), st.integers(1, 4))
def test_triplets_are_what_they_claim(seed: int, n_users: int, n_items: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    r = rng.random((n_users, n_items)) < 0.4
    r[0] = False
    r[0, 0] = True
    k = min(k, n_items - 1)
    drawn = TripletSampler(sp.csr_matrix(r.astype(float)), k).epoch(200, 200, rng)
    assert drawn.negatives.shape == (200, k)
    assert r[drawn.users, drawn.positives].all()
    assert not r[drawn.users[:, None], drawn.negatives].any()
    assert all(len(set(row)) == k for row in drawn.negatives.tolist())
    allowed = np.flatnonzero((r.sum(axis=1) > 0) & (r.sum(axis=1) <= n_items - k))
    assert set(drawn.users) <= set(allowed)


def test_draws_are_uniform_over_users_positives_and_negatives() -> None:
    r = np.zeros((3, 6))
    r[0, :1], r[1, :3] = 1, 1
    drawn = TripletSampler(sp.csr_matrix(r), 1).epoch(60_000, 60_000, np.random.default_rng(0))
    shares = np.bincount(drawn.users, minlength=3) / 60_000
    np.testing.assert_allclose(shares, [0.5, 0.5, 0], atol=0.01)
    of_second = drawn.users == 1
    np.testing.assert_allclose(np.bincount(drawn.positives[of_second]) / of_second.sum(), 1 / 3, atol=0.02)
    negatives = np.bincount(drawn.negatives[of_second, 0], minlength=6) / of_second.sum()
    np.testing.assert_allclose(negatives, [0, 0, 0, 1 / 3, 1 / 3, 1 / 3], atol=0.02)


def test_nobody_to_draw_is_said_at_once() -> None:
    with pytest.raises(InputError, match="negatives"):
        TripletSampler(sp.csr_matrix(np.ones((2, 3))), 1)


def test_shared_negatives_are_drawn_once_a_batch_from_all_items() -> None:
    r = sp.csr_matrix(np.array([[1.0, 1, 1, 1], [0, 0, 0, 0]]))  # no item is left unseen
    drawn = TripletSampler(r, 50, shared=True).epoch(10, 4, np.random.default_rng(0))
    batches = list(drawn.batches(4))
    assert [len(batch.users) for batch in batches] == [4, 4, 2]
    assert all(batch.negatives.shape == (1, 50) and batch.shared for batch in batches)
    assert len({tuple(batch.negatives[0]) for batch in batches}) == 3
    assert set(drawn.negatives.flat) == {0, 1, 2, 3}
