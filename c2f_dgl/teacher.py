"""What a device model is made from: items of a trained model whose sum over a history is its user.

    u = sum over j in h of  w_j X_j,      s_i = t_i (u . X_i) + sum over j in h of  v_j G_ji

Where users are composed from their items by propagation alone (`fast`, `best`) this is the trained model, up to a
factor of the user: low-pass layer weights come in equal pairs, so that H of items is p(B^T B) S E and that of users
B p(B^T B) S E. Elsewhere a map of the items' embeddings is fitted that comes nearest to it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse as sp
import torch

from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import compare
from c2f_dgl.graph.hetero import exponent_of
from c2f_dgl.graph.item_filter import GraphFilter
from c2f_dgl.graph.neighbourhood import largest_of_rows
from c2f_dgl.model import Recommender
from c2f_dgl.serving import Csr, Neighbours
from c2f_dgl.serving.codes import degree_levels, level_means
from c2f_dgl.training.search import sampled_rows

# Users and what is composed from their items differ by less than this share where they are the same up to rounding.
_EXACT = 1e-3
_RIDGE = 1e-3

# Weights of the neighbours that are tried, over that which the model mixes its filter by.
_MIXES = tuple(2.0**power for power in np.arange(-3, 4))
_MIXED_USERS, _CHOOSING_USERS = 256, 2_000


@dataclass(frozen=True, eq=False)
class Teacher:
    """Items of a trained model, the popular first.

    Attributes
    ----------
    items : float32 array, shape (n_items, d)
        X.
    history_weight, item_weight : float64 arrays, shape (n_items,)
        w and t.
    degree_level : uint8 array, shape (n_items,)
        Popularity.
    order : int array, shape (n_items,)
        Items of the split in the order of the rows.
    exact : bool
        Whether it ranks as the trained model does.
    neighbours : csr_matrix, shape (n_items, n_items), optional
        G, row i of which holds the j.
    neighbour_history_weight : float64 array, shape (n_items,), optional
        v.
    """

    items: np.ndarray
    history_weight: np.ndarray
    item_weight: np.ndarray
    degree_level: np.ndarray
    order: np.ndarray
    exact: bool
    neighbours: sp.csr_matrix | None = None
    neighbour_history_weight: np.ndarray | None = None

    def weighted(self) -> Teacher:
        """The same with each item's weight in a history in its vector: w = 1, and t over what was w."""
        w = self.history_weight
        items, ones = self.items * w[:, None], np.ones(len(w))
        return replace(self, items=items.astype(np.float32), history_weight=ones, item_weight=self.item_weight / w)

    def nearest(self, k: int) -> Neighbours | None:
        """The k neighbours of each item that say most; None without any."""
        if self.neighbours is None or self.neighbour_history_weight is None or k < 1:
            return None
        g, v, n_items = self.neighbours, self.neighbour_history_weight, len(self.items)
        rows = np.repeat(np.arange(n_items), np.diff(g.indptr))
        kept = largest_of_rows(rows, (g.data * v[g.indices]).astype(np.float32), k)
        weights = Csr.from_counts(np.bincount(rows[kept], minlength=n_items), g.indices[kept], n_items)
        return Neighbours.stored(weights, g.data[kept], level_means(self.degree_level, v))


def teacher_of(model: Recommender, split: Split) -> Teacher:
    """The teacher of a device model.

    Parameters
    ----------
    model : Recommender
    split : Split
        The data it was trained on; a filter's weight is chosen on its validation part.
    """
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
    exact = bias is None and np.linalg.norm(composed - users) <= _EXACT * np.linalg.norm(users)
    if not exact:
        items = items @ _map(composed, users)
    level = degree_levels(degrees)
    order = np.argsort(-level.astype(np.int64), kind="stable")
    teacher = Teacher(items.astype(np.float32), history_weight, item_weight, level, np.arange(len(items)), bool(exact))
    if model.readout.filter is not None and model.readout.filter_weight:
        teacher = _with_neighbours(teacher, model.readout.filter, model.readout.filter_weight, split)
    return _ordered(teacher, order)


def _map(composed: np.ndarray, users: np.ndarray) -> np.ndarray:
    """M^(1/2) (d, d) with ``composed @ M`` next to ``users``, both (n, d): M by ridge, then its positive part."""
    gram = composed.T @ composed
    ridge = _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    found = np.linalg.solve(gram + ridge + np.finfo(np.float64).tiny * np.eye(len(gram)), composed.T @ users)
    values, vectors = np.linalg.eigh((found + found.T) / 2)
    return vectors * np.sqrt(values.clip(min=0))


def _with_neighbours(teacher: Teacher, term: GraphFilter, weight: float, split: Split) -> Teacher:
    """With a filter as neighbours.

    The model standardises both of a user's scores before it mixes them; here all users have one weight.
    """
    g, v = term.term.weights, term.term.history_weight
    composed = split.train @ (teacher.items * teacher.history_weight[:, None])

    def parts(users: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        plain = (composed[users] @ teacher.items.T) * teacher.item_weight
        return torch.as_tensor(plain), torch.as_tensor(term.scores(users)).double()

    some = np.flatnonzero(split.train.getnnz(axis=1))
    some = np.random.default_rng(0).permutation(some)[:_MIXED_USERS]
    spreads = [part.std(dim=1).clamp_min(1e-300) for part in parts(some)]
    usual = float((spreads[0] / spreads[1]).median()) * weight / max(1 - weight, 0.01)

    def variants(users: torch.Tensor) -> Iterator[torch.Tensor]:
        plain, said = parts(users.cpu().numpy())
        for mix in _MIXES:
            yield plain + mix * usual * said

    relevant = sampled_rows(split.valid, _CHOOSING_USERS, 0)
    figures = compare(variants, split.train, relevant, "ndcg@20", torch.device("cpu"))
    mix = usual * _MIXES[int(np.argmax(figures))]
    return replace(teacher, neighbours=(mix * g).T.tocsr(), neighbour_history_weight=v)


def _ordered(teacher: Teacher, order: np.ndarray) -> Teacher:
    near, v = teacher.neighbours, teacher.neighbour_history_weight
    return replace(
        teacher,
        items=teacher.items[order],
        history_weight=teacher.history_weight[order],
        item_weight=teacher.item_weight[order],
        degree_level=teacher.degree_level[order],
        order=order,
        neighbours=None if near is None else near[order][:, order],
        neighbour_history_weight=None if v is None else v[order],
    )
