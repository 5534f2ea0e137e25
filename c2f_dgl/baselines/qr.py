"""Quotient-remainder embeddings: two small tables compose as many embeddings as there are pairs of their rows.

Shi et al. 2020, Compositional Embeddings Using Complementary Partitions. Entity i of n, with m remainder rows:

    e_i = R[i mod m]  op  Q[i div m],        op: sum, elementwise product, concatenation (of d / 2 each)

No two entities share both rows, so every embedding is unique. Each node type has its own R and Q, and both types are
compressed alike: the least number of entities a row (c, with m = ceil(n / c)) that fits the budget. Where none does,
d is halved until one does.

The sum is a tier with t = 2 and weights 1 that carry no learned value, without edges to the graph: it is linear and so
runs on the collapsed engine. Concatenation is linear too, but two half-wide bases cost what one propagation does.

Deviations: the paper leaves entities above a frequency threshold uncompressed; here all are compressed. For the product
Q starts around 1, else products of two small numbers start without gradients worth the name.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from c2f_dgl.baselines.fitting import build_model, fitted, layout_of, train_phase
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.embedding import ComputedTable
from c2f_dgl.errors import InputError
from c2f_dgl.graph.layout import NodeLayout, take_rows
from c2f_dgl.model import Recommender
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.codebook import random_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding

Operation = Literal["sum", "product", "concat"]

# Above this the collapsed engine's basis (N x rows, float32) is not kept and embeddings are propagated instead,
# which is faster where a row of the basis is that wide.
_BASIS_BYTES = 2**28


class QRSettings(GradientSettings):
    """Hyper-parameters of quotient-remainder embeddings."""

    d: int = Field(64, ge=2, description="d; even for concatenation")


def partition(layout: NodeLayout, collisions: float) -> tuple[Tensor, int, int]:
    """Rows of R and of Q of every entity.

    Parameters
    ----------
    collisions : float
        c >= 1: entities that share a remainder row, about, and so the number of quotient rows of a type.

    Returns
    -------
    rows : Tensor, shape (N, 2), int64
        Remainder and quotient row, each type's after the other's.
    n_remainders, n_quotients : int
    """
    rows, n_remainders, n_quotients = [], 0, 0
    for size in layout.sizes:
        m = max(1, math.ceil(size / collisions))
        entity = torch.arange(size)
        rows.append(torch.stack([entity % m + n_remainders, entity // m + n_quotients], dim=1))
        n_remainders, n_quotients = n_remainders + m, n_quotients + max(1, -(-size // m))
    return torch.cat(rows), n_remainders, n_quotients


def fewest_collisions(layout: NodeLayout, n_rows: int) -> float | None:
    """The least c whose tables have at most `n_rows` rows together, None if there is none."""
    # R shrinks with c while Q grows: the least sum is at c = sqrt(n).
    for collisions in np.geomspace(1, max(layout.sizes) ** 0.5 + 1, 500).tolist():
        _, n_remainders, n_quotients = partition(layout, collisions)
        if n_remainders + n_quotients <= n_rows:
            return float(collisions)
    return None


class SumOfTwo(TieredEmbedding):
    """R[i mod m] + Q[i div m] as one tier that the graph does not see."""

    def __init__(self, layout: NodeLayout, rows: Tensor, n_remainders: int, codebook: Tensor) -> None:
        atoms = rows + torch.tensor([0, n_remainders])
        assignment = Assignment(atoms, torch.ones(len(atoms), 2), len(codebook))
        super().__init__(layout, [Tier("rows", codebook, assignment)], link_scale=0.0)

    def count_values(self) -> dict[str, int]:
        """R and Q; which rows an entity has is arithmetic."""
        return {"tables": self.tiers[0].codebook.numel()}

    def count_bytes(self) -> int:
        """R and Q."""
        return 4 * self.tiers[0].codebook.numel()


class QuotientRemainder(ComputedTable):
    """Any of the three operations, row by row.

    Parameters
    ----------
    layout : NodeLayout
    rows : Tensor, shape (N, 2), int64
        From `partition`.
    remainders, quotients : Tensor, shape (rows, width)
        R and Q where they start.
    operation : {"sum", "product", "concat"}
    """

    rows: Tensor

    def __init__(
        self, layout: NodeLayout, rows: Tensor, remainders: Tensor, quotients: Tensor, operation: Operation
    ) -> None:
        super().__init__(layout)
        self.remainders, self.quotients = nn.Parameter(remainders.clone()), nn.Parameter(quotients.clone())
        self.operation = operation
        self.register_buffer("rows", rows)

    def table(self) -> Tensor:
        """All rows."""
        return self._compose(self.rows)

    def entity_rows(self, rows: Tensor) -> Tensor:
        """Some rows."""
        return self._compose(self.rows[rows])

    def _compose(self, rows: Tensor) -> Tensor:
        remainders, quotients = take_rows(self.remainders, rows[:, 0]), take_rows(self.quotients, rows[:, 1])
        if self.operation == "concat":
            return torch.cat([remainders, quotients], dim=1)
        return remainders + quotients if self.operation == "sum" else remainders * quotients


def train(context: Context[QRSettings], operation: Operation) -> Fitted:
    """LightGCN on quotient-remainder embeddings within the budget."""
    layout, width = layout_of(context), context.settings.d // (2 if operation == "concat" else 1)
    collisions = fewest_collisions(layout, context.values // width)
    while collisions is None:
        if width == 1:
            raise InputError(f"{context.values:,} values are too few", where="--parameters", expected="more")
        width //= 2
        collisions = fewest_collisions(layout, context.values // width)
    rows, n_remainders, n_quotients = partition(layout, collisions)
    codebook = random_codebook(n_remainders + n_quotients, width, "xavier", context.generator("tables"))
    model: Recommender[Any]
    if operation == "sum" and 4 * len(rows) * len(codebook) <= _BASIS_BYTES:
        model = build_model(context, SumOfTwo(layout, rows, n_remainders, codebook), context.settings.layers)
    else:
        remainders, quotients = codebook.split([n_remainders, n_quotients])
        around = quotients + 1 if operation == "product" else quotients
        table = QuotientRemainder(layout, rows, remainders, around, operation)
        model = build_model(context, table, context.settings.layers)
    return fitted(model, [train_phase(context, model, context.settings.training())])


def train_sum(context: Context[QRSettings]) -> Fitted:
    """R + Q."""
    return train(context, "sum")


def train_product(context: Context[QRSettings]) -> Fitted:
    """R * Q."""
    return train(context, "product")


def train_concat(context: Context[QRSettings]) -> Fitted:
    """R beside Q."""
    return train(context, "concat")


_SPACE = {**GRADIENT_SPACE, "d": (16, 32, 64, 128)}
_SOURCE = "Shi et al. 2020 (KDD)"
SYSTEMS = (
    System("qr-sum", "QR, sum", _SOURCE, QRSettings(), train_sum, _SPACE),
    System("qr-product", "QR, product", _SOURCE, QRSettings(), train_product, _SPACE),
    System("qr-concat", "QR, concatenation", _SOURCE, QRSettings(), train_concat, _SPACE),
)
