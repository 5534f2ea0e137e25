"""Which few atoms compose a row: `c2f_dgl.tiers.assignment.pursuit` in numpy."""

from __future__ import annotations

import numpy as np

from c2f_dgl.serving.learned import compose

_ROW_BLOCK = 16_384


def pursuit(rows: np.ndarray, atoms: np.ndarray, t: int) -> tuple[np.ndarray, np.ndarray]:
    """Orthogonal matching pursuit of `rows` in `atoms`, non-negative, t steps.

    Parameters
    ----------
    rows : float64 array, shape (n, d)
    atoms : float64 array, shape (m, d)
    t : int
        At most m.

    Returns
    -------
    indices : int64 array, shape (n, t)
        Distinct within a row.
    weights : float64 array, shape (n, t)
        >= 0; 0 is an empty slot.
    """
    lengths = np.linalg.norm(atoms, axis=1)
    unit = atoms / np.maximum(lengths, np.finfo(atoms.dtype).tiny)[:, None]
    gram = atoms @ atoms.T
    indices, weights = np.empty((len(rows), t), dtype=np.int64), np.empty((len(rows), t))
    for start in range(0, len(rows), _ROW_BLOCK):
        block = slice(start, start + _ROW_BLOCK)
        indices[block], weights[block] = _pursue(rows[block], atoms, unit, gram, t)
    return indices, weights


def _pursue(
    rows: np.ndarray, atoms: np.ndarray, unit: np.ndarray, gram: np.ndarray, t: int
) -> tuple[np.ndarray, np.ndarray]:
    projections, correlation = rows @ atoms.T, rows @ unit.T
    chosen, weights = np.zeros((len(rows), 0), dtype=np.int64), np.zeros((len(rows), 0))
    for _ in range(t):
        left = correlation if chosen.shape[1] == 0 else (rows - compose(chosen, weights, atoms.T).T) @ unit.T
        left = left.copy()
        np.put_along_axis(left, chosen, -np.inf, axis=1)
        chosen = np.concatenate([chosen, left.argmax(axis=1)[:, None]], axis=1)
        weights = _nonnegative_fit(gram, projections, chosen, weights)
    return chosen, weights


def _nonnegative_fit(gram: np.ndarray, projections: np.ndarray, chosen: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Non-negative least squares on the chosen atoms from a feasible start (Lawson and Hanson's inner loop)."""
    n, k = chosen.shape
    matrices = gram[chosen[:, :, None], chosen[:, None, :]]
    targets = np.take_along_axis(projections, chosen, axis=1)
    number = np.finfo(gram.dtype)
    ridge = max(number.eps * 8 * gram.diagonal().max(), number.tiny)
    identity = np.eye(k)
    active = np.ones((n, k), dtype=bool)
    weights = np.concatenate([before, np.zeros((n, 1))], axis=1)
    for _ in range(k):
        both = active[:, :, None] & active[:, None, :]
        system = np.where(both, matrices, identity) + ridge * identity
        fit = np.linalg.solve(system, np.where(active, targets, 0.0)[:, :, None])[:, :, 0]
        negative = active & (fit < 0)
        if not negative.any():
            return np.where(active, fit, 0.0)
        reach = np.divide(weights, weights - fit, out=np.ones_like(fit), where=negative)
        step = reach.min(axis=1, keepdims=True)
        active &= ~(negative & (reach <= step))
        weights = np.where(active, weights + step * (fit - weights), 0.0)
    return weights
