"""Paired comparisons of two models over the users they were both measured on.

The unit is a user. Users are drawn once and measured with every seed, so a user's differences are averaged over seeds
before the test: seeds do not multiply the sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import stats

# Of the confidence interval.
LEVEL = 0.05


@dataclass(frozen=True)
class Paired:
    """A paired comparison.

    Parameters
    ----------
    n : int
        Pairs.
    mean, low, high : float
        Mean difference and its 95 % confidence interval (t).
    p : float
        Of the two-sided paired t-test.
    wilcoxon : float
        Of Wilcoxon's signed-rank test.
    effect : float
        Cohen's d_z: mean over standard deviation of the differences.
    """

    n: int
    mean: float
    low: float
    high: float
    p: float
    wilcoxon: float
    effect: float


def paired(values: npt.ArrayLike, control: npt.ArrayLike) -> Paired:
    """Compare paired values (n,), n >= 2. Where all differences are equal nought, p is 1 and the effect nought."""
    differences = np.asarray(values, dtype=np.float64) - np.asarray(control, dtype=np.float64)
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        raise ValueError("a paired comparison needs two pairs")
    if not differences.any():
        return Paired(n, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0)
    test = stats.ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(1 - LEVEL)
    deviation = float(differences.std(ddof=1))
    return Paired(
        n,
        mean,
        float(interval.low),
        float(interval.high),
        float(test.pvalue),
        float(stats.wilcoxon(differences).pvalue),
        mean / deviation if deviation > 0 else float(np.copysign(np.inf, mean)),
    )


def over_users(values: Sequence[np.ndarray], control: Sequence[np.ndarray]) -> Paired:
    """Compare per-user metrics, one array (n_users,) a seed, NaN where a user has nothing held out.

    A seed may draw other held-out items than another, the two sides of one seed may not.
    """
    differences = np.stack(values) - np.stack(control)
    known = ~np.isnan(differences)
    some = known.any(axis=0)
    totals = np.where(known, differences, 0.0).sum(axis=0)[some] / known.sum(axis=0)[some]
    return paired(totals, np.zeros_like(totals))


def adjusted(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, the false discovery rate controlled (Benjamini and Hochberg)."""
    return [] if len(p) == 0 else [float(value) for value in stats.false_discovery_control(p)]
