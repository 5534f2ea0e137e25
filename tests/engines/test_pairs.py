from __future__ import annotations

import pytest
import torch

from c2f_dgl.engines.pairs import dots, pair_scores


@pytest.mark.parametrize(("p", "d"), [(3, 2), (12, 1)])
@pytest.mark.parametrize("n_items", [1, 4, 9])
def test_scores_and_gradient_are_those_of_the_embeddings(n_items: int, p: int, d: int) -> None:
    """With repeats among the items, with more of them than there are rows, and in both orders of the products."""
    generator = torch.Generator().manual_seed(n_items)
    basis = torch.randn(4, p, generator=generator, dtype=torch.float64)
    learned = torch.randn(p, d, generator=generator, dtype=torch.float64, requires_grad=True)
    users = torch.randint(4, (5,), generator=generator)
    items = torch.randint(4, (5, n_items), generator=generator)
    weights = torch.randn(5, n_items, generator=generator, dtype=torch.float64)
    h = basis @ learned
    expected = (h[users][:, None] * h[items]).sum(-1)
    scores = pair_scores(basis, learned, users, items)
    torch.testing.assert_close(scores, expected)
    gradients = [torch.autograd.grad((weights * x).sum(), learned)[0] for x in (scores, expected)]
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("n_items", [1, 4, 9])
def test_dots_have_the_gradients_of_both_sides(n_items: int) -> None:
    """With repeats, with rows that no pair has, and with more items than there are rows."""
    generator = torch.Generator().manual_seed(n_items)
    left = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    table = torch.randn(6, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    items = 1 + torch.randint(4, (5, n_items), generator=generator)
    weights = torch.randn(5, n_items, generator=generator, dtype=torch.float64)
    expected = (left[:, None] * table[items]).sum(-1)
    found = dots(left, table, items)
    torch.testing.assert_close(found, expected)
    for ours, theirs in zip(
        *(torch.autograd.grad((weights * x).sum(), [left, table]) for x in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
