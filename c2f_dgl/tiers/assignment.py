"""Assignments S: which few atoms of a codebook compose each row, and with what weights.

They are made of a partition of the graph (`anchored`), of propagated embeddings (`pinv`, `pursuit`), or between two
tiers with the entities as a bridge (`bridge`, `bridge_from_partition`). None of this uses gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from c2f_dgl.config.sizes import AtomBlock

# Rows handled at once where an intermediate is rows x m: keeps it near 64 MB in float32 at m = 1000.
_ROW_BLOCK = 16_384


@dataclass(frozen=True)
class Assignment:
    """S, row-sparse with at most t entries a row."""

    indices: Tensor  # columns of the entries, distinct within a row: int64 (rows, t)
    weights: Tensor  # values, >= 0, of which a zero is an empty slot: (rows, t)
    n_atoms: int  # number of columns, m

    @property
    def n_values(self) -> int:
        """Number of stored weights, the ``t N`` of the paper's parameter count (empty slots do not count)."""
        return int(torch.count_nonzero(self.weights))

    def compose(self, atoms: Tensor) -> Tensor:
        """``S @ atoms`` (rows x width), differentiable in `atoms` (m x width). Eq. 1, 12, 18."""
        return compose(self.indices, self.weights, atoms)

    def dense(self) -> Tensor:
        """S as a dense matrix (rows x m)."""
        full = self.weights.new_zeros(len(self.indices), self.n_atoms)
        return full.scatter_add_(1, self.indices, self.weights)


def in_block(assignment: Assignment, block: AtomBlock, n_atoms: int) -> Assignment:
    """An assignment to the atoms of `block`, numbered from 0, as one to all `n_atoms`."""
    return Assignment(assignment.indices + block.start, assignment.weights, n_atoms)


def compose(indices: Tensor, weights: Tensor, atoms: Tensor) -> Tensor:
    """Weighted sums of `atoms` (m x width) at `indices` (rows x t): the product with some rows of S."""
    return F.embedding_bag(indices, atoms, per_sample_weights=weights.to(atoms), mode="sum")


def anchored(parts: np.ndarray, n_atoms: int, t: int, anchor_weight: float, rng: np.random.Generator) -> Assignment:
    """S from a partition, parts (rows,) in [0, n_atoms): the row's own one weighs w*, t - 1 random others 1 - w*.

    The paper (Sec. 3.3, step 1) spreads 1 - w* over all other parts, t entries of which are a draw among equals, as in
    the published code. With t = 1 the only weight is 1.
    """
    rows = len(parts)
    if t == 0:
        return Assignment(torch.zeros(rows, 0, dtype=torch.int64), torch.zeros(rows, 0), n_atoms)
    others = _distinct(rng, rows, t - 1, n_atoms - 1)
    others += others >= parts[:, None]  # skip the row's own part
    indices = torch.as_tensor(np.concatenate([parts[:, None], others], axis=1), dtype=torch.int64)
    weights = torch.full((rows, t), (1 - anchor_weight) / max(t - 1, 1))
    weights[:, 0] = anchor_weight if t > 1 else 1.0
    return Assignment(indices, weights, n_atoms)


def _distinct(rng: np.random.Generator, rows: int, k: int, n: int) -> np.ndarray:
    """`k` distinct numbers below `n` in each of `rows` rows (Floyd's sampling, vectorised over rows)."""
    drawn = np.empty((rows, k), dtype=np.int64)
    for slot, top in enumerate(range(n - k, n)):
        candidate = rng.integers(0, top + 1, size=rows)
        taken = (drawn[:, :slot] == candidate[:, None]).any(axis=1)
        drawn[:, slot] = np.where(taken, top, candidate)
    return drawn


def top_entries(scores: Tensor, t: int, *, softmax: bool = False) -> Assignment:
    """The t largest non-negative entries of each row (Eq. 24), after a softmax in the published code's fine stage."""
    values, indices = (scores.softmax(dim=1) if softmax else scores).topk(t, dim=1)
    return Assignment(indices, values.clamp_min(0), scores.shape[1])


def pinv(rows: Tensor, atoms: Tensor, t: int, *, softmax: bool = False) -> Assignment:
    """S = H_full pinv(H_meta) (Eq. 11) from rows (n, d) and atoms (m, d), cut as in `top_entries`."""
    inverse = torch.linalg.pinv(atoms)
    return stack([top_entries(block @ inverse, t, softmax=softmax) for block in rows.split(_ROW_BLOCK)])


def pursuit(rows: Tensor, atoms: Tensor, t: int) -> Assignment:
    """Orthogonal matching pursuit of `rows` in `atoms`, non-negative, t steps.

    Each step takes the atom with the largest correlation (cosine) to what is left of the row and fits the weights of
    all atoms taken so far anew; where one would be negative its slot stays empty (weight 0). Eq. 11 spreads its
    minimum-norm solution over all m atoms before cutting it to t: this leaves a fraction of its error.
    """
    lengths = atoms.norm(dim=1)
    unit = atoms / lengths.clamp_min(torch.finfo(atoms.dtype).tiny)[:, None]
    gram = atoms @ atoms.T
    return stack([_pursue(block, atoms, unit, gram, t) for block in rows.split(_ROW_BLOCK)])


