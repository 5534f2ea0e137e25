"""Both engines, on both kernels, against the dense transcription of the paper's equations."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, log_softmax

from c2f_dgl.engines import MessagePassing, Propagation, make_engine
from c2f_dgl.graph.entities import normalised
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.model import Readout, Recommender
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training.loss import LOSSES, batch_loss
from c2f_dgl.training.sampler import Triplets, TripletSampler
from tests import dense
from tests.strategies import FLOAT, Case, cases

TOLERANCE = dict(rtol=0, atol=1e-10)


def build(
    case: Case, engine: str, kernel: str, *, fine: bool, entity_input: str = "unrefined", published: bool = False
) -> Recommender:
    graph = interaction_graph(normalised(case.csr) if published else case.csr, dtype=FLOAT)
    tiers = [Tier("coarse", case.e_c, case.s_c)]
    if fine:
        tiers[0].codebook.requires_grad_(False)
        tiers.append(Tier("fine", case.e_r, case.s_r, threshold=case.threshold, gate=case.gate))
    embedding = TieredEmbedding(
        entity_layout(graph), tiers, entity_input=entity_input, activation="tanh" if published else "none"
    )
    readout = Readout(torch.zeros(case.r.shape[1], dtype=FLOAT), case.r.shape[0])
    propagation = Propagation(case.layers, gate_layers=published, kernel=kernel)
    return Recommender(graph, embedding, propagation, readout, engine)


def stacked(model: Recommender) -> np.ndarray:
    features = model.engine.all_nodes()
    names = [*model.embedding.layout.types, *(tier.name for tier in model.embedding.tiers)]
    return np.vstack([features[name].numpy() for name in names])


ENGINES = pytest.mark.parametrize(
    ("engine", "kernel"),
    [("message_passing", "dgl"), ("message_passing", "csr"), ("collapsed", "dgl"), ("collapsed", "csr")],
)


@ENGINES
@given(cases())
def test_coarse_stage_is_equations_3_to_7_and_12_13(engine: str, kernel: str, case: Case) -> None:
    s_c, e_c, _, _ = case.arrays
    expected = dense.coarse_h(case.r, s_c, e_c, case.layers)
    np.testing.assert_allclose(stacked(build(case, engine, kernel, fine=False)), expected, **TOLERANCE)


@ENGINES
@pytest.mark.parametrize("entity_input", ["unrefined", "refined"])
@given(cases())
def test_fine_stage_is_equations_14_and_16_to_22(engine: str, kernel: str, entity_input: str, case: Case) -> None:
    expected = dense.fine_h(
        case.r,
        *case.arrays,
        threshold=case.threshold,
        gate=case.gate,
        layers=case.layers,
        refined_entities=entity_input == "refined",
    )
    model = build(case, engine, kernel, fine=True, entity_input=entity_input)
    np.testing.assert_allclose(stacked(model), expected, **TOLERANCE)


@pytest.mark.parametrize("kernel", ["dgl", "csr"])
@given(cases())
def test_published_variant(kernel: str, case: Case) -> None:
    expected = dense.published_h(case.r, *case.arrays, threshold=case.threshold, gate=case.gate, layers=case.layers)
    model = build(case, "auto", kernel, fine=True, published=True)
    assert isinstance(model.engine, MessagePassing)
    np.testing.assert_allclose(stacked(model), expected, **TOLERANCE)


@given(cases())
def test_published_coarse_stage(case: Case) -> None:
    s_c, e_c, _, _ = case.arrays
    adjacency = dense.expanded(dense.normalised(dense.bipartite(case.r)), s_c)
    expected = dense.propagated(adjacency, np.vstack([np.tanh(s_c @ e_c), e_c]), case.layers)
    model = build(case, "auto", "csr", fine=False, published=True)
    np.testing.assert_allclose(stacked(model), expected, **TOLERANCE)


@given(cases(), st.sampled_from([0.0, 0.5]))
def test_readout_adds_biases_and_scales_items_in_training_as_in_ranking(case: Case, item_scale: float) -> None:
    """The published code's factorisation machine: the dot product plus a bias per user and item."""
    model = build(case, "collapsed", "csr", fine=False)
    degree = case.r.sum(axis=0)
    model.readout = Readout(torch.as_tensor(degree), case.r.shape[0], item_scale=item_scale, biases=True, seed=1)
    assert model.readout.bias is not None
    bias, n_users = model.readout.bias.detach().numpy(), case.r.shape[0]
    s_c, e_c, _, _ = case.arrays
    h = dense.coarse_h(case.r, s_c, e_c, case.layers)[: sum(case.r.shape)]
    scores = h[:n_users] @ (h[n_users:] * (degree[:, None] + 1) ** item_scale).T
    scores = scores + bias[:n_users, None] + bias[None, n_users:]
    batch = TripletSampler(case.csr, 1).epoch(6, 6, np.random.default_rng(case.seed))
    margins = scores[batch.users, batch.positives] - scores[batch.users, batch.negatives[:, 0]]
    loss = batch_loss(model, batch, "bpr", 0.0).item()
    np.testing.assert_allclose(loss, np.log1p(np.exp(-margins)).mean(), **TOLERANCE)
    ranked = model.scorer().scores(torch.arange(n_users)).detach().numpy() + bias[:n_users, None]
    np.testing.assert_allclose(ranked, scores, **TOLERANCE)
    assert model.count_values()["biases"] == len(bias)


