"""Options of the fine stage that depart from Alg. 2: no bridge between the tiers, coarser tiers trained along."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl import load_config, load_dataset, load_run, train
from c2f_dgl.engines import Propagation
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.model import Readout, Recommender
from c2f_dgl.tiers.assignment import pinv
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training.build import add_tier, start_graph, start_model
from c2f_dgl.training.checkpoint import load_checkpoint
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import TripletSampler
from c2f_dgl.training.stage import update_assignment
from tests import dense
from tests.strategies import FLOAT, Case, cases

SMALL = ("coarse.m=12", "fine.m=5", "fine.t=2", "fine.components=4", "model.d=6", "fine.threshold=null")
SHORT = ("coarse.training.fixed_epochs=1", "coarse.training.updating_epochs=0", "fine.training.fixed_epochs=2")


@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 6), st.integers(1, 4))
def test_an_unbridged_match_is_a_pseudo_inverse_softmaxed_if_asked(seed: int, m_c: int, m_r: int, d: int) -> None:
    rng = np.random.default_rng(seed)
    rows, atoms, t = rng.normal(size=(m_c, d)), rng.normal(size=(m_r, d)), int(rng.integers(1, m_r + 1))
    scores = rows @ np.linalg.pinv(atoms)
    scores = np.exp(scores - scores.max(axis=1, keepdims=True))
    scores /= scores.sum(axis=1, keepdims=True)
    found = pinv(torch.as_tensor(rows), torch.as_tensor(atoms), t, softmax=True).dense()
    np.testing.assert_allclose(found.sum(dim=1), np.sort(scores, axis=1)[:, -t:].sum(axis=1), atol=1e-8)


@pytest.mark.parametrize("bridge", [True, False])
def test_without_the_bridge_s_r_sees_the_codebooks_alone(bridge: bool) -> None:
    split = load_dataset("planted")
    config = load_config("paper", [*SMALL, f"fine.bridge={bridge}", "model.entity_input=refined"])
    graph = start_graph(split, config.model)
    coarse = start_model(config, graph, split, torch.device("cpu")).model
    model = add_tier(config, coarse, graph, "fine")
    above, fine = model.embedding.tiers

    def expected(h_c: torch.Tensor, h_r: torch.Tensor, entities: torch.Tensor) -> np.ndarray:
        if bridge:
            return dense.top_t(dense.bridged(*(x.double().numpy() for x in (entities, h_c, h_r))), 2)
        return dense.pinv_assignment(h_c.double().numpy(), h_r.double().numpy(), 2)

    if not bridge:
        start = dense.pinv_assignment(
            above.codebook.detach().double().numpy(),
            dense.soft(fine.codebook.detach().double().numpy(), fine.threshold),
            2,
        )
        np.testing.assert_allclose(fine.assignment.dense(), start, rtol=1e-3, atol=1e-4)
    features = model.engine.all_nodes()
    h_c, h_r, entities = features["coarse"], features["fine"], model.embedding.layout.stack(features)
    update_assignment(model, config.finer["fine"])
    wanted = expected(h_c, h_r, entities)
    np.testing.assert_allclose(fine.assignment.dense(), wanted, rtol=1e-2, atol=1e-3 * wanted.max())


@given(cases())
def test_engines_agree_when_both_codebooks_are_trained(case: Case) -> None:
    batch = TripletSampler(case.csr, 1).epoch(5, 5, np.random.default_rng(case.seed))
    found = []
    for engine in ("message_passing", "collapsed"):
        graph = interaction_graph(case.csr, dtype=FLOAT)
        tiers = [
            Tier("coarse", case.e_c, case.s_c),
            Tier("fine", case.e_r, case.s_r, threshold=case.threshold, gate=case.gate),
        ]
        embedding = TieredEmbedding(entity_layout(graph), tiers, entity_input="refined")
        readout = Readout(torch.zeros(case.r.shape[1], dtype=FLOAT), case.r.shape[0])
        model = Recommender(graph, embedding, Propagation(case.layers), readout, engine)
        loss = batch_loss(model, batch, "bpr", 5e-4)
        found.append([loss.detach(), *torch.autograd.grad(loss, [tier.codebook for tier in tiers])])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-10)


@pytest.mark.parametrize("freeze", [True, False])
def test_the_coarse_codebook_moves_only_where_it_is_not_frozen(freeze: bool, tmp_path: Path) -> None:
    options = [*SMALL, *SHORT, "data.source=planted", f"fine.freeze_coarser={freeze}"]
    split = load_dataset("planted")
    whole = tmp_path / "whole"
    config = load_config("paper", [*options, "fine.training.updating_epochs=1"])
    train(split, whole, config, device="cpu")
    before, _ = load_checkpoint(whole / "checkpoints" / "coarse.safetensors")
    after, _ = load_checkpoint(whole / "checkpoints" / "last.safetensors")
    assert torch.equal(before["coarse.codebook"], after["coarse.codebook"]) == freeze
    assert ("adam.embedding.tiers.0.codebook.exp_avg" in after) != freeze
    restored, _ = load_run(whole, stage="fine")  # as a resumed run restores it
    assert restored.embedding.tiers[0].codebook.requires_grad != freeze
