"""Magnitude pruning of a trained table, against a dense float64 LightGCN."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from c2f_dgl.baselines import full
from c2f_dgl.baselines.fitting import build_model, layout_of, train_phase
from c2f_dgl.tiers.codebook import random_codebook
from c2f_dgl.tiers.tiered import TieredEmbedding
from tests.baselines.made import all_scores, dense, random_context


def light_gcn(r: np.ndarray, by_user: np.ndarray, by_item: np.ndarray, table: np.ndarray, layers: int) -> np.ndarray:
    """Scores of the mean over layers."""
    normal = r / np.sqrt(np.outer(by_user, by_item))
    n_users = len(r)
    adjacency = np.block([[np.zeros((n_users, n_users)), normal], [normal.T, np.zeros((len(by_item), len(by_item)))]])
    mean = sum(np.linalg.matrix_power(adjacency, layer) @ table for layer in range(layers + 1)) / (layers + 1)
    return mean[:n_users] @ mean[n_users:].T


@pytest.mark.parametrize("retrain", [False, True])
def test_the_largest_magnitudes_are_what_is_left_of_the_table(retrain: bool) -> None:
    settings = full.PrunedSettings(d=8, epochs=6, evaluate_every=2, lr=0.05, layers=2, retrain=retrain)
    context = random_context(settings, seed=2, values=300)
    # The table before it is cut: the same start and the same training.
    layer = TieredEmbedding(layout_of(context), table=random_codebook(85, 8, "xavier", context.generator("table")))
    train_phase(context, build_model(context, layer, 2), settings.training())
    table = layer.table.detach().double().numpy()
    kept = np.zeros(table.size)
    order = np.argsort(-np.abs(table).ravel())[:300]
    kept[order] = table.ravel()[order]
    expected = light_gcn(*dense(context), kept.reshape(table.shape), 2)
    fitted = full.train_pruned(context)
    scores = all_scores(context, fitted.ranker)
    assert fitted.values == {"table": 300} and fitted.bytes == min(4 * 85 * 8, 8 * 300 + 4 * 86)
    assert [record["phase"] for record in fitted.phases] == ["train", "retrain"][: 1 + retrain]
    if retrain:
        assert torch.isfinite(torch.as_tensor(scores)).all() and not np.allclose(scores, expected, atol=1e-3)
    else:
        np.testing.assert_allclose(scores, expected, atol=1e-5 * np.abs(expected).max())
