"""`ServingModel`: ids in and out, ranking, neighbours, folding in."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.errors import InputError
from c2f_dgl.serving import IdMap, ServingModel
from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.propagate import first_basis, whitening
from c2f_dgl.serving.ranking import top_columns
from tests.serving.made import made, seen_of


def test_serving_needs_neither_torch_nor_dgl() -> None:
    code = """
import sys
for name in ("torch", "dgl", "scipy", "pandas", "sklearn"):
    sys.modules[name] = None
import numpy as np
import c2f_dgl
from c2f_dgl.serving import Csr, Learned, LearnedTier, ServingModel
tier = LearnedTier("coarse", np.eye(2), {"user": np.zeros((3, 0), int), "item": np.array([[0], [1]])},
                   {"user": np.zeros((3, 0)), "item": np.ones((2, 1))})
pairs = Csr.from_pairs(np.array([0, 1]), np.array([0, 1]), (3, 2))
model = c2f_dgl.ServingModel(Learned((tier,), (0.5, 0.5)), pairs, np.arange(3), np.array(["a", "b"]))
print(model.recommend(0, 1)[0][0], model.fold_in({7: ["b"]}).recommend(7, 1)[0][0])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.split() == ["b", "a"], done.stderr


@given(st.integers(0, 2**32 - 1), st.integers(1, 12), st.integers(1, 4))
def test_top_columns_is_a_stable_sort(seed: int, k: int, levels: int) -> None:
    scores = np.random.default_rng(seed).integers(0, levels, (5, 12)).astype(np.float32)
    scores[0, :6] = -np.inf
    columns, values = top_columns(scores, k)
    wanted = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    np.testing.assert_array_equal(columns, wanted)
    np.testing.assert_array_equal(values, np.take_along_axis(scores, wanted, axis=1))


@given(st.integers(0, 2**32 - 1))
def test_csr_agrees_with_sets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    dense = rng.random((7, 5)) < 0.4
    rows, columns = np.nonzero(dense)
    matrix = Csr.from_pairs(np.append(rows, rows[:1]), np.append(columns, columns[:1]), (7, 5))
    some = rng.integers(0, 7, 4)
    for found, wanted in [(matrix, dense), (matrix.transposed, dense.T), (matrix.take(some), dense[some])]:
        again = np.zeros(wanted.shape, dtype=bool)
        again[found.rows, found.columns] = True
        np.testing.assert_array_equal(again, wanted)
        assert len(found.columns) == wanted.sum()


@pytest.mark.parametrize("text", [False, True])
def test_recommend_ranks_unseen_items_by_score(text: bool) -> None:
    model = made(text=text)
    items, scores = model.recommend(model.users.ids, 20)
    for user in range(model.n_users):
        seen = seen_of(model, user)
        unseen = [item for item in range(model.n_items) if item not in seen]
        all_scores = model.score(np.full(len(unseen), user), model.items.ids[unseen])
        wanted = [unseen[place] for place in np.argsort(-all_scores, kind="stable")]
        found = items[user, : len(unseen)]
        np.testing.assert_allclose(
            scores[user, : len(unseen)], model.score(np.full(len(unseen), user), found), rtol=1e-5, atol=1e-6
        )
        assert set(found) == set(model.items.ids[wanted])
        assert (np.diff(scores[user, : len(unseen)]) <= 0).all()
        assert (scores[user, len(unseen) :] == -np.inf).all()
        assert set(items[user, len(unseen) :].tolist()) <= {None if text else -1}
    one, one_scores = model.recommend(3, 4)
    assert one.shape == one_scores.shape == (4,)
    np.testing.assert_array_equal(one, items[3, :4])
    everything, _ = model.recommend(3, 50, exclude_seen=False)
    assert set(everything) == set(model.items.ids)
    few, _ = model.recommend([3, 4], 5, exclude_seen=False, candidates=model.items.ids[[7, 2, 7]])
    assert few.shape == (2, 2) and set(few.ravel()) == set(model.items.ids[[2, 7]])


def test_frames() -> None:
    model = made()
    frame = model.recommend_frame([4, 2], 20)
    assert list(frame.columns) == ["user", "item", "rank", "score"]
    items, scores = model.recommend(2, 20)
    of_two = frame[frame.user == 2]
    np.testing.assert_array_equal(of_two.item, items[scores > -np.inf])
    np.testing.assert_array_equal(of_two["rank"], np.arange(len(of_two)) + 1)
    explained = model.explain(2, 101)
    assert list(explained.to_frame().columns) == ["kind", "id", "contribution", "coarse", "fine"]
    total = explained.groups_frame("coarse").contribution.sum() + explained.ungrouped["coarse"]
    assert total == pytest.approx(explained.score)


