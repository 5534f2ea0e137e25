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
    """Mean cross-entropy of each positive against its negatives; positive (n,), negative (n, k)."""
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
    shared, n = batch.shared, len(users)
    # Columns of items that each user is scored on one by one; shared negatives are one matrix product instead.
    items = positives[:, None] if shared else torch.cat([positives[:, None], negatives], dim=1)
    every_item = torch.cat([items.flatten(), negatives.flatten()]) if shared else items.flatten()
    rows = torch.cat([users, every_item + model.embedding.layout.offset(model.roles.ranked)])
    h_users, h_items = model.engine.entities(rows).split([n, len(every_item)])
    h_items = model.readout.items(h_items, every_item)
    own = h_items[: items.numel()].view(*items.shape, -1)
    scores = model.readout.scores(h_users[:, None], own, users[:, None], items)
    if shared:
        common = model.readout.score_matrix(h_users, h_items[n:], users, negatives[0])
        value = LOSSES[loss](scores[:, 0], common)
    else:
        value = LOSSES[loss](scores[:, 0], scores[:, 1:])
    if l2 == 0:
        return value
    squares = model.embedding.entity_rows(rows).square().sum(dim=1)
    user_squares, positive_squares, negative_squares = (
        squares[:n],
        squares[n : n + items.numel()].view(items.shape)[:, 0],
        squares[2 * n :] if shared else squares[n:].view(items.shape)[:, 1:],
    )
    return value + l2 * ((user_squares + positive_squares).mean() + negative_squares.mean())
