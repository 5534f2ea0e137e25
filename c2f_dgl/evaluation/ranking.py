"""Full ranking: every item is scored for every user, seen items are masked, in blocks of users."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.metrics import ranking_metrics
from c2f_dgl.graph.item_filter import ItemFilter

CUTOFFS = (5, 10, 20, 50)

# Scores held at once: users in a block x items.
_SCORE_BLOCK = 2**25


class Ranker(Protocol):
    """What ranking needs of a model."""

    @property
    def n_items(self) -> int:
        """Number of items."""

    @property
    def device(self) -> torch.device:
        """Where users are given and scores come."""

    def scores(self, users: Tensor) -> Tensor:
        """Scores (len(users) x n_items) of all items for some users (int64); the caller may write into them."""


@dataclass(frozen=True)
class Scorer:
    """What is left of a model when it serves: score(u, i) = users[u] . items[i] + item_bias[i].

    With a filter it is ``(1 - w) z(score) + w z(filter score)``, where z standardises a user's scores over all items.

    Parameters
    ----------
    users : Tensor, shape (n_users, d)
    items : Tensor, shape (n_items, d)
        Propagated embeddings, with whatever scaling the model applies.
    item_bias : Tensor, shape (n_items,), optional
    filter : ItemFilter, optional
    filter_weight : float
        w in [0, 1].
    """

    users: Tensor
    items: Tensor
    item_bias: Tensor | None = None
    filter: ItemFilter | None = None
    filter_weight: float = 0.0

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.items)

    @property
    def device(self) -> torch.device:
        """Where the embeddings are."""
        return self.users.device

    def scores(self, users: Tensor) -> Tensor:
        """Scores (len(users) x n_items) of all items for some users (int64)."""
        scores = self.users[users] @ self.items.T
        if self.item_bias is not None:
            scores += self.item_bias
        if self.filter is None or self.filter_weight == 0:
            return scores
        filtered = torch.as_tensor(self.filter.scores(users.cpu().numpy())).to(scores)
        return (
            _standardised(scores).mul_(1 - self.filter_weight).add_(_standardised(filtered), alpha=self.filter_weight)
        )


def _standardised(scores: Tensor) -> Tensor:
    """Rows with mean 0 and variance 1, in place; constant rows become 0."""
    variance, mean = torch.var_mean(scores, dim=1, keepdim=True, correction=0)
    return scores.sub_(mean).mul_(torch.where(variance > 0, variance, torch.inf).rsqrt())


def top_items(scorer: Ranker, users: np.ndarray, k: int, seen: sp.csr_matrix | None) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of each user that the user has not seen.

    Parameters
    ----------
    users : ndarray, shape (n,), int
    k : int
        Cut to the number of items where that is smaller.
    seen : csr_matrix, shape (n_users, n_items), optional
        Items never to return; None masks nothing.

    Returns
    -------
    items, scores : ndarray, shape (n, k)
        Best first; where a user has fewer than k unseen items the remaining scores are -inf.
    """
    n_items = scorer.n_items
    k = min(k, n_items)
    best, scores = np.empty((len(users), k), dtype=np.int64), np.empty((len(users), k), dtype=np.float32)
    block = max(1, _SCORE_BLOCK // n_items)
    for start in range(0, len(users), block):
        some = users[start : start + block]
        values = scorer.scores(torch.as_tensor(some, dtype=torch.int64, device=scorer.device))
        if seen is not None:
            mask = seen[some]
            rows = np.repeat(np.arange(len(some)), np.diff(mask.indptr))
            values[torch.as_tensor(rows), torch.as_tensor(mask.indices, dtype=torch.int64)] = -torch.inf
        top = values.topk(k, dim=1)
        best[start : start + len(some)] = top.indices.cpu().numpy()
        scores[start : start + len(some)] = top.values.float().cpu().numpy()
    return best, scores


def evaluate_per_user(
    scorer: Ranker, seen: sp.csr_matrix, relevant: sp.csr_matrix, cutoffs: Sequence[int] = CUTOFFS
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Metrics of each user that has relevant items.

    Parameters
    ----------
    seen, relevant : csr_matrix, shape (n_users, n_items)
        Training interactions, masked; held-out ones, to be found.

    Returns
    -------
    users : ndarray, int
    metrics : dict of str to ndarray, one value per user in `users`
    """
    relevant = relevant.sorted_indices()
    relevant.eliminate_zeros()
    n_relevant = np.diff(relevant.indptr)
    users = np.flatnonzero(n_relevant)
    best, scores = top_items(scorer, users, max(cutoffs), seen)
    # Membership of (user, item) pairs by one binary search in the sorted list of relevant pairs.
    width = relevant.shape[1]
    wanted = np.repeat(np.arange(relevant.shape[0]), n_relevant) * width + relevant.indices
    pairs = users[:, None] * width + best
    place = np.searchsorted(wanted, pairs).clip(max=len(wanted) - 1)
    hits = (wanted[place] == pairs) & np.isfinite(scores)
    return users, ranking_metrics(hits, n_relevant[users], cutoffs)


def evaluate(
    scorer: Ranker, seen: sp.csr_matrix, relevant: sp.csr_matrix, cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, float]:
    """Metrics averaged over the users that have relevant items (see `evaluate_per_user`).

    Raises
    ------
    InputError
        No user has a relevant item.
    """
    users, metrics = evaluate_per_user(scorer, seen, relevant, cutoffs)
    if len(users) == 0:
        raise InputError("no user has a held-out item: there is nothing to evaluate")
    return {name: float(values.mean()) for name, values in metrics.items()}
