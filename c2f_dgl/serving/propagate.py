"""Propagation over users, items and tiers in numpy: the equations of `c2f_dgl.graph.propagate`, column by column.

    H(l+1) = D^(-1/2) A' D^(-1/2) H(l)         (Eq. 5, 20; D_u^(-a) of users and D_i^(-b) of items)
    H      = sum_l  beta_l H(l)                (Eq. 6, 21)

The last step of every layer is a sum over neighbours, so H of a node is a sum over its neighbours too:

    H_u = beta_0 H_u(0) + norm_u sum_j A'_uj norm_j G_j,    G_j = sum_{l >= 1} beta_l H_j(l-1).

The *messages* G are what explanations and fold-in are made of.

Everything is float64 inside: a low-pass filter's layers cancel to a thousandth of their size. Features are held with
one row per embedding column, so that the vector a sparse product reads at random stays in cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.learned import ENTITY_TYPES, Learned, soft_threshold

Features = dict[str, np.ndarray]

# Embedding columns propagated at once.
_COLUMN_BLOCK = 32

# Degrees up to this are those of links to meta nodes that are not to disturb a filter.
_LINKED = 1e-20

# Lengths below which what a column of length one adds to those before it is noise.
_RIDGE, _DEPENDENT = 1e-14, 1e-13


@dataclass(frozen=True, eq=False)
class Relation:
    """Weighted edges from one node type to another, by destination.

    Attributes
    ----------
    source, destination : str
    edges : Csr
        Sources of each destination.
    weights : float64 array, shape (n_edges,), optional
        Ones where it is None.
    """

    source: str
    destination: str
    edges: Csr
    weights: np.ndarray | None = None

    def sums(self, x: np.ndarray) -> np.ndarray:
        """A' x: (width, n_destinations) from (width, n_sources)."""
        out = np.zeros((len(x), self.edges.n_rows))
        reached = np.flatnonzero(self.edges.counts)
        if len(reached) == 0:
            return out
        starts = self.edges.pointers[reached]
        for column, target in zip(x, out, strict=True):
            values = column[self.edges.columns]
            if self.weights is not None:
                values *= self.weights
            target[reached] = np.add.reduceat(values, starts)
        return out

    def degrees(self) -> np.ndarray:
        """Summed weights of each destination's edges."""
        return self.sums(np.ones((1, self.edges.n_columns)))[0]


