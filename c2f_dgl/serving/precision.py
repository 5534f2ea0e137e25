"""Floats in fewer bytes: a row times its own scale, as fp32, fp16 or int8."""

from __future__ import annotations

import numpy as np

PRECISIONS = ("fp32", "fp16", "int8")


def encode(rows: np.ndarray, precision: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Store a matrix in `precision`.

    Parameters
    ----------
    rows : float array, shape (n, width)
    precision : {"fp32", "fp16", "int8"}

    Returns
    -------
    values : array, shape (n, width)
    scales : float32 array, shape (n,), or None
        Of each row, with the largest value at 1 (fp16) or 127 (int8); None for fp32.
    """
    if precision == "fp32":
        return rows.astype(np.float32), None
    largest = np.abs(rows).max(axis=1, initial=0.0)
    top = 1.0 if precision == "fp16" else 127.0
    scales = np.where(largest > 0, largest / top, 1.0).astype(np.float32)
    # A row of subnormal size has a scale that float32 rounds to 0.
    scales[scales == 0] = 1.0
    scaled = rows / scales[:, None].astype(np.float64)
    if precision == "fp16":
        return scaled.astype(np.float16), scales
    return np.rint(scaled).clip(-127, 127).astype(np.int8), scales


def decode(values: np.ndarray, scales: np.ndarray | None) -> np.ndarray:
    """The matrix that `encode` was given, rounded, as float32."""
    return values if scales is None else values.astype(np.float32) * scales[:, None]


def smallest_unsigned(largest: int) -> type[np.unsignedinteger]:
    """The smallest unsigned type that holds `largest`, of at most 32 bits."""
    for kind in (np.uint8, np.uint16, np.uint32):
        if largest <= np.iinfo(kind).max:
            return kind
    raise ValueError(f"{largest} does not fit 32 bits")
