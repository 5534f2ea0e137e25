"""A start from the graph's low-pass structure: layer weights and a codebook before any gradient step.

The leading singular vectors of the normalised interactions B = D_u^(-1/2) R D_i^(-1/2) carry most of what a trained
LightGCN ranks by, and LightGCN's own propagation can compute them. Two things are needed:

*Layer weights that pass low frequencies.* With items alone composed from atoms (users get theirs from neighbours),
even layers give items ``(B^T B)^k S E`` and odd ones users ``B (B^T B)^k S E``. So weights c_0, c_0, c_1, c_1, ... make
items ``p(B^T B) S E`` and users ``B p(B^T B) S E`` for the polynomial p with coefficients c. A Chebyshev polynomial
stretched over [0, cutoff^2] stays within [-1, 1] there and grows as fast as any polynomial can above it.

*The best codebook for them.* Among all E, the one whose d item directions ``M_i E`` are orthonormal and keep most of
their energy when passed to the users, ``|M_u E| = |B M_i E|``, is the solution of a generalised eigenproblem of size
m (Rayleigh and Ritz): its columns come as close to singular vectors of B as the span of M_i allows. With the filter it
is a Chebyshev-filtered subspace iteration that starts from the assignment.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.polynomial import chebyshev, polynomial
from torch import Tensor

# Rows of M handled at once in float64.
_ROW_BLOCK = 8_192

# Directions of M whose share of the largest one's energy is below this are noise: of propagation in float32, of the
# eigenproblem in float64.
_RANK_TOLERANCE = {torch.float32: 1e-10, torch.float64: 1e-14}


def lowpass_weights(cutoff: float, n_layers: int) -> tuple[float, ...]:
    """Weights of layers 0 to `n_layers` that damp singular values of B below `cutoff`.

    Parameters
    ----------
    cutoff : float
        Between 0 and 1, the largest singular value. 0 gives the last layers alone, plain subspace iteration.
    n_layers : int
        L, odd: users need one layer more than items.

    Returns
    -------
    tuple of L + 1 floats
        Coefficients of T_k(2 x / cutoff^2 - 1) in x = lambda^2, k = (L - 1) / 2, each for an even and an odd layer.

    Raises
    ------
    ValueError
        `n_layers` is even, or `cutoff` is not in [0, 1].
    """
    if n_layers % 2 == 0 or not 0 <= cutoff <= 1:
        raise ValueError(f"expected an odd number of layers and a cutoff in [0, 1], not {n_layers} and {cutoff}")
    degree = (n_layers - 1) // 2
    if cutoff == 0:
        coefficients = np.eye(degree + 1)[degree]
    else:
        in_y = chebyshev.cheb2poly(np.eye(degree + 1)[degree])
        line = np.array([-1.0, 2.0 / cutoff**2])
        coefficients = np.zeros(1)
        for coefficient in in_y[::-1]:  # Horner's scheme: substitute y = 2 x / cutoff^2 - 1
            coefficients = polynomial.polyadd(polynomial.polymul(coefficients, line), [coefficient])
        coefficients = coefficients[: degree + 1]
    return tuple(float(weight) for weight in np.repeat(coefficients, 2))


def ritz_codebook(users: Tensor, items: Tensor, d: int) -> tuple[Tensor, Tensor]:
    """E (m x d) whose columns propagate to approximate singular vectors of B, and the singular values.

    Parameters
    ----------
    users, items : Tensor, shapes (n_users, m) and (n_items, m), float32 or float64
        M's rows: propagated coefficients of the atoms.
    d : int
        Columns wanted. Where M_i has a lower rank the last ones are zero.

    Returns
    -------
    codebook : Tensor, shape (m, d)
        ``items @ codebook`` has orthonormal columns. Of the dtype of `items`.
    values : Tensor, shape (d,)
        Lengths of the columns of ``users @ codebook``, descending.
    """
    item_gram, user_gram = _gram(items), _gram(users)
    lengths = item_gram.diagonal().clamp_min(torch.finfo(torch.float64).tiny).sqrt()
    energy, directions = torch.linalg.eigh(item_gram / lengths[:, None] / lengths)
    kept = energy > _RANK_TOLERANCE[items.dtype] * energy[-1]
    whitening = directions[:, kept] / energy[kept].sqrt() / lengths[:, None]
    squares, rotation = torch.linalg.eigh(whitening.T @ user_gram @ whitening)
    rank = min(d, len(squares))
    codebook = torch.zeros(len(item_gram), d, dtype=torch.float64, device=items.device)
    values = torch.zeros(d, dtype=torch.float64, device=items.device)
    codebook[:, :rank] = (whitening @ rotation).flip(1)[:, :rank]
    values[:rank] = squares.flip(0)[:rank].clamp_min(0).sqrt()
    return codebook.to(items), values.to(items)


def _gram(rows: Tensor) -> Tensor:
    """``rows.T @ rows`` in float64."""
    gram = torch.zeros(rows.shape[1], rows.shape[1], dtype=torch.float64, device=rows.device)
    for block in rows.split(_ROW_BLOCK):
        wide = block.double()
        gram.addmm_(wide.T, wide)
    return gram
