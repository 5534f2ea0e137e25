"""The tensor train is the product of its cores, starts orthogonal, and is ordered by the graph."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.baselines import nimble_tt as tt
from c2f_dgl.baselines.fitting import layout_of
from c2f_dgl.graph.layout import NodeLayout


def cores_of(rows: tt.Shape, columns: tt.Shape, rank: int) -> tuple[torch.Tensor, ...]:
    return tt.start_cores(rows, columns, rank, torch.Generator().manual_seed(1))


def test_the_table_is_the_product_of_its_cores() -> None:
    rows, columns, rank = (3, 2, 4), (2, 3, 2), 3
    cores = [torch.randn_like(core) for core in cores_of(rows, columns, rank)]
    position = np.random.default_rng(0).permutation(24)[:22]
    table = tt.TensorTrain(NodeLayout(("user", "item"), (12, 10)), position, tuple(cores)).table()
    first, second, third = (core.double().numpy() for core in cores)
    dense = np.empty((24, 12))
    for i, j in itertools.product(itertools.product(*map(range, rows)), itertools.product(*map(range, columns))):
        row, column = np.ravel_multi_index(i, rows), np.ravel_multi_index(j, columns)
        product = first[:, i[0], j[0]] @ second[:, i[1], j[1]] @ third[:, i[2], j[2]]
        dense[row, column] = product.item()
    np.testing.assert_allclose(table.detach().numpy(), dense[position], rtol=1e-4, atol=1e-5)


def test_the_table_starts_with_orthogonal_columns_of_xaviers_variance() -> None:
    rows, columns, rank = (16, 12, 13), (2, 2, 2), 5
    layout = NodeLayout(("user", "item"), (math.prod(rows) - 100, 100))
    table = tt.TensorTrain(layout, np.arange(layout.total), cores_of(rows, columns, rank)).table().detach().double()
    gram = table.T @ table
    scale = float(gram.diagonal().mean())
    torch.testing.assert_close(gram / scale, torch.eye(8).double(), rtol=0, atol=1e-4)
    assert float(table.square().mean()) == pytest.approx(2 / (math.prod(rows) + 8), rel=1e-4)


@given(st.integers(27, 100_000), st.integers(2_000, 500_000))
def test_the_largest_rank_that_fits_is_taken(n: int, values: int) -> None:
    rows, columns = tt.row_factors(n), (4, 4, 4)
    assert math.prod(rows) >= n
    rank = tt.largest_rank(rows, columns, values)
    (m1, m2, m3), full = rows, min(rows[0], rows[2]) * 4
    of_cores = lambda rank: 4 * rank * (m1 + m3) + 4 * rank**2 * m2
    assert of_cores(rank) <= values
    assert rank == full or of_cores(rank + 1) > values


def test_neighbours_share_leading_indices(planted_context) -> None:
    context = planted_context(tt.NimbleTTSettings())
    layout = layout_of(context)
    rows = tt.row_factors(layout.total)
    position = tt.graph_order(context.graph, rows, 2024)
    assert len(set(position.tolist())) == layout.total and 0 <= position.min() <= position.max() < math.prod(rows)
    users, items = context.split.train.nonzero()

    def sharing(where: np.ndarray) -> float:
        leading = where // (rows[1] * rows[2])
        return float((leading[users] == leading[items + layout.offset("item")]).mean())

    assert sharing(position) > 4 * sharing(np.random.default_rng(0).permutation(layout.total))


def test_parts_have_the_slots_of_their_numbers_and_overflow_goes_where_there_is_room(
    planted_context, monkeypatch
) -> None:
    graph = planted_context(tt.NimbleTTSettings()).graph
    n, rows = 1800, (2, 3, 301)
    parts = np.minimum(np.arange(n) // 450, 1)  # 450 and 1,350 of 903 positions each
    monkeypatch.setattr(tt, "metis_parts", lambda graph, k, seed: parts if k == 2 else np.zeros(graph.num_nodes(), int))
    position = tt.graph_order(graph, rows, 1)
    assert position[:301].tolist() == list(range(301))  # slot (0, 0); what is beyond it does not fit
    assert position[450:751].tolist() == list(range(903, 903 + 301))  # slot (1, 0)
    assert len(set(position.tolist())) == n and position.max() < math.prod(rows)
    assert sorted(position[301:450].tolist()) == list(range(301, 450))
