"""Codes against the table that they decode to, and the file."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.serving import Csr, ItemCodes, Neighbours, ServingModel, UserHistories
from c2f_dgl.serving.codes import Rows, degree_levels, level_means
from tests.serving.coded import STRUCTURES, coded, dense_scores


@given(st.integers(0, 10**6), st.sampled_from(STRUCTURES), st.booleans(), st.integers(1, 40))
def test_codes_rank_as_the_table_that_they_decode_to(seed: int, structure: str, near: bool, n_items: int) -> None:
    model = coded(seed, structure=structure, near=near, n_items=n_items)
    rng = np.random.default_rng(seed)
    histories = [rng.choice(model.items.ids, rng.integers(0, n_items + 1)).tolist() for _ in range(5)]
    seen = model.histories(histories)
    wanted = dense_scores(model, seen)
    np.testing.assert_allclose(model.scores(seen), wanted, rtol=1e-12, atol=1e-12)
    some = rng.permutation(n_items)[: max(1, n_items // 2)]
    np.testing.assert_allclose(model.scores(seen, some), wanted[:, some], rtol=1e-12, atol=1e-12)
    items, scores = model.recommend_many(histories, n_items)
    for n, history in enumerate(histories):
        left = [row for row in range(n_items) if model.items.ids[row] not in history]
        order = sorted(left, key=lambda row: (-round(wanted[n, row], 9), row))
        found = model.items.find(items[n][scores[n] > -np.inf])
        assert sorted(found.tolist()) == sorted(left)
        np.testing.assert_allclose(wanted[n, found], wanted[n, order], atol=1e-9)


def test_a_row_of_zeros_is_stored_as_zeros() -> None:
    matrix = np.array([[0.0, 0.0], [1.0, -0.5]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = Rows.stored(matrix, "int8")
    np.testing.assert_allclose(rows.take(slice(None)), matrix, atol=1 / 254)
    assert rows.scale is not None and (rows.scale > 0).all()


def test_weights_of_neighbours_are_rounded_to_the_nearest_of_256_squares() -> None:
    weights, rng = Csr.from_counts(np.full(20, 10), np.tile(np.arange(10), 20), 20), np.random.default_rng(0)
    values = rng.random(200)
    near = Neighbours.stored(weights, values, np.ones(1))
    rounded = near.values[near.levels].ravel()
    assert np.abs(np.sqrt(rounded / values.max()) - np.sqrt(values / values.max())).max() <= 0.5001 / 255


@pytest.mark.parametrize("structure", STRUCTURES)
def test_similar_items_are_the_nearest_by_cosine_without_the_item_itself(structure: str) -> None:
    model = coded(3, structure=structure)
    z = model.codes.take(np.arange(model.n_items))
    cosines = (z @ z.T) / np.sqrt(np.outer((z * z).sum(axis=1), (z * z).sum(axis=1)))
    np.fill_diagonal(cosines, -np.inf)
    items, similarities = model.similar_items(model.items.ids, 5)
    np.testing.assert_allclose(similarities, -np.sort(-cosines, axis=1)[:, :5], rtol=1e-9)
    found = model.items.find(items.ravel()).reshape(items.shape)
    np.testing.assert_allclose(np.take_along_axis(cosines, found, axis=1), similarities, rtol=1e-9)
    one, alone = model.similar_items(model.items.ids[4], 1000)
    assert sorted(one) == sorted(np.delete(model.items.ids, 4)) and alone[0] == pytest.approx(similarities[4, 0])


def test_an_item_of_no_length_is_similar_to_nothing() -> None:
    model = coded(structure="table")
    model.codes.levels[0].codebook.values[2] = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, similarities = model.similar_items(model.items.ids, 19)
    assert np.isfinite(similarities).all() and (similarities[2] == 0).all()


@given(st.integers(0, 10**6), st.sampled_from(STRUCTURES), st.booleans())
def test_terms_add_up_to_the_score(seed: int, structure: str, near: bool) -> None:
    model = coded(seed, structure=structure, near=near)
    history = model.items.ids[[3, 7, 2]].tolist()
    found = model.explain(history, model.items.ids[5])
    wanted = model.scores(model.histories([history]))[0, 5]
    assert found.score == pytest.approx(wanted, rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(found.contributions, found.levels.sum(axis=1) + found.neighbours)
    assert set(found.ids.tolist()) == set(history)
    assert list(found.to_frame().columns)[:3] == ["item", "contribution", "level_0"]


@pytest.mark.parametrize("text", [False, True])
@pytest.mark.parametrize("near", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_what_is_written_is_read(tmp_path: Path, structure: str, near: bool, text: bool) -> None:
    model = coded(structure=structure, near=near, text=text)
    sizes = model.save(tmp_path / "model.c2f")
    assert sum(sizes.values()) == (tmp_path / "model.c2f").stat().st_size
    again = ServingModel.load(tmp_path / "model.c2f")
    np.testing.assert_array_equal(again.items.ids, model.items.ids)
    assert again.details == model.details
    assert again.titles is None if model.titles is None else again.titles.tolist() == model.titles.tolist()
    histories = Csr.from_pairs(np.array([0, 0, 1]), np.array([3, 1, 2]), (3, model.n_items))
    np.testing.assert_array_equal(again.scores(histories), model.scores(histories))
    again.save(tmp_path / "again.c2f")
    assert (tmp_path / "again.c2f").read_bytes() == (tmp_path / "model.c2f").read_bytes()


def test_users_are_histories(tmp_path: Path) -> None:
    model = coded(text=True)
    empty = UserHistories.none(model.items)
    users = empty.added({"ann": ["item-3", "item-1"], "bob": ["item-2"]}).added((["ann"], ["item-9"]))
    users.save(tmp_path / "users.c2f")
    again = UserHistories.load(tmp_path / "users.c2f", model.items)
    assert again.ids.ids.tolist() == ["ann", "bob"]
    assert model.items.ids[again.of(["ann"]).columns].tolist() == ["item-3", "item-1", "item-9"]
    with pytest.raises(ValueError, match="other items"):
        UserHistories.load(tmp_path / "users.c2f", coded().items)


def test_histories_may_be_empty_unknown_or_doubled(caplog: pytest.LogCaptureFixture) -> None:
    model = coded()
    wanted = model.recommend([103, 105], 5)
    for history in ([103, 105, 103], [103, 999, 105]):
        found = model.recommend(history, 5)
        np.testing.assert_array_equal(found, wanted)
    assert "1 of 3 items of histories are unknown, and left out: 999" in caplog.text
    items, scores = model.recommend([], 5)
    assert items.tolist() == model.items.ids[:5].tolist() and not scores.any()
    with pytest.raises(ValueError, match="a history is 'ab'"):
        model.recommend_many(["ab"])


@pytest.mark.parametrize("n", [1, 3, 60])
def test_long_histories_are_counted_by_code_and_short_ones_are_not(n: int) -> None:
    model = coded(n_items=400, d=200, structure="residual")
    history = model.histories([model.items.ids[:n].tolist()] * 2)
    weights = np.arange(2.0 * n)
    for level in model.codes.levels:
        wanted = np.add.reduceat(level.take(history.columns) * weights[:, None], [0, n], axis=0)
        np.testing.assert_allclose(level.sums(history, weights), wanted, rtol=1e-12)


def test_items_are_rounded_to_a_byte_of_their_row() -> None:
    matrix = np.random.default_rng(0).normal(size=(50, 8)) * 10.0 ** np.arange(-25, 25)[:, None]
    matrix[7] = 0
    again = Rows.stored(matrix, "int8").take(slice(None))
    assert (np.abs(again - matrix) <= np.abs(matrix).max(axis=1, keepdims=True) / 250).all()
    assert ItemCodes.table(matrix[:5], "float16").take(np.arange(5)).dtype == np.float64


def test_popularity_is_told_by_levels() -> None:
    degrees = np.append(np.arange(30), np.array([5000, 5001, 10_000]))
    levels = degree_levels(degrees)
    assert levels.max() < 256 and len(np.unique(levels)) == levels.max() + 1
    assert len(np.unique(levels[:20])) == 20, "small degrees are told apart"
    assert levels[30] == levels[31] != levels[32], "large ones are not"
    means = level_means(levels, degrees)
    assert means[levels[30]] == 5000.5


def test_neighbours_are_rounded_to_256_levels() -> None:
    weights = Csr.from_pairs(np.array([0, 0, 2]), np.array([1, 2, 0]), (3, 3))
    near = Neighbours.stored(weights, np.array([1.0, 0.5, 0.25]), np.ones(1))
    said = np.zeros((1, 3))
    near.add_scores(Csr.from_pairs(np.array([0, 0]), np.array([1, 2]), (1, 3)), np.zeros(3, dtype=np.uint8), said)
    np.testing.assert_allclose(said, [[1.5, 0, 0]], atol=0.01)
