"""Anchors of low rank, and the most popular items: rankings with little to learn, which are often hard to beat.

With R the training interactions and d_u, d_i the degrees:

    popular    s_ui = d_i
    SVD        s_ui = u_u . v_i (d_i + 1)^c,  D_u^(-a) R D_i^(-b) = U S V^T cut to a rank, u_u = (U S)_u
               (Cremonesi et al. 2010, PureSVD, where a = b = c = 0)
    iALS       s_ui = x_u . y_i,  min over X, Y of  sum over all u, i of  w_ui (r_ui - x_u . y_i)^2 + lambda |X, Y|^2,
               w = the confidence where r_ui = 1, else 1
               (Hu et al. 2008; by the library implicit, whose lambda does not grow with degrees)

The item factors count as learned; the users' follow from them and the interactions.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from scipy.sparse.linalg import svds

from c2f_dgl.baselines.system import Context, Fitted, Settings, System, phase_record
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import Scorer, most_popular
from c2f_dgl.extras import check_installed
from c2f_dgl.graph.entities import normalised


class SvdSettings(Settings):
    rank: int | None = Field(None, ge=1, description="rank; null: values / items")
    user_exponent: float = Field(0.5, description="a: of a user's degree, dividing interactions")
    item_exponent: float = Field(0.5, description="b: of an item's degree, dividing interactions")
    item_scale: float = Field(0.5, description="c: of an item's degree, multiplying its scores; of either sign")


class IalsSettings(Settings):
    rank: int = Field(128, ge=1, description="rank")
    confidence: float = Field(10.0, gt=1, description="weight of an interaction; other pairs have 1")
    l2: float = Field(30.0, ge=0, description="lambda")
    iterations: int = Field(15, ge=1, description="rounds of solving for users, then items")


def train_popular(context: Context[Settings]) -> Fitted:
    """Items by their degree, the same for all users."""
    scorer = most_popular(context.split.train)
    return Fitted(scorer, {}, scorer.items.nbytes)


def train_svd(context: Context[SvdSettings]) -> Fitted:
    """Item factors of the normalised interactions, which times them are the users' (Cremonesi et al. 2010)."""
    split, settings, started = context.split, context.settings, time.perf_counter()
    rank = context.values // split.n_items if settings.rank is None else settings.rank
    with context.reporter.busy("decomposing the interactions"):
        matrix = normalised(split.train, settings.user_exponent, settings.item_exponent)
        right = singular_vectors(matrix, rank, context)
    scale = (split.train.getnnz(axis=0) + 1.0) ** settings.item_scale
    record = phase_record("svd", started, rank=len(right))
    return _factorised(matrix @ right.T, right.T * scale[:, None], record)


def train_ials(context: Context[IalsSettings]) -> Fitted:
    """Weighted least squares on all pairs, users and items in turn (Hu et al. 2008), by the library implicit."""
    check_installed("implicit", where="anchor-ials")
    from implicit.cpu.als import AlternatingLeastSquares
    from threadpoolctl import threadpool_limits  # implicit needs it

    train, settings, started = context.split.train, context.settings, time.perf_counter()
    model = AlternatingLeastSquares(
        min(settings.rank, *train.shape),
        regularization=settings.l2,
        alpha=settings.confidence,
        iterations=1,
        random_state=int(context.rng("ials").integers(2**31)),
    )
    # The library's own threads each call BLAS.
    with context.reporter.busy("solving for users and items in turn"), threadpool_limits(1, "blas"):
        done = 0
        while done < settings.iterations and (done == 0 or not context.is_late):
            model.fit(train, show_progress=False)  # goes on from the factors there are
            done += 1
        # After a round the users are those of the items before it.
        users = model.recalculate_user(np.arange(train.shape[0]), train)
    return _factorised(users, model.item_factors, phase_record("als", started, iterations=done))


def _factorised(users: np.ndarray, items: np.ndarray, record: dict[str, Any]) -> Fitted:
    h_users, h_items = (torch.as_tensor(np.asarray(factors, dtype=np.float32)) for factors in (users, items))
    return Fitted(Scorer(h_users, h_items), {"items": items.size}, 4 * items.size, [record])


def singular_vectors(matrix: sp.csr_matrix, rank: int, context: Context[Any]) -> np.ndarray:
    """V^T (float64, rank x n_columns) of the largest singular values of a matrix, at most one less than it has.

    They are right to rounding; of a value that comes many times, as 1 does once a component, some may be missing.
    """
    rank = min(rank, min(matrix.shape) - 1)
    if rank < 1:
        raise InputError(f"a rank of {rank}", where="anchor", expected=f"1 to {min(matrix.shape) - 1}")
    _, _, right = svds(matrix, rank, v0=context.rng("svd").standard_normal(min(matrix.shape)))
    return np.asarray(right)


_SVD_GRID = {
    "user_exponent": (0.0, 0.25, 0.5, 0.75),
    "item_exponent": (0.0, 0.25, 0.5, 0.75),
    "item_scale": (-0.4, -0.2, 0.0, 0.2, 0.4, 0.5, 0.6),
}
_FREE_GRID = {**_SVD_GRID, "rank": (32, 64, 128, 256, 512)}
_IALS_GRID = {
    "rank": (32, 64, 128, 256),
    "confidence": (2.0, 5.0, 10.0, 20.0, 40.0, 80.0),
    "l2": (1.0, 3.0, 10.0, 30.0, 100.0, 300.0),
}
_SVD_SOURCE, _FREE_TITLE = "Cremonesi et al. 2010 (RecSys)", "SVD, rank and exponents free"
SYSTEMS = (
    System("anchor-popular", "Most popular", "-", Settings(), train_popular, {}, budgeted=False),
    System("anchor-svd-budget", "SVD, rank at the budget", _SVD_SOURCE, SvdSettings(), train_svd, _SVD_GRID),
    System("anchor-svd-free", _FREE_TITLE, _SVD_SOURCE, SvdSettings(rank=128), train_svd, _FREE_GRID, budgeted=False),
    System("anchor-ials", "iALS", "Hu et al. 2008 (ICDM)", IalsSettings(), train_ials, _IALS_GRID, budgeted=False),
)
