"""What is masked is zero and not stored; sizes meet budgets."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.baselines.pruning import Granularity, SoftThresholded
from c2f_dgl.baselines.tables import MaskedValues, allocate, cut_to_budget, keep_largest, prefix_mask


@given(st.integers(1, 9), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_masked_entries_stay_zero_and_the_others_learn(n: int, d: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    mask = torch.rand(n, d, generator=generator) < 0.5
    mask[0, 0] = True
    start, target = torch.randn(n, d, generator=generator), torch.randn(n, d, generator=generator)
    matrix = MaskedValues(mask, start)
    torch.testing.assert_close(matrix(), start * mask)
    optimizer = torch.optim.Adam(matrix.parameters(), lr=0.1, weight_decay=0.1)
    loss = (matrix() - target).square().sum()
    loss.backward()
    torch.testing.assert_close(matrix.values.grad, (2 * (start - target))[mask])
    for _ in range(3):
        optimizer.step()
    learned = matrix()
    assert bool((learned[~mask] == 0).all())
    assert bool((learned[mask] != start[mask]).any())
    assert matrix.count() == int(mask.sum()) == sum(parameter.numel() for parameter in matrix.parameters())


def test_bytes_are_the_least_that_store_values_and_places() -> None:
    sizes = torch.tensor([3, 0, 1, 0, 0])
    prefixes = MaskedValues(prefix_mask(sizes, 8), torch.ones(5, 8))
    assert prefixes.count_bytes() == 4 * 4 + 4 * 5  # values, and a size a row
    scattered = MaskedValues(prefix_mask(sizes, 8).flip(1), torch.ones(5, 8))
    assert scattered.count_bytes() == 4 * 4 + 4 * 4 + 4 * 6  # values, columns, row pointers
    assert MaskedValues(torch.ones(5, 8, dtype=torch.bool), torch.ones(5, 8)).count_bytes() == 4 * 40


@given(st.lists(st.floats(0, 100), min_size=1, max_size=30), st.integers(3, 16), st.data())
def test_cut_sizes_meet_the_budget_and_keep_the_order(wanted: list[float], large: int, data) -> None:
    n = len(wanted)
    budget = data.draw(st.integers(n, n * large + 5))
    sizes = cut_to_budget(torch.tensor(wanted), budget, large)
    assert int(sizes.sum()) == min(budget, n * large)
    assert int(sizes.min()) >= 1 and int(sizes.max()) <= large
    order = torch.tensor(wanted).argsort()
    assert bool((sizes[order].diff() >= -1).all())  # rounding may give a tie's spare value to either


@given(st.integers(1, 4), st.integers(0, 2**32 - 1), st.integers(0, 40))
def test_allocation_is_the_best_of_all_at_the_sum_it_has(n: int, seed: int, extra: int) -> None:
    utility = torch.randn(n, 3, generator=torch.Generator().manual_seed(seed)).double()
    sizes, budget = torch.tensor([1, 3, 8]), n + extra
    choice = allocate(utility, sizes, budget)
    spent = int(sizes[choice].sum())
    assert spent <= budget
    total = float(utility.gather(1, choice[:, None]).sum())
    others = (
        sum(float(utility[row, k]) for row, k in enumerate(picked))
        for picked in itertools.product(range(3), repeat=n)
        if sum(int(sizes[k]) for k in picked) <= spent
    )
    assert total == pytest.approx(max(others), abs=1e-9)


def test_the_largest_are_kept_across_tensors() -> None:
    first, second = keep_largest([torch.tensor([[1.0, 5.0]]), torch.tensor([[4.0], [0.0], [3.0]])], 3)
    assert first.tolist() == [[False, True]] and second.tolist() == [[True], [False], [True]]


@pytest.mark.parametrize(
    ("granularity", "shape"), [("global", (1, 1)), ("dimension", (1, 3)), ("entity", (4, 1)), ("entry", (4, 3))]
)
def test_soft_threshold_is_its_equation_and_the_pull_prunes(granularity: Granularity, shape: tuple[int, int]) -> None:
    start = torch.randn(4, 3, generator=torch.Generator().manual_seed(1))
    layer = SoftThresholded(start, granularity, start_logit=-6.0, rate=10.0)
    with torch.no_grad():
        layer.logit += torch.randn(shape, generator=torch.Generator().manual_seed(2)) / 10
    threshold = torch.sigmoid(10.0 * layer.logit)
    expected = start.sign() * torch.clamp(start.abs() - threshold, min=0)
    torch.testing.assert_close(layer(), expected)
    assert layer.count() == int((expected != 0).sum())
    optimizer = torch.optim.Adam([layer.logit], lr=0.01)
    before = layer.count()
    for _ in range(100):
        optimizer.zero_grad()
        layer.pull().backward()
        optimizer.step()
    assert float(layer.s().detach().max()) > -2  # from -6
    assert layer.count() < before
