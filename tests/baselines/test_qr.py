"""Quotients and remainders are unique and fit the budget; the collapsed sum is the propagated one."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.baselines import qr
from c2f_dgl.baselines.fitting import build_model, layout_of
from c2f_dgl.engines import Collapsed, MessagePassing
from c2f_dgl.errors import InputError
from c2f_dgl.graph.layout import NodeLayout


@given(st.integers(1, 200), st.integers(1, 200), st.floats(1, 30))
def test_every_entity_has_its_own_pair_of_rows(n_users: int, n_items: int, collisions: float) -> None:
    layout = NodeLayout(("user", "item"), (n_users, n_items))
    rows, n_remainders, n_quotients = qr.partition(layout, collisions)
    assert len({tuple(row) for row in rows.tolist()}) == n_users + n_items
    assert sorted(set(rows[:, 0].tolist())) == list(range(n_remainders))
    assert sorted(set(rows[:, 1].tolist())) == list(range(n_quotients))


def test_the_fewest_collisions_that_fit_are_taken() -> None:
    layout = NodeLayout(("user", "item"), (1000, 800))
    collisions = qr.fewest_collisions(layout, 150)
    assert collisions is not None
    sizes = [sum(qr.partition(layout, c)[1:]) for c in (0.98 * collisions, collisions)]
    assert sizes[0] > 150 >= sizes[1]
    assert qr.fewest_collisions(layout, 50) is None


def test_a_small_budget_narrows_the_rows(planted_context) -> None:
    fitted = qr.train(planted_context(qr.QRSettings(d=64, epochs=1), values=4_800), "sum")
    assert 0.9 * 4_800 < sum(fitted.values.values()) <= 4_800
    with pytest.raises(InputError, match="too few"):
        qr.train(planted_context(qr.QRSettings(d=64, epochs=1), values=100), "sum")


def test_the_collapsed_sum_is_the_propagated_one(planted_context) -> None:
    context = planted_context(qr.QRSettings(d=8))
    layout = layout_of(context)
    rows, n_remainders, n_quotients = qr.partition(layout, 20)
    codebook = torch.randn(n_remainders + n_quotients, 8)
    tier = build_model(context, qr.SumOfTwo(layout, rows, n_remainders, codebook), 3)
    pair = [torch.nn.Parameter(part) for part in codebook.split([n_remainders, n_quotients])]
    table = build_model(context, qr.QuotientRemainder(layout, rows, *pair), 3)
    assert isinstance(tier.engine, Collapsed)
    assert isinstance(table.engine, MessagePassing)
    some = torch.tensor([0, 5, 999, 1000, 1799, 5])
    left, right = tier.engine.entities(some), table.engine.entities(some)
    torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)
    target = torch.randn(6, 8)
    (left * target).sum().backward()
    (right * target).sum().backward()
    gradients = torch.cat([table.embedding.remainders.grad, table.embedding.quotients.grad])
    torch.testing.assert_close(tier.embedding.tiers[0].codebook.grad, gradients, rtol=1e-4, atol=1e-6)
    assert tier.count_values() == {"tables": codebook.numel(), "total": codebook.numel()}
