"""LEGCF: one codebook of meta-embeddings, assigned by the pseudo-inverse of what is propagated.

Liang et al. *Lightweight Embeddings for Graph Collaborative Filtering.* SIGIR 2024. It is the coarse tier of this
package alone: S from METIS parts, fixed, then S = top_t( H_full pinv(H_meta) ) in every epoch. m is what the budget
leaves beside the t N weights of S; where that is too little d and then t are lowered.

Deviations: without what the published code adds (tanh, biases, two normalisations; the preset ``published`` has those).
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from c2f_dgl.baselines.fitting import build_model, fitted, layout_of, train_phase
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.config.schema import CoarseConfig
from c2f_dgl.errors import InputError
from c2f_dgl.graph.partition import metis_parts
from c2f_dgl.tiers.assignment import anchored
from c2f_dgl.tiers.codebook import random_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding

# Fewer meta-embeddings than this are too few for an assignment to mean anything: d gives way first, then t.
_LEAST_ATOMS, _LEAST_WIDTH = 32, 16


class LegcfSettings(GradientSettings):
    d: int = Field(128, ge=1, description="d; halved, to 16 at least, while there are fewer than 32 meta-embeddings")
    t: int = Field(2, ge=1, description="t: meta-embeddings an entity is composed of, at most")
    anchor_weight: float = Field(0.5, ge=0, le=1, description="w*: weight of the own METIS part at the start")


def sizes(n_entities: int, values: int, d: int, t: int) -> tuple[int, int, int]:
    """t, m and d within a budget: t N + m d <= values."""
    while t > 1 and values - t * n_entities < _LEAST_ATOMS * min(d, _LEAST_WIDTH):
        t -= 1
    left = values - t * n_entities
    while d > _LEAST_WIDTH and left // d < _LEAST_ATOMS:
        d //= 2
    if left // d < t:
        raise InputError(f"{values:,} values", where="legcf", expected=f"over {n_entities:,}: a weight per entity")
    return t, left // d, d


def train(context: Context[LegcfSettings]) -> Fitted:
    """S fixed until it no longer helps, then S updated every epoch."""
    settings = context.settings
    t, m, d = sizes(context.n_entities, context.values, settings.d, settings.t)
    with context.reporter.busy("partitioning the graph"):
        parts = metis_parts(context.graph, m, context.seed)
    # METIS may leave parts empty, never too many.
    assignment = anchored(np.asarray(parts), m, t, settings.anchor_weight, context.rng("assignment"))
    tier = Tier("coarse", random_codebook(m, d, "xavier", context.generator("codebook")), assignment)
    model = build_model(context, TieredEmbedding(layout_of(context), [tier]), settings.layers)
    fixed = train_phase(context.within(0.5), model, settings.training(), "fixed")
    training = settings.training(fixed_epochs=0, updating_epochs=settings.epochs)
    updating = train_phase(context, model, training, "updating", tier=CoarseConfig(m=m, t=t))
    return fitted(model, [{**fixed, "m": m, "t": t, "d": d}, updating])


_GRID = {**GRADIENT_SPACE, "d": (32, 64, 128, 256), "t": (1, 2, 3)}
SYSTEMS = (System("legcf", "LEGCF", "Liang et al. 2024 (SIGIR)", LegcfSettings(), train, _GRID),)
