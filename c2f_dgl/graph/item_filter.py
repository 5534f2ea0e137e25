"""The item filter (`c2f_dgl.graph.neighbourhood`) of an interaction graph, with the histories of its users."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.sparse as sp

from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.derived import Derived
from c2f_dgl.graph.neighbourhood import PLAIN, FilterShape, ItemFilter, Walks, item_walks
from c2f_dgl.roles import DEFAULT_ROLES, EdgeType
from c2f_dgl.serving.csr import Csr


@dataclass(frozen=True, eq=False)
class GraphFilter:
    """Filter scores of the users of a graph.

    Parameters
    ----------
    k : int
        Neighbours an item has, where the shape has no ridge.
    histories : Csr, n_users x n_items
    term : ItemFilter
    """

    k: int
    histories: Csr
    term: ItemFilter

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Scores (len(users) x n_items, float32) of all items for some users (int)."""
        return product.toarray() if sp.issparse(product := self._history[users] @ self._factor) else product

    @cached_property
    def neighbours(self) -> sp.csr_matrix:
        """W for SciPy, whose product takes a fraction of the numpy one's time on many users."""
        places = (self.term.values, self.term.neighbours.columns, self.term.neighbours.pointers)
        return sp.csr_matrix(places, (self.histories.n_columns, self.histories.n_columns))

    @cached_property
    def _factor(self) -> sp.csr_matrix | np.ndarray:
        """W, dense where that is quicker: a sparse product takes some twenty times as long for each entry."""
        n_items = self.histories.n_columns
        return self.neighbours.toarray() if self.neighbours.nnz > n_items**2 / 20 else self.neighbours

    @cached_property
    def _history(self) -> sp.csr_matrix:
        """R D_i^(-e)."""
        columns = self.histories.columns
        shape = (self.histories.n_rows, self.histories.n_columns)
        return sp.csr_matrix((self.term.own[columns].astype(np.float32), columns, self.histories.pointers), shape)


@dataclass(frozen=True, eq=False)
class _GraphWalks:
    """Walks on a graph, and the weights that were last made of them, by the numbers that make them."""

    histories: Csr
    walks: Walks
    weights: dict[tuple[float, float, float], np.ndarray]


# A run's models share one graph: its walks are formed once, however many models are restored on it or shapes tried.
_DERIVED = Derived()


def graph_filter(
    graph: dgl.DGLGraph, k: int, shape: FilterShape = PLAIN, target: EdgeType = DEFAULT_ROLES.target
) -> GraphFilter:
    """The filter of an interaction graph; what does not depend on the shape is kept as long as the interactions are.

    Parameters
    ----------
    graph : DGLGraph
        Every interaction counts 1, whatever its weight; relations other than `target` are not looked at.
    k : int
        Neighbours kept of each item, >= 1; all items are where the shape has a ridge.
    shape : FilterShape
    target : (source, name, destination)
        The relation that holds the interactions.
    """
    kept = graph.num_nodes(target[2]) if shape.ridge else k

    def make() -> _GraphWalks:
        users, items = (side.cpu().numpy() for side in graph.edges(etype=target))
        histories = Csr.from_pairs(users, items, (graph.num_nodes(target[0]), graph.num_nodes(target[2])))
        return _GraphWalks(histories, item_walks(histories, kept, shape.user), {})

    found = _DERIVED.get(graph, target, (target, kept, shape.user), make)
    numbers = shape.item, shape.power, shape.ridge
    if numbers not in found.weights:
        found.weights.clear()
        found.weights[numbers] = found.walks.weights(*numbers)
    return GraphFilter(k, found.histories, ItemFilter.of_walks(found.walks, shape, found.weights[numbers]))
