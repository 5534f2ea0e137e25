"""An item-to-item graph filter on a user's history: what low-rank embeddings leave out, with five numbers chosen.

    s_u = r_u D_i^(-e) G D_i^f,    G_ij = ((R^T D_u^(-2a) R)_ij / (d_i d_j)^c)^q

G is kept at the k items j of each item i with the largest (R^T D_u^(-2a) R)_ij / (d_i d_j)^(1/2): the others are
mostly noise. a = c = e = 1/2, q = 1 and f = 0 is the linear filter of GF-CF (Shen et al. 2021); q > 1 sharpens it. The
diagonal is left out, as what a user has seen is never recommended.

The graph alone makes G, so it is formed wherever the model is, and never stored.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from c2f_dgl.serving.csr import Csr

# Two-step paths, and entries of G that are looked through, held at once. A row is never cut, so one may be longer.
_PATH_BLOCK = 2**20


@dataclass(frozen=True)
class FilterShape:
    """The exponents of a filter.

    Parameters
    ----------
    user : float
        a, of the degrees of the users between two items.
    item : float
        c, of the degrees of both items.
    power : float
        q > 0, elementwise.
    history : float
        e, of the degrees of the items a user had.
    target : float
        f, of the degrees of the items that are ranked.
    """

    user: float = 0.5
    item: float = 0.5
    power: float = 1.0
    history: float = 0.5
    target: float = 0.0


# GF-CF's.
PLAIN = FilterShape()


@dataclass(frozen=True, eq=False)
class ItemFilter:
    """r D_i^(-e) G D_i^f of any histories r.

    Attributes
    ----------
    k : int
        Entries that are kept of each row of G.
    shape : FilterShape
    degrees : int array, shape (n_items,)
        Interactions of each item.
    own : float64 array, shape (n_items,)
        D_i^(-e).
    neighbours : Csr, n_items x n_items
        Where G has entries.
    values : float32 array, shape (n_entries,)
        G D_i^f.
    """

    k: int
    shape: FilterShape
    degrees: np.ndarray
    own: np.ndarray
    neighbours: Csr
    values: np.ndarray

    def contributions(self, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """What items of histories add to scores of `items`, one of each (n,): float64 (n,)."""
        found = np.zeros(len(history))
        for some in _blocks(self.neighbours.counts[history]):
            rows = self.neighbours.take(history[some])
            there = rows.columns == np.repeat(items[some], rows.counts)
            found[some][rows.rows[there]] = self.values[self.neighbours.places(history[some])[there]]
        return self.own[history] * found

    def reshaped(self, shape: FilterShape) -> ItemFilter:
        """The same neighbours weighted by other exponents, that of the users aside."""
        before, degree = self.shape, np.maximum(self.degrees, 1).astype(np.float64)
        source, target = degree[self.neighbours.rows], degree[self.neighbours.columns]
        walks = (self.values / target**before.target) ** (1 / before.power) * (source * target) ** before.item
        values = (walks * (source * target) ** -shape.item) ** shape.power * target**shape.target
        return replace(self, shape=shape, own=degree**-shape.history, values=values.astype(np.float32))


def item_filter(
    interactions: Csr,
    k: int,
    shape: FilterShape = PLAIN,
) -> ItemFilter:
    """The filter of interactions (n_users x n_items).

    Parameters
    ----------
    interactions : Csr
        Every one counts 1.
    k : int
        Entries kept of each row of G, >= 1; of equal ones those of the lower items.
    shape : FilterShape
    """
    n_items, by_item = interactions.n_columns, interactions.transposed
    root = np.maximum(by_item.counts, 1) ** -0.5
    share = np.maximum(interactions.counts, 1) ** (-2.0 * shape.user)
    columns, values, counts = [], [], []
    for items in _blocks(_row_sums(by_item, interactions.counts)):
        some = by_item.take(np.arange(items.start, items.stop))
        walk = interactions.take(some.columns)
        # Item to user to item, sorted by both ends: a merge of the users' sorted rows.
        ends = walk.columns + np.repeat(some.rows * n_items, walk.counts)
        order = np.argsort(ends, kind="stable")
        ends = ends[order]
        first = np.flatnonzero(np.diff(ends, prepend=-1))
        sums = np.add.reduceat(np.repeat(share[some.columns], walk.counts)[order], first) if len(first) else np.zeros(0)
        rows, others = np.divmod(ends[first], n_items)
        kept = others != rows + items.start
        rows, others = rows[kept], others[kept]
        found = (root[rows + items.start] * root[others] * sums[kept]).astype(np.float32)
        largest = largest_of_rows(rows, found, k)
        columns.append(others[largest].astype(np.int32))
        values.append(found[largest])
        counts.append(np.bincount(rows[largest], minlength=items.stop - items.start))
    pointers = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate(counts))])
    neighbours = Csr(pointers, np.concatenate(columns), n_items)
    cosine = FilterShape(shape.user, 0.5, 1.0, 0.5, 0.0)
    found_filter = ItemFilter(k, cosine, by_item.counts, root, neighbours, np.concatenate(values))
    return found_filter if shape == cosine else found_filter.reshaped(shape)


def largest_of_rows(rows: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """Ascending places of the k largest positive `values` of each of the ascending `rows`; of equal ones the first."""
    # Positive floats sort like their bits: one key a value, the larger first within a row.
    key = (rows.astype(np.uint64) << np.uint64(32)) | (np.uint64(2**32 - 1) - values.view(np.uint32))
    order = np.argsort(key, kind="stable")
    length = np.bincount(rows) if len(rows) else np.zeros(0, dtype=np.int64)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(length) - length, length)
    return np.sort(order[rank < k])


def _row_sums(matrix: Csr, weights: np.ndarray) -> np.ndarray:
    """Sums of integer `weights` (n_columns,) over the entries of each row."""
    return np.diff(np.append(0, np.cumsum(weights[matrix.columns]))[matrix.pointers])


def _blocks(sizes: np.ndarray) -> Iterator[slice]:
    """Slices of consecutive rows whose `sizes` add up to at most `_PATH_BLOCK`, or of one row."""
    ends = np.cumsum(sizes)
    start = 0
    while start < len(sizes):
        done = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, done + _PATH_BLOCK, side="right")))
        yield slice(start, stop)
        start = stop
