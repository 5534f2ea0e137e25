"""OptEmbed and CIESS: supernets cut to sizes, searches that change them, budgets, retraining."""

from __future__ import annotations

import itertools

import pytest
import torch

from c2f_dgl.baselines import ciess, optembed
from c2f_dgl.baselines.fitting import build_model, degrees, heldout_sampler, layout_of
from c2f_dgl.baselines.tables import PrefixTable
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.graph.layout import NodeLayout

LAYOUT = NodeLayout(("user", "item"), (6, 4))
OPTEMBED = optembed.OptEmbedSettings(d=16, search_epochs=12, epochs=12, population=8, generations=4)
CIESS = ciess.CiessSettings(d=16, warmup_epochs=4, search_epochs=6, epochs=12, agent_steps=20, candidates=2)


@pytest.mark.parametrize(("module", "settings"), [(optembed, OPTEMBED), (ciess, CIESS)])
def test_it_searches_within_the_budget_and_trains_above_most_popular(
    planted_context, popular_ndcg, module, settings
) -> None:
    context = planted_context(settings)
    fitted = module.train(context)
    assert evaluate(fitted.ranker, context.split.train, context.split.valid)["ndcg@20"] > 1.2 * popular_ndcg
    assert 0.9 * context.values < sum(fitted.values.values()) <= context.values
    # Prefixes: a size a row is all that is stored beside the values.
    assert fitted.bytes == 4 * sum(fitted.values.values()) + 4 * context.n_entities


def supernet() -> optembed.Supernet:
    weight = torch.tensor([[1.0, -1.0, 1.0], [0.3, 0.3, 0.3], [2.0, 0.0, 0.0]]).repeat(4, 1)[:10]
    return optembed.Supernet(LAYOUT, weight, torch.tensor([0] * 6 + [1] * 4), rate=2.0)


def test_the_supernet_masks_rows_and_sizes() -> None:
    net = supernet()
    norms = net.weight.detach().abs().mean(dim=1)
    with torch.no_grad():
        # Twice as much is 0.5 and 0.9 mean norms of the fields' rows, over 2.
        net.raw_threshold.copy_(torch.tensor([0.5 / norms[:6].mean(), 0.9 / norms[6:].mean()]) / 2)
    net.sizes.copy_(torch.tensor([2, 3])[net.field])
    margins = norms - torch.tensor([0.5] * 6 + [0.9] * 4)
    expected = net.weight.detach() * (margins > 0)[:, None]
    expected[:6, 2] = 0
    torch.testing.assert_close(net.table(), expected)
    # Users 0, 2, 3, 5 are above 0.5, and items 6 and 9 (weights of 1) above 0.9.
    assert int((net.table() != 0).any(dim=1).sum()) == 4 + 2


def test_the_step_has_the_long_tail_derivative() -> None:
    x = torch.tensor([-2.0, -0.7, -0.2, 0.0, 0.1, 0.4, 0.9, 1.5], requires_grad=True)
    step = optembed._LongTailStep.apply(x)
    assert step.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    step.sum().backward()
    torch.testing.assert_close(x.grad, torch.tensor([0.0, 0.4, 1.2, 2.0, 1.6, 0.4, 0.4, 0.0]))


def test_thresholds_rise_under_their_term_and_prune() -> None:
    net = supernet()
    optimizer = torch.optim.Adam([net.raw_threshold], lr=0.05)
    kept = [int((net.margins() > 0).sum())]
    for _ in range(12):
        optimizer.zero_grad()
        (-net.thresholds()).exp().sum().backward()
        optimizer.step()
        kept.append(int((net.margins() > 0).sum()))
    assert kept[0] == 10 and kept[-1] < 10
    assert kept == sorted(kept, reverse=True)


def test_fields_are_quantiles_of_degree_within_a_type() -> None:
    degree = torch.tensor([5, 1, 9, 3, 7, 2, 4, 8, 6, 0]).float()
    field = optembed.fields_of(LAYOUT, degree, 2)
    assert field.tolist() == [1, 0, 1, 0, 1, 0, 2, 3, 3, 2]
    assert optembed.fields_of(LAYOUT, degree, 1).tolist() == [0] * 6 + [1] * 4


