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

from collections.abc import Iterator

import torch
from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines.pairs import pair_scores
from c2f_dgl.engines.propagation import Propagation
from c2f_dgl.engines.storage import Storage, allocate, column_scale
from c2f_dgl.graph.hetero import in_float64
from c2f_dgl.graph.layout import NodeLayout, take_rows
from c2f_dgl.tiers.tiered import TieredEmbedding

# Bytes of a row that are propagated at once, at most: few enough for the rows that are gathered to stay in the
# processor's cache. Eight times as many take twice as long on Gowalla.
_BLOCK_BYTES = 128

# Values of such a block, at most: half a dozen (nodes x block) matrices beside M itself.
_BLOCK_VALUES = 1 << 27

# Rows of a basis in less than full precision that are widened at once.
_ROW_BLOCK = 65_536

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
    storage : {"full", "half", "mapped"}
        How the basis is kept (`c2f_dgl.engines.storage`).

    Raises
    ------
    ValueError
        The embedding is a full table (its basis would be N x N), or H is not linear in what is learned: there is an
        activation, or relations have learned importances.
    """

    def __init__(self, embedding: TieredEmbedding, propagation: Propagation, storage: Storage = "full") -> None:
        if embedding.table is not None or embedding.activation != "none":
            raise ValueError("the collapsed engine needs tiers and no activation: use message_passing")
        if propagation.importance is not None:
            raise ValueError("the collapsed engine needs importances that are not learned: use message_passing")
        self.embedding, self.propagation, self.storage = embedding, propagation, storage
        self._basis = torch.empty(0, 0)

    @torch.no_grad()
    def rebuild(self, graph: dgl.DGLGraph) -> None:
        """Propagate the bases on a graph whose tier relations carry the embedding's current assignments."""
        self._dtype = self.embedding.tiers[0].codebook.dtype
        if any(tier.whitening is not None for tier in self.embedding.tiers):
            self._dtype, graph = torch.float64, in_float64(graph)
        tiers, names = self.embedding.tiers, (*self.embedding.layout.types, *(t.name for t in self.embedding.tiers))
        self._nodes = NodeLayout.of(graph, names)
        self._trained = [k for k, tier in enumerate(tiers) if tier.codebook.requires_grad]
        like = tiers[0].codebook
        shape = basis_shape(self.embedding)
        if self._basis.shape != shape:  # else the one of the assignment before is overwritten
            self._basis = allocate(self.storage, shape, like)
        self._scale = like.new_ones(shape[1])
        start = 0
        for k in self._trained:
            for block in propagated_blocks(graph, self.embedding, self.propagation, k, self._atoms(k)):
                start = self._keep(block, start)
        self._n_columns = start
        if len(self._trained) < len(tiers):
            codebooks = self.embedding.codebooks(self._dtype)
            codebooks = [torch.zeros_like(a) if k in self._trained else a for k, a in enumerate(codebooks)]
            self._keep(self._nodes.stack(self.propagation(graph, self.embedding, codebooks)), start)

    def _keep(self, block: Tensor, start: int) -> int:
        """Put `block` into the basis from column `start` on; the column after it."""
        stop = start + block.shape[1]
        if self.storage != "full":
            self._scale[start:stop] = column_scale(block)
            block = block / self._scale[start:stop].to(block)
        self._basis[:, start:stop] = block
        return stop

    def basis(self, k: int) -> Tensor:
        """M_k (or M_k W_k) of a trained tier, (all nodes) x m_k; entities first, in stacking order."""
        start = sum(self.embedding.tiers[before].size for before in self._trained if before < k)
        columns = slice(start, start + self.embedding.tiers[k].size)
        return self._basis[:, columns] * self._scale[columns]

    def _atoms(self, k: int) -> Tensor:
        tier = self.embedding.tiers[k]
        if tier.whitening is not None:
            return tier.whitening
        return torch.eye(tier.size, dtype=self._dtype, device=tier.codebook.device)

    def _learned(self) -> Tensor:
        """W of H = B W: the trained tiers' coordinates one under the other, the identity below them for C."""
        parts = [self.embedding.tiers[k].coordinates() for k in self._trained]
        if self._n_columns < self._basis.shape[1]:
            like = self.embedding.tiers[0].codebook
            parts.append(torch.eye(like.shape[1], dtype=like.dtype, device=like.device))
        learned = parts[0] if len(parts) == 1 else torch.cat(parts)
        return learned if self.storage == "full" else self._scale[:, None] * learned

    def entities(self, rows: Tensor) -> Tensor:
        """H_full of some entities (rows: int64, stacked numbering), differentiable in the trained codebooks."""
        n, learned = self.embedding.layout.total, self._learned()
        if self.storage == "full" and len(rows) >= _GATHER_SHARE * n:
            return take_rows(self._basis[:n] @ learned, rows)
        return self._basis.index_select(0, rows).to(learned) @ learned

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """h_u . h_i of users (n,) with items (n, c), rows in stacked numbering; the items' H is not formed."""
        return pair_scores(self._basis, self._learned(), users, items)

    @torch.no_grad()
    def all_nodes(self) -> dict[str, Tensor]:
        """H of every node type, detached: for assignment updates and evaluation."""
        learned = self._learned()
        features = learned.new_empty(len(self._basis), learned.shape[1])
        for start in range(0, len(features), _ROW_BLOCK):
            rows = slice(start, start + _ROW_BLOCK)
            torch.mm(self._basis[rows].to(learned), learned, out=features[rows])
        return self._nodes.split(features)


def basis_shape(embedding: TieredEmbedding) -> tuple[int, int]:
    """Rows and columns of the basis of an embedding: all nodes; m of each trained tier, and d where one is frozen."""
    tiers = embedding.tiers
    frozen = any(not tier.codebook.requires_grad for tier in tiers)
    columns = sum(tier.size for tier in tiers if tier.codebook.requires_grad) + frozen * tiers[0].codebook.shape[1]
    return embedding.layout.total + sum(tier.size for tier in tiers), columns


def propagated_blocks(
    graph: dgl.DGLGraph, embedding: TieredEmbedding, propagation: Propagation, k: int, atoms: Tensor
) -> Iterator[Tensor]:
    """The columns of `propagated_basis`, a block of them at a time."""
    names = (*embedding.layout.types, *(tier.name for tier in embedding.tiers))
    nodes = NodeLayout.of(graph, names)
    width = max(1, min(_BLOCK_BYTES // atoms.element_size(), _BLOCK_VALUES // nodes.total))
    for columns in atoms.split(width, dim=1):
        block = [columns.new_zeros(tier.size, columns.shape[1]) for tier in embedding.tiers]
        block[k] = columns
        yield nodes.stack(propagation(graph, embedding, block))


def propagated_basis(
    graph: dgl.DGLGraph, embedding: TieredEmbedding, propagation: Propagation, k: int, atoms: Tensor
) -> Tensor:
    """H of all nodes if tier number `k` had the codebook `atoms` and the other tiers zeros.

    Parameters
    ----------
    graph : DGLGraph
        Linked to the embedding's tiers, with weights of the dtype of `atoms`.
    atoms : Tensor, shape (m_k, width)
        The identity for M_k, W_k for M_k W_k.

    Returns
    -------
    Tensor, shape (all nodes, width)
        Entities first, in stacking order, then the tiers.
    """
    rows = embedding.layout.total + sum(tier.size for tier in embedding.tiers)
    basis, start = atoms.new_empty(rows, atoms.shape[1]), 0
    for block in propagated_blocks(graph, embedding, propagation, k, atoms):
        basis[:, start : start + block.shape[1]] = block
        start += block.shape[1]
    return basis
