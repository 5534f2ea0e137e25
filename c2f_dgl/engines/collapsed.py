"""The fast engine: propagate the assignment once, then only dense algebra.

Propagation is linear, and without an activation so is the composition of H(0). So with A_k the codebook of tier k
as the model sees it (soft-thresholded or not),

    H = sum over trained tiers k of  M_k A_k   +   C,

where M_k (N x m_k) is the propagation of tier k's coefficients (the identity in its own rows, products of assignments
above) and C (N x d) that of the frozen tiers: both change only when an assignment does. They are kept side by side as
one basis, and scores are bilinear forms of its rows (`c2f_dgl.engines.pairs`), with the exact gradient. SGC (Wu et al.
2019) precomputes propagated node features in the same way; here they are the few hundred columns of S.

Of a tier whose codebook is E = W T, the basis is M W, formed in float64, and T takes the place of A: W undoes what
propagation does to the columns of M, which a lowpass filter makes nearly parallel.

A basis is stored ``full``, in the dtype of the codebooks; ``half``, in float16; or ``mapped``, in float16 in a file
mapped into memory. In float16 each column is divided by its largest entry, by which what is learned is multiplied.
"""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines.message_passing import Propagation
from c2f_dgl.engines.pairs import pair_scores
from c2f_dgl.graph.hetero import in_float64
from c2f_dgl.graph.layout import take_rows
from c2f_dgl.tiers.embedding import EmbeddingLayer
from c2f_dgl.tiers.tiered import TieredEmbedding

Storage = Literal["full", "half", "mapped"]

# Bytes of a row that are propagated at once, at most: few enough for the rows that are gathered to stay in the
# processor's cache. Eight times as many take twice as long on Gowalla.
_BLOCK_BYTES = 128

# Values of such a block, at most: half a dozen (nodes x block) matrices beside M itself.
_BLOCK_VALUES = 1 << 26

# Rows of a basis in less than full precision that are widened at once.
_ROW_BLOCK = 65_536

# A batch that asks for more than this share of N rows (with repeats) gets them from the product with all rows: that
# reads M once and in order, a gather copies the rows first.
_GATHER_SHARE = 0.4


class Collapsed:
    """H from a basis that is propagated once per assignment update, when it is first needed.

    Tiers whose codebook has ``requires_grad`` set are trained, the others are folded into the constant.
    """

    def __init__(self, embedding: TieredEmbedding, propagation: Propagation, storage: Storage = "full") -> None:
        self.embedding, self.propagation, self.storage = embedding, propagation, storage
        self._graph: dgl.DGLGraph | None = None  # of which the basis is still to be propagated

    def rebuild(self, graph: dgl.DGLGraph) -> None:
        self._graph = graph

    def _propagate(self) -> Tensor:
        """The basis (all nodes x columns), propagated now where the graph is a new one."""
        if self._graph is not None:
            self._fill(self._graph)
            self._graph = None
        return self._basis

    @torch.no_grad()
    def _fill(self, graph: dgl.DGLGraph) -> None:
        embedding, tiers = self.embedding, self.embedding.tiers
        like, dtype = tiers[0].codebook, tiers[0].codebook.dtype
        if any(tier.whitening is not None for tier in tiers):
            dtype, graph = torch.float64, in_float64(graph)
        self._trained = [k for k, tier in enumerate(tiers) if tier.codebook.requires_grad]
        shape = basis_shape(embedding)
        self._basis = like.new_empty(0)  # lets go of the one before
        self._basis, self._scale = allocate(self.storage, shape, like), like.new_ones(shape[1])
        start = 0
        for k in self._trained:
            atoms = tiers[k].whitening
            if atoms is None:
                atoms = torch.eye(tiers[k].size, dtype=dtype, device=like.device)
            for block in _propagated_blocks(graph, embedding, self.propagation, k, atoms):
                self._store(block, start)
                start += block.shape[1]
        if len(self._trained) < len(tiers):
            codebooks = embedding.codebooks(dtype)
            codebooks = [torch.zeros_like(a) if k in self._trained else a for k, a in enumerate(codebooks)]
            self._store(embedding.nodes.stack(self.propagation(graph, embedding, codebooks)), start)

    def _store(self, block: Tensor, start: int) -> None:
        """Put `block` into the basis from column `start` on."""
        columns = slice(start, start + block.shape[1])
        if self.storage != "full":
            largest = block.abs().amax(dim=0)
            self._scale[columns] = torch.where(largest > 0, largest, 1.0)
            block = block / self._scale[columns].to(block)
        self._basis[:, columns] = block

    def _learned(self) -> Tensor:
        """W of H = B W: the trained tiers' coordinates one under the other, the identity below them for C."""
        tiers = self.embedding.tiers
        parts = [tiers[k].coordinates() for k in self._trained]
        if len(parts) < len(tiers):
            like = tiers[0].codebook
            parts.append(torch.eye(like.shape[1], dtype=like.dtype, device=like.device))
        learned = torch.cat(parts)
        return learned if self.storage == "full" else self._scale[:, None] * learned

    def entities(self, rows: Tensor) -> Tensor:
        n, basis = self.embedding.layout.total, self._propagate()
        learned = self._learned()
        if self.storage == "full" and len(rows) >= _GATHER_SHARE * n:
            return take_rows(basis[:n] @ learned, rows)
        return basis.index_select(0, rows).to(learned) @ learned

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        return pair_scores(self._propagate(), self._learned(), users, items)

    @torch.no_grad()
    def all_nodes(self) -> dict[str, Tensor]:
        basis = self._propagate()
        learned = self._learned()
        return self.embedding.nodes.split(torch.cat([rows.to(learned) @ learned for rows in basis.split(_ROW_BLOCK)]))


