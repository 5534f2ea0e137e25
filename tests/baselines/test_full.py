"""Full tables train, and the budget sets their width."""

from __future__ import annotations

import pytest

from c2f_dgl.baselines import full
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate


def test_it_trains_far_above_most_popular(planted_context, popular_ndcg: float) -> None:
    context = planted_context(full.FullSettings(d=16, lr=0.02, epochs=20))
    fitted = full.train(context)
    figure = evaluate(fitted.ranker, context.split.train, context.split.valid)["ndcg@20"]
    assert figure > 2 * popular_ndcg
    # What is left is the best state, not the last one.
    assert figure == pytest.approx(fitted.phases[0]["valid"]["ndcg@20"])
    assert fitted.values == {"table": 16 * 1800}
    assert fitted.bytes == 4 * 16 * 1800


def test_the_budget_sets_the_width(planted_context) -> None:
    settings = full.FullSettings(epochs=1)
    assert full.train(planted_context(settings, values=1800 * 3 + 5)).values == {"table": 1800 * 3}
    with pytest.raises(InputError, match="at least 1,800"):
        full.train(planted_context(settings, values=1799))
