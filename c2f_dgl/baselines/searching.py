"""Settings and steps that the systems with a search phase share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from c2f_dgl.baselines.fitting import build_model, fitted, layout_of, train_phase
from c2f_dgl.baselines.masked import MaskedTable
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings
from c2f_dgl.model import Recommender
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import Triplets, TripletSampler

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

    def search_steps(self, n_interactions: int) -> int:
        """Steps of the search."""
        return self.search_epochs * -(-n_interactions // max(1, self.batch_size // self.negatives))


class PruningSettings(SearchSettings):
    """A search by learned soft thresholds sigmoid(s) (see `c2f_dgl.baselines.thresholds`)."""

    d: int = Field(64, ge=1, description="d, the width of what is pruned")
    search_lr: float = Field(3e-3, gt=0, description="Adam's learning rate while pruning")
    search_l2: float = Field(1e-2, ge=0, description="l2 while pruning")
    start_logit: float = Field(-24.0, lt=0, description="s at the start: nothing is pruned")
    pull: float = Field(1e-3, gt=0, description="strength of the pull on s upwards, against the loss")

    def rate(self, n_interactions: int) -> float:
        """Learning rate of s over that of weights: what takes s from its start to 0 in `search_epochs`, unresisted.

        The thresholds are then negligible most of the time, while embeddings form, and rise at the end.
        """
        return -self.start_logit / (self.search_lr * self.search_steps(n_interactions))


def search_loss(model: Recommender[Any], batch: Triplets, l2: float) -> Tensor:
    """BPR with L2 of a batch (see `c2f_dgl.training.loss.batch_loss`), the table computed once."""
    with model.embedding.computed_once():
        return batch_loss(model, batch, "bpr", l2)


def search_phase(
    context: Context[Any],
    model: Recommender[Any],
    phase: str,
    *,
    share: float = 0.5,
    epochs: int | None = None,
    **how: Any,
) -> dict[str, Any]:
    """`train_phase` of a search: validated once, at its end, in which state the model is left; returns its record.

    Parameters
    ----------
    context : Context
        Of `SearchSettings`.
    model : Recommender
    phase : str
    share : float
        Of the time that is left: the most it may take.
    epochs : int, optional
        In place of ``settings.search_epochs``.
    **how
        What else `train_phase` takes: objective, parameters, after_step, after_epoch.
    """
    settings = context.settings
    epochs = settings.search_epochs if epochs is None else epochs
    training = settings.training(fixed_epochs=epochs, evaluate_every=epochs, lr=settings.search_lr)
    return train_phase(context, model, training, phase, keep="last", deadline=context.share_of_time(share), **how)


def degrees(context: Context[Any]) -> Tensor:
    """Training interactions of every entity (N,), float32."""
    train = context.split.train
    return torch.as_tensor(np.concatenate([train.getnnz(axis=1), train.getnnz(axis=0)]), dtype=torch.float32)


def judged(context: Context[Any], most: int) -> sp.csr_matrix:
    """Validation interactions of at most `most` of the users that have some, drawn at random."""
    valid = context.split.valid
    users = np.flatnonzero(valid.getnnz(axis=1))
    if len(users) <= most:
        return valid
    keep = np.zeros(valid.shape[0], dtype=valid.dtype)
    keep[context.rng("judges").choice(users, size=most, replace=False)] = 1
    some = (sp.diags(keep) @ valid).tocsr()
    some.eliminate_zeros()
    return some


def heldout_sampler(context: Context[Any], negatives: int) -> TripletSampler:
    """Triplets of validation interactions; negatives are in neither part."""
    split = context.split
    return TripletSampler(split.valid, negatives, seen=(split.train + split.valid).tocsr())


def retrain(
    context: Context[Any], mask: Tensor, start: Tensor, searched: list[dict[str, Any]], share: float = 1.0
) -> Fitted:
    """Train the entries of a mask (N x d, bool) alone from a start (N x d); the phases before it come first.

    It may take a `share` of the time that is left.
    """
    model = build_model(context, MaskedTable(layout_of(context), mask, start), context.settings.layers)
    record = train_phase(context, model, context.settings.training(), "retrain", deadline=context.share_of_time(share))
    return fitted(model, [*searched, record])
