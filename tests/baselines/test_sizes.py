"""AutoEmb and ESAPN: controllers and policies learn, sizes change and meet the budget."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from c2f_dgl.baselines import autoemb, esapn, tables
from c2f_dgl.baselines.fitting import build_model, layout_of
from c2f_dgl.baselines.tables import unify
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.graph.layout import NodeLayout

LAYOUT = NodeLayout(("user", "item"), (6, 5))
AUTOEMB = autoemb.AutoEmbSettings(search_epochs=10, epochs=10)
ESAPN = esapn.EsapnSettings(sizes=(1, 2, 4, 16), search_epochs=10, epochs=10)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(("module", "settings"), [(autoemb, AUTOEMB), (esapn, ESAPN)])
def test_it_changes_sizes_within_the_budget_and_trains_above_most_popular(
    planted_context, popular_ndcg, module, settings
) -> None:
    context = planted_context(settings)
    fitted = module.train(context)
    assert evaluate(fitted.ranker, context.split.train, context.split.valid)["ndcg@20"] > 1.2 * popular_ndcg
    assert 0.9 * context.values < sum(fitted.values.values()) <= context.values
    sizes = fitted.phases[0]["sizes"]
    assert [sum(sizes[node_type]) for node_type in ("user", "item")] == [1000, 800]
    assert sum(count > 0 for count in sizes["item"]) > 1


@pytest.mark.parametrize(("module", "settings"), [(autoemb, AUTOEMB), (esapn, ESAPN)])
def test_a_budget_below_one_each_is_refused(planted_context, module, settings) -> None:
    with pytest.raises(InputError, match="do not pay"):
        module.train(planted_context(settings, values=1_700))


def test_unified_rows_are_normalised_by_column() -> None:
    x = torch.randn(50, 3, generator=generator()) * 7 + 2
    plain = unify(x).atanh()
    torch.testing.assert_close(plain.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(plain.std(dim=0, correction=0), torch.ones(3), atol=1e-3, rtol=0)


def test_autoembs_table_is_the_weighted_sum_of_its_candidates() -> None:
    popularity = torch.linspace(-1, 1, 11)
    settings = autoemb.AutoEmbSettings(sizes=(1, 3), d=4, hidden=8)
    layer = autoemb.SoftSizes(LAYOUT, popularity, settings, generator())
    with torch.no_grad():
        layer.gains["item"].fill_(3.0)
    torch.testing.assert_close(layer.log_weights().exp(), torch.full((11, 2), 0.5))
    with torch.no_grad():
        layer.controllers[1][2].bias += torch.tensor([0.0, 1.0])
    weights = layer.log_weights().exp()
    rows = layer.layout.rows("item")
    expected = sum(weights[rows, k, None] * unify(layer.candidates[2 + k] @ layer.maps[2 + k]) for k in range(2))
    torch.testing.assert_close(layer.table()[rows], 3 * expected)
    torch.testing.assert_close(weights[rows, 1], torch.full((5,), torch.sigmoid(torch.tensor(1.0)).item()))


def test_autoembs_chosen_sizes_are_in_place() -> None:
    choice = torch.tensor([1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0])
    layer = autoemb.HardSizes(LAYOUT, choice, autoemb.AutoEmbSettings(sizes=(1, 3), d=4), generator())
    table = layer.table()
    of_users = [0.1 / 0.6 * unify(e @ w) for e, w in zip(layer.embeddings[:2], layer.maps[:2], strict=True)]
    torch.testing.assert_close(table[[1, 3, 4]], of_users[0])
    torch.testing.assert_close(table[[0, 2, 5]], of_users[1])
    # 8 of size 1 and 3 of size 3; both maps for users, one for items.
    assert layer.count_values() == {"embeddings": 17, "maps": 4 + 12 + 4, "gains": 2}


def log_weights_after(context, monkeypatch) -> torch.Tensor:
    """What AutoEmb's controllers say when sizes are chosen."""
    seen: list[torch.Tensor] = []
    original = tables.allocate

    def spy(utility: torch.Tensor, sizes: torch.Tensor, budget: int) -> torch.Tensor:
        seen.append(utility)
        return original(utility, sizes, budget)

    monkeypatch.setattr(tables, "allocate", spy)
    autoemb.train(context)
    return seen[0]


def test_only_the_upper_level_moves_autoembs_controllers(planted_context, monkeypatch) -> None:
    still = AUTOEMB.model_copy(update={"search_epochs": 2, "epochs": 1, "controller_lr": 1e-12})
    weights = log_weights_after(planted_context(still), monkeypatch)
    torch.testing.assert_close(weights, torch.full_like(weights, 1 / 3).log())


