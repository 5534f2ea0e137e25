"""An item-to-item graph filter on a user's history: what low-rank embeddings leave out, with a few numbers chosen.

    s_u = r_u D_i^(-e) W D_i^f,    G_ij = ((R^T D_u^(-2a) R)_ij / (d_i d_j)^c)^q

W is G, or the ridge regression of each item on all others with G as their Gram matrix:

    W_ij = -P_ij / P_jj,    P = (G + Lambda)^(-1),    Lambda_ii = lambda g (G_ii / g)^(1/2),    g the mean of G_ii

a = c = e = 1/2, q = 1, f = 0 and W = G is the linear filter of GF-CF (Shen et al. 2021), a = c = e = f = 0 and q = 1
with the ridge and a constant Lambda is EASE (Steck 2019). q = 2 with the ridge is a kernel regression: (x . y)^2 is
the inner product of all pairs of users. W has entries where G has: the diagonal is left out, as what a user has seen is
never recommended, and so are pairs of items without a user in common.

Without the ridge, G is kept at the k items j of each item i with the largest (R^T D_u^(-2a) R)_ij / (d_i d_j)^(1/2):
the others are mostly noise.

The graph alone makes G, so it is formed wherever the model is, and never stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from c2f_dgl.serving.csr import Csr

# Entries of G that are held, or looked through, at once. A row is never cut, so one may be longer.
_BLOCK = 2**21


@dataclass(frozen=True)
class FilterShape:
    """The exponents of a filter, and its ridge.

    Parameters
    ----------
    user : float
        a, of the degrees of the users between two items.
    item : float
        c, of the degrees of both items.
    power : float
        q > 0, elementwise.
    ridge : float
        lambda >= 0; 0 leaves W = G.
    history : float
        e, of the degrees of the items a user had.
    target : float
        f, of the degrees of the items that are ranked.
    """

    user: float = 0.5
    item: float = 0.5
    power: float = 1.0
    ridge: float = 0.0
    history: float = 0.5
    target: float = 0.0


# GF-CF's.
PLAIN = FilterShape()


@dataclass(frozen=True, eq=False)
class Walks:
    """Two-step walks between items: (R^T D_u^(-2a) R)_ij where they are kept.

    Attributes
    ----------
    user : float
        a.
    degrees : float64 array, shape (n_items,)
        Interactions of each item, at least 1.
    neighbours : Csr, n_items x n_items
        The pairs that are kept; none of an item with itself.
    values : float32 array, shape (n_entries,)
    loops : float64 array, shape (n_items,)
        Those from an item to itself.
    """

    user: float
    degrees: np.ndarray
    neighbours: Csr
    values: np.ndarray
    loops: np.ndarray

    def weights(self, item: float, power: float, ridge: float) -> np.ndarray:
        """W of the pairs that are kept (n_entries,), float64; with a ridge, all pairs should be."""
        rows, columns = self.neighbours.rows, self.neighbours.columns
        gram = (self.values * (self.degrees[rows] * self.degrees[columns]) ** -item) ** power
        if not ridge:
            return gram  # type: ignore[no-any-return]
        own = (self.loops * self.degrees ** (-2 * item)) ** power
        own = np.maximum(own, own[own > 0].min(initial=1.0))
        dense = np.diag(own + ridge * np.sqrt(own * own.mean()))
        dense[rows, columns] = gram
        inverse = np.linalg.inv(dense)
        return -inverse[rows, columns] / inverse.diagonal()[columns]


@dataclass(frozen=True, eq=False)
class ItemFilter:
    """r D_i^(-e) W D_i^f of any histories r.

    Attributes
    ----------
    shape : FilterShape
    own : float64 array, shape (n_items,)
        D_i^(-e).
    neighbours : Csr, n_items x n_items
        Where W has entries.
    values : float32 array, shape (n_entries,)
        W D_i^f.
    """

    shape: FilterShape
    own: np.ndarray
    neighbours: Csr
    values: np.ndarray

    @classmethod
    def of_walks(cls, walks: Walks, shape: FilterShape, weights: np.ndarray | None = None) -> ItemFilter:
        """The filter of walks with the shape's exponent of users; `weights` of the shape, where they are known."""
        if weights is None:
            weights = walks.weights(shape.item, shape.power, shape.ridge)
        values = weights * walks.degrees[walks.neighbours.columns] ** shape.target
        return cls(shape, walks.degrees**-shape.history, walks.neighbours, values.astype(np.float32))

    def contributions(self, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """What items of histories add to scores of `items`, one of each (n,): float64 (n,)."""
        found = np.zeros(len(history))
        for some in _blocks(self.neighbours.counts[history]):
            rows = self.neighbours.take(history[some])
            there = rows.columns == np.repeat(items[some], rows.counts)
            found[some][rows.rows[there]] = self.values[self.neighbours.places(history[some])[there]]
        return self.own[history] * found


def item_filter(
    interactions: Csr,
    k: int,
    shape: FilterShape = PLAIN,
) -> ItemFilter:
    """The filter of interactions (parameters as in `item_walks`); with a ridge all pairs are kept, whatever k is."""
    kept = interactions.n_columns if shape.ridge else k
    return ItemFilter.of_walks(item_walks(interactions, kept, shape.user), shape)


def item_walks(interactions: Csr, k: int, user: float) -> Walks:
    """Walks between the items of interactions (n_users x n_items).

    Parameters
    ----------
    interactions : Csr
        Every one counts 1.
    k : int
        Pairs kept of each item, >= 1; of equal ones those of the lower items.
    user : float
        a, the exponent of the users' degrees.
    """
    n_items, places = interactions.n_columns, (interactions.columns, interactions.pointers)
    r = sp.csr_matrix((np.ones(len(places[0])), *places), (interactions.n_rows, n_items))
    share = np.maximum(interactions.counts, 1) ** (-2.0 * user)
    weighted = sp.csr_matrix((r.multiply(share[:, None])).T)
    degrees = np.maximum(np.diff(weighted.indptr), 1).astype(np.float64)
    columns, values, counts = [], [], []
    paths = np.asarray((weighted != 0) @ interactions.counts)
    for items in _blocks(np.minimum(paths, n_items)):
        walks = weighted[items] @ r
        walks.sort_indices()
        rows, others, sums = (
            np.repeat(np.arange(items.start, items.stop), np.diff(walks.indptr)),
            walks.indices,
            walks.data,
        )
        cosines = ((degrees[rows] * degrees[others]) ** -0.5 * sums).astype(np.float32)
        cosines[rows == others] = 0
        largest = largest_of_rows(rows - items.start, cosines, k)
        largest = largest[cosines[largest] > 0]
        columns.append(others[largest].astype(np.int32))
        values.append(sums[largest].astype(np.float32))
        counts.append(np.bincount(rows[largest] - items.start, minlength=items.stop - items.start))
    pointers = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate(counts))])
    neighbours = Csr(pointers, np.concatenate(columns), n_items)
    loops = np.bincount(interactions.columns, share[interactions.rows], minlength=n_items)
    return Walks(user, degrees, neighbours, np.concatenate(values), loops)


def largest_of_rows(rows: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """Ascending places of the k largest positive `values` of each of the ascending `rows`; of equal ones the first."""
    # Positive floats sort like their bits: one key a value, the larger first within a row.
    key = (rows.astype(np.uint64) << np.uint64(32)) | (np.uint64(2**32 - 1) - values.view(np.uint32))
    order = np.argsort(key, kind="stable")
    length = np.bincount(rows) if len(rows) else np.zeros(0, dtype=np.int64)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(length) - length, length)
    return np.sort(order[rank < k])


def _blocks(sizes: np.ndarray) -> Iterator[slice]:
    """Slices of consecutive rows whose `sizes` add up to at most `_BLOCK`, or of one row."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _BLOCK, side="right")))
        yield slice(start, stop)
        start = stop
