"""The plain DGL programs: LightGCN is this package's, NGCF is its equations, both train."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from c2f_dgl.baselines import dgl_programs
from c2f_dgl.baselines.fitting import build_model, layout_of
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.tiers.tiered import TieredEmbedding
from c2f_dgl.training.loss import batch_loss
from c2f_dgl.training.sampler import TripletSampler


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_lightgcn_has_the_losses_and_gradients_of_this_package(planted_context) -> None:
    context = planted_context(dgl_programs.DGLSettings(d=6))
    plain = dgl_programs.LightGCN(context.graph, 6, 3, generator())
    table = torch.cat([plain.embedding["user"], plain.embedding["item"]]).detach()
    ours = build_model(context, TieredEmbedding(layout_of(context), table=table), 3)
    batch = next(TripletSampler(context.split.train, 5).epoch(300, 300, np.random.default_rng(0)).batches(300))
    left, right = dgl_programs.bpr_loss(plain, batch, 0.1), batch_loss(ours, batch, "bpr", 0.1)
    torch.testing.assert_close(left, right)
    left.backward()
    right.backward()
    gradient = torch.cat([plain.embedding["user"].grad, plain.embedding["item"].grad])
    torch.testing.assert_close(gradient, ours.embedding.table.grad, rtol=1e-4, atol=1e-6)


def test_ngcf_is_its_equations(planted_context) -> None:
    """Against a dense float64 transcription with one message per edge."""
    context = planted_context(dgl_programs.NGCFSettings(d=4))
    model = dgl_programs.NGCF(context.graph, 4, 2, generator(), 0.1).eval()
    r = context.split.train.toarray().astype(np.float64)
    n_users = len(r)
    a = np.block([[np.zeros((n_users, n_users)), r], [r.T, np.zeros((r.shape[1], r.shape[1]))]])
    degree = np.maximum(a.sum(axis=1), 1)
    p = a / np.sqrt(np.outer(degree, degree))
    e = torch.cat([model.embedding["user"], model.embedding["item"]]).detach().double().numpy()
    layers = [e]
    for w1, w2 in zip(model.linear, model.interaction, strict=True):
        first, second = (w.weight.detach().double().numpy() for w in (w1, w2))
        to, source = np.nonzero(p)
        messages = p[to, source][:, None] * (e[source] @ first.T + (e[source] * e[to]) @ second.T)
        summed = np.zeros_like(e)
        np.add.at(summed, to, messages)
        x = e @ first.T + summed
        e = np.where(x > 0, x, 0.2 * x)
        layers.append(e / np.linalg.norm(e, axis=1, keepdims=True))
    embeddings = torch.cat(list(model(context.graph)[ntype] for ntype in ("user", "item"))).detach().numpy()
    np.testing.assert_allclose(embeddings, np.concatenate(layers, axis=1), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    ("train", "settings"),
    [
        (dgl_programs.SYSTEMS[0].train, dgl_programs.DGLSettings(d=16, lr=0.02, epochs=5)),
        (dgl_programs.SYSTEMS[1].train, dgl_programs.NGCFSettings(d=16, lr=0.02, layers=2, epochs=5)),
    ],
)
def test_they_train_far_above_most_popular(planted_context, popular_ndcg: float, train, settings) -> None:
    context = planted_context(settings)
    fitted = train(context)
    assert evaluate(fitted.ranker, context.split.train, context.split.valid)["ndcg@20"] > 1.5 * popular_ndcg
    again = train(context)
    assert again.phases[0]["valid"] == pytest.approx(fitted.phases[0]["valid"], rel=1e-2)
