"""Full tables: an embedding per user and item under LightGCN, the paper's uncompressed rows (UD), whole or pruned.

He et al. *LightGCN.* SIGIR 2020. d is 64 or 128 as in the paper's Table 3, or values / N rounded down: what there is at
the budget without any compression.

Magnitude pruning, Han et al. *Learning both Weights and Connections.* NIPS 2015: train, keep the largest |E_ij| of all
rows and columns, as many as the budget has values, and train those on from where they are, or rank with them as they
are.
"""

from __future__ import annotations

from pydantic import Field

from c2f_dgl.baselines.fitting import build_model, fit, fitted, layout_of, retrain, train_phase
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.baselines.tables import MaskedValues, MatrixTable, keep_largest
from c2f_dgl.tiers.codebook import random_codebook
from c2f_dgl.tiers.tiered import TieredEmbedding


class FullSettings(GradientSettings):
    d: int | None = Field(None, ge=1, description="d; null: values / N")


class PrunedSettings(GradientSettings):
    d: int = Field(64, ge=1, description="d, the width of what is pruned")
    retrain: bool = Field(True, description="train on what is kept")


def random_full_table(context: Context, d: int) -> TieredEmbedding:
    """A full table that starts as Xavier has it."""
    table = random_codebook(context.n_entities, d, "xavier", context.generator("table"))
    return TieredEmbedding(layout_of(context), table=table)


def train(context: Context[FullSettings]) -> Fitted:
    """LightGCN with a full table."""
    d = context.settings.d
    if d is None:
        d = context.left_for_entities() // context.n_entities
    return fit(context, random_full_table(context, d))


def train_pruned(context: Context[PrunedSettings]) -> Fitted:
    """LightGCN with a full table, cut to its largest magnitudes and trained on (Han et al. 2015)."""
    settings, layer = context.settings, random_full_table(context, context.settings.d)
    model = build_model(context, layer, settings.layers)
    record = train_phase(context.within(0.5 if settings.retrain else 1.0), model, settings.training())
    table = layer.codebooks()[0].detach().cpu()
    (mask,) = keep_largest([table.abs()], context.values)
    if settings.retrain:
        return retrain(context, mask, table, [record])
    cut = MatrixTable(layer.layout, MaskedValues(mask, table))
    return fitted(build_model(context, cut, settings.layers), [record])


_SOURCE, _HAN = "He et al. 2020 (SIGIR)", "Han et al. 2015 (NIPS)"
_PRUNED_GRID = {**GRADIENT_SPACE, "d": (16, 32, 64, 128), "retrain": (False, True)}
SYSTEMS = (
    System("full-64", "LightGCN, d = 64", _SOURCE, FullSettings(d=64), train, GRADIENT_SPACE, budgeted=False),
    System("full-128", "LightGCN, d = 128", _SOURCE, FullSettings(d=128), train, GRADIENT_SPACE, budgeted=False),
    System("full-budget", "LightGCN, d at the budget", _SOURCE, FullSettings(), train, GRADIENT_SPACE),
    System("anchor-pruned", "LightGCN, pruned by magnitude", _HAN, PrunedSettings(), train_pruned, _PRUNED_GRID),
)
