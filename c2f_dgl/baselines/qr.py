"""Quotient-remainder embeddings: two small tables compose as many embeddings as there are pairs of their rows.

Shi et al. *Compositional Embeddings Using Complementary Partitions.* KDD 2020. Entity i of n, with m remainder rows:

    e_i = R[i mod m]  op  Q[i div m],        op: sum, elementwise product, concatenation (of d / 2 each)

Users and items have their own R and Q, and the least number of entities a row (c, with m = ceil(n / c)) that fits the
budget, with d halved where none does. The sum is linear, a tier with t = 2, and so runs on the collapsed engine.

Deviations: the paper leaves frequent entities uncompressed; here all are compressed. For the product Q starts around 1,
else products of two small numbers start without gradients worth the name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from c2f_dgl.baselines.fitting import fit, layout_of
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.errors import InputError
from c2f_dgl.graph.layout import NodeLayout, take_rows
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.codebook import random_codebook
from c2f_dgl.tiers.embedding import ComputedTable
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding

Operation = Literal["sum", "product", "concat"]
_OPERATIONS: dict[Operation, Callable[[Tensor, Tensor], Tensor]] = {
    "sum": torch.add,
    "product": torch.mul,
    "concat": lambda first, second: torch.cat([first, second], dim=1),
}

# Above this the collapsed engine's basis (N x rows, float32) is not kept and embeddings are propagated instead,
# which is faster where a row of the basis is that wide.
_BASIS_BYTES = 2**28


class QRSettings(GradientSettings):
    d: int = Field(64, ge=2, description="d; even for concatenation")


def partition(layout: NodeLayout, collisions: float) -> tuple[Tensor, int, int]:
    """Rows of R and of Q of every entity (N x 2, int64), each type's after the other's, and how many there are of both.

    `collisions`, c >= 1, are the entities that share a remainder row, about: the number of quotient rows of a type.
    """
    rows, n_remainders, n_quotients = [], 0, 0
    for size in layout.sizes:
        m, entity = math.ceil(size / collisions), torch.arange(size)
        rows.append(torch.stack([entity % m + n_remainders, entity // m + n_quotients], dim=1))
        n_remainders, n_quotients = n_remainders + m, n_quotients + math.ceil(size / m)
    return torch.cat(rows), n_remainders, n_quotients


def fewest_collisions(layout: NodeLayout, n_rows: int) -> float | None:
    """The least c whose tables have at most `n_rows` rows together, None if there is none."""
    # R shrinks with c while Q grows: the least sum is at c = sqrt(n).
    tried = np.geomspace(1, max(layout.sizes) ** 0.5 + 1, 500).tolist()
    return next((c for c in tried if sum(partition(layout, c)[1:]) <= n_rows), None)


class SumOfTwo(TieredEmbedding):
    """R[i mod m] + Q[i div m] as one tier that the graph does not see."""

    def __init__(self, layout: NodeLayout, rows: Tensor, n_remainders: int, codebook: Tensor) -> None:
        atoms = rows + torch.tensor([0, n_remainders])
        assignment = Assignment(atoms, torch.ones(len(atoms), 2), len(codebook))
        super().__init__(layout, [Tier("rows", codebook, assignment)], link_scale=0.0)

    def count_values(self) -> dict[str, int]:
        return {"tables": self.tiers[0].codebook.numel()}  # the assignment is not learned

    def count_bytes(self) -> int:
        return 4 * self.tiers[0].codebook.numel()


class QuotientRemainder(ComputedTable):
    """Any of the three operations on a row of each of two codebooks; rows: (N, 2), int64."""

    rows: Tensor

    def __init__(
        self, layout: NodeLayout, rows: Tensor, remainders: Any, quotients: Any, *, operation: Operation = "sum"
    ) -> None:
        super().__init__(layout)
        self.register_buffer("rows", rows)
        self.remainders, self.quotients, self.compose = remainders, quotients, _OPERATIONS[operation]

    def codebook_pair(self) -> tuple[Tensor, Tensor]:
        """R and Q."""
        return self.remainders, self.quotients

    def table(self) -> Tensor:
        return self._composed(self.rows)

    def entity_rows(self, rows: Tensor) -> Tensor:
        return self._composed(self.rows[rows])

    def _composed(self, rows: Tensor) -> Tensor:
        first, second = self.codebook_pair()
        return self.compose(take_rows(first, rows[:, 0]), take_rows(second, rows[:, 1]))


def train(context: Context[QRSettings], operation: Operation) -> Fitted:
    """LightGCN on quotient-remainder embeddings within the budget."""
    layout, width = layout_of(context), context.settings.d // (2 if operation == "concat" else 1)
    while (collisions := fewest_collisions(layout, context.values // width)) is None:
        if width == 1:
            raise InputError(f"{context.values:,} values are too few", where="--parameters", expected="more")
        width //= 2
    rows, n_remainders, n_quotients = partition(layout, collisions)
    codebook = random_codebook(n_remainders + n_quotients, width, "xavier", context.generator("tables"))
    if operation == "sum" and 4 * len(rows) * len(codebook) <= _BASIS_BYTES:
        return fit(context, SumOfTwo(layout, rows, n_remainders, codebook))
    remainders, quotients = codebook.split([n_remainders, n_quotients])
    if operation == "product":
        quotients = quotients + 1
    pair = nn.Parameter(remainders), nn.Parameter(quotients)
    return fit(context, QuotientRemainder(layout, rows, *pair, operation=operation))


_GRID = {**GRADIENT_SPACE, "d": (16, 32, 64, 128)}
_SOURCE = "Shi et al. 2020 (KDD)"
SYSTEMS = (
    System("qr-sum", "QR, sum", _SOURCE, QRSettings(), partial(train, operation="sum"), _GRID),
    System("qr-product", "QR, product", _SOURCE, QRSettings(), partial(train, operation="product"), _GRID),
    System("qr-concat", "QR, concatenation", _SOURCE, QRSettings(), partial(train, operation="concat"), _GRID),
)
