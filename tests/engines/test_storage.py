"""A basis in less than full precision, and what happens where none fits."""

from __future__ import annotations

import logging
import shutil
from collections import namedtuple

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given

from c2f_dgl.engines import Collapsed, MessagePassing, Propagation, make_engine
from c2f_dgl.engines.collapsed import Storage, allocate, choose_storage
from c2f_dgl.errors import InputError
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from tests.strategies import FLOAT, Case, cases

Usage = namedtuple("Usage", "total used free")


def engine_of(case: Case, storage: Storage, *, fine: bool) -> tuple[Collapsed, torch.nn.Parameter]:
    graph = interaction_graph(case.csr, dtype=FLOAT)
    tiers = [Tier("coarse", case.e_c, case.s_c)]
    if fine:
        tiers[0].codebook.requires_grad_(False)
        tiers.append(Tier("fine", case.e_r, case.s_r, threshold=case.threshold, gate=case.gate))
    embedding = TieredEmbedding(entity_layout(graph), tiers, entity_input="refined")
    engine = Collapsed(embedding, Propagation(case.layers), storage)
    engine.rebuild(embedding.link(graph))
    return engine, tiers[-1].codebook


@pytest.mark.parametrize("storage", ["half", "mapped"])
@pytest.mark.parametrize("fine", [False, True])
@given(cases())
def test_h_and_gradients_are_the_full_ones_within_half_precision(storage: Storage, fine: bool, case: Case) -> None:
    n_users, n_items = case.r.shape
    rows = torch.arange(n_users + n_items)
    users, items = rows[:n_users], rows[n_users:].expand(n_users, -1).contiguous()
    found = []
    for kept in ("full", storage):
        engine, codebook = engine_of(case, kept, fine=fine)
        h = engine.entities(rows)
        torch.testing.assert_close(
            torch.cat([engine.all_nodes()["user"], engine.all_nodes()["item"]]), h.detach(), atol=1e-12, rtol=0
        )
        scores = engine.scores(users, items)
        (gradient,) = torch.autograd.grad(scores.square().sum() + 0 * codebook.sum(), codebook)
        found.append((h.detach(), scores.detach(), gradient))
    (h, scores, gradient), (h_low, scores_low, gradient_low) = found
    # Rounding to 11 bits of the entries, summed over columns and over both factors of a score.
    engine, _ = engine_of(case, "full", fine=fine)
    allowed = 2.0**-10 * (engine._propagate()[: len(rows)].abs().amax(0) @ engine._learned().detach().abs()).max()
    assert (h_low - h).abs().max() <= allowed
    longest = h.norm(dim=1).max() + h.shape[1] ** 0.5 * allowed
    assert (scores_low - scores).abs().max() <= 2 * longest * h.shape[1] ** 0.5 * allowed
    assert (gradient_low - gradient).abs().max() <= 0.05 * gradient.abs().max() + 1e-9


def test_storage_follows_from_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    like, shape = torch.zeros(1), (1000, 10)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 20_001))
    assert choose_storage(shape, like, None) == "full"
    assert choose_storage(shape, like, 40_000) == "full"
    assert choose_storage(shape, like, 39_999) == "half"
    assert choose_storage(shape, like, 20_000) == "half"
    assert choose_storage(shape, like, 19_999) == "mapped"
    assert choose_storage(shape, torch.zeros(1, device="meta"), 19_999) is None  # only a CPU's memory maps files
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 20_000))
    assert choose_storage(shape, like, 19_999) is None


def test_a_mapped_basis_keeps_what_is_written() -> None:
    matrix = allocate("mapped", (7, 3), torch.zeros(1))
    matrix[:] = torch.arange(21).view(7, 3)
    assert matrix.dtype == torch.float16
    assert matrix.float().sum() == 210


def test_where_nothing_fits_the_engine_is_message_passing_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 0))
    graph = interaction_graph(sp.csr_matrix(np.eye(3)))
    assignment = Assignment(torch.zeros(6, 1, dtype=torch.int64), torch.ones(6, 1), 2)
    embedding = TieredEmbedding(entity_layout(graph), [Tier("coarse", torch.ones(2, 4), assignment)])
    with caplog.at_level(logging.WARNING, logger="c2f_dgl"):
        engine = make_engine("auto", embedding, Propagation(1), 1.0)
    assert isinstance(engine, MessagePassing)
    assert "falling back to message passing" in caplog.text
    with pytest.raises(InputError, match="does not fit"):
        make_engine("collapsed", embedding, Propagation(1), 1.0)
    assert isinstance(make_engine("auto", embedding, Propagation(1), 2.0**30), Collapsed)
