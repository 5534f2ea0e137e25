"""Coarse-to-fine lightweight meta-embeddings for recommendation, on DGL heterographs.

Names are imported when they are first asked for, so that `c2f_dgl.serving` needs neither torch nor DGL.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from c2f_dgl.extras import imported

if TYPE_CHECKING:
    from c2f_dgl.api import load_run, train
    from c2f_dgl.config.graph import GraphConfig
    from c2f_dgl.config.load import load_config
    from c2f_dgl.config.schema import RunConfig
    from c2f_dgl.data import load_dataset
    from c2f_dgl.data.dgl_graphs import from_heterograph
    from c2f_dgl.data.interactions import Interactions
    from c2f_dgl.data.relations import add_relations
    from c2f_dgl.data.splits import Split, random_split
    from c2f_dgl.errors import InputError
    from c2f_dgl.evaluation.ranking import evaluate, top_items
    from c2f_dgl.graph.dataset import InteractionDataset
    from c2f_dgl.graph.propagate import propagate
    from c2f_dgl.recommender import C2FRecommender, ndcg_scorer
    from c2f_dgl.serving import ServingModel

# OpenBLAS's threads wait for the next product for tens of milliseconds, on the cores that torch's threads need then.
os.environ.setdefault("OPENBLAS_THREAD_TIMEOUT", "4")

__version__ = "0.6.0.dev0"

_HOMES = {
    "C2FRecommender": "c2f_dgl.recommender",
    "GraphConfig": "c2f_dgl.config.graph",
    "InputError": "c2f_dgl.errors",
    "InteractionDataset": "c2f_dgl.graph.dataset",
    "Interactions": "c2f_dgl.data.interactions",
    "RunConfig": "c2f_dgl.config.schema",
    "ServingModel": "c2f_dgl.serving",
    "Split": "c2f_dgl.data.splits",
    "add_relations": "c2f_dgl.data.relations",
    "evaluate": "c2f_dgl.evaluation.ranking",
    "from_heterograph": "c2f_dgl.data.dgl_graphs",
    "load_config": "c2f_dgl.config.load",
    "load_dataset": "c2f_dgl.data",
    "load_run": "c2f_dgl.api",
    "ndcg_scorer": "c2f_dgl.recommender",
    "propagate": "c2f_dgl.graph.propagate",
    "random_split": "c2f_dgl.data.splits",
    "top_items": "c2f_dgl.evaluation.ranking",
    "train": "c2f_dgl.api",
}

__all__ = [
    "C2FRecommender",
    "GraphConfig",
    "InputError",
    "InteractionDataset",
    "Interactions",
    "RunConfig",
    "ServingModel",
    "Split",
    "add_relations",
    "evaluate",
    "from_heterograph",
    "load_config",
    "load_dataset",
    "load_run",
    "ndcg_scorer",
    "propagate",
    "random_split",
    "top_items",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = imported(_HOMES[name], name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
