"""Coarse-to-fine lightweight meta-embeddings for recommendation, on DGL heterographs.

Names are imported when they are first asked for, so that `c2f_dgl.serving` needs neither torch nor DGL.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from c2f_dgl.extras import imported

if TYPE_CHECKING:
    from c2f_dgl.api import load_run as load_run
    from c2f_dgl.api import train as train
    from c2f_dgl.config.graph import GraphConfig as GraphConfig
    from c2f_dgl.config.load import load_config as load_config
    from c2f_dgl.config.schema import RunConfig as RunConfig
    from c2f_dgl.data import load_dataset as load_dataset
    from c2f_dgl.data.dgl_graphs import from_heterograph as from_heterograph
    from c2f_dgl.data.interactions import Interactions as Interactions
    from c2f_dgl.data.relations import add_relations as add_relations
    from c2f_dgl.data.splits import Split as Split
    from c2f_dgl.data.splits import random_split as random_split
    from c2f_dgl.errors import InputError as InputError
    from c2f_dgl.evaluation.ranking import evaluate as evaluate
    from c2f_dgl.evaluation.ranking import top_items as top_items
    from c2f_dgl.graph.dataset import InteractionDataset as InteractionDataset
    from c2f_dgl.graph.propagate import propagate as propagate
    from c2f_dgl.recommender import C2FRecommender as C2FRecommender
    from c2f_dgl.recommender import ndcg_scorer as ndcg_scorer
    from c2f_dgl.serving import ServingModel as ServingModel

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

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = imported(_HOMES[name], name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
