"""Why an item is recommended: what each item of the user's history contributes to the score.

H is a sum over layers (Eq. 6, 21) and every layer of a user's embedding a sum over neighbours (Eq. 5, 20), so the
score of item i for user u contains, for each item j of the history, exactly

    d_u^(-1/2) A_uj d_j^(-1/2)  G_j . h_i,      G_j = sum over l >= 1 of  beta_l h_j^(l-1).

What is left of the score is the user's own input embedding, meta nodes the user is linked to, and biases. With a
filter term (see `Scorer`) each part is divided by its standard deviation and weighted as the score is, the filter's
contribution of j is its entry r_uj d_j^(-1/2) G_ji, and the means are left over too.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.evaluation.ranking import Scorer
from c2f_dgl.graph.propagate import node_norm
from c2f_dgl.model import Recommender

# Numbers held at once: pairs of user and history item x d.
_BLOCK = 2**25


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
    sent = _sent_by_items(model)
    rows, history, weight = _history(model, train, users)
    targets = torch.as_tensor(items)
    pieces = [torch.zeros(0, items.shape[1], dtype=sent.dtype)]
    scale, filtered = _filter_part(scorer, users, items, rows.numpy(), history.numpy())
    for some in torch.arange(len(rows)).split(max(1, _BLOCK // sent.shape[1])):
        messages = weight[some, None] * sent[history[some]]
        # One recommended item at a time: k x fewer numbers at once than all of them.
        columns = [(messages * scorer.items[targets[rows[some], c]]).sum(dim=1) for c in range(items.shape[1])]
        pieces.append(torch.stack(columns, dim=1))
    contributions = torch.cat(pieces).cpu().numpy() * scale[rows.numpy(), None] + filtered
    return _largest(contributions, rows.numpy(), history.numpy(), len(users), n)


def _filter_part(
    scorer: Scorer, users: np.ndarray, items: np.ndarray, rows: np.ndarray, history: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Factor on each user's embedding scores, and the filter's contributions (pairs x k); 1 and 0 without a filter."""
    if scorer.filter is None or scorer.filter_weight == 0:
        return np.ones(len(users)), np.zeros((len(rows), items.shape[1]))
    plain = replace(scorer, filter=None).scores(torch.as_tensor(users, device=scorer.users.device)).cpu().numpy()
    own, term = (scores.std(axis=1) for scores in (plain, scorer.filter.scores(users)))
    weight = scorer.filter_weight
    own, term = (np.divide(w, x, out=np.zeros(len(x)), where=x > 0) for w, x in ((1 - weight, own), (weight, term)))
    said = np.asarray(scorer.filter.history[users[rows], history]).ravel() * term[rows]
    entries = [np.asarray(scorer.filter.neighbours[history, items[rows, c]]).ravel() for c in range(items.shape[1])]
    return own, said[:, None] * np.stack(entries, axis=1)


def _sent_by_items(model: Recommender) -> Tensor:
    """D^(-1/2) G of the items (n_items x d): one propagation with a layer less and the weights of the others."""
    layers, betas, ranked = model.propagation.n_layers, model.propagation.layer_weights, model.roles.ranked
    if layers == 0:
        return torch.zeros_like(model.engine.all_nodes()[ranked])
    rest = tuple(betas[1:]) if betas is not None else (1.0 / (layers + 1),) * layers
    shorter = replace(model.propagation, n_layers=layers - 1, layer_weights=rest)
    sent = shorter(model.graph, model.embedding, model.embedding.codebooks())[ranked]
    return sent * _norm(model, ranked).to(sent)[:, None]


def _history(model: Recommender, train: sp.csr_matrix, users: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    """The edges from `users`, sorted by user: number in `users`, item, and d_u^(-1/2) A_uj."""
    source, target = (ends.cpu().numpy() for ends in model.graph.edges(etype=model.roles.target))
    weight = model.graph.edges[model.roles.target].data["weight"].cpu().numpy()
    edges = sp.csr_matrix((weight, (source, target)), shape=train.shape)[users].tocoo()
    norm = _norm(model, model.roles.query).cpu().numpy()[users]
    rows, history = (torch.as_tensor(ends, dtype=torch.int64) for ends in (edges.row, edges.col))
    return rows, history, torch.as_tensor(norm[edges.row] * edges.data)


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
