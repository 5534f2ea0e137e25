"""Paired comparisons of two models over the users they were both measured on, of whom seeds do not make more."""

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
    """A paired comparison."""

    n: int  # pairs
    mean: float  # of the differences
    low: float  # 95 % confidence interval of the mean (t)
    high: float
    p: float  # of the two-sided paired t-test
    wilcoxon: float  # of Wilcoxon's signed-rank test
    effect: float  # Cohen's d_z: mean over standard deviation of the differences


def paired(values: npt.ArrayLike, control: npt.ArrayLike) -> Paired:
    """Comparison of paired values (n,), n >= 2; where all differences are nought, p is 1 and the effect nought."""
    differences = np.asarray(values, dtype=np.float64) - np.asarray(control, dtype=np.float64)
    n, mean = len(differences), float(differences.mean())
    if n < 2:
        raise ValueError("a paired comparison needs two pairs")
    if not differences.any():
        return Paired(n, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0)
    test = stats.ttest_1samp(differences, 0.0)
    interval = test.confidence_interval(1 - LEVEL)
    deviation = float(differences.std(ddof=1))
    effect = mean / deviation if deviation > 0 else float(np.copysign(np.inf, mean))
    wilcoxon = float(stats.wilcoxon(differences).pvalue)
    return Paired(n, mean, float(interval.low), float(interval.high), float(test.pvalue), wilcoxon, effect)


def over_users(values: Sequence[np.ndarray], control: Sequence[np.ndarray]) -> Paired:
    """Comparison of per-user metrics, one array (n_users,) a seed, NaN where a user has nothing held out.

    A user's differences are averaged over seeds before the test: seeds do not multiply the sample.
    """
    differences = np.stack(values) - np.stack(control)
    measured = ~np.isnan(differences)
    users = measured.any(axis=0)
    means = np.where(measured, differences, 0.0).sum(axis=0)[users] / measured.sum(axis=0)[users]
    return paired(means, np.zeros_like(means))


def adjusted(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number, the false discovery rate controlled (Benjamini and Hochberg)."""
    return [float(value) for value in stats.false_discovery_control(p)] if len(p) else []
