"""The one dense product of full ranking."""

from __future__ import annotations

import torch
from scipy.linalg import blas
from torch import Tensor


def add_product(out: Tensor, a: Tensor, b: Tensor, *, beta: float = 1.0) -> None:
    """``out = beta * out + a @ b.T``, in place.

    On a CPU in float32 with SciPy's OpenBLAS: torch's MKL is slower there on AMD processors.

    Parameters
    ----------
    out : Tensor, shape (n, k), contiguous
    a, b : Tensor, shapes (n, d) and (k, d)
        Best contiguous: others are copied.
    beta : float
        With 0, what `out` held does not count, whatever it was.

    Raises
    ------
    ValueError
        `out` is not contiguous.
    """
    if not out.is_contiguous():
        raise ValueError("out is not contiguous: expected one that can be written in place")
    on_blas = out.device.type == "cpu" and out.dtype == a.dtype == b.dtype == torch.float32
    if not on_blas or 0 in (*a.shape, *b.shape):
        out.addmm_(a, b.T, beta=beta)
        return
    if len(a) == 1:  # a matrix product would first copy b into blocks
        out[0].addmv_(b, a[0], beta=beta)
        return
    # BLAS counts in columns: the transpose of a contiguous matrix is what it calls contiguous.
    left, right, result = b.contiguous().numpy().T, a.contiguous().numpy().T, out.numpy().T
    blas.sgemm(1.0, left, right, beta=beta, c=result, trans_a=True, overwrite_c=True)
