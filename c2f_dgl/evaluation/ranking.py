"""Full ranking: every item is scored for every user, seen items are masked, in blocks of users."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import scipy.sparse as sp
import torch
from scipy.linalg import blas
from torch import Tensor

from c2f_dgl.data.interactions import Entries
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.metrics import PAPERS, ranking_metrics
from c2f_dgl.graph.item_filter import GraphFilter
from c2f_dgl.io import ranks

CUTOFFS = (5, 10, 20, 50)

# Scores held at once: up to 32 MiB, malloc hands out again what was freed, and new memory takes longer to fill. And
# users of a block at least: with fewer, products wait for the items' embeddings.
_SCORE_BLOCK, _BLOCK_USERS = 3 * 2**21, 128

# Columns of a group in the search for the largest scores.
_GROUP = 32


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


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b.T`` of (n, d) and (k, d), best contiguous: others are copied.

    On a CPU in float32 with SciPy's OpenBLAS: torch's MKL is slower there on AMD processors.
    """
    on_blas = a.device.type == "cpu" and a.dtype == b.dtype == torch.float32
    # A matrix product of one row would first copy b into blocks.
    if not on_blas or len(a) == 1 or 0 in (*a.shape, *b.shape):
        return a @ b.T
    out = a.new_empty(len(a), len(b))
    # BLAS counts in columns: the transpose of a contiguous matrix is what it calls contiguous.
    left, right, result = b.contiguous().numpy().T, a.contiguous().numpy().T, out.numpy().T
    blas.sgemm(1.0, left, right, beta=0.0, c=result, trans_a=True, overwrite_c=True)
    return out


@dataclass(frozen=True)
class Scorer:
    """A `Ranker` by score(u, i) = users[u] . items[i] + item_bias[i]: what is left of a model when it serves.

    With a filter it is ``(1 - w) z(score) + w z(filter score)``, where z standardises a user's scores over all items.
    """

    users: Tensor  # (n_users, d), propagated, with whatever scaling the model applies
    items: Tensor  # (n_items, d), likewise
    item_bias: Tensor | None = None  # (n_items,)
    filter: GraphFilter | None = None
    filter_weight: float = 0.0  # w in [0, 1]

    @property
    def n_items(self) -> int:
        return len(self.items)

    @property
    def device(self) -> torch.device:
        return self.users.device

    def scores(self, users: Tensor) -> Tensor:
        scores = product(self.users[users], self.items)
        if self.item_bias is not None:
            scores += self.item_bias
        if self.filter is None or self.filter_weight == 0:
            return scores
        filtered = torch.as_tensor(self.filter.scores(users.cpu().numpy())).to(scores)
        return mixed(standardised(scores), standardised(filtered), self.filter_weight)


def most_popular(train: sp.csr_matrix) -> Scorer:
    """Items by their number of interactions, the same for all users: what any model should be better than."""
    degree = torch.as_tensor(train.getnnz(axis=0), dtype=torch.float32)
    return Scorer(torch.ones(train.shape[0], 1), degree[:, None])


def standardised(scores: Tensor) -> Tensor:
    """Rows with mean 0 and variance 1, in place; constant rows become 0."""
    mean = scores.mean(dim=1, keepdim=True)
    scores.sub_(mean)
    spread = torch.linalg.vector_norm(scores, dim=1, keepdim=True) / scores.shape[1] ** 0.5
    rounding = torch.finfo(scores.dtype).eps * mean.abs()
    return scores.mul_(torch.where(spread > rounding, 1 / spread, 0))


def mixed(scores: Tensor, filtered: Tensor, weight: float) -> Tensor:
    """Standardised scores of embeddings and filter as one."""
    return torch.lerp(scores, filtered, weight)


