"""Anchors: rankings with nothing or little to learn, which are often hard to beat.

With R the training interactions, D_u and D_i the degrees and R~ = D_u^(-1/2) R D_i^(-1/2):

    popular    s_ui = degree of i
    kNN        s_u  = r_u G,  G the k largest c_ij = (R^T R)_ij / (sqrt(d_i d_j) + s) of each row
               (Deshpande & Karypis 2004: the k neighbours of each item that was seen, there by cosine, s = 0; the
               shrinkage s, which makes little of items seldom seen together, as Ferrari Dacrema et al. 2019 tune it)
    SVD        s_ui = u_u . v_i (d_i + 1)^a,  R~ = U S V^T cut to a rank, u_u = (R~ V)_u = (U S)_u
               (Cremonesi et al. 2010, PureSVD; there R is not normalised and a = 0)
    GF-CF      s_u  = r_u R~^T R~ + alpha r_u D_i^(-1/2) V V^T D_i^(1/2)  (Shen et al. 2021). Of each row of R~^T R~ the
               `neighbours` largest entries are kept. Its diagonal is left out, which changes no ranking: it scores
               what a user has seen.
    EASE^R     s_u  = r_u B,  B = I - P diag(P)^(-1),  P = (R^T R + lambda I)^(-1)  (Steck 2019)

What is solved for counts as learned: V of SVD and of GF-CF (items x rank), B of EASE. What follows from it and the
interactions by arithmetic counts as no learned values: degrees, similarities, which take bytes, and the users' factors
of SVD, which are R~ V. EASE inverts an items x items matrix and refuses
where that would take too much memory.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
import scipy.sparse as sp
import torch
from pydantic import Field
from sklearn.utils.extmath import randomized_svd
from torch import Tensor

from c2f_dgl.baselines.system import Context, Fitted, Settings, System
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import Scorer, most_popular
from c2f_dgl.graph.item_filter import graph_filter
from c2f_dgl.graph.matrices import normalised

# Rows of X^T X formed at once: bounds the memory to these rows' entries beside what is kept.
_ROW_BLOCK = 1_024

# Dense matrices of items x items float64 that EASE holds at once.
_EASE_COPIES = 3


@dataclass(frozen=True)
class HistoryRanker:
    """s_u = r_u B from what a user has seen.

    Parameters
    ----------
    history : csr_matrix, shape (n_users, n_items), float32
        r_u.
    weights : csr_matrix or ndarray, shape (n_items, n_items), float32
        B.
    """

    history: sp.csr_matrix
    weights: sp.csr_matrix | np.ndarray

    @property
    def n_items(self) -> int:
        """Number of items."""
        return int(self.weights.shape[1])

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return torch.device("cpu")

    def scores(self, users: Tensor, out: Tensor | None = None) -> Tensor:
        """Scores (len(users) x n_items, float32) of all items for some users (int64), in `out` if given."""
        product = self.history[users.numpy()] @ self.weights
        if sp.issparse(product):
            return torch.as_tensor(product.toarray(out=None if out is None else out.numpy()))
        return torch.as_tensor(np.asarray(product)) if out is None else out.copy_(torch.as_tensor(product))


@dataclass(frozen=True)
class FilterRanker:
    """GF-CF: a `HistoryRanker` and a low-pass term of given factors, both from what a user has seen.

    Parameters
    ----------
    linear : HistoryRanker
    weight : float
        alpha.
    down, up : ndarray, shape (n_items, rank) and (rank, n_items), float32
        D_i^(-1/2) V and V^T D_i^(1/2).
    """

    linear: HistoryRanker
    weight: float
    down: np.ndarray
    up: np.ndarray

    @property
    def n_items(self) -> int:
        """Number of items."""
        return self.linear.n_items

    @property
    def device(self) -> torch.device:
        """The CPU."""
        return self.linear.device

    def scores(self, users: Tensor, out: Tensor | None = None) -> Tensor:
        """Scores (len(users) x n_items, float32) of all items for some users (int64), in `out` if given."""
        lowpass = (self.linear.history[users.numpy()] @ self.down) @ self.up
        return self.linear.scores(users, out).add_(torch.as_tensor(lowpass), alpha=self.weight)


class PopularSettings(Settings):
    """None."""


class KnnSettings(Settings):
    """Hyper-parameters of item-kNN."""

    k: int = Field(200, ge=1, description="k: neighbours kept of each item")
    shrink: float = Field(20.0, ge=0, description="s: shrinkage of similarities")


class SvdSettings(Settings):
    """Hyper-parameters of the truncated SVD."""

    rank: int | None = Field(None, ge=1, description="rank; null: values / items")
    item_scale: float = Field(0.4, description="a: exponent of an item's degree in its scores")


class GfcfSettings(Settings):
    """Hyper-parameters of GF-CF."""

    rank: int = Field(256, ge=1, description="rank of the low-pass filter")
    alpha: float = Field(0.3, ge=0, description="alpha: weight of the low-pass filter")
    neighbours: int = Field(1000, ge=1, description="entries kept of each row of the linear filter")


class EaseSettings(Settings):
    """Hyper-parameters of EASE^R."""

    l2: float = Field(200.0, gt=0, description="lambda")
    memory: float = Field(8.0, gt=0, description="GiB that the items x items matrices may take")


def train_popular(context: Context[PopularSettings]) -> Fitted:
    """Items by their degree, the same for all users."""
    scorer = most_popular(context.split.train)
    return Fitted(scorer, {}, scorer.items.nbytes)


def train_knn(context: Context[KnnSettings]) -> Fitted:
    """Cosine neighbours of what a user has seen."""
    started, train = time.perf_counter(), context.split.train
    with context.reporter.busy("finding each item's neighbours"):
        similar = _nearest_columns(train, context.settings.k, context.settings.shrink)
    return Fitted(HistoryRanker(train, similar), {}, csr_bytes(similar), [_phase("neighbours", started)])


def train_svd(context: Context[SvdSettings]) -> Fitted:
    """Item factors of the normalised interactions; the users' are the interactions times them."""
    split, started = context.split, time.perf_counter()
    rank = context.values // split.n_items if context.settings.rank is None else context.settings.rank
    rank = min(rank, *split.train.shape)
    if rank < 1:
        raise InputError(f"a rank of {rank}", where="anchor-svd", expected=f"1 to {min(split.train.shape)}")
    with context.reporter.busy("decomposing the interactions"):
        matrix = normalised(split.train)
        right = _svd(matrix, rank, context)
    scale = (split.train.getnnz(axis=0) + 1.0) ** context.settings.item_scale
    factors = (matrix @ right.T, right.T * scale[:, None])
    users, items = (torch.as_tensor(np.asarray(x, dtype=np.float32)) for x in factors)
    return Fitted(
        Scorer(users, items), {"items": items.numel()}, 4 * items.numel(), [_phase("svd", started, rank=rank)]
    )


