"""Codes of items in a number of bytes.

A first version: the coarse codebook is k-means of the items, the fine ones are k-means of slices of what it leaves.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from sklearn.cluster import KMeans

from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.evaluation.served import Served
from c2f_dgl.progress import Reporter
from c2f_dgl.serving import ItemCodes, Level, Neighbours, Rows, ServingModel
from c2f_dgl.serving.codes import degree_levels, level_means

# Most rows of a codebook (a code is a byte), and fewest items a row.
_ROWS, _ITEMS_A_ROW = 256, 8

# What a file says of a codebook and its codes.
_HEADER = 256

# Fine codebooks that are tried where no number of bytes is given, and how much of N@20 on validation may be lost.
_FINE, _LOSS = (1, 2, 4, 8, 16, 32, 64), 0.02


def fit_codes(
    items: np.ndarray,
    history_weight: np.ndarray,
    item_weight: np.ndarray,
    train: sp.csr_matrix,
    valid: sp.csr_matrix,
    n_bytes: int | None,
    seed: int,
    reporter: Reporter,
) -> tuple[ItemCodes, Neighbours | None]:
    """Codes of items, and neighbours of them where these are worth their bytes.

    Parameters
    ----------
    items : float array, shape (n_items, d)
        X: the vector of a user is the sum of ``history_weight * X`` over the history.
    history_weight, item_weight : float arrays, shape (n_items,)
        w, and t of ``t_i (u . X_i)``.
    train, valid : csr_matrix, shape (n_users, n_items)
        Histories, and what is to be found by them.
    n_bytes : int, optional
        Of codes, codebooks and neighbours together; without it the fewest that lose at most 2 % of N@20 on `valid`.
    seed : int
    reporter : Reporter

    Raises
    ------
    InputError
        So few bytes hold no codes.
    """
    vectors = _rotated(items)
    if n_bytes is not None:
        d, n_fine = _sizes(len(items), vectors.shape[1], n_bytes)
        with reporter.busy(f"a coarse and {n_fine} fine codes an item, of {d} columns"):
            return _fitted(vectors[:, :d], n_fine, seed), None
    degrees = train.getnnz(axis=0)
    levels = degree_levels(degrees)
    weights = level_means(levels, history_weight), level_means(levels, item_weight)

    def figure(codes: ItemCodes) -> float:
        model = ServingModel(codes, levels, *weights, np.arange(len(items)))
        return evaluate(Served(model, train, np.arange(len(items))), train, valid, (20,))["ndcg@20"]

    wanted = (1 - _LOSS) * figure(ItemCodes.table(items))
    codes = ItemCodes.table(items, "int8")
    for n_fine in (n for n in _FINE if n <= vectors.shape[1]):
        with reporter.busy(f"a coarse and {n_fine} fine codes an item"):
            found = _fitted(vectors, n_fine, seed)
            if figure(found) >= wanted:
                return found, None
    return codes, None


def _rotated(items: np.ndarray) -> np.ndarray:
    """Items in the directions of their singular vectors, the largest first: products stay as they are."""
    values, directions = np.linalg.eigh(items.astype(np.float64).T @ items.astype(np.float64))
    kept = values > 1e-12 * max(values[-1], np.finfo(np.float64).tiny)
    directions = directions[:, kept][:, ::-1] if kept.any() else directions[:, :1]
    return items @ directions


def _sizes(n_items: int, d: int, n_bytes: int) -> tuple[int, int]:
    """Columns that are kept, with at most half of the bytes in codebooks, and how many fine codebooks then fit."""
    rows = _n_rows(n_items)
    d = min(d, max(1, n_bytes // 2 // (2 * rows)))
    each = n_items + 4 * rows + _HEADER
    n_fine = min(d, (n_bytes - 2 * rows * d) // each - 1)
    if n_fine < 1:
        least = 2 * each + 4 * rows
        raise InputError(f"{n_bytes:,} bytes are left for codes of {n_items:,} items", expected=f"{least:,} or more")
    return d, n_fine


def _fitted(vectors: np.ndarray, n_fine: int, seed: int) -> ItemCodes:
    """A coarse code of all columns and fine ones of slices, among which large directions are dealt out."""
    dealt = np.concatenate([np.arange(first, vectors.shape[1], n_fine) for first in range(n_fine)])
    vectors = vectors[:, dealt]
    coarse = _clustered(vectors, 0, seed)
    left = vectors - coarse.take(np.arange(len(vectors)))
    stops = np.cumsum([len(range(first, vectors.shape[1], n_fine)) for first in range(n_fine)]).tolist()
    starts = [0, *stops[:-1]]
    fine = [_clustered(left[:, a:b], a, seed) for a, b in zip(starts, stops, strict=True)]
    return ItemCodes((coarse, *fine))


def _clustered(vectors: np.ndarray, start: int, seed: int) -> Level:
    """The level of k-means; items that are alike may leave rows of it without use."""
    found = KMeans(_n_rows(len(vectors)), n_init=1, max_iter=25, random_state=seed).fit(vectors)
    return Level(Rows.stored(found.cluster_centers_, "int8"), found.labels_.astype(np.uint8), start)


def _n_rows(n_items: int) -> int:
    return min(_ROWS, max(1, n_items // _ITEMS_A_ROW))