@dataclass(frozen=True, eq=False)
class Graph:
    """All relations of a model, and D^(-1/2) of each node type (0 for isolated nodes)."""

    relations: tuple[Relation, ...]
    norms: Mapping[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Propagated:
    """What propagation gives.

    Attributes
    ----------
    embeddings : dict of node type to float32 array, shape (n, d)
        H, before the items' scale.
    messages : dict of node type to float32 array, shape (n, d)
        G.
    norms : mapping of node type to float64 array, shape (n,)
        D^(-1/2).
    entity_atoms : float64 array, shape (m, d), or None
        The first codebook as entities are composed from it.
    gate_change : float64 array, shape (m, d), or None
        What the gate after every layer adds to a first-tier node, summed over layers: entities get S of it on top.
    """

    embeddings: Features
    messages: Features
    norms: Mapping[str, np.ndarray]
    entity_atoms: np.ndarray | None = None
    gate_change: np.ndarray | None = None


def build_graph(learned: Learned, interactions: Csr) -> Graph:
    """The heterograph: interactions both ways, and every tier's links both ways.

    Parameters
    ----------
    learned : Learned
    interactions : Csr, n_users x n_items
    """
    by_item = interactions.transposed
    sizes = {"user": interactions.n_rows, "item": interactions.n_columns} | {t.name: t.size for t in learned.tiers}
    weights = by_user_weights = by_item_weights = None
    if learned.prenormalise:
        root = interactions.counts[interactions.rows] * by_item.counts[interactions.columns]
        weights = 1.0 / np.sqrt(root.astype(np.float64))
        by_user_weights, by_item_weights = weights, weights[np.argsort(interactions.columns, kind="stable")]
    relations = [
        Relation("item", "user", interactions, by_user_weights),
        Relation("user", "item", by_item, by_item_weights),
    ]
    for tier in learned.tiers:
        for parent, indices in tier.indices.items():
            relations += _links(parent, tier.name, indices, tier.weights[parent], tier.size, learned.link_scale)
    norms = {}
    for node_type, size in sizes.items():
        degree = np.zeros(size)
        for relation in relations:
            if relation.destination == node_type:
                degree += relation.degrees()
        norms[node_type] = inverse_power(degree, learned.exponents.get(node_type, 0.5))
    return Graph(tuple(relations), norms)


def inverse_power(degree: np.ndarray, exponent: float = 0.5) -> np.ndarray:
    """degree^(-exponent), 0 where the degree is 0; degree^(-1/2) where it is of links to meta nodes alone."""
    exponents = np.where(degree > _LINKED, exponent, 0.5)
    return np.where(degree > 0, np.where(degree > 0, degree, 1.0) ** -exponents, 0.0)


def propagate(learned: Learned, interactions: Csr, progress: Callable[[int, int], None] | None = None) -> Propagated:
    """H and G of every node.

    Parameters
    ----------
    learned : Learned
    interactions : Csr, n_users x n_items
        Training interactions.
    progress : callable, optional
        Called with the number of embedding columns done and of all.
    """
    graph = build_graph(learned, interactions)
    if learned.table is not None:
        d = learned.d
        table = {node_type: learned.table[node_type].T.astype(np.float64) for node_type in ENTITY_TYPES}

        def inputs(columns: slice) -> Features:
            return {node_type: x[columns] for node_type, x in table.items()}

        atoms, codebooks = None, []
    else:
        codebooks = active_codebooks(learned, interactions)
        d = codebooks[0].shape[1]
        atoms = entity_atoms(learned, [codebook.T for codebook in codebooks]).T

        def inputs(columns: slice) -> Features:
            return compose_inputs(learned, [codebook.T[columns] for codebook in codebooks])

    embeddings: Features = {t: np.empty((len(norm), d), dtype=np.float32) for t, norm in graph.norms.items()}
    messages: Features = {t: np.empty((len(norm), d), dtype=np.float32) for t, norm in graph.norms.items()}
    gated = learned.gate_layers and len(learned.tiers) > 1
    gate_change = np.zeros((learned.tiers[0].size, d)) if gated else None
    for start in range(0, d, _COLUMN_BLOCK):
        columns = slice(start, min(start + _COLUMN_BLOCK, d))
        h, g, change = _propagate_columns(learned, graph, inputs(columns))
        for node_type in graph.norms:
            embeddings[node_type][:, columns] = h[node_type].T
            messages[node_type][:, columns] = g[node_type].T
        if gate_change is not None:
            gate_change[:, columns] = change.T
        if progress is not None:
            progress(columns.stop, d)
    return Propagated(embeddings, messages, graph.norms, atoms, gate_change)


def compose_inputs(learned: Learned, codebooks: Sequence[np.ndarray]) -> Features:
    """H(0) per node type, (width, n), from one active codebook a tier, each (width, m_k) (Eq. 12, 17-19)."""
    refined = _refine(learned, codebooks)
    atoms = codebooks[0] if learned.entity_input == "unrefined" else refined[0]
    features = {parent: learned.tiers[0].compose(parent, atoms) for parent in ENTITY_TYPES}
    if learned.activation == "tanh":
        features = {parent: np.tanh(x) for parent, x in features.items()}
        refined[1:] = [np.tanh(x) for x in refined[1:]]
    return features | {tier.name: x for tier, x in zip(learned.tiers, refined, strict=True)}


def entity_atoms(learned: Learned, codebooks: Sequence[np.ndarray]) -> np.ndarray:
    """The first codebook as entities are composed from it, (width, m)."""
    return codebooks[0] if learned.entity_input == "unrefined" else _refine(learned, codebooks)[0]


def active_codebooks(learned: Learned, interactions: Csr) -> list[np.ndarray]:
    """Every tier's codebook as the propagation sees it, (m_k, d) in float64: unwhitened and soft-thresholded."""
    codebooks = []
    for tier in learned.tiers:
        codebook = tier.codebook.astype(np.float64)
        if tier.whitened:
            codebook = whitening(first_basis(learned, interactions)) @ codebook
        codebooks.append(soft_threshold(codebook, tier.threshold))
    return codebooks


def first_basis(learned: Learned, interactions: Csr) -> np.ndarray:
    """Item rows of M, the propagated coefficients of the first tier without those below, (n_items, m) in float64."""
    learned = replace(learned, tiers=learned.tiers[:1])
    graph, size = build_graph(learned, interactions), learned.tiers[0].size
    basis = np.empty((interactions.n_columns, size))
    for start in range(0, size, _COLUMN_BLOCK):
        columns = np.arange(start, min(start + _COLUMN_BLOCK, size))
        block = [np.zeros((len(columns), tier.size)) for tier in learned.tiers]
        block[0][np.arange(len(columns)), columns] = 1.0
        h, _, _ = _propagate_columns(learned, graph, compose_inputs(learned, block))
        basis[:, columns] = h["item"].T
    return basis


def whitening(basis: np.ndarray) -> np.ndarray:
    """W (m, m) with orthonormal ``basis @ W``: nothing learned, so it is rebuilt and never stored.

    With D the diagonal that gives the columns of `basis` (n_items, m) length one and R the triangular factor of their
    QR decomposition (over 1e-14 times the identity), W = D R^(-1). A column that depends on those before it gets
    what it lacks to be zero on items.
    """
    lengths = np.linalg.norm(basis, axis=0)
    scale = 1 / np.where(lengths <= np.finfo(np.float64).tiny, 1.0, lengths)
    identity = np.eye(len(scale))
    factor = np.asarray(np.linalg.qr(np.concatenate([basis * scale, _RIDGE * identity]), mode="r"))
    factor = factor * np.where(factor.diagonal() < 0, -1.0, 1.0)[:, None]
    dependent = factor.diagonal() < _DEPENDENT
    factor[dependent] = identity[dependent]
    return scale[:, None] * np.linalg.inv(factor)


def _propagate_columns(learned: Learned, graph: Graph, features: Features) -> tuple[Features, Features, np.ndarray]:
    """H, G and the gate's summed change, for some columns: all (width, n)."""
    betas = learned.layer_weights
    layer = {node_type: features[node_type] for node_type in graph.norms}
    h = {node_type: betas[0] * x for node_type, x in layer.items()}
    g = {node_type: np.zeros_like(x) for node_type, x in layer.items()}
    change = np.zeros(1)
    for beta in betas[1:]:
        summed = {node_type: np.zeros_like(x) for node_type, x in layer.items()}
        scaled = {node_type: graph.norms[node_type] * x for node_type, x in layer.items()}
        for relation in graph.relations:
            summed[relation.destination] += relation.sums(scaled[relation.source])
        for node_type, x in layer.items():
            g[node_type] += beta * x
        layer = {node_type: graph.norms[node_type] * x for node_type, x in summed.items()}
        if learned.gate_layers and len(learned.tiers) > 1:
            layer, difference = _gate(learned, layer)
            change = change + beta * difference
        for node_type, x in layer.items():
            h[node_type] += beta * x
    return h, g, change


def _gate(learned: Learned, features: Features) -> tuple[Features, np.ndarray]:
    """The published code's gate after a layer (see `TieredEmbedding.gate_layers`), and its change of the first tier."""
    gated, tiers = dict(features), learned.tiers
    for k in range(len(tiers) - 1, 0, -1):
        finer, name = tiers[k], tiers[k - 1].name
        below = finer.compose(name, gated[finer.name])
        gated[name] = (1 - finer.gate) * (features[name] - below) + finer.gate * below
    change = gated[tiers[0].name] - features[tiers[0].name]
    for parent in ENTITY_TYPES:
        gated[parent] = features[parent] + tiers[0].compose(parent, change)
    return gated, change


def _refine(learned: Learned, codebooks: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Each codebook mixed with those of the tiers below it (Eq. 17)."""
    refined = list(codebooks)
    for k in range(len(refined) - 2, -1, -1):
        finer = learned.tiers[k + 1]
        below = finer.compose(learned.tiers[k].name, refined[k + 1])
        refined[k] = (1 - finer.gate) * codebooks[k] + finer.gate * below
    return refined


def _links(
    parent: str, tier: str, indices: np.ndarray, weights: np.ndarray, n_nodes: int, scale: float
) -> tuple[Relation, Relation]:
    """S of one parent type as edges up (tier to parent) and down (parent to tier)."""
    rows, slots = np.nonzero(weights)
    columns, values = indices[rows, slots].astype(np.int64), weights[rows, slots].astype(np.float64) * scale
    up = Csr.from_counts(np.bincount(rows, minlength=len(indices)), columns, n_nodes)
    order = np.argsort(columns, kind="stable")
    down = Csr.from_counts(np.bincount(columns, minlength=n_nodes), rows[order], len(indices))
    return Relation(tier, parent, up, values), Relation(parent, tier, down, values[order])
