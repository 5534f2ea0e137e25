"""Training triplets, drawn many batches at a time without a Python loop over users or interactions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch

from c2f_dgl.data.interactions import Entries
from c2f_dgl.errors import InputError
from c2f_dgl.training.unseen import UnseenItems

# Positives drawn at a time, and the most negatives: bounds what an epoch's triplets take.
DRAWN, _NEGATIVES = 1 << 20, 1 << 23

# How often negatives that were seen are drawn again, before what is left is drawn by rank.
_ROUNDS = 16

# Positives whose negatives are checked at a time: what that takes stays in the processor's cache.
_CHECKED = 8192

# Bits of the filter per training interaction: one in so many unseen items needs an exact look.
_FILTER_BITS = 32


@dataclass(frozen=True)
class Triplets:
    """Positives with their negatives.

    Parameters
    ----------
    users, positives : ndarray or Tensor, shape (n,), int32 or int64
    negatives : ndarray or Tensor, shape (n, k), int32 or int64
        Items the user has not interacted with, distinct within a row. Shared ones: shape (batches, k), any items.
    shared : bool
        Whether a batch has its negatives in common.
    """

    users: Any
    positives: Any
    negatives: Any
    shared: bool = False

    def batches(self, size: int) -> Iterator[Triplets]:
        """Consecutive slices of at most `size` positives; of shared negatives, one row each."""
        for number, start in enumerate(range(0, len(self.users), size)):
            part = slice(start, start + size)
            negatives = self.negatives[number : number + 1] if self.shared else self.negatives[part]
            yield Triplets(self.users[part], self.positives[part], negatives, self.shared)


def drawn_at_once(size: int, k: int, shared: bool) -> int:
    """Positives in whole batches of `size`, that they and their negatives stay within bounds."""
    negatives = max(1, k if shared else size * k)  # of a batch
    return size * max(1, min(DRAWN // size, _NEGATIVES // negatives))


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
        self._dtype = np.int32 if max(train.shape) < 2**31 else np.int64
        self._starts, self._items = train.indptr.astype(np.int64), train.indices
        self._counts = np.diff(self._starts)
        n_seen = seen.getnnz(axis=1)
        self._users = drawable_users(self._counts, n_seen, self.n_items, 0 if shared else negatives)
        self._users = self._users.astype(self._dtype)
        if not shared:
            self._seen = Entries(seen)
            self._filter = _Filter(self._seen.keys)
            self._seen_matrix = seen
            self._unseen: UnseenItems | None = None  # made where rejection is too slow

    def batches(self, n: int, size: int, rng: np.random.Generator) -> Iterator[Triplets]:
        """`n` positives with their negatives, in batches of `size`, drawn as they are asked for."""
        piece = drawn_at_once(size, self.k, self.shared)
        for start in range(0, n, piece):
            yield from self.epoch(min(piece, n - start), size, rng).batches(size)

    def epoch(self, n: int, size: int, rng: np.random.Generator) -> Triplets:
        """Draw `n` positives with their negatives at once, for batches of `size` positives."""
        users = self._users[rng.integers(0, len(self._users), size=n)]
        positives = self._items[self._starts[users] + (rng.random(n) * self._counts[users]).astype(np.int64)]
        if self.shared:
            return Triplets(users, positives, self._any_items((-(-n // size), self.k), rng), shared=True)
        negatives = self._any_items((n, self.k), rng)
        todo, bad = np.arange(n), self._refused(users, negatives)
        for _ in range(_ROUNDS):
            again = np.unique(np.flatnonzero(bad) // self.k)  # a few of many: any(axis=1) would take longer
            todo, bad = todo[again], bad[again]
            if not len(todo):
                break
            negatives[todo] = np.where(bad, self._any_items(bad.shape, rng), negatives[todo])
            bad = self._refused(users[todo], negatives[todo])
        else:
            self._draw_by_rank(users, negatives, todo[bad.any(axis=1)], rng)
        return Triplets(users, positives, negatives)

    def _draw_by_rank(
        self, users: np.ndarray, negatives: np.ndarray, rows: np.ndarray, rng: np.random.Generator
    ) -> None:
        """Draw some rows anew, in place: those of users who have seen nearly everything."""
        if len(rows):
            if self._unseen is None:
                self._unseen = UnseenItems(self._seen_matrix, torch.device("cpu"))
            generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
            theirs = torch.as_tensor(users[rows], dtype=torch.int64)
            negatives[rows] = self._unseen.draw(theirs, self.k, generator).numpy()

    def _any_items(self, shape: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
        return rng.integers(0, self.n_items, size=shape, dtype=self._dtype)

    def _refused(self, users: np.ndarray, items: np.ndarray) -> np.ndarray:
        """Where an item (n, k) has been seen by its user (n,), or stands in an earlier column of its row."""
        refused = np.empty(items.shape, dtype=bool)
        for start in range(0, len(users), _CHECKED):
            part = slice(start, start + _CHECKED)
            pairs = self._seen.key(users[part, None], items[part])
            refused[part] = _repeated(items[part])
            rows, columns = np.nonzero(self._filter.maybe(pairs))
            refused[part][rows, columns] |= self._seen.hold(pairs[rows, columns])
        return refused


def drawable_users(counts: np.ndarray, n_seen: np.ndarray, n_items: int, negatives: int) -> np.ndarray:
    """Users with a training item, and with `negatives` items that they have not seen.

    Raises
    ------
    InputError
        There is none.
    """
    users = np.flatnonzero((counts > 0) & (n_seen <= n_items - negatives))
    if len(users) == 0:
        raise InputError(
            f"no user has a training item and {negatives} items left to draw as negatives",
            expected="more items, or fewer negatives",
        )
    return users


class _Filter:
    """Which numbers are surely not among those given: one bit for each, at a hash of it (a Bloom filter).

    Parameters
    ----------
    members : ndarray, int64
    """

    def __init__(self, members: np.ndarray) -> None:
        bits = max(3, int(len(members) * _FILTER_BITS - 1).bit_length())
        self._shift = np.uint64(64 - bits)
        self._bytes = np.zeros(1 << (bits - 3), dtype=np.uint8)
        for start in range(0, len(members), DRAWN):
            place, bit = self._place(members[start : start + DRAWN])
            np.bitwise_or.at(self._bytes, place, bit)

    def maybe(self, numbers: np.ndarray) -> np.ndarray:
        """False where a number is not a member; true where it is, and now and then where it is not."""
        place, bit = self._place(numbers)
        return (self._bytes[place] & bit) != 0

    def _place(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        # Fibonacci hashing: the top bits of a product with 2^64 over the golden ratio.
        hashed = (numbers.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)) >> self._shift
        return (hashed >> np.uint64(3)).astype(np.int64), np.uint8(1) << (hashed & np.uint64(7)).astype(np.uint8)


def _repeated(items: np.ndarray) -> np.ndarray:
    """Where a row holds the same item as an earlier column."""
    columns = np.ascontiguousarray(items.T)
    repeated = [(columns[:column] == columns[column]).any(axis=0) for column in range(len(columns))]
    return np.stack(repeated, axis=1)
