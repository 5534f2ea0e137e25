"""Serving with numpy alone: load a model file, recommend, compare, explain. Neither torch nor DGL is needed."""

from c2f_dgl.data.ids import IdMap
from c2f_dgl.serving.codes import ItemCodes, Level, Neighbours, Rows
from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.model import Explanation, ServingModel
from c2f_dgl.serving.users import UserHistories

__all__ = ["Csr", "Explanation", "IdMap", "ItemCodes", "Level", "Neighbours", "Rows", "ServingModel", "UserHistories"]
