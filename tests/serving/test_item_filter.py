"""The filter term against its formula, dense; and what is served with it against the torch model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl import C2FRecommender, load_config, load_dataset
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate, top_items
from c2f_dgl.exports import artifact_of, export
from c2f_dgl.model import Recommender
from c2f_dgl.report.explain import explanations
from c2f_dgl.serving import Csr, ServingModel
from c2f_dgl.serving import item_filter as module
from c2f_dgl.serving.item_filter import PLAIN, FilterShape, item_filter
from c2f_dgl.serving.ranking import standardised
from c2f_dgl.training.build import start_graph, start_model
from tests.serving.made import made, seen_of


def dense_filter(r: np.ndarray, k: int, shape: FilterShape = PLAIN) -> np.ndarray:
    """D_i^(-e) G D_i^f, the cosines rounded to float32 before the largest are chosen."""
    users, items = (np.maximum(r.sum(axis=axis), 1) for axis in (1, 0))
    walks = r.T @ np.diag(users ** (-2 * shape.user)) @ r
    loops = walks.diagonal().copy()
    np.fill_diagonal(walks, 0)
    k = len(items) if shape.ridge else k
    cosines = (walks / np.sqrt(np.outer(items, items))).round(7)
    for row, cosine in zip(walks, cosines, strict=True):
        row[np.argsort(-cosine, kind="stable")[k:]] = 0
    gram = (walks / np.outer(items, items) ** shape.item) ** shape.power
    if shape.ridge:
        own = (loops / items ** (2 * shape.item)) ** shape.power
        own = np.maximum(own, own[own > 0].min(initial=1.0))
        # Each item regressed on all others, one at a time: what the inverse of the whole matrix gives at once.
        weights = np.zeros_like(gram)
        for item in range(len(items)):
            others = np.arange(len(items)) != item
            penalty = np.diag(own + shape.ridge * np.sqrt(own * own.mean()))[np.ix_(others, others)]
            weights[others, item] = np.linalg.solve(gram[np.ix_(others, others)] + penalty, gram[others, item])
        gram = weights
    return np.diag(items**-shape.history) @ gram @ np.diag(items**shape.target)


shapes = st.builds(
    FilterShape,
    user=st.sampled_from([0.2, 0.5]),
    item=st.sampled_from([0.3, 0.5, 0.7]),
    power=st.sampled_from([1.0, 2.0, 3.0]),
    ridge=st.sampled_from([0.0, 0.5, 4.0]),
    history=st.sampled_from([-0.2, 0.0, 0.5]),
    target=st.sampled_from([-0.1, 0.0, 0.4]),
)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.integers(1, 9), st.integers(1, 10), st.integers(1, 40), shapes)
def test_filter_is_its_formula(seed: int, n_users: int, n_items: int, k: int, block: int, shape: FilterShape) -> None:
    rng = np.random.default_rng(seed)
    r = (rng.random((n_users, n_items)) < 0.4).astype(float)
    histories = Csr.from_pairs(*np.nonzero(r), r.shape)
    users = rng.permutation(n_users)
    whole, module._PATH_BLOCK = module._PATH_BLOCK, block
    try:
        found = item_filter(histories, k, shape)
        scores = found.scores(histories.take(users))
    finally:
        module._PATH_BLOCK = whole
    expected = dense_filter(r, k, shape)
    np.testing.assert_allclose(scores, (r @ expected)[users], rtol=1e-5, atol=1e-5)
    assert found.neighbours.counts.max(initial=0) <= (n_items if shape.ridge else k)
    wider = replace(histories.take(users), n_columns=n_items + 2)
    np.testing.assert_array_equal(found.grown(2).scores(wider)[:, :n_items], scores)
    pairs = np.indices((n_items, n_items)).reshape(2, -1)
    np.testing.assert_allclose(found.contributions(*pairs).reshape(n_items, n_items), expected, rtol=1e-5, atol=1e-5)


def test_of_equal_neighbours_the_first_are_kept() -> None:
    found = item_filter(Csr.from_pairs(np.zeros(5, dtype=int), np.arange(5), (1, 5)), 2)
    assert found.neighbours.take(np.array([0, 3])).columns.tolist() == [1, 2, 0, 1]


@given(st.integers(0, 2**32 - 1), st.floats(-1e3, 1e3, width=32))
def test_standardised_rows(seed: int, constant: float) -> None:
    scores = np.random.default_rng(seed).normal(size=(3, 7)).astype(np.float32)
    scores[1] = constant
    found = standardised(scores)
    wanted = (scores - scores.mean(axis=1, keepdims=True)) / scores.std(axis=1, keepdims=True).clip(1e-30)
    np.testing.assert_allclose(found[[0, 2]], wanted[[0, 2]], atol=1e-5)
    assert not found[1].any()


@pytest.fixture(scope="module")
def trained() -> tuple[Recommender, Split]:
    """A model with a filter on the planted data, as it starts."""
    split = load_dataset("planted")
    config = load_config(
        "fast",
        ["model.filter_neighbours=30", "model.filter_weight=0.4", "coarse.m=16", "model.d=16", "finer={}"],
    )
    return start_model(config, start_graph(split, config.model), split, torch.device("cpu")), split


@pytest.mark.parametrize(("precision", "error"), [("fp32", 1e-3), ("fp16", 2e-3), ("int8", 0.1)])
@pytest.mark.parametrize("embeddings", [False, True])
def test_an_artifact_ranks_as_the_model(
    trained: tuple[Recommender, Split], tmp_path: Path, precision: str, error: float, embeddings: bool
) -> None:
    model, split = trained
    scorer = model.scorer()
    again = export("artifact", model, split, tmp_path / "a", precision=precision, embeddings=embeddings)
    served = ServingModel.load(tmp_path / "a")
    users = np.arange(split.n_users)
    wanted = scorer.scores(torch.as_tensor(users)).numpy()
    found = served.score(served.users.ids[:, None], served.items.ids[None, :])
    np.testing.assert_allclose(found, wanted, atol=error)
    np.testing.assert_allclose(again.scores(torch.as_tensor(users)).numpy(), wanted, atol=error)
    if precision == "fp32":
        _, scores = top_items(scorer, users, 10, split.train)
        items, values = served.recommend(served.users.ids, 10)
        np.testing.assert_allclose(values, scores, atol=error)
        # Those that the torch path would rank so too, but for ties.
        rows = served.items.find(items)
        np.testing.assert_allclose(np.take_along_axis(wanted, rows, axis=1), scores, atol=error)
        metrics = [evaluate(some, split.train, split.test)["ndcg@20"] for some in (scorer, again)]
        assert metrics[0] == pytest.approx(metrics[1], abs=1e-4)


def test_forms_of_embeddings_alone_say_what_they_cannot_hold(
    trained: tuple[Recommender, Split], tmp_path: Path
) -> None:
    model, split = trained
    plain = replace(model.scorer(), filter=None).scores(torch.arange(5)).numpy()
    for form in ("embeddings", "onnx", "faiss", "artifact"):
        if form != "artifact":
            with pytest.raises(InputError, match=f"--format {form}: .*filter term.*--without-filter"):
                export(form, model, split, tmp_path / form)
            assert not (tmp_path / form).exists()
        found = export(form, model, split, tmp_path / form, without_filter=True)
        np.testing.assert_allclose(found.scores(torch.arange(5)).numpy(), plain, atol=1e-3)


def test_the_report_explains_as_serving_does(trained: tuple[Recommender, Split]) -> None:
    model, split = trained
    artifact = artifact_of(model, split)
    served = ServingModel(artifact.learned, artifact.interactions, artifact.user_ids, artifact.item_ids)
    users, items = np.array([7, 3]), np.array([[5, 0], [17, 44]])
    found = explanations(model, model.scorer(), split.train, users, items, 3)
    for (a, b), item in np.ndenumerate(items):
        frame = served.explain(split.user_ids[users[a]], split.item_ids[item]).to_frame()
        wanted = frame[frame.kind.isin(["item", "filter"])].groupby("id").contribution.sum()
        assert found.history[a, b] == pytest.approx(wanted.sum(), abs=1e-3)
        largest = wanted.sort_values(ascending=False)[:3]
        np.testing.assert_allclose(found.contributions[a, b], largest, atol=1e-3)
        np.testing.assert_allclose(wanted[split.item_ids[found.items[a, b]]], largest, atol=1e-3)


@pytest.fixture(scope="module", params=[0, 2])
def served(request: pytest.FixtureRequest) -> Iterator[ServingModel]:
    plain = made(t_user=request.param)
    learned = replace(
        plain.learned,
        filter_neighbours=6,
        filter=FilterShape(0.4, 0.6, 1.5, 0.2, 0.3),
        filter_weight=0.3,
        exponents={"user": 0.4, "item": 0.3},
        item_bias=np.linspace(-1, 1, plain.n_items).astype(np.float32),
    )
    yield ServingModel(learned, plain.interactions, plain.users.ids, plain.items.ids)


def test_scores_are_the_standardised_terms(served: ServingModel) -> None:
    dense = np.zeros((served.n_users, served.n_items))
    dense[served.interactions.rows, served.interactions.columns] = 1
    filtered = dense @ dense_filter(dense, 6, served.learned.filter)
    bias = served.learned.item_bias
    plain = served.embeddings.users.astype(float) @ served.embeddings.items.T + bias

    def z(x: np.ndarray) -> np.ndarray:
        spread = x.std(axis=1, keepdims=True)
        return np.divide(x - x.mean(axis=1, keepdims=True), spread, out=np.zeros_like(x), where=spread > 0)

    wanted = 0.7 * z(plain) + 0.3 * z(filtered)
    found = served.score(served.users.ids[:, None], served.items.ids)
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    pairs = np.random.default_rng(0).integers(0, 20, (2, 9))
    np.testing.assert_allclose(served.score(pairs[0], pairs[1] + 100), wanted[pairs[0], pairs[1]], atol=1e-5)
    some = served.items.ids[[3, 11, 8]]
    items, scores = served.recommend([4, 2], 3, exclude_seen=False, candidates=some)
    np.testing.assert_allclose(scores, np.take_along_axis(wanted[[4, 2]], served.items.find(items), axis=1), atol=1e-5)


def test_contributions_add_up_item_by_item(served: ServingModel, tmp_path: Path) -> None:
    served.save(tmp_path / "a", precision="int8", embeddings=True)
    for model in (served, ServingModel.load(tmp_path / "a")):
        for user, item in [(0, 101), (7, 119), (29, 104)]:
            found = model.explain(user, item)
            assert found.score == pytest.approx(float(model.score(user, item)), abs=1e-5)
            assert found.score == pytest.approx(found.contributions.sum())
            history = set(model.items.ids[sorted(seen_of(model, user))])
            said = found.ids[found.kinds == "filter"]
            assert set(said) <= history and len(said) == len(set(said))
            assert (found.contributions[found.kinds == "filter"] > 0).all()
            assert (found.kinds == "mean").sum() == 1
            for name, group in found.groups.items():
                assert group.sum() + found.ungrouped[name] == pytest.approx(found.score, abs=1e-9)
    assert len(served.explain(0, 101).ids[served.explain(0, 101).kinds == "filter"])


def test_folding_in_hears_the_filter(served: ServingModel) -> None:
    histories = [[100, 103, 107], [111]]
    folded = served.fold_in({1000: histories[0], 1001: histories[1]})
    for found, wanted in zip(served.recommend_history(histories, 5), folded.recommend([1000, 1001], 5), strict=True):
        np.testing.assert_array_equal(found, wanted)
    grown = served.partial_fit([5, 5, 200], [900, 101, 102])
    assert grown.filter is not None and grown.filter.neighbours.n_columns == 21
    explained = grown.explain(5, 103)
    assert explained.score == pytest.approx(float(grown.score(5, 103)), abs=1e-5)
    again, wanted_again = grown.refreshed(), item_filter(grown.interactions, 6, served.learned.filter)
    assert again.filter is not None
    np.testing.assert_array_equal(again.filter.neighbours.columns, wanted_again.neighbours.columns)
    assert served.recommend_history([[]], 4)[1].shape == (1, 4)


def test_the_estimator_takes_the_preset_with_a_filter(tmp_path: Path) -> None:
    split = load_dataset("planted")
    small = {"coarse.m": 12, "coarse.training.fixed_epochs": 1, "finer": {}, "model.filter_neighbours": 20}
    model = C2FRecommender("best", options={**small, "model.filter_weight": 0.3}).fit(split)
    test = split.test.tocoo()
    figure = model.evaluate((split.user_ids[test.row], split.item_ids[test.col]))["ndcg@20"]
    assert figure == pytest.approx(model.summary_["stages"]["coarse"]["test"]["ndcg@20"], abs=1e-4)
    model.save(tmp_path / "a")
    again = C2FRecommender.load(tmp_path / "a")
    np.testing.assert_allclose(again.recommend([3, 4], 5)[1], model.recommend([3, 4], 5)[1], atol=1e-5)
    assert "filter" in again.explain(3, again.recommend(3, 1)[0][0]).kinds


def test_a_filter_of_weight_zero_is_not_written(trained: tuple[Recommender, Split]) -> None:
    model, split = trained
    model.readout.filter_weight, weight = 0.0, model.readout.filter_weight
    try:
        assert artifact_of(model, split).learned.filter_neighbours == 0
    finally:
        model.readout.filter_weight = weight
