"""Coarse-to-fine lightweight meta-embeddings for recommendation, on DGL heterographs."""

from c2f_dgl.api import load_run, train
from c2f_dgl.config.load import load_config
from c2f_dgl.data import load_dataset
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import evaluate, top_items
from c2f_dgl.graph.propagate import propagate

__version__ = "0.1.0"

__all__ = ["InputError", "evaluate", "load_config", "load_dataset", "load_run", "propagate", "top_items", "train"]
