"""Why items are recommended to some users of a run: what the items of their histories add to the scores.

H is a sum over layers (Eq. 6, 21) and every layer of a user's embedding a sum over neighbours (Eq. 5, 20), so the
score of item i for user u contains, for each item j of the history, exactly

    d_u^(-1/2) A_uj d_j^(-1/2)  G_j . h_i,      G_j = sum over l >= 1 of  beta_l h_j^(l-1).

With a filter term both scores are standardised: each part is divided by its score's deviation and weighted as that is,
and j adds its entry r_uj d_j^(-1/2) G_ji of the filter.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.evaluation.ranking import Scorer
from c2f_dgl.graph.hetero import degree_norm
from c2f_dgl.model import Recommender
from c2f_dgl.serving import Csr

# Numbers held at once: pairs of user and history item x d.
_BLOCK = 2**23


@dataclass(frozen=True)
class Explanations:
    """The largest contributions of history items to the scores of k items for each user."""

    items: np.ndarray  # (users, k, n), int64: history items, largest first; -1 where the history is shorter than n
    contributions: np.ndarray  # (users, k, n), float32: theirs; 0 where there is none
    history: np.ndarray  # (users, k), float32: sum over all items of the history


@torch.no_grad()
def explanations(
    model: Recommender, scorer: Scorer, train: sp.csr_matrix, users: np.ndarray, items: np.ndarray, n: int
) -> Explanations:
    """The n largest parts of the scores of `items` (users, k), int64, for `users`, int64.

    `train` (n_users x n_items) has the graph's interactions, `scorer` is the model's.
    """
    histories, weights = _histories(model, train, users)
    contributions = _propagated(model, scorer, histories, weights, items)
    if scorer.filter is not None and scorer.filter_weight:
        plain = replace(scorer, filter=None).scores(torch.as_tensor(users, device=scorer.device)).cpu().numpy()
        scales = (1 - scorer.filter_weight) * _precision(plain)
        filter_scales = scorer.filter_weight * _precision(scorer.filter.scores(users))
        contributions *= scales[histories.rows, None]
        for rank, scored in enumerate(items.T):
            filtered = scorer.filter.term.contributions(histories.columns, scored[histories.rows])
            contributions[:, rank] += filter_scales[histories.rows] * filtered
    return _largest(contributions, histories, n)


def _histories(model: Recommender, train: sp.csr_matrix, users: np.ndarray) -> tuple[Csr, np.ndarray]:
    """The histories of `users`, and d_u^(-1/2) A_uj of each entry."""
    source, target = (ends.cpu().numpy() for ends in model.graph.edges(etype=model.roles.target))
    weight = model.graph.edges[model.roles.target].data["weight"].cpu().numpy()
    edges = sp.csr_matrix((weight, (source, target)), shape=train.shape)[users]
    histories = Csr(edges.indptr.astype(np.int64), edges.indices.astype(np.int64), edges.shape[1])
    norm = _norm(model, model.roles.query).cpu().numpy()[users]
    return histories, norm[histories.rows] * edges.data


def _propagated(
    model: Recommender, scorer: Scorer, histories: Csr, weights: np.ndarray, items: np.ndarray
) -> np.ndarray:
    """What history items add to scores of `items` (users, k) through propagation: float64 (n_entries, k)."""
    messages, targets = (x.float().cpu().numpy() for x in (_messages(model), scorer.items))
    out = np.empty((len(weights), items.shape[1]))
    step = max(1, _BLOCK // messages.shape[1])
    for start in range(0, len(weights), step):
        block = slice(start, start + step)
        sent = weights[block, None] * messages[histories.columns[block]]
        # One scored item at a time: k x fewer numbers at once than all of them.
        for rank, scored in enumerate(items.T):
            embeddings = targets[scored[histories.rows[block]]]
            out[block, rank] = np.einsum("nd,nd->n", sent, embeddings, dtype=np.float64)
    return out


def _messages(model: Recommender) -> Tensor:
    """D^(-1/2) G of the items (n_items x d): one propagation with a layer less and the weights of the others."""
    layers, betas, ranked = model.propagation.n_layers, model.propagation.layer_weights, model.roles.ranked
    if layers == 0:
        return torch.zeros_like(model.engine.all_nodes()[ranked])
    rest = tuple(betas[1:]) if betas is not None else (1.0 / (layers + 1),) * layers
    shorter = replace(model.propagation, n_layers=layers - 1, layer_weights=rest)
    sums = shorter(model.graph, model.embedding, model.embedding.codebooks())[ranked]
    return sums * _norm(model, ranked).to(sums)[:, None]


def _norm(model: Recommender, node_type: str) -> Tensor:
    """D^(-1/2) as the model propagates with it."""
    importance = model.propagation.importance
    return degree_norm(model.graph, node_type, None if importance is None else importance.factors())


def _precision(scores: np.ndarray) -> np.ndarray:
    """1 / standard deviation of each row of `scores` (n, m), 0 where it is 0: float64 (n,)."""
    deviation = scores.std(axis=1, dtype=np.float64)
    return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)


def _largest(contributions: np.ndarray, histories: Csr, n: int) -> Explanations:
    """The n largest contributions (n_entries, k) of each history, for each of the k columns."""
    shape, rows = (histories.n_rows, contributions.shape[1]), histories.rows
    items = np.full((*shape, n), -1, dtype=np.int64)
    largest, total = np.zeros((*shape, n), dtype=np.float32), np.zeros(shape, dtype=np.float32)
    place = np.arange(len(rows)) - histories.pointers[rows]
    first = place < n
    for rank, column in enumerate(contributions.T):
        order = np.lexsort((-column, rows))[first]
        items[rows[first], rank, place[first]] = histories.columns[order]
        largest[rows[first], rank, place[first]] = column[order]
        total[:, rank] = np.bincount(rows, weights=column, minlength=histories.n_rows)
    return Explanations(items, largest, total)
