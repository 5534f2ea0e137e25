"""Recall and NDCG of ranked lists, binary relevance, averaged over users (paper, Sec. 4.1.3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def ranking_metrics(hits: np.ndarray, n_relevant: np.ndarray, cutoffs: Sequence[int]) -> dict[str, np.ndarray]:
    """``ndcg@k`` (ideal DCG over min(k, n_relevant)) and ``recall@k`` of each user: float64 (users,).

    Parameters
    ----------
    hits : ndarray, shape (users, depth), bool
        Whether the item at each rank is relevant; depth >= max(cutoffs), or all items there are.
    n_relevant : ndarray, shape (users,), int
        Number of relevant items of each user, >= 1.
    cutoffs : sequence of int
        k.
    """
    depth = hits.shape[1]
    discounts = 1.0 / np.log2(np.arange(2, max(*cutoffs, depth) + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    ndcg = {f"ndcg@{k}": hits[:, :k] @ discounts[: min(k, depth)] / ideal[np.minimum(n_relevant, k)] for k in cutoffs}
    return ndcg | {f"recall@{k}": hits[:, :k].sum(axis=1) / n_relevant for k in cutoffs}
