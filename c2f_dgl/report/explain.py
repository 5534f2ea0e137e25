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
from c2f_dgl.graph.neighbourhood import ItemFilter
from c2f_dgl.graph.propagate import node_norm
from c2f_dgl.model import Recommender
from c2f_dgl.serving.csr import Csr

# Numbers held at once: pairs of user and history item x d.
_BLOCK = 2**23


@dataclass(frozen=True)
class Explanations:
    """The largest contributions of history items to some scores.

    Parameters
    ----------
    items : ndarray, shape (users, k, n), int64
        History items with the largest contributions, largest first; -1 where the history is shorter than n.
    contributions : ndarray, shape (users, k, n), float32
        Theirs; 0 where there is none.
    history : ndarray, shape (users, k), float32
        Sum over all items of the history.
    """

    items: np.ndarray
    contributions: np.ndarray
    history: np.ndarray


@torch.no_grad()
def explanations(
    model: Recommender, scorer: Scorer, train: sp.csr_matrix, users: np.ndarray, items: np.ndarray, n: int
) -> Explanations:
    """Explain the scores of `items` for `users`.

    Parameters
    ----------
    model : Recommender
    scorer : Scorer
        Of that model.
    train : csr_matrix, shape (n_users, n_items)
        The training interactions, the graph's.
    users : ndarray, shape (users,), int64
    items : ndarray, shape (users, k), int64
        Recommended to each of them.
    n : int
        History items kept for each score.
    """
    histories, weights = _history(model, train, users)
    messages, targets = (x.float().cpu().numpy() for x in (_sent_by_items(model), scorer.items))
    contributions = _sent_by_history(histories, weights, messages, targets, items)
    if scorer.filter is not None and scorer.filter_weight:
        plain = replace(scorer, filter=None).scores(torch.as_tensor(users, device=scorer.users.device)).cpu().numpy()
        said = _said_by_history(scorer.filter.term, histories, items)
        contributions *= ((1 - scorer.filter_weight) * _precision(plain))[histories.rows, None]
        contributions += (scorer.filter_weight * _precision(scorer.filter.scores(users)))[histories.rows, None] * said
    return _largest(contributions, histories.rows, histories.columns, len(users), n)


def _sent_by_history(
    histories: Csr, weights: np.ndarray, messages: np.ndarray, targets: np.ndarray, items: np.ndarray
) -> np.ndarray:
    """What history items add to scores through propagation.

    Parameters
    ----------
    histories : Csr, n x n_items
    weights : array, shape (n_entries,)
        d_u^(-1/2) A_uj d_j^(-1/2) of each entry.
    messages, targets : arrays, shape (n_items, d)
        G and the scaled h of the items.
    items : int array, shape (n, k)
        Scored for each user.

    Returns
    -------
    float64 array, shape (n_entries, k)
    """
    out = np.empty((len(weights), items.shape[1]))
    step = max(1, _BLOCK // messages.shape[1])
    for start in range(0, len(weights), step):
        some = slice(start, start + step)
        sent = weights[some, None] * messages[histories.columns[some]]
        # One scored item at a time: k x fewer numbers at once than all of them.
        for column in range(items.shape[1]):
            wanted = targets[items[histories.rows[some], column]]
            out[some, column] = np.einsum("nd,nd->n", sent, wanted, dtype=np.float64)
    return out


def _said_by_history(term: ItemFilter, histories: Csr, items: np.ndarray) -> np.ndarray:
    """What history items add to filter scores of `items` (n, k): float64 (n_entries, k)."""
    columns = [term.contributions(histories.columns, scored[histories.rows]) for scored in items.T]
    return np.stack(columns, axis=1) if columns else np.zeros((len(histories.columns), 0))


def _precision(scores: np.ndarray) -> np.ndarray:
    """1 / standard deviation of each row of `scores` (n, m), 0 where it is 0: float64 (n,)."""
    deviation = scores.std(axis=1, dtype=np.float64)
    return np.divide(1.0, deviation, out=np.zeros_like(deviation), where=deviation > 0)


def _sent_by_items(model: Recommender) -> Tensor:
    """D^(-1/2) G of the items (n_items x d): one propagation with a layer less and the weights of the others."""
    layers, betas, ranked = model.propagation.n_layers, model.propagation.layer_weights, model.roles.ranked
    if layers == 0:
        return torch.zeros_like(model.engine.all_nodes()[ranked])
    rest = tuple(betas[1:]) if betas is not None else (1.0 / (layers + 1),) * layers
    shorter = replace(model.propagation, n_layers=layers - 1, layer_weights=rest)
    sent = shorter(model.graph, model.embedding, model.embedding.codebooks())[ranked]
    return sent * _norm(model, ranked).to(sent)[:, None]


def _history(model: Recommender, train: sp.csr_matrix, users: np.ndarray) -> tuple[Csr, np.ndarray]:
    """The histories of `users`, and d_u^(-1/2) A_uj of each entry."""
    source, target = (ends.cpu().numpy() for ends in model.graph.edges(etype=model.roles.target))
    weight = model.graph.edges[model.roles.target].data["weight"].cpu().numpy()
    edges = sp.csr_matrix((weight, (source, target)), shape=train.shape)[users]
    histories = Csr(edges.indptr.astype(np.int64), edges.indices.astype(np.int64), edges.shape[1])
    norm = _norm(model, model.roles.query).cpu().numpy()[users]
    return histories, norm[histories.rows] * edges.data


def _norm(model: Recommender, node_type: str) -> Tensor:
    """D^(-1/2) as the model propagates with it."""
    importance = model.propagation.importance
    return node_norm(model.graph, node_type, None if importance is None else importance.factors())


def _largest(contributions: np.ndarray, rows: np.ndarray, history: np.ndarray, n_users: int, n: int) -> Explanations:
    """The n largest of each user's contributions (pairs x k), for each of the k columns."""
    k = contributions.shape[1]
    items = np.full((n_users, k, n), -1, dtype=np.int64)
    kept = np.zeros((n_users, k, n), dtype=np.float32)
    total = np.zeros((n_users, k), dtype=np.float32)
    starts = np.searchsorted(rows, np.arange(n_users))
    for column in range(k):
        order = np.lexsort((-contributions[:, column], rows))
        place = np.arange(len(rows)) - starts[rows]
        first = place < n
        items[rows[first], column, place[first]] = history[order[first]]
        kept[rows[first], column, place[first]] = contributions[order[first], column]
        total[:, column] = np.bincount(rows, weights=contributions[:, column], minlength=n_users)
    return Explanations(items, kept, total)
