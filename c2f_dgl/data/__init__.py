"""Interactions: read, split, fetched, generated.

Names are imported when they are first asked for, so that ids and cards need neither pandas nor scipy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from c2f_dgl.extras import imported

if TYPE_CHECKING:
    from c2f_dgl.data.cards import CARDS as CARDS
    from c2f_dgl.data.catalogue import load_dataset as load_dataset
    from c2f_dgl.data.folds import rolling_splits as rolling_splits
    from c2f_dgl.data.folds import user_folds as user_folds
    from c2f_dgl.data.interactions import Interactions as Interactions
    from c2f_dgl.data.readers import read_interactions as read_interactions
    from c2f_dgl.data.splits import Split as Split
    from c2f_dgl.data.splits import given_split as given_split
    from c2f_dgl.data.splits import leave_k_out as leave_k_out
    from c2f_dgl.data.splits import leave_last_out as leave_last_out
    from c2f_dgl.data.splits import random_split as random_split
    from c2f_dgl.data.splits import temporal_split as temporal_split

_HOMES = {
    "CARDS": "cards",
    "Interactions": "interactions",
    "Split": "splits",
    "given_split": "splits",
    "leave_k_out": "splits",
    "leave_last_out": "splits",
    "load_dataset": "catalogue",
    "random_split": "splits",
    "read_interactions": "readers",
    "rolling_splits": "folds",
    "temporal_split": "splits",
    "user_folds": "folds",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return imported(f"{__name__}.{_HOMES[name]}", name)
