"""`Interactions` from frames and matrices."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from c2f_dgl.data.interactions import Entries, Interactions
from c2f_dgl.errors import InputError

ROWS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.integers(0, 9), st.integers(-5, 5), st.integers(1, 5)), min_size=1
)


@settings(max_examples=200)
@given(rows=ROWS)
def test_from_frame_agrees_with_a_dict(rows):
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "stars"])
    inter = Interactions.from_frame(frame, timestamp="time")
    latest: dict[tuple[str, int], int] = {}
    for user, item, time, _ in rows:
        latest[user, item] = max(time, latest.get((user, item), time))
    found = zip(inter.user_ids[inter.users], inter.item_ids[inter.items], inter.timestamps, strict=True)
    assert {(user, item): time for user, item, time in found} == latest
    assert len(inter) == len(latest)
    assert inter.to_csr().sum() == len(latest)
    # Numbering goes by id, not by row, so that a shuffled log gives the same data.
    shuffled = Interactions.from_frame(frame.iloc[::-1], timestamp="time")
    assert np.array_equal(shuffled.users, inter.users) and np.array_equal(shuffled.items, inter.items)


@settings(max_examples=200)
@given(rows=ROWS, threshold=st.integers(1, 5))
def test_rating_threshold(rows, threshold):
    frame = pd.DataFrame(rows, columns=["user", "item", "time", "stars"])
    kept = {(user, item) for user, item, _, stars in rows if stars >= threshold}
    if not kept:
        with pytest.raises(InputError, match="no interactions left"):
            Interactions.from_frame(frame, rating="stars", min_rating=threshold)
        return
    inter = Interactions.from_frame(frame, rating="stars", min_rating=threshold)
    assert set(zip(inter.user_ids[inter.users], inter.item_ids[inter.items], strict=True)) == kept
    assert inter.user_ids.tolist() == sorted({user for user, _ in kept})


def test_csr_is_binary_float32_with_sorted_indices():
    inter = Interactions.from_frame(pd.DataFrame({"user": [1, 0, 1, 1], "item": [5, 5, 2, 5]}))
    matrix = inter.to_csr()
    assert isinstance(matrix, csr_matrix)
    assert matrix.dtype == np.float32
    assert matrix.has_sorted_indices
    assert matrix.toarray().tolist() == [[0, 1], [1, 1]]
    assert (inter.n_users, inter.n_items, len(inter)) == (2, 2, 3)


@pytest.mark.parametrize(
    ("users", "message"),
    [
        ([1.0, np.nan], "row 1: the user is missing"),
        ([1.0, 2.5], r"row 1: user id 2\.5 is not an exact whole number"),
        ([1.0, np.inf], "row 1: user id inf is not an exact whole number"),
        ([1.0, 2.0**53 + 2], "row 1: user id 9007199254740994.0 is not an exact whole number"),
        ([3, -1], "row 1: user id -1 is negative"),
        (["a", None], "row 1: the user is missing"),
        (np.array([1, 2**63], dtype=np.uint64), "row 1: user id 9223372036854775808 is too large"),
    ],
)
def test_bad_ids_are_refused(users, message):
    with pytest.raises(InputError, match=f"data frame: {message}"):
        Interactions.from_frame(pd.DataFrame({"user": users, "item": [1, 2]}))


def test_ids_keep_their_kind():
    mixed = Interactions.from_frame(pd.DataFrame({"user": [1, "x"], "item": ["30", "4"]}))
    assert mixed.user_ids.tolist() == ["1", "x"]
    assert mixed.item_ids.tolist() == [4, 30]
    text = Interactions.from_frame(pd.DataFrame({"user": ["01", "1", "123456789012345678901"], "item": [0, 0, 0]}))
    assert text.user_ids.tolist() == ["01", "1", "123456789012345678901"]


def test_from_csr_keeps_isolated_nodes():
    dense = np.array([[0, 2, 0], [0, 0, 0], [1, 0, 0]])
    matrix = csr_matrix(dense)
    matrix.data[0] = 0  # a stored zero is no interaction
    inter = Interactions.from_csr(matrix)
    assert inter.to_csr().toarray().tolist() == [[0, 0, 0], [0, 0, 0], [1, 0, 0]]
    assert inter.user_ids.tolist() == inter.item_ids.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("matrix", "message"),
    [
        (csr_matrix([[1.0, np.nan]]), r"entry \(0, 1\) is nan"),
        (csr_matrix([[1.0, -2.0]]), r"entry \(0, 1\) is -2"),
        (csr_matrix((3, 4)), "no interactions"),
        (np.ones((2, 2)), "ndarray is not a sparse matrix"),
    ],
)
def test_bad_matrices_are_refused(matrix, message):
    with pytest.raises(InputError, match=message):
        Interactions.from_csr(matrix)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.sampled_from([0.0, 0.3, 1.0]))
def test_entries_are_those_of_the_dense_matrix(seed: int, n: int, m: int, density: float) -> None:
    dense = np.random.default_rng(seed).random((n, m)) < density
    entries = Entries(csr_matrix(dense))
    rows, columns = np.indices((n, m))
    np.testing.assert_array_equal(entries.hold(entries.key(rows, columns)), dense)
