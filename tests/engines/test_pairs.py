from __future__ import annotations

import pytest
import torch

from c2f_dgl.engines.pairs import dots, pair_scores

FLOAT = torch.float64


@pytest.mark.parametrize(("precision", "tolerance"), [(FLOAT, 1e-12), (torch.float32, 1e-4)])
@pytest.mark.parametrize(("p", "d"), [(3, 2), (12, 1)])
@pytest.mark.parametrize("n_items", [1, 4, 9])
def test_scores_and_gradient_are_those_of_the_embeddings(
    n_items: int, p: int, d: int, precision: torch.dtype, tolerance: float
) -> None:
    """With repeats among the items, with more of them than there are rows, and in both orders of the products."""
    generator = torch.Generator().manual_seed(n_items)
    basis = torch.randn(4, p, generator=generator, dtype=FLOAT)
    learned = torch.randn(p, d, generator=generator, dtype=FLOAT, requires_grad=True)
    users, items = torch.randint(4, (5,), generator=generator), torch.randint(4, (5, n_items), generator=generator)
    weights = torch.randn(5, n_items, generator=generator, dtype=FLOAT)
    h = basis @ learned
    expected = (h[users][:, None] * h[items]).sum(-1)
    scores = pair_scores(basis.to(precision), learned, users, items)
    torch.testing.assert_close(scores, expected, atol=tolerance, rtol=0)
    gradients = [torch.autograd.grad((weights * x).sum(), learned)[0] for x in (scores, expected)]
    torch.testing.assert_close(*gradients, atol=10 * tolerance, rtol=0)


@pytest.mark.parametrize("n_items", [1, 4, 9])
def test_dots_have_the_gradients_of_both_sides(n_items: int) -> None:
    """With repeats, with rows that no pair has, and with more items than there are rows."""
    generator = torch.Generator().manual_seed(n_items)
    left, table = (torch.randn(n, 3, generator=generator, dtype=FLOAT, requires_grad=True) for n in (5, 6))
    items = 1 + torch.randint(4, (5, n_items), generator=generator)
    weights = torch.randn(5, n_items, generator=generator, dtype=FLOAT)
    expected = (left[:, None] * table[items]).sum(-1)
    scores = dots(left, table, items)
    torch.testing.assert_close(scores, expected)
    gradients = [torch.autograd.grad((weights * x).sum(), [left, table]) for x in (scores, expected)]
    torch.testing.assert_close(*gradients)
