"""Items that users have not seen, drawn by their rank: no rejection, so no loop until all are good."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor


class UnseenItems:
    """Distinct unseen items, uniform.

    The r-th item that a user has not seen is computed: with s_0 < s_1 < ... the user's items, it is r plus the number
    of j with ``s_j - j <= r``, one binary search. Distinct r (Floyd's sampling) give distinct items.

    Parameters
    ----------
    seen : csr_matrix, shape (n_users, n_items)
    device : torch.device
    """

    def __init__(self, seen: sp.csr_matrix, device: torch.device) -> None:
        seen = seen.sorted_indices()
        starts, items = seen.indptr.astype(np.int64), seen.indices.astype(np.int64)
        counts = np.diff(starts)
        users = np.repeat(np.arange(seen.shape[0]), counts)
        rank = np.arange(len(items)) - starts[users]
        self.n_items = seen.shape[1]
        self._starts, self._counts = (torch.as_tensor(array, device=device) for array in (starts, counts))
        # Per interaction, how many unseen items come before it; keyed by user, so that all are sorted together.
        self._before = torch.as_tensor(users * (self.n_items + 1) + items - rank, device=device)

    def draw(self, users: Tensor, k: int, generator: torch.Generator) -> Tensor:
        """`k` distinct items (n, k) that each user (n,) has not seen; int64. Each must have left that many."""
        unseen = self.n_items - self._counts[users]
        drawn: list[Tensor] = []
        for slot in range(k):
            top = unseen - k + slot
            candidate = below(top + 1, generator)
            taken = torch.zeros_like(top, dtype=torch.bool)
            for other in drawn:
                taken |= other == candidate
            drawn.append(torch.where(taken, top, candidate))
        ranks = torch.stack(drawn, dim=1)
        keys = users[:, None] * (self.n_items + 1) + ranks
        return ranks + torch.searchsorted(self._before, keys, right=True) - self._starts[users][:, None]


def below(bounds: Tensor, generator: torch.Generator) -> Tensor:
    """A whole number below each bound (int64 (n,), below 2^53)."""
    uniform = torch.rand(len(bounds), dtype=torch.float64, device=bounds.device, generator=generator)
    return (uniform * bounds).long()