def _pursue(rows: Tensor, atoms: Tensor, unit: Tensor, gram: Tensor, t: int) -> Assignment:
    projections = rows @ atoms.T
    chosen, weights = rows.new_zeros((len(rows), 0), dtype=torch.int64), rows.new_zeros((len(rows), 0))
    for _ in range(t):
        residual = rows if chosen.shape[1] == 0 else rows - compose(chosen, weights, atoms)
        correlation = (residual @ unit.T).scatter(1, chosen, -torch.inf)
        chosen = torch.cat([chosen, correlation.argmax(dim=1, keepdim=True)], dim=1)
        weights = _nonnegative_fit(gram, projections, chosen, weights)
    return Assignment(chosen, weights, len(atoms))


def _nonnegative_fit(gram: Tensor, projections: Tensor, chosen: Tensor, before: Tensor) -> Tensor:
    """Non-negative least squares on the chosen atoms, from the weights before the last one: Lawson and Hanson's loop.

    Towards the unconstrained fit until the first weight would turn negative, without that atom from there on, and so
    on: no row ends with a larger error than it began with.
    """
    n, k = chosen.shape
    matrices = gram[chosen[:, :, None], chosen[:, None, :]]
    targets = projections.gather(1, chosen)
    # A touch of ridge keeps twin atoms solvable without changing well-posed fits.
    number = torch.finfo(gram.dtype)
    ridge = (number.eps * 8 * gram.diagonal().max()).clamp_min(number.tiny)
    identity = torch.eye(k, dtype=gram.dtype, device=gram.device)
    active = torch.ones_like(targets, dtype=torch.bool)
    weights = torch.cat([before, before.new_zeros(n, 1)], dim=1)
    for _ in range(k):
        both = active[:, :, None] & active[:, None, :]
        system = torch.where(both, matrices, identity) + ridge * identity
        fit = torch.linalg.solve(system, torch.where(active, targets, 0.0)[:, :, None])[:, :, 0]
        negative = active & (fit < 0)
        if not negative.any():
            return torch.where(active, fit, 0.0)
        reach = torch.where(negative, weights / (weights - fit), 1.0)
        step = reach.min(dim=1, keepdim=True).values
        active &= ~(negative & (reach <= step))
        weights = torch.where(active, weights + step * (fit - weights), 0.0)
    return weights


def bridge(entities: Tensor, parents: Tensor, atoms: Tensor, t: int, *, softmax: bool = False) -> Assignment:
    """S^r by weight bridging: (H_full pinv(H_parents))^T (H_full pinv(H_atoms)), top t a row (Eq. 23, 24).

    Of entities (N, d), parents (m^c, d) and atoms (m^r, d), with H_full^T H_full formed first, which is d x d.
    """
    gram = entities.T @ entities
    return top_entries(torch.linalg.pinv(parents).T @ gram @ torch.linalg.pinv(atoms), t, softmax=softmax)


def bridge_from_partition(
    entity_assignment: Assignment, parts: np.ndarray, n_atoms: int, t: int, anchor_weight: float, *, softmax: bool
) -> Assignment:
    """The first S^r: (S^c)^T S~, top t a row, with S~ (N x m^r) anchored in a partition (Sec. 3.3, steps 1-3).

    S~ has w* in the entity's own one of the parts (N,) and (1 - w*) / (m^r - 1) elsewhere: a constant and a one-hot
    matrix, so that one pass over S^c gives the product.
    """
    weights, m = entity_assignment.weights, entity_assignment.n_atoms
    elsewhere = (1 - anchor_weight) / max(n_atoms - 1, 1)
    own_part = torch.as_tensor(parts, dtype=torch.int64, device=weights.device)[:, None]
    cell = entity_assignment.indices * n_atoms + own_part
    anchored_mass = weights.new_zeros(m * n_atoms).index_add_(0, cell.flatten(), weights.flatten())
    mass = weights.new_zeros(m).index_add_(0, entity_assignment.indices.flatten(), weights.flatten())
    scores = elsewhere * mass[:, None] + (anchor_weight - elsewhere) * anchored_mass.view(m, n_atoms)
    return top_entries(scores, t, softmax=softmax)


def through(first: Assignment, second: Assignment) -> Assignment:
    """The entries of ``first @ second``, (t1 * t2) a row; columns may repeat within a row."""
    indices = second.indices[first.indices].flatten(1)
    weights = (first.weights[:, :, None] * second.weights[first.indices]).flatten(1)
    return Assignment(indices, weights, second.n_atoms)


def stack(blocks: Sequence[Assignment]) -> Assignment:
    """Assignments to the same atoms one under the other; the narrower ones get empty slots."""
    t = max(block.indices.shape[1] for block in blocks)
    indices = torch.cat([F.pad(block.indices, (0, t - block.indices.shape[1])) for block in blocks])
    weights = torch.cat([F.pad(block.weights, (0, t - block.weights.shape[1])) for block in blocks])
    return Assignment(indices, weights, blocks[0].n_atoms)
