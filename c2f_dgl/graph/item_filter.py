"""A linear graph filter on a user's history: what low-rank embeddings leave out, with nothing learned.

    s_u = r_u D_i^(-1/2) G,        G = the k largest entries of each row of R~^T R~,   R~ = D_u^(-1/2) R D_i^(-1/2)

R~^T R~ is the two-step walk from item to item; GF-CF (Shen et al. 2021) uses all of it. Its rows are long (1,000
entries on average in Gowalla) and mostly noise: the few hundred largest rank better and cost less. The diagonal is left
out, as what a user has seen is never recommended.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
from torch.utils.weak import WeakTensorKeyDictionary

from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import INTERACTS

# Rows of R~^T R~ formed at once: bounds the memory to these rows' entries beside what is kept.
_ROW_BLOCK = 1_024


@dataclass(frozen=True)
class ItemFilter:
    """r_u D_i^(-1/2) G for any users.

    Parameters
    ----------
    history : csr_matrix, shape (n_users, n_items), float32
        R D_i^(-1/2).
    neighbours : csr_matrix, shape (n_items, n_items), float32
        G, at most k entries a row.
    """

    history: sp.csr_matrix
    neighbours: sp.csr_matrix

    def scores(self, users: np.ndarray) -> np.ndarray:
        """Scores (len(users) x n_items, float32) of all items for some users (int)."""
        return (self.history[users] @ self.neighbours).toarray()

    def scaled(self, factors: np.ndarray) -> ItemFilter:
        """With each item's scores multiplied by its factor (n_items,)."""
        return replace(self, neighbours=(self.neighbours @ sp.diags(factors.astype(np.float32))).tocsr())


# A run's models share one graph: its filter is formed once, however many models are restored on it.
_CACHE = WeakTensorKeyDictionary()


def item_filter(graph: dgl.DGLGraph, k: int) -> ItemFilter:
    """The filter of an interaction graph; kept as long as the graph's interactions are.

    Parameters
    ----------
    graph : DGLGraph
        With the relation ``user-interacts-item``; every interaction counts 1, whatever its weight.
    k : int
        Entries kept of each row, >= 1; ties go to the lower item.
    """
    kept = _CACHE.setdefault(graph.edges[INTERACTS].data["weight"], {})
    if k not in kept:
        kept[k] = _item_filter(graph, k)
    return kept[k]


def _item_filter(graph: dgl.DGLGraph, k: int) -> ItemFilter:
    users, items = (side.cpu().numpy() for side in graph.edges(etype=INTERACTS))
    shape = (graph.num_nodes("user"), graph.num_nodes("item"))
    r = sp.csr_matrix((np.ones(len(users), np.float32), (users, items)), shape)
    by_user, by_item = (
        1 / np.sqrt(np.maximum(np.bincount(side, minlength=n), 1))
        for side, n in zip((users, items), shape, strict=True)
    )
    history = (r @ sp.diags(by_item.astype(np.float32))).tocsr()
    walk = (sp.diags(by_user.astype(np.float32)) @ history).tocsr()
    return ItemFilter(history, nearest_columns(walk, k))


def nearest_columns(matrix: sp.csr_matrix, k: int) -> sp.csr_matrix:
    """The k largest entries of each row of X^T X, without its diagonal, formed in blocks of rows.

    Parameters
    ----------
    matrix : csr_matrix, shape (n, m)
        X.
    k : int
        Ties go to the lower column.

    Returns
    -------
    csr_matrix, shape (m, m)
    """
    transposed = matrix.T.tocsr()
    blocks = [
        _largest(transposed[start : start + _ROW_BLOCK] @ matrix, start, k)
        for start in range(0, matrix.shape[1], _ROW_BLOCK)
    ]
    return sp.vstack(blocks, format="csr")


def _largest(rows: sp.csr_matrix, first: int, k: int) -> sp.csr_matrix:
    """The k largest entries of each row; column ``first + i`` of row i does not count."""
    coo = rows.tocoo()
    other = coo.col != coo.row + first
    row, column, value = coo.row[other], coo.col[other], coo.data[other]
    order = np.lexsort((column, -value, row))
    length = np.bincount(row, minlength=rows.shape[0])
    rank = np.arange(len(order)) - np.repeat(np.cumsum(length) - length, length)
    kept = order[rank < k]
    return sp.csr_matrix((value[kept], (row[kept], column[kept])), rows.shape)
