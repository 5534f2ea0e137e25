"""What engines, loss and evaluation need of an embedding, and the base of those computed whole at every step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.layout import NodeLayout, take_rows


class EmbeddingLayer(nn.Module, ABC):
    """H(0) of the propagation as a function of what is learned: here of one table that adds nothing to the graph."""

    def __init__(self, layout: NodeLayout) -> None:
        super().__init__()
        self.layout = layout

    @abstractmethod
    def codebooks(self, dtype: torch.dtype | None = None) -> list[Tensor]:
        """What `inputs` is a function of: matrices (m_k x d), differentiable in the parameters."""

    def inputs(self, codebooks: Sequence[Tensor]) -> dict[str, Tensor]:
        """H(0) per node type of the linked graph (n_nodes of the type x d)."""
        return self.layout.split(codebooks[0])

    @abstractmethod
    def sum_of_squares(self, rows: Tensor, weights: Tensor) -> Tensor:
        """``sum_r weights[r] |x_r|^2`` of the input embeddings x of rows (n,), int64: what the L2 term penalises."""

    def link(self, graph: dgl.DGLGraph, first: int = 0) -> dgl.DGLGraph:
        """`graph` with the relations that the embedding adds to it, those of tiers from number `first` on rebuilt."""
        return graph

    def count_values(self) -> dict[str, int]:
        """Learned values, per part."""
        return {name: parameter.numel() for name, parameter in self.named_parameters()}

    def count_bytes(self) -> int:
        """Bytes that store what is learned: float32 values, and int32 indices of those that are stored sparse."""
        return 4 * sum(self.count_values().values())


class ComputedTable(EmbeddingLayer):
    """An N x d table that is computed from the parameters whenever it is asked for.

    Subclasses give `table`, and `entity_rows` where some rows are much cheaper than all of them.
    """

    _caches = False
    _cached: Tensor | None = None

    @abstractmethod
    def table(self) -> Tensor:
        """All input embeddings (N x d), users first, differentiable in the parameters."""

    def codebooks(self, dtype: torch.dtype | None = None) -> list[Tensor]:
        table = self._current()
        return [table.to(dtype or table.dtype)]

    def entity_rows(self, rows: Tensor) -> Tensor:
        """Rows of the table (rows: int64, stacked numbering)."""
        return take_rows(self._current(), rows)

    @contextmanager
    def computed_once(self) -> Iterator[None]:
        """Compute the table at most once in the body, which must not change what the table depends on."""
        self._caches = True
        try:
            yield
        finally:
            self._caches, self._cached = False, None

    def _current(self) -> Tensor:
        if not self._caches:
            return self.table()
        if self._cached is None:
            self._cached = self.table()
        return self._cached

    def sum_of_squares(self, rows: Tensor, weights: Tensor) -> Tensor:
        # A row that comes several times is looked up once.
        totals = torch.zeros(self.layout.total, dtype=weights.dtype, device=weights.device)
        totals = totals.index_add(0, rows, weights)
        rows = totals.nonzero()[:, 0]
        return totals[rows] @ self.entity_rows(rows).square().sum(dim=1)


def stored_bytes(matrix: Tensor) -> int:
    """Least bytes that store a matrix (n x d): dense float32, or CSR with int32 columns and row pointers."""
    return min(4 * matrix.numel(), 8 * int(torch.count_nonzero(matrix)) + 4 * (len(matrix) + 1))
