"""Tiers of meta-embeddings: codebooks E, assignments S, and how they compose users and items."""

from c2f_dgl.tiers.assignment import Assignment, anchored, bridge, bridge_from_partition, pinv, pursuit
from c2f_dgl.tiers.codebook import random_codebook, soft_threshold, sparse_pca_codebook
from c2f_dgl.tiers.spectral import lowpass_weights, ritz_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding

__all__ = [
    "Assignment",
    "Tier",
    "TieredEmbedding",
    "anchored",
    "bridge",
    "bridge_from_partition",
    "lowpass_weights",
    "pinv",
    "pursuit",
    "random_codebook",
    "ritz_codebook",
    "soft_threshold",
    "sparse_pca_codebook",
]
