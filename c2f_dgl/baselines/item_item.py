"""Anchors from item to item: s_u = r_u B, with r_u what user u has seen.

With R the training interactions, D_u and D_i the degrees and G = R^T R, powers elementwise:

    kNN        B_ij = G_ij / (sqrt(d_i d_j) + s), the k largest of each row
               (Deshpande & Karypis 2004: the k neighbours of each item that was seen, there by cosine, s = 0; the
               shrinkage s, which makes little of items seldom seen together, as Ferrari Dacrema et al. 2019 tune it)
    RP3beta    B = (D_i^(-1) R^T)^alpha (D_u^(-1) R)^alpha D_i^(-beta), the k largest of each row  (Paudel et al. 2017;
               what a user has seen weighs the same in r_u, as their walk's first step does for any one user)
    EASE^R     B = I - P diag(P)^(-1),  P = (G + lambda I)^(-1)  (Steck 2019)

Column j of EASE's B is a ridge regression of item j on all other items, or, where items x items matrices do not fit, on
the k items that would each reduce its loss most alone, those of the largest G_ij^2 / (d_i + lambda).

Similarities follow from the interactions by arithmetic and count as no learned values; the entries of EASE's B do.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from c2f_dgl.baselines.system import Context, Fitted, Settings, System, phase_record
from c2f_dgl.errors import InputError
from c2f_dgl.graph.neighbourhood import largest_of_rows

# Rows of an items x items product formed at once: bounds the memory to these rows' entries beside what is kept.
_ROW_BLOCK = 1_024

# Entries of items x items products looked up at once, and of systems solved at once.
_ENTRIES = 2**22

# Dense matrices of items x items float64 that EASE holds at once.
_EASE_COPIES = 3

Weights: TypeAlias = "sp.csr_matrix | np.ndarray"


@dataclass(frozen=True)
class HistoryRanker:
    """Scores of all items from what a user has seen."""

    history: sp.csr_matrix  # r_u (n_users x n_items, float32)
    response: Callable[[sp.csr_matrix], Any]  # takes some rows of it to scores (n x n_items), dense or sparse
    block: int = 2**31  # how many rows at most
    device = torch.device("cpu")

    @property
    def n_items(self) -> int:
        return int(self.history.shape[1])

    def scores(self, users: Tensor) -> Tensor:
        """Scores (len(users) x n_items, float32) of all items for some users (int64)."""
        scores = torch.empty(len(users), self.n_items)
        for part in _slices(len(users), self.block):
            response = self.response(self.history[users[part].numpy()])
            scores[part] = torch.as_tensor(response.toarray() if sp.issparse(response) else response)
        return scores


class KnnSettings(Settings):
    k: int = Field(200, ge=1, description="k: neighbours kept of each item")
    shrink: float = Field(20.0, ge=0, description="s: shrinkage of similarities")


class Rp3betaSettings(Settings):
    k: int = Field(200, ge=1, description="k: neighbours kept of each item")
    transition_power: float = Field(1.0, gt=0, description="alpha: power of the probabilities of each step")
    popularity_power: float = Field(0.5, description="beta: power of the degrees that scores are divided by")


class EaseSettings(Settings):
    l2: float = Field(200.0, gt=0, description="lambda")
    memory: float = Field(8.0, gt=0, description="GiB that may be taken; in blocks where items x items does not fit")
    support: int = Field(100, ge=1, description="items that an item is regressed on where it is done in blocks")


def knn(context: Context[KnnSettings]) -> sp.csr_matrix:
    """B of item-kNN."""
    train, shrink = context.split.train.astype(np.float32), np.float32(context.settings.shrink)
    root = np.sqrt(train.getnnz(axis=0), dtype=np.float32)
    cosine = lambda i, j, together: together / (root[i] * root[j] + shrink)
    return strongest(train.T.tocsr(), train, context.settings.k, cosine)


def rp3beta(context: Context[Rp3betaSettings]) -> sp.csr_matrix:
    """B of RP3beta."""
    train, settings = context.split.train.astype(np.float32), context.settings
    by_user, by_item = (np.maximum(train.getnnz(axis=axis), 1).astype(np.float32) for axis in (1, 0))
    to_users = sp.diags(by_item**-settings.transition_power) @ train.T
    to_items = sp.diags(by_user**-settings.transition_power) @ train
    scale = by_item**-settings.popularity_power
    return strongest(to_users.tocsr(), to_items.tocsr(), settings.k, lambda i, j, walks: walks * scale[j])


def ease(context: Context[EaseSettings]) -> Weights:
    """B of EASE (float32), by inverting G + lambda I, or found in blocks, and sparse, where that does not fit."""
    settings, train = context.settings, context.split.train
    if _EASE_COPIES * 8 * context.split.n_items**2 > settings.memory * 2**30:
        return sparse_ease(train, settings.l2, settings.support, settings.memory)
    gram = (train.T @ train).astype(np.float64).toarray()
    gram[np.diag_indices(len(gram))] += settings.l2
    # LAPACK's potrf and potri, in place; potri leaves the inverse in one triangle.
    factor, failed = scipy.linalg.lapack.dpotrf(gram, lower=0, overwrite_a=1)
    inverse, singular = scipy.linalg.lapack.dpotri(factor, lower=0, overwrite_c=1)
    if failed or singular:
        raise InputError("R^T R + lambda I cannot be inverted", where="anchor-ease", expected="a larger l2")
    inverse = np.triu(inverse)
    inverse += np.triu(inverse, 1).T
    weights: np.ndarray = (inverse / -np.diag(inverse)).astype(np.float32)
    np.fill_diagonal(weights, 0.0)
    return weights


def sparse_ease(train: sp.csr_matrix, l2: float, support: int, memory: float) -> sp.csr_matrix:
    """B (n_items x n_items), each column a ridge regression on the `support` items that reduce its loss most alone.

    As many systems are formed at once as take half of `memory`, in GiB; G is formed anew for each lot of them.
    """
    train, n_items = train.astype(np.float32), train.shape[1]
    transposed, degree = train.T.tocsr(), train.getnnz(axis=0)
    root = np.sqrt(degree + l2).astype(np.float32)
    chosen = strongest(transposed, train, support, lambda j, i, together: together / root[i])
    count = np.diff(chosen.indptr)
    width = int(count.max(initial=1))
    filled = np.arange(width) < count[:, None]
    others, together = np.zeros(filled.shape, dtype=np.int32), np.zeros(filled.shape)
    others[filled], together[filled] = chosen.indices, np.rint(chosen.data * root[chosen.indices])
    lot = max(1, int(memory * 2**29) // (4 * width**2))
    values = [
        _solve(_systems(transposed, train, others[rows], filled[rows]), together[rows], l2)
        for rows in _slices(n_items, lot)
    ]
    data = np.concatenate(values)[filled].astype(np.float32)
    return sp.csr_matrix((data, chosen.indices, chosen.indptr), chosen.shape).T.tocsr()


def _systems(transposed: sp.csr_matrix, train: sp.csr_matrix, others: np.ndarray, filled: np.ndarray) -> np.ndarray:
    """G at the items that each of n items is regressed on (n x k x k, float32), 0 where `filled` (n x k) is not."""
    width = others.shape[1]
    systems = np.zeros((*others.shape, width), dtype=np.float32)
    for block in _slices(train.shape[1], _ROW_BLOCK):
        system, row = np.nonzero(filled & (others >= block.start) & (others < block.stop))
        if len(system) == 0:
            continue
        gram = (transposed[block] @ train).sorted_indices()
        for part in _slices(len(system), max(1, _ENTRIES // width)):
            of_part = others[system[part]]
            rows = np.repeat(of_part[np.arange(len(of_part)), row[part]] - block.start, width)
            values = np.asarray(gram[rows, of_part.ravel()]).reshape(-1, width)
            systems[system[part], row[part]] = values * filled[system[part]]
    return systems


def _solve(systems: np.ndarray, right: np.ndarray, l2: float) -> np.ndarray:
    """(A + lambda I)^(-1) b of n systems A (n x k x k, float32) and b (n x k); 0 where their rows are 0."""
    width = right.shape[1]
    solutions, ridge = np.empty(right.shape), l2 * torch.eye(width, dtype=torch.float64)
    for part in _slices(len(right), max(1, _ENTRIES // width**2)):
        factor = torch.linalg.cholesky(torch.as_tensor(systems[part]).double() + ridge)
        solutions[part] = torch.cholesky_solve(torch.as_tensor(right[part])[:, :, None], factor)[:, :, 0].numpy()
    return solutions


def strongest(
    left: sp.csr_matrix, right: sp.csr_matrix, k: int, weigh: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
) -> sp.csr_matrix:
    """The k largest entries of each row of a weighed product (float32), the diagonal left out, in blocks of rows.

    `weigh` takes rows, columns and entries of the product, (n,) each, to positive weights; ties go to the lower column.
    """
    blocks = []
    for block in _slices(left.shape[0], _ROW_BLOCK):
        product = (left[block] @ right).sorted_indices().tocoo()
        rows, columns = product.row, product.col
        weights = weigh(block.start + rows, columns, product.data)
        weights[columns == block.start + rows] = 0
        largest = largest_of_rows(rows, weights, k)
        largest = largest[weights[largest] > 0]
        blocks.append(sp.csr_matrix((weights[largest], (rows[largest], columns[largest])), product.shape))
    return sp.vstack(blocks, format="csr")


def _slices(n: int, size: int) -> Iterator[slice]:
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def csr_bytes(matrix: sp.csr_matrix) -> int:
    """float32 values, int32 columns and row pointers."""
    return 8 * matrix.nnz + 4 * (matrix.shape[0] + 1)


def item_item(make: Callable[[Context[Any]], Weights], learned: bool = False) -> Callable[[Context[Any]], Fitted]:
    """The training of a system from the function that makes its B, whose entries count where they are learned."""

    def train(context: Context[Any]) -> Fitted:
        started = time.perf_counter()
        with context.reporter.busy("weighing items against items"):
            weights = make(context)
        ranker = HistoryRanker(context.split.train, lambda history: history @ weights)
        values = {"B": weights.size} if learned else {}
        size = weights.nbytes if isinstance(weights, np.ndarray) else csr_bytes(weights)
        return Fitted(ranker, values, size, [phase_record("item to item", started)])

    return train


_NEIGHBOURS = (50, 100, 200, 400, 800, 1600)
_KNN_GRID = {"k": _NEIGHBOURS, "shrink": (0.0, 5.0, 20.0, 50.0, 200.0)}
_RP3BETA_GRID = {
    "k": _NEIGHBOURS,
    "transition_power": (0.4, 0.6, 0.8, 1.0, 1.2, 1.5),
    "popularity_power": (-0.4, -0.2, 0.0, 0.2, 0.4, 0.6, 0.8),
}
_EASE_GRID = {"l2": (10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)}
_KNN, _RP3BETA = "Deshpande & Karypis 2004 (TOIS)", "Paudel et al. 2017 (TiiS)"
_train_ease = item_item(ease, learned=True)
SYSTEMS = (
    System("anchor-knn", "Item-kNN", _KNN, KnnSettings(), item_item(knn), _KNN_GRID, budgeted=False),
    System("anchor-rp3beta", "RP3beta", _RP3BETA, Rp3betaSettings(), item_item(rp3beta), _RP3BETA_GRID, budgeted=False),
    System("anchor-ease", "EASE^R", "Steck 2019 (WWW)", EaseSettings(), _train_ease, _EASE_GRID, budgeted=False),
)
