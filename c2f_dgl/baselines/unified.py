"""What AutoEmb and ESAPN share: embeddings of several sizes brought to one width and one scale, and small networks.

    e~ = g tanh((x - mean) / sqrt(var + eps))      batch normalisation without scale and shift, then tanh

The mean and the variance are over all the rows that are given, and not over a batch: training and ranking see the same
function, and what is stored is enough to compute them. g is one learned number for all users, one for all items.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from c2f_dgl.baselines.system import Context
from c2f_dgl.embedding import ComputedTable
from c2f_dgl.errors import InputError
from c2f_dgl.graph.layout import NodeLayout


class SizedTable(ComputedTable):
    """A table computed from embeddings of several sizes, one of them for each entity."""

    def count_bytes(self) -> int:
        """All values, and an int32 per entity that says which size it has and where it is."""
        return super().count_bytes() + 4 * self.layout.total


def left_for_embeddings(context: Context[Any], maps: int, smallest: int, system: str) -> int:
    """Values that embeddings may have beside the maps to one width.

    Raises
    ------
    InputError
        Too few for the smallest size each.
    """
    left = context.values - maps
    if left < context.n_entities * smallest:
        raise InputError(
            f"{context.values:,} values do not pay for a size of {smallest} each and {maps:,} values of maps",
            where=f"settings of {system}",
            expected="smaller sizes or d, or more values",
        )
    return left


def how_many(layout: NodeLayout, choice: Tensor, n_sizes: int) -> dict[str, list[int]]:
    """Entities of each size, by node type, for records; choice: indices of sizes (N,), int64."""
    return {node_type: own.bincount(minlength=n_sizes).tolist() for node_type, own in layout.split(choice).items()}


def unify(x: Tensor) -> Tensor:
    """tanh(BN(x)) of the rows of x (n x d)."""
    if len(x) == 0:
        return x
    variance, mean = torch.var_mean(x, dim=0, correction=0)
    return ((x - mean) * (variance + 1e-5).rsqrt()).tanh()


def start_gains(layout: NodeLayout, std: float) -> nn.ParameterDict:
    """g of each node type at its start: as large as makes unified embeddings, whose root mean square is about 0.6."""
    return nn.ParameterDict({node_type: torch.tensor(std / 0.6) for node_type in layout.types})


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
