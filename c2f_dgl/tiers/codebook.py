"""Codebooks E: how they start, and the soft threshold that keeps the fine ones sparse."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F


def random_codebook(m: int, d: int, how: Literal["xavier", "normal"], generator: torch.Generator) -> Tensor:
    """A random codebook (m x d, float32): Xavier uniform (paper, Sec. 4.1.4) or N(0, 1) (published code)."""
    codebook = torch.empty(m, d)
    if how == "xavier":
        return torch.nn.init.xavier_uniform_(codebook, generator=generator)
    return codebook.normal_(generator=generator)


def sparse_pca_codebook(
    parent: Tensor,
    m: int,
    n_components: int,
    alpha: float,
    rng: np.random.Generator,
    *,
    padding: Literal["trailing", "scattered"] = "trailing",
) -> Tensor:
    """E^r (m x d) from random rows of the tier above (m^c x d) through SparsePCA, zero-padded to d (Eq. 15).

    Rows are chosen without replacement while there are enough. The d^r = `n_components` values stand first in each row
    (``trailing``, the paper), or at random columns, in order, drawn anew for each row (``scattered``, published code).
    """
    from sklearn.decomposition import SparsePCA  # here: it takes a second, and most models have no such tier

    d = parent.shape[1]
    rows = rng.choice(len(parent), size=m, replace=m > len(parent))
    model = SparsePCA(n_components, alpha=alpha, random_state=int(rng.integers(2**31)))
    codes = model.fit_transform(parent[rows].cpu().double().numpy())
    codes = codes.reshape(m, n_components)  # of one row it is a vector
    columns = np.broadcast_to(np.arange(n_components), codes.shape)
    if padding == "scattered":
        columns = np.sort(rng.random((m, d)).argsort(axis=1)[:, :n_components], axis=1)
    padded = np.zeros((m, d))
    np.put_along_axis(padded, columns, codes, axis=1)
    return torch.as_tensor(padded).to(parent)


def lower_triangular(codebook: Tensor) -> Tensor:
    """The lower triangular E Q, Q orthogonal, with a diagonal >= 0: scores are those of E (m x d)."""
    factor = torch.linalg.qr(codebook.T, mode="r").R.T
    factor = factor * torch.where(factor.diagonal() < 0, -1.0, 1.0).to(factor)
    return F.pad(factor, (0, codebook.shape[1] - factor.shape[1]))


def soft_threshold(codebook: Tensor, threshold: float) -> Tensor:
    """sign(E) max(|E| - lambda, 0), elementwise (Eq. 16)."""
    return F.softshrink(codebook, threshold)
