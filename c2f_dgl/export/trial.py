"""How items rank on validation, for the choices of a device model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.evaluation.ranking import HeldOut, blocks, check_any, top_unseen
from c2f_dgl.evaluation.sampling import sampled_rows
from c2f_dgl.graph.neighbourhood import FilterShape, item_filter, largest_of_rows
from c2f_dgl.serving import Csr, Neighbours
from c2f_dgl.serving.codes import degree_levels, level_means

_USERS = 2_000

# Most neighbours beside codes, and the spread of their scores over that of the codes' that is tried.
NEIGHBOURS, _MIXES, _SPREAD_USERS = 16, (0.08, 0.15, 0.3), 256

# G of the neighbours, row i of which holds the j: (walks_ij / (d_i d_j)^(1/2))^(3/2) d_i^f, and e of their histories.
_FILTER, _TARGET = FilterShape(user=0.4, item=0.5, power=1.5, history=0.4), 0.4


@dataclass(frozen=True, eq=False)
class NeighbourTerm:
    """G (csr_matrix, n_items x n_items), row i of which holds the j, and v (n_items,)."""

    weights: sp.csr_matrix
    history_weight: np.ndarray

    def largest(self, k: int) -> NeighbourTerm:
        """With the k entries of each row of G that add most to scores."""
        g = self.weights
        rows = np.repeat(np.arange(g.shape[0]), np.diff(g.indptr))
        entries = largest_of_rows(rows, (g.data * self.history_weight[g.indices]).astype(np.float32), k)
        pointers = np.searchsorted(rows[entries], np.arange(g.shape[0] + 1))
        return replace(self, weights=sp.csr_matrix((g.data[entries], g.indices[entries], pointers), g.shape))

    def stored(self, degree_level: np.ndarray, mix: float = 1.0) -> Neighbours:
        """As a file holds it, G times `mix`."""
        g = self.weights
        sources = Csr.from_counts(np.diff(g.indptr), g.indices, g.shape[0])
        return Neighbours.stored(sources, mix * g.data, level_means(degree_level, self.history_weight))


class Trial:
    """How items rank on validation by ``t_i (u . X_i)``, where a user u is the sum of X over a history.

    `item_weight` (n_items,) is t; by `train` (n_users x n_items) a sample of users is to find `valid`.
    """

    def __init__(self, item_weight: np.ndarray, train: sp.csr_matrix, valid: sp.csr_matrix, seed: int) -> None:
        self.train, self.valid = train.astype(np.float32), sampled_rows(valid, _USERS, seed)
        self.degrees, self.seed = train.getnnz(axis=0), seed
        self.levels = degree_levels(self.degrees)
        # What a file holds of an item's weight is the mean of its level.
        self.item_weight, self.t = item_weight, level_means(self.levels, item_weight)[self.levels]

    @cached_property
    def neighbours(self) -> NeighbourTerm:
        """G and v of the neighbours, float32."""
        train, degrees = self.train, np.maximum(self.degrees, 1.0)
        term = item_filter(Csr(train.indptr, train.indices, train.shape[1]), NEIGHBOURS, _FILTER)
        weights = sp.csr_matrix(sp.diags(degrees**_TARGET) @ term.weights, dtype=np.float32)
        return NeighbourTerm(weights, (degrees**-_FILTER.history).astype(np.float32))

    def rotated(self, items: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Items (n_items, d) in the directions in which users are largest, and the users' energies, descending.

        Users are normalised as the graph has them: their directions are those of its singular vectors.
        """
        share = np.maximum(self.train.getnnz(axis=1), 1.0) ** -_FILTER.user
        users = ((self.train @ items.astype(np.float32)) * share[:, None]).astype(np.float64)
        values, directions = np.linalg.eigh(users.T @ users)
        least = 1e-12 * max(values[-1], np.finfo(np.float64).tiny)
        first = min(int(np.searchsorted(values, least, side="right")), len(values) - 1)
        directions, values = directions[:, first:][:, ::-1], values[first:][::-1]
        return (items @ directions).astype(np.float32), np.maximum(values, least)

    def figure(self, vectors: np.ndarray, k: int = 0) -> tuple[float, float]:
        """N@20 of vectors (n_items, d) with k neighbours, and the weight of these that ranks best."""
        z = vectors.astype(np.float32)
        users, items = torch.as_tensor(self.train @ z), torch.as_tensor(z * self.t[:, None])
        if not k:
            return self.compared(lambda block: [users[block] @ items.T])[0], 0.0
        term = self.neighbours.largest(k)
        histories, g = self.train @ sp.diags(term.history_weight), term.weights.T.tocsr()

        def scores_of(block: Tensor) -> tuple[Tensor, Tensor]:
            near = (histories[block.numpy()] @ g).toarray()
            return users[block] @ items.T, torch.as_tensor(near, dtype=torch.float32)

        sample = np.flatnonzero(self.valid.getnnz(axis=1))[:_SPREAD_USERS]
        return self.best_mix(scores_of, sample, lambda ratio: [mix * ratio for mix in _MIXES])

    def best_mix(
        self,
        scores_of: Callable[[Tensor], tuple[Tensor, Tensor]],
        sample: np.ndarray,
        mixes_of: Callable[[float], list[float]],
    ) -> tuple[float, float]:
        """N@20 of a sum of two scores, and the weight of the second that ranks best of a few.

        `scores_of` gives both (n, n_items) for some users (int64), `mixes_of` weights by the median over the users of
        `sample` of the standard deviation of the first over that of the second.
        """
        first, second = (scores.std(dim=1).clamp_min(1e-30) for scores in scores_of(torch.as_tensor(sample)))
        mixes = mixes_of(float((first / second).median()))

        def variants(block: Tensor) -> Iterator[Tensor]:
            scores, added = scores_of(block)
            return (scores + mix * added for mix in mixes)

        figures = self.compared(variants)
        best = int(np.argmax(figures))
        return figures[best], mixes[best]

    def compared(self, variants: Callable[[Tensor], Iterable[Tensor]]) -> list[float]:
        """N@20 of several ways to score, in one pass over the users: what they share is computed once.

        `variants` yields their scores (n, n_items) of some users (int64), always in the same order. What a user has
        had is set to -inf in one before the next is asked for.
        """
        held_out, n_items = HeldOut(self.valid), self.valid.shape[1]
        check_any(held_out.users)
        sums = []
        for rows in blocks(len(held_out.users), n_items):
            users, figures = held_out.users[rows], []
            seen = self.train[users]
            for scores in variants(torch.as_tensor(users)):
                items, values = top_unseen(scores, min(20, n_items), seen)
                figures.append(held_out.metrics(users, items.numpy(), values.numpy(), [20])["ndcg@20"].sum())
            sums.append(figures)
        return [float(sum(figures) / len(held_out.users)) for figures in zip(*sums, strict=True)]
