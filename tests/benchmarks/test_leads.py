from __future__ import annotations

import numpy as np
import pytest
import torch

from benchmarks import leads, matching
from c2f_dgl import load_dataset
from c2f_dgl.baselines.registry import find_system
from c2f_dgl.baselines.system import Context
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation, propagated_basis
from c2f_dgl.graph.hetero import interaction_graph, with_norm
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.io.progress import Reporter
from c2f_dgl.model import Readout, Recommender, item_degrees
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding


@pytest.fixture(scope="module")
def split():
    return load_dataset("planted")


def a_context(split, lead: str) -> Context:
    """Few atoms of little width, and two epochs in which S is matched."""
    settings = leads.LEADS[lead].settings
    small = settings.model_copy(update={"m": settings.m - 240, "d": 8, "epochs": 7, "batch_size": 40_960})
    graph = interaction_graph(split.train)
    return Context(split, graph, 0, small, 1, torch.device("cpu"), Reporter(quiet=True))


@pytest.mark.parametrize("name", list(leads.LEADS))
def test_every_lead_trains_and_counts_what_it_learns(split, name) -> None:
    context = a_context(split, name)
    system = find_system(f"benchmarks.leads:{name.replace('-', '_')}")
    fitted = system.train(context)
    (phase,) = fitted.phases
    assert phase["epochs"] == 7 and phase["asks"] == leads.LEADS[name].asks
    # At most t entries an entity, or three for those that have one more; and more than the codebook alone.
    d, n = context.settings.d, context.n_entities
    m = context.settings.m + round(leads.LEADS[name].more * n / d)
    assert m * d < sum(fitted.values.values()) <= m * d + max(3, context.settings.t) * n + 4
    assert np.isfinite(phase["valid"]["ndcg@20"])


def a_model(split) -> tuple[dgl.DGLGraph, TieredEmbedding]:
    """A tier of five atoms, one an entity, and the graph with its links."""
    layout = NodeLayout(("user", "item"), (split.n_users, split.n_items))
    indices = torch.arange(layout.total)[:, None] % 5
    codebook = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    tier = Tier("coarse", codebook, Assignment(indices, torch.ones(layout.total, 1), 5))
    embedding = TieredEmbedding(layout, [tier])
    return embedding.link(interaction_graph(split.train)), embedding


def test_terms_are_each_layer_and_the_ideal_low_pass(split) -> None:
    graph, embedding = a_model(split)
    bases, weights = leads._each_layer(a_context(split, "layers"))(graph, embedding)
    mean = propagated_basis(graph, embedding, Propagation(3), 0, torch.eye(5))
    torch.testing.assert_close(sum(w * basis for w, basis in zip(weights, bases, strict=True)), mean)
    (propagated, passed), _ = leads._low_pass(a_context(split, "low-pass"))(graph, embedding)
    torch.testing.assert_close(propagated, mean)
    r = split.train.toarray().astype(np.float64)
    normalised = r / np.sqrt(np.maximum(r.sum(1, keepdims=True), 1)) / np.sqrt(np.maximum(r.sum(0), 1))
    left, _, right = np.linalg.svd(normalised, full_matrices=False)
    v = np.concatenate([left[:, :64], right[:64].T]) / np.sqrt(2)
    n = embedding.layout.total
    expected = v @ (v.T @ embedding.tiers[0].assignment.dense().numpy())
    np.testing.assert_allclose(passed[:n].numpy(), expected, atol=1e-5)
    assert not passed[n:].any()


def test_scores_of_learned_terms_are_those_of_every_node(split) -> None:
    graph, embedding = a_model(split)
    engine = leads.LearnedTerms(embedding, leads._each_layer(a_context(split, "layers")))
    engine.rebuild(graph)
    users, items = torch.tensor([4, 0, 4]), split.n_users + torch.tensor([[2, 2], [5, 0], [2, 7]])
    h = torch.einsum("k,knm,md->nd", engine.betas, torch.stack(engine.bases), embedding.tiers[0].codebook)
    expected = (h[users][:, None] * h[items]).sum(dim=2)
    found = engine.scores(users, items)
    torch.testing.assert_close(found, expected)
    for left, right in zip(
        *(torch.autograd.grad(x.square().sum(), engine.betas) for x in (found, expected)), strict=True
    ):
        torch.testing.assert_close(left, right)
    torch.testing.assert_close(torch.cat(list(engine.all_nodes().values())), h.detach())


def test_link_importances_act_on_links_in_both_directions(split) -> None:
    graph, embedding = a_model(split)
    links = leads.LinkImportance()
    with torch.no_grad():
        links.log_factor.copy_(torch.tensor([2.0, 3.0]).log())
    found = Propagation(2, importance=links)(graph, embedding, embedding.codebooks())
    scaled = graph.clone()
    for side, factor in (("user", 2.0), ("item", 3.0)):
        for etype in ((side, "composed_of", "coarse"), ("coarse", f"composes_{side}", side)):
            scaled.edges[etype].data["weight"] = factor * scaled.edges[etype].data["weight"]
    expected = Propagation(2)(with_norm(scaled), embedding, embedding.codebooks())
    for name in expected:
        torch.testing.assert_close(found[name], expected[name])


def test_annealing_matches_like_the_control_once_it_is_cold(split) -> None:
    context = a_context(split, "annealed")
    graph, embedding = a_model(split)
    readout = Readout(item_degrees(graph), split.n_users)
    model = Recommender(interaction_graph(split.train), embedding, Propagation(2), readout)
    hot, cold = (matching.annealed(model, context, epoch) for epoch in (5, 20))
    control = matching.pursued(model, context, 20)
    assert torch.equal(cold.indices, control.indices)
    assert not torch.equal(hot.indices, control.indices)
