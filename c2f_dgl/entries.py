"""Which (row, column) pairs are entries of a sparse matrix."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


class Entries:
    """The stored entries of a matrix, to be asked for many at once: one binary search a pair.

    Parameters
    ----------
    matrix : csr_matrix
        Columns of a row ascending.

    Attributes
    ----------
    keys : int64 array, shape (nnz,)
        ``row * n_columns + column``, ascending.
    """

    def __init__(self, matrix: sp.csr_matrix) -> None:
        self.shape = matrix.shape
        rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
        self.keys = rows * matrix.shape[1] + matrix.indices

    def key(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Keys of pairs, which must lie within the matrix; the arrays broadcast."""
        return rows.astype(np.int64) * self.shape[1] + columns

    def hold(self, keys: np.ndarray) -> np.ndarray:
        """Whether there is an entry, by key."""
        if not len(self.keys):
            return np.zeros(keys.shape, dtype=bool)
        found: np.ndarray = self.keys[np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)] == keys
        return found
