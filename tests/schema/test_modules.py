"""The modules of `c2f_dgl.nn` inside a loop that is not this package's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.sparse import csr_matrix
from torch.nn import functional as F

from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import entity_layout, in_float64, interaction_graph, link_tier, reweighted, with_norm
from c2f_dgl.graph.propagate import Kernel, propagate
from c2f_dgl.nn import HeteroLightGCNConv, MetaEmbedding
from tests.dense import bipartite, expanded, normalised, propagated
from tests.schema.library import library


def test_the_convolution_is_lightgcn_over_all_relations() -> None:
    graph = library(n_readers=7, n_books=6, n_authors=3)
    order, sizes = graph.ntypes, [graph.num_nodes(node_type) for node_type in graph.ntypes]
    offset = dict(zip(order, np.cumsum([0, *sizes[:-1]]), strict=True))
    rng = np.random.default_rng(0)
    # Symmetric: drop the relations that have no reverse.
    for name in ("written_by", "follows"):
        graph.remove_edges(torch.arange(graph.num_edges(name)), etype=name)
    a = np.zeros((sum(sizes), sum(sizes)))
    for source, name, target in graph.canonical_etypes:
        s, t = (ends.numpy() for ends in graph.edges(etype=name))
        a[t + offset[target], s + offset[source]] = 1
    feat = {n: torch.as_tensor(rng.normal(size=(size, 4))) for n, size in zip(order, sizes, strict=True)}
    h0 = np.vstack([feat[node_type].numpy() for node_type in order])
    p = normalised(a)
    expected = 0.5 * h0 + 0.2 * p @ h0 + 0.3 * p @ p @ h0
    for kernel in ("csr", "dgl"):
        found = HeteroLightGCNConv(k=2, layer_weights=(0.5, 0.2, 0.3), kernel=kernel)(graph, feat)
        np.testing.assert_allclose(np.vstack([found[node_type] for node_type in order]), expected, atol=1e-10)
    assert "weight" not in graph.edges["borrowed"].data  # the caller's graph is left as it was
    # Twice the weight of every edge of a symmetric graph changes nothing; of one relation, it does.
    twice = {etype: torch.full((graph.num_edges(etype),), 2.0) for etype in graph.canonical_etypes}
    doubled = HeteroLightGCNConv(k=2, layer_weights=(0.5, 0.2, 0.3))(graph, feat, twice)
    np.testing.assert_allclose(np.vstack([doubled[node_type] for node_type in order]), expected, atol=1e-6)


def circle(order: list[int]) -> dgl.DGLGraph:
    """Nodes of one type, each linked to the next and back."""
    ends = torch.tensor(order), torch.tensor(order).roll(1)
    return dgl.heterograph({("n", "next", "n"): (torch.cat(ends), torch.cat(ends[::-1]))})


def dense(graph: dgl.DGLGraph, weight: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """(H(0) + D^(-1/2) A D^(-1/2) H(0)) / 2, differentiable."""
    source, target = graph.edges()
    a = torch.zeros(graph.num_nodes(), graph.num_nodes()).index_put((target, source), weight)
    root = a.sum(dim=1).rsqrt()
    return 0.5 * x + 0.5 * (root[:, None] * a * root) @ x


@pytest.mark.parametrize("kernel", ["csr", "dgl"])
def test_the_convolution_follows_its_weights(kernel: Kernel) -> None:
    """One tensor may weigh several graphs, and may be changed."""
    conv, x, weight = HeteroLightGCNConv(k=1, kernel=kernel), torch.eye(5), torch.rand(5).repeat(2) + 0.5
    for graph in (circle([0, 1, 2, 3, 4]), circle([0, 2, 4, 1, 3])):
        for change in (1.0, 7.0):
            weight[[0, 5]] = change  # an edge and its reverse
            torch.testing.assert_close(conv(graph, {"n": x}, {"next": weight})["n"], dense(graph, weight, x))
            graph.edata["weight"] = weight
            torch.testing.assert_close(conv(graph, {"n": x})["n"], dense(graph, weight, x))


def test_gradients_reach_weights() -> None:
    graph, x = circle([0, 1, 2, 3, 4]), torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    gradients = []
    for layer in (lambda w: HeteroLightGCNConv(k=1)(graph, {"n": x}, {"next": w})["n"], lambda w: dense(graph, w, x)):
        weight = torch.arange(1.0, 6.0).repeat(2).requires_grad_()
        layer(weight).square().sum().backward()
        gradients.append(weight.grad)
    torch.testing.assert_close(gradients[0], gradients[1])
    with pytest.raises(ValueError, match="kernel csr takes weights as constants"):
        HeteroLightGCNConv(k=1, kernel="csr")(graph, {"n": x}, {"next": torch.ones(10, requires_grad=True)})
    with pytest.raises(dgl.DGLError, match="follows"):
        HeteroLightGCNConv(k=1)(graph, {"n": x}, {"follows": torch.ones(10)})


def test_a_factor_is_one_on_the_weights_of_a_relation_without_a_reverse() -> None:
    graph = dgl.heterograph({("a", "r", "b"): ([0, 1, 1], [0, 0, 1]), ("b", "s", "a"): ([1], [0])})
    features = {node_type: torch.eye(2) for node_type in graph.ntypes}
    for etype in graph.canonical_etypes:
        graph.edges[etype].data["weight"] = torch.ones(graph.num_edges(etype))
    with_norm(graph)
    factors = {("a", "r", "b"): torch.tensor(3.0), ("b", "rev_r", "a"): torch.tensor(3.0)}
    passed = propagate(graph, features, 2, factors=factors)
    weighed = propagate(reweighted(graph, {("a", "r", "b"): 3.0}), features, 2, kernel="csr")
    for node_type in graph.ntypes:
        torch.testing.assert_close(weighed[node_type], passed[node_type])
    with pytest.raises(ValueError, match="expected kernel dgl"):
        propagate(graph, features, 2, kernel="csr", factors=factors)


def test_bfloat16_rounds_products_and_their_gradients() -> None:
    rng = np.random.default_rng(0)
    graph = interaction_graph(csr_matrix(rng.random((40, 60)) < 0.2))
    start = {name: torch.as_tensor(rng.normal(size=(graph.num_nodes(name), 8))).float() for name in graph.ntypes}
    found = {}
    for kernel in ("csr", "bfloat16"):
        features = {name: x.clone().requires_grad_() for name, x in start.items()}
        h = propagate(graph, features, 3, kernel=kernel)
        (h["user"].square().sum() + h["item"].sum()).backward()
        found[kernel] = torch.cat([*h.values(), *(x.grad for x in features.values())]).detach()
    assert found["bfloat16"].dtype == torch.float32
    torch.testing.assert_close(found["bfloat16"], found["csr"], rtol=2e-2, atol=2e-2)
    assert not torch.allclose(found["bfloat16"], found["csr"], rtol=1e-5)
    wide = {name: x.double() for name, x in start.items()}
    exact, kept = (propagate(in_float64(graph), wide, 3, kernel=kernel)["user"] for kernel in ("csr", "bfloat16"))
    torch.testing.assert_close(kept, exact)


@pytest.mark.parametrize("kernel", ["csr", "dgl"])
@pytest.mark.parametrize("links", [0.5, 1e-36])
def test_zeros_and_links_without_weight_are_left_out_of_products_alone(kernel: Kernel, links: float) -> None:
    """As the dense oracle has it: users start at zero, and meta nodes hear items, or next to nothing."""
    rng = np.random.default_rng(0)
    r, s = (rng.random((5, 7)) < 0.5).astype(float), np.eye(7, 3)
    r[:, 0] = r[0] = 1
    graph = interaction_graph(csr_matrix(r), dtype=torch.float64)
    layout, indices = entity_layout(graph), torch.arange(12)[:, None].clamp(min=5) - 5
    weights = links * torch.tensor([0.0] * 5 + s.sum(axis=1).tolist(), dtype=torch.float64)[:, None]
    linked = with_norm(link_tier(graph, "coarse", layout, indices.clamp(max=2), weights, n_nodes=3))
    start = {"user": np.zeros((5, 2)), "item": rng.normal(size=(7, 2)), "coarse": rng.normal(size=(3, 2))}
    h = propagate(linked, {name: torch.as_tensor(x) for name, x in start.items()}, 3, kernel=kernel)
    adjacency = expanded(bipartite(r), links * np.vstack([np.zeros((5, 3)), s]))
    expected = propagated(adjacency, np.vstack(list(start.values())), 3)
    np.testing.assert_allclose(np.vstack([h[name] for name in start]), expected, rtol=0, atol=1e-12)


def test_meta_embeddings_learn_inside_another_model() -> None:
    graph = library()
    torch.manual_seed(0)
    embedding, conv = MetaEmbedding(graph, num_meta=8, embedding_dim=6), HeteroLightGCNConv(k=2)
    head = torch.nn.Bilinear(6, 6, 1)
    assert sum(parameter.numel() for parameter in embedding.parameters()) == 8 * 6
    readers, books = graph.edges(etype="borrowed")
    wrong = torch.randint(graph.num_nodes("book"), books.shape)
    optimizer = torch.optim.Adam([*embedding.parameters(), *head.parameters()], lr=0.05)
    losses = []
    linked = embedding.link(graph)
    for epoch in range(12):
        if epoch == 6:
            before = embedding()["reader"].detach()
            embedding.update(conv(linked, embedding()))
            assert not torch.equal(before, embedding()["reader"])
            linked = embedding.link(graph)
        h = conv(linked, embedding())
        assert h["reader"].shape == (graph.num_nodes("reader"), 6) and h["meta"].shape == (8, 6)
        margin = head(h["reader"][readers], h["book"][books]) - head(h["reader"][readers], h["book"][wrong])
        loss = F.softplus(-margin).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert embedding.weight.grad is not None and embedding.weight.grad.abs().sum() > 0
    assert losses[-1] < 0.9 * losses[0]
    assert "num_meta=8, embedding_dim=6, num_slots=2" in str(embedding)


@pytest.mark.parametrize("kernel", ["auto", "dgl"])
def test_propagate_passes_gradients_to_weights(kernel: Kernel) -> None:
    """Through the product as through the norms; torch's kernel, which cannot, says so."""
    graph, x = circle([0, 1, 2, 3]), torch.randn(4, 3, dtype=torch.float64)
    start = torch.rand(graph.num_edges(), dtype=torch.float64) + 0.5

    def through(weight: torch.Tensor) -> torch.Tensor:
        weighted = graph.local_var()
        weighted.edata["weight"] = weight
        return propagate(with_norm(weighted), {"n": x}, 2, kernel=kernel)["n"]

    assert torch.autograd.gradcheck(through, start.clone().requires_grad_())
    graph.edata["weight"] = start.requires_grad_()
    with pytest.raises(ValueError, match="kernel csr takes weights as constants"):
        propagate(with_norm(graph), {"n": x}, 2, kernel="csr")


