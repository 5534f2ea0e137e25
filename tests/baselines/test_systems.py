"""What holds of many systems alike."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from c2f_dgl.baselines.registry import SYSTEMS
from c2f_dgl.baselines.system import make_settings
from c2f_dgl.evaluation.ranking import evaluate


@pytest.mark.parametrize(
    ("name", "changes", "factor", "share"),
    [
        ("qr-sum", {"d": 16, "epochs": 20}, 1.1, 0.8),
        ("qr-product", {"d": 16, "epochs": 20}, 1.1, 0.8),
        ("qr-concat", {"d": 16, "epochs": 20}, 1.1, 0.8),
        ("dhe", {"d": 16, "k": 32, "epochs": 10}, 1.1, 0.95),
        ("nimble_tt", {"d_factors": (2, 4, 2), "epochs": 15}, 1.5, 0.7),
    ],
)
def test_it_trains_above_most_popular_within_the_budget(
    planted_context, popular_ndcg: float, name: str, changes: dict[str, Any], factor: float, share: float
) -> None:
    context = planted_context(make_settings(SYSTEMS[name], {"lr": 0.02, **changes}))
    fitted = SYSTEMS[name].train(context)
    assert evaluate(fitted.ranker, context.split.train, context.split.valid)["ndcg@20"] > factor * popular_ndcg
    assert share * 9_600 < sum(fitted.values.values()) <= 9_600


@pytest.mark.parametrize("name", ["pep", "cerp", "autoemb", "esapn", "optembed", "ciess"])
def test_the_same_seed_gives_the_same_model(planted_context, name: str) -> None:
    system = SYSTEMS[name]
    quick = {"d": 16, "search_epochs": 2, "epochs": 1, "warmup_epochs": 1, "generations": 1, "candidates": 1}
    settings = make_settings(system, {k: v for k, v in quick.items() if k in type(system.defaults).model_fields})
    first, second, other = (system.train(planted_context(settings, seed=seed)) for seed in (1, 1, 2))
    torch.testing.assert_close(first.ranker.items, second.ranker.items, rtol=0, atol=0)
    assert not torch.equal(first.ranker.items, other.ranker.items)
