"""The reference engine: propagate the embeddings at every step."""

from __future__ import annotations

import torch
from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.embedding import EmbeddingLayer
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
        features = self.propagation(self.graph, self.embedding, self.embedding.codebooks())
        return take_rows(self.embedding.layout.stack(features), rows)

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """h_u . h_i of users (n,) with items (n, c), rows in stacked numbering."""
        h_users, h_items = self.entities(torch.cat([users, items.flatten()])).split([len(users), items.numel()])
        return (h_users[:, None] * h_items.view(*items.shape, -1)).sum(-1)

    @torch.no_grad()
    def all_nodes(self) -> dict[str, Tensor]:
        """H of every node type, detached: for assignment updates and evaluation."""
        return self.propagation(self.graph, self.embedding, self.embedding.codebooks())
