"""Splits are partitions, drawn by rule and by seed."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.splits import Split, given_split, leave_last_out, random_split, temporal_split
from c2f_dgl.errors import InputError

MATRICES = st.builds(
    lambda shape, seed, density: np.random.default_rng(seed).random(shape) < density,
    st.tuples(st.integers(1, 12), st.integers(1, 25)),
    st.integers(0, 10_000),
    st.floats(0.05, 1.0),
).filter(np.any)
FRACTIONS = st.tuples(st.floats(0, 0.5), st.floats(0, 0.49))


def timed(dense: np.ndarray, times: np.ndarray) -> Interactions:
    inter = Interactions.from_csr(csr_matrix(dense))
    return Interactions(inter.users, inter.items, inter.user_ids, inter.item_ids, times[: len(inter)])


def assert_partition(split: Split, dense: np.ndarray) -> None:
    parts = [split.train, split.valid, split.test]
    for part in parts:
        assert part.dtype == np.float32 and part.shape == dense.shape and part.has_sorted_indices
        assert (part.data == 1).all()
    assert np.array_equal(sum(part.toarray() for part in parts), dense.astype(np.float32))


@pytest.mark.parametrize("length", [2, 3, 4])
def test_a_share_of_short_histories_is_held_out(length: int) -> None:
    dense = np.tri(8, 8)[[length - 1] * 1000]
    split = random_split(Interactions.from_pairs(*np.nonzero(dense), np.arange(1000), np.arange(8)), seed=0)
    assert_partition(split, dense)
    # At random a fifth and a tenth of all; a history of two has but one to spare.
    assert split.test.nnz == (pytest.approx(400, rel=0.2) if length == 2 else 1000)  # 1 of 3 and of 4 is rounded
    assert split.valid.nnz == pytest.approx(100 * length, rel=0.2) or (length == 2 and split.valid.nnz > 50)
    none = random_split(Interactions.from_pairs(*np.nonzero(dense), np.arange(1000), np.arange(8)), seed=0, valid=0.0)
    assert none.valid.nnz == 0


def from_pairs(pairs: list[tuple]) -> Interactions:
    return Interactions.from_frame(pd.DataFrame(pairs, columns=["user", "item"]))


@settings(max_examples=200)
@given(dense=MATRICES, seed=st.integers(0, 99), fractions=FRACTIONS)
def test_random_split_is_a_partition_with_exact_counts(dense, seed, fractions):
    valid, test = fractions
    split = random_split(Interactions.from_csr(csr_matrix(dense)), seed=seed, valid=valid, test=test)
    assert_partition(split, dense)
    counts = dense.sum(axis=1)
    for part, fraction, spare in (
        (split.test, test, np.maximum(counts - 1, 0)),
        (split.valid, valid, np.maximum(counts - 1, 0) - split.test.getnnz(axis=1)),
    ):
        wanted = np.floor(counts * fraction + 0.5)
        if wanted.any():  # else some users have one, at random
            np.testing.assert_array_equal(part.getnnz(axis=1), np.minimum(wanted, spare))
        assert (part.getnnz(axis=1) <= np.minimum(np.ceil(counts * fraction), spare)).all()


@settings(max_examples=200)
@given(dense=MATRICES, overlap=MATRICES, seed=st.integers(0, 99))
def test_given_split_follows_the_validation_rule(dense, overlap, seed):
    # `overlap` is cut or padded to the shape of `dense`: test pairs, some of which are training pairs too.
    test = np.zeros_like(dense)
    rows, columns = min(len(test), len(overlap)), min(test.shape[1], overlap.shape[1])
    test[:rows, :columns] = overlap[:rows, :columns]
    fresh = test & ~dense
    if not test.any():
        return
    train_part, test_part = (Interactions.from_csr(csr_matrix(part)) for part in (dense, test))
    if not fresh.any():
        with pytest.raises(InputError, match="no test interactions"):
            given_split(train_part, test=test_part, seed=seed, name="drawn")
        return
    if fresh.sum(axis=1).max() < 2:  # the rule would leave none to test on: see below
        return
    split = given_split(train_part, test=test_part, seed=seed, name="drawn")
    assert not split.valid_from_train and "valid drawn from test" in split.notes
    assert_partition(split, dense | test)
    assert np.array_equal(split.train.toarray() > 0, dense)
    n = fresh.sum(axis=1)
    assert np.array_equal(split.valid.getnnz(axis=1), np.where(n, np.maximum(1, np.ceil(n / 3)), 0))
    dropped = int((test & dense).sum())
    assert ("of test already in an earlier set" in split.summary()) == (dropped > 0)


@settings(max_examples=200)
@given(dense=MATRICES, seed=st.integers(0, 99), held=st.sampled_from(["one", "some"]))
def test_validation_from_training_items_leaves_the_test_items_alone(dense, seed, held):
    # One user tests on one item, which the paper's rule would take, or all users on two.
    dense, test = np.pad(dense, ((0, 0), (0, 2))), np.zeros((len(dense), dense.shape[1] + 2), dtype=bool)
    test[: 1 if held == "one" else None, dense.shape[1] - (1 if held == "one" else 2) :] = True
    train_part, test_part = (Interactions.from_csr(csr_matrix(part)) for part in (dense, test))
    draw = lambda seed: given_split(
        train_part, test=test_part, seed=seed, name="drawn", protocol="paper" if held == "one" else "full-test"
    )
    n = dense.sum(axis=1)
    if n.max() < 2:
        with pytest.raises(InputError, match="no user has a training item to spare for validation"):
            draw(seed)
        return
    split = draw(seed)
    assert_partition(split, dense | test)
    assert np.array_equal(split.test.toarray() > 0, test)
    n_valid = split.valid.getnnz(axis=1)
    assert (n_valid <= np.minimum(np.ceil(n / 10), np.maximum(n - 1, 0))).all() and n_valid.sum() > 0
    assert (n_valid >= np.minimum(np.floor(n / 10), np.maximum(n - 1, 0))).all()
    assert split.valid_from_train and draw(seed).fingerprint == split.fingerprint
    said = "valid drawn from train" + (", no user has two test items" if held == "one" else "")
    assert split.summary().endswith(said)


def test_a_tenth_of_all_training_items_validates():
    # Histories of 4: 5 sigma of 9,000 users' draws with probability 0.4 is about 232.
    train = Interactions.from_csr(csr_matrix(np.ones((9000, 4))))
    split = given_split(train, test=from_pairs([(0, 9)]), seed=0, name="short")
    assert split.valid.nnz == pytest.approx(3600, abs=232)
    assert (np.abs(split.valid.getnnz(axis=0)[:4] - 900) < 150).all()
    assert not np.array_equal(
        split.valid.indices, given_split(train, test=from_pairs([(0, 9)]), seed=1, name="short").valid.indices
    )


def test_a_file_that_validates_is_asked_before_the_protocol():
    train, test, valid = from_pairs([(0, 0), (0, 1)]), from_pairs([(0, 2)]), from_pairs([(0, 3)])
    split = given_split(train, test=test, valid=valid, seed=0, name="files", protocol="full-test")
    assert (split.train.nnz, split.valid.nnz, split.test.nnz) == (2, 1, 1) and not split.valid_from_train
    with pytest.raises(InputError, match=r"no protocol 'half' .expected paper or full-test"):
        given_split(train, test=test, seed=0, name="files", protocol="half")


def test_draws_depend_on_the_seed_alone():
    inter = Interactions.from_csr(csr_matrix(np.ones((20, 30))))
    assert random_split(inter, seed=1).fingerprint == random_split(inter, seed=1).fingerprint
    assert random_split(inter, seed=1).fingerprint != random_split(inter, seed=2).fingerprint
    given = [given_split(from_pairs([(0, 0)]), test=inter, seed=seed, name="x").fingerprint for seed in (1, 1, 2)]
    assert given[0] == given[1] != given[2]


def test_draws_are_uniform():
    # Each of 3 items is the one that validates in a third of 9,000 users: 5 sigma is about 225.
    test = Interactions.from_csr(csr_matrix(np.ones((9000, 3))))
    split = given_split(from_pairs([(0, 3)]), test=test, seed=0, name="uniform")
    assert (np.abs(split.valid.getnnz(axis=0)[:3] - 3000) < 225).all()


def test_fingerprint_knows_user_item_and_matrix_of_a_pair():
    def fingerprint(*parts):
        matrices = [csr_matrix(np.array(part, dtype=np.float32)) for part in parts]
        return Split("x", *matrices, np.arange(2), np.arange(2)).fingerprint

    none, first, second, other = [[0, 0], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [1, 0]], [[0, 1], [0, 0]]
    prints = {
        fingerprint(first, none, none),
        fingerprint(second, none, none),
        fingerprint(other, none, none),
        fingerprint(none, first, none),
        fingerprint(none, none, first),
        fingerprint(*[[[1, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]], [[0, 0, 0], [0, 0, 0]]]),
    }
    assert len(prints) == 6
    assert all(len(digest) == 64 for digest in prints)


def test_external_ids_are_aligned():
    split = given_split(
        from_pairs([("7", "x"), ("b", "y")]),
        test=from_pairs([(7, "z"), (30, "x")]),
        valid=from_pairs([("b", "x")]),
        seed=0,
        name="aligned",
    )
    assert split.user_ids.tolist() == ["30", "7", "b"]
    assert split.item_ids.tolist() == ["x", "y", "z"]
    assert split.train.toarray().tolist() == [[0, 0, 0], [1, 0, 0], [0, 1, 0]]
    assert split.valid.toarray().tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert split.test.toarray().tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_summary_says_everything_odd_in_one_line():
    train = from_pairs([(1, 10), (1, 10), (1, 12), (2, 10), (5, 12)])
    test = from_pairs([(1, 10), (1, 15), (1, 16), (9, 10), (9, 12)])
    summary = given_split(train, test=test, seed=0, name="odd").summary()
    assert "\n" not in summary
    for said in (
        "odd: 4 users, 4 items, 8 interactions (4 train, 2 valid, 2 test; 50% dense)",
        "1 user without training items",
        "2 users without test items",
        "2 items seen only in what is held out",
        "user ids have gaps (4 ids from 1 to 9)",
        "item ids have gaps (4 ids from 10 to 16)",
        "train: 1 duplicate pair merged",
        "1 pair of test already in an earlier set, dropped from test",
    ):
        assert said in summary
    isolated = random_split(Interactions.from_csr(csr_matrix([[1, 1, 0], [0, 0, 0]])), seed=0, valid=0, test=0.5)
    assert "2 isolated nodes" in isolated.summary()
    clean = random_split(Interactions.from_csr(csr_matrix(np.ones((30, 30)))), seed=0)
    assert clean.summary().endswith("dense)")
    untested = random_split(Interactions.from_csr(csr_matrix(np.ones((30, 30)))), seed=0, test=0)
    assert untested.summary().endswith("0 test; 100% dense)"), "not that each user is without test items"


def test_a_test_set_of_training_pairs_is_refused():
    with pytest.raises(InputError, match="same: no test interactions"):
        given_split(from_pairs([(0, 0)]), test=from_pairs([(0, 0)]), seed=0, name="same")


@settings(max_examples=200)
@given(dense=MATRICES, seed=st.integers(0, 99))
def test_leave_last_out_agrees_with_sorting_each_user(dense, seed):
    inter = timed(dense, np.random.default_rng(seed).integers(0, 4, dense.size))
    split = leave_last_out(inter)
    assert_partition(split, dense)
    for user in range(inter.n_users):
        mine = inter.users == user
        order = [item for _, item in sorted(zip(inter.timestamps[mine], inter.items[mine], strict=True))]
        assert split.test[user].indices.tolist() == (order[-1:] if len(order) >= 2 else [])
        assert split.valid[user].indices.tolist() == (order[-2:-1] if len(order) >= 3 else [])


@settings(max_examples=200)
@given(dense=MATRICES, seed=st.integers(0, 99), fractions=FRACTIONS)
def test_temporal_split_cuts_at_moments(dense, seed, fractions):
    valid, test = fractions
    inter = timed(dense, np.random.default_rng(seed).integers(0, 6, dense.size))
    n_held_out = int(len(inter) * (valid + test) + 0.5)
    if n_held_out and np.sort(inter.timestamps)[-n_held_out] == inter.timestamps.min():
        with pytest.raises(InputError, match="no interaction is left for training"):
            temporal_split(inter, valid=valid, test=test)
        return
    split = temporal_split(inter, valid=valid, test=test)
    assert_partition(split, dense)
    times = [inter.timestamps[part.toarray()[inter.users, inter.items] > 0] for part in (split.train, split.valid)]
    times.append(inter.timestamps[split.test.toarray()[inter.users, inter.items] > 0])
    filled = [part for part in times if len(part)]
    assert all(early.max() < late.min() for early, late in itertools.pairwise(filled))
    # Ties may only enlarge what is held out.
    assert split.test.nnz >= int(len(inter) * test + 0.5)
    assert split.test.nnz + split.valid.nnz >= n_held_out


def test_temporal_split_without_ties_meets_its_fractions():
    split = temporal_split(timed(np.ones((10, 10)), np.random.default_rng(0).permutation(100)), valid=0.15, test=0.25)
    assert (split.train.nnz, split.valid.nnz, split.test.nnz) == (60, 15, 25)


@pytest.mark.parametrize("way", [leave_last_out, temporal_split])
def test_splits_by_time_need_times(way):
    with pytest.raises(InputError, match="needs timestamps"):
        way(from_pairs([(0, 0), (0, 1)]))


@pytest.mark.parametrize(("valid", "test"), [(-0.1, 0.2), (0.5, 0.5), (0.1, float("nan"))])
def test_impossible_fractions_are_refused(valid, test):
    with pytest.raises(InputError, match="fractions"):
        random_split(from_pairs([(0, 0)]), seed=0, valid=valid, test=test)
