"""An item-to-item graph filter on a user's history: what low-rank embeddings leave out, with a few numbers chosen.

    s_u = r_u D_i^(-e) W D_i^f,    G_ij = ((R^T D_u^(-2a) R)_ij / (d_i d_j)^c)^q

W is G, or the ridge regression of each item on all others with G as their Gram matrix:

    W_ij = -P_ij / P_jj,    P = (G + Lambda)^(-1),    Lambda_ii = lambda g (G_ii / g)^(1/2),    g the mean of G_ii

a = c = e = 1/2, q = 1, f = 0 and W = G is the linear filter of GF-CF (Shen et al. 2021), a = c = e = f = 0 and q = 1
with the ridge and a constant Lambda is EASE (Steck 2019). q = 2 with the ridge is a kernel regression: (x . y)^2 is
the inner product of all pairs of users. W has entries where G has: the diagonal is left out, as what a user has seen is
never recommended, and so are pairs of items without a user in common.

Without the ridge, G is kept at the k items j of each item i with the largest (R^T D_u^(-2a) R)_ij / (d_i d_j)^(1/2):
the others are mostly noise. The graph alone makes G, so it is formed wherever the model is, and never stored.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import scipy.sparse as sp
import torch
from sparse_dot_topn import sp_matmul_topn
from torch import Tensor

from c2f_dgl.serving.csr import Csr

# Items whose walks are formed at once.
_ROW_BLOCK = 2**14

# How much the first item's cosines are raised over those of the last, as a share: less than float32 can tell.
_TIE = 1e-9


@dataclass(frozen=True)
class FilterShape:
    """The exponents of a filter, and its ridge."""

    user: float = 0.5  # a, of the degrees of the users between two items
    item: float = 0.5  # c, of the degrees of both items
    power: float = 1.0  # q > 0, elementwise
    ridge: float = 0.0  # lambda >= 0; 0 leaves W = G
    history: float = 0.5  # e, of the degrees of the items a user had
    target: float = 0.0  # f, of the degrees of the items that are ranked

    def factored(self) -> FilterShape:
        """The same filter with c = 0 where it has no ridge: D_i^(-cq) on both sides of W is left to e and f."""
        if self.ridge:
            return self
        moved = self.item * self.power
        return replace(self, item=0.0, history=self.history + moved, target=self.target - moved)


# GF-CF's.
PLAIN = FilterShape()


@dataclass(frozen=True, eq=False)
class Walks:
    """Two-step walks between items."""

    degrees: np.ndarray  # interactions of each item, at least 1: float64 (n_items,)
    pairs: sp.csr_matrix  # (R^T D_u^(-2a) R)_ij, float32, where they are kept; none of an item with itself
    loops: np.ndarray  # those from an item to itself: float64 (n_items,)

    def weights(self, shape: FilterShape) -> sp.csr_matrix:
        """W of the pairs that are kept, float32; with a ridge, all pairs should be."""
        # torch, whose powers and inverses take a fraction of numpy's time.
        columns, counts = torch.as_tensor(self.pairs.indices), torch.as_tensor(np.diff(self.pairs.indptr)).long()
        gram, factors = torch.as_tensor(self.pairs.data), torch.as_tensor(self.degrees**-shape.item).float()
        if shape.item:
            gram = gram * factors.repeat_interleave(counts) * factors.index_select(0, columns)
        gram = gram.pow(shape.power)
        if shape.ridge:
            diagonal = (torch.as_tensor(self.loops).float() * factors**2) ** shape.power
            diagonal = diagonal.clamp_min(diagonal[diagonal > 0].min() if diagonal.any() else 1.0)
            dense = torch.diag(diagonal + shape.ridge * diagonal.sqrt() * diagonal.mean().sqrt())
            kept = torch.arange(len(counts)).repeat_interleave(counts), columns.long()
            dense[kept] = gram
            inverse = _inverse(dense)
            gram = -inverse[kept] / inverse.diagonal()[kept[1]]
        return sp.csr_matrix((gram.numpy(), self.pairs.indices, self.pairs.indptr), self.pairs.shape)


def _inverse(symmetric: Tensor) -> Tensor:
    """By Cholesky's factor in half the time, where there is one: powers of entries may leave a matrix indefinite."""
    factor, indefinite = torch.linalg.cholesky_ex(symmetric)
    return torch.linalg.inv(symmetric.double()).float() if indefinite else torch.cholesky_inverse(factor)


