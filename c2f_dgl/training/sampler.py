"""Training triplets, drawn many batches at a time on the device that trains on them; no draw is ever rejected."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.errors import InputError

# Positives drawn at a time, and the most negatives: bounds what an epoch's triplets take.
DRAWN, _NEGATIVES = 1 << 20, 1 << 23


@dataclass(frozen=True)
class Triplets:
    """Positives with their negatives: int64 arrays, or tensors on a GPU."""

    users: Any  # (n,)
    positives: Any  # (n,)
    negatives: Any  # (n, k), unseen by the user and distinct within a row; shared: (batches, k), any items
    shared: bool = False  # whether a batch has its negatives in common

    def part(self, rows: slice) -> Triplets:
        """Some of the positives, with their negatives."""
        negatives = self.negatives if self.shared else self.negatives[rows]
        return Triplets(self.users[rows], self.positives[rows], negatives, self.shared)

    def batches(self, size: int) -> Iterator[Triplets]:
        """Consecutive slices of at most `size` positives; of shared negatives, one row each."""
        for number, start in enumerate(range(0, len(self.users), size)):
            part = slice(start, start + size)
            negatives = self.negatives[number : number + 1] if self.shared else self.negatives[part]
            yield Triplets(self.users[part], self.positives[part], negatives, self.shared)


class TripletSampler:
    """Users uniform among those with a training item and k unseen ones; one positive and k distinct unseen items each.

    A negative is the r-th item that its user has not seen, r at random: with s_0 < s_1 < ... the items seen, that is r
    plus the number of j with ``s_j - j <= r``, one binary search. Distinct r give distinct items.

    With `shared`, k items are drawn uniformly for a whole batch, whoever has seen them: with thousands of them the few
    a user has seen do not matter, and their scores are one matrix product. `seen` (n_users, n_items), where it is more
    than `train`, holds what is no negative: for triplets of held-out interactions.
    """

    def __init__(
        self,
        train: sp.csr_matrix,
        negatives: int,
        device: torch.device | str = "cpu",
        *,
        shared: bool = False,
        seen: sp.csr_matrix | None = None,
    ) -> None:
        train, seen = (matrix.sorted_indices() for matrix in (train, train if seen is None else seen))
        self.n_items, self.k, self.shared, self.device = train.shape[1], negatives, shared, torch.device(device)
        n_unseen = self.n_items - np.diff(seen.indptr)
        needed = 0 if shared else negatives
        users = np.flatnonzero((np.diff(train.indptr) > 0) & (n_unseen >= needed))
        if len(users) == 0:
            raise InputError(
                f"no user has a training item and {needed} items left to draw as negatives",
                expected="more items, or fewer negatives",
            )
        rows = np.repeat(np.arange(seen.shape[0], dtype=np.int64), np.diff(seen.indptr))
        columns = np.arange(seen.nnz) - seen.indptr[rows]
        # Of each item seen, the number of unseen ones before it; keyed by user, so that one search serves all users.
        keys = rows * (self.n_items + 1) + seen.indices - columns
        arrays = (users, train.indptr, train.indices, n_unseen, seen.indptr, keys)
        self._users, self._starts, self._items, self._n_unseen, self._seen_starts, self._keys = (
            torch.as_tensor(array, dtype=torch.int64, device=self.device) for array in arrays
        )

    def batches(self, n: int, size: int, rng: np.random.Generator) -> Iterator[Triplets]:
        """`n` positives with their negatives, in batches of `size`, drawn as they are asked for."""
        piece = drawn_at_once(size, self.k, self.shared)
        for start in range(0, n, piece):
            yield from self.epoch(min(piece, n - start), size, rng).batches(size)

    def epoch(self, n: int, size: int, rng: np.random.Generator) -> Triplets:
        """Draw `n` positives with their negatives at once, for batches of `size` positives."""
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        users = self._users[torch.randint(len(self._users), (n,), device=self.device, generator=generator)]
        starts = self._starts[users]
        positives = self._items[starts + _below(self._starts[users + 1] - starts, generator)]
        if self.shared:
            shape = (-(-n // size), self.k)
            negatives = torch.randint(self.n_items, shape, device=self.device, generator=generator)
        else:
            negatives = self._unseen(users, generator)
        if self.device.type == "cpu":  # copies: SciPy refuses to be indexed by arrays that do not own their memory
            users, positives, negatives = (x.numpy().copy() for x in (users, positives, negatives))
        return Triplets(users, positives, negatives, self.shared)

    def _unseen(self, users: Tensor, generator: torch.Generator) -> Tensor:
        """k distinct items (n, k) that each user has not seen: Floyd's sampling of their ranks."""
        n_unseen, ranks = self._n_unseen[users], users.new_empty(len(users), self.k)
        for slot in range(self.k):
            top = n_unseen - self.k + slot
            rank = _below(top + 1, generator)
            taken = (ranks[:, :slot] == rank[:, None]).any(dim=1)
            ranks[:, slot] = torch.where(taken, top, rank)
        keys = users[:, None] * (self.n_items + 1) + ranks
        return ranks + torch.searchsorted(self._keys, keys, right=True) - self._seen_starts[users][:, None]


def drawn_at_once(size: int, k: int, shared: bool) -> int:
    """Positives in whole batches of `size`, that they and their negatives stay within bounds."""
    negatives = max(1, k if shared else size * k)  # of a batch
    return size * max(1, min(DRAWN // size, _NEGATIVES // negatives))


def _below(bounds: Tensor, generator: torch.Generator) -> Tensor:
    """A whole number below each bound (int64 (n,), below 2^53)."""
    uniform = torch.rand(len(bounds), dtype=torch.float64, device=bounds.device, generator=generator)
    return (uniform * bounds).long()
