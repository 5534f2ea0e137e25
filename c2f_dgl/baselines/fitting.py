"""From an embedding layer to a trained model with the package's own propagation, loss, sampler, trainer and readout."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal, Protocol

import torch
from torch import nn

from c2f_dgl.baselines.system import Context, Fitted
from c2f_dgl.config.schema import CoarseConfig, TrainingConfig
from c2f_dgl.embedding import ComputedTable, EmbeddingLayer
from c2f_dgl.engines import Propagation
from c2f_dgl.graph.hetero import entity_layout
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.model import Layer, Readout, Recommender, item_degrees
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import Triplets
from c2f_dgl.training.stage import Objective, Stage, StageProgress, Trainable, train_stage

SELECT = "ndcg@20"


class TrainableModule(Trainable, Protocol):
    """A module that can be trained and ranks."""

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All tensors, by name."""

    def load_state_dict(self, state_dict: dict[str, torch.Tensor]) -> Any:
        """Put them back."""


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


def train_phase(
    context: Context[Any],
    model: TrainableModule,
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
    """Train a model in place with the package's trainer, to its best state on validation.

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
        (model, batch of `Triplets`) to the loss of a step; `c2f_dgl.training.loss.batch_loss` by default.
    parameters : sequence of Parameter, optional
        What the trainer's Adam updates; all parameters that require a gradient by default.
    after_step : callable, optional
        Called after each step: for what is updated otherwise, e.g. a controller with its own optimiser.
    after_epoch : callable, optional
        Called with the number of epochs done, after the epoch's validation if it has one; True ends the phase.
    keep : {"best", "last"}
        Leave the model in its best state on validation, or in its last: for a phase whose result is a search.
    deadline : float, optional
        `time.monotonic` at which to stop; the context's by default.

    Returns
    -------
    dict
        The record of the phase, for `Fitted.phases`.
    """
    deadline = context.deadline if deadline is None else deadline
    progress, best_state, best_record = StageProgress(), dict[str, torch.Tensor](), dict[str, Any]()

    def keep_best(record: dict[str, Any]) -> None:
        best_state.update({name: value.detach().clone() for name, value in model.state_dict().items()})
        best_record.update(record)

    def stop() -> bool:
        asked = after_epoch is not None and after_epoch(progress.epoch)
        return bool(asked) or (deadline is not None and time.monotonic() >= deadline)

    if objective is None:
        objective = lambda model, batch: _usual_loss(model, batch, training)

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
            objective=objective,
            parameters=parameters,
        )
    if keep == "best":
        model.load_state_dict(best_state)
    return {
        "phase": phase,
        "seconds": round(time.perf_counter() - started, 2),
        "epochs": progress.epoch,
        "best_epoch": best_record["epoch"],
        "valid": best_record["valid"],
        "stopped_by_time": deadline is not None and time.monotonic() >= deadline,
    }


def _usual_loss(model: Recommender[Any], batch: Triplets, training: TrainingConfig) -> torch.Tensor:
    """`batch_loss`, for which a computed table is computed once."""
    embedding = model.embedding
    with embedding.computed_once() if isinstance(embedding, ComputedTable) else nullcontext():
        return batch_loss(model, batch, training.loss, training.l2)


def fitted(model: Recommender[Any], phases: Sequence[dict[str, Any]]) -> Fitted:
    """The model as it is now, with what it counts."""
    counts = model.count_values()
    del counts["total"]
    return Fitted(model.scorer(), counts, model.count_bytes(), phases)


def fit(context: Context[Any], embedding: EmbeddingLayer) -> Fitted:
    """All there is to a system of one phase: LightGCN on `embedding`, trained with the context's gradient settings."""
    model = build_model(context, embedding, context.settings.layers)
    return fitted(model, [train_phase(context, model, context.settings.training())])
