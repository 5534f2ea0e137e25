"""Full tables: an embedding per user and item under LightGCN, the paper's uncompressed rows (UD).

He et al. 2020, LightGCN. The table E (N x d) is H(0); nothing is compressed, so the budget plays no part: d is 64 or
128 as in the paper's Table 3. ``full-budget`` is the same at the budget, d = values / N rounded down: what there is
without any of the compressions below.

Deviations: none from the paper's rows but the learning rate, which is tuned for every system alike.
"""

from __future__ import annotations

from pydantic import Field
from torch import Tensor, nn

from c2f_dgl.baselines.fitting import fit, layout_of
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.embedding import ComputedTable
from c2f_dgl.errors import InputError
from c2f_dgl.graph.layout import NodeLayout, take_rows
from c2f_dgl.tiers.codebook import random_codebook


class FullTable(ComputedTable):
    """E itself.

    Parameters
    ----------
    layout : NodeLayout
    table : Tensor, shape (N, d)
        Where it starts.
    """

    def __init__(self, layout: NodeLayout, table: Tensor) -> None:
        super().__init__(layout)
        self.weight = nn.Parameter(table.clone())

    def table(self) -> Tensor:
        """E."""
        return self.weight

    def entity_rows(self, rows: Tensor) -> Tensor:
        """Rows of E."""
        return take_rows(self.weight, rows)


class FullSettings(GradientSettings):
    """Hyper-parameters of a full table."""

    d: int | None = Field(None, ge=1, description="d; null: values / N")


def train(context: Context[FullSettings]) -> Fitted:
    """LightGCN with a full table."""
    d = context.settings.d if context.settings.d is not None else context.values // context.n_entities
    if d < 1:
        raise InputError(
            f"{context.values:,} values do not pay for one per entity", expected=f"at least {context.n_entities:,}"
        )
    table = random_codebook(context.n_entities, d, "xavier", context.generator("table"))
    return fit(context, FullTable(layout_of(context), table))


_SOURCE = "He et al. 2020 (SIGIR)"
SYSTEMS = (
    System("full-64", "LightGCN, d = 64", _SOURCE, FullSettings(d=64), train, GRADIENT_SPACE, budgeted=False),
    System("full-128", "LightGCN, d = 128", _SOURCE, FullSettings(d=128), train, GRADIENT_SPACE, budgeted=False),
    System("full-budget", "LightGCN, d at the budget", _SOURCE, FullSettings(), train, GRADIENT_SPACE),
)
