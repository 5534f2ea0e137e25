"""`C2FRecommender` as people use scikit-learn and `implicit`."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV

from c2f_dgl import C2FRecommender, load_dataset, ndcg_scorer
from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError

SMALL = {
    "coarse.m": 12,
    "coarse.training.fixed_epochs": 1,
    "finer": {},
}


@pytest.fixture(scope="module")
def split() -> Split:
    return load_dataset("planted")


@pytest.fixture(scope="module")
def frame(split: Split) -> pd.DataFrame:
    """Some of the planted users under ids of text."""
    pairs = split.train[:200].tocoo()
    users = np.char.add("user-", split.user_ids[pairs.row].astype(str))
    return pd.DataFrame({"user": users, "item": split.item_ids[pairs.col]})


@pytest.fixture(scope="module")
def fitted(frame: pd.DataFrame) -> C2FRecommender:
    return C2FRecommender(options=SMALL).fit(frame)


def test_ids_go_in_and_come_out(fitted: C2FRecommender, frame: pd.DataFrame) -> None:
    items, scores = fitted.recommend(["user-3", "user-7"], k=5)
    assert items.shape == scores.shape == (2, 5)
    for user, found in zip(["user-3", "user-7"], items, strict=True):
        seen = set(frame.item[frame.user == user])
        assert seen and not seen & set(found), "also what was held out to validate counts as seen"
    listed = fitted.recommend(["user-3", "user-7"], k=5, frame=True)
    np.testing.assert_array_equal(listed.item.to_numpy().reshape(2, 5), items)
    np.testing.assert_allclose(fitted.score("user-3", items[0]), scores[0])
    pairs = fitted.score([["user-7"], ["user-3"]], items[0])
    np.testing.assert_allclose(pairs[1], scores[0])
    assert pairs.shape == (2, 5)
    explained = fitted.explain("user-3", items[0, 0])
    assert explained.score == pytest.approx(float(scores[0, 0]), rel=1e-5)
    assert fitted.similar_items(items[0, 0], 3)[0].shape == (3,)
    assert [stage["test"] for stage in fitted.summary_["stages"].values()] == [{}], "nothing was held out to test"


def test_it_learns(split: Split) -> None:
    """On the planted communities ranking by the model finds several times what popularity finds."""
    model = C2FRecommender(options=SMALL).fit(split)
    test = split.test.tocoo()
    found = model.evaluate((split.user_ids[test.row], split.item_ids[test.col]))["ndcg@20"]
    assert found == pytest.approx(model.summary_["stages"]["coarse"]["test"]["ndcg@20"], abs=2e-3)
    assert found > 0.2


def test_what_was_held_out_is_part_of_the_histories(split: Split) -> None:
    everything, test = (split.train + split.valid).tocoo(), split.test.tocoo()
    held_out = split.user_ids[test.row], split.item_ids[test.col]
    options = {**SMALL, "coarse.m": 40}
    from_train = C2FRecommender(options=options).fit(split).evaluate(held_out)["ndcg@20"]
    model = C2FRecommender(options=options).fit((split.user_ids[everything.row], split.item_ids[everything.col]))
    assert model.users_.histories.pointers[-1] == everything.nnz
    assert model.evaluate(held_out)["ndcg@20"] > 0.97 * from_train


def test_every_form_of_interactions_is_held_out_the_same(split: Split) -> None:
    matrix = split.train[:150]
    pairs = matrix.tocoo()
    forms: list[Any] = [
        matrix,
        Interactions.from_csr(matrix),
        (pairs.row, pairs.col),
        np.stack([pairs.row, pairs.col], axis=1),
        pd.DataFrame({"user": pairs.row, "item": pairs.col}),
    ]
    # A matrix keeps items without interactions; the others do not know them.
    found = [C2FRecommender()._held_out(form) for form in forms]
    assert found[0].fingerprint == found[1].fingerprint
    assert found[2].fingerprint == found[3].fingerprint == found[4].fingerprint
    assert all(some.valid.nnz for some in found)


def test_columns_of_a_frame_are_known_by_the_names_of_files(fitted: C2FRecommender, frame: pd.DataFrame) -> None:
    log = frame.rename(columns={"user": "customerId", "item": "movieId"}).assign(quantity=1)[
        ["quantity", "movieId", "customerId"]
    ]
    again = C2FRecommender(options=SMALL).fit(log)
    np.testing.assert_array_equal(again.recommend(["user-3"])[0], fitted.recommend(["user-3"])[0])
    again.fold_in(pd.DataFrame({"uid": ["new"], "asin": frame.item[:1]}))
    # The plain names win, whatever stands before them.
    again.fold_in(pd.DataFrame({"User": [1], "movieId": [2], "user": ["newer"], "item": frame.item[:1]}))
    assert again.users_.ids.find(["new", "newer"]).min() >= 0
    with pytest.raises(InputError, match=r"no column 'item' .expected columns user and item"):
        C2FRecommender(options=SMALL).fit(log.rename(columns={"movieId": "thing"}))


def test_ten_pairs_are_enough(caplog: pytest.LogCaptureFixture) -> None:
    pairs = [f"user-{n}" for n in range(10)], [f"item-{n}" for n in range(10)]
    model = C2FRecommender().fit(pairs)
    assert "valid, 1, drawn from all interactions, as each user's share came to none" in caplog.text
    assert model.users_.histories.pointers[-1] == 10, "what was held out is served, too"
    items, _ = model.recommend(pairs[0], k=9)
    assert not any(own in found for own, found in zip(pairs[1], items, strict=True))


def test_ratings_of_a_frame_are_told_of(caplog: pytest.LogCaptureFixture) -> None:
    frame = pd.DataFrame({"user": range(9), "item": range(9), "stars": [-1, 0, 1] * 3})
    C2FRecommender()._held_out(frame)
    assert "ratings in column stars (-1 to 1) not used, every row counts, the 6 rated 0 or less too" in caplog.text
    caplog.clear()
    C2FRecommender()._held_out(frame.drop(columns="stars"))
    assert "ratings" not in caplog.text


@pytest.mark.parametrize(
    ("n", "validation", "held_out"), [(2, 0.1, 1), (3, 0.99, 2), (10, 0.3, 3), (10**5, 0.1, 10**4)]
)
def test_where_no_user_can_spare_an_interaction_some_users_are_held_out(
    n: int, validation: float, held_out: int
) -> None:
    pairs = np.arange(n), np.arange(n) % 997
    split = C2FRecommender(validation=validation)._held_out(pairs)
    assert (split.valid.nnz, split.train.nnz) == (held_out, n - held_out)
    assert split.valid.multiply(split.train).nnz == 0
    np.testing.assert_array_equal((split.train + split.valid).nonzero(), pairs)
    assert f"valid, {held_out:,}, drawn from all interactions" in split.summary()
    assert split.fingerprint == C2FRecommender(validation=validation)._held_out(pairs).fingerprint
    if n > 3:
        assert split.fingerprint != C2FRecommender(validation=validation, seed=1)._held_out(pairs).fingerprint


def test_folding_in(fitted: C2FRecommender, frame: pd.DataFrame) -> None:
    """A user is a history: folding one in stores it, and scores are those of the history."""
    model = pickle.loads(pickle.dumps(fitted))
    items = frame.item.unique()[:4]
    assert model.fold_in({"new": items}) is model
    np.testing.assert_array_equal(model.recommend("new", 5)[0], model.serving_.recommend(items, 5)[0])
    assert model.partial_fit(pd.DataFrame({"user": ["new", "newer"], "item": frame.item.unique()[4:6]})) is model
    assert len(model.users_) == len(fitted.users_) + 2
    assert len(model.users_.of(["new"]).columns) == 5
    with pytest.raises(InputError, match="user 'new' is known"):
        model.fold_in({"new": items})
    with pytest.raises(InputError, match="user 'none' has no items"):
        model.fold_in({"none": []})
    for change in (model.fold_in, model.partial_fit):
        with pytest.raises(InputError, match="no item 1000000"):
            change({"newest": [10**6]})
    assert "newest" not in model.users_.ids.ids


def test_save_and_load(fitted: C2FRecommender, frame: pd.DataFrame, tmp_path: Path) -> None:
    sizes = fitted.save(tmp_path / "model.c2f", users=tmp_path / "users.c2f")
    assert sum(sizes.values()) == (tmp_path / "model.c2f").stat().st_size
    again = C2FRecommender.load(tmp_path / "model.c2f", users=tmp_path / "users.c2f", seed=7)
    for found, wanted in zip(again.recommend(["user-3"], 5), fitted.recommend(["user-3"], 5), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert again.get_params()["seed"] == 7
    alone = C2FRecommender.load(tmp_path / "model.c2f")
    history = frame.item[frame.user == "user-3"]
    np.testing.assert_array_equal(
        alone.fold_in({1: history}).recommend(1, 5)[0], fitted.serving_.recommend(history, 5)[0]
    )
    with pytest.raises(InputError, match="codes are made from what was trained"):
        again.save(tmp_path / "coded.c2f", bytes=30_000)
    sizes = fitted.save(tmp_path / "coded.c2f", bytes=30_000)
    assert sum(sizes.values()) - sizes["ids"] <= 30_000
    assert C2FRecommender.load(tmp_path / "coded.c2f").fold_in({1: history}).recommend(1, 5)[0].shape == (5,)


def test_it_is_an_estimator(fitted: C2FRecommender) -> None:
    copy = clone(fitted)
    assert copy.get_params()["options"] == SMALL and not hasattr(copy, "serving_")
    for call in (
        lambda: copy.recommend("x"),
        lambda: copy.score("x", 1),
        lambda: copy.explain("x", 1),
        lambda: copy.fold_in({}),
        lambda: copy.evaluate(([], [])),
        lambda: copy.save("x"),
    ):
        with pytest.raises(NotFittedError):
            call()
    again = pickle.loads(pickle.dumps(fitted))
    for found, wanted in zip(again.recommend(["user-3"], 5), fitted.recommend(["user-3"], 5), strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert "preset" in repr(copy.set_params(preset="paper"))


def test_grid_search(frame: pd.DataFrame) -> None:
    grid = {"coarse__m": [12, 2]}
    search = GridSearchCV(C2FRecommender(options=SMALL), grid, scoring=ndcg_scorer, cv=2, error_score="raise")
    search.fit(frame.sample(frac=1.0, random_state=0))
    figures = search.cv_results_["mean_test_score"]
    assert (figures > 0).all() and figures[0] != figures[1]
    assert search.best_estimator_.get_params()["coarse__m"] == search.best_params_["coarse__m"]
    assert SMALL["coarse.m"] == 12, "the options that were given are not changed"
    assert search.best_estimator_.recommend("user-3", 3)[0].shape == (3,)


def test_callbacks_hear_of_every_epoch(frame: pd.DataFrame, tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    C2FRecommender(options=SMALL, callbacks=[heard.append], run=tmp_path / "run").fit(frame)
    assert [record["epoch"] for record in heard] == [0, 1], "the validated start, then an epoch"
    assert heard[1]["stage"] == "coarse" and "ndcg@20" in heard[1]["valid"]
    assert (tmp_path / "run" / "summary.json").is_file()


@pytest.mark.parametrize(
    ("parameters", "data", "word"),
    [
        ({"validation": 0}, ([1, 2], [1, 2]), "validation"),
        ({"preset": "swift"}, ([1, 2], [1, 2]), "swift"),
        ({"options": {"coarse.clusters": 3}}, ([1, 2], [1, 2]), "coarse.clusters"),
        ({}, ([1, 2], [1]), "one item for each user"),
        ({}, ([1], [1]), "1 interaction: none can be held out to validate on"),
        ({}, pd.DataFrame({"who": [1]}), "'user'"),
    ],
)
def test_what_cannot_be_used_is_refused(parameters: dict[str, Any], data: Any, word: str) -> None:
    with pytest.raises(InputError, match=word):
        C2FRecommender(**parameters).fit(data)


def test_the_guide_runs_as_it_stands(frame: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    guide = (Path(__file__).parents[1] / "docs" / "serving.md").read_text()
    code = re.search(r"## As an estimator\n\n```python\n(.*?)```", guide, flags=re.DOTALL)
    assert code is not None
    monkeypatch.chdir(tmp_path)
    shop = pd.DataFrame(
        {"user": frame.user.replace({"user-3": "ann", "user-7": "bob"}), "item": "item-" + frame.item.astype(str)}
    )
    names: dict[str, Any] = {"frame": shop, "shelf": [f"item-{n}" for n in shop.item.str[5:].astype(int).unique()[:50]]}
    exec(code[1], names)
    assert names["items"].shape == (2, 10)
    assert "cara" in names["model"].users_.ids.ids
    assert (tmp_path / "model.c2f").stat().st_size < 10**6
