"""The fast engine: propagate the assignment once, then only dense algebra.

Propagation is linear, and without an activation so is the composition of H(0). So with A_k the codebook of tier k
as the model sees it (soft-thresholded or not),

    H = sum over trained tiers k of  M_k A_k   +   C,

where M_k is the propagation of tier k's coefficients (the identity in its own rows, products of assignments above)
and C that of the frozen tiers. M_k has m_k columns, C has d; both change only when an assignment does. They are kept
side by side as one basis, and scores of a training step are bilinear forms of its rows (`c2f_dgl.engines.pairs`), with
the exact gradient. SGC (Wu et al. 2019) precomputes propagated node features in the same way; here the features are
the few hundred columns of S.

Of a tier whose codebook is E = W T, the basis that is kept is M W, and T takes the place of A. W undoes what
propagation does to the columns of M, which a lowpass filter makes nearly parallel: that product is formed in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines.pairs import pair_scores
from c2f_dgl.engines.propagation import Propagation
from c2f_dgl.graph.hetero import in_float64
from c2f_dgl.graph.layout import NodeLayout, take_rows
from c2f_dgl.tiers.tiered import TieredEmbedding

# Bytes of a row that are propagated at once. Bounds the memory of a rebuild to a few (nodes x block) matrices beside M
# itself, and keeps the rows that are gathered in the processor's cache: eight times as many take twice as long.
_BLOCK_BYTES = 128

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
        tiers, names = self.embedding.tiers, (*self.embedding.layout.types, *(t.name for t in self.embedding.tiers))
        self._nodes = NodeLayout(names, tuple(graph.num_nodes(name) for name in names))
        self._trained = [k for k, tier in enumerate(tiers) if tier.codebook.requires_grad]
        like, sizes = tiers[0].codebook, [tiers[k].size for k in self._trained]
        frozen = len(self._trained) < len(tiers)
        self._n_columns = sum(sizes)
        self._basis = like.new_empty(self._nodes.total, self._n_columns + frozen * like.shape[1])
        self._columns = dict(zip(self._trained, self._basis[:, : self._n_columns].split(sizes, dim=1), strict=True))
        for k, columns in self._columns.items():
            propagated_basis(graph, self.embedding, self.propagation, k, self._atoms(k), into=columns)
        if frozen:
            codebooks = self.embedding.codebooks(self._dtype)
            codebooks = [torch.zeros_like(a) if k in self._trained else a for k, a in enumerate(codebooks)]
            constant = self._nodes.stack(self.propagation(graph, self.embedding, codebooks))
            self._basis[:, self._n_columns :] = constant

    def basis(self, k: int) -> Tensor:
        """M_k (or M_k W_k) of a trained tier, (all nodes) x m_k; entities first, in stacking order."""
        return self._columns[k]

    def _atoms(self, k: int) -> Tensor:
        tier = self.embedding.tiers[k]
        if tier.whitening is not None:
            return tier.whitening
        return torch.eye(tier.size, dtype=self._dtype, device=tier.codebook.device)

    def _learned(self) -> Tensor:
        """The trained tiers' coordinates one under the other: what the first columns of the basis are multiplied by."""
        parts = [self.embedding.tiers[k].coordinates() for k in self._trained]
        return parts[0] if len(parts) == 1 else torch.cat(parts)

    def entities(self, rows: Tensor) -> Tensor:
        """H_full of some entities (rows: int64, stacked numbering), differentiable in the trained codebooks."""
        n = self.embedding.layout.total
        if len(rows) < _GATHER_SHARE * n:
            return self._combine(rows)
        return take_rows(self._combine(slice(n)), rows)

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """h_u . h_i of users (n,) with items (n, c), rows in stacked numbering; the items' H is not formed."""
        learned = self._learned()
        if self._n_columns < self._basis.shape[1]:  # H = [M C] [A; I]
            d = learned.shape[1]
            learned = torch.cat([learned, torch.eye(d, dtype=learned.dtype, device=learned.device)])
        return pair_scores(self._basis, learned, users, items)

    def _combine(self, rows: Tensor | slice) -> Tensor:
        basis = self._basis[rows]
        h = basis[:, : self._n_columns] @ self._learned()
        return h + basis[:, self._n_columns :] if self._n_columns < basis.shape[1] else h

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
    into: Tensor | None = None,
) -> Tensor:
    """H of all nodes if tier number `k` had the codebook `atoms` and the other tiers zeros, in blocks of columns.

    Parameters
    ----------
    graph : DGLGraph
        Linked to the embedding's tiers, with weights of the dtype of `atoms`.
    atoms : Tensor, shape (m_k, width)
        The identity for M_k, W_k for M_k W_k.
    into : Tensor, shape (all nodes, width), optional
        Is filled, in its dtype, and given back; by default a new one of the dtype of `atoms`.

    Returns
    -------
    Tensor, shape (all nodes, width)
        Entities first, in stacking order, then the tiers.
    """
    names = (*embedding.layout.types, *(tier.name for tier in embedding.tiers))
    nodes = NodeLayout(names, tuple(graph.num_nodes(name) for name in names))
    basis = atoms.new_empty(nodes.total, atoms.shape[1]) if into is None else into
    width = _BLOCK_BYTES // atoms.element_size()
    for start in range(0, atoms.shape[1], width):
        columns = atoms[:, start : start + width]
        block = [columns.new_zeros(tier.size, columns.shape[1]) for tier in embedding.tiers]
        block[k] = columns
        basis[:, start : start + width] = nodes.stack(propagation(graph, embedding, block))
    return basis
