"""Learned soft thresholds (PEP and CERP): V^ = sign(V) max(|V| - sigma(s), 0)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from c2f_dgl.baselines.fitting import build_model
from c2f_dgl.baselines.masked import keep_largest
from c2f_dgl.baselines.searching import PruningSettings, search_loss, search_phase
from c2f_dgl.baselines.system import Context
from c2f_dgl.embedding import ComputedTable, stored_bytes


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

    def pull(self) -> Tensor:
        """-sqrt(k) sum(s) / rate, k the entries that share a threshold.

        A constant pull on s upwards, against the loss. While the thresholds are negligible the loss has no gradient on
        them, and under Adam any constant one makes s rise at its rate. Later the loss resists, for the most part with
        noise of the order of sqrt(k): so a strength serves all shapes.
        """
        share = self.weight.numel() / self.logit.numel()
        return -(share**0.5) * self.s().sum() / self.rate

    @torch.no_grad()
    def count(self) -> int:
        """Entries not pruned."""
        return int((self.margins() > 0).sum())

    @torch.no_grad()
    def count_bytes(self) -> int:
        """V^, sparse."""
        return stored_bytes(self())


class BudgetWatch:
    """Takes the masks of pruned matrices at the step at which they first meet a budget.

    Parameters
    ----------
    parts : sequence of SoftThresholded
    values : int
        The budget, over all parts.
    """

    def __init__(self, parts: Sequence[SoftThresholded], values: int) -> None:
        self.parts, self.values = parts, values
        self.left = self._count()
        self._masks: list[Tensor] | None = None

    @property
    def met(self) -> bool:
        """Whether the budget was met."""
        return self._masks is not None

    def look(self) -> None:
        """Call after each step."""
        if self._masks is None:
            self.left = self._count()
            if self.left <= self.values:
                self._masks = self._largest()

    def masks(self) -> list[Tensor]:
        """A mask (n x d, bool, on the CPU) per part: the entries with the largest margins, as many as the budget.

        Of the step at which it was met; as things are now where it was not.
        """
        return self._largest() if self._masks is None else self._masks

    def _count(self) -> int:
        return sum(part.count() for part in self.parts)

    def _largest(self) -> list[Tensor]:
        return keep_largest([part.margins().detach().cpu() for part in self.parts], self.values)


def prune(
    context: Context[PruningSettings],
    layer: ComputedTable,
    parts: Sequence[SoftThresholded],
    regulariser: Callable[[], Tensor] | None = None,
) -> tuple[list[Tensor], dict[str, Any]]:
    """Train a layer while the thresholds of its parts rise, until the budget is met.

    Where the loss still holds them down after ``search_epochs``, the pull grows fourfold with every epoch from there
    on, for as many epochs again at most.

    Parameters
    ----------
    context : Context
    layer : ComputedTable
        Made of `parts`.
    parts : sequence of SoftThresholded
    regulariser : callable, optional
        A further term of the loss.

    Returns
    -------
    masks : list of Tensor
        See `BudgetWatch.masks`.
    record : dict
        Of the phase, with how many entries were ``left``.
    """
    settings, watch = context.settings, BudgetWatch(parts, context.values)
    strength = settings.pull

    def objective(model: Any, batch: Any) -> Tensor:
        loss = search_loss(model, batch, settings.search_l2)
        if regulariser is not None:
            loss = loss + regulariser()
        for part in parts:
            loss = loss + strength * part.pull()
        return loss

    def after_epoch(epoch: int) -> bool:
        nonlocal strength
        if epoch >= settings.search_epochs:
            strength *= 4
        return watch.met

    record = search_phase(
        context,
        build_model(context, layer, settings.layers),
        "prune",
        epochs=2 * settings.search_epochs,
        objective=objective,
        after_step=watch.look,
        after_epoch=after_epoch,
    )
    return watch.masks(), {**record, "left": watch.left}
