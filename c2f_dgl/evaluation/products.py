"""The one dense product of full ranking."""

from __future__ import annotations

import torch
from scipy.linalg import blas
from torch import Tensor


def product(a: Tensor, b: Tensor) -> Tensor:
    """``a @ b.T`` of (n, d) and (k, d), best contiguous: others are copied.

    On a CPU in float32 with SciPy's OpenBLAS: torch's MKL is slower there on AMD processors.
    """
    on_blas = a.device.type == "cpu" and a.dtype == b.dtype == torch.float32
    # A matrix product of one row would first copy b into blocks.
    if not on_blas or len(a) == 1 or 0 in (*a.shape, *b.shape):
        return a @ b.T
    out = a.new_empty(len(a), len(b))
    # BLAS counts in columns: the transpose of a contiguous matrix is what it calls contiguous.
    left, right, result = b.contiguous().numpy().T, a.contiguous().numpy().T, out.numpy().T
    blas.sgemm(1.0, left, right, beta=0.0, c=result, trans_a=True, overwrite_c=True)
    return out
