"""PEP and CERP: embedding entries pruned by learned soft thresholds, then retrained under the masks that were found.

PEP (Liu et al. *Learnable Embedding Sizes for Recommender Systems.* ICLR 2021):

    V^ = sign(V) max(|V| - sigmoid(s), 0) (Eq. 4), s one number, or one a column, row or entry;  min L(V^) (Eq. 5)
    m = 1[V^ != 0];   min over V of L(V * m), from V = V_0            (Sec. 3.3, the winning ticket)

CERP (Liang et al. *Learning Compact Compositional Embeddings via Regularized Pruning for Recommendation.* ICDM 2023),
with P^ and Q^ behind a threshold per entry, retrained in the same way:

    e_i = P^[i mod b] + Q^[i div ceil(N / b)]                two codebooks of b rows, a pair of its own for each i
    L = L_BPR - gamma mean tanh(eta e)^2                     pruning that leaves no entry of e at zero

Deviations: the loss is BPR on propagated embeddings. What pushes s up is a constant pull, where PEP's code has a decay
of s towards 0; it grows fourfold with every epoch beyond `search_epochs`, of which there are as many again at most.
Masks are taken at the first step that leaves no more entries than the budget, or at the search's end, and keep exactly
the budget: the entries with the largest |V| - sigmoid(s). CERP's regulariser is a mean and not a norm, so that gamma
does not depend on the size of the data; b follows from the budget, `slack` times which the codebooks hold at first.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from c2f_dgl.baselines.fitting import Phase, bpr_loss, build_model, fit, layout_of, retrain, search_phase
from c2f_dgl.baselines.qr import QuotientRemainder
from c2f_dgl.baselines.system import SEARCH_SPACE, Context, Fitted, SearchSettings, System
from c2f_dgl.baselines.tables import MaskedValues, MatrixTable, keep_largest, random_table
from c2f_dgl.errors import InputError
from c2f_dgl.tiers.embedding import ComputedTable

Granularity = Literal["global", "dimension", "entity", "entry"]


class PruningSettings(SearchSettings):
    """A search by learned soft thresholds sigmoid(s)."""

    d: int = Field(64, ge=1, description="d, the width of what is pruned")
    search_lr: float = Field(3e-3, gt=0, description="Adam's learning rate while pruning")
    search_l2: float = Field(1e-2, ge=0, description="l2 while pruning")
    start_logit: float = Field(-24.0, lt=0, description="s at the start: nothing is pruned")
    pull: float = Field(1e-3, gt=0, description="strength of the pull on s upwards, against the loss")


class PepSettings(PruningSettings):
    granularity: Granularity = Field("global", description="what shares a threshold")


class CerpSettings(PruningSettings):
    slack: float = Field(4.0, gt=1, description="values of the codebooks before pruning, as a multiple of the budget")
    gamma: float = Field(1e-2, ge=0, description="gamma: weight of the regulariser")
    eta: float = Field(100.0, gt=0, description="eta: steepness of tanh")


class SoftThresholded(nn.Module):
    """A matrix V (n x d), from `start`, behind learned thresholds sigmoid(s): s is `rate` times a parameter."""

    def __init__(self, start: Tensor, granularity: Granularity, start_logit: float, rate: float) -> None:
        super().__init__()
        n, d = start.shape
        shape = {"global": (1, 1), "dimension": (1, d), "entity": (n, 1), "entry": (n, d)}[granularity]
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
        """|V| - sigmoid(s) (n x d): what is positive is not pruned."""
        return self.weight.abs() - self.s().sigmoid()

    def pull(self) -> Tensor:
        """-sqrt(k) sum(s) / rate, k the entries that share a threshold: a constant pull on s upwards.

        Under Adam it makes s rise at its rate while thresholds are negligible. Later the loss resists, for the most
        part with noise of the order of sqrt(k): so a strength serves all granularities.
        """
        shared = self.weight.numel() / self.logit.numel()
        return -(shared**0.5) * self.s().sum() / self.rate

    @torch.no_grad()
    def count(self) -> int:
        """Entries not pruned."""
        return int((self.margins() > 0).sum())


def soft_thresholded(
    context: Context[PruningSettings], start: Tensor, granularity: Granularity = "entry"
) -> SoftThresholded:
    """`start` behind thresholds that are negligible while embeddings form: s reaches 0 at the end of the search."""
    settings = context.settings
    rate = settings.rate(-settings.start_logit, context.split.train.nnz)
    return SoftThresholded(start, granularity, settings.start_logit, rate)


def prune(
    context: Context[PruningSettings],
    layer: ComputedTable,
    parts: Sequence[SoftThresholded],
    regulariser: Callable[[], Tensor | float] = lambda: 0.0,  # a further term of the loss
) -> tuple[list[Tensor], Phase]:
    """Masks (n x d, bool, on the CPU) of a layer's parts, trained while thresholds rise until the budget is met.

    They keep the entries with the largest margins, as many as the budget; of the record, ``left`` is how many the
    thresholds left.
    """
    settings, strength = context.settings, context.settings.pull
    masks: list[Tensor] = []
    left = sum(part.count() for part in parts)

    def largest() -> list[Tensor]:
        return keep_largest([part.margins().detach().cpu() for part in parts], context.values)

    def after_step() -> None:
        nonlocal left
        if not masks:
            left = sum(part.count() for part in parts)
            if left <= context.values:
                masks.extend(largest())

    def after_epoch(epoch: int) -> bool:
        nonlocal strength
        if epoch >= settings.search_epochs:
            strength *= 4
        return bool(masks)

    def objective(model: Any, batch: Any) -> Tensor:
        loss = bpr_loss(model, batch, settings.search_l2) + regulariser()
        for part in parts:
            loss = loss + strength * part.pull()
        return loss

    hooks = {"objective": objective, "after_step": after_step, "after_epoch": after_epoch}
    model, epochs = build_model(context, layer, settings.layers), 2 * settings.search_epochs
    record = search_phase(context.within(0.5), model, "prune", epochs=epochs, **hooks)
    return masks or largest(), {**record, "left": left}


def train_pep(context: Context[PepSettings]) -> Fitted:
    """Prune to the budget, then retrain."""
    settings = context.settings
    start = random_table(context.n_entities, settings.d, settings.std, context.generator("table"))
    table = soft_thresholded(context, start, settings.granularity)
    (mask,), record = prune(context, MatrixTable(layout_of(context), table), [table])
    return retrain(context, mask, start, [record])


def codebook_rows(n: int, b: int) -> Tensor:
    """Rows in P and in Q of n <= b^2 entities (n x 2, int64), balanced: ceil(n / b) entities a row at most."""
    entity = torch.arange(n)
    return torch.stack([entity % b, entity // -(-n // b)], dim=1)


class Codebooks(QuotientRemainder):
    """The table of sums of rows of P^ and Q^ (b x d), modules: while thresholds are learned, or under the masks."""

    def codebook_pair(self) -> tuple[Tensor, Tensor]:
        return self.remainders(), self.quotients()

    def count_values(self) -> dict[str, int]:
        return {"P": self.remainders.count(), "Q": self.quotients.count()}

    def count_bytes(self) -> int:
        return int(self.remainders.count_bytes() + self.quotients.count_bytes())


def complement(table: Tensor, eta: float) -> Tensor:
    """mean tanh(eta e)^2: about the share of entries of e that are not zero, differentiable."""
    return (eta * table).tanh().square().mean()


def train_cerp(context: Context[CerpSettings]) -> Fitted:
    """Prune both codebooks to the budget, then retrain them."""
    settings, n = context.settings, context.n_entities
    b = min(n, max(math.isqrt(n - 1) + 1, round(settings.slack * context.values / (2 * settings.d))))
    if 2 * b * settings.d <= context.values:
        raise InputError(
            f"two codebooks of {b} x {settings.d} are no larger than the budget of {context.values:,} values",
            where="settings of cerp",
            expected="a larger slack or d",
        )
    layout, rows, generator = layout_of(context), codebook_rows(n, b), context.generator("codebooks")
    # The sum of two has the standard deviation that is set.
    starts = [random_table(b, settings.d, settings.std / math.sqrt(2), generator) for _ in range(2)]
    parts = [soft_thresholded(context, start) for start in starts]
    layer = Codebooks(layout, rows, *parts)
    masks, record = prune(context, layer, parts, lambda: -settings.gamma * complement(layer.table(), settings.eta))
    masked = map(MaskedValues, masks, starts)
    return fit(context, Codebooks(layout, rows, *masked), "retrain", [record])


_PEP_GRID = {**SEARCH_SPACE, "pull": (1e-4, 3e-4, 1e-3), "granularity": ("global", "dimension", "entity", "entry")}
_CERP_GRID = {**SEARCH_SPACE, "gamma": (1e-3, 1e-2, 1e-1), "slack": (2.0, 4.0, 8.0)}
SYSTEMS = (
    System("pep", "PEP", "Liu et al. 2021 (ICLR)", PepSettings(), train_pep, _PEP_GRID),
    System("cerp", "CERP", "Liang et al. 2023 (ICDM)", CerpSettings(), train_cerp, _CERP_GRID),
)
