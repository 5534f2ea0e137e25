"""An embedding layer that is computed whole: engines, loss and counts take it as they take tiers."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest
import torch

from c2f_dgl.baselines.fitting import build_model, layout_of, train_phase
from c2f_dgl.baselines.full import FullSettings
from c2f_dgl.engines import MessagePassing, Propagation, make_engine
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.tiers.embedding import ComputedTable, EmbeddingLayer, stored_bytes
from c2f_dgl.tiers.tiered import TieredEmbedding
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import TripletSampler


class Doubled(ComputedTable):
    """A table of one learned column, repeated."""

    def __init__(self, layout) -> None:
        super().__init__(layout)
        self.column = torch.nn.Parameter(torch.randn(layout.total, 1, generator=torch.Generator().manual_seed(0)))

    def table(self) -> torch.Tensor:
        return self.column.repeat(1, 2)


def test_a_computed_table_propagates_as_the_same_full_table(planted_context) -> None:
    context = planted_context(FullSettings())
    layout = layout_of(context)
    computed = Doubled(layout)
    table = TieredEmbedding(layout, table=computed.table().detach())
    left, right = build_model(context, computed, 2), build_model(context, table, 2)
    some = torch.tensor([0, 7, 1200, 7])
    torch.testing.assert_close(left.engine.entities(some), right.engine.entities(some))
    weights = torch.tensor([1.0, 0.5, 0.0, 2.0])
    torch.testing.assert_close(computed.sum_of_squares(some, weights), table.sum_of_squares(some, weights))
    assert left.count_values() == {"column": 1800, "total": 1800}
    assert left.count_bytes() == 7200 and right.count_bytes() == 2 * 7200


def test_a_table_is_computed_once_for_a_loss_and_anew_for_the_next(planted_context, monkeypatch) -> None:
    context = planted_context(FullSettings(epochs=1, l2=0.1, lr=0.02))
    embedding = Doubled(layout_of(context))
    model = build_model(context, embedding, 1)
    batch = next(TripletSampler(context.split.train, 5).epoch(64, 64, np.random.default_rng(0)).batches(64))
    apart = batch_loss(model, batch, "bpr", 0.1)
    with embedding.computed_once():
        together = batch_loss(model, batch, "bpr", 0.1)
        assert embedding.codebooks()[0] is embedding.codebooks()[0]
    torch.testing.assert_close(together, apart, rtol=0, atol=0)
    calls: list[bool] = []
    table = Doubled.table
    monkeypatch.setattr(Doubled, "table", lambda self: calls.append(torch.is_grad_enabled()) or table(self))
    train_phase(context, model, context.settings.training())
    assert sum(calls) == -(-context.split.train.nnz // (8192 // 5))
    assert not torch.equal(embedding.column, Doubled(layout_of(context)).column)


def test_only_tiers_collapse(planted_context) -> None:
    embedding: EmbeddingLayer = Doubled(layout_of(planted_context(FullSettings())))
    assert isinstance(make_engine("auto", embedding, Propagation(2)), MessagePassing)
    with pytest.raises(ValueError, match="needs tiers"):
        make_engine("collapsed", embedding, Propagation(2))


def test_sparse_storage_is_taken_where_it_is_smaller() -> None:
    matrix = torch.zeros(10, 8)
    matrix[2, :3] = 1.0
    assert stored_bytes(matrix) == 8 * 3 + 4 * 11
    assert stored_bytes(torch.ones(10, 8)) == 4 * 80


def test_a_phase_takes_another_objective_and_tells_of_steps_and_epochs(planted_context) -> None:
    context = planted_context(FullSettings(epochs=4, evaluate_every=2, lr=0.02))
    model = build_model(context, TieredEmbedding(layout_of(context), table=torch.randn(1800, 4)), 1)
    steps, epochs, calls = [], [], []

    def objective(model, batch):
        calls.append(len(batch.users))
        return batch_loss(model, batch, "bpr", 0.0)

    record = train_phase(
        context,
        model,
        context.settings.training(),
        objective=objective,
        after_step=lambda: steps.append(1),
        after_epoch=lambda n: epochs.append(n) or n == 3,
        keep="last",
    )
    assert epochs == [1, 2, 3] and record["epochs"] == 3
    assert len(steps) == len(calls) and sum(calls) == 3 * context.split.train.nnz


def test_the_best_state_is_kept_not_the_last(planted_context) -> None:
    context = planted_context(FullSettings(epochs=4, evaluate_every=1, lr=0.02))
    model = build_model(context, TieredEmbedding(layout_of(context), table=0.1 * torch.randn(1800, 8)), 2)

    def spoil(epoch: int) -> None:
        if epoch == 3:
            model.embedding.table.data.zero_()

    record = train_phase(context, model, context.settings.training(), after_epoch=spoil)
    found = evaluate(model.scorer(), context.split.train, context.split.valid)
    # From a table of noughts nothing is learned: the last state ranks by nothing.
    assert record["epochs"] == 4 and record["best_epoch"] <= 3
    assert found == pytest.approx(record["valid"])
    assert model.embedding.table.abs().sum() > 0


def test_parameters_left_out_stay_as_they_are(planted_context) -> None:
    context = planted_context(FullSettings(epochs=1))
    embedding = Doubled(layout_of(context))
    embedding.other = torch.nn.Parameter(torch.ones(3))
    before = embedding.column.detach().clone()
    model = build_model(context, embedding, 1)
    with pytest.raises(RuntimeError, match="does not require grad"):
        objective = lambda model, batch: torch.zeros(())
        train_phase(context, model, context.settings.training(), objective=objective, parameters=[embedding.other])
    train_phase(
        context,
        model,
        context.settings.training(),
        objective=lambda model, batch: batch_loss(model, batch, "bpr", 0.0) + embedding.other.square().sum(),
        parameters=[embedding.other],
        keep="last",
    )
    assert torch.equal(embedding.column, before)
    assert (embedding.other < 1).all()


def test_a_deadline_ends_a_phase_with_the_best_there_is(planted_context) -> None:
    context = replace(planted_context(FullSettings(epochs=100_000)), deadline=time.monotonic() + 1.0)
    model = build_model(context, TieredEmbedding(layout_of(context), table=torch.randn(1800, 4)), 1)
    record = train_phase(context, model, context.settings.training())
    assert record["stopped_by_time"] and record["epochs"] < 100_000
    deadline = context.within(0.5).deadline
    assert deadline is not None and deadline <= time.monotonic()
