"""CERP: every embedding the sum of two codebook rows, both codebooks pruned so that they complement each other.

Source: Liang, Chen, Nguyen, Li, Yin. *Learning Compact Compositional Embeddings via Regularized Pruning for
Recommendation.* ICDM 2023.

    e_i = P^[i mod b] + Q^[i div ceil(N / b)]                two codebooks of b rows, a pair of its own for each i
    P^ = sign(P) max(|P| - sigmoid(S_p), 0), and so Q^       a learned threshold per entry
    L = L_BPR - gamma mean tanh(eta e)^2                     pruning that leaves no entry of e at zero

tanh(eta e)^2 is nearly 1 where e is not zero: where P prunes, Q is to fill in. When the budget is reached the masks are
kept and the codebooks retrained under them from where they started.

Deviations
----------
- The regulariser is a mean over all entries and not a norm, so that gamma does not depend on the size of the data.
- S is pulled up against the loss as in `c2f_dgl.baselines.pep`, and the masks keep exactly the budget in the same way:
  the entries of both codebooks with the largest |.| - sigmoid(S).
- b follows from the budget: before pruning the codebooks hold `slack` times as many values.
"""

from __future__ import annotations

import math

import torch
from pydantic import Field
from torch import Tensor

from c2f_dgl.baselines.fitting import build_model, fitted, layout_of, train_phase
from c2f_dgl.baselines.masked import MaskedValues, random_table
from c2f_dgl.baselines.searching import SEARCH_SPACE, PruningSettings
from c2f_dgl.baselines.system import Context, Fitted, System
from c2f_dgl.baselines.thresholds import SoftThresholded, prune
from c2f_dgl.embedding import ComputedTable
from c2f_dgl.errors import InputError
from c2f_dgl.graph.layout import NodeLayout, take_rows


class CerpSettings(PruningSettings):
    """Hyper-parameters of CERP."""

    slack: float = Field(4.0, gt=1, description="values of the codebooks before pruning, as a multiple of the budget")
    gamma: float = Field(1e-2, ge=0, description="gamma: weight of the regulariser")
    eta: float = Field(100.0, gt=0, description="eta: steepness of tanh")


def codebook_rows(n: int, b: int) -> Tensor:
    """Rows in P and in Q of every entity (n x 2, int64), balanced: ceil(n / b) entities a row at most.

    Raises
    ------
    ValueError
        n > b^2: some pairs would be shared.
    """
    if n > b * b:
        raise ValueError(f"{b} rows a codebook give {b * b} pairs for {n} entities")
    entity = torch.arange(n)
    return torch.stack([entity % b, entity // -(-n // b)], dim=1)


class Codebooks(ComputedTable):
    """The table of sums of rows of P^ and Q^.

    Parameters
    ----------
    layout : NodeLayout
    rows : Tensor, shape (N, 2), int64
        From `codebook_rows`.
    p, q : SoftThresholded or MaskedValues, shape (b, d)
        While their thresholds are learned; under the masks that were found.
    """

    rows: Tensor

    def __init__(
        self,
        layout: NodeLayout,
        rows: Tensor,
        p: SoftThresholded | MaskedValues,
        q: SoftThresholded | MaskedValues,
    ) -> None:
        super().__init__(layout)
        self.p, self.q = p, q
        self.register_buffer("rows", rows)

    def table(self) -> Tensor:
        """e (N x d)."""
        return self.entity_rows(torch.arange(self.layout.total, device=self.rows.device))

    def entity_rows(self, rows: Tensor) -> Tensor:
        """Some rows of e."""
        chosen = self.rows[rows]
        return take_rows(self.p(), chosen[:, 0]) + take_rows(self.q(), chosen[:, 1])

    def count_values(self) -> dict[str, int]:
        """Entries of P^ and Q^ that are not pruned; thresholds are not needed after the search."""
        return {"P": self.p.count(), "Q": self.q.count()}

    def count_bytes(self) -> int:
        """Both codebooks, sparse; which rows an entity has is arithmetic."""
        return self.p.count_bytes() + self.q.count_bytes()


def complement(table: Tensor, eta: float) -> Tensor:
    """mean tanh(eta e)^2: about the share of entries of e that are not zero, differentiable."""
    return (eta * table).tanh().square().mean()


def train(context: Context[CerpSettings]) -> Fitted:
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
    # The sum of two has the standard deviation asked for.
    starts = [random_table(b, settings.d, settings.std / math.sqrt(2), generator) for _ in range(2)]
    rate = settings.rate(context.split.train.nnz)
    pruned = [SoftThresholded(start, (b, settings.d), start_logit=settings.start_logit, rate=rate) for start in starts]
    layer = Codebooks(layout, rows, *pruned)
    masks, record = prune(context, layer, pruned, lambda: -settings.gamma * complement(layer.table(), settings.eta))
    kept = [MaskedValues(mask, start) for mask, start in zip(masks, starts, strict=True)]
    model = build_model(context, Codebooks(layout, rows, *kept), settings.layers)
    return fitted(model, [record, train_phase(context, model, settings.training(), "retrain")])


SYSTEMS = (
    System(
        "cerp",
        "CERP",
        "Liang et al. 2023 (ICDM)",
        CerpSettings(),
        train,
        {**SEARCH_SPACE, "gamma": (1e-3, 1e-2, 1e-1), "slack": (2.0, 4.0, 8.0)},
    ),
)