def against_collapsing(embedding: EmbeddingLayer, propagation: Propagation) -> list[str]:
    """Why a basis that is propagated once would not do: there are no tiers, or H is not linear in what is learned."""
    if not isinstance(embedding, TieredEmbedding):
        return ["it is not composed from tiers"]
    reasons = {
        "it has a full table": embedding.table is not None,
        f"{embedding.activation} is not linear": embedding.activation != "none",
        "importances of relations are learned": propagation.importance is not None,
    }
    return [reason for reason, holds in reasons.items() if holds]


def basis_shape(embedding: TieredEmbedding) -> tuple[int, int]:
    """Rows and columns of the basis of an embedding: all nodes; m of each trained tier, and d where one is frozen."""
    tiers = embedding.tiers
    frozen = any(not tier.codebook.requires_grad for tier in tiers)
    columns = sum(tier.size for tier in tiers if tier.codebook.requires_grad) + frozen * tiers[0].codebook.shape[1]
    return embedding.nodes.total, columns


def propagated_basis(
    graph: dgl.DGLGraph,
    embedding: TieredEmbedding,
    propagation: Propagation,
    k: int,
    atoms: Tensor,
    report: Callable[[int, int], None] | None = None,
) -> Tensor:
    """H of all nodes, entities first, if tier number `k` had the codebook `atoms` and the other tiers zeros.

    The identity gives M_k, W_k gives M_k W_k. The graph is linked to the tiers, with weights of the dtype of `atoms`.
    `report` is called with the columns that are done, and all of them.
    """
    basis, done = atoms.new_empty(embedding.nodes.total, atoms.shape[1]), 0
    for block in _propagated_blocks(graph, embedding, propagation, k, atoms):
        basis[:, done : done + block.shape[1]] = block
        done += block.shape[1]
        if report is not None:
            report(done, atoms.shape[1])
    return basis


def _propagated_blocks(
    graph: dgl.DGLGraph, embedding: TieredEmbedding, propagation: Propagation, k: int, atoms: Tensor
) -> Iterator[Tensor]:
    """The columns of `propagated_basis`, a block of them at a time."""
    nodes = embedding.nodes
    width = max(1, min(_BLOCK_BYTES // atoms.element_size(), _BLOCK_VALUES // nodes.total))
    for columns in atoms.split(width, dim=1):
        codebooks = [columns.new_zeros(tier.size, columns.shape[1]) for tier in embedding.tiers]
        codebooks[k] = columns
        yield nodes.stack(propagation(graph, embedding, codebooks))


def choose_storage(shape: tuple[int, int], like: Tensor, budget: float | None) -> Storage | None:
    """How a basis like the codebooks is kept within `budget` bytes (None: no bound); None where there is no way.

    A mapped file takes none of the budget, but a CPU, and its size as free space for temporary files.
    """
    values = math.prod(shape)
    half = values * torch.float16.itemsize
    if budget is None or values * like.element_size() <= budget:
        return "full"
    if half <= budget:
        return "half"
    fits_on_disk = like.device.type == "cpu" and half < shutil.disk_usage(tempfile.gettempdir()).free
    return "mapped" if fits_on_disk else None


def allocate(storage: Storage, shape: tuple[int, int], like: Tensor) -> Tensor:
    """A matrix with any values in it, kept as `storage` says; a mapped one's file goes when the matrix does."""
    if storage != "mapped":
        return like.new_empty(shape, dtype=like.dtype if storage == "full" else torch.float16)
    with tempfile.TemporaryFile(prefix="c2f_dgl-") as file:  # the mapping outlives the name and the handle
        return torch.from_numpy(np.memmap(file, dtype=np.float16, mode="w+", shape=shape))
