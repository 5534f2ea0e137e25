"""The fast engine: propagate the assignment once, then only dense algebra.

Propagation is linear, and without an activation so is the composition of H(0). So with A_k the codebook of tier k
as the model sees it (soft-thresholded or not),

    H = sum over trained tiers k of  M_k A_k   +   C,

where M_k is the propagation of tier k's coefficients (the identity in its own rows, products of assignments above)
and C that of the frozen tiers. M_k has m_k columns, C has d; both change only when an assignment does. A training
step is then a gather of some rows of M_k and one small matrix product, with the exact gradient. SGC (Wu et al. 2019)
precomputes propagated node features in the same way; here the features are the few hundred columns of S.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines.propagation import Propagation
from c2f_dgl.graph.layout import NodeLayout, take_rows
from c2f_dgl.tiers.tiered import TieredEmbedding

# Columns propagated at once: bounds the memory of a rebuild to a few (nodes x block) matrices beside M itself.
_COLUMN_BLOCK = 128

# A batch that asks for more than this share of N rows (with repeats) gets them from the product with all rows: that
# reads M once and in order, a gather copies the rows first.
_GATHER_SHARE = 0.4


class Collapsed:
    """H from bases that are propagated once per assignment update.

    Parameters
    ----------
    embedding : TieredEmbedding
        With tiers and without an activation. Tiers whose codebook has ``requires_grad`` set are trained, the others
        are folded into the constant at each `rebuild`.
    propagation : Propagation

    Raises
    ------
    ValueError
        The embedding is a full table (its basis would be N x N) or has an activation (H is not linear).
    """

    def __init__(self, embedding: TieredEmbedding, propagation: Propagation) -> None:
        if embedding.table is not None or embedding.activation != "none":
            raise ValueError("the collapsed engine needs tiers and no activation: use message_passing")
        self.embedding, self.propagation = embedding, propagation

    @torch.no_grad()
    def rebuild(self, graph: dgl.DGLGraph) -> None:
        """Propagate the bases on a graph whose tier relations carry the embedding's current assignments."""
        tiers, types = self.embedding.tiers, (*self.embedding.layout.types, *(t.name for t in self.embedding.tiers))
        self._nodes = NodeLayout(types, tuple(graph.num_nodes(node_type) for node_type in types))
        trained = [k for k, tier in enumerate(tiers) if tier.codebook.requires_grad]
        codebooks = self.embedding.codebooks()
        self._bases = {k: self._propagated_basis(graph, k) for k in trained}
        self._constant: Tensor | None = None
        if len(trained) < len(tiers):
            frozen = [torch.zeros_like(a) if k in trained else a for k, a in enumerate(codebooks)]
            self._constant = self._propagated(graph, frozen)

    def basis(self, k: int) -> Tensor:
        """M_k of a trained tier, (all nodes) x m_k; entities first, in stacking order."""
        return self._bases[k]

    def _propagated_basis(self, graph: dgl.DGLGraph, k: int) -> Tensor:
        """M_k, (all nodes) x m_k, in blocks of columns."""
        tiers = self.embedding.tiers
        like = tiers[k].codebook
        basis = like.new_empty(self._nodes.total, tiers[k].size)
        for columns in torch.arange(tiers[k].size).split(_COLUMN_BLOCK):
            block = [like.new_zeros(tier.size, len(columns)) for tier in tiers]
            block[k][columns, torch.arange(len(columns))] = 1.0
            basis[:, columns[0] : columns[-1] + 1] = self._propagated(graph, block)
        return basis

    def _propagated(self, graph: dgl.DGLGraph, codebooks: Sequence[Tensor]) -> Tensor:
        return self._nodes.stack(self.propagation(graph, self.embedding, codebooks))

    def entities(self, rows: Tensor) -> Tensor:
        """H_full of some entities (rows: int64, stacked numbering), differentiable in the trained codebooks."""
        n = self.embedding.layout.total
        if len(rows) < _GATHER_SHARE * n:
            return self._combine(rows)
        return take_rows(self._combine(slice(n)), rows)

    def _combine(self, rows: Tensor | slice) -> Tensor:
        codebooks = self.embedding.codebooks()
        parts = [basis[rows] @ codebooks[k] for k, basis in self._bases.items()]
        if self._constant is not None:
            parts.append(self._constant[rows])
        return sum(parts[1:], parts[0])

    @torch.no_grad()
    def all_nodes(self) -> dict[str, Tensor]:
        """H of every node type, detached: for assignment updates and evaluation."""
        return self._nodes.split(self._combine(slice(None)))
