"""Embeddings of several sizes brought to one width and one scale (AutoEmb and ESAPN).

    e~ = tanh((x - mean) / sqrt(var + eps))      batch normalisation without scale and shift, then tanh

The mean and the variance are over all the rows that are given, which are all entities of a kind: training and ranking
see the same function.
"""

from __future__ import annotations

import torch
from torch import Tensor


def unify(x: Tensor) -> Tensor:
    """e~ of the rows of x (n x d)."""
    if len(x) == 0:
        return x
    variance, mean = torch.var_mean(x, dim=0, correction=0)
    return ((x - mean) * (variance + 1e-5).rsqrt()).tanh()


def xavier(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A linear map (rows x columns) at its start."""
    return torch.nn.init.xavier_uniform_(torch.empty(rows, columns), generator=generator)
