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

from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
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
    propagated = _on_heterograph(split, assignment, weights)
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
    source, target, weight, norm = _expanded_edges(split, assignment)
    adjacency = _coo(target, source, weight * norm[source] * norm[target], (n + len(codebook),) * 2)
    rows = np.repeat(np.arange(n), assignment.indices.shape[1])
    composition = _coo(rows, assignment.indices.numpy().ravel(), assignment.weights.numpy().ravel(), (n, len(codebook)))

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


def _expanded_edges(split: Split, assignment: Assignment | None) -> tuple[np.ndarray, ...]:
    """Both directions of every link between users, items and, after them, coarse nodes; weights; D^(-1/2)."""
    coo, n_users = split.train.tocoo(), split.n_users
    first, second, weights = [coo.row.astype(np.int64)], [coo.col.astype(np.int64) + n_users], [coo.data]
    n = n_users + split.n_items
    if assignment is not None:
        rows, slots = np.nonzero(assignment.weights.numpy())
        first.append(rows)
        second.append(assignment.indices.numpy()[rows, slots] + n)
        weights.append(assignment.weights.numpy()[rows, slots])
        n += assignment.n_atoms
    source, target = np.concatenate([*first, *second]), np.concatenate([*second, *first])
    weight = np.tile(np.concatenate(weights), 2).astype(np.float32)
    degree = np.bincount(target, weights=weight, minlength=n)
    norm = np.divide(1.0, np.sqrt(degree), out=np.zeros_like(degree), where=degree > 0).astype(np.float32)
    return source, target, weight, norm


def _on_heterograph(
    split: Split, assignment: Assignment | None, weights: Weights
) -> Callable[[dict[str, Tensor]], dict[str, Tensor]]:
    """Mean over layers, one `multi_update_all` a layer."""
    source, target, weight, norm = _expanded_edges(split, assignment)
    sizes = {"user": split.n_users, "item": split.n_items}
    if assignment is not None:
        sizes["coarse"] = assignment.n_atoms
    bounds, types = np.cumsum([0, *sizes.values()]), list(sizes)
    of_source, of_target = (np.searchsorted(bounds, nodes, side="right") - 1 for nodes in (source, target))
    relations, data = {}, {}
    for a, b in sorted(set(zip(of_source.tolist(), of_target.tolist(), strict=True))):
        chosen = (of_source == a) & (of_target == b)
        etype = types[a], f"{types[a]}_to_{types[b]}", types[b]
        relations[etype] = tuple(torch.as_tensor(x[chosen] - bounds[i]) for x, i in ((source, a), (target, b)))
        scale = norm[source] * norm[target] if weights == "edges" else 1.0
        data[etype] = torch.as_tensor((weight * scale)[chosen])
    graph = dgl.heterograph(relations, num_nodes_dict=sizes)
    functions = {}
    for etype, values in data.items():
        graph.edges[etype].data["w"] = values
        plain = weights == "nodes" and bool((values == 1).all())
        message = dgl.function.copy_u("x", "m") if plain else dgl.function.u_mul_e("x", "w", "m")
        functions[etype] = message, dgl.function.sum("m", "y")
    scales = {kind: torch.as_tensor(norm[bounds[i] : bounds[i + 1], None]) for i, kind in enumerate(types)}

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


def _coo(rows: np.ndarray, columns: np.ndarray, values: np.ndarray, shape: tuple[int, int]) -> Tensor:
    indices = torch.as_tensor(np.stack([rows, columns]))
    return torch.sparse_coo_tensor(indices, torch.as_tensor(values), shape, check_invariants=False).coalesce()
