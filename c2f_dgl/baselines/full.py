"""Full tables: an embedding per user and item under LightGCN, the paper's uncompressed rows (UD).

He et al. *LightGCN.* SIGIR 2020. d is 64 or 128 as in the paper's Table 3, or values / N rounded down: what there is at
the budget without any compression.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from c2f_dgl.baselines.fitting import fit, layout_of
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.graph.layout import NodeLayout, take_rows
from c2f_dgl.tiers.codebook import random_codebook
from c2f_dgl.tiers.embedding import ComputedTable


class FullSettings(GradientSettings):
    d: int | None = Field(None, ge=1, description="d; null: values / N")


class FullTable(ComputedTable):
    """E (N x d) itself, from where it starts."""

    def __init__(self, layout: NodeLayout, table: Tensor) -> None:
        super().__init__(layout)
        self.weight = nn.Parameter(table.clone())

    def table(self) -> Tensor:
        return self.weight

    def entity_rows(self, rows: Tensor) -> Tensor:
        return take_rows(self.weight, rows)


def random_full_table(context: Context, d: int) -> FullTable:
    """A full table that starts as Xavier has it."""
    table = random_codebook(context.n_entities, d, "xavier", context.generator("table"))
    return FullTable(layout_of(context), table)


def train(context: Context[FullSettings]) -> Fitted:
    """LightGCN with a full table."""
    d = context.settings.d
    if d is None:
        context.check_one_each()
        d = context.values // context.n_entities
    return fit(context, random_full_table(context, d))


_SOURCE = "He et al. 2020 (SIGIR)"
SYSTEMS = (
    System("full-64", "LightGCN, d = 64", _SOURCE, FullSettings(d=64), train, GRADIENT_SPACE, budgeted=False),
    System("full-128", "LightGCN, d = 128", _SOURCE, FullSettings(d=128), train, GRADIENT_SPACE, budgeted=False),
    System("full-budget", "LightGCN, d at the budget", _SOURCE, FullSettings(), train, GRADIENT_SPACE),
)
