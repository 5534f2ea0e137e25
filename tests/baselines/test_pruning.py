"""PEP and CERP: thresholds prune, masks meet the budget and hold while retraining, codebooks complement each other."""

from __future__ import annotations

import pytest
import torch

from c2f_dgl.baselines import pruning
from c2f_dgl.baselines.tables import MaskedValues, keep_largest
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.graph.layout import NodeLayout

PEP = pruning.PepSettings(d=16, search_epochs=12, epochs=20)
CERP = pruning.CerpSettings(d=16, search_epochs=12, epochs=20)


@pytest.mark.parametrize(("train", "settings"), [(pruning.train_pep, PEP), (pruning.train_cerp, CERP)])
def test_it_prunes_to_the_budget_and_trains_above_most_popular(planted_context, popular_ndcg, train, settings) -> None:
    context = planted_context(settings)
    fitted = train(context)
    assert evaluate(fitted.ranker, context.split.train, context.split.valid)["ndcg@20"] > 1.2 * popular_ndcg
    assert sum(fitted.values.values()) == context.values
    pruned, retrained = fitted.phases
    dense = 16 * context.n_entities if settings is PEP else 4 * context.values
    assert 0 < pruned["left"] <= context.values < dense  # by the thresholds, not by a cut
    assert retrained["phase"] == "retrain"
    assert fitted.bytes < 4 * 16 * context.n_entities


def test_cerp_gives_every_entity_a_pair_of_its_own_in_balance() -> None:
    rows = pruning.codebook_rows(1800, 90)
    assert len({tuple(pair) for pair in rows.tolist()}) == 1800
    assert int(rows.max()) < 90
    assert all(int(column.bincount().max()) <= 20 for column in rows.T)


def test_cerp_table_is_the_sum_and_stays_zero_where_both_are_masked() -> None:
    layout, generator = NodeLayout(("user", "item"), (5, 4)), torch.Generator().manual_seed(3)
    starts = [torch.randn(4, 3, generator=generator) for _ in range(2)]
    masks = keep_largest([torch.rand(4, 3, generator=generator) for _ in range(2)], 11)
    rows = pruning.codebook_rows(9, 4)
    p, q = (MaskedValues(mask, start) for mask, start in zip(masks, starts, strict=True))
    layer = pruning.Codebooks(layout, rows, p, q)
    expected = (starts[0] * masks[0])[rows[:, 0]] + (starts[1] * masks[1])[rows[:, 1]]
    torch.testing.assert_close(layer.table(), expected)
    torch.testing.assert_close(layer.entity_rows(torch.tensor([8, 0])), expected[[8, 0]])
    assert sum(layer.count_values().values()) == 11
    layer.table().square().sum().backward()
    torch.optim.Adam(layer.parameters(), lr=1.0).step()
    empty = ~(masks[0][rows[:, 0]] | masks[1][rows[:, 1]])
    assert bool((layer.table()[empty] == 0).all())


def test_cerps_regulariser_keeps_entries_from_vanishing_in_both_codebooks() -> None:
    """Under it alone, thresholds rise less where the other codebook has nothing than where it does."""
    layout, rows = NodeLayout(("user", "item"), (2, 2)), pruning.codebook_rows(4, 2)
    start_p = torch.full((2, 4), 0.02)
    start_q = torch.tensor([[0.5, 0.5, 0.0, 0.0]] * 2)  # fills columns 0 and 1 whatever P does
    p, q = (pruning.SoftThresholded(start, "entry", start_logit=-4.5, rate=1.0) for start in (start_p, start_q))
    layer = pruning.Codebooks(layout, rows, p, q)
    pruning.complement(layer.table(), 100.0).backward()
    pull = -p.logit.grad  # descent on -complement moves s along the gradient: this is towards more pruning
    assert bool((pull[:, :2].abs() < pull[:, 2:]).all())
    assert bool((pull[:, 2:] > 0).all())


def test_cerp_refuses_codebooks_that_need_no_pruning(planted_context) -> None:
    with pytest.raises(InputError, match="no larger"):
        pruning.train_cerp(planted_context(pruning.CerpSettings(d=1), values=9_600))


@pytest.mark.parametrize("granularity", ["global", "dimension", "entity", "entry"])
@pytest.mark.parametrize("batch_size", [512, 8192])
def test_thresholds_meet_the_budget_whatever_shares_one_and_however_many_steps_there_are(
    planted_context, granularity: pruning.Granularity, batch_size: int
) -> None:
    changes = {"granularity": granularity, "batch_size": batch_size, "search_epochs": 8, "epochs": 1}
    context = planted_context(PEP.model_copy(update=changes))
    pruned = pruning.train_pep(context).phases[0]
    assert pruned["left"] <= context.values
    assert pruned["epochs"] > 4  # embeddings form before they are pruned