def train_gfcf(context: Context[GfcfSettings]) -> Fitted:
    """The linear filter and the ideal low-pass filter of the normalised interactions."""
    train, settings, started = context.split.train, context.settings, time.perf_counter()
    rank = min(settings.rank, *train.shape)
    with context.reporter.busy("filtering the interactions"):
        walk = graph_filter(context.graph, settings.neighbours).neighbours
        right = _svd(normalised(train), rank, context)
    root = np.sqrt(np.maximum(train.getnnz(axis=0), 1))
    down, up = (right.T / root[:, None]).astype(np.float32), (right * root).astype(np.float32)
    size = csr_bytes(walk) + 4 * right.size
    ranker = FilterRanker(HistoryRanker(train, walk), settings.alpha, down, up)
    return Fitted(ranker, {"low-pass": right.size}, size, [_phase("filters", started, rank=rank)])


def train_ease(context: Context[EaseSettings]) -> Fitted:
    """The best linear map from items to items without a diagonal, in closed form."""
    train, n_items, started = context.split.train, context.split.n_items, time.perf_counter()
    needed = _EASE_COPIES * 8 * n_items**2 / 2**30
    if needed > context.settings.memory:
        raise InputError(
            f"EASE needs {needed:.1f} GiB for matrices of {n_items:,} x {n_items:,} items",
            where="anchor-ease",
            expected=f"a catalogue that fits into {context.settings.memory:g} GiB, or a higher setting memory",
        )
    with context.reporter.busy("inverting items x items"):
        gram = (train.T @ train).astype(np.float64).toarray()
        gram[np.diag_indices(n_items)] += context.settings.l2
        # LAPACK's potrf and potri, in place; potri leaves the inverse in one triangle.
        factor, failed = scipy.linalg.lapack.dpotrf(gram, lower=0, overwrite_a=1)
        inverse, singular = scipy.linalg.lapack.dpotri(factor, lower=0, overwrite_c=1)
        if failed or singular:
            raise InputError("R^T R + lambda I cannot be inverted", where="anchor-ease", expected="a larger l2")
        inverse = np.triu(inverse)
        inverse += np.triu(inverse, 1).T
        weights = (inverse / -np.diag(inverse)).astype(np.float32)
        np.fill_diagonal(weights, 0.0)
    return Fitted(HistoryRanker(train, weights), {"B": weights.size}, weights.nbytes, [_phase("solve", started)])


