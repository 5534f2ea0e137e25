"""Whether one variant ranks better than another: the rule for a verdict; and the paper's Table 4, with its p-values."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal

import numpy as np
from scipy import stats

from benchmarks.measure import table
from c2f_dgl.evaluation.significance import LEVEL, Paired

Direction = Literal["higher", "lower"]
Verdict = Literal["yes", "no", "undecided"]

# Differences within this share of the control's figure are too small to matter here.
MARGIN = 0.01

RULE = (
    "Validation chooses the checkpoint of a run, and so cannot judge it: the answer is read from test NDCG@20, per "
    "user, averaged over seeds. **Yes**: the mean difference to every control has the sign the question asks for, with "
    f"p < {LEVEL:g} in a paired t-test over users, adjusted for the number of comparisons in the table (Benjamini and "
    f"Hochberg). **No**: the {1 - LEVEL:.0%} interval ends short of {MARGIN:.0%} of the control's figure in the "
    "direction asked for. **Undecided**: anything else. The test is over users, for the models at hand: other seeds "
    "may move a difference by more than its interval, so a yes or no on one seed is a weak one."
)


def verdict(compared: Paired, p: float, control: float, yes_if: Direction) -> Verdict:
    """The rule `RULE` for one control, of figure `control`; p is adjusted."""
    sign = 1.0 if yes_if == "higher" else -1.0
    if sign * compared.mean > 0 and p < LEVEL:
        return "yes"
    reach = compared.high if yes_if == "higher" else -compared.low
    return "no" if reach < MARGIN * control else "undecided"


def against_all(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict against several controls: the least favourable one."""
    return next(verdict for verdict in ("no", "undecided", "yes") if verdict in verdicts)  # type: ignore[return-value]


_PRINTED = """
Gowalla  NDCG   LEGCF 0.0788 0.0856 0.0984 0.1213
Gowalla  NDCG   2024  0.0829 0.0897 0.1021 0.1247 0.00025
Gowalla  NDCG   2025  0.0840 0.0906 0.1032 0.1256 0.00015
Gowalla  NDCG   2026  0.0843 0.0907 0.1034 0.1258 0.00018
Gowalla  Recall LEGCF 0.0678 0.0978 0.1405 0.2233
Gowalla  Recall 2024  0.0712 0.1016 0.1433 0.2251 0.00778
Gowalla  Recall 2025  0.0717 0.1020 0.1446 0.2256 0.00421
Gowalla  Recall 2026  0.0721 0.1022 0.1446 0.2257 0.00428
Yelp2020 NDCG   LEGCF 0.0167 0.0214 0.0287 0.0417
Yelp2020 NDCG   2024  0.0175 0.0222 0.0297 0.0429 0.00159
Yelp2020 NDCG   2025  0.0177 0.0225 0.0302 0.0439 0.00937
Yelp2020 NDCG   2026  0.0175 0.0223 0.0297 0.0431 0.00194
Yelp2020 Recall LEGCF 0.0177 0.0306 0.0533 0.1017
Yelp2020 Recall 2024  0.0185 0.0318 0.0549 0.1043 0.02548
Yelp2020 Recall 2025  0.0189 0.0322 0.0560 0.1072 0.06585
Yelp2020 Recall 2026  0.0187 0.0321 0.0548 0.1045 0.02153
"""

# Table 4 as printed: data set, metric -> LEGCF, and per seed the model's figures and the p-value. The four cut-offs
# are printed as 1, 5, 10, 20; the published code's own are 5, 10, 20, 50.
TABLE_4: dict[tuple[str, str], tuple[tuple[float, ...], dict[int, tuple[tuple[float, ...], float]]]] = {}
for _data, _metric, _run, *_figures in map(str.split, _PRINTED.strip().splitlines()):
    _values = tuple(map(float, _figures))
    if _run == "LEGCF":
        TABLE_4[_data, _metric] = _values, {}
    else:
        TABLE_4[_data, _metric][1][int(_run)] = _values[:4], _values[4]


def over_cutoffs(values: tuple[float, ...], control: tuple[float, ...]) -> float:
    """p of a paired t-test over the cut-offs of one run."""
    return float(stats.ttest_rel(values, control).pvalue)


def rounding(values: tuple[float, ...], control: tuple[float, ...], digits: int = 4) -> tuple[float, float]:
    """Least and greatest p of `over_cutoffs` on a grid of figures that are printed as these."""
    reach = np.linspace(-1, 1, 9) * 10.0**-digits  # a difference of two rounded figures is off by one last digit
    errors = np.array(list(itertools.product(reach, repeat=len(values))))
    p = stats.ttest_1samp(np.subtract(values, control) + errors, 0.0, axis=1).pvalue
    return float(p.min()), float(p.max())


def table_4() -> str:
    """The printed p-values beside those of a paired t-test over the four cut-offs of one run."""
    lines, within = [], []
    for (data, metric), (control, seeds) in TABLE_4.items():
        for seed, (values, printed) in seeds.items():
            low, high = rounding(values, control)
            within.append(low <= printed <= high)
            computed = f"{over_cutoffs(values, control):.5f} ({low:.5f} to {high:.5f})"
            lines.append(f"{data}, {metric} | {seed} | {printed:.5f} | {computed}")
    return "\n\n".join(
        [
            "The paper has one LEGCF run, one run of its model per seed, and a p-value for each of these. Beside it "
            "stands that of a paired t-test over the four cut-offs of the one run, with what rounding to four digits "
            f"leaves open; {sum(within)} of the {len(within)} printed values lie within.",
            table("Table 4, p-values | seed | printed | over its four cut-offs", lines),
            "Cut-offs of one run are nested sums over the same ranked lists, not repetitions: such a p says that the "
            "gain is alike at all cut-offs, not that another run or other users would show it.",
        ]
    )
