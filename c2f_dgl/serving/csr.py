"""Who interacted with what: a binary CSR matrix, numpy only."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np


@dataclass(frozen=True, eq=False)
class Csr:
    """A binary sparse matrix."""

    pointers: np.ndarray  # (n_rows + 1,), int64: where each row's entries begin
    columns: np.ndarray  # (n_entries,): distinct within a row
    n_columns: int

    @classmethod
    def from_pairs(cls, rows: np.ndarray, columns: np.ndarray, shape: tuple[int, int]) -> Csr:
        """Pairs (int arrays of one length), sorted by row; of repeated ones the first."""
        first = np.unique(rows.astype(np.int64) * shape[1] + columns, return_index=True)[1]
        first.sort()
        rows, columns = rows[first], columns[first]
        order = np.argsort(rows, kind="stable")
        return cls.from_counts(np.bincount(rows, minlength=shape[0]), columns[order], shape[1])

    @classmethod
    def from_counts(cls, counts: np.ndarray, columns: np.ndarray, n_columns: int) -> Csr:
        """Take the number of entries of each row, and their columns row after row."""
        return cls(np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(counts, dtype=np.int64)]), columns, n_columns)

    @property
    def n_rows(self) -> int:
        return len(self.pointers) - 1

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of entries of each row (n_rows,), int64."""
        return np.diff(self.pointers)

    @cached_property
    def rows(self) -> np.ndarray:
        """Row of each entry (n_entries,), int64."""
        return np.repeat(np.arange(self.n_rows), self.counts)

    def take(self, rows: np.ndarray) -> Csr:
        """Some rows (int array), in that order."""
        return Csr.from_counts(self.counts[rows], self.columns[self.places(rows)], self.n_columns)

    def places(self, rows: np.ndarray) -> np.ndarray:
        """Where the entries of some rows (int array) stand, row after row."""
        counts = self.counts[rows]
        ends = np.cumsum(counts)
        return np.arange(counts.sum()) + np.repeat(self.pointers[:-1][rows] - (ends - counts), counts)
