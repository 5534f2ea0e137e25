"""Paired tests against scipy's two-sample forms, and the verdict rule on made data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from benchmarks.studies.significance import TABLE_4, against_all, over_cutoffs, rounding, verdict
from c2f_dgl.evaluation.significance import Paired, adjusted, over_users, paired


@given(st.integers(0, 2**32 - 1), st.integers(3, 40))
def test_paired_is_scipys_paired_test(seed: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.normal(size=n)
    found, expected = paired(a, b), stats.ttest_rel(a, b)
    assert found.p == pytest.approx(expected.pvalue)
    assert (found.low, found.high) == pytest.approx(tuple(expected.confidence_interval()))
    assert found.mean == pytest.approx(np.mean(a) - np.mean(b))
    assert found.effect == pytest.approx(expected.statistic / np.sqrt(n))
    assert found.wilcoxon == pytest.approx(stats.wilcoxon(a, b).pvalue)


def test_equal_sides_differ_by_nothing() -> None:
    same = np.array([0.2, 0.4, 0.1])
    assert paired(same, same) == Paired(3, 0.0, 0.0, 0.0, 1.0, 1.0, 0.0)


def test_a_user_counts_once_however_many_seeds_there_are() -> None:
    nan = np.nan
    values = [np.array([0.5, 0.2, nan, nan]), np.array([0.3, nan, 0.6, nan])]
    control = [np.array([0.1, 0.1, nan, nan]), np.array([0.1, nan, 0.7, nan])]
    expected = paired(np.array([0.3, 0.1, -0.1]), np.zeros(3))
    found = over_users(values, control)
    assert found.n == 3 and found.mean == pytest.approx(expected.mean) and found.p == pytest.approx(expected.p)
    once, thrice = over_users(values[:1], control[:1]), over_users([values[0]] * 3, [control[0]] * 3)
    assert thrice.n == once.n == 2 and thrice.p == pytest.approx(once.p)


def compared(mean: float, low: float, high: float) -> Paired:
    return Paired(100, mean, low, high, 0.5, 0.5, 0.1)


@pytest.mark.parametrize(
    ("difference", "p", "higher", "lower"),
    [
        ((0.02, 0.01, 0.03), 0.001, "yes", "no"),
        ((-0.02, -0.03, -0.01), 0.001, "no", "yes"),
        ((0.0, 0.0, 0.0), 1.0, "no", "no"),
        ((0.001, -0.0015, 0.0019), 0.4, "no", "no"),  # the interval ends short of 1 % of 0.2
        ((0.001, -0.0015, 0.0021), 0.4, "undecided", "no"),
        ((-0.001, -0.0021, 0.0015), 0.4, "no", "undecided"),
        ((-0.001, -0.006, 0.005), 0.7, "undecided", "undecided"),  # the sign alone says nothing
    ],
)
def test_the_rule(difference: tuple[float, float, float], p: float, higher: str, lower: str) -> None:
    assert verdict(compared(*difference), p, 0.2, "higher") == higher
    assert verdict(compared(*difference), p, 0.2, "lower") == lower


def test_several_controls_and_several_comparisons() -> None:
    assert against_all(["yes", "yes"]) == "yes"
    assert against_all(["yes", "undecided"]) == "undecided"
    assert against_all(["no", "undecided", "yes"]) == "no"
    assert adjusted([0.01, 0.02, 0.6]) == pytest.approx([0.03, 0.03, 0.6])
    assert adjusted([]) == []


def test_the_papers_p_values_are_those_over_its_four_cut_offs() -> None:
    """To within what rounding to four digits leaves open, in all twelve cases."""
    for control, seeds in TABLE_4.values():
        for values, printed in seeds.values():
            low, high = rounding(values, control)
            assert low <= over_cutoffs(values, control) <= high
            assert low <= printed <= high