@dataclass(frozen=True, eq=False)
class ItemFilter:
    """r D_i^(-e) W D_i^f of any histories r."""

    shape: FilterShape
    degrees: np.ndarray  # of items, at least 1: float64 (n_items,)
    pairs: sp.csr_matrix  # W of the shape's `factored`, float32

    @property
    def factors(self) -> tuple[np.ndarray, np.ndarray]:
        """What stands before and after `pairs`, of a history's items and of the ranked ones: float64 (n_items,)."""
        factored = self.shape.factored()
        return self.degrees**-factored.history, self.degrees**factored.target

    @property
    def history_weight(self) -> np.ndarray:
        """D_i^(-e): float64 (n_items,)."""
        return self.degrees**-self.shape.history

    @cached_property
    def weights(self) -> sp.csr_matrix:
        """W D_i^f, float32."""
        before, after = self.factors
        return sp.csr_matrix(sp.diags(before / self.history_weight) @ self.pairs @ sp.diags(after), dtype=np.float32)

    def contributions(self, history: np.ndarray, items: np.ndarray) -> np.ndarray:
        """What items of histories add to scores of `items`, one of each (n,): float64 (n,)."""
        before, after = self.factors
        return before[history] * np.asarray(self.pairs[history, items]).ravel() * after[items]


def item_filter(interactions: Csr, k: int, shape: FilterShape = PLAIN) -> ItemFilter:
    """The filter of interactions; k pairs are kept of each item, and with a ridge all."""
    walks = item_walks(interactions, interactions.n_columns if shape.ridge else k, shape.user)
    return ItemFilter(shape, walks.degrees, walks.weights(shape.factored()))


def item_walks(interactions: Csr, k: int, user: float) -> Walks:
    """Walks between the items of interactions (n_users x n_items), `user` being a, the exponent of the users' degrees.

    k >= 1 pairs are kept of each item, of equal ones the lower items'.
    """
    n_items = interactions.n_columns
    ones = np.ones(len(interactions.columns))
    r = sp.csr_matrix((ones, interactions.columns, interactions.pointers), (interactions.n_rows, n_items))
    share = np.maximum(interactions.counts, 1) ** (-2.0 * user)
    degrees = np.maximum(np.bincount(interactions.columns, minlength=n_items), 1).astype(np.float64)
    # Of equal cosines, which differ by rounding, those of lower items are made the larger ones.
    lowered = degrees**-0.5 * (1 - _TIE * np.arange(n_items) / n_items)
    from_items, to_items = r.multiply(share[:, None]).multiply(degrees**-0.5).T.tocsr(), r.multiply(lowered).tocsr()
    # The item itself, which may not be among the largest, is asked for beside k others.
    blocks, threads, most = [], torch.get_num_threads(), min(k + 1, n_items)
    for start in range(0, n_items, _ROW_BLOCK):
        cosines = sp_matmul_topn(from_items[start : start + _ROW_BLOCK], to_items, most, sort=True, n_threads=threads)
        rows, columns = np.repeat(np.arange(cosines.shape[0]), np.diff(cosines.indptr)), cosines.indices
        others = start + rows != columns
        before = np.append(0, np.cumsum(others))
        kept = others & (before[:-1] - before[cosines.indptr[rows]] < k)
        rows, columns = rows[kept], columns[kept]
        walks = cosines.data[kept] / (degrees[start + rows] ** -0.5 * lowered[columns])
        blocks.append(sp.csr_matrix((walks.astype(np.float32), (rows, columns)), cosines.shape))
    loops = np.bincount(interactions.columns, share[interactions.rows], minlength=n_items)
    return Walks(degrees, sp.vstack(blocks, format="csr"), loops)


def largest_of_rows(rows: np.ndarray, values: np.ndarray, k: int) -> np.ndarray:
    """Ascending places of the k largest positive `values` of each of the ascending `rows`; of equal ones the first."""
    # Complex numbers are sorted by their real parts, then by their imaginary ones.
    order = np.argsort(rows - 1j * values, kind="stable")
    length = np.bincount(rows) if len(rows) else np.zeros(0, dtype=np.int64)
    rank = np.arange(len(rows)) - np.repeat(np.cumsum(length) - length, length)
    return np.sort(order[rank < k])
