"""A comparison of choices on a sample of users, each with the items that any of the choices may rank first.

A score is x = (1 - w) z(s_i sum_k a_uk v_ik) + w z(filter score), where z standardises over all of a user's items. Both
terms are computed at the candidates alone, once for each rank and power, and for each shape of a filter. The item scale
and w then cost next to nothing: mean and variance of the first term follow from a = u f^2 and the moments of the items'
vectors,

    sum_i s_i x_i = a . (V^T s),    sum_i s_i^2 x_i^2 = a^T (V^T diag(s)^2 V) a.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.engines.pairs import dots
from c2f_dgl.evaluation.metrics import ranking_metrics
from c2f_dgl.evaluation.ranking import HeldOut, blocks, largest, mixed, standardised, top_unseen
from c2f_dgl.graph.item_filter import GraphFilter
from c2f_dgl.graph.neighbourhood import FilterShape
from c2f_dgl.io import ranks
from c2f_dgl.model import item_factors
from c2f_dgl.training.choice import Choice
from c2f_dgl.training.solution import Solution

# Terms of scores that are kept at once, of each kind, and moments, which are smaller.
_KEPT, _KEPT_MOMENTS = 12, 64

# Rows of V whose moments are taken at once.
_ROW_BLOCK = 2**16

_Value = TypeVar("_Value")


@dataclass(frozen=True)
class Candidates:
    """Users with held-out items (this rank's share of them), and the items that are ranked for each."""

    users: Tensor  # (n,), int64
    items: Tensor  # (n, c), int64, the open ones of each row ascending
    open: Tensor  # (n, c), bool: false where a user has fewer candidates than others
    hits: np.ndarray  # (n, c), bool: held out, and open
    n_relevant: np.ndarray  # (n,): held-out items, whether they are candidates or not

    @classmethod
    def ranked_first(
        cls,
        rankings: Callable[[Tensor], Iterable[Tensor]],
        k: int,
        seen: sp.csr_matrix,
        relevant: sp.csr_matrix,
        device: torch.device,
        report: Callable[[int, int], None] | None = None,
    ) -> Candidates:
        """The first k items of each of some rankings (users, int64, to matrices of scores, len(users) x n_items)."""
        held_out, history = HeldOut(relevant), HeldOut(seen).entries
        users, n_items = held_out.users, relevant.shape[1]
        users = users[ranks.share(len(users))]
        blocks_of_items = []
        for rows in blocks(len(users), n_items):
            rankings_of_block = rankings(torch.as_tensor(users[rows], device=device))
            first = [top_unseen(scores, min(k, n_items), seen[users[rows]])[0] for scores in rankings_of_block]
            blocks_of_items.append(torch.cat(first, dim=1).sort().values)
            if report is not None:
                report(rows.stop, len(users))
        columns = torch.cat(blocks_of_items).cpu().numpy()
        # Seen items, and all but the first of equal ones, go to the end of their row, which is cut.
        closed = history.hold(history.key(users[:, None], columns))
        closed[:, 1:] |= columns[:, 1:] == columns[:, :-1]
        order = np.argsort(closed, axis=1, kind="stable")[:, : int((~closed).sum(axis=1).max())]
        columns, rankable = (np.take_along_axis(x, order, axis=1) for x in (columns, ~closed))
        hits = held_out.entries.hold(held_out.entries.key(users[:, None], columns)) & rankable
        of_users, items, is_open = (torch.as_tensor(x, device=device) for x in (users, columns, rankable))
        return cls(of_users, items, is_open, hits, held_out.n_relevant[users])

    def of_users(self, scores: Tensor, metric: str) -> Tensor:
        """One metric (e.g. ``ndcg@20``) of scores (n, c), of each user (n,)."""
        k = int(metric.partition("@")[2])
        columns, _ = largest(scores.masked_fill(~self.open, -torch.inf), min(k, scores.shape[1]))
        hits = np.take_along_axis(self.hits, columns.cpu().numpy(), axis=1)
        return torch.as_tensor(ranking_metrics(hits, self.n_relevant, [k])[metric])


class Comparison:
    """Figures of choices; `item_degree` is (n_items,), and `filter_of` gives the filter of a shape."""

    def __init__(
        self,
        candidates: Candidates,
        item_degree: Tensor,
        filter_of: Callable[[FilterShape], GraphFilter],
        metric: str,
    ) -> None:
        self.candidates, self.metric = candidates, metric
        self._degree, self._filter_of = item_degree, filter_of
        self._filtered = _Recent[Tensor](_KEPT)
        self.forget_directions()

    def forget_directions(self) -> None:
        """Let go of what is kept of solutions; what is kept of filters stays."""
        self._terms = _Recent[tuple[Tensor, Tensor]](_KEPT)
        self._moments = _Recent[tuple[Tensor, Tensor]](_KEPT_MOMENTS)
        self._spreads = _Recent[tuple[Tensor, Tensor]](_KEPT_MOMENTS)

    def figures(self, solution: Solution, choices: Sequence[Choice]) -> list[float]:
        """The metric of choices that rank with one solution, the mean over the users."""
        of_users = [self.candidates.of_users(self._scores(solution, choice), self.metric) for choice in choices]
        return ranks.gathered(torch.stack(of_users), dim=1).numpy().mean(axis=1).tolist()

    def _scores(self, solution: Solution, choice: Choice) -> Tensor:
        shape, directions = choice.filter, (choice.solved_by, choice.rank, choice.power)
        coefficients, term = self._terms.get(directions, lambda: self._term(solution, choice))
        factors = item_factors(self._degree, choice.item_scale)
        scores = term * factors[self.candidates.items]
        if shape is None:
            return scores
        mean, spread = self._spreads.get(
            (*directions, choice.item_scale), lambda: self._spread(solution, choice, coefficients, factors)
        )
        scores.sub_(mean).div_(spread)
        return mixed(scores, self._filtered.get(shape, lambda: self._filter_term(shape)), choice.filter_weight)

    def _term(self, solution: Solution, choice: Choice) -> tuple[Tensor, Tensor]:
        """a (n, rank), and scores of the embeddings at the candidates (n, c)."""
        coefficients = solution.coefficients(self.candidates.users, choice.rank, choice.power)
        return coefficients, dots(coefficients, solution.items[:, : choice.rank], self.candidates.items)

    def _spread(
        self, solution: Solution, choice: Choice, coefficients: Tensor, factors: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of all of a user's scores by the embeddings, (n, 1) each."""
        key = choice.solved_by, choice.item_scale
        sums, squares = self._moments.get(key, lambda: _moments(solution.items, factors))
        n, rank = len(self._degree), coefficients.shape[1]
        mean = coefficients @ sums[:rank] / n
        variance = ((coefficients @ squares[:rank, :rank]) * coefficients).sum(dim=1) / n - mean**2
        # As in `standardised`: constant scores, but for rounding, become 0.
        spread = torch.where(variance > 1e-12 * mean**2, variance, torch.inf).sqrt()
        return mean[:, None], spread[:, None]

    def _filter_term(self, shape: FilterShape) -> Tensor:
        """z of the filter's scores at the candidates (n, c)."""
        term, users = self._filter_of(shape), self.candidates.users.cpu().numpy()
        parts = []
        for rows in blocks(len(users), len(self._degree)):
            scores = standardised(torch.as_tensor(term.scores(users[rows])).to(self._degree))
            parts.append(scores.gather(1, self.candidates.items[rows]))
        return torch.cat(parts)


class _Recent(Generic[_Value]):
    """The `most` values that were used last, by key."""

    def __init__(self, most: int) -> None:
        self._values, self._most = dict[Hashable, _Value](), most

    def get(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """The value of a key, made where it is not kept."""
        value = self._values.pop(key) if key in self._values else make()
        self._values[key] = value
        if len(self._values) > self._most:
            del self._values[next(iter(self._values))]
        return value


def _moments(items: Tensor, factors: Tensor) -> tuple[Tensor, Tensor]:
    """V^T s (d,) and V^T diag(s)^2 V (d, d)."""
    squares = items.new_zeros(items.shape[1], items.shape[1])
    for rows, scale in zip(items.split(_ROW_BLOCK), factors.split(_ROW_BLOCK), strict=True):
        scaled = rows * scale[:, None]
        squares.addmm_(scaled.T, scaled)
    return items.T @ factors, squares
