"""Learned soft thresholds (PEP and CERP): V^ = sign(V) max(|V| - sigma(s), 0)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from c2f_dgl.embedding import stored_bytes


class SoftThresholded(nn.Module):
    """A matrix V (n x d) behind learned thresholds sigma(s).

    Parameters
    ----------
    start : Tensor, shape (n, d)
        V at the start.
    shape : tuple of int
        Of s: broadcasts against V, so that thresholds may be one for all, per column, per row or per entry.
    start_logit : float
        s at the start, so far below zero that nothing is pruned.
    rate : float
        Learning rate of s as a multiple of that of V (s is learned as ``rate`` times a parameter, which is the same
        under Adam).
    """

    def __init__(self, start: Tensor, shape: tuple[int, ...], *, start_logit: float, rate: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(start.clone())
        self.logit = nn.Parameter(start.new_full(shape, start_logit / rate))
        self.rate = rate

    def s(self) -> Tensor:
        """The logits of the thresholds."""
        return self.rate * self.logit

    def forward(self) -> Tensor:
        """V^ (n x d)."""
        return self.weight.sign() * self.margins().relu()

    def margins(self) -> Tensor:
        """|V| - sigma(s) (n x d): what is positive is not pruned."""
        return self.weight.abs() - self.s().sigmoid()

    def decay(self) -> Tensor:
        """mean(s^2) / 2: its gradient pulls s up to 0, that is every threshold up to 1/2, against the loss.

        The mean makes its strength the same whatever shares a threshold.
        """
        return 0.5 * self.s().square().mean()

    @torch.no_grad()
    def count(self) -> int:
        """Entries not pruned."""
        return int((self.margins() > 0).sum())

    @torch.no_grad()
    def count_bytes(self) -> int:
        """V^, sparse."""
        return stored_bytes(self())
