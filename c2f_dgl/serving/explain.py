"""Where a score comes from: contributions of a user's neighbours that add up to it.

H is a sum over layers (Eq. 6, 21) and every layer of a user's embedding a sum over neighbours (Eq. 5, 20), so the
score of item i for user u contains, for each item j of the history, exactly

    d_u^(-1/2) A_uj d_j^(-1/2)  G_j . h_i,      G_j = sum over l >= 1 of  beta_l h_j^(l-1).

What is left of it is the user's own input, meta-embeddings the user is linked to, and biases. With a filter term the
two scores are standardised: each part is divided by its score's deviation and weighted as that is, j adds its entry
r_uj d_j^(-1/2) G_ji of the filter, and the means are left over too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.item_filter import ItemFilter
from c2f_dgl.serving.learned import Learned
from c2f_dgl.serving.ranking import moments, reciprocal

if TYPE_CHECKING:
    import pandas as pd


# Numbers held at once: pairs of user and history item x d.
_BLOCK = 2**23


@dataclass(frozen=True, eq=False)
class Explanation:
    """Contributions to one score; ``contributions.sum()`` is the score.

    A user's embedding is the sum of what its neighbours in the graph send and of its own input, so a score is the sum
    of their dot products with the item. Rows are sorted by size of the contribution.

    Attributes
    ----------
    user, item : int or str
        External ids.
    score : float
    kinds : array of str, shape (n,)
        ``item`` (an item of the user's history), the first tier's name (a meta-embedding the user is linked to),
        ``input`` (the user's own), ``item bias``, ``rounding`` (of stored embeddings). With a
        filter term also ``filter`` (what an item of the history says through it) and ``mean``: each term's mean over
        all items, which is taken off.
    ids : object array, shape (n,)
        External id of a history item, number of a meta-embedding, None for the other kinds.
    contributions : float64 array, shape (n,)
    nodes : mapping of tier name to int64 array, shape (n, t)
        Meta-embeddings that compose each row, -1 in empty slots.
    groups : mapping of tier name to float64 array, shape (m,)
        The contributions by meta-embedding: each row's, shared out by the weights that compose it.
    ungrouped : mapping of tier name to float
        What belongs to no meta-embedding of the tier: bias, rounding, filter, mean, rows without an assignment. With
        it each group sums to the score.
    """

    user: Any
    item: Any
    score: float
    kinds: np.ndarray
    ids: np.ndarray
    contributions: np.ndarray
    nodes: Mapping[str, np.ndarray]
    groups: Mapping[str, np.ndarray]
    ungrouped: Mapping[str, float]

    def to_frame(self) -> pd.DataFrame:
        """The rows as a DataFrame: kind, id, contribution, and one column of node tuples a tier."""
        import pandas as pd

        frame = pd.DataFrame({"kind": self.kinds, "id": self.ids, "contribution": self.contributions})
        for name, nodes in self.nodes.items():
            frame[name] = [tuple(node for node in row if node >= 0) for row in nodes.tolist()]
        return frame

    def groups_frame(self, tier: str) -> pd.DataFrame:
        """Meta-embeddings of a tier with a contribution: node, contribution, largest first."""
        import pandas as pd

        group = self.groups[tier]
        nodes = np.flatnonzero(group)
        nodes = nodes[np.argsort(-np.abs(group[nodes]), kind="stable")]
        return pd.DataFrame({"node": nodes, "contribution": group[nodes]})


@dataclass(frozen=True, eq=False)
class Mixture:
    """A score with a filter term as ``own * score + term * filter - offset``, per user.

    Attributes
    ----------
    own, term, offset : float64 arrays, shape (n,)
    """

    own: np.ndarray
    term: np.ndarray
    offset: np.ndarray

    @classmethod
    def of(cls, scores: np.ndarray, filtered: np.ndarray, weight: float) -> Mixture:
        """From both scores of all items, (n, n_items), and the filter's weight."""
        (own_mean, own), (term_mean, term) = moments(scores), moments(filtered)
        own, term = (1 - weight) * reciprocal(own), weight * reciprocal(term)
        return cls(own, term, own * own_mean + term * term_mean)


def sent_by_history(
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


def said_by_history(term: ItemFilter, histories: Csr, items: np.ndarray) -> np.ndarray:
    """What history items add to filter scores of `items` (n, k): float64 (n_entries, k)."""
    columns = [term.contributions(histories.columns, scored[histories.rows]) for scored in items.T]
    return np.stack(columns, axis=1) if columns else np.zeros((len(histories.columns), 0))


def shares(learned: Learned, indices: np.ndarray, weights: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Meta-embeddings of every tier behind rows of S, and the share of each.

    Parameters
    ----------
    indices, weights : arrays, shape (n, t)
        Rows of the first tier's S.

    Returns
    -------
    list, one entry a tier, of (nodes, shares), both (n, t_k)
        Shares add up to 1 in a row, or to 0 where a row has no meta-embedding; nodes are -1 where the share is 0.
    """
    found = []
    nodes, share = indices.astype(np.int64), _normalised(weights.astype(np.float64))
    for k in range(len(learned.tiers)):
        if k:
            tier = learned.tiers[k]
            parent = learned.tiers[k - 1].name
            below, entries = tier.indices[parent][nodes], _normalised(tier.weights[parent].astype(np.float64))[nodes]
            wide = len(nodes), nodes.shape[1] * below.shape[2]  # not -1: there may be no rows
            nodes, share = below.reshape(wide), (share[:, :, None] * entries).reshape(wide)
        found.append((np.where(share > 0, nodes, -1), share))
    return found


def _normalised(weights: np.ndarray) -> np.ndarray:
    sums = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0)
