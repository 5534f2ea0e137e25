"""A linear graph filter on a user's history: what low-rank embeddings leave out, with nothing learned.

    s_u = r_u D_i^(-1/2) G,        G = the k largest entries of each row of R~^T R~,   R~ = D_u^(-1/2) R D_i^(-1/2)

R~^T R~ is the two-step walk from item to item; GF-CF (Shen et al. 2021) uses all of it. Its rows are long (1,000
entries on average in Gowalla) and mostly noise: the few hundred largest rank better and cost less. The diagonal is left
out, as what a user has seen is never recommended.

The graph alone makes G, so it is formed wherever the model is, in training as in serving, and never stored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from c2f_dgl.serving.csr import Csr

# Two-step paths, and entries of G that a score sums, held at once. A row is never cut, so one may be longer.
_PATH_BLOCK = 2**20


@dataclass(frozen=True, eq=False)
class ItemFilter:
    """r D_i^(-1/2) G of any histories r.

    Attributes
    ----------
    k : int
        Entries that are kept of each row of G.
    own : float64 array, shape (n_items,)
        D_i^(-1/2).
    neighbours : Csr, n_items x n_items
        Where G has entries.
    values : float32 array, shape (n_entries,)
        G.
    """

    k: int
    own: np.ndarray
    neighbours: Csr
    values: np.ndarray

    def scores(self, histories: Csr) -> np.ndarray:
        """Scores (n x n_items, float32) of all items for some histories (n x n_items)."""
        n_items = self.neighbours.n_columns
        out = np.empty((histories.n_rows, n_items), dtype=np.float32)
        paths = _row_sums(histories, self.neighbours.counts)
        for rows in _blocks(paths):
            some = histories.take(np.arange(rows.start, rows.stop))
            places, counts = self.neighbours.places(some.columns), self.neighbours.counts[some.columns]
            cells = self.neighbours.columns[places] + np.repeat(some.rows * n_items, counts)
            weights = self.values[places] * np.repeat(self.own[some.columns], counts)
            out[rows] = np.bincount(cells, weights, minlength=some.n_rows * n_items).reshape(-1, n_items)
        return out

    def contributions(self, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """What items of histories add to scores of `items`, one of each (n,): float64 (n,)."""
        found = np.zeros(len(history))
        for some in _blocks(self.neighbours.counts[history]):
            rows = self.neighbours.take(history[some])
            there = rows.columns == np.repeat(items[some], rows.counts)
            found[some][rows.rows[there]] = self.values[self.neighbours.places(history[some])[there]]
        return self.own[history] * found

    def scaled(self, factors: np.ndarray) -> ItemFilter:
        """With each item's scores multiplied by its factor (n_items,)."""
        return replace(self, values=(self.values * factors[self.neighbours.columns]).astype(np.float32))

    def grown(self, n_new: int) -> ItemFilter:
        """With items added that have no neighbours."""
        before = self.neighbours
        pointers = np.append(before.pointers, np.full(n_new, before.pointers[-1]))
        return replace(
            self,
            own=np.append(self.own, np.zeros(n_new)),
            neighbours=Csr(pointers, before.columns, before.n_columns + n_new),
        )


def item_filter(interactions: Csr, k: int, progress: Callable[[int, int], None] | None = None) -> ItemFilter:
    """The filter of interactions (n_users x n_items).

    Parameters
    ----------
    interactions : Csr
        Every one counts 1.
    k : int
        Entries kept of each row of G, >= 1; of equal ones those of the lower items.
    progress : callable, optional
        Called with the number of items done and of all.
    """
    n_items, by_item = interactions.n_columns, interactions.transposed
    own = np.maximum(by_item.counts, 1) ** -0.5
    share = 1 / np.maximum(interactions.counts, 1)
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
        found = (own[rows + items.start] * own[others] * sums[kept]).astype(np.float32)
        largest = _largest(rows, found, k)
        columns.append(others[largest].astype(np.int32))
        values.append(found[largest])
        counts.append(np.bincount(rows[largest], minlength=items.stop - items.start))
        if progress is not None:
            progress(items.stop, n_items)
    pointers = np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(np.concatenate(counts))])
    return ItemFilter(k, own, Csr(pointers, np.concatenate(columns), n_items), np.concatenate(values))


def _largest(rows: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
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
