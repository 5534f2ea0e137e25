"""Interactions: read, split, fetched, generated.

Names are imported when they are first asked for, so that ids and cards need neither pandas nor scipy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from c2f_dgl.extras import imported

if TYPE_CHECKING:
    from c2f_dgl.data.cards import CARDS
    from c2f_dgl.data.catalogue import load_dataset
    from c2f_dgl.data.folds import rolling_splits, user_folds
    from c2f_dgl.data.interactions import Interactions
    from c2f_dgl.data.readers import read_interactions
    from c2f_dgl.data.splits import Split, given_split, leave_k_out, leave_last_out, random_split, temporal_split

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

__all__ = [
    "CARDS",
    "Interactions",
    "Split",
    "given_split",
    "leave_k_out",
    "leave_last_out",
    "load_dataset",
    "random_split",
    "read_interactions",
    "rolling_splits",
    "temporal_split",
    "user_folds",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return imported(f"{__name__}.{_HOMES[name]}", name)
