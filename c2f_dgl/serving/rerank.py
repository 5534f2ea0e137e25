"""Ranked lists put into another order: plain functions from lists to lists.

Lists are items (n, depth), in rows, and scores (n, depth), best first, -inf where there is no item: what `top_items`
gives, and `ServingModel.recommend_rows` with ``model.items.find`` of its ids. Rank more items than are shown.
"""

from __future__ import annotations

import numpy as np

from c2f_dgl.errors import InputError

Lists = tuple[np.ndarray, np.ndarray]


def diversified(items: np.ndarray, scores: np.ndarray, vectors: np.ndarray, k: int, weight: float = 0.3) -> Lists:
    """The k items of each list by maximal marginal relevance (Carbonell and Goldstein 1998), in the order chosen.

    Each next item has the largest ``(1 - weight) relevance - weight similarity``: its score, scaled to 0 to 1 over the
    list, and its largest cosine with an item chosen before. It keeps its score.

    Parameters
    ----------
    vectors : ndarray, shape (n_items, d)
        Of items, e.g. ``model.codes.take(np.arange(model.n_items))`` of a `ServingModel`; n x depth of them are held.
    weight : float
        0 leaves the order, 1 looks at similarity alone.
    """
    if not 0 <= weight <= 1:
        raise InputError(f"weight = {weight}", expected="0 to 1")
    k, there, row = min(k, items.shape[1]), np.isfinite(scores), np.arange(len(items))
    least = np.where(there, scores, np.inf).min(axis=1, initial=np.inf)[:, None]
    span = np.where(there, scores, -np.inf).max(axis=1, initial=-np.inf)[:, None] - least
    relevance = np.where(there, (scores - least) / np.where(span > 0, span, 1.0), 0.0)
    shown = vectors[np.where(there, items, 0)].astype(np.float64)
    shown /= np.maximum(np.linalg.norm(shown, axis=2, keepdims=True), np.finfo(np.float64).tiny)
    left, nearest = there.copy(), np.zeros(items.shape)
    places, values = np.empty((len(items), k), dtype=np.int64), np.empty((len(items), k))
    for rank in range(k):
        gain = np.where(left, (1 - weight) * relevance - weight * nearest, -np.inf)
        places[:, rank] = best = np.argmax(gain, axis=1)
        values[:, rank] = np.where(left[row, best], scores[row, best], -np.inf)
        left[row, best] = False
        cosines = np.einsum("nmd,nd->nm", shown, shown[row, best])
        nearest = cosines if rank == 0 else np.maximum(nearest, cosines)
    return np.take_along_axis(items, places, axis=1), values


def capped(items: np.ndarray, scores: np.ndarray, groups: np.ndarray, most: int) -> Lists:
    """The best items of each group in a list, at most so many; `groups` (n_items,), int, is -1 for no group, no cap."""
    if most < 1:
        raise InputError(f"most = {most}", expected="1 or more")
    group = groups[items]
    free = ~np.isfinite(scores) | (group < 0)
    order = np.argsort(group, axis=1, kind="stable")  # within a group the better first
    ordered = np.take_along_axis(group, order, axis=1)
    place = np.arange(items.shape[1])
    starts = np.where(np.diff(ordered, axis=1, prepend=np.iinfo(np.int64).min) != 0, place, 0)
    rank = np.empty_like(order)
    np.put_along_axis(rank, order, place - np.maximum.accumulate(starts, axis=1), axis=1)
    return resorted(items, np.where(free | (rank < most), scores, -np.inf))


def boosted(items: np.ndarray, scores: np.ndarray, boosts: np.ndarray) -> Lists:
    """With a boost of each item (n_items,) added, in standard deviations of a list's scores; below 0 it demotes."""
    there = np.isfinite(scores)
    n = np.maximum(there.sum(axis=1), 1)[:, None]
    centred = np.where(there, scores, 0.0)
    centred = np.where(there, centred - centred.sum(axis=1, keepdims=True) / n, 0.0)
    spread = np.sqrt((centred**2).sum(axis=1, keepdims=True) / n)
    return resorted(items, np.where(there, scores + boosts[items] * spread, -np.inf))


def popularity_boosts(degrees: np.ndarray, strength: float) -> np.ndarray:
    """Boosts (n_items,) against popularity: ``-strength`` for each standard deviation of log(1 + interactions)."""
    logs = np.log1p(degrees)
    return -strength * (logs - logs.mean()) / (logs.std() or 1.0)


def pinned(items: np.ndarray, scores: np.ndarray, pins: np.ndarray) -> Lists:
    """With some items (int, (p,)) first in every list, in their order and with its best score, to the same depth."""
    pins = np.asarray(pins, dtype=np.int64)
    n, depth = items.shape
    best = scores.max(axis=1, initial=-np.inf)[:, None]
    top = np.repeat(np.where(np.isfinite(best), best, 0.0), len(pins), axis=1)
    rest, of_rest = resorted(items, np.where(np.isin(items, pins), -np.inf, scores))
    shown = np.concatenate([np.tile(pins, (n, 1)), rest], axis=1)
    return shown[:, :depth], np.concatenate([top, of_rest], axis=1)[:, :depth]


def resorted(items: np.ndarray, scores: np.ndarray) -> Lists:
    """By score, of equal ones in the order they are in."""
    places = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(items, places, axis=1), np.take_along_axis(scores, places, axis=1)
