"""Interactions at random and their dense float64 forms, for transcriptions of equations."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from scipy.sparse import csr_matrix

from c2f_dgl.baselines.system import Context, Settings
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import Ranker
from c2f_dgl.graph.hetero import interaction_graph
from c2f_dgl.io.progress import Reporter


def random_context(
    settings: Settings, seed: int, n_users: int = 60, n_items: int = 25, values: int = 300
) -> Context[Any]:
    """A context on three tenths of all pairs; the last user and the last item have none."""
    drawn = np.random.default_rng(seed).random((n_users, n_items))
    drawn[-1] = drawn[:, -1] = 1.0
    parts = (drawn < 0.3, (drawn >= 0.3) & (drawn < 0.4), (drawn >= 0.4) & (drawn < 0.5))
    train, valid, test = (csr_matrix(part, dtype=np.float32) for part in parts)
    split = Split("random", train, valid, test, np.arange(n_users), np.arange(n_items))
    graph, device = interaction_graph(train), torch.device("cpu")
    return Context(split, graph, values, settings, seed, device, Reporter(quiet=True))


def dense(context: Context[Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """R, user degrees, item degrees; degrees at least 1."""
    r = context.split.train.toarray().astype(np.float64)
    return r, np.maximum(r.sum(axis=1), 1), np.maximum(r.sum(axis=0), 1)


def all_scores(context: Context[Any], ranker: Ranker) -> np.ndarray:
    """Scores (n_users x n_items, float64)."""
    return ranker.scores(torch.arange(context.split.n_users)).double().numpy()


def largest_of_rows(weights: np.ndarray, k: int) -> np.ndarray:
    """Whether an entry is one of the k largest of its row that are positive, the diagonal left out."""
    weights = np.where(np.eye(len(weights), dtype=bool), 0, weights)
    kept = np.zeros(weights.shape, dtype=bool)
    np.put_along_axis(kept, np.argsort(-weights.round(9), axis=1, kind="stable")[:, :k], True, axis=1)
    return kept & (weights > 0)
