"""Magnitude pruning: of a trained LightGCN table the entries with the largest magnitudes are kept.

Han et al. 2015, Learning both Weights and Connections: train, keep the largest |E_ij|, train those on from where they
are. The table E (N x d) is that of `full`; as many of its entries are kept as the budget has values, over all rows and
columns together, and they are what counts. Without retraining the table is ranked with as it is cut.
"""

from __future__ import annotations

from pydantic import Field

from c2f_dgl.baselines.fitting import build_model, fitted, layout_of, train_phase
from c2f_dgl.baselines.full import FullTable
from c2f_dgl.baselines.masked import MaskedTable, keep_largest
from c2f_dgl.baselines.searching import retrain
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.tiers.codebook import random_codebook


class PrunedSettings(GradientSettings):
    """Hyper-parameters of magnitude pruning."""

    d: int = Field(64, ge=1, description="d, the width of what is pruned")
    retrain: bool = Field(True, description="train on what is kept")


def train(context: Context[PrunedSettings]) -> Fitted:
    """LightGCN with a full table, cut to its largest magnitudes and trained on (Han et al. 2015)."""
    settings, layout = context.settings, layout_of(context)
    layer = FullTable(layout, random_codebook(layout.total, settings.d, "xavier", context.generator("table")))
    model = build_model(context, layer, settings.layers)
    deadline = context.share_of_time(0.5 if settings.retrain else 1.0)
    record = train_phase(context, model, settings.training(), deadline=deadline)
    table = layer.weight.detach().cpu()
    (mask,) = keep_largest([table.abs()], context.values)
    if settings.retrain:
        return retrain(context, mask, table, [record])
    return fitted(build_model(context, MaskedTable(layout, mask, table), settings.layers), [record])


SYSTEMS = (
    System(
        "anchor-pruned",
        "LightGCN, pruned by magnitude",
        "Han et al. 2015 (NIPS)",
        PrunedSettings(),
        train,
        {**GRADIENT_SPACE, "d": (16, 32, 64, 128), "retrain": (False, True)},
    ),
)
