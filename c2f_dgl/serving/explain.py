"""Where a score comes from: contributions of a user's neighbours that add up to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from c2f_dgl.serving.learned import Learned

if TYPE_CHECKING:
    import pandas as pd


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
            nodes = below.reshape(len(nodes), -1)
            share = (share[:, :, None] * entries).reshape(len(nodes), -1)
        found.append((np.where(share > 0, nodes, -1), share))
    return found


def _normalised(weights: np.ndarray) -> np.ndarray:
    sums = weights.sum(axis=1, keepdims=True)
    return np.divide(weights, sums, out=np.zeros_like(weights), where=sums > 0)
