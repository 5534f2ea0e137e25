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


@pytest.mark.parametrize("preset", ["fast", "best"])
@pytest.mark.parametrize("name", PAIRS)
def test_scores_are_finite_and_the_same_on_any_number_of_threads(name: str, preset: str, tmp_path: Path) -> None:
    users, items = np.array(PAIRS[name]).T
    # A budget for each user and item pays for nothing where there are next to none.
    options = {"coarse.m": 1} if len(np.unique(users)) + len(np.unique(items)) < 20 else None
    scores, n_threads = [], torch.get_num_threads()
    try:
        # On a busy machine threads wait for one another, and work this small gains nothing from them.
        for n in (1, 2) if name in ("disconnected", "one user") and preset == "fast" else (1,):
            torch.set_num_threads(n)
            with warnings.catch_warnings():
                warnings.simplefilter("error", RuntimeWarning)
                model = C2FRecommender(preset, options=options).fit((users, items))
                scores.append(model.score(np.unique(users)[:, None], np.unique(items)))
    finally:
        torch.set_num_threads(n_threads)
    assert np.isfinite(scores[0]).all()
    np.testing.assert_allclose(scores[-1], scores[0], atol=1e-5 * max(1.0, np.abs(scores[0]).max()))
    everybody = np.unique(users)
    found, ranked = model.recommend(everybody, k=5)
    for user, own, theirs in zip(everybody, found, ranked, strict=True):
        there = own[theirs > -np.inf]
        assert not np.isin(there, items[users == user]).any()
        assert len(there) == min(5, len(np.unique(items)) - len(np.unique(items[users == user])))
    model.save(tmp_path / "model.c2f", users=tmp_path / "users.c2f")
    again = C2FRecommender.load(tmp_path / "model.c2f", users=tmp_path / "users.c2f")
    assert np.isfinite(again.score(everybody[:, None], np.unique(items))).all()