def test_similar_is_by_cosine_and_without_itself() -> None:
    model = made(t_user=2)
    for vectors, ids, similar in [
        (model.embeddings.items, model.items.ids, model.similar_items),
        (model.embeddings.users, model.users.ids, model.similar_users),
    ]:
        lengths = np.maximum(np.linalg.norm(vectors, axis=1), 1e-30)
        cosines = (vectors / lengths[:, None]) @ (vectors / lengths[:, None]).T
        found, values = similar(ids, 3)
        for row in range(len(ids)):
            others = np.delete(cosines[row], row)
            np.testing.assert_allclose(values[row], np.sort(others)[::-1][:3], atol=1e-5)
            assert ids[row] not in found[row]


@pytest.mark.parametrize("t_user", [0, 2])
def test_a_session_ranks_as_the_user_it_would_be(t_user: int) -> None:
    model = made(t_user=t_user)
    histories = [[100, 103, 107], [111]]
    folded = model.fold_in({1000: histories[0], 1001: histories[1]})
    for found, wanted in zip(model.recommend_history(histories, 5), folded.recommend([1000, 1001], 5), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert model.n_users == 30 and folded.n_users == 32 and folded.extended
    explained = folded.explain(1000, 105)
    assert explained.score == pytest.approx(float(folded.score(1000, 105)), rel=1e-5, abs=1e-6)
    assert set(explained.ids[explained.kinds == "item"]) == set(histories[0])
    if t_user:
        weights = folded.learned.tiers[0].weights["user"]
        assert weights[30:].sum(axis=1) == pytest.approx(np.full(2, weights[:30].sum(axis=1).mean()), rel=1e-5)


def test_a_user_without_an_assignment_folds_in_exactly() -> None:
    """With t_user = 0 a user is the sum over the items: the same history gives the same embedding."""
    model = made()
    user = 3
    history = model.items.ids[sorted(seen_of(model, user))]
    folded = model.fold_in({99: history})
    np.testing.assert_allclose(folded.embeddings.users[-1], model.embeddings.users[user], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("t_user", [0, 2])
def test_partial_fit_adds_and_extends(t_user: int) -> None:
    model = made(t_user=t_user)
    history = seen_of(model, 5)
    fresh = next(item for item in range(19) if item not in history)
    new = model.partial_fit([5, 5, 200, 5], [100 + fresh, 900, 101, 100 + min(history)])
    assert (new.n_users, new.n_items) == (31, 21)
    assert seen_of(new, 5) == {*history, fresh, 20}
    assert 100 + fresh not in new.recommend(5, 21)[0]
    untouched = np.arange(30) != 5
    np.testing.assert_array_equal(new.embeddings.users[:30][untouched], model.embeddings.users[untouched])
    assert not np.array_equal(new.embeddings.users[5], model.embeddings.users[5])
    assert new.embeddings.items[20].any(), "an item gets an embedding from its users"
    explained = new.explain(5, 101)
    assert explained.score == pytest.approx(float(new.score(5, 101)), rel=1e-5, abs=1e-6)
    np.testing.assert_array_equal(model.partial_fit([5], [100 + min(history)]).embeddings.users, model.embeddings.users)
    again = new.refreshed()
    assert again.n_items == 21 and not again.extended
    assert again.embeddings.items[20].any()


def test_a_whitened_model_grows_as_the_plain_one_does() -> None:
    """T is kept and W rebuilt on the larger graph: nearly, not exactly, what E gives there."""
    model = made(m=5, d=5)
    first = model.learned.tiers[0]
    inverse = np.linalg.inv(whitening(first_basis(model.learned, model.interactions)))
    tiers = (replace(first, codebook=inverse @ first.codebook, whitened=True), *model.learned.tiers[1:])
    learned = replace(model.learned, tiers=tiers)
    whitened = ServingModel(learned, model.interactions, model.users.ids, model.items.ids)
    np.testing.assert_allclose(whitened.embeddings.items, model.embeddings.items, atol=1e-5)
    more = np.repeat([3, 200], 4), np.array([101, 105, 109, 900, 102, 106, 110, 900])
    grown, wanted = (some.partial_fit(*more).refreshed().embeddings for some in (whitened, model))
    scores = [(some.users @ some.items.T).ravel() for some in (grown, wanted)]
    assert np.corrcoef(*scores)[0, 1] > 0.99


def test_a_user_without_history_is_explained_by_nothing() -> None:
    for t_user in (0, 2):
        model = made(t_user=t_user)
        why = model.explain(29, 101)
        assert "item" not in why.kinds
        np.testing.assert_allclose(why.contributions.sum(), model.score(29, 101), atol=1e-6)


def test_whole_numbers_find_their_ids_whatever_their_type() -> None:
    ids = IdMap(np.array([3, 7, 2**53 - 1]), "user")
    for values in ([3, 7], [3.0, 7.0], ["3", "7"], np.array([3, 7], dtype=np.float32), pd.Series([3.0, 7.0])):
        assert ids.find(values).tolist() == [0, 1]
    for values in ([3.5], [np.nan], [np.inf], [2.0**53], ["3.0"], [-7.0]):
        assert ids.find(values).tolist() == [-1]


def test_pairs_in_every_form_are_the_same() -> None:
    model = made(text=True)
    forms: list[Any] = [
        {50: ["item-1", "item-2"], 51: ["item-3"]},
        pd.DataFrame({"user": [50, 50, 51], "item": ["item-1", "item-2", "item-3"]}),
        ([50, 50, 51], ["item-1", "item-2", "item-3"]),
    ]
    found = [model.fold_in(form).embeddings.users[-2:] for form in forms]
    for other in found[1:]:
        np.testing.assert_array_equal(found[0], other)
    numbers = made()
    np.testing.assert_array_equal(
        numbers.fold_in(np.array([[50, 101], [51, 102]])).embeddings.users,
        numbers.fold_in({50: [101], 51: [102]}).embeddings.users,
    )


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda model: model.recommend(77), ["no user 77"]),
        (lambda model: model.recommend("x"), ["no user 'x'"]),
        (lambda model: model.recommend(1, 0), ["k = 0"]),
        (lambda model: model.recommend(1, 2.5), ["k = 2.5"]),
        (lambda model: model.recommend(1, candidates=[5]), ["no item 5"]),
        (lambda model: model.recommend(1, candidates=[]), ["no candidates"]),
        (lambda model: model.score([1, 2], 7), ["no item 7"]),
        (lambda model: model.fold_in({1: [100]}), ["1", "known", "partial_fit"]),
        (lambda model: model.fold_in({77: [5]}), ["no item 5"]),
        (lambda model: model.fold_in({77: [], 78: [100]}), ["user 77 has no items"]),
        (lambda model: model.fold_in(np.zeros(3)), ["(3,)", "DataFrame"]),
        (lambda model: model.fold_in(pd.DataFrame({"user": [1]})), ["'item'", "columns user and item"]),
        (lambda model: model.partial_fit([1, 2], [100]), ["(2,)", "(1,)"]),
        (lambda model: model.partial_fit(["x"], [100]), ["new user id", "whole number"]),
        (lambda model: model.partial_fit([-4], [100]), ["new user id", "0 or more"]),
        (lambda model: model.fold_in({77: "12"}), ["history", "'12'", "list of item ids"]),
        (lambda model: model.fold_in({77: 12}), ["history", "12", "list of item ids"]),
        (lambda model: model.recommend_history(["12"]), ["history", "'12'", "list of item ids"]),
        (lambda model: model.fold_in(([77, 78], [100])), ["2 users and 1 items", "one item for each user"]),
        *((lambda model, id=id: model.partial_fit([id], [100]), ["user is missing"]) for id in (None, np.nan, "")),
    ],
)
def test_what_cannot_be_used_is_refused(call: Any, words: list[str]) -> None:
    with pytest.raises(InputError) as caught:
        call(made())
    assert all(word in str(caught.value) for word in words), caught.value
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", [None, np.nan, ""])
def test_a_missing_id_is_no_new_item(missing: Any) -> None:
    with pytest.raises(InputError, match="item is missing"):
        made(text=True).partial_fit(pd.Series([1, 2]), pd.Series(["item-1", missing], dtype=object))


def test_an_item_that_nobody_had_says_nothing_of_who_has_it_now() -> None:
    """Its degree is that of its links alone, next to nothing where a codebook is solved for."""
    model = made()
    learned = replace(model.learned, link_scale=1e-8)
    model = ServingModel(learned, model.interactions, model.users.ids, model.items.ids)
    history = [100, 103, 107]
    alone, beside = (model.fold_in({77: items}) for items in (history, [*history, 119]))
    np.testing.assert_array_equal(alone.embeddings.users[-1], beside.embeddings.users[-1])
    found = beside.explain(77, 105)
    assert found.score == pytest.approx(float(beside.score(77, 105)), rel=1e-5)
    known = model.partial_fit([5], [119]).embeddings.users[5]
    np.testing.assert_allclose(known, model.embeddings.users[5], rtol=1e-5, atol=1e-6)
