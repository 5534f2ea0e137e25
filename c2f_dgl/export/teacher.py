"""What a device model is made from: items of a trained model whose sum over a history is its user.

    u = sum over j in h of  w_j X_j,      s_i = t_i (u . X_i) + sum over j in h of  v_j G_ji

Where users are composed from their items by propagation alone (`fast`, `best`) this is the trained model, up to a
factor of the user: low-pass layer weights come in equal pairs, so that H of items is p(B^T B) S E and that of users
B p(B^T B) S E. Elsewhere a map of the items' embeddings is fitted that comes nearest to it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.data.splits import Split, check_part
from c2f_dgl.export.trial import NeighbourTerm, Trial
from c2f_dgl.graph.hetero import exponent_of
from c2f_dgl.graph.item_filter import GraphFilter
from c2f_dgl.model import Recommender
from c2f_dgl.serving import Neighbours
from c2f_dgl.serving.codes import degree_levels

# Users and what is composed from their items differ by less than this share where they are the same up to rounding.
_EXACT = 1e-3
_RIDGE = 1e-3

# Weights of the neighbours that are tried, over that which the model mixes its filter by.
_MIXES = tuple(2.0**power for power in np.arange(-3, 4))
_SPREAD_USERS = 256


@dataclass(frozen=True, eq=False)
class Teacher:
    """Items of a trained model, the popular first."""

    items: np.ndarray  # X (n_items, d), float32
    history_weight: np.ndarray  # w (n_items,), float64
    item_weight: np.ndarray  # t (n_items,), float64
    degree_level: np.ndarray  # popularity (n_items,), uint8
    order: np.ndarray  # items of the split in the order of the rows (n_items,)
    exact: bool  # whether it ranks as the trained model does
    neighbours: NeighbourTerm | None = None

    def weighted(self) -> Teacher:
        """The same with each item's weight in a history in its vector: w = 1, and t over what was w."""
        w = self.history_weight
        items = (self.items * w[:, None]).astype(np.float32)
        return replace(self, items=items, history_weight=np.ones(len(w)), item_weight=self.item_weight / w)

    def nearest(self, k: int) -> Neighbours | None:
        """The k neighbours of each item that add most to scores; None without any."""
        return None if self.neighbours is None else self.neighbours.largest(k).stored(self.degree_level)


def teacher_of(model: Recommender, split: Split) -> Teacher:
    """The teacher of a device model, from the data it was trained on: a filter's weight is chosen on its validation.

    `InputError` where nothing validates.
    """
    check_part(split, "valid")
    roles = model.roles
    features = {name: x.double().cpu().numpy() for name, x in model.engine.all_nodes().items()}
    users, items = features[roles.query], features[roles.ranked]
    a, b = (exponent_of(model.graph, name) for name in (roles.query, roles.ranked))
    degrees = split.train.getnnz(axis=0)
    history_weight = np.maximum(degrees, 1.0) ** -b
    item_weight = (degrees + 1.0) ** model.readout.item_scale
    norm = sp.diags(np.maximum(split.train.getnnz(axis=1), 1.0) ** -a)
    if (bias := model.readout.bias) is not None:
        item_bias = bias.detach().double().cpu().numpy()[len(users) :]
        items = np.column_stack([items, item_bias / item_weight])
        users = np.column_stack([users, np.ones(len(users))])
    composed = norm @ (split.train @ (items * history_weight[:, None]))
    exact = bias is None and bool(np.linalg.norm(composed - users) <= _EXACT * np.linalg.norm(users))
    if not exact:
        items = items @ _map(composed, users)
    items, neighbours = items.astype(np.float32), None
    level = degree_levels(degrees)
    order = np.argsort(-level.astype(np.int64), kind="stable")
    if model.readout.filter is not None and model.readout.filter_weight:
        composed = split.train @ (items * history_weight[:, None])
        g = _mixed(composed, items, item_weight, model.readout.filter, model.readout.filter_weight, split)
        neighbours = NeighbourTerm(g.T.tocsr()[order][:, order], model.readout.filter.term.history_weight[order])
    return Teacher(
        items[order], history_weight[order], item_weight[order], level[order], order, exact, neighbours=neighbours
    )


def _map(composed: np.ndarray, users: np.ndarray) -> np.ndarray:
    """M^(1/2) (d, d) with ``composed @ M`` next to ``users``, both (n, d): M by ridge, then its positive part."""
    gram = composed.T @ composed
    ridge = _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    solved = np.linalg.solve(gram + ridge + np.finfo(np.float64).tiny * np.eye(len(gram)), composed.T @ users)
    values, vectors = np.linalg.eigh((solved + solved.T) / 2)
    return vectors * np.sqrt(values.clip(min=0))


def _mixed(
    users: np.ndarray, items: np.ndarray, item_weight: np.ndarray, term: GraphFilter, weight: float, split: Split
) -> sp.csr_matrix:
    """Weights of a filter, multiplied by what ranks best on validation beside ``(users @ items.T) * item_weight``.

    The model standardises both of a user's scores before it mixes them; here all users have one weight.
    """

    def scores_of(block: Tensor) -> tuple[Tensor, Tensor]:
        rows = block.cpu().numpy()
        plain = (users[rows] @ items.T) * item_weight
        return torch.as_tensor(plain), torch.as_tensor(term.scores(rows)).double()

    def mixes_of(ratio: float) -> list[float]:
        usual = ratio * weight / max(1 - weight, 0.01)
        return [usual * mix for mix in _MIXES]

    sample = np.random.default_rng(0).permutation(np.flatnonzero(split.train.getnnz(axis=1)))[:_SPREAD_USERS]
    _, mix = Trial(item_weight, split.train, split.valid, 0).best_mix(scores_of, sample, mixes_of)
    return mix * term.term.weights
