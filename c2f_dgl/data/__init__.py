"""Interactions: read, split, fetched, generated."""

from c2f_dgl.cards import CARDS
from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.readers import read_interactions
from c2f_dgl.data.splits import Split, given_split, leave_last_out, random_split, temporal_split

__all__ = [
    "CARDS",
    "Interactions",
    "Split",
    "given_split",
    "leave_last_out",
    "load_dataset",
    "random_split",
    "read_interactions",
    "temporal_split",
]
