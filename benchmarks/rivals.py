"""Other ways to take the step of `benchmarks.throughput`, each as its users write it.

Every one is a `Step`: parameters, and the loss of a batch as a function of them. The propagation is LightGCN's, the
mean over layers 0 to L of the symmetrically normalised graph, and is computed anew for each batch.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from c2f_dgl.config.roles import EdgeType
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import entity_layout, interaction_graph, link_tier
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.training.sampler import Triplets

LAYERS = 3

Weights = Literal["edges", "nodes"]


@dataclass(frozen=True)
class Step:
    """A model that can be trained: its codebook or table, and the loss of a batch of triplets."""

    parameter: nn.Parameter
    loss: Callable[[Triplets], Tensor]


def ends(batch: Triplets, n_users: int) -> tuple[Tensor, Tensor, Tensor]:
    """User, positive and negative of each triplet, as nodes."""
    k = batch.negatives.shape[1]
    users, positives = (torch.as_tensor(np.repeat(x, k)) for x in (batch.users, batch.positives))
    return users, positives + n_users, torch.as_tensor(batch.negatives.ravel()) + n_users


def bpr(h: Tensor, ego: Tensor, batch: Triplets, n_users: int, l2: float) -> Tensor:
    """Eq. 9 as a batch of triplets, one row of `h` and `ego` (N x d) gathered for each end of each triplet."""
    users, positives, negatives = ends(batch, n_users)
    margin = (h[users] * h[positives]).sum(1) - (h[users] * h[negatives]).sum(1)
    squares = sum(ego[rows].square().sum(1) for rows in (users, positives, negatives))
    return F.softplus(-margin).mean() + l2 * squares.mean()


def dgl_step(split: Split, values: Tensor, assignment: Assignment | None, l2: float, weights: Weights) -> Step:
    """LightGCN on a DGL heterograph: with a full table, or coarse meta-embeddings that are nodes and compose its input.

    With weights on ``edges`` these are normalised and nothing is scaled at a step (`u_mul_e`). On ``nodes`` features
    are scaled by D^(-1/2) before and after, and relations whose weights are all 1 send them as they are (`copy_u`).
    """
    propagated = _on_heterograph(_graph(split, assignment), weights)
    parameter, n_users = nn.Parameter(values.clone()), split.n_users

    def loss(batch: Triplets) -> Tensor:
        ego = parameter if assignment is None else assignment.compose(parameter)
        features = {"user": ego[:n_users], "item": ego[n_users:]}
        h = propagated(features if assignment is None else {**features, "coarse": parameter})
        return bpr(torch.cat([h["user"], h["item"]]), ego, batch, n_users, l2)

    return Step(parameter, loss)


def coo_compositional(split: Split, codebook: Tensor, assignment: Assignment, l2: float) -> Step:
    """The same with ``torch.sparse.mm`` of COO matrices, as the published code has it."""
    n_users, n = split.n_users, split.n_users + split.n_items
    parameter = nn.Parameter(codebook.clone())
    graph, first = _graph(split, assignment), {"user": 0, "item": n_users, "coarse": n}
    ends = []
    for etype in graph.canonical_etypes:
        source, target = graph.edges(etype=etype)
        ends.append(torch.stack([target + first[etype[2]], source + first[etype[0]]]))
    values = torch.cat([_normalised(graph, etype) for etype in graph.canonical_etypes])
    adjacency = _coo(torch.cat(ends, dim=1), values, n + len(codebook), n + len(codebook))
    rows = torch.arange(n).repeat_interleave(assignment.indices.shape[1])
    entries = torch.stack([rows, assignment.indices.flatten()])
    composition = _coo(entries, assignment.weights.flatten(), n, len(codebook))

    def loss(batch: Triplets) -> Tensor:
        ego = torch.sparse.mm(composition, parameter)
        layers = [torch.cat([ego, parameter])]
        for _ in range(LAYERS):
            layers.append(torch.sparse.mm(adjacency, layers[-1]))
        return bpr(torch.stack(layers, dim=1).mean(dim=1), ego, batch, n_users, l2)

    return Step(parameter, loss)


def pyg_table(split: Split, table: Tensor, l2: float) -> Step:
    """PyG's LightGCN with its `recommendation_loss`, edges as an index tensor as in its example."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyG's optional compiled parts
        from torch_geometric.nn import LightGCN
    coo, n_users = split.train.tocoo(), split.n_users
    users, items = (torch.as_tensor(x, dtype=torch.int64) for x in (coo.row, coo.col))
    edges = torch.stack([torch.cat([users, items + n_users]), torch.cat([items + n_users, users])])
    model = LightGCN(n_users + split.n_items, table.shape[1], LAYERS)
    model.embedding.weight.data.copy_(table)

    def loss(batch: Triplets) -> Tensor:
        user, positive, negative = ends(batch, n_users)
        pairs = torch.stack([torch.cat([user, user]), torch.cat([positive, negative])])
        ranks = model(edges, pairs).view(2, -1)
        return model.recommendation_loss(ranks[0], ranks[1], torch.cat([user, positive, negative]), 2 * l2)

    return Step(model.embedding.weight, loss)


def _graph(split: Split, assignment: Assignment | None) -> dgl.DGLGraph:
    """The interactions and, with an assignment, the links to its coarse nodes, both ways."""
    graph = interaction_graph(split.train)
    if assignment is None:
        return graph
    indices, weights, entities = assignment.indices, assignment.weights, entity_layout(graph)
    return link_tier(graph, "coarse", entities, indices, weights, n_nodes=assignment.n_atoms)


def _normalised(graph: dgl.DGLGraph, etype: EdgeType) -> Tensor:
    """Weights of a relation's edges, divided by the square roots of the degrees of both ends."""
    source, target = graph.edges(etype=etype)
    scale = graph.nodes[etype[0]].data["norm"][source] * graph.nodes[etype[2]].data["norm"][target]
    return graph.edges[etype].data["weight"] * scale


def _on_heterograph(graph: dgl.DGLGraph, weights: Weights) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Mean over layers, one `multi_update_all` a layer."""
    functions = {}
    for etype in graph.canonical_etypes:
        values = _normalised(graph, etype) if weights == "edges" else graph.edges[etype].data["weight"]
        graph.edges[etype].data["w"] = values
        plain = weights == "nodes" and bool((values == 1).all())
        message = dgl.function.copy_u("x", "m") if plain else dgl.function.u_mul_e("x", "w", "m")
        functions[etype] = message, dgl.function.sum("m", "y")
    scales = {kind: graph.nodes[kind].data["norm"][:, None] for kind in graph.ntypes}

    def scaled(features: dict[str, Tensor]) -> dict[str, Tensor]:
        return features if weights == "edges" else {kind: scales[kind] * x for kind, x in features.items()}

    def propagated(features: dict[str, Tensor]) -> dict[str, Tensor]:
        total = features
        with graph.local_scope():
            for _ in range(LAYERS):
                graph.ndata["x"] = scaled(features)
                graph.multi_update_all(functions, "sum")
                features = scaled(dict(graph.ndata["y"]))
                total = {kind: total[kind] + x for kind, x in features.items()}
        return {kind: x / (LAYERS + 1) for kind, x in total.items()}

    return propagated


def _coo(entries: Tensor, values: Tensor, *shape: int) -> Tensor:
    return torch.sparse_coo_tensor(entries, values, shape, check_invariants=False).coalesce()