@pytest.mark.parametrize("fine", [False, True])
@pytest.mark.parametrize("entity_input", ["unrefined", "refined"])
@given(cases())
def test_engines_agree_on_loss_and_gradient_and_match_the_dense_loss(fine: bool, entity_input: str, case: Case) -> None:
    k = min(2, int((case.r == 0).sum(axis=1)[0]))
    sampler = TripletSampler(case.csr, k)
    batch = sampler.epoch(5, 5, np.random.default_rng(case.seed))
    found = {}
    for engine, kernel in [("message_passing", "dgl"), ("message_passing", "csr"), ("collapsed", "csr")]:
        model = build(case, engine, kernel, fine=fine, entity_input=entity_input)
        trained = model.embedding.tiers[-1].codebook
        # The zero keeps a graph where no path leads to the codebook: L = 0 and unrefined entities.
        loss = batch_loss(model, batch, "bpr", 5e-4) + 0 * trained.sum()
        (gradient,) = torch.autograd.grad(loss, trained)
        found[engine, kernel] = (loss.item(), gradient.numpy())

    s_c, e_c, s_r, e_r = case.arrays
    if fine:
        refined = (1 - case.gate) * e_c + case.gate * s_r @ dense.soft(e_r, case.threshold)
        h = dense.fine_h(
            case.r,
            *case.arrays,
            threshold=case.threshold,
            gate=case.gate,
            layers=case.layers,
            refined_entities=entity_input == "refined",
        )
        h0 = s_c @ (refined if entity_input == "refined" else e_c)
    else:
        h, h0 = dense.coarse_h(case.r, s_c, e_c, case.layers), s_c @ e_c
    expected = dense.bpr(h, h0, case.r.shape[0], batch.users, batch.positives, batch.negatives, 5e-4)
    reference = found["message_passing", "dgl"][1]
    for loss, gradient in found.values():
        np.testing.assert_allclose(loss, expected, **TOLERANCE)
        np.testing.assert_allclose(gradient, reference, **TOLERANCE)


@given(cases())
def test_gradient_is_the_derivative_of_the_loss(case: Case) -> None:
    batch = TripletSampler(case.csr, 1).epoch(4, 4, np.random.default_rng(case.seed))
    model = build(case, "collapsed", "csr", fine=False)
    codebook = model.embedding.tiers[0].codebook
    (gradient,) = torch.autograd.grad(batch_loss(model, batch, "bpr", 1e-2), codebook)
    direction = torch.as_tensor(np.random.default_rng(case.seed + 1).normal(size=codebook.shape))
    step = 1e-5
    with torch.no_grad():
        codebook += step * direction
        above = float(batch_loss(model, batch, "bpr", 1e-2))
        codebook -= 2 * step * direction
        below = float(batch_loss(model, batch, "bpr", 1e-2))
    np.testing.assert_allclose(float((gradient * direction).sum()), (above - below) / (2 * step), rtol=1e-5, atol=1e-7)


