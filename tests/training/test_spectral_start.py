from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from c2f_dgl.training.spectral.solution import Linked, Solution
from c2f_dgl.training.spectral.start import ranks
from c2f_dgl.training.spectral.variants import Variant, variant_scores
from c2f_dgl.training.spectral.walks import climb, scan
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl import load_config, load_dataset, load_run, train
from c2f_dgl.engines import MessagePassing
from c2f_dgl.evaluation.ranking import standardised
from c2f_dgl.model import Readout, item_degrees, scaled_filter
from c2f_dgl.roles import DEFAULT_ROLES
from c2f_dgl.training.build import start_graph


@given(st.integers(1, 9), st.data())
def test_climb_finds_the_peak_of_what_has_one(n: int, data: st.DataObject) -> None:
    peak, first = data.draw(st.integers(0, n - 1)), data.draw(st.integers(0, n - 1))
    values, asked = [x / 10 for x in range(n)], []

    def figure(value: float) -> float:
        asked.append(value)
        return -abs(value - values[peak])

    assert climb(values, values[first], figure) == values[peak]
    assert len(asked) == len(set(asked))  # nothing is judged twice


def test_directions_are_tried_down_to_one() -> None:
    assert ranks(16) == [1, 2, 3, 4, 6, 8, 11, 16]
    assert ranks(1) == [1]
    assert ranks(440)[0] == 1 and {28, 311, 440} <= set(ranks(440))


@pytest.mark.parametrize("n", range(1, 21))
def test_scan_finds_the_higher_of_two_peaks(n: int) -> None:
    values = list(range(n))
    for peak in values:
        seen: set[int] = set()

        def best_of(tried: Sequence[int], peak: int = peak, seen: set[int] = seen) -> int:
            seen.update(tried)
            # Falls off to both sides of the peak; the last value is a peak of its own, less high.
            return max(seen, key=lambda value: max(-abs(value - peak), -2.5 if value == values[-1] else -5.0))

        assert scan(values, best_of) == peak


def test_variants_are_scored_as_the_model_that_is_built_from_one() -> None:
    split = load_dataset("planted")
    graph = start_graph(split, load_config("best").model)
    generator = torch.Generator().manual_seed(0)
    features = {
        "user": torch.randn(split.n_users, 5, generator=generator),
        "item": torch.randn(split.n_items, 5, generator=generator),
    }
    solution = Solution(Linked(graph, {}), 0.3, (1.0,), torch.eye(5), torch.eye(5), features)
    variants = sorted(Variant(*values) for values in itertools.product((2, 3, 5), (0.0, 0.5), (0.0, 0.3, 1.0)))
    users = torch.tensor([7, 0, 3])
    scored = variant_scores(solution, variants, graph, 20, DEFAULT_ROLES)(users)
    for variant, scores in zip(variants, scored, strict=True):
        readout = Readout(
            item_degrees(graph),
            split.n_users,
            item_scale=variant.item_scale,
            filter=scaled_filter(graph, 20, variant.item_scale),
            filter_weight=variant.filter_weight,
        )
        expected = readout.scorer(*(features[side][:, : variant.rank] for side in ("user", "item"))).scores(users)
        if variant.filter_weight == 0:  # a ranking, whatever its scale
            scores, expected = standardised(scores), standardised(expected)
        torch.testing.assert_close(scores, expected, atol=1e-4, rtol=1e-4)


def test_weighted_directions_are_those_of_the_codebook_that_absorbs_the_weights() -> None:
    generator = torch.Generator().manual_seed(0)
    basis, codebook = (torch.randn(*shape, generator=generator).double() for shape in ((7, 5), (5, 4)))
    values = torch.tensor([3.0, 2.0, 0.5, 0.0], dtype=torch.float64)
    features = {"user": (basis @ codebook * values.sqrt()).float()}
    solution = Solution(None, 0.3, (1.0,), torch.eye(5), codebook * values.sqrt(), features, values)  # type: ignore[arg-type]
    other = solution.weighted(0.5)
    torch.testing.assert_close(other.features["user"], (basis @ other.codebook).float())
    torch.testing.assert_close(other.codebook[:, :3], (codebook * values**0.25)[:, :3])
    assert (other.codebook[:, 3] == 0).all() and other.power == 0.5
    torch.testing.assert_close(other.weighted(1.0).codebook, solution.codebook)


@pytest.mark.parametrize("preset", ["fast", "best"])
def test_a_model_read_again_ranks_as_it_was_judged(preset: str, tmp_path: Path) -> None:
    split = load_dataset("planted")
    options = ["data.source=planted", "finer={}", "coarse.training.fixed_epochs=1"]
    summary = train(split, tmp_path / "run", load_config(preset, options))
    model, _ = load_run(tmp_path / "run")
    tier = model.embedding.tiers[0]
    assert tier.whitening is not None and (tier.codebook.triu(1) == 0).all()
    values = summary["stages"]["coarse"]["parameters"]
    assert values["coarse codebook"] == int(torch.ones_like(tier.codebook).tril().sum()) < tier.codebook.numel()
    assert values["total"] <= (split.n_users + split.n_items) * 128 / 48
    weight = summary["stages"]["coarse"]["scalars"]["filter_weight"]
    assert (model.readout.filter is not None) == (weight > 0) and (preset == "best" or weight == 0)
    # The same H from message passing with E = W T itself.
    engine = MessagePassing(model.embedding, model.propagation)
    engine.rebuild(model.graph)
    collapsed, passed = model.engine.all_nodes(), engine.all_nodes()
    for node_type in ("user", "item"):
        spread = collapsed[node_type].std()
        assert torch.allclose(passed[node_type], collapsed[node_type], atol=float(0.05 * spread))


def test_a_filter_weight_that_is_given_is_part_of_every_comparison(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = ["finer={}", "coarse.training.fixed_epochs=0", "coarse.m=40", "model.filter_weight=0.5"]
    with caplog.at_level("INFO", "c2f_dgl"):
        train(load_dataset("planted"), tmp_path / "run", load_config("best", options))
    compared = [line for line in caplog.messages if "is the best of" in line]
    assert compared and all("filter weight 0.5" in line for line in compared)
    assert load_run(tmp_path / "run", split=load_dataset("planted"))[0].readout.filter is not None


def test_users_without_interactions_change_nothing(tmp_path: Path) -> None:
    """The scale of T is that of scores, which such users have none of, though they may come first."""
    split = load_dataset("planted")
    options = ["data.source=planted", "finer={}", "coarse.training.fixed_epochs=0", "coarse.m=40"]
    scales, figures = [], []
    for n in (0, 300):
        parts = {name: padded(getattr(split, name), n) for name in ("train", "valid", "test")}
        ids = np.arange(split.n_users + n)
        more = replace(split, **parts, user_ids=ids)
        summary = train(more, tmp_path / str(n), load_config("fast", options))
        model, _ = load_run(tmp_path / str(n), split=more)
        scales.append(float(model.embedding.tiers[0].codebook.detach().norm()))
        figures.append(summary["stages"]["coarse"]["test"]["ndcg@20"])
    assert scales[1] == pytest.approx(scales[0], rel=0.2)
    assert figures[1] == pytest.approx(figures[0], abs=0.01)


def padded(matrix: sp.csr_matrix, n: int) -> sp.csr_matrix:
    """With n empty rows first."""
    return sp.vstack([sp.csr_matrix((n, matrix.shape[1]), dtype=matrix.dtype), matrix], format="csr")
