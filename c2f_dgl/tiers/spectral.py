"""A start from the graph's low-pass structure: atoms and assignments before any gradient step.

The leading singular vectors of the normalised interactions carry most of what a trained LightGCN ranks by. So the
entities are clustered on them (an atom a cluster), and the codebook is solved for, by least squares, so that the
*propagated* items reproduce the singular vectors: E = argmin |M_items E - V|^2.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.cluster import KMeans
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

# Rows of M handled at once in float64.
_ROW_BLOCK = 8_192


def spectral_embedding(train: sp.csr_matrix, k: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Truncated SVD of D_u^(-1/2) R D_i^(-1/2).

    Parameters
    ----------
    train : csr_matrix, shape (n_users, n_items)
    k : int
        Rank, cut to what the matrix has.
    seed : int
        Of the randomised range finder.

    Returns
    -------
    users : ndarray, shape (n_users, k), float32
        U, orthonormal columns.
    values : ndarray, shape (k,), float32
        Singular values, descending.
    items : ndarray, shape (n_items, k), float32
        V, orthonormal columns.
    """
    user_degree, item_degree = (np.maximum(np.asarray(train.sum(axis=axis)).ravel(), 1.0) for axis in (1, 0))
    normalised = sp.diags(user_degree**-0.5) @ train @ sp.diags(item_degree**-0.5)
    k = min(k, *train.shape)
    u, values, vt = randomized_svd(normalised.tocsr().astype(np.float32), k, n_iter=4, random_state=seed)
    return u, values, np.ascontiguousarray(vt.T)


def spherical_centres(rows: np.ndarray, n_clusters: int, weights: np.ndarray, seed: int) -> np.ndarray:
    """Centres of clusters of rows by direction.

    Parameters
    ----------
    rows : ndarray, shape (n, k)
    n_clusters : int
    weights : ndarray, shape (n,), > 0
        How much each row pulls on its centre, and how likely it is to be a first centre.
    seed : int

    Returns
    -------
    ndarray, shape (n_clusters, k)
        Unit length. With at least as many clusters as rows, the rows and then zeros.
    """
    unit = _unit(rows)
    if n_clusters >= len(rows):
        return np.pad(unit, ((0, n_clusters - len(rows)), (0, 0)))
    rng = np.random.default_rng(seed)
    first = unit[rng.choice(len(unit), size=n_clusters, replace=False, p=weights / weights.sum())]
    # Between unit vectors, near in distance is near in angle.
    model = KMeans(n_clusters, init=first, n_init=1, max_iter=10, random_state=seed)
    return _unit(model.fit(unit, sample_weight=weights).cluster_centers_)


def _unit(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.finfo(rows.dtype).tiny)


def fit_codebook(basis: Tensor, targets: Tensor, ridge: float = 1e-7) -> Tensor:
    """E (m x d) that minimises ``|basis @ E - targets|^2`` plus a ridge relative to the basis.

    Solved in float64 through the m x m Gram matrix: neighbouring atoms look alike after many layers.

    Parameters
    ----------
    basis : Tensor, shape (n, m)
        Rows of M.
    targets : Tensor, shape (n, d)
    """
    m = basis.shape[1]
    gram = torch.zeros(m, m, dtype=torch.float64, device=basis.device)
    moments = torch.zeros(m, targets.shape[1], dtype=torch.float64, device=basis.device)
    for block, target in zip(basis.split(_ROW_BLOCK), targets.split(_ROW_BLOCK), strict=True):
        block = block.double()
        gram += block.T @ block
        moments += block.T @ target.double()
    floor = ridge * gram.diagonal().mean().clamp_min(torch.finfo(torch.float64).tiny)
    gram.diagonal().add_(floor)
    return torch.linalg.solve(gram, moments).to(basis)
