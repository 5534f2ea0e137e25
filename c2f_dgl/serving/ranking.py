"""The k best columns of scores, the same ones every time."""

from __future__ import annotations

import numpy as np


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
    m = scores.shape[1]
    if k == 0:
        return np.empty((len(scores), 0), dtype=np.int64), scores[:, :0]
    if k < m:
        columns = np.argpartition(scores, m - k, axis=1)[:, m - k :]
        values = np.take_along_axis(scores, columns, axis=1)
        # Where more entries equal the k-th than were taken, which of them were taken is arbitrary: sort those rows.
        least = values.min(axis=1, keepdims=True)
        tied = np.flatnonzero((scores == least).sum(axis=1) > (values == least).sum(axis=1))
        columns[tied] = np.argsort(-scores[tied], axis=1, kind="stable")[:, :k]
        columns.sort(axis=1)
    else:
        columns = np.broadcast_to(np.arange(m), scores.shape)
    values = np.take_along_axis(scores, columns, axis=1)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1), np.take_along_axis(values, order, axis=1)