def test_autoembs_controllers_learn_to_tell_frequencies_apart(planted_context, monkeypatch) -> None:
    moving = AUTOEMB.model_copy(update={"search_epochs": 4, "epochs": 1, "controller_lr": 3e-2})
    context = planted_context(moving)
    items = log_weights_after(context, monkeypatch)[context.split.n_users :]
    degree = torch.as_tensor(context.split.train.getnnz(axis=0))
    ranked = items[degree.argsort()]
    assert float((ranked[-160:].mean(dim=0) - ranked[:160].mean(dim=0)).abs().max()) > 0.5
    same = items[degree == degree.mode().values]
    torch.testing.assert_close(same, same[:1].expand_as(same))  # by frequency and nothing else


def test_esapns_policy_moves_toward_what_is_rewarded() -> None:
    """A bandit: enlarging pays for frequent entities and costs for rare ones."""
    policy = esapn.EnlargePolicy(3, 16, 0.02, generator())
    frequency = torch.linspace(0, 1, 200)
    level = torch.zeros(200, dtype=torch.int64)
    assert not policy.logits(frequency, level).any()
    for _ in range(200):
        actions = policy.sample(frequency, level)
        reward = torch.where(frequency > 0.5, 1.0, -1.0) * actions
        policy.learn(frequency, level, actions, reward - reward.mean())
    learned = policy.logits(frequency, level).sigmoid().detach()
    assert float(learned[frequency > 0.6].min()) > 0.8
    assert float(learned[frequency < 0.4].max()) < 0.2


def test_enlarging_changes_sizes_and_not_the_table() -> None:
    layer = esapn.GrownSizes(LAYOUT, (1, 2, 4), 0.3, generator())
    with torch.no_grad():
        for shift in layer.shifts:
            shift.normal_(generator=generator(2))
    which = torch.tensor([1, 0, 1, 0, 0, 0, 1, 1, 0, 0, 0], dtype=torch.bool)
    before = layer.table().detach()
    maps = sum(p.numel() for name, p in layer.named_parameters() if name.startswith(("maps", "shifts")))
    assert layer.count_values() == {"embeddings": 11, "maps": maps, "gains": 2}
    assert layer.cost().tolist() == [1] * 11
    layer.enlarge(which)
    torch.testing.assert_close(layer.table(), before)
    assert layer.count_values()["embeddings"] == 15
    layer.enlarge(which)
    layer.enlarge(which)  # nothing is larger than the largest
    torch.testing.assert_close(layer.table(), before)
    assert layer.count_values()["embeddings"] == 11 + 4 * 3
    assert layer.cost().tolist() == [0 if grown else 1 for grown in which.tolist()]
    # Rows of size 4 no longer follow their first embedding.
    layer.table().square().sum().backward()
    assert bool((layer.embeddings[0].grad[which] == 0).all())
    assert bool((layer.embeddings[2].grad[which] != 0).any())
    assert bool((layer.embeddings[2].grad[~which] == 0).all())


def test_who_is_paid_is_drawn_among_those_who_ask() -> None:
    asked = torch.tensor([True, True, False, True, True])
    cost, paid = torch.tensor([1, 2, 1, 2, 3]), torch.zeros(5)
    for seed in range(200):
        within = esapn.affordable(asked, cost, 4, generator(seed))
        assert int(cost[within].sum()) <= 4 and not within[2]
        paid += within
    assert bool((paid[asked] > 20).all())
    assert esapn.affordable(asked, cost, 8, generator()).tolist() == asked.tolist()


def test_a_policy_does_not_learn_from_those_who_did_not_get_what_they_asked_for(planted_context, monkeypatch) -> None:
    context = planted_context(ESAPN)
    layer = esapn.GrownSizes(layout_of(context), ESAPN.sizes, 0.1, context.generator("table"))
    growth = esapn.Growth(context, build_model(context, layer, 2), 1_900)  # pays for a hundred of 1,800
    seen = []
    monkeypatch.setattr(
        esapn.EnlargePolicy, "learn", lambda self, frequency, level, actions, advantages: seen.append(actions)
    )
    growth.step(10)
    growth.step(11)
    actions = torch.cat(seen)
    # Half of 1,800 asked, of whom a hundred were paid; the other half did not ask. Some have no loss to learn from.
    assert int(actions.sum()) <= 100 and 500 < len(actions) < 1_100


def test_growth_spreads_the_budget_and_frequencies_grow(planted_context, monkeypatch) -> None:
    context = planted_context(ESAPN)
    layer = esapn.GrownSizes(layout_of(context), ESAPN.sizes, 0.1, context.generator("table"))
    growth = esapn.Growth(context, build_model(context, layer, 2), 5_000)
    spent, frequencies = [], []
    for epoch in range(1, 11):
        growth.step(epoch)
        spent.append(layer.count_values()["embeddings"])
        frequencies.append(growth.acted[0])
    assert all(1_800 < now <= 1_800 + 3_200 * (k + 1) / 10 for k, now in enumerate(spent))
    assert spent[-1] > 4_900
    degree = torch.as_tensor(np.concatenate([context.split.train.getnnz(axis=axis) for axis in (1, 0)])).float()
    torch.testing.assert_close(frequencies[-1], degree.log1p() / degree.max().log1p())
    assert bool((frequencies[0] <= frequencies[-1]).all())
