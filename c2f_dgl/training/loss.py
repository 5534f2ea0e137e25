"""Losses on a batch of triplets."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from c2f_dgl.model import Recommender
from c2f_dgl.training.sampler import Triplets


def bpr(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean of -ln sigma(y_ui+ - y_ui-) over all triplets (Eq. 9); positive (n,), negative (n, k)."""
    return F.softplus(negative - positive[:, None]).mean()


def softmax(positive: Tensor, negative: Tensor) -> Tensor:
    """Mean cross-entropy of each positive against its own negatives; positive (n,), negative (n, k)."""
    return (torch.logsumexp(torch.cat([positive[:, None], negative], dim=1), dim=1) - positive).mean()


LOSSES = {"bpr": bpr, "softmax": softmax}


def batch_loss(model: Recommender, batch: Triplets, loss: str, l2: float) -> Tensor:
    """Loss of a batch, with L2 on the input embeddings (Eq. 9), both means over triplets.

    A positive's k triplets share its user and item: their embeddings are computed once, k + 2 rows in place of 3 k.
    """
    device = next(model.parameters()).device
    users, positives, negatives = (
        torch.as_tensor(x, device=device) for x in (batch.users, batch.positives, batch.negatives)
    )
    n, k = negatives.shape
    items = torch.cat([positives[:, None], negatives], dim=1)
    rows = torch.cat([users, items.flatten() + model.embedding.layout.offset("item")])
    h_users, h_items = model.engine.entities(rows).split([n, n * (k + 1)])
    scores = model.readout.scores(
        h_users[:, None], model.readout.items(h_items.view(n, k + 1, -1), items), users[:, None], items
    )
    value = LOSSES[loss](scores[:, 0], scores[:, 1:])
    if l2 == 0:
        return value
    squares = model.embedding.entity_rows(rows).square().sum(dim=1)
    user_squares, item_squares = squares[:n], squares[n:].view(n, k + 1)
    return value + l2 * (user_squares + item_squares[:, 0] + item_squares[:, 1:].mean(dim=1)).mean()
