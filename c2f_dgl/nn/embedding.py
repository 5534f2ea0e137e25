"""Embeddings composed from a few meta-embeddings, as a module."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.graph.partition import metis_parts
from c2f_dgl.tiers.assignment import anchored, pursuit
from c2f_dgl.tiers.codebook import random_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding


class MetaEmbedding(nn.Module):
    r"""Input embeddings of all nodes of a heterograph, composed from a codebook that they share.

    .. math::
        H^{(0)} = S E, \qquad S \in R_{\ge 0}^{N \times m}, \quad E \in R^{m \times D}

    S has `num_slots` entries a row and starts from METIS parts of the graph; E is learned: :math:`m D` values in place
    of :math:`N D`. A drop-in for one `torch.nn.Embedding` a node type.

    Parameters
    ----------
    graph : DGLGraph
        Its links say which nodes start with the same meta-embedding.
    num_meta : int
        Number of meta-embeddings :math:`m`.
    embedding_dim : int
        Size :math:`D`.
    num_slots : int
        Meta-embeddings a node is composed of, t.
    anchor_weight : float
        Weight of the own METIS part at the start.
    name : str
        Node type of the meta-embeddings in `link`.

    Example
    -------
    >>> embedding, conv = MetaEmbedding(g, num_meta=8, embedding_dim=16), HeteroLightGCNConv(k=2)
    >>> h = conv(embedding.link(g), embedding())
    >>> h["user"].shape
    torch.Size([3, 16])
    """

    def __init__(
        self,
        graph: dgl.DGLGraph,
        num_meta: int,
        embedding_dim: int,
        num_slots: int = 2,
        anchor_weight: float = 0.5,
        name: str = "meta",
        seed: int = 0,
    ) -> None:
        super().__init__()
        if not 1 <= num_slots <= num_meta:
            raise ValueError(f"num_slots = {num_slots} of {num_meta} meta-embeddings")
        layout = NodeLayout.of(graph, graph.ntypes)
        parts = metis_parts(graph, num_meta, seed, layout.types)
        assignment = anchored(parts, num_meta, num_slots, anchor_weight, np.random.default_rng(seed))
        codebook = random_codebook(num_meta, embedding_dim, "xavier", torch.Generator().manual_seed(seed))
        self._num_slots = num_slots
        self._tiers = TieredEmbedding(layout, [Tier(name, codebook, assignment)])

    @property
    def weight(self) -> nn.Parameter:
        """E, :math:`(m, D)`."""
        return self._tiers.tiers[0].codebook

    def forward(self) -> dict[str, Tensor]:
        """Embeddings of every node type, (N_t, D), and E itself under the meta nodes' name, (m, D)."""
        return self._tiers.inputs(self._tiers.codebooks())

    def link(self, graph: dgl.DGLGraph) -> dgl.DGLGraph:
        """`graph` with the meta nodes, linked both ways to the nodes they compose; edge data ``weight`` holds S.

        Relations without edge data ``weight`` get ones; weights come in the dtype of E. Other data are kept.
        """
        weighted, dtype = graph.local_var(), self.weight.dtype
        for etype in graph.canonical_etypes:
            ones = torch.ones(graph.num_edges(etype))
            weighted.edges[etype].data["weight"] = weighted.edges[etype].data.get("weight", ones).to(dtype)
        linked = self._tiers.link(weighted)
        data = [(graph.nodes[node_type].data, linked.nodes[node_type].data) for node_type in graph.ntypes]
        data += [(graph.edges[etype].data, linked.edges[etype].data) for etype in graph.canonical_etypes]
        for before, after in data:
            for name in before.keys() - after.keys():
                after[name] = before[name]
        return linked

    @torch.no_grad()
    def update(self, feat: dict[str, Tensor]) -> None:
        """Choose S anew: matching pursuit of propagated embeddings in those of the meta nodes.

        `feat` is what a convolution on `link`'s graph gives, (N_t, D) and (m, D).
        """
        tier = self._tiers.tiers[0]
        tier.assign(pursuit(self._tiers.layout.stack(feat), feat[tier.name], self._num_slots))

    def extra_repr(self) -> str:
        return f"num_meta={self.weight.shape[0]}, embedding_dim={self.weight.shape[1]}, num_slots={self._num_slots}"
