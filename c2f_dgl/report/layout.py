"""Where the coarse nodes stand on the map: near where their embeddings are alike, and not on top of each other."""

from __future__ import annotations

import numpy as np
from sklearn.manifold import TSNE

# Share of the map's area that circles cover together.
_COVER = 0.34
_GAP = 1.5
_STEPS = 120
# t-SNE says nothing about fewer points: they stand on their first two principal components.
_FEW = 10


def place_circles(
    embeddings: np.ndarray, sizes: np.ndarray, width: float, height: float
) -> tuple[np.ndarray, np.ndarray]:
    """Centres and radii of one circle per row of `embeddings`, inside a width x height box.

    Directions, not lengths, are laid out (t-SNE, seeded); overlaps are then pushed apart, which moves centres by
    about a radius.

    Parameters
    ----------
    embeddings : ndarray, shape (m, d)
    sizes : ndarray, shape (m,)
        Areas are in proportion to them, down to a smallest circle.

    Returns
    -------
    centres : ndarray, shape (m, 2), float64
    radii : ndarray, shape (m,), float64
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
    for _ in range(_STEPS):
        centres = centres + rng.normal(scale=1e-3, size=centres.shape)  # equal centres have no direction to part in
        apart = centres[:, None, :] - centres[None, :, :]
        distance = np.sqrt((apart**2).sum(axis=2)) + np.eye(len(centres)) * 1e9
        overlap = np.maximum(wanted - distance, 0)
        if not overlap.any():
            break
        centres = centres + (apart / distance[..., None] * overlap[..., None]).sum(axis=1) * 0.35
        centres = _inside(centres, radii, box)
    return _inside(centres, radii, box)


def _inside(centres: np.ndarray, radii: np.ndarray, box: np.ndarray) -> np.ndarray:
    return np.clip(centres, radii[:, None] + 1, box - radii[:, None] - 1)
