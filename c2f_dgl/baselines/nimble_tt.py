"""NimbleTT: the table as a tensor train, its rows ordered by the graph.

Yin et al. *Nimble GNN Embedding with Tensor-Train Decomposition.* KDD 2022. With N <= m1 m2 m3, d = n1 n2 n3 and rows
and columns numbered i = (i1, i2, i3), j = (j1, j2, j3), the table is

    E[i, j] = G1[i1, j1] G2[i2, j2] G3[i3, j3]     G1: 1 x R, G2: R x R, G3: R x 1 for each i_k, j_k

Rows that share i1, or i1 and i2, share factors: entities are numbered by a two-level METIS partition, m1 parts of the
graph, m2 parts of each. The cores start orthogonal, scaled to the variance of Xavier's start; R is the largest the
budget allows. The order of the rows, N int32, is not learned, but stored.

Deviations: the paper's graph neural network has weights, and batches of sampled neighbours; here it is LightGCN.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import torch
from pydantic import Field
from torch import Tensor, nn

from c2f_dgl.baselines.fitting import fit, layout_of
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.dgl_import import dgl
from c2f_dgl.errors import InputError
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.graph.partition import metis_parts
from c2f_dgl.tiers.embedding import ComputedTable

Shape = tuple[int, int, int]


class NimbleTTSettings(GradientSettings):
    d_factors: Shape = Field((4, 4, 4), description="n1, n2, n3 with d = n1 n2 n3")


def row_factors(n: int) -> Shape:
    """m1, m2, m3 with m1 m2 m3 >= n, as equal as can be."""
    m1 = math.ceil(n ** (1 / 3))
    m2 = math.ceil((n / m1) ** 0.5)
    return m1, m2, math.ceil(n / (m1 * m2))


def largest_rank(rows: Shape, columns: Shape, values: int) -> int:
    """The largest R within the budget, at most that of a full table; the cores have R (m1 n1 + m3 n3) + R^2 m2 n2."""
    first, second, third = (m * n for m, n in zip(rows, columns, strict=True))
    outer = first + third
    rank = int((math.sqrt(outer**2 + 4 * second * values) - outer) / (2 * second))
    if rank < 1:
        raise InputError(f"{values:,} values", where="nimble_tt", expected=f"at least {outer + second:,}")
    return min(rank, first, third)


def graph_order(graph: dgl.DGLGraph, rows: Shape, seed: int) -> np.ndarray:
    """Position of each entity (N,), int64, below m1 m2 m3.

    Part p of the graph and part q of that part have a slot, the m3 positions that share (i1, i2) = (p, q). What does
    not fit into its slot takes the free positions, in order.
    """
    first = metis_parts(graph, rows[0], seed)
    second = np.zeros_like(first)
    n_users = graph.num_nodes("user")
    for part in range(rows[0]):
        members = np.flatnonzero(first == part)
        split = int(np.searchsorted(members, n_users))
        subgraph = dgl.node_subgraph(graph, {"user": members[:split], "item": members[split:] - n_users})
        if subgraph.num_edges("interacts"):  # METIS has nothing to go by otherwise
            second[members] = metis_parts(subgraph, rows[1], seed)
    slot = first * rows[1] + second
    rank = pd.Series(slot).groupby(slot).cumcount().to_numpy()  # within the slot
    position, fits = slot * rows[2] + rank, rank < rows[2]
    free = np.setdiff1d(np.arange(math.prod(rows)), position[fits], assume_unique=True)
    overflow = np.flatnonzero(~fits)
    overflow = overflow[np.argsort(slot[overflow], kind="stable")]
    position[overflow] = free[: len(overflow)]
    return position


def start_cores(rows: Shape, columns: Shape, rank: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Cores whose unfoldings (R_left m) x (n R_right) are orthogonal, and whose table has Xavier's variance."""
    (m1, m2, m3), (n1, n2, n3) = rows, columns
    shapes = ((1, m1, n1, rank), (rank, m2, n2, rank), (rank, m3, n3, 1))
    unfoldings = [torch.empty(left * m, n * right) for left, m, n, right in shapes]
    cores = [nn.init.orthogonal_(unfolding, generator=generator) for unfolding in unfoldings]
    first, second, third = (core.view(shape) for core, shape in zip(cores, shapes, strict=True))
    # The mean square of E over all rows and columns, from the Gram matrices of the cores alone.
    gram = torch.einsum("aijr,aijs->rs", first, first)
    gram = torch.einsum("rs,rijt,siju->tu", gram, second, second)
    square = float(torch.einsum("rs,rija,sija->", gram, third, third)) / (math.prod(rows) * math.prod(columns))
    factor = (2 / (math.prod(rows) + math.prod(columns)) / square) ** (1 / 6)
    return first * factor, second * factor, third * factor


class TensorTrain(ComputedTable):
    """E as cores (1, m1, n1, R), (R, m2, n2, R), (R, m3, n3, 1); position: row number i of each entity (N,)."""

    position: Tensor

    def __init__(self, layout: NodeLayout, position: np.ndarray, cores: tuple[Tensor, Tensor, Tensor]) -> None:
        super().__init__(layout)
        self.first, self.second, self.third = (nn.Parameter(core.clone()) for core in cores)
        self.register_buffer("position", torch.as_tensor(position))

    def table(self) -> Tensor:
        left = torch.einsum("ijr,rkls->ikjls", self.first[0], self.second).flatten(0, 1)  # m1 m2, n1, n2, R
        rows = torch.einsum("pjls,smn->pmjln", left, self.third[..., 0]).flatten(0, 1).flatten(1)
        return rows[self.position]

    def count_bytes(self) -> int:
        return super().count_bytes() + 4 * len(self.position)


def train(context: Context[NimbleTTSettings]) -> Fitted:
    """LightGCN on a tensor train."""
    settings, layout = context.settings, layout_of(context)
    rows, columns = row_factors(layout.total), settings.d_factors
    rank = largest_rank(rows, columns, context.values)
    with context.reporter.busy("partitioning the graph"):
        order = graph_order(context.graph, rows, context.seed)
    cores = start_cores(rows, columns, rank, context.generator("cores"))
    return fit(context, TensorTrain(layout, order, cores))


_GRID = {**GRADIENT_SPACE, "d_factors": ((2, 4, 2), (4, 4, 2), (4, 4, 4), (4, 8, 4))}
SYSTEMS = (System("nimble_tt", "NimbleTT", "Yin et al. 2022 (KDD)", NimbleTTSettings(), train, _GRID),)
