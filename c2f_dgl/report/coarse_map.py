"""The map of a run's coarse nodes: what is inside of each, and where it stands.

Nodes stand near where their propagated embeddings are alike, and not on top of each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.manifold import TSNE

from c2f_dgl.data.splits import Split
from c2f_dgl.model import Recommender
from c2f_dgl.tiers.tiered import Tier

# What a map is drawn on, in units of its drawing.
MAP_WIDTH, MAP_HEIGHT = 640.0, 480.0

# Most that is collected; a page may show less.
_MOST_NODES, _MOST_ITEMS = 600, 30

# Share of the map's area that circles cover together.
_COVER = 0.34
_GAP = 1.5
_STEPS = 120
# t-SNE says nothing about fewer points: they stand on their first two principal components.
_FEW = 10


@dataclass(frozen=True)
class CoarseNode:
    """A coarse node on the map and what is inside: the items whose largest weight is on it."""

    number: int  # its atom
    x: float
    y: float
    radius: float
    n_items: int
    n_users: int
    popularity: float  # mean training interactions of the items
    items: list[Any]  # ids of the most popular of them
    fine: list[tuple[int, float]]  # fine atoms that refine it and their weights, largest first


def coarse_nodes(model: Recommender, tiers: list[Tier], split: Split) -> list[CoarseNode]:
    """The coarse nodes with the most items; none of a run without tiers."""
    if not tiers:
        return []
    coarse, roles = tiers[0], model.roles
    owner, layout = _owners(coarse), model.embedding.layout
    user_owner, item_owner = owner[layout.rows(roles.query)], owner[layout.rows(roles.ranked)]
    degree, owned = split.train.getnnz(axis=0), item_owner >= 0
    n_users = np.bincount(user_owner[user_owner >= 0], minlength=coarse.size)
    n_items = np.bincount(item_owner[owned], minlength=coarse.size)
    popularity = np.bincount(item_owner[owned], degree[owned], coarse.size) / np.maximum(n_items, 1)
    shown = np.sort(np.argsort(-n_items, kind="stable")[:_MOST_NODES])
    embeddings = model.engine.all_nodes()[coarse.name].float().numpy()[shown]
    centres, radii = place_circles(embeddings, n_items[shown], MAP_WIDTH, MAP_HEIGHT)
    # Items by node, the most popular first; items without a node come first of all.
    order = np.lexsort((-degree, item_owner))
    starts = np.searchsorted(item_owner[order], np.arange(coarse.size + 1))
    return [
        CoarseNode(
            atom,
            float(x),
            float(y),
            float(radius),
            int(n_items[atom]),
            int(n_users[atom]),
            float(popularity[atom]),
            split.item_ids[order[starts[atom] : starts[atom + 1]][:_MOST_ITEMS]].tolist(),
            _links(tiers[1], atom) if len(tiers) > 1 else [],
        )
        for atom, (x, y), radius in zip(shown.tolist(), centres, radii, strict=True)
    ]


def _owners(tier: Tier) -> np.ndarray:
    """The atom with the largest weight of each row (rows,), -1 where all weights are 0 or there is no slot."""
    if tier.indices.shape[1] == 0:
        return np.full(len(tier.indices), -1)
    weights, indices = tier.weights.numpy(), tier.indices.numpy()
    slot = weights.argmax(axis=1)[:, None]
    return np.where(weights.max(axis=1) > 0, np.take_along_axis(indices, slot, axis=1)[:, 0], -1)


def _links(tier: Tier, row: int) -> list[tuple[int, float]]:
    weights, slots = tier.weights[row].sort(descending=True)
    links = zip(tier.indices[row][slots].tolist(), weights.tolist(), strict=True)
    return [(atom, weight) for atom, weight in links if weight > 0]


def place_circles(
    embeddings: np.ndarray, sizes: np.ndarray, width: float, height: float
) -> tuple[np.ndarray, np.ndarray]:
    """Centres (m, 2) and radii (m,) of one circle per row of `embeddings` (m, d), inside a width x height box.

    Directions, not lengths, are laid out (t-SNE, seeded); overlaps are then pushed apart, which moves centres by
    about a radius. Areas are in proportion to `sizes` (m,), down to a smallest circle.
    """
    box = np.array([width, height])
    unit = np.sqrt(_COVER * width * height / (np.pi * max(sizes.sum(), 1)))
    radii = np.clip(unit * np.sqrt(sizes), min(width, height) / 120, min(width, height) / 9)
    centres = _flat(embeddings)
    span = np.ptp(centres, axis=0)
    middle = centres.min(axis=0) + span / 2
    centres = box / 2 + (centres - middle) / np.where(span > 0, span, 1) * (box - 2 * radii.max())
    return _apart(centres, radii, box), radii


def _flat(embeddings: np.ndarray) -> np.ndarray:
    """Points (m, 2), float64, of embeddings (m, d)."""
    lengths = np.linalg.norm(embeddings, axis=1, keepdims=True)
    unit = embeddings / np.where(lengths > 0, lengths, 1)
    n = len(unit)
    if n < _FEW:
        left, scales, _ = np.linalg.svd(unit - unit.mean(axis=0), full_matrices=False)
        flat = np.zeros((n, 2))
        flat[:, : len(scales)] = (left * scales)[:, :2]
        return flat
    # A start from principal components would divide by zero where all embeddings are equal.
    layout = TSNE(2, perplexity=min(30, (n - 1) / 3), init="random", random_state=0)
    return layout.fit_transform(unit).astype(np.float64)


def _apart(centres: np.ndarray, radii: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Push overlapping pairs apart, half way each, until few are left."""
    rng = np.random.default_rng(0)
    wanted = radii[:, None] + radii[None, :] + _GAP
    lowest, highest = radii[:, None] + 1, box - radii[:, None] - 1
    for _ in range(_STEPS):
        centres = centres + rng.normal(scale=1e-3, size=centres.shape)  # equal centres have no direction to part in
        apart = centres[:, None, :] - centres[None, :, :]
        distance = np.sqrt((apart**2).sum(axis=2)) + np.eye(len(centres)) * 1e9
        overlap = np.maximum(wanted - distance, 0)
        if not overlap.any():
            break
        centres = centres + (apart / distance[..., None] * overlap[..., None]).sum(axis=1) * 0.35
        centres = np.clip(centres, lowest, highest)
    return np.clip(centres, lowest, highest)
