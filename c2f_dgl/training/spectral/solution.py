"""One solution of a spectral start: W and T for one cutoff of the filter, on one weighting of the relations."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation, propagated_basis
from c2f_dgl.graph.propagate import Kernel, propagate
from c2f_dgl.tiers.spectral import graph_codebook, ritz_codebook
from c2f_dgl.tiers.tiered import TieredEmbedding

# Cutoff, power and importances.
Key = tuple[float, float, tuple[tuple[str, float], ...]]


@dataclass(frozen=True)
class Linked:
    """The entities' graph with the tier, in float64, and the importances of relations that are in its weights."""

    graph: dgl.DGLGraph
    importances: dict[str, float]


@dataclass(frozen=True)
class Solution:
    """W and T, the directions of H ordered by what they keep of the graph.

    Parameters
    ----------
    linked : Linked
    cutoff : float
    layer_weights : tuple of L + 1 floats
    whitening : Tensor, shape (m, m), float64
        W.
    codebook : Tensor, shape (m, d), float64
        T, each direction weighted by a power of its singular value.
    features : dict of str to Tensor (n, d), float32
        H of the entities.
    values : Tensor, shape (d,), float64, optional
        The singular values, descending, where the graph is bipartite.
    power : float
        1 weights a direction of scores, so a product of two of H, by its singular value.
    """

    linked: Linked
    cutoff: float
    layer_weights: tuple[float, ...]
    whitening: Tensor
    codebook: Tensor
    features: dict[str, Tensor]
    values: Tensor | None = None
    power: float = 1.0

    @property
    def key(self) -> Key:
        """What was chosen for it: equal solutions have equal ones."""
        return self.cutoff, self.power, tuple(self.linked.importances.items())

    def weighted(self, power: float) -> Solution:
        """With directions weighted by another power of their singular values: the codebook absorbs it."""
        assert self.values is not None
        factors = torch.where(self.values > 0, self.values ** ((power - self.power) / 2), 0.0)
        features = {node_type: x * factors.to(x) for node_type, x in self.features.items()}
        return replace(self, codebook=self.codebook * factors, features=features, power=power)

    def __str__(self) -> str:
        chosen = "".join(f", importance of {name} {value:g}" for name, value in self.linked.importances.items())
        return f"cutoff {self.cutoff:g}, power {self.power:g}{chosen}"


def solve(
    linked: Linked,
    embedding: TieredEmbedding,
    propagation: Propagation,
    cutoff: float,
    sides: tuple[str, str] | None,
) -> Solution:
    """Solve for the codebook of the embedding's first tier.

    `sides` are the node types recommended to and ranked where these are all there is and the graph is bipartite.
    """
    tier, layout = embedding.tiers[0], embedding.layout
    atoms = torch.eye(tier.size, dtype=torch.float64, device=tier.codebook.device)
    basis = propagated_basis(linked.graph, embedding, propagation, 0, atoms)[: layout.total]
    d = tier.codebook.shape[1]
    if sides is not None:
        users, items = (basis[layout.rows(node_type)] for node_type in sides)
        whitening, codebook, values = ritz_codebook(users, items, d)
        codebook = codebook * values.sqrt()
    else:
        values = None
        whitening, codebook = graph_codebook(basis, partial(_passed, linked.graph, embedding, propagation.kernel), d)
    assert propagation.layer_weights is not None  # a filter's
    features = layout.split((basis @ (whitening @ codebook)).float())
    return Solution(linked, cutoff, propagation.layer_weights, whitening, codebook, features, values)


def _passed(graph: dgl.DGLGraph, embedding: TieredEmbedding, kernel: Kernel, x: Tensor) -> Tensor:
    """P X of the entities (N x k); tiers, which weigh next to nothing, neither send nor receive."""
    features = embedding.layout.split(x)
    features.update({tier.name: x.new_zeros(tier.size, x.shape[1]) for tier in embedding.tiers})
    return embedding.layout.stack(propagate(graph, features, 1, kernel=kernel, layer_weights=(0.0, 1.0)))