def _nearest_columns(matrix: sp.csr_matrix, k: int, shrink: float) -> sp.csr_matrix:
    """The k largest shrunk cosines of each column with the others, formed in blocks of rows.

    Parameters
    ----------
    matrix : csr_matrix, shape (n, m)
        R, ones.
    k : int
        Ties go to the lower column.
    shrink : float
        s.

    Returns
    -------
    csr_matrix, shape (m, m)
    """
    matrix, root = matrix.astype(np.float32), np.sqrt(matrix.getnnz(axis=0), dtype=np.float32)
    transposed, blocks = matrix.T.tocsr(), []
    for start in range(0, matrix.shape[1], _ROW_BLOCK):
        together = (transposed[start : start + _ROW_BLOCK] @ matrix).tocoo()
        together.data /= root[start + together.row] * root[together.col] + np.float32(shrink)
        blocks.append(_largest(together, start, k))
    return sp.vstack(blocks, format="csr")


def _largest(coo: sp.coo_matrix, first: int, k: int) -> sp.csr_matrix:
    """The k largest entries of each row; column ``first + i`` of row i does not count."""
    other = coo.col != coo.row + first
    row, column, value = coo.row[other], coo.col[other], coo.data[other]
    order = np.lexsort((column, -value, row))
    length = np.bincount(row, minlength=coo.shape[0])
    rank = np.arange(len(order)) - np.repeat(np.cumsum(length) - length, length)
    kept = order[rank < k]
    return sp.csr_matrix((value[kept], (row[kept], column[kept])), coo.shape)


def _svd(matrix: sp.csr_matrix, rank: int, context: Context[Any]) -> np.ndarray:
    """V^T (rank x items) of the largest singular values."""
    _, _, right = randomized_svd(matrix, rank, n_iter=6, random_state=int(context.rng("svd").integers(2**31)))
    return np.asarray(right)


def csr_bytes(matrix: sp.csr_matrix) -> int:
    """float32 values, int32 columns and row pointers."""
    return 8 * matrix.nnz + 4 * (matrix.shape[0] + 1)


def _phase(name: str, started: float, **more: int) -> dict[str, float | str]:
    return {"phase": name, "seconds": round(time.perf_counter() - started, 2), **more}


_SVD_SPACE = {"item_scale": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)}
SYSTEMS = (
    System("anchor-popular", "Most popular", "-", PopularSettings(), train_popular, {}, budgeted=False),
    System(
        "anchor-knn",
        "Item-kNN",
        "Deshpande & Karypis 2004 (TOIS)",
        KnnSettings(),
        train_knn,
        {"k": (100, 200, 400, 800, 1600), "shrink": (0.0, 5.0, 20.0, 50.0, 200.0)},
        budgeted=False,
    ),
    System(
        "anchor-svd-budget",
        "SVD, rank at the budget",
        "Cremonesi et al. 2010 (RecSys)",
        SvdSettings(),
        train_svd,
        _SVD_SPACE,
    ),
    System(
        "anchor-svd-128",
        "SVD, rank 128",
        "Cremonesi et al. 2010 (RecSys)",
        SvdSettings(rank=128),
        train_svd,
        _SVD_SPACE,
        budgeted=False,
    ),
    System(
        "anchor-gfcf",
        "GF-CF",
        "Shen et al. 2021 (CIKM)",
        GfcfSettings(),
        train_gfcf,
        {"alpha": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0), "rank": (64, 128, 256, 512)},
        budgeted=False,
    ),
    System(
        "anchor-ease",
        "EASE^R",
        "Steck 2019 (WWW)",
        EaseSettings(),
        train_ease,
        {"l2": (20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0)},
        budgeted=False,
    ),
)
