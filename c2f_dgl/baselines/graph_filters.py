"""Anchors that filter what a user has seen, as a signal on the items, with nothing learned but singular vectors.

With R the training interactions, R~ = D_u^(-1/2) R D_i^(-1/2), P = R~^T R~, V the right singular vectors of R~ of its
largest singular values, and H_e = D_i^e V V^T D_i^(-e), the ideal low-pass filter:

    GF-CF      s_u = (P + alpha H_(1/2)) r_u  (Shen et al. 2021)
    BSPM       s_u = Q (P + alpha H_(1/2)) r_u, merged early, or (Q P + alpha H_(1/2)) r_u, merged late: blurred, then
               sharpened by Q, one step of length t of Euler or of Runge-Kutta of order 4 for ds/dt = -P s  (Choi et al.
               2023; their mean over points of time is left out). P and H are an Euler step of length 1 of the blurring.
    ChebyCF    s_u = (D_i^e c(P) D_i^(-e) + alpha H_e) r_u,  c the Chebyshev interpolation of degree K of a plateau
               h(x) = (1 - sign(x) |x|^phi) / 2 on the spectrum of x = I - 2 P  (Kim et al. 2025; h is interpolated at
               the Chebyshev nodes, where their code has its values at the extrema)

No items x items matrix is formed: P is applied to the signals of some users at a time. Of what is stored besides the
interactions there are the singular vectors (items x rank), which count as learned.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
from numpy.polynomial.chebyshev import chebinterpolate
from pydantic import Field

from c2f_dgl.baselines.anchors import singular_vectors
from c2f_dgl.baselines.item_item import HistoryRanker
from c2f_dgl.baselines.system import Context, Fitted, Settings, System, phase_record
from c2f_dgl.graph.entities import normalised

# Signals (n_items x n, float32, one a column) to signals.
Filter = Callable[[np.ndarray], np.ndarray]

# Entries of the signals of some users, on users and items, that are filtered at once: few enough for a cache.
_SIGNAL_BLOCK = 2**21


class FilterSettings(Settings):
    rank: int = Field(256, ge=1, description="rank of the low-pass filter")
    alpha: float = Field(0.3, ge=0, description="alpha: weight of the low-pass filter")

    def exponents(self) -> tuple[float, float]:
        """Those e of the items' degrees by which P and V V^T are conjugated: D_i^e P D_i^(-e)."""
        return 0.0, 0.5


class BspmSettings(FilterSettings):
    sharpening: float = Field(1.0, ge=0, description="t: length of the sharpening step")
    solver: Literal["euler", "rk4"] = Field("rk4", description="what makes the sharpening step")
    merge: Literal["early", "late"] = Field("early", description="low-pass filter merged before or after sharpening")


class ChebySettings(FilterSettings):
    degree: int = Field(8, ge=1, description="K: degree of the interpolation")
    flatness: float = Field(10.0, gt=0, description="phi: how flat the plateau is")
    exponent: float = Field(0.2, description="e: exponent of the items' degrees")

    def exponents(self) -> tuple[float, float]:
        return self.exponent, self.exponent


def gfcf(settings: FilterSettings, walk: Filter, low_pass: Filter) -> Filter:
    """F of GF-CF (Shen et al. 2021)."""
    return lambda signals: walk(signals) + settings.alpha * low_pass(signals)


def bspm(settings: BspmSettings, walk: Filter, low_pass: Filter) -> Filter:
    """F of BSPM (Choi et al. 2023)."""
    order = {"euler": 1, "rk4": 4}[settings.solver]

    def sharpen(signals: np.ndarray) -> np.ndarray:
        # A Runge-Kutta step of as many stages as its order is, on a linear equation, a Taylor polynomial of exp(-t P).
        sharp = signals
        for term in range(order, 0, -1):
            sharp = signals - settings.sharpening / term * walk(sharp)
        return sharp

    if settings.merge == "early":
        return lambda signals: sharpen(walk(signals) + settings.alpha * low_pass(signals))
    return lambda signals: sharpen(walk(signals)) + settings.alpha * low_pass(signals)


def chebycf(settings: ChebySettings, walk: Filter, low_pass: Filter) -> Filter:
    """F of ChebyCF (Kim et al. 2025)."""
    plateau = lambda x: (1 - np.sign(x) * np.abs(x) ** settings.flatness) / 2
    weights = chebinterpolate(plateau, settings.degree).tolist()

    def interpolated(signals: np.ndarray) -> np.ndarray:
        shifted = lambda x: x - 2 * walk(x)
        before, current = signals, shifted(signals)
        total = weights[0] * before + weights[1] * current
        for weight in weights[2:]:
            before, current = current, 2 * shifted(current) - before
            total += weight * current
        return total

    return lambda signals: interpolated(signals) + settings.alpha * low_pass(signals)


def filtered(make: Callable[[Any, Filter, Filter], Filter]) -> Callable[[Context[Any]], Fitted]:
    """The training of a system from what makes its F of its settings, of P and of the low-pass filter."""

    def train(context: Context[Any]) -> Fitted:
        train, settings, started = context.split.train, context.settings, time.perf_counter()
        normal = normalised(train)
        with context.reporter.busy("decomposing the interactions"):
            right = singular_vectors(normal, settings.rank, context)
        degree = np.maximum(train.getnnz(axis=0), 1.0)
        of_walk, of_low_pass = (degree**exponent for exponent in settings.exponents())
        walk = _product(sp.diags(of_walk) @ normal.T, normal @ sp.diags(1 / of_walk))
        low_pass = _product(of_low_pass[:, None] * right.T, right / of_low_pass)
        response, block = make(settings, walk, low_pass), max(1, _SIGNAL_BLOCK // sum(train.shape))
        ranker = HistoryRanker(train, lambda rows: response(rows.T.toarray(order="C")).T, block)
        return Fitted(ranker, {"low-pass": right.size}, 4 * right.size, [phase_record("svd", started, rank=len(right))])

    return train


def _product(left: Any, right: Any) -> Filter:
    """x -> A (B x) of dense or sparse A and B, in float32."""
    left, right = ((x.tocsr() if sp.issparse(x) else x).astype(np.float32) for x in (left, right))
    return lambda signals: left @ (right @ signals)


_GRID = {"alpha": (0.0, 0.1, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0), "rank": (32, 64, 128, 256, 512)}
_BSPM_GRID = {**_GRID, "sharpening": (0.5, 1.0, 1.5, 2.0, 2.5), "solver": ("euler", "rk4"), "merge": ("early", "late")}
_CHEBY_GRID = {**_GRID, "flatness": (1.0, 1.5, 2.0, 5.0, 10.0, 15.0), "exponent": (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)}
_BSPM, _CHEBYCF = "Choi et al. 2023 (SIGIR)", "Kim et al. 2025 (SIGIR)"
_chebycf = filtered(chebycf)
SYSTEMS = (
    System("anchor-gfcf", "GF-CF", "Shen et al. 2021 (CIKM)", FilterSettings(), filtered(gfcf), _GRID, budgeted=False),
    System("anchor-bspm", "BSPM", _BSPM, BspmSettings(), filtered(bspm), _BSPM_GRID, budgeted=False),
    System("anchor-chebycf", "ChebyCF", _CHEBYCF, ChebySettings(), _chebycf, _CHEBY_GRID, budgeted=False),
)
