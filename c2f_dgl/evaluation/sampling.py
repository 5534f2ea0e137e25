"""Figures of users drawn at random, where ranking for all of them takes longer than the precision is worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse as sp

from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import CUTOFFS, HeldOut, Ranker, check_any, means, of_all_ranks, top_items
from c2f_dgl.io import ranks

# Scores that training ranks by at most, each time it validates or tests. N@20 differs by some 0.25 between users
# (standard deviation), so of 10,000 users, the least that are drawn, its mean is known to 0.0025.
_MOST_SCORES, _LEAST_USERS = 2**33, 10_000


def sampled_rows(matrix: sp.csr_matrix, n: int, seed: int | np.random.Generator) -> sp.csr_matrix:
    """`matrix` with the entries of n of its rows that have some, drawn at random; itself where there are no more."""
    rows = np.flatnonzero(matrix.getnnz(axis=1))
    return matrix if len(rows) <= n else _only(matrix, np.random.default_rng(seed).choice(rows, n, replace=False))


def drawn_users(split: Split, seed: int) -> np.ndarray | None:
    """Users with held-out items (int64) for whom training ranks, drawn where all have over 2^33 scores; else None."""
    users = np.flatnonzero((split.valid + split.test).getnnz(axis=1))
    n = max(_LEAST_USERS, _MOST_SCORES // max(split.n_items, 1))
    return None if len(users) <= n else np.random.default_rng(seed).choice(users, n, replace=False)


def evaluate_split(
    scorer: Ranker,
    split: Split,
    parts: Sequence[str],
    seed: int,
    report: Callable[[int, int], None] | None = None,
) -> dict[str, dict[str, float]]:
    """Metrics of parts of the split by name, from one ranking for `drawn_users`; nothing of a part that is empty."""
    drawn, matrices = drawn_users(split, seed), {part: getattr(split, part) for part in parts}
    if drawn is not None:
        matrices = {part: _only(matrix, drawn) for part, matrix in matrices.items()}
    held_out = {part: HeldOut(matrix) for part, matrix in matrices.items()}
    users = np.unique(np.concatenate([part.users for part in held_out.values()]))
    check_any(users)
    users = users[ranks.share(len(users))]
    items, scores = top_items(scorer, users, max(CUTOFFS), split.train, report)
    figures = {}
    for name, part in held_out.items():
        mine = np.isin(users, part.users, assume_unique=True)
        metrics = part.metrics(users[mine], items[mine], scores[mine], CUTOFFS)
        figures[name] = means(of_all_ranks(metrics)) if len(part.users) else {}
    return figures


def _only(matrix: sp.csr_matrix, rows: np.ndarray) -> sp.csr_matrix:
    """`matrix` with the entries of some rows."""
    kept = np.zeros(matrix.shape[0], dtype=matrix.dtype)
    kept[rows] = 1
    matrix = sp.csr_matrix(sp.diags(kept) @ matrix)
    matrix.eliminate_zeros()
    return matrix
