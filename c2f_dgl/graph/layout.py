"""Which rows of a stacked matrix belong to which node type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from c2f_dgl.dgl_import import dgl


@dataclass(frozen=True)
class NodeLayout:
    """Node types stacked one under the other, as the paper stacks users and items into N entities (Eq. 2)."""

    types: tuple[str, ...]
    sizes: tuple[int, ...]

    @classmethod
    def of(cls, graph: dgl.DGLGraph, types: Sequence[str]) -> NodeLayout:
        return cls(tuple(types), tuple(graph.num_nodes(node_type) for node_type in types))

    @property
    def total(self) -> int:
        """Number of rows, the paper's N for users and items."""
        return sum(self.sizes)

    def offset(self, node_type: str) -> int:
        return sum(self.sizes[: self.types.index(node_type)])

    def rows(self, node_type: str) -> slice:
        start = self.offset(node_type)
        return slice(start, start + self.sizes[self.types.index(node_type)])

    def split(self, stacked: Tensor) -> dict[str, Tensor]:
        """Cut a stacked tensor (total x ...) into one view per node type."""
        return dict(zip(self.types, stacked.split(list(self.sizes)), strict=True))

    def stack(self, features: Mapping[str, Tensor]) -> Tensor:
        """Stack the features of this layout's node types (n_type x ...) into one tensor (total x ...)."""
        return torch.cat([features[node_type] for node_type in self.types])


def take_rows(matrix: Tensor, rows: Tensor) -> Tensor:
    """``matrix[rows]`` whose gradient is summed in a fixed order: that of plain indexing differs from run to run."""
    return torch.nn.functional.embedding(rows, matrix)