@given(cases())
def test_relinking_a_tier_matches_a_graph_built_anew_and_shares_the_interactions(case: Case) -> None:
    model = build(case, "message_passing", "csr", fine=True)
    interactions = model.graph.edges["interacts"].data["weight"]
    rng = np.random.default_rng(case.seed + 2)
    indices = torch.as_tensor(rng.random((len(case.e_c), len(case.e_r))).argsort(axis=1)[:, :1])
    updated = type(case.s_r)(indices, torch.ones(len(case.e_c), 1, dtype=FLOAT), len(case.e_r))
    model.embedding.tiers[1].assign(updated)
    model.relink(1)
    s_c, e_c, _, e_r = case.arrays
    expected = dense.fine_h(
        case.r,
        s_c,
        e_c,
        updated.dense().numpy(),
        e_r,
        threshold=case.threshold,
        gate=case.gate,
        layers=case.layers,
        refined_entities=False,
    )
    np.testing.assert_allclose(stacked(model), expected, **TOLERANCE)
    assert model.graph.edges["interacts"].data["weight"] is interactions


@given(cases())
def test_a_full_table_is_lightgcn(case: Case) -> None:
    graph = interaction_graph(case.csr, dtype=FLOAT)
    n = sum(case.r.shape)
    table = torch.as_tensor(np.random.default_rng(case.seed).normal(size=(n, 3)))
    embedding = TieredEmbedding(entity_layout(graph), table=table)
    engine = make_engine("auto", embedding, Propagation(case.layers))
    engine.rebuild(graph)
    expected = dense.propagated(dense.bipartite(case.r), table.numpy(), case.layers)
    np.testing.assert_allclose(embedding.layout.stack(engine.all_nodes()).numpy(), expected, **TOLERANCE)


@given(cases())
def test_three_tiers_train_in_either_engine(case: Case) -> None:
    """A third tier refines the second as the second refines the first."""
    rng = np.random.default_rng(case.seed)
    m_r, d = case.e_r.shape
    s_3 = torch.as_tensor(rng.random((m_r, 1)))
    third = torch.as_tensor(rng.normal(size=(2, d)))
    indices = torch.as_tensor(rng.integers(0, 2, (m_r, 1)))
    results = []
    for engine in ("message_passing", "collapsed"):
        model = build(case, engine, "csr", fine=True, entity_input="refined")
        tiers = list(model.embedding.tiers)
        tiers[1].codebook.requires_grad_(False)
        tiers.append(Tier("finest", third, type(case.s_r)(indices, s_3, 2), threshold=0.1, gate=0.4))
        embedding = TieredEmbedding(model.embedding.layout, tiers, entity_input="refined")
        deeper = Recommender(
            interaction_graph(case.csr, dtype=FLOAT), embedding, Propagation(case.layers), model.readout, engine
        )
        total = deeper.engine.entities(torch.arange(embedding.layout.total)).square().sum()
        (gradient,) = torch.autograd.grad(total, tiers[-1].codebook)
        results.append((stacked(deeper), gradient.numpy()))
    np.testing.assert_allclose(results[0][0], results[1][0], **TOLERANCE)
    np.testing.assert_allclose(results[0][1], results[1][1], **TOLERANCE)

    s_c, e_c, s_r, e_r = case.arrays
    dense_3 = np.zeros((m_r, 2))
    np.put_along_axis(dense_3, indices.numpy(), s_3.numpy(), axis=1)
    x3 = dense.soft(third.numpy(), 0.1)
    x2 = 0.6 * dense.soft(e_r, case.threshold) + 0.4 * dense_3 @ x3
    x1 = (1 - case.gate) * e_c + case.gate * s_r @ x2
    n, m_c = s_c.shape
    size = n + m_c + m_r + 2
    adjacency = np.zeros((size, size))
    adjacency[: n + m_c + m_r, : n + m_c + m_r] = dense.expanded(dense.bipartite(case.r), s_c, s_r)
    adjacency[n + m_c : n + m_c + m_r, -2:] = dense_3
    adjacency[-2:, n + m_c : n + m_c + m_r] = dense_3.T
    expected = dense.propagated(adjacency, np.vstack([s_c @ x1, x1, x2, x3]), case.layers)
    np.testing.assert_allclose(results[0][0], expected, **TOLERANCE)


