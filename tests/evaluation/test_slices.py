"""Slices are what evaluation of their part alone gives, and their intervals those of the mean."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
from scipy import stats

from c2f_dgl import load_dataset
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import Scorer, evaluate, most_popular
from c2f_dgl.evaluation.slices import evaluate_slices, groups_by, interval


@pytest.fixture(scope="module")
def split() -> Split:
    """`planted`, without the training interactions of some users and items."""
    planted = load_dataset("planted")
    kept = [np.arange(n) >= 5 for n in planted.train.shape]
    train = sp.csr_matrix(sp.diags(kept[0].astype(np.float32)) @ planted.train @ sp.diags(kept[1].astype(np.float32)))
    train.eliminate_zeros()
    return Split("cold", train, planted.valid, planted.test, planted.user_ids, planted.item_ids)


@pytest.fixture(scope="module")
def scorer(split: Split) -> Scorer:
    return most_popular(split.train)


@pytest.mark.parametrize("by", ["activity", "popularity", "known"])
def test_a_slice_is_the_evaluation_of_its_part(split: Split, scorer: Scorer, by: str) -> None:
    groups = groups_by(split, by)
    slices = evaluate_slices(scorer, split, split.test, groups, (5, 20))
    assert len(slices) == {"activity": 5, "popularity": 5, "known": 2}[by]
    for number, each in enumerate(slices):
        inside = np.flatnonzero(groups.of == number)
        part = split.test.tolil()
        outside = np.setdiff1d(np.arange(split.test.shape[groups.side == "item"]), inside)
        if groups.side == "user":
            part[outside] = 0
        else:
            part[:, outside] = 0
        expected = evaluate(scorer, split.train, part.tocsr(), (5, 20))
        assert {name: mean for name, (mean, _, _) in each.figures.items()} == pytest.approx(expected)
        assert all(low <= mean <= high for mean, low, high in each.figures.values())
        degrees = split.train.getnnz(axis=1 if groups.side == "user" else 0)[inside]
        assert each.degree == np.median(degrees)
        if by != "known" and number:
            low, high = (int(text.replace(",", "")) for text in each.name.split(" ")[2:5:2])
            assert degrees.min() == low and degrees.max() <= high
    assert slices[-1 if by == "known" else 0].degree == 0  # those without training apart


def test_groups_are_as_large_as_said(split: Split) -> None:
    users, items = groups_by(split, "activity"), groups_by(split, "popularity")
    assert np.bincount(users.of)[0] == 5 and np.bincount(items.of)[0] == 5
    assert (np.abs(np.bincount(users.of)[1:] / 995 - 0.25) < 0.1).all()  # ties stay together
    weight = np.bincount(items.of, weights=split.train.getnnz(axis=0))[1:]
    assert (np.abs(weight / split.train.nnz - 0.25) < 0.03).all()
    same = Split("same", sp.csr_matrix(np.ones((3, 4), np.float32)), *(split.valid,) * 2, np.arange(3), np.arange(4))
    assert [set(groups_by(same, by).of) for by in ("activity", "popularity", "known")] == [{1}, {1}, {0}]


def test_groups_of_a_file(split: Split, scorer: Scorer, tmp_path: Path) -> None:
    file = tmp_path / "genres.csv"
    rows = [f"{item},{'odd' if item % 2 else 'even'}" for item in split.item_ids[:-2]]
    file.write_text("\n".join(["item,genre", *rows, "unheard-of,odd"]) + "\n")
    slices = evaluate_slices(scorer, split, split.test, groups_by(split, f"items={file}"), (20,), ["recall"])
    assert [each.name for each in slices] == ["even", "odd"]
    part = split.test.multiply(split.item_ids[None, :] % 2 * (np.arange(split.n_items) < split.n_items - 2))
    assert slices[1].figures["recall@20"][0] == pytest.approx(
        evaluate(scorer, split.train, sp.csr_matrix(part), (20,))["recall@20"]
    )
    file.write_text("user,group\nnobody,x\n")
    with pytest.raises(InputError, match="names no user of cold"):
        groups_by(split, f"users={file}")
    for wrong, expected in (("age", "no groups 'age'"), ("users=missing.csv", "no such file"), ("ages=x", "no groups")):
        with pytest.raises(InputError, match=expected):
            groups_by(split, wrong)


def test_intervals_hold_the_mean_as_often_as_they_say() -> None:
    rng = np.random.default_rng(0)
    values = rng.exponential(size=2000)
    mean, low, high = interval(values)
    half = stats.norm.ppf(0.975) * values.std(ddof=1) / np.sqrt(len(values))
    assert (mean - low, high - mean) == pytest.approx((half, half), rel=0.12)
    held = [low <= 1.0 <= high for _, low, high in (interval(rng.exponential(size=60)) for _ in range(200))]
    assert 0.88 < np.mean(held) < 0.985
    assert np.isnan(interval(np.ones(1))[1:]).all()
