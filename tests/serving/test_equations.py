"""The numpy path against the dense transcription of the equations and against the torch model."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from c2f_dgl.data.splits import Split
from c2f_dgl.engines import Propagation
from c2f_dgl.errors import InputError
from c2f_dgl.exports import artifact_of, csr_of
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.graph.matrices import normalised
from c2f_dgl.model import Readout, Recommender, item_degrees
from c2f_dgl.serving import ServingModel
from c2f_dgl.serving.foldin import fold_in
from c2f_dgl.serving.propagate import first_basis, propagate, whitening
from c2f_dgl.serving.pursuit import pursuit
from c2f_dgl.tiers import assignment
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from tests.dense import coarse_h, fine_h, published_h
from tests.strategies import FLOAT, Case, cases

# Each example builds a DGL graph and a model on it.
FEW = settings(max_examples=12)

OPTIONS = st.sampled_from(["linear", "refined", "published", "table"])


def build(case: Case, options: str) -> tuple[Recommender, Split]:
    """The torch model of a drawn case, in float64."""
    published = options == "published"
    graph = interaction_graph(normalised(case.csr) if published else case.csr, dtype=FLOAT)
    layout = entity_layout(graph)
    if options == "table":
        generator = torch.Generator().manual_seed(case.seed)
        table = torch.randn(layout.total, case.e_c.shape[1], dtype=FLOAT, generator=generator)
        embedding = TieredEmbedding(layout, table=table)
    else:
        coarse = Tier("coarse", case.e_c, case.s_c)
        fine = Tier("fine", case.e_r, case.s_r, threshold=case.threshold, gate=case.gate)
        embedding = TieredEmbedding(
            layout,
            [coarse, fine],
            entity_input="refined" if options == "refined" else "unrefined",
            activation="tanh" if published else "none",
            link_scale=0.3 if options == "refined" else 1.0,
        )
    readout = Readout(item_degrees(graph, FLOAT), case.r.shape[0], item_scale=0.3, biases=published).to(FLOAT)
    weights = tuple(np.linspace(1.0, 0.2, case.layers + 1)) if options == "refined" else None
    propagation = Propagation(case.layers, weights, gate_layers=published)
    model = Recommender(graph, embedding, propagation, readout)
    nothing = case.csr * 0
    ids = np.arange(case.r.shape[0]), np.array([f"i{n}" for n in range(case.r.shape[1])], dtype=object)
    return model, Split("drawn", case.csr, nothing, nothing, *ids)


def serving(case: Case, options: str) -> tuple[ServingModel, Recommender]:
    model, split = build(case, options)
    artifact = artifact_of(model, split)
    return ServingModel(artifact.learned, artifact.interactions, artifact.user_ids, artifact.item_ids), model


@FEW
@given(cases(), st.booleans())
def test_two_tiers_as_in_the_equations(case: Case, refined: bool) -> None:
    s_c, e_c, s_r, e_r = case.arrays
    wanted = fine_h(
        case.r,
        s_c,
        e_c,
        s_r,
        e_r,
        threshold=case.threshold,
        gate=case.gate,
        layers=case.layers,
        refined_entities=refined,
    )
    model, split = build(case, "linear")
    model.embedding.entity_input = "refined" if refined else "unrefined"
    found = propagate(artifact_of(model, split).learned, csr_of(case.csr)).embeddings
    stacked = np.concatenate([found[name] for name in ("user", "item", "coarse", "fine")])
    np.testing.assert_allclose(stacked, wanted, rtol=1e-5, atol=1e-6)


@FEW
@given(cases())
def test_what_the_published_code_adds(case: Case) -> None:
    s_c, e_c, s_r, e_r = case.arrays
    wanted = published_h(case.r, s_c, e_c, s_r, e_r, threshold=case.threshold, gate=case.gate, layers=case.layers)
    model, split = build(case, "published")
    found = propagate(artifact_of(model, split).learned, csr_of(case.csr)).embeddings
    stacked = np.concatenate([found[name] for name in ("user", "item", "coarse", "fine")])
    np.testing.assert_allclose(stacked, wanted, rtol=1e-5, atol=1e-6)


@FEW
@given(cases(), OPTIONS)
def test_scores_equal_torch(case: Case, options: str) -> None:
    served, model = serving(case, options)
    scores = model.scorer().scores(torch.arange(case.r.shape[0])).detach().numpy()
    users, items = np.meshgrid(served.users.ids, served.items.ids, indexing="ij")
    np.testing.assert_allclose(served.score(users, items), scores, rtol=1e-4, atol=1e-5)


@FEW
@given(cases(), OPTIONS)
def test_contributions_add_up_to_the_score(case: Case, options: str) -> None:
    served, model = serving(case, options)
    scores = model.scorer().scores(torch.arange(case.r.shape[0])).detach().numpy()
    for user, item in [(0, 0), (case.r.shape[0] - 1, case.r.shape[1] - 1)]:
        found = served.explain(user, f"i{item}")
        scale = np.abs(found.contributions).sum()
        assert found.score == pytest.approx(scores[user, item], rel=1e-5, abs=1e-5 * scale + 1e-7)
        assert found.score == pytest.approx(found.contributions.sum())
        assert set(found.ids[found.kinds == "item"]) == {f"i{n}" for n in np.flatnonzero(case.r[user])}
        for name, group in found.groups.items():
            assert group.sum() + found.ungrouped[name] == pytest.approx(found.score, abs=1e-9 * scale + 1e-12)


@FEW
@given(cases(), OPTIONS)
def test_folding_in_what_is_known_changes_nothing(case: Case, options: str) -> None:
    # A table that nothing is propagated through is refused: the next test.
    case = replace(case, layers=max(case.layers, 1)) if options == "table" else case
    served, _ = serving(case, options)
    known = np.arange(case.r.shape[0])
    degrees = served.interactions.transposed.counts
    folded = fold_in(served.learned, served.propagated, served.interactions, degrees, "user", known)
    np.testing.assert_allclose(folded.embeddings, served.embeddings.users, rtol=1e-4, atol=1e-6)


@FEW
@given(cases())
def test_no_folding_into_what_is_not_propagated(case: Case) -> None:
    served, _ = serving(replace(case, layers=0), "table")
    degrees = served.interactions.transposed.counts
    with pytest.raises(InputError, match="embeddings that are not propagated"):
        fold_in(served.learned, served.propagated, served.interactions, degrees, "user")


@given(st.integers(0, 2**32 - 1), st.integers(1, 5))
def test_pursuit_is_that_of_training(seed: int, t: int) -> None:
    rng = np.random.default_rng(seed)
    rows, atoms = rng.normal(size=(20, 8)), rng.normal(size=(6, 8))
    indices, weights = pursuit(rows, atoms, t)
    wanted = assignment.pursuit(torch.as_tensor(rows), torch.as_tensor(atoms), t)
    # As matrices: an atom without weight may be any.
    dense = np.zeros((20, 6))
    np.put_along_axis(dense, indices, weights, axis=1)
    np.testing.assert_allclose(dense, wanted.dense().numpy(), atol=1e-9)


def test_whitening_makes_the_basis_orthonormal() -> None:
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(50, 6)) * 10.0 ** np.arange(-3, 3)
    white = basis @ whitening(basis)
    np.testing.assert_allclose(white.T @ white, np.eye(6), atol=1e-9)


@FEW
@given(cases())
def test_the_basis_propagates_the_first_codebook(case: Case) -> None:
    """Items of M E^c are H of the coarse equations, whatever tiers there are below."""
    model, split = build(case, "linear")
    learned, interactions = artifact_of(model, split).learned, csr_of(case.csr)
    s_c, e_c, _, _ = case.arrays
    alone = first_basis(learned, interactions) @ e_c
    n_users, n_items = case.r.shape
    wanted = coarse_h(case.r, s_c, e_c, case.layers)[n_users : n_users + n_items]
    np.testing.assert_allclose(alone, wanted, rtol=1e-4, atol=1e-6)
