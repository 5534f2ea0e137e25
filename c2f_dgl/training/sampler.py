"""Training triplets, drawn for a whole epoch at once without a Python loop over users or interactions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp

from c2f_dgl.errors import InputError


@dataclass(frozen=True)
class Triplets:
    """Positives with their negatives.

    Parameters
    ----------
    users, positives : ndarray, shape (n,), int64
    negatives : ndarray, shape (n, k), int64
        Items the user has not interacted with, distinct within a row. Shared ones: shape (batches, k), any items.
    shared : bool
        Whether a batch has its negatives in common.
    """

    users: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray
    shared: bool = False

    def batches(self, size: int) -> Iterator[Triplets]:
        """Consecutive slices of at most `size` positives; of shared negatives, one row each."""
        for number, start in enumerate(range(0, len(self.users), size)):
            part = slice(start, start + size)
            negatives = self.negatives[number : number + 1] if self.shared else self.negatives[part]
            yield Triplets(self.users[part], self.positives[part], negatives, self.shared)


class TripletSampler:
    """Users uniform among those with training items, one positive each, k distinct unseen items each.

    Parameters
    ----------
    train : csr_matrix, shape (n_users, n_items)
    negatives : int
        k. Users with fewer than k unseen items are not drawn, unless negatives are shared.
    shared : bool
        Draw k items uniformly for a whole batch, whoever has seen them: with thousands of them the few a user has
        seen do not matter, and their scores are one matrix product.
    seen : csr_matrix, shape (n_users, n_items), optional
        What negatives are drawn outside of, where it is more than `train`: for triplets of held-out interactions.

    Raises
    ------
    InputError
        No user can be drawn.
    """

    def __init__(
        self, train: sp.csr_matrix, negatives: int, *, shared: bool = False, seen: sp.csr_matrix | None = None
    ) -> None:
        train = train.sorted_indices()
        seen = train if seen is None else seen.sorted_indices()
        self.n_items, self.k, self.shared = train.shape[1], negatives, shared
        self._starts = train.indptr.astype(np.int64)
        self._items = train.indices.astype(np.int64)
        self._counts = np.diff(self._starts)
        own = 0 if shared else negatives
        self._users = np.flatnonzero((self._counts > 0) & (seen.getnnz(axis=1) <= self.n_items - own))
        if len(self._users) == 0:
            raise InputError(
                f"no user has a training item and {negatives} items left to draw as negatives",
                expected="more items, or fewer negatives",
            )
        # All (user, item) pairs as sorted numbers: membership is one binary search.
        self._pairs = np.repeat(np.arange(len(self._counts)), seen.getnnz(axis=1)) * self.n_items + seen.indices

    def epoch(self, n: int, size: int, rng: np.random.Generator) -> Triplets:
        """Draw `n` positives with their negatives, for batches of `size` positives."""
        users = rng.choice(self._users, size=n)
        positives = self._items[self._starts[users] + (rng.random(n) * self._counts[users]).astype(np.int64)]
        if self.shared:
            return Triplets(users, positives, rng.integers(0, self.n_items, size=(-(-n // size), self.k)), shared=True)
        negatives = rng.integers(0, self.n_items, size=(n, self.k))
        todo = np.arange(n)
        while len(todo):
            bad = self._seen(users[todo], negatives[todo]) | _repeated(negatives[todo])
            todo, bad = todo[bad.any(axis=1)], bad[bad.any(axis=1)]
            negatives[todo] = np.where(bad, rng.integers(0, self.n_items, size=bad.shape), negatives[todo])
        return Triplets(users, positives, negatives)

    def _seen(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        pairs = users[:, None] * self.n_items + items
        place = np.searchsorted(self._pairs, pairs).clip(max=len(self._pairs) - 1)
        return self._pairs[place] == pairs


def _repeated(items: np.ndarray) -> np.ndarray:
    """Where a row holds the same item as an earlier column."""
    repeated = np.zeros(items.shape, dtype=bool)
    for column in range(1, items.shape[1]):
        repeated[:, column] = (items[:, :column] == items[:, column : column + 1]).any(axis=1)
    return repeated