def test_rows_are_kept_down_to_one_threshold() -> None:
    margins, cost = torch.tensor([0.1, 0.9, 0.5, 0.7]), torch.tensor([1, 4, 3, 2])
    assert optembed.rows_within(margins, cost, 8).tolist() == [False, True, False, True]
    assert optembed.rows_within(margins, cost, 9).tolist() == [False, True, True, True]


def test_evolution_finds_the_sizes_that_are_best() -> None:
    settings = OPTEMBED.model_copy(update={"population": 16, "parents": 4})
    generator = torch.Generator().manual_seed(4)
    figure = lambda sizes: -sum(abs(size - target) for size, target in zip(sizes, (2, 9, 16), strict=True))
    seen, best = {(5, 5, 5)}, []
    for _ in range(30):
        best.append(max(map(figure, seen)))
        generation = optembed.bred(sorted(seen, key=figure)[-4:], settings, generator)
        assert len(generation) == 16
        assert all(len(sizes) == 3 and all(1 <= size <= 16 for size in sizes) for sizes in generation)
        seen.update(generation)
    assert best[-1] > best[0]
    assert best[-1] >= -2


def test_drawn_sizes_are_even_on_a_logarithmic_scale() -> None:
    sizes = optembed.draw_sizes(20_000, 63, torch.Generator().manual_seed(1))
    assert int(sizes.min()) == 1 and int(sizes.max()) == 63
    for low in (1, 2, 4, 8, 16, 32):
        assert abs(float(((sizes >= low) & (sizes < 2 * low)).float().mean()) - 1 / 6) < 0.02


def test_the_prefix_table_is_cut_to_its_sizes() -> None:
    table = PrefixTable(LAYOUT, torch.ones(10, 4))
    table.sizes.copy_(torch.arange(10) % 5)
    assert table.table().sum(dim=1).tolist() == (torch.arange(10) % 5).tolist()
    table.table().sum().backward()
    torch.testing.assert_close(table.weight.grad, table.table().detach())


def test_actions_are_sizes_on_a_logarithmic_scale() -> None:
    assert ciess.to_size(torch.tensor([0.0, 0.5, 1.0]), 64).tolist() == [1, 8, 64]


def test_the_agents_of_ciess_learn_other_sizes_and_judge_them_at_the_budget(planted_context) -> None:
    context = planted_context(CIESS.model_copy(update={"agent_steps": 60}))
    layout = layout_of(context)
    table = PrefixTable(layout, torch.randn(layout.total, 16, generator=torch.Generator().manual_seed(1)) / 10)
    search = ciess.SizeSearch(context, build_model(context, table, 2))
    before = search.agents[1][1].act(search.states[layout.rows("item")])
    sizes = [table.sizes.clone()]
    for epoch in range(1, 5):
        search.step(epoch)
        sizes.append(table.sizes.clone())
    after = search.agents[1][1].act(search.states[layout.rows("item")])
    assert float((after - before).abs().max()) > 0.02
    assert all(not torch.equal(one, next_one) for one, next_one in itertools.pairwise(sizes))
    assert len(search.best) == 2 and search.best[0][0] >= search.best[1][0]
    assert all(int(found.sum()) == context.values for _, found in search.best)
    assert int(search.known.sum()) > 0 and bool((search.states[~search.known, 2] == 0).all())


def test_a_price_rises_while_the_actor_asks_for_more_than_there_is(planted_context) -> None:
    prices = []
    for values in (2_000, 16 * 1_800):
        context = planted_context(CIESS, values=values)
        layout = layout_of(context)
        search = ciess.SizeSearch(context, build_model(context, PrefixTable(layout, torch.randn(1800, 16)), 2))
        search.step(1)
        prices.append(search.price)
    assert prices[0] > 0.1 > prices[1]


def test_ciess_refuses_a_budget_below_one_each(planted_context) -> None:
    with pytest.raises(InputError, match="1 per entity"):
        ciess.train(planted_context(CIESS, values=1_799))


def test_held_out_triplets_have_unseen_negatives(planted_context) -> None:
    context = planted_context(CIESS)
    split = context.split
    batch = heldout_sampler(context, 2).epoch(3_000, 3_000, context.rng("test"))
    assert split.valid[batch.users, batch.positives].all()
    users = batch.users.repeat(2)
    for part in (split.train, split.valid):
        assert part[users, batch.negatives.flatten()].sum() == 0
    assert int(degrees(context).sum()) == 2 * split.train.nnz