def test_collapsed_refuses_what_is_not_linear() -> None:
    graph = interaction_graph(sp.csr_matrix(np.eye(2)))
    embedding = TieredEmbedding(entity_layout(graph), table=torch.zeros(4, 2))
    with pytest.raises(ValueError, match="message_passing"):
        make_engine("collapsed", embedding, Propagation(1))


def test_triplets_batches_cover_the_epoch_in_order() -> None:
    triplets = Triplets(np.arange(7), np.arange(7), np.arange(14).reshape(7, 2))
    parts = list(triplets.batches(3))
    assert [len(part.users) for part in parts] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([part.negatives for part in parts]), triplets.negatives)


@ENGINES
@given(cases())
def test_a_whitened_codebook_is_its_product(engine: str, kernel: str, case: Case) -> None:
    """H and gradients of E = W T, T lower triangular, are those of the dense equations at that E."""
    graph = interaction_graph(case.csr, dtype=FLOAT)
    w = torch.as_tensor(np.random.default_rng(case.seed).normal(size=(len(case.e_c), len(case.e_c))))
    tier = Tier("coarse", case.e_c, case.s_c, whitening=w)
    embedding = TieredEmbedding(entity_layout(graph), [tier])
    readout = Readout(torch.zeros(case.r.shape[1], dtype=FLOAT), case.r.shape[0])
    model = Recommender(graph, embedding, Propagation(case.layers, kernel=kernel), readout, engine)
    s_c, _, _, _ = case.arrays
    learned = np.tril(case.e_c.numpy())
    np.testing.assert_allclose(
        stacked(model), dense.coarse_h(case.r, s_c, w.numpy() @ learned, case.layers), rtol=0, atol=1e-9
    )
    model.engine.entities(torch.arange(embedding.layout.total)).sum().backward()
    gradient = tier.codebook.grad
    assert gradient is not None and (gradient.triu(1) == 0).all()
    # H is linear in E = W T: the gradient of its sum is W^T M^T 1 in every column, M the propagated coefficients.
    m = dense.coarse_h(case.r, s_c, np.eye(len(learned)), case.layers)[: embedding.layout.total]
    expected = np.tril(np.repeat((w.numpy().T @ m.sum(axis=0))[:, None], learned.shape[1], axis=1))
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=1e-9)
    assert tier.count_values()["coarse codebook"] == np.tril(np.ones_like(learned)).sum()


@given(cases(), st.integers(1, 6), st.sampled_from(["bpr", "softmax"]))
def test_shared_negatives_are_the_loss_with_each_positive_against_all_of_them(case: Case, k: int, loss: str) -> None:
    rng = np.random.default_rng(case.seed)
    shared = TripletSampler(case.csr, k, shared=True).epoch(5, 5, rng)
    own = Triplets(shared.users, shared.positives, np.repeat(shared.negatives, 5, axis=0))
    model = build(case, "collapsed", "csr", fine=False)
    model.readout = Readout(torch.as_tensor(case.r.sum(axis=0)), case.r.shape[0], item_scale=0.5, biases=True, seed=1)
    values = [batch_loss(model, batch, loss, 1e-2).item() for batch in (shared, own)]
    assert values[0] == pytest.approx(values[1], abs=1e-12)


def test_losses_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    positive, negative = rng.normal(size=50), rng.normal(size=(50, 7))
    rows = np.concatenate([positive[:, None], negative], axis=1)
    expected = {
        "bpr": -np.log(expit(positive[:, None] - negative)).mean(),
        "softmax": -log_softmax(rows, axis=1)[:, 0].mean(),
    }
    found = {name: loss(*map(torch.as_tensor, (positive, negative))).item() for name, loss in LOSSES.items()}
    assert found == pytest.approx(expected)
