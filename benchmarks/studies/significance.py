"""Whether one variant ranks better than another: the rule for a verdict from paired tests over users."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from benchmarks.studies.spec import Direction
from c2f_dgl.evaluation.significance import LEVEL, Paired

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
    """The rule `RULE` for one control.

    Parameters
    ----------
    p : float
        Adjusted p-value of the comparison.
    control : float
        The control's figure.
    """
    sign = 1.0 if yes_if == "higher" else -1.0
    if sign * compared.mean > 0 and p < LEVEL:
        return "yes"
    reach = compared.high if yes_if == "higher" else -compared.low
    return "no" if reach < MARGIN * control else "undecided"


def against_all(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict against several controls: the least favourable one."""
    return next(verdict for verdict in ("no", "undecided", "yes") if verdict in verdicts)  # type: ignore[return-value]
