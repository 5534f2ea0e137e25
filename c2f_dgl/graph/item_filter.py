"""The item filter (`c2f_dgl.graph.neighbourhood`) of an interaction graph, with the histories of its users."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.config.roles import DEFAULT_ROLES, EdgeType
from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import derived
from c2f_dgl.graph.neighbourhood import PLAIN, FilterShape, ItemFilter, Walks, item_walks
from c2f_dgl.graph.propagate import csr_tensor, multiply
from c2f_dgl.serving.csr import Csr


@dataclass(frozen=True, eq=False)
class GraphFilter:
    """Filter scores of the users of a graph, from their histories (n_users x n_items)."""

    histories: Csr
    term: ItemFilter
    pairs: sp.csr_matrix | Tensor  # the term's W, as `quick_to_multiply` gives it

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Scores (len(users) x n_items, float32) of all items for some users (int)."""
        had = self.histories.take(users)
        before, after = self.term.factors
        weights = before[had.columns].astype(np.float32)
        weighted = sp.csr_matrix((weights, had.columns, had.pointers), (had.n_rows, had.n_columns))
        if isinstance(self.pairs, Tensor):
            summed = multiply(_as_tensor(weighted), self.pairs).numpy()
        elif torch.backends.mkl.is_available():  # a quarter of scipy's time
            zeros = torch.zeros(weighted.shape)
            summed = torch.addmm(zeros, _as_tensor(weighted), _as_tensor(self.pairs), beta=0.0).numpy()
        else:
            summed = (weighted @ self.pairs).toarray()
        summed *= after.astype(np.float32)
        return summed


def _as_tensor(matrix: sp.csr_matrix) -> Tensor:
    pointers, columns, values = (torch.as_tensor(part) for part in (matrix.indptr, matrix.indices, matrix.data))
    return csr_tensor(pointers, columns, values, matrix.shape)


def quick_to_multiply(pairs: sp.csr_matrix) -> sp.csr_matrix | Tensor:
    """The same, dense where that is quicker: a sparse product takes some twenty times as long for each entry."""
    return torch.as_tensor(pairs.toarray()) if pairs.nnz > pairs.shape[1] ** 2 / 20 else pairs


def graph_filter(
    graph: dgl.DGLGraph, k: int, shape: FilterShape = PLAIN, target: EdgeType = DEFAULT_ROLES.target
) -> GraphFilter:
    """The filter of the interactions `target` of a graph, each of which counts 1, whatever its weight.

    k >= 1 neighbours are kept of each item, and all where the shape has a ridge. Walks are formed once for all models
    and shapes on a graph, W once for shapes tried one after the other that have the same.
    """
    n_users, n_items = graph.num_nodes(target[0]), graph.num_nodes(target[2])
    n_kept = n_items if shape.ridge else k

    def make() -> tuple[Csr, Walks, dict[FilterShape, tuple[sp.csr_matrix, sp.csr_matrix | Tensor]]]:
        users, items = (ends.cpu().numpy() for ends in graph.edges(etype=target))
        histories = Csr.from_pairs(users, items, (n_users, n_items))
        return histories, item_walks(histories, n_kept, shape.user), {}

    weight, pointers = graph.edges[target].data["weight"], graph.adj_tensors("csc", target)[0]
    histories, walks, last_pairs = derived(weight, (target, n_kept, shape.user), make, pointers)
    factored = replace(shape.factored(), history=0.0, target=0.0)  # which have no part in W
    if factored not in last_pairs:
        last_pairs.clear()
        pairs = walks.weights(factored)
        last_pairs[factored] = pairs, quick_to_multiply(pairs)
    pairs, quick = last_pairs[factored]
    return GraphFilter(histories, ItemFilter(shape, walks.degrees, pairs), quick)
