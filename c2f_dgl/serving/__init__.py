"""Serving with numpy alone: load an artifact, recommend, compare, explain, fold in. Neither torch nor DGL is needed."""

from c2f_dgl.ids import IdMap
from c2f_dgl.serving.artifact import Artifact, read_artifact, write_artifact
from c2f_dgl.serving.codes import ItemCodes, Level, Rows
from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.embeddings import Embeddings
from c2f_dgl.serving.explain import Explanation
from c2f_dgl.serving.learned import Learned, LearnedTier
from c2f_dgl.serving.model import ServingModel
from c2f_dgl.serving.neighbours import Neighbours
from c2f_dgl.serving.users import UserHistories

__all__ = [
    "Artifact",
    "Csr",
    "Embeddings",
    "Explanation",
    "IdMap",
    "ItemCodes",
    "Learned",
    "LearnedTier",
    "Level",
    "Neighbours",
    "Rows",
    "ServingModel",
    "UserHistories",
    "read_artifact",
    "write_artifact",
]
