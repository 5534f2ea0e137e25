"""What AutoEmb and ESAPN share: embeddings of several sizes brought to one width and one scale, and small networks.

    e~ = tanh((x - mean) / sqrt(var + eps))      batch normalisation without scale and shift, then tanh

The mean and the variance are over all the rows that are given, which are all entities of a kind: training and ranking
see the same function.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def unify(x: Tensor) -> Tensor:
    """e~ of the rows of x (n x d)."""
    if len(x) == 0:
        return x
    variance, mean = torch.var_mean(x, dim=0, correction=0)
    return ((x - mean) * (variance + 1e-5).rsqrt()).tanh()


def xavier(rows: int, columns: int, generator: torch.Generator) -> Tensor:
    """A linear map (rows x columns) at its start."""
    return torch.nn.init.xavier_uniform_(torch.empty(rows, columns), generator=generator)


def indifferent_network(n_inputs: int, hidden: int, n_outputs: int, generator: torch.Generator) -> nn.Sequential:
    """A network with one hidden layer that gives zeros at the start: every choice is as likely as another."""
    first, last = nn.Linear(n_inputs, hidden), nn.Linear(hidden, n_outputs)
    with torch.no_grad():
        first.weight.normal_(generator=generator)
        first.bias.normal_(generator=generator)
        last.weight.zero_()
        last.bias.zero_()
    return nn.Sequential(first, nn.Tanh(), last)
