"""From an embedding layer to a trained model with the package's own propagation, loss, sampler, trainer and readout."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import torch
from torch import nn

from c2f_dgl.baselines.system import Context, Fitted, phase_record
from c2f_dgl.config.schema import CoarseConfig, TrainingConfig
from c2f_dgl.engines import Propagation
from c2f_dgl.graph.hetero import entity_layout
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.model import Layer, Readout, Recommender, item_degrees
from c2f_dgl.tiers.embedding import ComputedTable, EmbeddingLayer
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import Triplets
from c2f_dgl.training.stage import Objective, Stage, StageProgress, train_stage

SELECT = "ndcg@20"


def layout_of(context: Context[Any]) -> NodeLayout:
    """Users, then items."""
    return entity_layout(context.graph)


def build_model(context: Context[Any], embedding: Layer, n_layers: int) -> Recommender[Layer]:
    """LightGCN on an embedding layer: mean over layers, dot products, no biases (Eq. 5-8)."""
    if not isinstance(embedding, nn.Module):
        raise TypeError("an embedding layer is a torch.nn.Module")
    embedding.to(context.device)
    readout = Readout(item_degrees(context.graph), context.split.n_users).to(context.device)
    return Recommender(context.graph, embedding, Propagation(n_layers), readout)


def bpr_loss(model: Recommender[Any], batch: Triplets, l2: float) -> torch.Tensor:
    """BPR with L2 of a batch (see `batch_loss`), for which a computed table is computed once."""
    embedding = model.embedding
    with embedding.computed_once() if isinstance(embedding, ComputedTable) else nullcontext():
        return batch_loss(model, batch, "bpr", l2)


def train_phase(
    context: Context[Any],
    model: Any,
    training: TrainingConfig,
    phase: str = "train",
    *,
    tier: CoarseConfig | None = None,
    objective: Objective | None = None,
    parameters: Sequence[nn.Parameter] | None = None,
    after_step: Callable[[], None] | None = None,
    after_epoch: Callable[[int], bool | None] | None = None,
    keep: Literal["best", "last"] = "best",
    deadline: float | None = None,
) -> dict[str, Any]:
    """Train a model in place with the package's trainer; returns the phase's record, for `Fitted.phases`.

    Parameters
    ----------
    model : Recommender, or any module with `scorer` and `count_values`
    training : TrainingConfig
        See `GradientSettings.training`.
    phase : str
        Names the phase in records and seeds its batches.
    tier : CoarseConfig, optional
        How the assignment of a model with one tier is updated, where ``training.updating_epochs`` asks for it.
    objective : callable, optional
        (model, batch of `Triplets`) to the loss of a step; `bpr_loss` by default.
    parameters : sequence of Parameter, optional
        What the trainer's Adam updates; all parameters that require a gradient by default.
    after_step : callable, optional
        Called after each step: for what is updated otherwise, e.g. a controller with its own optimiser.
    after_epoch : callable, optional
        Called with the number of epochs done, after the epoch's validation if it has one; True ends the phase.
    keep : {"best", "last"}
        Leave the model in its best state on validation, or in its last, for a search.
    deadline : float, optional
        `time.monotonic` at which to stop; the context's by default.
    """
    deadline = context.deadline if deadline is None else deadline
    progress, best_state, best_record = StageProgress(), dict[str, torch.Tensor](), dict[str, Any]()

    def keep_best(record: dict[str, Any]) -> None:
        best_state.update({name: value.detach().clone() for name, value in model.state_dict().items()})
        best_record.update(record)

    is_late = lambda: deadline is not None and time.monotonic() >= deadline

    def stop() -> bool:
        ended = after_epoch is not None and after_epoch(progress.epoch)
        return bool(ended) or is_late()

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
        "stopped_by_time": is_late(),
    }


def fitted(model: Recommender[Any], phases: Sequence[dict[str, Any]]) -> Fitted:
    """The model as it is now, with what it counts."""
    counts = model.count_values()
    del counts["total"]
    return Fitted(model.scorer(), counts, model.count_bytes(), phases)


def fit(
    context: Context[Any],
    embedding: EmbeddingLayer,
    phase: str = "train",
    searched: Sequence[dict[str, Any]] = (),
    share: float = 1.0,
) -> Fitted:
    """LightGCN on `embedding`, trained in a `share` of the time that is left; `searched`: records of phases before."""
    model = build_model(context, embedding, context.settings.layers)
    record = train_phase(context, model, context.settings.training(), phase, deadline=context.share_of_time(share))
    return fitted(model, [*searched, record])
