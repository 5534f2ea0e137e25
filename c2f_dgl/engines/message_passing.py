"""The reference engine, which propagates the embeddings at every step, and what it shares with the collapsed one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from c2f_dgl.config.roles import EdgeType, reverse
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines.pairs import dots
from c2f_dgl.graph.layout import take_rows
from c2f_dgl.graph.propagate import Kernel, propagate
from c2f_dgl.tiers.embedding import EmbeddingLayer
from c2f_dgl.tiers.tiered import TieredEmbedding


class RelationImportance(nn.Module):
    """Factors exp(a_r) > 0 on all weights of a relation and its reverse, one learned value a_r a relation.

    H is not linear in them (they are in the products of all layers, and in D), so they need message passing.
    """

    def __init__(self, start: Mapping[EdgeType, float]) -> None:
        super().__init__()
        self.relations = tuple(start)
        self.log_factor = nn.Parameter(torch.tensor(list(start.values())).log())

    def factors(self) -> dict[EdgeType, Tensor]:
        """exp(a_r) of each relation and its reverse, differentiable."""
        values = dict(zip(self.relations, self.log_factor.exp(), strict=True))
        return values | {reverse(etype): factor for etype, factor in values.items() if etype[0] != etype[2]}

    def values(self) -> dict[str, float]:
        """Factors by the relation's name."""
        names = (name for _, name, _ in self.relations)
        return dict(zip(names, self.log_factor.detach().exp().tolist(), strict=True))


@dataclass(frozen=True)
class Propagation:
    """How the tiers' graph is propagated: settings of `c2f_dgl.graph.propagate.propagate`."""

    n_layers: int  # L
    layer_weights: tuple[float, ...] | None = None  # beta of L + 1 layers; the mean by default (Eq. 6)
    gate_layers: bool = False  # mix finer tiers in again after every layer (published code)
    kernel: Kernel = "auto"
    importance: RelationImportance | None = None  # learned factors on the weights of some relations

    def __call__(
        self, graph: dgl.DGLGraph, embedding: EmbeddingLayer, codebooks: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """H per node type from one (m_k x width) matrix per tier (see `EmbeddingLayer.inputs`)."""
        after_layer = None
        if self.gate_layers and isinstance(embedding, TieredEmbedding) and len(embedding.tiers) > 1:
            after_layer = embedding.gate_layers
        return propagate(
            graph,
            embedding.inputs(codebooks),
            self.n_layers,
            kernel=self.kernel,
            layer_weights=self.layer_weights,
            after_layer=after_layer,
            factors=None if self.importance is None else self.importance.factors(),
        )


class MessagePassing:
    """H from a full propagation whenever it is asked for: any embedding layer, any activation."""

    def __init__(self, embedding: EmbeddingLayer, propagation: Propagation) -> None:
        self.embedding, self.propagation = embedding, propagation

    def rebuild(self, graph: dgl.DGLGraph) -> None:
        self.graph = graph

    def entities(self, rows: Tensor) -> Tensor:
        return take_rows(self._stacked(), rows)

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        h = self._stacked()
        return dots(take_rows(h, users), h, items)

    def _stacked(self) -> Tensor:
        return self.embedding.layout.stack(self._propagated())

    def _propagated(self) -> dict[str, Tensor]:
        return self.propagation(self.graph, self.embedding, self.embedding.codebooks())

    @torch.no_grad()
    def all_nodes(self) -> dict[str, Tensor]:
        return self._propagated()
