"""A start from the graph's low-pass structure: layer weights and a codebook before any gradient step.

The leading singular vectors of the normalised interactions B = D_u^(-a) R D_i^(-b) carry most of what a trained
LightGCN (a = b = 1/2) ranks by, and its own propagation can compute them:

*Layer weights that pass low frequencies.* With items alone composed from atoms, even layers give items
``(B^T B)^k S E`` and odd ones users ``B (B^T B)^k S E``. So weights c_0, c_0, c_1, c_1, ... make items
``p(B^T B) S E`` and users ``B p(B^T B) S E`` for the polynomial p with coefficients c. A Chebyshev polynomial stretched
over [0, cutoff^2] stays within [-1, 1] there and grows as fast as any polynomial can above it.

*Coordinates in which that is well conditioned.* The filter makes the columns of M nearly parallel, so that those of E
cancel. So E = W T with orthonormal columns of M_i W. What is learned is T, which survives rounding to 8 bits.

*The best codebook for them.* The E whose d item directions ``M_i E`` are orthonormal and keep most of their energy when
passed to the users, ``|M_u E| = |B M_i E|``, solves a generalised eigenproblem of size m (Rayleigh and Ritz): its
columns come as close to singular vectors of B as the span of M_i allows. With the filter it is a Chebyshev-filtered
subspace iteration that starts from the assignment.

*With further relations* the graph is not bipartite, and its matrix P has eigenvectors that live on users or other nodes
almost alone, which would win any comparison by |M_u E| / |M_i E|. So the columns of M E are orthonormal over all
entities and keep most of ``(M E)^T P (M E)``: Ritz vectors of P. On the bipartite graph both are the same.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.polynomial import Polynomial, chebyshev
from torch import Tensor
from torch.nn import functional as F

# Rows of M handled at once.
_ROW_BLOCK = 8_192

# Rows that a QR factorisation takes in at once: it copies them twice.
_FACTORED = 8_192

# Columns passed on at once.
_COLUMN_BLOCK = 128

# Of the kernel polynomial method: random vectors, degree, products of the power iteration, and how much larger the
# spectrum is taken to be than its largest value found.
_PROBES, _DEGREE, _POWER_STEPS, _MARGIN = 16, 128, 24, 1.02

# Lengths below which what a column of length 1 adds to those before it is noise.
_RIDGE, _DEPENDENT = 1e-14, 1e-13

# How much larger than the others a filter may make any direction: float64 has sixteen digits.
MOST_AMPLIFIED = 1e12

# Of what q is taken as where relations beside the interactions let it reach 2: s = 10.
_LARGEST_QUOTIENT = 200 / 101

# Energy of a whitened direction above which the ridge is the smaller part of it.
_WHOLE = 0.5


def lowpass_weights(cutoff: float, n_layers: int, largest: float = 1.0) -> tuple[float, ...]:
    """Weights of layers 0 to `n_layers` that damp singular values of B below a share, `cutoff`, of the largest one.

    They are the coefficients of T_k(2 x / cutoff^2 - 1) in x = (lambda / largest)^2, k = (L - 1) / 2, each for an even
    and an odd layer: L is odd. Cutoff 0 gives the last layers alone, plain subspace iteration.
    """
    if n_layers % 2 == 0 or not 0 <= cutoff <= 1:
        raise ValueError(f"expected an odd number of layers and a cutoff in [0, 1], not {n_layers} and {cutoff}")
    degree = (n_layers - 1) // 2
    if cutoff == 0:
        coefficients = np.eye(degree + 1)[degree]
    else:
        t_k = Polynomial(chebyshev.cheb2poly(np.eye(degree + 1)[degree]))
        coefficients = t_k(Polynomial([-1.0, 2.0 / cutoff**2])).coef[: degree + 1]
    scaled = coefficients / largest ** (2.0 * np.arange(degree + 1))
    return tuple(float(weight) for weight in np.repeat(scaled, 2))


def least_cutoff(n_layers: int) -> float:
    """The cutoff below which the lowpass filter would amplify the largest singular value by over `MOST_AMPLIFIED`."""
    degree = max((n_layers - 1) // 2, 1)
    return float((2 / (1 + np.cosh(np.arccosh(MOST_AMPLIFIED) / degree))) ** 0.5)


def nth_singular_value(
    apply: Callable[[Tensor], Tensor], n_items: int, nth: int, device: torch.device | None = None
) -> tuple[float, float]:
    """The largest and about the n-th largest singular value of B, from products with B^T B alone.

    `apply` gives B^T B X of a float32 matrix X (n_items x k). The largest is found by power iteration. The number of
    eigenvalues above a threshold is the trace of a step function of B^T B, expanded in Chebyshev polynomials with
    Jackson's damping, and taken with random vectors (the kernel polynomial method, Weisse et al. 2006, Eq. 63 and 71).
    The second value is 0 where there are no more than `nth` directions.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n_items, _PROBES, generator=generator).to(device or "cpu")
    top, scale = x, 0.0
    for _ in range(_POWER_STEPS):
        top = top / torch.linalg.vector_norm(top, dim=0).clamp_min(torch.finfo(torch.float32).tiny)
        top = apply(top)
        scale = max(scale, float(torch.linalg.vector_norm(top, dim=0).max()))
    if scale == 0.0 or nth >= n_items:
        return max(scale, 1e-30) ** 0.5, 0.0
    bound = scale * _MARGIN
    previous, current = x, 2 * apply(x) / bound - x
    moments = [float((x * x).sum()), float((x * current).sum())]
    for _ in range(_DEGREE // 2 - 1):  # T_2k and T_2k+1 from T_k and T_k+1: half of the products
        after = 2 * (2 * apply(current) / bound - current) - previous
        moments.append(2 * float((current * current).sum()) - moments[0])
        moments.append(2 * float((current * after).sum()) - moments[1])
        previous, current = current, after
    k = np.arange(1, len(moments))
    n = len(moments) + 1
    jackson = ((n - k) * np.cos(np.pi * k / n) + np.sin(np.pi * k / n) / np.tan(np.pi / n)) / n
    damped = np.asarray(moments[1:]) / _PROBES * jackson
    angles = np.linspace(0, np.pi, 4_096)  # of the threshold: bound (1 + cos angle) / 2
    counts = (angles * n_items + 2 * (np.sin(np.outer(angles, k)) / k) @ damped) / np.pi
    angle = angles[min(int(np.searchsorted(np.maximum.accumulate(counts), nth)), len(angles) - 1)]
    return scale**0.5, float((bound * (1 + np.cos(angle)) / 2) ** 0.5)


def whitening(items: Tensor) -> Tensor:
    """W (m x m), upper triangular, with which the columns of ``items @ W`` are orthonormal.

    Of M_i (n_items x m, float64: in float32 its weaker directions would be noise) it is R^(-1) of the QR factors of the
    columns scaled to length 1, over `_RIDGE` times the identity. A column that depends on those before it, or is zero
    (an atom that composes nothing), becomes zero on items.
    """
    lengths = torch.linalg.vector_norm(items, dim=0)
    empty = lengths <= torch.finfo(torch.float64).tiny
    lengths = torch.where(empty, 1.0, lengths)
    identity = torch.eye(len(lengths)).to(items)
    factor = _RIDGE * identity
    for rows in items.split(_FACTORED):  # R of all rows is R of those so far over those to come
        factor = torch.linalg.qr(torch.cat([factor, rows / lengths]), mode="r").R
    factor = factor * torch.where(factor.diagonal() < 0, -1.0, 1.0)[:, None]
    dependent = factor.diagonal() < _DEPENDENT
    factor[dependent] = identity[dependent]
    inverse = torch.linalg.solve_triangular(factor, identity, upper=True)
    return inverse / lengths[:, None]


def ritz_codebook(users: Tensor, items: Tensor, d: int) -> tuple[Tensor, Tensor, Tensor]:
    """W and T such that the columns of E = W T propagate to approximate singular vectors of B, and the singular values.

    Of M's rows of users (n_users x m) and items (n_items x m), in float64: W (m x m, see `whitening`); T (m x d), with
    orthonormal columns of ``items @ W @ T``, zero beyond the rank of M_i; and the lengths (d,) of ``users @ W @ T``,
    descending.
    """
    w = whitening(items)
    unit = _orthonormal(_gram(items, w))
    squares, rotation = torch.linalg.eigh(unit.T @ _gram(users, w) @ unit)
    rank = min(d, len(squares))
    values = squares.flip(0)[:rank].clamp_min(0).sqrt()
    return w, F.pad((unit @ rotation).flip(1)[:, :rank], (0, d - rank)), F.pad(values, (0, d - rank))


def graph_codebook(rows: Tensor, passed: Callable[[Tensor], Tensor], d: int) -> tuple[Tensor, Tensor, Tensor]:
    """W and T (m x d) such that the columns of E = W T propagate to approximate eigenvectors of P, and s, descending.

    As `ritz_codebook` from M of all entities (N x m) in place of M_i; `passed` gives P X of a matrix X (N x k). The
    last columns are zero where fewer than d have q > 0.

    On a bipartite graph with users composed from items alone, a column is (B y, y) / sqrt(1 + s^2) with y of length
    1 and s = |B y|, and its Rayleigh quotient is q = 2 s^2 / (1 + s^2). The columns of T are scaled as those of
    `ritz_codebook` and weighted by sqrt(s), so that scores agree. Elsewhere q stands for the same s.
    """
    w = whitening(rows)
    x = rows @ w
    unit = _orthonormal(_gram(x))
    quotients = torch.cat([x.T @ passed(block) for block in x.split(_COLUMN_BLOCK, dim=1)], dim=1)
    reduced = unit.T @ quotients @ unit
    q, rotation = torch.linalg.eigh((reduced + reduced.T) / 2)
    rank = min(d, int((q > 0).sum()))
    q = q.flip(0)[:rank].clamp_max(_LARGEST_QUOTIENT)
    squares = q / (2 - q)
    codebook = (unit @ rotation).flip(1)[:, :rank] * (squares.sqrt() * (1 + squares)).sqrt()
    return w, F.pad(codebook, (0, d - rank)), F.pad(squares.sqrt(), (0, d - rank))


def _orthonormal(gram: Tensor) -> Tensor:
    """The directions u (m x rank) of unit length in X, X^T X = `gram`, but for those shorter than the ridge."""
    energy, directions = torch.linalg.eigh(gram)
    kept = energy > _WHOLE
    return directions[:, kept] / energy[kept].sqrt()


def _gram(rows: Tensor, right: Tensor | None = None) -> Tensor:
    """``X.T @ X`` of ``X = rows @ right``, in blocks of rows."""
    gram = rows.new_zeros(rows.shape[1], rows.shape[1])
    for block in rows.split(_ROW_BLOCK):
        x = block if right is None else block @ right
        gram.addmm_(x.T, x)
    return gram
