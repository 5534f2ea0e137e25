from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c2f_dgl import load_config, load_dataset, load_run, train
from c2f_dgl.config.sizes import resolve_sizes
from c2f_dgl.data.splits import Split
from c2f_dgl.engines import MessagePassing
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.evaluation.sampling import sampled_rows
from c2f_dgl.graph.hetero import entity_layout
from c2f_dgl.graph.neighbourhood import FilterShape
from c2f_dgl.io.progress import Reporter
from c2f_dgl.tiers.assignment import Assignment, anchored, stack
from c2f_dgl.tiers.spectral import nth_singular_value
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training import build
from c2f_dgl.training.build import spectral_model, start_graph
from c2f_dgl.training.choice import FILTER_STEPS, Choice
from c2f_dgl.training.comparison import Comparison
from c2f_dgl.training.search import Search
from c2f_dgl.training.solution import Solution, solve

# Interactions whose spectrum is of one kind.
KINDS = ("flat", "steep", "short", "disconnected", "hub")


def drawn(kind: str, seed: int, n_users: int = 60, n_items: int = 40) -> np.ndarray:
    """A binary matrix (n_users, n_items)."""
    rng = np.random.default_rng(seed)
    if kind == "flat":
        r = rng.random((n_users, n_items)) < 0.15
    elif kind == "steep":  # two groups with tastes of their own, and popular items
        taste = np.where(np.arange(n_users)[:, None] % 2 == np.arange(n_items) % 2, 0.5, 0.05)
        r = rng.random((n_users, n_items)) < taste * np.linspace(1.5, 0.2, n_items)
    elif kind == "short":  # of rank 3
        groups = rng.random((3, n_items)) < 0.4
        r = groups[rng.integers(3, size=n_users)]
    elif kind == "disconnected":
        r = (rng.random((n_users, n_items)) < 0.3) & (np.arange(n_users)[:, None] % 5 == np.arange(n_items) % 5)
    else:  # everybody had item 0, and little else
        r = rng.random((n_users, n_items)) < 0.04
        r[:, 0] = True
    return r.astype(np.float64)


def normalised(r: np.ndarray, a: float, b: float) -> np.ndarray:
    """D_u^(-a) R D_i^(-b), zero where nobody had anything."""
    users, items = (np.where(d > 0, np.maximum(d, 1.0) ** -e, 0.0) for d, e in ((r.sum(1), a), (r.sum(0), b)))
    return users[:, None] * r * items


