"""Tiers of meta-embeddings and how they compose into the input H(0) of the propagation.

A tier is a node type with a codebook E and an assignment S from what stands above it: entities, or the tier before.
Without a tier the entities have a table, which is LightGCN; one is the coarse stage; two are the paper's model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from c2f_dgl.config.sizes import AtomBlock
from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import link_tier
from c2f_dgl.graph.layout import NodeLayout, take_rows
from c2f_dgl.tiers.assignment import Assignment, compose
from c2f_dgl.tiers.codebook import soft_threshold
from c2f_dgl.tiers.embedding import EmbeddingLayer, stored_bytes


class Tier(nn.Module):
    """One codebook and the assignment that links it to the rows above.

    With a whitening W the codebook is E = W T, where what is learned, T (m x d), is lower triangular: m (m + 1) / 2
    values if d = m. W is no more learned than D^(-1/2) is: it follows from graph and assignment (see
    `c2f_dgl.tiers.spectral`). Nothing is lost: scores do not see rotations of E, and some rotation of any W^(-1) E is
    lower triangular.
    """

    indices: Tensor
    weights: Tensor
    whitening: Tensor | None

    def __init__(
        self,
        name: str,  # node type in the graph, e.g. "coarse"
        codebook: Tensor,  # E, or T: (m, d), learned
        assignment: Assignment,  # S, rows above x m; replaced by `assign`, never learned by gradient
        *,
        threshold: float = 0.0,  # lambda of the soft threshold (Eq. 16)
        gate: float = 1.0,  # w_cr in [0, 1] of Eq. 17, the weight of this tier in the one above
        whitening: Tensor | None = None,  # W (m, m), float64
    ) -> None:
        super().__init__()
        self.name, self.threshold, self.gate = name, threshold, gate
        self.codebook = nn.Parameter(codebook.clone())
        self.register_buffer("indices", assignment.indices)
        self.register_buffer("weights", assignment.weights.to(codebook))
        self.register_buffer("whitening", whitening)

    @property
    def size(self) -> int:
        """m, the number of atoms."""
        return len(self.codebook)

    @property
    def assignment(self) -> Assignment:
        """S."""
        return Assignment(self.indices, self.weights, self.size)

    def assign(self, assignment: Assignment) -> None:
        """Replace S."""
        self.indices = assignment.indices.to(self.indices)
        self.weights = assignment.weights.to(self.weights)

    def coordinates(self) -> Tensor:
        """E, or T, as the model sees it: soft-thresholded (Eq. 16), T lower triangular."""
        learned = self.codebook if self.whitening is None else self.codebook.tril()
        return soft_threshold(learned, self.threshold) if self.threshold > 0 else learned

    def active_codebook(self, dtype: torch.dtype | None = None) -> Tensor:
        """E as it composes, in `dtype` (that of the learned values by default)."""
        learned = self.coordinates()
        codebook = learned if self.whitening is None else self.whitening @ learned.to(self.whitening)
        return codebook.to(dtype or learned.dtype)

    def count_values(self) -> dict[str, int]:
        """Learned values: non-zeros of the active codebook and weights of S (paper, Sec. 4.5)."""
        if self.threshold > 0:
            in_codebook = int(torch.count_nonzero(self.coordinates()))
        elif self.whitening is not None:
            in_codebook = int(torch.ones_like(self.codebook).tril().sum())
        else:
            in_codebook = self.codebook.numel()
        return {f"{self.name} codebook": in_codebook, f"{self.name} assignment": self.assignment.n_values}

    def count_bytes(self) -> int:
        """float32 codebook (sparse where it is thresholded), float32 weights and int32 columns of S."""
        values = self.count_values()
        codebook = stored_bytes(self.coordinates()) if self.threshold > 0 else 4 * values[f"{self.name} codebook"]
        return codebook + 8 * values[f"{self.name} assignment"]


class TieredEmbedding(EmbeddingLayer):
    """H(0) of the propagation, composed from tiers (Eq. 4, 12, 16-19).

    Entities are composed from the first codebook itself (Eq. 19), or refined by the tiers below (Eq. 18). Side features
    X are dense columns of S: H(0) = S E + X P, where the rows of P are the last atoms of the first tier, type after
    type in stacking order; no node of the graph is linked to those. The published code has a tanh, which is not
    printed, on the inputs of entities and of all tiers but the first.
    """

    def __init__(
        self,
        layout: NodeLayout,  # of the entities
        tiers: Sequence[Tier] = (),  # from coarse to fine
        *,
        table: Tensor | None = None,  # (N, d), of a model without tiers
        entity_input: Literal["unrefined", "refined"] = "unrefined",
        activation: Literal["none", "tanh"] = "none",
        link_scale: float = 1.0,  # factor on the weights of S where they enter the graph, not where they compose
        blocks: Mapping[str, AtomBlock] | None = None,  # atoms of the first tier that updates may give a node type
        columns: Mapping[str, Tensor] | None = None,  # X (n_nodes, width) by node type
    ) -> None:
        super().__init__(layout)
        if (table is None) == (len(tiers) == 0):
            raise ValueError("give either tiers or a full table")
        if columns and table is not None:
            raise ValueError("feature columns need tiers, not a full table")
        self.nodes = NodeLayout(
            (*layout.types, *(tier.name for tier in tiers)), (*layout.sizes, *(tier.size for tier in tiers))
        )
        if blocks is None and tiers:
            blocks = dict.fromkeys(layout.types, AtomBlock(tiers[0].indices.shape[1], 0, tiers[0].size))
        self.blocks = dict(blocks or {})
        self._atoms: dict[str, slice] = {}  # those of the feature columns
        stop = tiers[0].size if tiers else 0
        for node_type in reversed(layout.types):
            if columns and node_type in columns:
                features = columns[node_type].to(tiers[0].codebook)
                self.register_buffer(f"columns_{node_type}", features, persistent=False)
                self._atoms[node_type] = slice(stop - features.shape[1], stop)
                stop -= features.shape[1]
        self.tiers = cast("list[Tier]", nn.ModuleList(tiers))
        self.table = None if table is None else nn.Parameter(table.clone())
        self.entity_input, self.activation, self.link_scale = entity_input, activation, link_scale

    def codebooks(self, dtype: torch.dtype | None = None) -> list[Tensor]:
        if self.table is not None:
            return [self.table]
        return [tier.active_codebook(dtype) for tier in self.tiers]

    def inputs(self, codebooks: Sequence[Tensor]) -> dict[str, Tensor]:
        """H(0) per node type from one (m_k x width) matrix per tier; linear in them unless there is an activation.

        With the identity for one tier and zeros for the others it is that tier's coefficients.
        """
        if self.table is not None:
            return super().inputs(codebooks)
        refined = self._refine(codebooks)
        first = codebooks[0] if self.entity_input == "unrefined" else refined[0]
        entities = self._entities(first)
        if self.activation == "tanh":
            entities = entities.tanh()
            refined[1:] = [x.tanh() for x in refined[1:]]
        features = self.layout.split(entities)
        features.update({tier.name: x for tier, x in zip(self.tiers, refined, strict=True)})
        return features

    def sum_of_squares(self, rows: Tensor, weights: Tensor) -> Tensor:
        """``sum_r weights[r] |x_r|^2`` of the input embeddings x of rows (n,), int64, in stacked numbering.

        Without an activation x_r = s_r X, X the first codebook, so the sum is that of the elements of ``C * (X X^T)``
        with C = sum_r weights[r] s_r^T s_r: t^2 numbers a row in place of d.
        """
        if self.table is not None:
            return weights @ take_rows(self.table, rows).square().sum(dim=1)
        codebooks = self.codebooks()
        codebook = codebooks[0] if self.entity_input == "unrefined" else self._refine(codebooks)[0]
        if self.activation == "tanh" or self._atoms:  # the first is not linear, the second makes rows of S dense
            return weights @ self._entity_rows(rows, codebook).square().sum(dim=1)
        indices, values = (x.index_select(0, rows) for x in (self.tiers[0].indices, self.tiers[0].weights))
        m = len(codebook)
        cells = indices[:, :, None] * m + indices[:, None, :]
        products = weights[:, None, None] * values[:, :, None] * values[:, None, :]
        within = codebook.new_zeros(m * m).index_add_(0, cells.flatten(), products.flatten().to(codebook))
        return _QuadraticForm.apply(within.view(m, m), codebook)  # type: ignore[no-any-return]

    def _entity_rows(self, rows: Tensor, codebook: Tensor) -> Tensor:
        """Input embeddings (n x d) of some entities (rows: int64, stacked numbering)."""
        x = compose(self.tiers[0].indices[rows], self.tiers[0].weights[rows], codebook)
        for node_type, features in self.columns().items():
            nodes = self.layout.rows(node_type)
            (among_rows,) = torch.where((rows >= nodes.start) & (rows < nodes.stop))
            wanted = features[rows[among_rows] - nodes.start].to(codebook)
            x = x.index_add(0, among_rows, wanted @ codebook[self._atoms[node_type]])
        return x.tanh() if self.activation == "tanh" else x

    def _entities(self, atoms: Tensor) -> Tensor:
        """S E + X P (N x width) from all atoms of the first tier (m x width)."""
        entities = self.tiers[0].assignment.compose(atoms)
        if not self._atoms:
            return entities
        parts = self.layout.split(entities)
        for node_type, features in self.columns().items():
            parts[node_type] = parts[node_type] + features.to(atoms) @ atoms[self._atoms[node_type]]
        return self.layout.stack(parts)

    def columns(self) -> dict[str, Tensor]:
        """X by node type."""
        return {node_type: self.get_buffer(f"columns_{node_type}") for node_type in self._atoms}

    def _refine(self, codebooks: Sequence[Tensor]) -> list[Tensor]:
        """Each codebook mixed with those of the tiers below it (Eq. 17); the finest stays as it is."""
        refined = list(codebooks)
        for k in range(len(refined) - 2, -1, -1):
            finer = self.tiers[k + 1]
            refined[k] = (1 - finer.gate) * codebooks[k] + finer.gate * finer.assignment.compose(refined[k + 1])
        return refined

    def link(self, graph: dgl.DGLGraph, first: int = 0) -> dgl.DGLGraph:
        for k in range(first, len(self.tiers)):
            tier = self.tiers[k]
            parents = self.layout if k == 0 else NodeLayout((self.tiers[k - 1].name,), (self.tiers[k - 1].size,))
            indices, weights = tier.indices.cpu(), tier.weights.cpu() * self.link_scale
            graph = link_tier(graph, tier.name, parents, indices, weights, n_nodes=tier.size)
        return graph

    def gate_layers(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Mix the finer tiers in again after a layer, as the published code does and the paper does not print.

        With h_r, h_c, h the layer's fine, coarse and entity features, ``h_c' = (1 - w)(h_c - S^r h_r) + w S^r h_r``
        and ``h' = h - S^c h_c + S^c h_c'``.
        """
        gated = dict(features)
        for k in range(len(self.tiers) - 1, 0, -1):
            finer, name = self.tiers[k], self.tiers[k - 1].name
            below = finer.assignment.compose(gated[finer.name])
            gated[name] = (1 - finer.gate) * (features[name] - below) + finer.gate * below
        change = gated[self.tiers[0].name] - features[self.tiers[0].name]
        for node_type, delta in self.layout.split(self._entities(change)).items():
            gated[node_type] = features[node_type] + delta
        return gated

    def count_values(self) -> dict[str, int]:
        if self.table is not None:
            return super().count_values()
        return {name: count for tier in self.tiers for name, count in tier.count_values().items()}

    def count_bytes(self) -> int:
        return super().count_bytes() if self.table is not None else sum(tier.count_bytes() for tier in self.tiers)


class _QuadraticForm(torch.autograd.Function):
    """Sum of the elements of ``C * (X X^T)``, C (m x m) symmetric and constant: the backward pass needs C X again."""

    @staticmethod
    def forward(ctx: Any, c: Tensor, x: Tensor) -> Tensor:
        product = c @ x
        ctx.save_for_backward(product)
        return torch.dot(product.flatten(), x.flatten())

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, gradient: Tensor) -> tuple[None, Tensor]:
        (product,) = ctx.saved_tensors
        return None, 2 * gradient * product
