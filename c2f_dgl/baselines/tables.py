"""Tables of which only a part is learned: entries under masks, rows cut to sizes, sizes brought to one width.

To one width: e~ = g tanh((x - mean) / sqrt(var + eps)), with the mean and the variance over all the rows that are given
and not over a batch, so that training and ranking see the same function; g is one learned number for all users, one for
all items.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.tiers.embedding import ComputedTable, stored_bytes


class MaskedValues(nn.Module):
    """A matrix (n x d) that is learned where a mask (n x d, bool) is, from the entries of `start` there, else zero."""

    index: Tensor

    def __init__(self, mask: Tensor, start: Tensor) -> None:
        super().__init__()
        self.shape = mask.shape
        self.register_buffer("index", mask.flatten().nonzero()[:, 0])
        self.values = nn.Parameter(start[mask].clone())

    def forward(self) -> Tensor:
        zeros = self.values.new_zeros(self.shape.numel())
        return zeros.index_copy(0, self.index, self.values).view(self.shape)

    def count(self) -> int:
        """Learned values."""
        return len(self.values)

    def count_bytes(self) -> int:
        """float32 values, with int32 lengths where rows are prefixes, else the least of dense and CSR."""
        mask = torch.zeros(self.shape.numel(), dtype=torch.bool, device=self.index.device)
        mask = mask.index_fill_(0, self.index, True).view(self.shape)
        if bool((mask[:, 1:] <= mask[:, :-1]).all()):
            return min(4 * mask.numel(), 4 * len(self.values) + 4 * len(mask))
        return stored_bytes(mask)


class MatrixTable(ComputedTable):
    """The table that a module gives, e.g. `MaskedValues`, with the module's counts."""

    def __init__(self, layout: NodeLayout, entries: Any) -> None:
        super().__init__(layout)
        self.entries = entries

    def table(self) -> Tensor:
        matrix: Tensor = self.entries()
        return matrix

    def count_values(self) -> dict[str, int]:
        return {"table": self.entries.count()}

    def count_bytes(self) -> int:
        return int(self.entries.count_bytes())


class PrefixTable(ComputedTable):
    """One full table (N x d) from `start`, whose rows are cut to their current sizes."""

    sizes: Tensor

    def __init__(self, layout: NodeLayout, start: Tensor) -> None:
        super().__init__(layout)
        self.weight = nn.Parameter(start.clone())
        self.register_buffer("sizes", torch.full((len(start),), start.shape[1]))

    def table(self) -> Tensor:
        return self.weight * prefix_mask(self.sizes, self.weight.shape[1])


class SizedTable(ComputedTable):
    """A table computed from embeddings of several sizes, one of them for each entity."""

    def count_bytes(self) -> int:
        # An int32 per entity says which size it has and where it is.
        return super().count_bytes() + 4 * self.layout.total


def random_table(n: int, d: int, std: float, generator: torch.Generator) -> Tensor:
    """A table (n x d, float32) of N(0, std^2), as LightGCN starts."""
    return torch.empty(n, d).normal_(0.0, std, generator=generator)


def keep_largest(scores: Sequence[Tensor], n: int) -> list[Tensor]:
    """Masks of the n largest entries of several tensors together (ties: any); all of them if there are no more."""
    flat = torch.cat([x.flatten() for x in scores])
    mask = torch.zeros(len(flat), dtype=torch.bool, device=flat.device)
    mask[flat.topk(min(n, len(flat))).indices] = True
    return [part.view(x.shape) for part, x in zip(mask.split([x.numel() for x in scores]), scores, strict=True)]


def prefix_mask(sizes: Tensor, d: int) -> Tensor:
    """The mask (n x d, bool) that keeps the first ``sizes[i]`` (int, <= d) entries of row i."""
    return torch.arange(d, device=sizes.device) < sizes[:, None]


def start_gains(layout: NodeLayout, std: float) -> nn.ParameterDict:
    """g of each node type at its start: as large as makes unified embeddings, whose root mean square is about 0.6."""
    return nn.ParameterDict({node_type: torch.tensor(std / 0.6) for node_type in layout.types})


def unify(x: Tensor) -> Tensor:
    """tanh(BN(x)) of the rows of x (n x d)."""
    variance, mean = torch.var_mean(x, dim=0, correction=0)
    return ((x - mean) * (variance + 1e-5).rsqrt()).tanh()


def indifferent_network(n_inputs: int, hidden: int, n_outputs: int, generator: torch.Generator) -> nn.Sequential:
    """A network with one hidden layer that gives zeros at the start: every choice is as likely as another."""
    first, last = nn.Linear(n_inputs, hidden), nn.Linear(hidden, n_outputs)
    for parameter in first.parameters():
        nn.init.normal_(parameter, generator=generator)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(first, nn.Tanh(), last)


def size_counts(layout: NodeLayout, choice: Tensor, n_sizes: int) -> dict[str, list[int]]:
    """Entities of each size by node type, from the indices of their sizes (N,), int64."""
    return {node_type: x.bincount(minlength=n_sizes).tolist() for node_type, x in layout.split(choice).items()}


def cut_to_budget(wanted: Tensor, budget: int, largest: int) -> Tensor:
    """Whole sizes (n,), int64, in proportion to those wanted (n,), whose sum meets a budget >= n as far as it can.

    They are ``clip(c wanted, 1, largest)``, rounded down; what that leaves goes to the largest remainders.
    """
    budget = min(budget, len(wanted) * largest)
    # A size of nothing cannot be scaled up: the budget must be within reach for some c.
    wanted = wanted.double().clamp_min(1e-6)
    scaled = lambda c: (c * wanted).clamp(1, largest)
    c, _ = _bisect(lambda c: float(scaled(c).sum()) <= budget, 0.0, float(largest / wanted.min()))
    real = scaled(c)
    sizes = real.floor().long()
    while (left := budget - int(sizes.sum())) > 0:  # at most a few passes: a pass gives one to every row with room
        room = sizes < largest
        remainder = torch.where(room, real - sizes, -torch.inf)
        sizes[remainder.topk(min(left, int(room.sum()))).indices] += 1
    return sizes


def allocate(utility: Tensor, sizes: Tensor, budget: int) -> Tensor:
    """Index (n,), int64, of each row's size: the choice of most total utility (n x k) whose sizes meet a budget.

    By Lagrangian relaxation: each row takes the size (of k, ascending) with the largest ``utility - price size``, at
    the lowest price that meets the budget, which pays for the smallest size each. Of the rows that are indifferent at
    that price, as many as it pays for take the larger of their sizes.
    """
    utility = utility.double()
    choice = lambda price: (utility - price * sizes).argmax(dim=1)
    total = lambda price: int(sizes[choice(price)].sum())
    if total(0.0) <= budget:
        return choice(0.0)
    low, high = _bisect(lambda price: total(price) > budget, 0.0, float(utility.max() - utility.min()) + 1.0)
    larger, smaller = choice(low), choice(high)
    extra = (sizes[larger] - sizes[smaller]).clamp_min(0)
    paid = (extra > 0) & (extra.cumsum(0) <= budget - int(sizes[smaller].sum()))
    return torch.where(paid, larger, smaller)


def _bisect(is_below: Callable[[float], bool], low: float, high: float) -> tuple[float, float]:
    """The bracket around where `is_below` turns false, after 64 halvings."""
    for _ in range(64):
        middle = (low + high) / 2
        low, high = (middle, high) if is_below(middle) else (low, middle)
    return low, high
