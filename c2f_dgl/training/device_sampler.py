"""Training triplets drawn on the device that trains on them, without the host waiting for it.

`TripletSampler` draws negatives until none has been seen, which a host loop must look at. Here the r-th item that a
user has not seen is computed instead: with s_0 < s_1 < ... the user's items, it is r plus the number of j with
``s_j - j <= r``, one binary search. Distinct r (Floyd's sampling) give distinct items. On a CPU that search is slower
than the filter that `TripletSampler` asks first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.training.sampler import DRAWN, Triplets, drawable_users


class DeviceTripletSampler:
    """`c2f_dgl.training.sampler.TripletSampler` on a device: the same distribution, other draws.

    Parameters
    ----------
    train : csr_matrix, shape (n_users, n_items)
    negatives : int
    device : torch.device
    shared : bool

    Raises
    ------
    InputError
        No user can be drawn.
    """

    def __init__(self, train: sp.csr_matrix, negatives: int, device: torch.device, *, shared: bool = False) -> None:
        train = train.sorted_indices()
        starts, items = train.indptr.astype(np.int64), train.indices.astype(np.int64)
        counts = np.diff(starts)
        users = np.repeat(np.arange(train.shape[0]), counts)
        rank = np.arange(len(items)) - starts[users]
        self.n_items, self.k, self.shared, self.device = train.shape[1], negatives, shared, device
        place = lambda array: torch.as_tensor(array, device=device)
        self._users = place(drawable_users(counts, counts, self.n_items, 0 if shared else negatives))
        self._starts, self._counts, self._items = place(starts), place(counts), place(items)
        # Per interaction, how many unseen items come before it; keyed by user, so that all are sorted together.
        self._unseen_before = place(users * (self.n_items + 1) + items - rank)

    def batches(self, n: int, size: int, rng: np.random.Generator) -> Iterator[Triplets]:
        """`n` positives with their negatives, in batches of `size`, drawn as they are asked for."""
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        piece = size * max(1, DRAWN // size)
        for start in range(0, n, piece):
            yield from self._draw(min(piece, n - start), size, generator).batches(size)

    def _draw(self, n: int, size: int, generator: torch.Generator) -> Triplets:
        users = self._users[torch.randint(len(self._users), (n,), device=self.device, generator=generator)]
        counts = self._counts[users]
        positives = self._items[self._starts[users] + self._below(counts, generator)]
        if self.shared:
            shape = (-(-n // size), self.k)
            negatives = torch.randint(self.n_items, shape, device=self.device, generator=generator)
            return Triplets(users, positives, negatives, shared=True)
        unseen = self.n_items - counts
        drawn: list[Tensor] = []
        for slot in range(self.k):
            top = unseen - self.k + slot
            candidate = self._below(top + 1, generator)
            taken = torch.zeros_like(top, dtype=torch.bool)
            for other in drawn:
                taken |= other == candidate
            drawn.append(torch.where(taken, top, candidate))
        ranks = torch.stack(drawn, dim=1)
        keys = users[:, None] * (self.n_items + 1) + ranks
        before = torch.searchsorted(self._unseen_before, keys, right=True) - self._starts[users][:, None]
        return Triplets(users, positives, ranks + before)

    def _below(self, bounds: Tensor, generator: torch.Generator) -> Tensor:
        """A whole number below each bound (int64 (n,), below 2^53)."""
        uniform = torch.rand(len(bounds), dtype=torch.float64, device=self.device, generator=generator)
        return (uniform * bounds).long()
