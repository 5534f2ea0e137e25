"""Settings and steps that the systems with a search phase share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from c2f_dgl.baselines.fitting import fit, layout_of, train_phase
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings
from c2f_dgl.baselines.tables import MaskedValues, MatrixTable
from c2f_dgl.model import Recommender
from c2f_dgl.training.sampler import TripletSampler

# Tables with few values an entity want larger steps than full ones.
SEARCH_SPACE: Mapping[str, Sequence[Any]] = {**GRADIENT_SPACE, "lr": (5e-3, 1e-2, 2e-2, 5e-2)}


class SearchSettings(GradientSettings):
    """A search, then retraining with what it found.

    One negative a positive and larger batches than the systems of one phase have: the same triplets an epoch would
    make a search and a retraining cost several of their trainings.
    """

    lr: float = Field(2e-2, gt=0, description="Adam's learning rate where what was found is retrained")
    l2: float = Field(1e-4, ge=0, description="lambda of Eq. 9, on the input embeddings of the batch, a mean")
    batch_size: int = Field(4096, ge=1, description="triplets a step")
    negatives: int = Field(1, ge=1, description="unseen items drawn for each positive")
    epochs: int = Field(300, ge=1, description="most epochs of the retraining")
    search_epochs: int = Field(30, ge=1, description="epochs of the search")
    search_lr: float = Field(1e-2, gt=0, description="Adam's learning rate in the search")
    std: float = Field(0.1, gt=0, description="standard deviation of the embeddings at the start")

    def rate(self, distance: float, n_interactions: int) -> float:
        """Learning rate, over `search_lr`, that takes a parameter by `distance` in the search where nothing resists."""
        steps_an_epoch = -(-n_interactions // max(1, self.batch_size // self.negatives))
        return distance / (self.search_lr * (self.search_epochs * steps_an_epoch))


def search_phase(
    context: Context[Any],
    model: Recommender[Any],
    phase: str,
    *,
    share: float = 0.5,
    epochs: int | None = None,
    **how: Any,
) -> dict[str, Any]:
    """`train_phase` of a search, with `how` passed on: validated once, at its end, in which state the model is left.

    It takes `epochs`, or ``settings.search_epochs``, and at most a `share` of the time that is left.
    """
    settings = context.settings
    epochs = settings.search_epochs if epochs is None else epochs
    training = settings.training(fixed_epochs=epochs, evaluate_every=epochs, lr=settings.search_lr)
    return train_phase(context, model, training, phase, keep="last", deadline=context.share_of_time(share), **how)


def retrain(
    context: Context[Any], mask: Tensor, start: Tensor, searched: list[dict[str, Any]], share: float = 1.0
) -> Fitted:
    """Train the entries of a mask (N x d, bool) from a start (N x d); see `fit`."""
    return fit(context, MatrixTable(layout_of(context), MaskedValues(mask, start)), "retrain", searched, share)


def degrees(context: Context[Any]) -> Tensor:
    """Training interactions of every entity (N,), float32."""
    train = context.split.train
    return torch.as_tensor(np.concatenate([train.getnnz(axis=1), train.getnnz(axis=0)]), dtype=torch.float32)


def heldout_sampler(context: Context[Any], negatives: int) -> TripletSampler:
    """Triplets of validation interactions; negatives are in neither part."""
    split = context.split
    return TripletSampler(split.valid, negatives, seen=(split.train + split.valid).tocsr())
