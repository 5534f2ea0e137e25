"""Interactions and other relations as sparse matrices."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp


def normalised(matrix: sp.csr_matrix) -> sp.csr_matrix:
    """D_s^(-1/2) W D_d^(-1/2) (float64) by the summed weights of its own rows and columns; of interactions, R~."""
    roots = []
    for axis in (1, 0):
        degree = np.asarray(matrix.sum(axis=axis), dtype=np.float64).ravel()
        roots.append(sp.diags(np.where(degree > 0, degree, np.inf) ** -0.5))
    return (roots[0] @ matrix @ roots[1]).tocsr()
