"""Metrics of ranked lists, binary relevance, averaged over users (NDCG and recall: paper, Sec. 4.1.3)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from c2f_dgl.errors import InputError

# What records and summaries hold.
PAPERS = ("ndcg", "recall")


def ranking_metrics(
    hits: np.ndarray, n_relevant: np.ndarray, cutoffs: Sequence[int], names: Sequence[str] = PAPERS
) -> dict[str, np.ndarray]:
    """``name@k`` of each user for some of `METRICS`: float64 (users,).

    `hits` (users, depth), bool, says whether the item at each rank is relevant, of as many ranks as the largest cut-off
    or all items; `n_relevant` (users,), int, how many relevant items there are, 1 or more.
    """
    return {f"{name}@{k}": METRICS[name](hits[:, :k], n_relevant, k) for name in names for k in cutoffs}


def _ndcg(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    """Discounted gain over the ideal one, that of min(k, n_relevant) hits at the top."""
    discounts = 1.0 / np.log2(np.arange(2, k + 2))
    ideal = np.concatenate([[0.0], np.cumsum(discounts)])
    return hits @ discounts[: hits.shape[1]] / ideal[np.minimum(n_relevant, k)]


def _map(hits: np.ndarray, n_relevant: np.ndarray, k: int) -> np.ndarray:
    """Average precision: of the precisions at hits, over all relevant items."""
    precisions = np.cumsum(hits, axis=1) / np.arange(1, hits.shape[1] + 1)
    return np.asarray((hits * precisions).sum(axis=1) / n_relevant)


METRICS: dict[str, Callable[[np.ndarray, np.ndarray, int], np.ndarray]] = {
    "ndcg": _ndcg,
    "recall": lambda hits, n_relevant, k: np.count_nonzero(hits, axis=1) / n_relevant,
    "precision": lambda hits, n_relevant, k: np.count_nonzero(hits, axis=1) / k,
    "hit": lambda hits, n_relevant, k: np.where(hits.any(axis=1), 1.0, 0.0),
    "map": _map,
    "mrr": lambda hits, n_relevant, k: np.where(hits.any(axis=1), 1.0 / (hits.argmax(axis=1) + 1), 0.0),
}

# Of whole lists: `c2f_dgl.evaluation.beyond` has them, with ``auc``.
BEYOND = ("coverage", "gini", "novelty", "popularity", "diversity", "auc")


def check_names(names: Sequence[str]) -> None:
    """Raise `InputError` for a name that is neither in `METRICS` nor in `BEYOND`."""
    if unknown := [name for name in names if name not in (*METRICS, *BEYOND)]:
        expected = ", ".join((*METRICS, *BEYOND))
        raise InputError(f"no metric {unknown[0]!r}", where="--metrics", expected=expected)


def check_groups(by: str) -> None:
    """Raise `InputError` where `c2f_dgl.evaluation.slices.groups_by` knows no such groups."""
    what, is_file, path = by.partition("=")
    if what not in (("users", "items") if is_file else ("activity", "popularity", "known")):
        expected = "activity, popularity, known, users=FILE or items=FILE"
        raise InputError(f"no groups {by!r}", where="--by", expected=expected)
    if is_file and not Path(path).exists():
        raise InputError("no such file", where=path, expected="a table whose first columns are id and group")
