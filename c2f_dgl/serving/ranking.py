"""The k best columns of scores, the same ones every time."""

from __future__ import annotations

import numpy as np
from numpy.lib.stride_tricks import as_strided

# Columns of a group in the search for the largest.
_GROUP = 32


def top_columns(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k largest entries of each row: larger first, of equal ones the lower column first.

    Parameters
    ----------
    scores : float array, shape (n, m)
        Without NaN.
    k : int
        At most m.

    Returns
    -------
    columns : int64 array, shape (n, k)
    values : array, shape (n, k)
    """
    n, m = scores.shape
    size = min(_GROUP, m // max(k, 1))
    least = np.full((n, 1), -np.inf)
    if size > 1 and k:
        # k groups have an entry that is no less than the k-th of the groups' largest, and so have the k largest.
        width, (row, column) = m // size, scores.strides
        grouped = as_strided(scores, (n, size, width), (row, width * column, column), writeable=False)
        least = np.partition(grouped.max(axis=1), width - k, axis=1)[:, width - k, None]
    rows, columns = np.nonzero(scores >= least)
    order = np.lexsort((-scores[rows, columns], rows))  # stable: of equal ones the lower column stays first
    starts = np.searchsorted(rows, np.arange(n))
    best = columns[order[starts[:, None] + np.arange(k)]]
    return best, np.take_along_axis(scores, best, axis=1)
