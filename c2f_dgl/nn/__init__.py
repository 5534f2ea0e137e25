"""Modules in the manner of `dgl.nn`, for use inside other models."""

from c2f_dgl.nn.conv import HeteroLightGCNConv
from c2f_dgl.nn.embedding import MetaEmbedding

__all__ = ["HeteroLightGCNConv", "MetaEmbedding"]