def split_of(r: np.ndarray) -> Split:
    """With one pair of every user that has two for validation."""
    train, valid = r.copy(), np.zeros_like(r)
    for user in np.flatnonzero(r.sum(axis=1) > 1):
        item = np.flatnonzero(r[user])[-1]
        train[user, item], valid[user, item] = 0, 1
    parts = [sp.csr_matrix(part.astype(np.float32)) for part in (train, valid, valid)]
    return Split("drawn", *parts, np.arange(r.shape[0]), np.arange(r.shape[1]))


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 99), a=st.sampled_from([0.2, 0.5, 0.7]), b=st.sampled_from([0.3, 0.5]))
def test_the_leading_directions_are_those_of_a_dense_svd(kind: str, seed: int, a: float, b: float) -> None:
    r = drawn(kind, seed)
    split = replace(split_of(r), train=sp.csr_matrix(r.astype(np.float32)))
    config = resolve_sizes(load_config("fast", ["coarse.m=20"]), *r.shape)
    graph = start_graph(split, config.model)
    items = anchored(np.arange(r.shape[1]) % 20, 20, 1, 1.0, np.random.default_rng(0))
    users = Assignment(torch.zeros(r.shape[0], 0, dtype=torch.int64), torch.zeros(r.shape[0], 0), 20)
    tier = Tier("coarse", torch.zeros(20, 20), stack([users, items]))
    embedding = TieredEmbedding(entity_layout(graph), [tier], link_scale=config.model.link_scale)
    found = solve(config, embedding, graph, Choice((a, b), (), cutoff=0.9, rank=20, power=1.0, item_scale=0.0), {})
    matrix = normalised(r, a, b)
    _, values, right = np.linalg.svd(matrix)
    values = values / values[0]
    # Ritz values come from below, the leading ones near; a gap makes the directions definite.
    assert (found.values.numpy() <= np.pad(values, (0, 20))[:20] + 5e-3).all()
    np.testing.assert_allclose(found.values[:3], values[:3], atol=0.02)
    users, items = found.users.double().numpy(), found.items.double().numpy()
    np.testing.assert_allclose(matrix @ items, users, atol=1e-3 * np.abs(users).max())  # users are what their items say
    if values[0] - values[1] > 0.2:
        direction = items[:, 0] / np.linalg.norm(items[:, 0])
        assert abs(direction @ right[0]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("kind", KINDS)
def test_the_nth_singular_value_is_found_from_products(kind: str) -> None:
    matrix = torch.as_tensor(normalised(drawn(kind, 1, 300, 200), 0.4, 0.4)).float()
    values = np.linalg.svd(matrix.numpy(), compute_uv=False)
    for nth in (20, 60):
        largest, found = nth_singular_value(lambda x: matrix.T @ (matrix @ x), 200, nth)
        assert largest == pytest.approx(values[0], rel=0.02)
        # As a count: about that many are larger (a step of this degree is some hundredths wide).
        assert (values > found + 0.06 * values[0]).sum() <= nth * 1.2
        assert (values > found - 0.1 * values[0]).sum() >= nth * 0.8
    assert nth_singular_value(lambda x: matrix.T @ (matrix @ x), 200, 200)[1] == 0.0


@pytest.mark.parametrize("preset", ["fast", "best"])
def test_a_model_read_again_ranks_as_it_was_judged(preset: str, tmp_path: Path) -> None:
    split = load_dataset("planted")
    summary = train(split, tmp_path / "run", load_config(preset, ["data.source=planted"]))
    model, _ = load_run(tmp_path / "run")
    stage = summary["stages"]["coarse"]
    assert evaluate(model.scorer(), split.train, split.test)["ndcg@20"] == pytest.approx(
        stage["test"]["ndcg@20"], abs=1e-4
    )
    tier = model.embedding.tiers[0]
    assert tier.whitening is not None and (tier.codebook.triu(1) == 0).all()
    assert stage["scalars"]["d"] == tier.codebook.shape[1] < tier.size  # fewer directions than atoms rank best here
    assert stage["parameters"]["coarse codebook"] == int(torch.ones_like(tier.codebook).tril().sum())
    assert stage["parameters"]["total"] <= (split.n_users + split.n_items) * 128 / 48
    assert (model.readout.filter is not None) == (stage["scalars"]["filter_weight"] > 0)
    # The same H from message passing with E = W T itself.
    engine = MessagePassing(model.embedding, model.propagation)
    engine.rebuild(model.graph)
    collapsed, passed = model.engine.all_nodes(), engine.all_nodes()
    for node_type in ("user", "item"):
        spread = collapsed[node_type].std()
        assert torch.allclose(passed[node_type], collapsed[node_type], atol=float(0.05 * spread))


def test_what_is_given_is_not_chosen(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    given = ["user_exponent=0.3", "item_exponent=0.6", "item_scale=0.1", "filter_weight=0.5", "d=7"]
    options = [*(f"model.{option}" for option in given), "coarse.m=40", "coarse.power=0.5"]
    with caplog.at_level("INFO", "c2f_dgl"):
        summary = train(load_dataset("planted"), tmp_path / "run", load_config("best", options))
    scalars = summary["stages"]["coarse"]["scalars"]
    assert [scalars[name.partition("=")[0]] for name in given] == [0.3, 0.6, 0.1, 0.5, 7]
    (chosen,) = [line for line in caplog.messages if line.startswith("chosen")]
    assert "7 directions, power 0.5" in chosen


def test_a_search_ends_after_its_time_with_the_best_so_far(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = load_config("best", ["coarse.m=40", "coarse.search_seconds=1e-6"])
    summary = train(load_dataset("planted"), tmp_path / "run", config)
    assert any("search ended after" in line for line in caplog.messages)
    scalars = summary["stages"]["coarse"]["scalars"]
    assert scalars["user_exponent"] == scalars["item_exponent"] == 0.4 and scalars["filter_weight"] == 0


@pytest.mark.parametrize("found", [(0.9, 0.8), (0.8, 0.9)])
def test_the_better_of_two_orders_of_steps_is_kept(found: tuple[float, float], monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter is first chosen before what weighs the graph, and then after it; `found` are the figures of both."""
    figures = iter(found)

    def choose_filter(self: Search, shapes: Sequence[FilterShape], most: int) -> None:
        figure = next(figures)
        self.best = replace(self.best, power=figure)
        self.figures[self.best] = figure

    monkeypatch.setattr(Search, "_choose_filter", choose_filter)
    monkeypatch.setattr(Search, "_choose_graph", lambda self: None)
    split = load_dataset("planted")
    config = resolve_sizes(load_config("fast", ["coarse.m=20"]), split.n_users, split.n_items)
    graph, device = start_graph(split, config.model), torch.device("cpu")
    assert spectral_model(config, graph, split, device, Reporter(quiet=True)).choice.power == 0.9


@pytest.mark.parametrize(("work", "n"), [("0", 1), ("null", 3)])
def test_steps_of_a_filter_begin_at_as_many_shapes_as_may_be(
    work: str, n: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps from each shape are made to end better than those from the one before, which begins better.

    In the second of two orders they begin at the filter that the first ended with.
    """
    begun, settle = list[Choice](), Search._settle

    def settled(self: Search) -> None:
        settle(self)
        if self.best.filter is not None:
            begun.append(self.best)
            self.best = replace(self.best, item_scale=9.0 + len(begun))
            self.figures[self.best] = len(begun) + 1.0

    monkeypatch.setattr(Search, "_settle", settled)
    monkeypatch.setattr(Search, "_choose_graph", lambda self: None)
    monkeypatch.setattr(Search, "_confirm", lambda self: None)
    split = load_dataset("planted")
    config = resolve_sizes(load_config("fast", ["coarse.m=20", f"coarse.search_work={work}"]), 1000, 800)
    graph, device = start_graph(split, config.model), torch.device("cpu")
    choice = spectral_model(config, graph, split, device, Reporter(quiet=True)).choice
    assert len(begun) == n + 1
    assert begun[-1].filter == begun[-2].filter
    assert choice is not None and choice.item_scale == 9.0 + n + 1


def test_a_filter_is_compared_with_none_on_more_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared, figures = set(), Comparison.figures

    def kept(self: Comparison, solution: Solution, choices: Sequence[Choice]) -> list[float]:
        compared.update((len(self.candidates.users), choice.filter is None) for choice in choices)
        return figures(self, solution, choices)

    monkeypatch.setattr(Comparison, "figures", kept)
    monkeypatch.setattr("c2f_dgl.training.search._USERS", 100)
    given = ["model.user_exponent=0.4", "model.item_exponent=0.4", "coarse.power=1", "model.d=20"]
    train(load_dataset("planted"), tmp_path / "run", load_config("fast", ["coarse.m=40", *given]))
    assert {(100, True), (100, False)} < compared
    assert {without for n, without in compared if n > 100} == {True, False}


def test_a_further_solution_is_compared_with_the_first_on_more_users(monkeypatch: pytest.MonkeyPatch) -> None:
    figures = Comparison.figures

    def only_on_few(self: Comparison, solution: Solution, choices: Sequence[Choice]) -> list[float]:
        gain = 0.1 if len(self.candidates.users) == 100 else -0.1
        further = [gain * (choice.exponents != (0.4, 0.4)) for choice in choices]
        return [figure + added for figure, added in zip(figures(self, solution, choices), further, strict=True)]

    monkeypatch.setattr("c2f_dgl.training.search._USERS", 100)
    monkeypatch.setattr(Comparison, "figures", only_on_few)
    split = load_dataset("planted")
    config = resolve_sizes(load_config("fast", ["coarse.m=20"]), split.n_users, split.n_items)
    graph, device = start_graph(split, config.model), torch.device("cpu")
    assert spectral_model(config, graph, split, device, Reporter(quiet=True)).choice.exponents == (0.4, 0.4)
    monkeypatch.setattr("c2f_dgl.training.search._CONFIRMING", 100)
    assert spectral_model(config, graph, split, device, Reporter(quiet=True)).choice.exponents != (0.4, 0.4)


def test_what_is_chosen_at_the_end_of_its_range_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    split = load_dataset("planted")
    given = [f"model.{name}=0.4" for name in ("user_exponent", "item_exponent", "item_scale")]
    given += ["coarse.power=1"]
    unfiltered = ["model.filter_neighbours=0", "model.filter_weight=0"]
    options = ["coarse.m=2", "coarse.search_work=0", "model.layers=31", *unfiltered, *given]
    stage = train(split, tmp_path / "run", load_config("fast", options))["stages"]["coarse"]
    directions, cutoff, work = stage["at_end"]
    assert directions.endswith("directions of 1 to 2 (model.budget)")
    assert "cutoff" in cutoff and "coarse.search_work" in work
    assert any(directions in line for line in caplog.messages)
    # A step of 1 leaves no weight between 0 and 1, and one of 4 no power.
    monkeypatch.setattr("c2f_dgl.training.choice._WEIGHT", 2.0)
    monkeypatch.setitem(FILTER_STEPS, "power", 4.0)
    options = ["coarse.m=40", "model.d=5", *given]
    weight, power = train(split, tmp_path / "other", load_config("fast", options))["stages"]["coarse"]["at_end"]
    assert "filter weight 0." in weight and power == "filter power 1.5, above 0"


def test_a_choice_made_before_is_solved_for_again() -> None:
    split = load_dataset("planted")
    config = resolve_sizes(load_config("fast", ["coarse.m=40"]), split.n_users, split.n_items)
    graph, device, reporter = start_graph(split, config.model), torch.device("cpu"), Reporter(quiet=True)
    start = spectral_model(config, graph, split, device, reporter)
    again = spectral_model(config, graph, split, device, reporter, start.choice)
    assert again.choice is start.choice
    users = torch.arange(20)
    torch.testing.assert_close(again.model.scorer().scores(users), start.model.scorer().scores(users))


@pytest.mark.parametrize("preset", ["fast", "best"])
def test_a_start_ranks_as_its_model_does(preset: str) -> None:
    split = load_dataset("planted")
    config = resolve_sizes(load_config(preset, ["coarse.m=40"]), split.n_users, split.n_items)
    start = spectral_model(config, start_graph(split, config.model), split, torch.device("cpu"), Reporter(quiet=True))
    assert start.scorer is not None
    users = torch.arange(split.n_users)
    expected = start.model.scorer().scores(users)
    torch.testing.assert_close(start.scorer.scores(users), expected, rtol=1e-4, atol=1e-4 * float(expected.std()))


def test_many_interactions_are_grouped_at_random_and_rank_as_well(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    split, device = load_dataset("planted"), torch.device("cpu")
    config = resolve_sizes(load_config("fast", ["coarse.m=40"]), split.n_users, split.n_items)
    figures = []
    caplog.set_level("INFO", "c2f_dgl")
    for most in (build._MOST_GROUPED, 100):
        monkeypatch.setattr(build, "_MOST_GROUPED", most)
        start = spectral_model(config, start_graph(split, config.model), split, device, Reporter(quiet=True))
        assert start.scorer is not None
        figures.append(evaluate(start.scorer, split.train, split.valid)["ndcg@20"])
    assert "22363 interactions: random groups in place of METIS" in caplog.text
    assert figures[1] == pytest.approx(figures[0], rel=0.05)


def test_a_sample_keeps_whole_rows() -> None:
    matrix = sp.random(50, 20, 0.2, format="csr", random_state=0)
    sample = sampled_rows(matrix, 10, 3)
    kept = np.flatnonzero(sample.getnnz(axis=1))
    assert len(kept) == 10 and (sample[kept] != matrix[kept]).nnz == 0
    assert sampled_rows(matrix, 50, 3) is matrix


def test_users_without_interactions_change_nothing(tmp_path: Path) -> None:
    """The scale of T is that of scores, which such users have none of, though they may come first."""
    split = load_dataset("planted")
    options = ["data.source=planted", "coarse.m=40"]
    scales, figures = [], []
    for n in (0, 300):
        parts = {name: padded(getattr(split, name), n) for name in ("train", "valid", "test")}
        ids = np.arange(split.n_users + n)
        more = replace(split, **parts, user_ids=ids)
        summary = train(more, tmp_path / str(n), load_config("fast", options))
        model, _ = load_run(tmp_path / str(n), split=more)
        scales.append(float(model.embedding.tiers[0].codebook.detach().norm()))
        figures.append(summary["stages"]["coarse"]["test"]["ndcg@20"])
    assert scales[1] == pytest.approx(scales[0], rel=0.5)
    assert figures[1] == pytest.approx(figures[0], abs=0.015)


def padded(matrix: sp.csr_matrix, n: int) -> sp.csr_matrix:
    """With n empty rows first."""
    return sp.vstack([sp.csr_matrix((n, matrix.shape[1]), dtype=matrix.dtype), matrix], format="csr")
