"""External ids and their rows."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.data.ids import IdMap, as_text, id_array, is_missing
from c2f_dgl.errors import InputError

TEXTS = st.text(min_size=1, max_size=4)


@given(st.lists(st.one_of(TEXTS, st.integers(-99, 99).map(str)), unique=True, min_size=1), st.lists(TEXTS))
def test_text_is_found_as_a_dict_finds_it(known: list[str], asked: list[str]) -> None:
    rows = {name: row for row, name in enumerate(known)}
    ids = IdMap(id_array(known), "user")
    assert ids.find([*known, *asked]).tolist() == [rows.get(name, -1) for name in (*known, *asked)]


@given(st.lists(st.integers(-(10**6), 10**6), unique=True, min_size=1), st.lists(st.integers(-9, 9)))
def test_numbers_are_found_as_numbers_and_as_text(known: list[int], asked: list[int]) -> None:
    rows = {number: row for row, number in enumerate(known)}
    ids, wanted = IdMap(np.array(known), "item"), [*known, *asked]
    expected = [rows.get(number, -1) for number in wanted]
    assert ids.find(wanted).tolist() == expected
    assert ids.find([*map(str, wanted), "x", "07"]).tolist() == [*expected, -1, -1]


def test_a_number_beyond_int64_is_nobody_else() -> None:
    ids = IdMap(np.array([-5, 2**63 - 1]), "user")
    assert ids.find([2**64 - 5]).tolist() == ids.find(np.array([2**64 - 5], dtype=np.uint64)).tolist() == [-1]
    assert ids.find([2**63 - 1, 10**30, -5]).tolist() == [1, -1, 0]
    large = np.array([2**63, 2**64 - 5, 7], dtype=np.uint64)
    assert IdMap(large, "user").find(large).tolist() == [0, 1, 2]


def test_a_whole_float_is_found_beside_others() -> None:
    ids = IdMap(np.array([3, 7]), "user")
    assert ids.find(np.array([7.0, 2.5, np.nan, np.inf, 3.0])).tolist() == [1, -1, -1, -1, 0]
    assert ids.normalised([8.0, 9.0]).tolist() == [8, 9] and ids.normalised([8.0, 2.5]) is None


def test_one_long_id_does_not_make_all_of_them_long() -> None:
    ids: list[Any] = [*range(2_000), "x" * 30_000]
    tracemalloc.start()
    found = IdMap(id_array(ids), "user").find(ids)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.tolist() == list(range(2_001))
    assert peak < 2**21  # as numpy's own text they would take 240 MB


def test_bytes_are_text_and_what_is_no_id_is_seen() -> None:
    assert as_text(np.array([b"a", "b", 3], dtype=object)).tolist() == ["a", "b", "3"]
    assert is_missing(np.array(["nan", "", None, np.nan, 0], dtype=object)).tolist() == [False, True, True, True, False]


def test_an_unknown_id_is_named_with_where_it_comes_from() -> None:
    with pytest.raises(InputError, match=r"--user: no user 'anna' \(expected e.g. hanna\)"):
        IdMap(np.array(["hanna", "otto"], dtype=object), "user").rows(["otto", "anna"], where="--user")
