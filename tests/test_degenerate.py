"""Data that say little or nothing: fitted all the same, with finite scores and without a warning of numpy."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from c2f_dgl import C2FRecommender

_BLOCKS = [(3 * block + user, 4 * block + item) for block in range(5) for user in range(3) for item in range(4)]
PAIRS = {
    "one user": [(0, item) for item in range(10)],
    "one item": [(user, 0) for user in range(10)],
    "all the same": [(user, item) for user in range(3) for item in range(2)] * 4,
    "everything seen": [(user, item) for user in range(8) for item in range(6)],
    "ten pairs of five": [(user, (user + step) % 5) for user in range(5) for step in range(2)],
    "one hub of each side": [(user, 0) for user in range(30)] + [(0, item) for item in range(30)],
    "disconnected": _BLOCKS,
    "one interaction each": [(user, user) for user in range(40)],
}


def fitted(pairs: list[tuple[int, int]] | np.ndarray, preset: str, n_threads: int) -> tuple[C2FRecommender, np.ndarray]:
    """A model, and scores of all pairs of its first users and items, on some threads."""
    users, items = np.array(pairs).T
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads)
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            model = C2FRecommender(preset).fit((users, items))
            return model, model.score(np.unique(users)[:200, None], np.unique(items)[:200])
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("preset", ["fast", "best"])
@pytest.mark.parametrize("name", PAIRS)
def test_scores_are_finite_and_what_was_seen_is_not_recommended(name: str, preset: str, tmp_path: Path) -> None:
    model, scores = fitted(PAIRS[name], preset, 1)
    assert np.isfinite(scores).all()
    users, items = np.array(PAIRS[name]).T
    everybody = np.unique(users)
    found, ranked = model.recommend(everybody, k=5)
    for user, own, theirs in zip(everybody, found, ranked, strict=True):
        there = own[theirs > -np.inf]
        assert not np.isin(there, items[users == user]).any()
        assert len(there) == min(5, len(np.unique(items)) - len(np.unique(items[users == user])))
    model.save(tmp_path / "model.c2f", users=tmp_path / "users.c2f")
    again = C2FRecommender.load(tmp_path / "model.c2f", users=tmp_path / "users.c2f")
    assert np.isfinite(again.score(everybody[:, None], np.unique(items))).all()


@pytest.mark.parametrize("preset", ["fast", "best"])
@pytest.mark.parametrize(
    "name", [name if name == "disconnected" else pytest.param(name, marks=pytest.mark.slow) for name in PAIRS]
)
def test_scores_are_the_same_on_one_thread_and_two(name: str, preset: str) -> None:
    one, two = (fitted(PAIRS[name], preset, n)[1] for n in (1, 2))
    np.testing.assert_allclose(two, one, atol=1e-5 * max(1.0, np.abs(one).max()))


@pytest.mark.slow
def test_a_hundred_thousand_users_of_one_interaction_are_fitted() -> None:
    users = np.arange(100_000)
    one, two = (fitted(np.stack([users, users % 2_000], axis=1), "fast", n)[1] for n in (1, 2))
    assert np.isfinite(one).all()
    np.testing.assert_allclose(two, one, atol=1e-5 * max(1.0, np.abs(one).max()))
