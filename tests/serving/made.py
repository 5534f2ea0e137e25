"""Small served models, made by hand."""

from __future__ import annotations

import numpy as np

from c2f_dgl.serving import Csr, Learned, LearnedTier, ServingModel


def made(
    seed: int = 0, *, n_users: int = 30, n_items: int = 20, m: int = 6, d: int = 5, t_user: int = 0, text: bool = False
) -> ServingModel:
    """A coarse and a fine tier on random interactions; item 19 and user 29 have none."""
    rng = np.random.default_rng(seed)
    rows, columns = rng.integers(0, n_users - 1, 200), rng.integers(0, n_items - 1, 200)
    interactions = Csr.from_pairs(rows, columns, (n_users, n_items))
    coarse = LearnedTier(
        "coarse",
        rng.normal(size=(m, d)).astype(np.float32),
        {"user": rng.integers(0, m, (n_users, t_user)), "item": rng.integers(0, m, (n_items, 1))},
        {"user": rng.random((n_users, t_user), dtype=np.float32) + 0.1, "item": np.ones((n_items, 1), np.float32)},
    )
    fine = LearnedTier(
        "fine",
        rng.normal(size=(3, d)).astype(np.float32),
        {"coarse": rng.integers(0, 3, (m, 2))},
        {"coarse": rng.random((m, 2), dtype=np.float32)},
        threshold=0.5,
        gate=0.3,
    )
    learned = Learned((coarse, fine), (0.4, 0.3, 0.2, 0.1), entity_input="refined", link_scale=0.1, item_scale=0.2)
    item_ids = np.array([f"item-{n}" for n in range(n_items)], dtype=object) if text else np.arange(n_items) + 100
    return ServingModel(learned, interactions, np.arange(n_users), item_ids, details={"data": "made"})


def seen_of(model: ServingModel, row: int) -> set[int]:
    """Item rows of a user's history."""
    return set(model.interactions.take(np.array([row])).columns.tolist())
