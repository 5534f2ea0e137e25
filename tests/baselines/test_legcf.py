"""LEGCF keeps its budget, updates S, and trains."""

from __future__ import annotations

import numpy as np
import pytest

from c2f_dgl.baselines import legcf
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate


def test_sizes_keep_the_budget_and_give_up_width_before_entries() -> None:
    assert legcf.sizes(70_839, 190_000, 64, 2) == (2, 755, 64)
    assert legcf.sizes(1_000, 2_600, 64, 2) == (2, 37, 16)
    assert legcf.sizes(1_000, 2_100, 64, 2) == (1, 34, 32)
    with pytest.raises(InputError, match="a weight per entity"):
        legcf.sizes(1_000, 1_000, 64, 2)


def test_it_trains_in_both_phases_within_the_budget(planted_context, popular_ndcg: float) -> None:
    context = planted_context(legcf.LegcfSettings(d=16, lr=0.02, epochs=10, evaluate_every=2))
    fitted = legcf.train(context)
    assert evaluate(fitted.ranker, context.split.train, context.split.valid)["ndcg@20"] > 2 * popular_ndcg
    assert sum(fitted.values.values()) <= 9_600
    assert fitted.values["coarse codebook"] == fitted.phases[0]["m"] * 16
    # Fixed for ten epochs, then updated for up to ten: the best state is kept with its own assignment.
    fixed, updating = fitted.phases
    assert fixed["epochs"] == 10 and 0 < updating["epochs"] <= 10
    assert updating["valid"]["ndcg@20"] >= fixed["valid"]["ndcg@20"]
    figure = evaluate(fitted.ranker, context.split.train, context.split.valid)["ndcg@20"]
    np.testing.assert_allclose(figure, updating["valid"]["ndcg@20"], rtol=1e-3)
