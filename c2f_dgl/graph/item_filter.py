"""The item filter (`c2f_dgl.graph.neighbourhood`) of an interaction graph, with the histories of its users."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor
from torch.nn import functional as F

from c2f_dgl.config.roles import DEFAULT_ROLES, EdgeType
from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import derived
from c2f_dgl.graph.neighbourhood import PLAIN, FilterShape, ItemFilter, Walks, item_walks
from c2f_dgl.serving.csr import Csr


@dataclass(frozen=True, eq=False)
class GraphFilter:
    """Filter scores of the users of a graph, from their histories (n_users x n_items)."""

    histories: Csr
    term: ItemFilter

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Scores (len(users) x n_items, float32) of all items for some users (int)."""
        had = self.histories.take(users)
        weights = self.term.history_weight[had.columns].astype(np.float32)  # D_i^(-e) of what they had
        if isinstance(self._weights, Tensor):
            columns, starts = (torch.as_tensor(x, dtype=torch.int64) for x in (had.columns, had.pointers))
            summed = F.embedding_bag(
                columns,
                self._weights,
                starts,
                mode="sum",
                per_sample_weights=torch.as_tensor(weights),
                include_last_offset=True,
            )
            return summed.numpy()
        weighted = sp.csr_matrix((weights, had.columns, had.pointers), (had.n_rows, had.n_columns))
        return (weighted @ self._weights).toarray()

    @cached_property
    def _weights(self) -> sp.csr_matrix | Tensor:
        """W D_i^f, dense where that is quicker: a sparse product takes some twenty times as long for each entry."""
        weights = self.term.weights
        return torch.as_tensor(weights.toarray()) if weights.nnz > weights.shape[1] ** 2 / 20 else weights


def graph_filter(
    graph: dgl.DGLGraph, k: int, shape: FilterShape = PLAIN, target: EdgeType = DEFAULT_ROLES.target
) -> GraphFilter:
    """The filter of the interactions `target` of a graph, each of which counts 1, whatever its weight.

    Walks are formed once for all models that are restored on a graph and all shapes that are tried on it; so is W, as
    long as the shapes tried one after the other have the same. k >= 1 neighbours are kept of each item, and all items
    where the shape has a ridge.
    """
    n_users, n_items = graph.num_nodes(target[0]), graph.num_nodes(target[2])
    n_kept = n_items if shape.ridge else k

    def make() -> tuple[Csr, Walks, dict[tuple[float, ...], sp.csr_matrix]]:
        users, items = (ends.cpu().numpy() for ends in graph.edges(etype=target))
        histories = Csr.from_pairs(users, items, (n_users, n_items))
        return histories, item_walks(histories, n_kept, shape.user), {}

    weight, pointers = graph.edges[target].data["weight"], graph.adj_tensors("csc", target)[0]
    histories, walks, last_weights = derived(weight, (target, n_kept, shape.user), make, pointers)
    exponents = shape.item, shape.power, shape.ridge
    if exponents not in last_weights:
        last_weights.clear()
        last_weights[exponents] = walks.weights(*exponents)
    return GraphFilter(histories, ItemFilter.of_walks(walks, shape, last_weights[exponents]))
