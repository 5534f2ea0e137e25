"""Scores of pairs, without a row per pair of anything.

With H = B W (B: the basis, N x p, constant; W: what is learned, p x d) the score of a user and an item is a bilinear
form of two rows of B,

    h_u . h_i  =  b_u (W W^T) b_i^T  =  v_u . b_i,        v_u = b_u W W^T,

so a batch needs one small product per *user*, whatever the number of items it is scored on, and one dot product of
length p per pair. With g_ui the gradient of the loss at a score and q_u = sum_i g_ui b_i,

    gradient of W  =  (A + A^T) W,        A = sum_u b_u^T q_u.

Nothing of the size (pairs x p) is formed: the dot products are a sampled dense product on the batch's sparsity
pattern, the q_u weighted bags of rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

# Users whose rows are converted at once, where the basis is kept in less than full precision.
_ROWS = 256


def dots(left: Tensor, table: Tensor, items: Tensor) -> Tensor:
    """Dot products of the rows of `left` (n, d) with rows `items` (n, c) of `table` (N, d): (n, c), differentiable."""
    return _Dots.apply(left, table, items)  # type: ignore[no-any-return]


class _Dots(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, table: Tensor, items: Tensor) -> Tensor:
        ctx.save_for_backward(left, table, items)
        return _dots(left, table, items)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
        left, table, items = ctx.saved_tensors
        return _bags(gradient, table, items), _reverse_bags(gradient, left, items, len(table)), None


def pair_scores(basis: Tensor, learned: Tensor, users: Tensor, items: Tensor) -> Tensor:
    """Scores of users (n,) with items (n, c), rows of B = `basis` (N, p): (n, c), of the dtype of W = `learned`."""
    return _PairScores.apply(learned, basis, users, items)  # type: ignore[no-any-return]


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, learned: Tensor, basis: Tensor, users: Tensor, items: Tensor) -> Tensor:
        of_users = basis.index_select(0, users).to(learned)
        ctx.save_for_backward(learned, basis, of_users, items)
        p, d = learned.shape
        # The cheaper of the two orders; the Gram matrix costs once what a user's row costs twice.
        projected = of_users @ (learned @ learned.T) if p < 2 * d else (of_users @ learned) @ learned.T
        return _dots(projected, basis, items)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        learned, basis, of_users, items = ctx.saved_tensors
        of_items = _bags(gradient, basis, items)
        (n, p), d = of_users.shape, learned.shape[1]
        # Again the cheaper order: through p x p, or twice through the d columns.
        if p * (n + d) <= 4 * n * d:
            one_sided = of_users.T @ of_items
            return (one_sided + one_sided.T) @ learned, None, None, None
        return of_users.T @ (of_items @ learned) + of_items.T @ (of_users @ learned), None, None, None


def _dots(projected: Tensor, basis: Tensor, items: Tensor) -> Tensor:
    """``projected[u] . basis[i]`` for the items of each row (n x c)."""
    n, c = items.shape
    if basis.dtype != projected.dtype:
        parts = zip(projected.split(_ROWS), _widened(basis, items, projected), strict=True)
        return torch.cat([(rows * users[:, None]).sum(-1) for users, rows in parts])
    if c > len(basis):  # a pattern with more entries than the whole product has: torch refuses it
        return (projected @ basis.T).gather(1, items)
    starts = torch.arange(0, n * c + 1, c, device=items.device)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        pattern = torch.sparse_csr_tensor(
            starts, items.flatten(), projected.new_zeros(n * c), (n, len(basis)), check_invariants=False
        )
    return torch.sparse.sampled_addmm(pattern, projected, basis.T, beta=0.0).values().view(n, c)


def _bags(weights: Tensor, basis: Tensor, items: Tensor) -> Tensor:
    """``sum_i weights[u, i] * basis[i]`` over the items of each row (n x p)."""
    if basis.dtype != weights.dtype:
        parts = zip(weights.split(_ROWS), _widened(basis, items, weights), strict=True)
        return torch.cat([torch.bmm(part[:, None], rows)[:, 0] for part, rows in parts])
    return F.embedding_bag(items, basis, per_sample_weights=weights.contiguous(), mode="sum")


def _reverse_bags(weights: Tensor, left: Tensor, items: Tensor, n_rows: int) -> Tensor:
    """``sum_u weights[u, i] * left[u]`` over the rows that have item i (n_rows x d), in a fixed order."""
    items, order = items.flatten().sort(stable=True)
    starts = torch.searchsorted(items, torch.arange(n_rows, device=items.device))
    return F.embedding_bag(
        order // weights.shape[1], left, starts, per_sample_weights=weights.flatten()[order], mode="sum"
    )


def _widened(basis: Tensor, items: Tensor, like: Tensor) -> Iterator[Tensor]:
    """Rows of a basis in another precision (users x c x p), for a few users at a time."""
    for part in items.split(_ROWS):
        yield basis.index_select(0, part.flatten()).to(like).view(*part.shape, -1)
