"""The reference engine: propagate the embeddings at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.embedding import EmbeddingLayer
from c2f_dgl.engines.pairs import dots
from c2f_dgl.engines.propagation import Propagation
from c2f_dgl.graph.layout import take_rows


class MessagePassing:
    """H from a full propagation whenever it is asked for: any embedding layer, any activation.

    Parameters
    ----------
    embedding : EmbeddingLayer
    propagation : Propagation
    """

    def __init__(self, embedding: EmbeddingLayer, propagation: Propagation) -> None:
        self.embedding, self.propagation = embedding, propagation

    def rebuild(self, graph: dgl.DGLGraph) -> None:
        """Take a graph whose tier relations carry the embedding's current assignments."""
        self.graph = graph

    def entities(self, rows: Tensor) -> Tensor:
        """H_full of some entities (rows: int64, stacked numbering), differentiable in the codebooks."""
        return take_rows(self._stacked(), rows)

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """h_u . h_i of users (n,) with items (n, c), rows in stacked numbering."""
        h = self._stacked()
        return dots(take_rows(h, users), h, items)

    def _stacked(self) -> Tensor:
        return self.embedding.layout.stack(self.propagation(self.graph, self.embedding, self.embedding.codebooks()))

    @torch.no_grad()
    def all_nodes(self) -> dict[str, Tensor]:
        """H of every node type, detached: for assignment updates and evaluation."""
        return self.propagation(self.graph, self.embedding, self.embedding.codebooks())