@pytest.mark.parametrize(
    ("features", "given", "message"),
    [
        ({"a": (1, 2), "b": (3, 2)}, {}, "features \\(1, 2\\) of the 2 nodes of type 'a'"),
        ({"a": (2, 1), "b": (3, 2)}, {}, "several widths"),
        ({"a": (2, 2)}, {}, r"no features for node types \['b'\]"),
        ({"a": (2, 2), "b": (3, 2)}, {"kernel": "DGL"}, "no kernel 'DGL'"),
        ({"a": (2, 2), "b": (3, 2)}, {"n_layers": -1}, "-1 layers"),
    ],
)
def test_features_that_do_not_fit_the_graph_are_refused(features: dict, given: dict, message: str) -> None:
    graph = dgl.heterograph({("a", "to", "b"): ([0, 1], [1, 2]), ("b", "back", "a"): ([1, 2], [0, 1])})
    for etype in graph.canonical_etypes:
        graph.edges[etype].data["weight"] = torch.ones(2)
    with pytest.raises(ValueError, match=message):
        propagate(
            with_norm(graph),
            {node_type: torch.ones(shape) for node_type, shape in features.items()},
            given.pop("n_layers", 1),
            **given,
        )


def test_linking_keeps_the_data_of_a_graph_and_takes_weights_of_any_type() -> None:
    graph = library()
    counts = torch.arange(1, graph.num_edges("follows") + 1)
    graph.edges["follows"].data["weight"] = counts
    linked = MetaEmbedding(graph, num_meta=8, embedding_dim=4).link(graph)
    assert linked.nodes["book"].data["feat"].equal(graph.nodes["book"].data["feat"])
    assert linked.edges["follows"].data["hours"].equal(graph.edges["follows"].data["hours"])
    assert linked.edges["follows"].data["weight"].equal(counts.float())
    assert MetaEmbedding(graph, num_meta=8, embedding_dim=4).double().link(graph).num_nodes("meta") == 8
