"""Losses on a batch of triplets."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from c2f_dgl.model import Recommender
from c2f_dgl.training.sampler import Triplets


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -ln sigma(y_ui+ - y_ui-) over all triplets (Eq. 9); positive (n,), negative (n, k)."""
    return F.softplus(negative - positive[:, None]).mean()


def softmax(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean cross-entropy of each positive against its negatives; positive (n,), negative (n, k)."""
    return (torch.logsumexp(torch.cat([positive[:, None], negative], dim=1), dim=1) - positive).mean()


LOSSES = {"bpr": bpr, "softmax": softmax}


def batch_loss(model: Recommender[Any], batch: Triplets, loss: str, l2: float) -> Tensor:
    """Loss of a batch, with L2 on the input embeddings (Eq. 9), both means over triplets."""
    device = next(model.parameters()).device
    users, positives, negatives = (
        torch.as_tensor(x, device=device).long() for x in (batch.users, batch.positives, batch.negatives)
    )
    items_from = model.embedding.layout.offset(model.roles.ranked)
    if batch.shared:
        value = LOSSES[loss](*_shared_scores(model, users, positives, negatives[0], items_from))
    else:
        items = torch.cat([positives[:, None], negatives], dim=1)
        scores = model.readout.scores(model.engine.scores(users, items + items_from), users, items)
        value = LOSSES[loss](scores[:, 0], scores[:, 1:])
    if l2 == 0:
        return value
    rows = torch.cat([users, positives + items_from, negatives.flatten() + items_from])
    weights = value.new_full((len(rows),), 1 / len(users))
    weights[2 * len(users) :] = 1 / negatives.numel()
    return value + l2 * model.embedding.sum_of_squares(rows, weights)


def _shared_scores(
    model: Recommender, users: Tensor, positives: Tensor, negatives: Tensor, items_from: int
) -> tuple[Tensor, Tensor]:
    """Scores of each user with its positive (n,), and with the batch's common negatives (n, k): one product."""
    rows = torch.cat([users, positives + items_from, negatives + items_from])
    h_users, h_positives, h_negatives = model.engine.entities(rows).split([len(users), len(users), len(negatives)])
    positive_dots = (h_users * h_positives).sum(-1, keepdim=True)
    negative_scores = model.readout.scores(h_users @ h_negatives.T, users, negatives[None])
    return model.readout.scores(positive_dots, users, positives[:, None])[:, 0], negative_scores
