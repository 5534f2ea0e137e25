"""From an embedding layer to a trained model with the package's own propagation, loss, sampler, trainer and readout."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from c2f_dgl.baselines.system import SELECT, Context, Fitted, phase_record
from c2f_dgl.baselines.tables import MaskedValues, MatrixTable
from c2f_dgl.config.schema import CoarseConfig, TrainingConfig
from c2f_dgl.engines import Propagation
from c2f_dgl.graph.hetero import entity_layout
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.model import Layer, Readout, Recommender, item_degrees
from c2f_dgl.tiers.embedding import ComputedTable, EmbeddingLayer
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import Triplets, TripletSampler
from c2f_dgl.training.stage import Objective, Stage, StageProgress, train_stage

Phase = dict[str, Any]  # the record of one, for `Fitted.phases`


def layout_of(context: Context[Any]) -> NodeLayout:
    """Users, then items."""
    return entity_layout(context.graph)


def degrees(context: Context[Any]) -> Tensor:
    """Training interactions of every entity (N,), float32."""
    train = context.split.train
    return torch.as_tensor(np.concatenate([train.getnnz(axis=1), train.getnnz(axis=0)]), dtype=torch.float32)


def heldout_sampler(context: Context[Any], negatives: int) -> TripletSampler:
    """Triplets of validation interactions; negatives are in neither part."""
    split = context.split
    return TripletSampler(split.valid, negatives, seen=(split.train + split.valid).tocsr())


def build_model(context: Context[Any], embedding: Layer, n_layers: int) -> Recommender[Layer]:
    """LightGCN on an embedding layer: mean over layers, dot products, no biases (Eq. 5-8)."""
    embedding.to(context.device)
    readout = Readout(item_degrees(context.graph), context.split.n_users).to(context.device)
    return Recommender(context.graph, embedding, Propagation(n_layers), readout)


def bpr_loss(model: Recommender[Any], batch: Triplets, l2: float) -> Tensor:
    """BPR with L2 of a batch (see `batch_loss`), for which a computed table is computed once."""
    embedding = model.embedding
    with embedding.computed_once() if isinstance(embedding, ComputedTable) else nullcontext():
        return batch_loss(model, batch, "bpr", l2)


def train_phase(
    context: Context[Any],
    model: Any,  # a Recommender, or another module with `scorer` and `count_values`
    training: TrainingConfig,  # see `GradientSettings.training`
    phase: str = "train",  # seeds its batches
    *,
    tier: CoarseConfig | None = None,  # how an assignment is updated, for ``training.updating_epochs``
    objective: Objective | None = None,  # (model, batch) to the loss of a step; `bpr_loss` by default
    parameters: Sequence[nn.Parameter] | None = None,  # what Adam updates; by default all that require a gradient
    after_step: Callable[[], None] | None = None,
    after_epoch: Callable[[int], bool | None] | None = None,  # of the number of epochs done; True ends the phase
    keep: Literal["best", "last"] = "best",  # which state, by validation, the model is left in
) -> Phase:
    """Train a model in place with the package's trainer until the context's deadline; the phase's record."""
    progress, best_state, best_record = StageProgress(), dict[str, Tensor](), Phase()

    def keep_best(record: dict[str, Any]) -> None:
        best_state.update({name: value.detach().clone() for name, value in model.state_dict().items()})
        best_record.update(record)

    def stop() -> bool:
        ended = after_epoch is not None and after_epoch(progress.epoch)
        return bool(ended) or context.is_late

    started = time.perf_counter()
    with context.reporter.stage(phase):
        train_stage(
            model,
            Stage(phase, training, tier, context.seed, SELECT),
            context.split,
            context.reporter,
            progress,
            keep_best,
            after_step=after_step,
            stop=stop,
            objective=objective or (lambda model, batch: bpr_loss(model, batch, training.l2)),
            parameters=parameters,
        )
    if keep == "best":
        model.load_state_dict(best_state)
    return {
        **phase_record(phase, started, epochs=progress.epoch, best_epoch=best_record["epoch"]),
        "valid": best_record["valid"],
        "stopped_by_time": context.is_late,
    }


def search_phase(
    context: Context[Any], model: Recommender[Any], phase: str, *, epochs: int | None = None, **how: Any
) -> Phase:
    """`train_phase` of a search: validated once, after `epochs` (``settings.search_epochs``), in its last state."""
    settings = context.settings
    epochs = settings.search_epochs if epochs is None else epochs
    training = settings.training(fixed_epochs=epochs, evaluate_every=epochs, lr=settings.search_lr)
    return train_phase(context, model, training, phase, keep="last", **how)


def fitted(model: Any, phases: Sequence[Phase]) -> Fitted:
    """The model as it is now, with what it counts."""
    counts = model.count_values()
    del counts["total"]
    return Fitted(model.scorer(), counts, model.count_bytes(), phases)


def fit(
    context: Context[Any], embedding: EmbeddingLayer, phase: str = "train", searched: Sequence[Phase] = ()
) -> Fitted:
    """LightGCN on `embedding`, trained in one phase, after those that `searched` has the records of."""
    model = build_model(context, embedding, context.settings.layers)
    return fitted(model, [*searched, train_phase(context, model, context.settings.training(), phase)])


def retrain(context: Context[Any], mask: Tensor, start: Tensor, searched: Sequence[Phase]) -> Fitted:
    """`fit` of the entries of a mask (N x d, bool) from a start (N x d)."""
    return fit(context, MatrixTable(layout_of(context), MaskedValues(mask, start)), "retrain", searched)
