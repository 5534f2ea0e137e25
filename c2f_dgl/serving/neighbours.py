"""A few neighbours of each item, which say more about it than its code."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from c2f_dgl.serving.csr import Csr


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Sum over a history's items j of v_j G_ji, with G kept at a few j of each i and rounded to a byte.

    Attributes
    ----------
    sources : uint16 or uint32 array, shape (n_items, k)
        The j of each i; n_items where there is none.
    levels : uint8 array, shape (n_items, k)
        Of G_ji in `values`.
    values : float32 array, shape (at most 256,)
        G by level, the weight against the codes in it.
    history_weight : float32 array, shape (at most 256,)
        v by popularity level.
    """

    sources: np.ndarray
    levels: np.ndarray
    values: np.ndarray
    history_weight: np.ndarray

    @classmethod
    def stored(cls, weights: Csr, values: np.ndarray, history_weight: np.ndarray) -> Neighbours:
        """Round weights of neighbours to a byte each.

        Parameters
        ----------
        weights : Csr, n_items x n_items
            Row i holds the j.
        values : float array, shape (n_entries,)
            G_ji of each entry, >= 0.
        history_weight : float array
            v by popularity level.
        """
        n_items, k = weights.n_rows, int(weights.counts.max(initial=0))
        sources = np.full((n_items, k), n_items, dtype=np.uint16 if n_items < 2**16 else np.uint32)
        levels = np.zeros((n_items, k), dtype=np.uint8)
        place = np.arange(len(weights.columns)) - weights.pointers[weights.rows]
        largest = max(float(values.max(initial=0.0)), np.finfo(np.float32).tiny)
        sources[weights.rows, place] = weights.columns
        # Squares: most weights are far below the largest.
        levels[weights.rows, place] = np.rint(255 * np.sqrt(values / largest))
        steps = largest * np.linspace(0, 1, 256) ** 2
        return cls(sources, levels, steps.astype(np.float32), history_weight.astype(np.float32))

    @cached_property
    def _by_source(self) -> tuple[Csr, np.ndarray]:
        """The i that each j is a source of, and the level of each entry."""
        n_items, k = self.sources.shape
        order = np.argsort(self.sources.ravel(), kind="stable")
        counts = np.bincount(self.sources.ravel(), minlength=n_items + 1)[:n_items]
        order = order[: counts.sum()]  # after it those without a source
        targets = (order // max(k, 1)).astype(self.sources.dtype)
        return Csr.from_counts(counts, targets, n_items), self.levels.ravel()[order]

    def add_scores(self, histories: Csr, degree_level: np.ndarray, out: np.ndarray) -> None:
        """Add what histories (n x n_items) say about all items to `out` (n, n_items); `degree_level` is (n_items,)."""
        by_source, levels = self._by_source
        places, counts = by_source.places(histories.columns), by_source.counts[histories.columns]
        weights = np.repeat(self.history_weight[degree_level[histories.columns]].astype(np.float64), counts)
        weights *= self.values[levels[places]]
        np.add.at(out, (np.repeat(histories.rows, counts), by_source.columns[places]), weights)

    def contributions(self, history: np.ndarray, item: int, degree_level: np.ndarray) -> np.ndarray:
        """What each item of a history (int, (n,)) adds to the score of `item`: float64 (n,)."""
        same = history[:, None] == self.sources[item]
        said = np.where(same, self.values[self.levels[item]].astype(np.float64), 0.0).sum(axis=1)
        return self.history_weight[degree_level[history]] * said
