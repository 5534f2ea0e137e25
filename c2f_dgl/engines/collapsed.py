"""The fast engine: propagate the assignment once, then only dense algebra.

Propagation is linear, and without an activation so is the composition of H(0). So with A_k the codebook of tier k
as the model sees it (soft-thresholded or not),

    H = sum over trained tiers k of  M_k A_k   +   C,

where M_k is the propagation of tier k's coefficients (the identity in its own rows, products of assignments above)
and C that of the frozen tiers. M_k has m_k columns, C has d; both change only when an assignment does. A training
step is then a gather of some rows of M_k and one small matrix product, with the exact gradient. SGC (Wu et al. 2019)
precomputes propagated node features in the same way; here the features are the few hundred columns of S.

Of a tier whose codebook is E = W T, the basis that is kept is M W, and T takes the place of A. W undoes what
propagation does to the columns of M, which a lowpass filter makes nearly parallel: that product is formed in float64.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines.propagation import Propagation
from c2f_dgl.graph.hetero import in_float64
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
        The embedding is a full table (its basis would be N x N), or H is not linear in what is learned: there is an
        activation, or relations have learned importances.
    """

    def __init__(self, embedding: TieredEmbedding, propagation: Propagation) -> None:
        if embedding.table is not None or embedding.activation != "none":
            raise ValueError("the collapsed engine needs tiers and no activation: use message_passing")
        if propagation.importance is not None:
            raise ValueError("the collapsed engine needs importances that are not learned: use message_passing")
        self.embedding, self.propagation = embedding, propagation

    @torch.no_grad()
    def rebuild(self, graph: dgl.DGLGraph) -> None:
        """Propagate the bases on a graph whose tier relations carry the embedding's current assignments."""
        self._dtype = self.embedding.tiers[0].codebook.dtype
        if any(tier.whitening is not None for tier in self.embedding.tiers):
            self._dtype, graph = torch.float64, in_float64(graph)
        tiers, types = self.embedding.tiers, (*self.embedding.layout.types, *(t.name for t in self.embedding.tiers))
        self._nodes = NodeLayout(types, tuple(graph.num_nodes(node_type) for node_type in types))
        trained = [k for k, tier in enumerate(tiers) if tier.codebook.requires_grad]
        codebooks = self.embedding.codebooks(self._dtype)
        self._bases = {
            k: propagated_basis(graph, self.embedding, self.propagation, k, self._atoms(k), out=tiers[k].codebook.dtype)
            for k in trained
        }
        self._constant: Tensor | None = None
        if len(trained) < len(tiers):
            frozen = [torch.zeros_like(a) if k in trained else a for k, a in enumerate(codebooks)]
            self._constant = self._propagated(graph, frozen).to(tiers[0].codebook)

    def basis(self, k: int) -> Tensor:
        """M_k (or M_k W_k) of a trained tier, (all nodes) x m_k; entities first, in stacking order."""
        return self._bases[k]

    def _atoms(self, k: int) -> Tensor:
        tier = self.embedding.tiers[k]
        if tier.whitening is not None:
            return tier.whitening
        return torch.eye(tier.size, dtype=self._dtype, device=tier.codebook.device)

    def _propagated(self, graph: dgl.DGLGraph, codebooks: Sequence[Tensor]) -> Tensor:
        return self._nodes.stack(self.propagation(graph, self.embedding, codebooks))

    def entities(self, rows: Tensor) -> Tensor:
        """H_full of some entities (rows: int64, stacked numbering), differentiable in the trained codebooks."""
        n = self.embedding.layout.total
        if len(rows) < _GATHER_SHARE * n:
            return self._combine(rows)
        return take_rows(self._combine(slice(n)), rows)

    def _combine(self, rows: Tensor | slice) -> Tensor:
        parts = [basis[rows] @ self.embedding.tiers[k].coordinates() for k, basis in self._bases.items()]
        if self._constant is not None:
            parts.append(self._constant[rows])
        return sum(parts[1:], parts[0])

    @torch.no_grad()
    def all_nodes(self) -> dict[str, Tensor]:
        """H of every node type, detached: for assignment updates and evaluation."""
        return self._nodes.split(self._combine(slice(None)))


def propagated_basis(
    graph: dgl.DGLGraph,
    embedding: TieredEmbedding,
    propagation: Propagation,
    k: int,
    atoms: Tensor,
    *,
    out: torch.dtype | None = None,
) -> Tensor:
    """H of all nodes if tier number `k` had the codebook `atoms` and the other tiers zeros, in blocks of columns.

    Parameters
    ----------
    graph : DGLGraph
        Linked to the embedding's tiers, with weights of the dtype of `atoms`.
    atoms : Tensor, shape (m_k, width)
        The identity for M_k, W_k for M_k W_k.
    out : dtype, optional
        Of the result; that of `atoms` by default.

    Returns
    -------
    Tensor, shape (all nodes, width)
        Entities first, in stacking order, then the tiers.
    """
    names = (*embedding.layout.types, *(tier.name for tier in embedding.tiers))
    nodes = NodeLayout(names, tuple(graph.num_nodes(name) for name in names))
    basis = atoms.new_empty(nodes.total, atoms.shape[1], dtype=out or atoms.dtype)
    for start in range(0, atoms.shape[1], _COLUMN_BLOCK):
        columns = atoms[:, start : start + _COLUMN_BLOCK]
        block = [columns.new_zeros(tier.size, columns.shape[1]) for tier in embedding.tiers]
        block[k] = columns
        basis[:, start : start + _COLUMN_BLOCK] = nodes.stack(propagation(graph, embedding, block))
    return basis
