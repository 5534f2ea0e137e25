"""Interactions and other relations as sparse matrices."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def normalised(matrix: sp.csr_matrix, source: float = 0.5, target: float = 0.5) -> sp.csr_matrix:
    """D_s^(-source) W D_d^(-target) (float64), D the summed weights of rows and columns; of interactions, R~."""
    scales = []
    for axis, exponent in ((1, source), (0, target)):
        degree = np.asarray(matrix.sum(axis=axis), dtype=np.float64).ravel()
        scales.append(sp.diags(np.where(degree > 0, degree, np.inf) ** -exponent))
    return (scales[0] @ matrix @ scales[1]).tocsr()