def top_items(
    scorer: Ranker,
    users: np.ndarray,
    k: int,
    seen: sp.csr_matrix | None = None,
    report: Callable[[int, int], None] | None = None,
    among: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The k best items of each user that the user has not seen.

    Parameters
    ----------
    users : ndarray, shape (n,), int
    k : int
        1 or more, else `InputError`; cut to the number of items.
    seen : csr_matrix, shape (n_users, n_items), optional
        Items never to return.
    report : callable, optional
        Called with the users ranked so far, and their number.
    among : ndarray, shape (m,), int, distinct, optional
        The only items to rank.

    Returns
    -------
    items, scores : ndarray, shape (n, k)
        Best first; where a user has fewer than k unseen items the remaining scores are -inf.
    """
    if k < 1:
        raise InputError(f"k = {k}", expected="a whole number of 1 or more")
    k = min(k, scorer.n_items if among is None else len(among))
    items, top_scores = np.empty((len(users), k), dtype=np.int64), np.empty((len(users), k), dtype=np.float32)
    for rows in blocks(len(users), scorer.n_items):
        block = users[rows]
        scores = scorer.scores(torch.as_tensor(block, dtype=torch.int64, device=scorer.device))
        hidden = None if seen is None else seen[block]
        if among is not None:
            scores, hidden = scores[:, torch.as_tensor(among)], hidden if hidden is None else hidden[:, among]
        columns, values = top_unseen(scores, k, hidden)
        items[rows], top_scores[rows] = columns.cpu().numpy(), values.float().cpu().numpy()
        if report is not None:
            report(rows.start + len(block), len(users))
    return items if among is None else among[items], top_scores


def blocks(n_users: int, n_items: int) -> Iterator[slice]:
    """Slices of users whose scores may be held at once."""
    size = max(_BLOCK_USERS, _SCORE_BLOCK // n_items)
    return (slice(start, min(start + size, n_users)) for start in range(0, n_users, size))


def top_unseen(scores: Tensor, k: int, seen: sp.csr_matrix | None) -> tuple[Tensor, Tensor]:
    """Columns and values of the k largest of each row, best first; overwrites `scores` where seen."""
    if seen is not None:
        entries = seen.data != 0  # a stored zero is no interaction
        rows = np.repeat(np.arange(seen.shape[0]), np.diff(seen.indptr))[entries]
        scores[torch.as_tensor(rows), torch.as_tensor(seen.indices[entries], dtype=torch.int64)] = -torch.inf
    return largest(scores, k)


def largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Columns and values (n x k) of the k largest of each row, larger first, of equal ones the lower column first."""
    n_columns = scores.shape[1]
    columns, values = _any_largest(scores, min(k + 1, n_columns))
    if k < n_columns:
        # Where the next one equals the k-th, which of the equal ones were found is arbitrary: take the lowest.
        tied = torch.nonzero(values[:, k] == values[:, k - 1]).flatten()
        columns, values = columns[:, :k].contiguous(), values[:, :k].contiguous()
        if len(tied):
            last = values[tied, -1:]
            from_left = torch.arange(n_columns, 0, -1, dtype=torch.float64, device=scores.device)
            lowest, _ = _any_largest(torch.where(scores[tied] == last, from_left, 0.0), k)
            equal = values[tied] == last
            columns[tied] = torch.where(equal, lowest.gather(1, (equal.cumsum(dim=1) - 1).clamp(min=0)), columns[tied])
    unordered = torch.nonzero((values[:, 1:] == values[:, :-1]).any(dim=1)).flatten()
    if len(unordered):  # columns ascending, and then, as they stand among equals, values descending
        order = columns[unordered].argsort(dim=1)
        order = order.gather(1, values[unordered].gather(1, order).argsort(dim=1, descending=True, stable=True))
        columns[unordered], values[unordered] = columns[unordered].gather(1, order), values[unordered].gather(1, order)
    return columns, values


def _any_largest(scores: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Columns and values (n x k) of the k largest of each row, largest first; of equal ones any.

    They lie in the k groups of columns with the largest maxima, which one pass over the scores finds, or in the last
    columns, too few for a group. A group is every `n_groups`-th column: the pass compares whole stretches of a row.
    """
    n_groups = scores.shape[1] // _GROUP
    if n_groups <= k:
        top = scores.topk(k, dim=1)
        return top.indices, top.values
    grouped = scores[:, : n_groups * _GROUP].view(-1, _GROUP, n_groups)
    groups = grouped.amax(dim=1).topk(k, dim=1, sorted=False).indices
    members = torch.arange(0, n_groups * _GROUP, n_groups, device=scores.device)
    rest = torch.arange(n_groups * _GROUP, scores.shape[1], device=scores.device)
    searched = torch.cat([(groups[:, :, None] + members).flatten(1), rest.expand(len(groups), -1)], dim=1)
    top = scores.gather(1, searched).topk(k, dim=1)
    return searched.gather(1, top.indices), top.values


class HeldOut:
    """Relevant items (csr_matrix, n_users x n_items), to be looked up in ranked lists of `users`, who have some."""

    def __init__(self, relevant: sp.csr_matrix) -> None:
        relevant = relevant.sorted_indices()
        relevant.eliminate_zeros()
        self.n_relevant = np.diff(relevant.indptr)
        self.users = np.flatnonzero(self.n_relevant)
        self.entries = Entries(relevant)

    def metrics(
        self,
        users: np.ndarray,
        items: np.ndarray,
        scores: np.ndarray,
        cutoffs: Sequence[int],
        names: Sequence[str] = PAPERS,
    ) -> dict[str, np.ndarray]:
        """Metrics of `users` with relevant items, from ranked items (users x depth), -inf where they were seen."""
        hits = self.entries.hold(self.entries.key(users[:, None], items)) & np.isfinite(scores)
        return ranking_metrics(hits, self.n_relevant[users], cutoffs, names)


def evaluate_per_user(
    scorer: Ranker,
    seen: sp.csr_matrix,
    relevant: sp.csr_matrix,
    cutoffs: Sequence[int] = CUTOFFS,
    names: Sequence[str] = PAPERS,
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Users (int) that have relevant items, and the metrics of each (parameters and errors as in `evaluate`)."""
    if seen.shape != relevant.shape or seen.shape[1] != scorer.n_items:
        raise InputError(
            f"seen is {seen.shape}, relevant {relevant.shape}", expected=f"two of (n_users, {scorer.n_items}) alike"
        )
    held_out = HeldOut(relevant)
    users = held_out.users[ranks.share(len(held_out.users))]
    ranked = top_items(scorer, users, max(cutoffs), seen)
    return held_out.users, of_all_ranks(held_out.metrics(users, *ranked, cutoffs, names))


def evaluate(
    scorer: Ranker,
    seen: sp.csr_matrix,
    relevant: sp.csr_matrix,
    cutoffs: Sequence[int] = CUTOFFS,
    names: Sequence[str] = PAPERS,
) -> dict[str, float]:
    """Metrics averaged over the users that have relevant items.

    Parameters
    ----------
    seen, relevant : csr_matrix, shape (n_users, n_items)
        Training interactions, masked; held-out ones, to be found.
    names : sequence of str
        Of `c2f_dgl.evaluation.metrics.METRICS`.

    Raises
    ------
    InputError
        No user has a relevant item, the matrices are not of that shape, or a cut-off is not positive.
    """
    users, metrics = evaluate_per_user(scorer, seen, relevant, cutoffs, names)
    check_any(users)
    return means(metrics)


def of_all_ranks(metrics: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Metrics of the users of all ranks, from those of this one's."""
    values = ranks.gathered(torch.as_tensor(np.stack(list(metrics.values()))), dim=1)
    return dict(zip(metrics, values.numpy(), strict=True))


def means(metrics: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Means over users."""
    return {name: float(values.mean()) for name, values in metrics.items()}


def check_any(users: np.ndarray) -> None:
    """See that there are users to evaluate."""
    if len(users) == 0:
        raise InputError("no user has a held-out item: there is nothing to evaluate")
