"""Windows of time and groups of users are what they say; leaving k out; the folders that the command writes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from c2f_dgl.data import Interactions, leave_k_out, leave_last_out, load_dataset, rolling_splits, user_folds
from c2f_dgl.errors import InputError
from tests.command import c2f


def log(seed: int, n_times: int, n_users: int = 12, n_items: int = 15) -> Interactions:
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((n_users, n_items)) < 0.5)
    ids = np.arange(n_users) + 100, np.arange(n_items)
    return Interactions.from_pairs(users, items, *ids, rng.integers(0, n_times, len(users)))


@given(st.integers(0, 10_000), st.integers(2, 4), st.sampled_from([0.05, 0.1, 0.15]), st.sampled_from([40, 10**6]))
def test_windows_roll_through_time(seed: int, folds: int, share: float, n_times: int) -> None:
    inter = log(seed, n_times)
    splits = rolling_splits(inter, folds, valid=share, test=share)
    times = np.full((inter.n_users, inter.n_items), -1.0)
    times[inter.users, inter.items] = inter.timestamps
    ordered, end = np.sort(inter.timestamps), -np.inf
    tested = np.zeros(times.shape)
    for number, split in enumerate(splits):
        train, valid, test = (times[part.toarray() > 0] for part in (split.train, split.valid, split.test))
        assert train.max() < test.min() and end < test.min()
        assert not len(valid) or (train.max() < valid.min() and valid.max() < test.min())
        end = test.max()
        tested += split.test.toarray()
        known = split.train + split.valid + split.test
        assert known.nnz == (inter.timestamps <= end).sum() == known.max() * known.nnz
        if n_times > 40:  # few are of the same moment
            assert abs(test.size - share * len(inter)) <= 2 and abs(valid.size - share * len(inter)) <= 2
        assert split.name.endswith(f"{number + 1} of {folds}")
    assert end == ordered[-1] and tested.max() == 1


def test_windows_that_cannot_be_are_refused() -> None:
    inter = log(0, 10**6)
    alike = replace(inter, timestamps=np.maximum(inter.timestamps, np.quantile(inter.timestamps, 0.92)))
    with pytest.raises(InputError, match=r"nothing is left to train on in fold 1 of 2"):
        rolling_splits(alike, 2, test=0.02)
    with pytest.raises(InputError, match=r"nothing is left to test on in fold 1 of 4"):
        rolling_splits(log(0, 3), 4)
    with pytest.raises(InputError, match=r"nothing is left to test on in fold 1 of 3"):
        rolling_splits(inter, 3, test=0.0)  # windows of no interaction
    with pytest.raises(InputError, match="leave nothing to train on"):
        rolling_splits(log(0, 100), 9)
    with pytest.raises(InputError, match="1 folds"):
        rolling_splits(log(0, 100), 1)
    with pytest.raises(InputError, match="needs timestamps"):
        rolling_splits(Interactions.from_csr(csr_matrix(np.eye(30))), 2)


@given(st.integers(0, 10_000), st.integers(2, 6))
def test_every_user_is_new_once(seed: int, folds: int) -> None:
    inter = log(seed, 5)
    pairs, whole = user_folds(inter, folds, seed=seed), inter.to_csr().toarray()
    new_ids = [new.user_ids for _, new in pairs]
    assert sorted(np.concatenate(new_ids)) == inter.user_ids.tolist()
    assert max(map(len, new_ids)) - min(map(len, new_ids)) <= 1
    for known, new in pairs:
        assert not set(known.user_ids) & set(new.user_ids) and len(known.user_ids) + len(new.user_ids) == 12
        for split in (known, new):
            parts = (split.train + split.valid + split.test).toarray()
            np.testing.assert_array_equal(parts, whole[np.searchsorted(inter.user_ids, split.user_ids)])
            np.testing.assert_array_equal(split.item_ids, inter.item_ids)
    with pytest.raises(InputError, match="13 folds of 12 users"):
        user_folds(inter, 13, seed=0)


@given(st.integers(0, 10_000), st.integers(1, 5))
def test_k_items_are_left_out(seed: int, k: int) -> None:
    inter = log(seed, 6)
    for split in (leave_k_out(inter, k=k, seed=seed), leave_last_out(inter, k=k)):
        np.testing.assert_array_equal((split.train + split.valid + split.test).toarray(), inter.to_csr().toarray())
        n = inter.to_csr().getnnz(axis=1)
        np.testing.assert_array_equal(split.test.getnnz(axis=1), np.minimum(k, np.maximum(n - 1, 0)))
        np.testing.assert_array_equal(split.valid.getnnz(axis=1), np.clip(n - 1 - k, 0, k))
    times = np.full((inter.n_users, inter.n_items), np.nan)
    times[inter.users, inter.items] = inter.timestamps
    for user in np.flatnonzero(split.valid.getnnz(axis=1)):  # of leave_last_out
        train, valid, test = (times[user, part[user].indices] for part in (split.train, split.valid, split.test))
        assert train.max() <= valid.min() and valid.max() <= test.min()
    for wrong in (leave_k_out, leave_last_out):
        with pytest.raises(InputError, match="k = 0"):
            wrong(inter, k=0, **({"seed": 0} if wrong is leave_k_out else {}))


def test_another_seed_leaves_out_others() -> None:
    one, same, other = (leave_k_out(log(0, 5), k=2, seed=seed).fingerprint for seed in (0, 0, 1))
    assert one == same != other


def test_the_command_writes_a_folder_for_each_fold(tmp_path: Path) -> None:
    inter = log(0, 10**6, 60, 40)
    table = {"user": inter.users, "item": inter.items, "timestamp": inter.timestamps}
    pd.DataFrame(table).to_csv(tmp_path / "log.csv", index=False)
    for how, folds, names in (("rolling", 2, ("1", "2")), ("users", 3, ("1", "1/new", "2", "2/new", "3", "3/new"))):
        out = tmp_path / how
        done = c2f("data", "split", tmp_path / "log.csv", "--out", out, "--how", how, "--folds", folds)
        assert done.returncode == 0 and len(done.stdout.splitlines()) == len(names), done.stderr
        assert {str(file.parent.relative_to(out)) for file in out.rglob("train.tsv")} == set(names)
        for name in names:
            assert load_dataset(out / name).notes == ()  # all three parts have files
    last = load_dataset(tmp_path / "rolling" / "2")
    assert last.test.nnz == rolling_splits(inter, 2)[1].test.nnz
    done = c2f("data", "split", tmp_path / "log.csv", "--out", tmp_path / "k", "--how", "leave-out", "--k", "3")
    assert done.returncode == 0 and load_dataset(tmp_path / "k").test.nnz == 180
    for wrong, expected in (
        (("--how", "random", "--folds", "3"), "--folds: random takes none (expected --how rolling or users)"),
        (("--how", "users", "--k", "3"), "--k: users takes none (expected --how leave-last or leave-out)"),
        (("--how", "users", "--folds", "61"), "61 folds of 60 users"),
    ):
        done = c2f("data", "split", tmp_path / "log.csv", "--out", tmp_path / "none", *wrong)
        assert done.returncode == 2 and expected in done.stderr and not (tmp_path / "none").exists()
