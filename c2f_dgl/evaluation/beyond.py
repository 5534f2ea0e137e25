"""What accuracy does not tell of ranked lists: whom they show, how alike and how popular it is; and AUC."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp
import torch

from c2f_dgl.data.interactions import binary_csr
from c2f_dgl.evaluation.metrics import METRICS
from c2f_dgl.evaluation.ranking import HeldOut, Ranker, blocks, check_any, top_items

# Pairs of a held-out item and another that are compared at once.
_PAIRS = 2**24


def measure(
    scorer: Ranker,
    seen: sp.csr_matrix,
    relevant: sp.csr_matrix,
    cutoffs: Sequence[int],
    names: Sequence[str],
    train: sp.csr_matrix | None = None,
) -> dict[str, float]:
    """``name@k`` for names of `METRICS` and of `OF_LISTS`, and ``auc``: `evaluate` with further metrics.

    `train`, by default `seen`, is what popularity is counted in, and what says how alike items are.
    """
    held_out, train = HeldOut(relevant), seen if train is None else train
    check_any(held_out.users)
    items, scores = top_items(scorer, held_out.users, max(cutoffs), seen)
    of_ranks, of_lists = ([name for name in names if name in known] for known in (METRICS, OF_LISTS))
    metrics = held_out.metrics(held_out.users, items, scores, cutoffs, of_ranks)
    figures = {name: float(values.mean()) for name, values in metrics.items()}
    for k in cutoffs:
        rows, ranks = np.nonzero(np.isfinite(scores[:, :k]))
        lists = binary_csr(rows, items[rows, ranks], (len(items), train.shape[1]))
        figures |= {f"{name}@{k}": OF_LISTS[name](lists, train) for name in of_lists}
    if "auc" in names:
        figures["auc"] = float(auc_per_user(scorer, seen, relevant)[1].mean())
    return figures


def _gini(lists: sp.csr_matrix, train: sp.csr_matrix) -> float:
    """Gini coefficient of how often items are shown: 0 where all are as often, near 1 where few are."""
    counts = np.sort(lists.getnnz(axis=0)).astype(np.float64)
    n = len(counts)
    return float((2 * np.arange(1, n + 1) - n - 1) @ counts / max(n * counts.sum(), 1))


def _novelty(lists: sp.csr_matrix, train: sp.csr_matrix) -> float:
    """Bits of surprise, -log2 of the share of users who had an item; one that nobody had counts as had by one."""
    return _mean_of(lists, -np.log2(np.maximum(train.getnnz(axis=0), 1) / train.shape[0]))


def _diversity(lists: sp.csr_matrix, train: sp.csr_matrix) -> float:
    """1 minus the mean cosine of pairs in a list, by who had the items in training; 0 of a list without a pair."""
    degrees = train.getnnz(axis=0)
    columns = sp.csr_matrix(sp.diags(1 / np.sqrt(np.maximum(degrees, 1))) @ train.T)
    total = 0.0
    for rows in blocks(lists.shape[0], train.shape[0]):
        block = lists[rows]
        # Of the sum of unit vectors, the squared length: all cosines, those with itself among them.
        summed, n = block @ columns, block.getnnz(axis=1)
        cosines = np.asarray(summed.multiply(summed).sum(axis=1)).ravel() - block @ (degrees > 0)
        pairs = n * (n - 1.0)
        total += float((1 - cosines[pairs > 0] / pairs[pairs > 0]).sum())
    return total / max(lists.shape[0], 1)


def _mean_of(lists: sp.csr_matrix, values: np.ndarray) -> float:
    """The mean of the items' values (n_items,) over each list, and then over users."""
    n = lists.getnnz(axis=1)
    return float(((lists @ values)[n > 0] / n[n > 0]).mean()) if n.any() else 0.0


OF_LISTS: dict[str, Callable[[sp.csr_matrix, sp.csr_matrix], float]] = {
    "coverage": lambda lists, train: float((lists.getnnz(axis=0) > 0).mean()),  # share of items in somebody's list
    "gini": _gini,
    "novelty": _novelty,
    "popularity": lambda lists, train: _mean_of(lists, train.getnnz(axis=0)),  # training interactions
    "diversity": _diversity,
}


def auc_per_user(scorer: Ranker, seen: sp.csr_matrix, relevant: sp.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Users (int) with a relevant item and another unseen one, and each one's area under the ROC curve (float64).

    That is the share of such pairs in which the relevant one scores higher; equal scores count half.
    """
    shape, relevant = relevant.shape, relevant.copy()
    relevant.eliminate_zeros()
    area, n_pairs = np.zeros(shape[0]), np.zeros(shape[0])
    users = np.flatnonzero(relevant.getnnz(axis=1))
    for rows in blocks(len(users), shape[1]):
        block = users[rows]
        scores = scorer.scores(torch.as_tensor(block, device=scorer.device)).cpu()
        held, hidden = relevant[block].tocoo(), (seen[block] + relevant[block]).tocoo()
        of_held = scores[held.row, held.col]
        scores[hidden.row, hidden.col] = torch.nan  # compares as neither higher nor equal
        n_others = (~torch.isnan(scores)).sum(dim=1).double().numpy()
        for start in range(0, held.nnz, step := max(1, _PAIRS // shape[1])):
            pairs = slice(start, start + step)
            others, own = scores[held.row[pairs]], of_held[pairs, None]
            wins = (others < own).sum(dim=1).double() + (others == own).sum(dim=1).double() / 2
            np.add.at(area, block[held.row[pairs]], wins.numpy())
        np.add.at(n_pairs, block[held.row], n_others[held.row])
    users = users[n_pairs[users] > 0]
    return users, area[users] / n_pairs[users]
