"""The generator of planted communities, its files, and the committed sample."""

from __future__ import annotations

import filecmp
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c2f_dgl.data import planted
from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.data.planted import SAMPLE_SEED, built_in_sample, generate_planted, write_planted
from c2f_dgl.data.readers import read_lightgcn
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from tests.labels import read_labels

SAMPLE = Path(__file__).parents[2] / "data" / "planted"


def ndcg_at_20(scores: np.ndarray, split: Split) -> float:
    """Mean NDCG@20 on the test set, training and validation items masked; dense, for small data."""
    scores = np.where((split.train + split.valid).toarray() > 0, -np.inf, scores)
    test = split.test.toarray()[split.test.getnnz(axis=1) > 0]
    best = np.argsort(-scores[split.test.getnnz(axis=1) > 0], axis=1, kind="stable")[:, :20]
    discounts = 1 / np.log2(np.arange(2, 22))
    ideal = np.cumsum(discounts)[np.minimum(test.sum(axis=1).astype(int), 20) - 1]
    return float((np.take_along_axis(test, best, axis=1) @ discounts / ideal).mean())


def test_the_committed_sample_is_what_the_generator_writes(tmp_path):
    write_planted(*built_in_sample(), tmp_path / "planted", seed=SAMPLE_SEED)
    names = ["labels.tsv", "test.txt", "train.txt"]
    assert sorted(file.name for file in (tmp_path / "planted").iterdir()) == names
    assert filecmp.cmpfiles(SAMPLE, tmp_path / "planted", names, shallow=False) == (names, [], [])
    assert sum((SAMPLE / name).stat().st_size for name in names) < 1_000_000


def test_the_sample_serves_training_and_testing():
    split = load_dataset("planted")
    assert (split.n_users, split.n_items) == (1000, 800)
    assert split.train.getnnz(axis=1).min() >= 1
    assert (split.test.getnnz(axis=1) > 0).mean() > 0.95
    assert np.array_equal(split.item_ids, np.arange(800)), "labels.tsv is by id, so that ids must be indices"


def test_planted_communities_beat_popularity_and_fine_ones_beat_coarse():
    split, labels = load_dataset("planted"), read_labels(SAMPLE)
    popularity = np.asarray(split.train.sum(axis=0))
    shares = {
        level: (labels[f"user_{level}"][:, None] == labels[f"item_{level}"]) + 0.05 for level in ("coarse", "fine")
    }
    by_popularity = ndcg_at_20(np.repeat(popularity, split.n_users, axis=0), split)
    by_coarse = ndcg_at_20(popularity * shares["coarse"], split)
    by_both = ndcg_at_20(popularity * shares["coarse"] * shares["fine"], split)
    assert by_coarse > 2 * by_popularity
    assert by_both > 1.3 * by_coarse


def test_labels_nest_and_come_back_from_their_file(tmp_path):
    inter, labels = generate_planted(60, 50, 600, 3, 4, seed=1)
    for kind, size in (("user", 60), ("item", 50)):
        assert labels[f"{kind}_fine"].shape == (size,)
        assert np.array_equal(labels[f"{kind}_coarse"], labels[f"{kind}_fine"] // 4)
        assert set(labels[f"{kind}_fine"]) == set(range(12))
    write_planted(inter, labels, tmp_path / "out", seed=1)
    back = read_labels(tmp_path / "out")
    assert back.keys() == labels.keys()
    assert all(np.array_equal(back[name], labels[name]) for name in labels)
    train, test = (read_lightgcn(tmp_path / "out" / f"{part}.txt") for part in ("train", "test"))
    assert len(train) + len(test) == len(inter)


@settings(max_examples=100)
@given(
    n_users=st.integers(6, 60),
    n_items=st.integers(20, 60),
    n_coarse=st.integers(1, 3),
    n_fine=st.integers(1, 2),
    seed=st.integers(0, 99),
    chunk=st.integers(1, 500),
)
def test_generated_pairs_are_distinct_and_every_user_has_some(n_users, n_items, n_coarse, n_fine, seed, chunk):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planted, "DRAWN_AT_A_TIME", chunk)
        inter, _ = generate_planted(n_users, n_items, n_users * 6, n_coarse, n_fine, seed=seed, min_per_user=2)
    keys = inter.users * n_items + inter.items
    assert (np.diff(keys) > 0).all(), "sorted and distinct"
    assert inter.items.min() >= 0 and inter.items.max() < n_items
    per_user = np.bincount(inter.users, minlength=n_users)
    assert per_user.min() >= 2 and per_user.max() <= n_items // 2
    assert 0.9 * n_users * 6 <= len(inter) <= n_users * 6


def test_probabilities_are_those_asked_for():
    sizes = {"n_users": 2000, "n_items": 4000, "n_interactions": 40_000, "n_coarse": 4, "n_fine_per_coarse": 5}
    inter, labels = generate_planted(
        **sizes, seed=0, within_fine=0.5, within_coarse=0.3, popularity_exponent=0.0, activity_exponent=0.0
    )
    in_fine = (labels["user_fine"][inter.users] == labels["item_fine"][inter.items]).mean()
    in_coarse = (labels["user_coarse"][inter.users] == labels["item_coarse"][inter.items]).mean()
    # A draw from the coarse community, or from anywhere, hits the fine one by chance; repeats redrawn shift by < 0.01.
    assert abs(in_fine - (0.5 + 0.3 / 5 + 0.2 / 20)) < 0.02
    assert abs(in_coarse - (0.8 + 0.2 / 4)) < 0.02


def test_degrees_fall_as_powers_of_the_rank():
    inter, _ = generate_planted(4000, 4000, 120_000, 4, 2, seed=0)
    ranks = np.arange(10, 2000)
    for indices, lowest, exponent in ((inter.users, 8, 0.5), (inter.items, 0, 0.7)):
        degrees = np.sort(np.bincount(indices, minlength=4000))[::-1][ranks] - lowest
        slope = np.polyfit(np.log(ranks + 1), np.log(degrees), 1)[0]
        assert abs(slope + exponent) < 0.15


def test_the_seed_decides():
    first, second, third = (generate_planted(50, 40, 500, 2, 2, seed=seed)[0] for seed in (1, 1, 2))
    assert np.array_equal(first.items, second.items)
    assert not np.array_equal(first.items, third.items)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n_coarse": 0}, "cannot fill 0 fine communities"),
        ({"n_coarse": 50}, "50 users and 40 items cannot fill 100 fine communities"),
        ({"n_interactions": 399}, "399 interactions .expected 400 .8 a user. to 1000"),
        ({"n_interactions": 1001}, "1001 interactions"),
        ({"min_per_user": 21}, "min_per_user = 21"),
        ({"within_fine": 0.8}, "probabilities that add up to 1 or less"),
        ({"within_coarse": -0.1}, "probabilities"),
    ],
)
def test_impossible_sizes_are_refused(changed, message):
    sizes = {"n_users": 50, "n_items": 40, "n_interactions": 500, "n_coarse": 2, "n_fine_per_coarse": 2}
    with pytest.raises(InputError, match=message):
        generate_planted(**{**sizes, **changed}, seed=0)
