"""The paper's equations, transcribed to dense float64 numpy without any of the package's code.

Slow and literal on purpose: every matrix that the package never forms is formed here.
"""

from __future__ import annotations

import numpy as np


def normalised(a: np.ndarray) -> np.ndarray:
    """D^(-1/2) A D^(-1/2), rows and columns of degree 0 staying 0 (Eq. 5).

    D is the sum of what arrives or, where nothing does, of what leaves: the same in the paper's graphs.
    """
    arrives, leaves = a.sum(axis=1), a.sum(axis=0)
    degree = np.where(arrives > 0, arrives, leaves)
    scale = np.zeros_like(degree)
    scale[degree > 0] = degree[degree > 0] ** -0.5
    return scale[:, None] * a * scale[None, :]


def bipartite(r: np.ndarray) -> np.ndarray:
    """A (Eq. 2)."""
    n_users, n_items = r.shape
    a = np.zeros((n_users + n_items,) * 2)
    a[:n_users, n_users:] = r
    a[n_users:, :n_users] = r.T
    return a


def expanded(a: np.ndarray, s_c: np.ndarray, s_r: np.ndarray | None = None) -> np.ndarray:
    """A' of Eq. 3 and 13, or A^r of Eq. 14."""
    n, m_c = s_c.shape
    m_r = 0 if s_r is None else s_r.shape[1]
    out = np.zeros((n + m_c + m_r,) * 2)
    out[:n, :n] = a
    out[:n, n : n + m_c] = s_c
    out[n : n + m_c, :n] = s_c.T
    if s_r is not None:
        out[n : n + m_c, n + m_c :] = s_r
        out[n + m_c :, n : n + m_c] = s_r.T
    return out


def propagated(adjacency: np.ndarray, h0: np.ndarray, layers: int) -> np.ndarray:
    """H (Eq. 5, 6)."""
    p, h, total = normalised(adjacency), h0, h0.copy()
    for _ in range(layers):
        h = p @ h
        total = total + h
    return total / (layers + 1)


def soft(e: np.ndarray, threshold: float) -> np.ndarray:
    """Eq. 16."""
    return np.sign(e) * np.maximum(np.abs(e) - threshold, 0)


def coarse_h(r: np.ndarray, s_c: np.ndarray, e_c: np.ndarray, layers: int) -> np.ndarray:
    """H of the coarse stage, (N + m^c) x d (Eq. 3-7, 12, 13)."""
    return propagated(expanded(bipartite(r), s_c), np.vstack([s_c @ e_c, e_c]), layers)


def fine_h(
    r: np.ndarray,
    s_c: np.ndarray,
    e_c: np.ndarray,
    s_r: np.ndarray,
    e_r: np.ndarray,
    *,
    threshold: float,
    gate: float,
    layers: int,
    refined_entities: bool,
) -> np.ndarray:
    """H^r of the fine stage, (N + m^c + m^r) x d (Eq. 14, 16-22)."""
    x = soft(e_r, threshold)
    refined = (1 - gate) * e_c + gate * s_r @ x
    entities = s_c @ (refined if refined_entities else e_c)
    return propagated(expanded(bipartite(r), s_c, s_r), np.vstack([entities, refined, x]), layers)


def published_h(
    r: np.ndarray,
    s_c: np.ndarray,
    e_c: np.ndarray,
    s_r: np.ndarray,
    e_r: np.ndarray,
    *,
    threshold: float,
    gate: float,
    layers: int,
) -> np.ndarray:
    """H^r with what the published code adds: A normalised first, tanh, and the gate after every layer."""
    n, m_c = s_c.shape
    p = normalised(expanded(normalised(bipartite(r)), s_c, s_r))
    x = soft(e_r, threshold)
    h = np.vstack([np.tanh(s_c @ e_c), (1 - gate) * e_c + gate * s_r @ x, np.tanh(x)])
    total = h.copy()
    for _ in range(layers):
        h = p @ h
        entity, coarse, fine = h[:n], h[n : n + m_c], h[n + m_c :]
        entity = entity - s_c @ coarse
        coarse = coarse - s_r @ fine
        coarse = gate * s_r @ fine + (1 - gate) * coarse
        entity = entity + s_c @ coarse
        h = np.vstack([entity, coarse, fine])
        total = total + h
    return total / (layers + 1)


def top_t(s: np.ndarray, t: int) -> np.ndarray:
    """The t largest entries of each row, negative ones dropped (Eq. 24; S >= 0 by Sec. 2.1)."""
    out = np.zeros_like(s)
    for p in range(len(s)):
        for q in np.argsort(-s[p], kind="stable")[:t]:
            out[p, q] = max(s[p, q], 0)
    return out


def pinv_assignment(h_full: np.ndarray, h_meta: np.ndarray, t: int) -> np.ndarray:
    """Eq. 11, cut to t."""
    return top_t(h_full @ np.linalg.pinv(h_meta), t)


def bridged(h_full: np.ndarray, h_c: np.ndarray, h_r: np.ndarray) -> np.ndarray:
    """S^r before the cut (Eq. 23)."""
    return (h_full @ np.linalg.pinv(h_c)).T @ (h_full @ np.linalg.pinv(h_r))


def bridged_start(s_c: np.ndarray, parts: np.ndarray, m_r: int, anchor_weight: float) -> np.ndarray:
    """S^r at the start, before the cut (Sec. 3.3, steps 1, 2)."""
    s = np.full((len(s_c), m_r), (1 - anchor_weight) / max(m_r - 1, 1))
    s[np.arange(len(s_c)), parts] = anchor_weight
    return s_c.T @ s


def bpr(
    h: np.ndarray, h0: np.ndarray, n_users: int, users: np.ndarray, pos: np.ndarray, neg: np.ndarray, l2: float
) -> float:
    """Eq. 8 and 9 as a mean over triplets, one by one; L2 on the input embeddings."""
    total = 0.0
    for u, i, negatives in zip(users, pos, neg, strict=True):
        for j in negatives:
            margin = h[u] @ h[n_users + i] - h[u] @ h[n_users + j]
            squares = sum((h0[row] ** 2).sum() for row in (u, n_users + i, n_users + j))
            total += np.log1p(np.exp(-margin)) + l2 * squares
    return total / neg.size
