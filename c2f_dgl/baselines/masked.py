"""Tables of which only some entries are learned, and how masks and sizes are cut to a budget of learned values.

A table with masked entries keeps the others alone as its parameter: what is masked is zero, not nearly, before and
after any step of any optimiser, and the number of learned values is the parameter's size.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from c2f_dgl.embedding import ComputedTable, stored_bytes
from c2f_dgl.graph.layout import NodeLayout


class MaskedValues(nn.Module):
    """A matrix (n x d) whose entries outside a mask are zero and not stored.

    Parameters
    ----------
    mask : Tensor, shape (n, d), bool
        Entries that are learned.
    start : Tensor, shape (n, d)
        Their values at the start are taken from it.
    """

    index: Tensor

    def __init__(self, mask: Tensor, start: Tensor) -> None:
        super().__init__()
        self.shape = tuple(mask.shape)
        self.register_buffer("index", mask.flatten().nonzero()[:, 0])
        self.values = nn.Parameter(start[mask].clone())

    def forward(self) -> Tensor:
        """The matrix, differentiable in the learned values."""
        zeros = self.values.new_zeros(self.shape[0] * self.shape[1])
        return zeros.index_copy(0, self.index, self.values).view(self.shape)

    def mask(self) -> Tensor:
        """The mask (n x d, bool)."""
        flat = torch.zeros(self.shape[0] * self.shape[1], dtype=torch.bool, device=self.index.device)
        flat[self.index] = True
        return flat.view(self.shape)

    def count(self) -> int:
        """Learned values."""
        return len(self.values)

    def count_bytes(self) -> int:
        """float32 values with int32 indices: one length a row where rows are prefixes, else the least of dense and CSR.

        A row is a prefix if its learned entries come first: its length then says where they are.
        """
        mask = self.mask()
        if bool((mask[:, 1:] <= mask[:, :-1]).all()):
            return min(4 * mask.numel(), 4 * len(self.values) + 4 * len(mask))
        return stored_bytes(mask)


class MaskedTable(ComputedTable):
    """An N x d table with a mask: what a search for masks or sizes ends with, and what is retrained.

    Parameters
    ----------
    layout : NodeLayout
    mask : Tensor, shape (N, d), bool
        Entries that are learned.
    start : Tensor, shape (N, d)
        Their values at the start.
    """

    def __init__(self, layout: NodeLayout, mask: Tensor, start: Tensor) -> None:
        super().__init__(layout)
        self.entries = MaskedValues(mask, start)

    def table(self) -> Tensor:
        """H(0), zero outside the mask."""
        return self.entries()

    def count_values(self) -> dict[str, int]:
        """The entries of the mask."""
        return {"table": len(self.entries.values)}

    def count_bytes(self) -> int:
        """See `MaskedValues.count_bytes`."""
        return self.entries.count_bytes()


def random_table(n: int, d: int, std: float, generator: torch.Generator) -> Tensor:
    """A table (n x d, float32) of N(0, std^2), as LightGCN starts."""
    return torch.empty(n, d).normal_(0.0, std, generator=generator)


def prefix_mask(sizes: Tensor, d: int) -> Tensor:
    """The mask (n x d, bool) that keeps the first ``sizes[i]`` (int, <= d) entries of row i."""
    return torch.arange(d, device=sizes.device) < sizes[:, None]


def keep_largest(scores: Sequence[Tensor], n: int) -> list[Tensor]:
    """Masks of the n largest entries of several tensors together (ties: any); all of them if there are no more."""
    flat = torch.cat([x.flatten() for x in scores])
    mask = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    mask[flat.topk(min(n, len(flat))).indices] = True
    return [part.view(x.shape) for part, x in zip(mask.split([x.numel() for x in scores]), scores, strict=True)]


def cut_to_budget(wanted: Tensor, budget: int, smallest: int, largest: int) -> Tensor:
    """Whole sizes in proportion to those wanted, whose sum meets a budget.

    Sizes are ``clip(c wanted, smallest, largest)`` with the largest c that the budget allows, rounded down; what
    rounding leaves goes to the largest remainders.

    Parameters
    ----------
    wanted : Tensor, shape (n,)
        Sizes >= 0, real.
    budget : int
        The sum, >= n smallest.
    smallest, largest : int

    Returns
    -------
    Tensor, shape (n,), int64
        Sums to the budget, or to ``n largest`` where that is less.

    Raises
    ------
    ValueError
        The budget is less than the smallest size of every row.
    """
    n = len(wanted)
    if budget < n * smallest:
        raise ValueError(f"a budget of {budget} for {n} sizes of at least {smallest}")
    budget = min(budget, n * largest)
    # A size of nothing cannot be scaled up: the budget must be within reach for some c.
    wanted = wanted.double().clamp_min(1e-6)
    low, high = 0.0, float(largest / wanted.min())
    for _ in range(64):
        middle = (low + high) / 2
        if float((middle * wanted).clamp(smallest, largest).sum()) <= budget:
            low = middle
        else:
            high = middle
    real = (low * wanted).clamp(smallest, largest)
    sizes = real.floor().long()
    left = budget - int(sizes.sum())
    room = sizes < largest
    while left > 0:  # at most a few passes: a pass gives one to every row with room
        remainder = torch.where(room, real - sizes, -torch.inf)
        sizes[remainder.topk(min(left, int(room.sum()))).indices] += 1
        left, room = budget - int(sizes.sum()), sizes < largest
    return sizes


def allocate(utility: Tensor, sizes: Tensor, budget: int) -> Tensor:
    """The choice of one size per row with the largest total utility that a budget allows, by Lagrangian relaxation.

    Each row takes the size with the largest ``utility - price size``; the price is the lowest that meets the budget. Of
    the rows that are indifferent at that price, as many as it pays for take the larger of their sizes.

    Parameters
    ----------
    utility : Tensor, shape (n, k)
    sizes : Tensor, shape (k,), int64
        Ascending.
    budget : int
        Bound on the sum of the chosen sizes, >= n sizes[0].

    Returns
    -------
    Tensor, shape (n,), int64
        Index of each row's size.

    Raises
    ------
    ValueError
        The budget is less than the smallest size of every row.
    """
    if budget < len(utility) * int(sizes[0]):
        raise ValueError(f"a budget of {budget} for {len(utility)} sizes of at least {int(sizes[0])}")
    utility = utility.double()

    def chosen(price: float) -> Tensor:
        return (utility - price * sizes).argmax(dim=1)

    larger = chosen(0.0)
    if int(sizes[larger].sum()) <= budget:
        return larger
    low, high = 0.0, float(utility.max() - utility.min()) + 1.0
    best = chosen(high)
    for _ in range(64):
        middle = (low + high) / 2
        choice = chosen(middle)
        if int(sizes[choice].sum()) <= budget:
            high, best = middle, choice
        else:
            low, larger = middle, choice
    extra = (sizes[larger] - sizes[best]).clamp_min(0)
    paid = (extra > 0) & (extra.cumsum(0) <= budget - int(sizes[best].sum()))
    return torch.where(paid, larger, best)
