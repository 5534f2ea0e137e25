"""Magnitude pruning: of a trained LightGCN table the entries with the largest magnitudes are kept.

Han et al. *Learning both Weights and Connections.* NIPS 2015: train, keep the largest |E_ij| of all rows and columns,
as many as the budget has values, and train those on from where they are, or rank with them as they are.
"""

from __future__ import annotations

from pydantic import Field

from c2f_dgl.baselines.fitting import build_model, fitted, train_phase
from c2f_dgl.baselines.full import random_full_table
from c2f_dgl.baselines.searching import retrain
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.baselines.tables import MaskedValues, MatrixTable, keep_largest


class PrunedSettings(GradientSettings):
    d: int = Field(64, ge=1, description="d, the width of what is pruned")
    retrain: bool = Field(True, description="train on what is kept")


def train(context: Context[PrunedSettings]) -> Fitted:
    """LightGCN with a full table, cut to its largest magnitudes and trained on (Han et al. 2015)."""
    settings, layer = context.settings, random_full_table(context, context.settings.d)
    model = build_model(context, layer, settings.layers)
    deadline = context.share_of_time(0.5 if settings.retrain else 1.0)
    record = train_phase(context, model, settings.training(), deadline=deadline)
    table = layer.weight.detach().cpu()
    (mask,) = keep_largest([table.abs()], context.values)
    if settings.retrain:
        return retrain(context, mask, table, [record])
    cut = MatrixTable(layer.layout, MaskedValues(mask, table))
    return fitted(build_model(context, cut, settings.layers), [record])


_GRID = {**GRADIENT_SPACE, "d": (16, 32, 64, 128), "retrain": (False, True)}
SYSTEMS = (
    System("anchor-pruned", "LightGCN, pruned by magnitude", "Han et al. 2015 (NIPS)", PrunedSettings(), train, _GRID),
)
