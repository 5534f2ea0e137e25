"""Training triplets drawn on the device that trains on them, without the host waiting for it.

`TripletSampler` draws negatives until none has been seen, which a host loop must look at; here they are computed by
their rank (`UnseenItems`). On a CPU the binary search of that is slower than the filter that `TripletSampler` asks
first.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.sparse as sp
import torch

from c2f_dgl.training.sampler import Triplets, drawable_users, drawn_at_once
from c2f_dgl.training.unseen import UnseenItems, below


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
        self.n_items, self.k, self.shared, self.device = train.shape[1], negatives, shared, device
        place = lambda array: torch.as_tensor(array, device=device)
        self._users = place(drawable_users(counts, counts, self.n_items, 0 if shared else negatives))
        self._starts, self._counts, self._items = place(starts), place(counts), place(items)
        self._unseen = UnseenItems(train, device)

    def batches(self, n: int, size: int, rng: np.random.Generator) -> Iterator[Triplets]:
        """`n` positives with their negatives, in batches of `size`, drawn as they are asked for."""
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**63)))
        piece = drawn_at_once(size, self.k, self.shared)
        for start in range(0, n, piece):
            yield from self._draw(min(piece, n - start), size, generator).batches(size)

    def _draw(self, n: int, size: int, generator: torch.Generator) -> Triplets:
        users = self._users[torch.randint(len(self._users), (n,), device=self.device, generator=generator)]
        counts = self._counts[users]
        positives = self._items[self._starts[users] + below(counts, generator)]
        if self.shared:
            shape = (-(-n // size), self.k)
            negatives = torch.randint(self.n_items, shape, device=self.device, generator=generator)
            return Triplets(users, positives, negatives, shared=True)
        return Triplets(users, positives, self._unseen.draw(users, self.k, generator))
