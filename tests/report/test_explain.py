"""Explanations against a dense transcription: what travels along each edge, layer by layer."""

from __future__ import annotations

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from c2f_dgl.engines import Propagation
from c2f_dgl.graph.hetero import entity_layout, interaction_graph
from c2f_dgl.model import Readout, Recommender
from c2f_dgl.report.explain import explanations
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from tests import dense
from tests.strategies import FLOAT, Case, cases


@given(cases(), st.booleans(), st.integers(1, 12))
def test_contributions_are_the_messages_of_history_items(case: Case, weighted: bool, n: int) -> None:
    n_users, n_items = case.r.shape
    rng = np.random.default_rng(case.seed)
    betas = rng.normal(size=case.layers + 1) if weighted else np.full(case.layers + 1, 1 / (case.layers + 1))
    graph = interaction_graph(case.csr, dtype=FLOAT)
    embedding = TieredEmbedding(entity_layout(graph), [Tier("coarse", case.e_c, case.s_c)])
    propagation = Propagation(case.layers, layer_weights=tuple(betas.tolist()) if weighted else None)
    degree = torch.as_tensor(case.r.sum(axis=0))
    model = Recommender(graph, embedding, propagation, Readout(degree, n_users, item_scale=0.3))

    s_c, e_c, _, _ = case.arrays
    p = dense.normalised(dense.expanded(dense.bipartite(case.r), s_c))
    layers = [np.vstack([s_c @ e_c, e_c])]
    for _ in range(case.layers):
        layers.append(p @ layers[-1])
    h = sum(beta * x for beta, x in zip(betas, layers, strict=True))
    scaled = h[n_users : n_users + n_items] * ((case.r.sum(axis=0) + 1) ** 0.3)[:, None]

    users = np.arange(n_users)[::-1].copy()
    items = np.stack([rng.permutation(n_items)[:2] for _ in users])
    found = explanations(model, model.scorer(), case.csr, users, items, n)
    for a, user in enumerate(users):
        for b, item in enumerate(items[a]):
            expected = {}
            for j in np.flatnonzero(case.r[user]):
                node = n_users + j
                sent = sum(betas[k + 1] * layers[k][node] for k in range(case.layers)) if case.layers else 0 * h[0]
                expected[j] = p[user, node] * sent @ scaled[item]
            np.testing.assert_allclose(found.history[a, b], sum(expected.values()), atol=1e-4)
            shown = [j for j in found.items[a, b] if j >= 0]
            assert len(shown) == len(set(shown)) == min(n, len(expected))
            np.testing.assert_allclose(found.contributions[a, b, : len(shown)], [expected[j] for j in shown], atol=1e-4)
            largest = sorted(expected.values(), reverse=True)[:n]
            np.testing.assert_allclose(found.contributions[a, b, : len(shown)], largest, atol=1e-4)
            assert not found.contributions[a, b, len(shown) :].any()
