"""What both engines share: how the tiers' graph is propagated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.embedding import EmbeddingLayer
from c2f_dgl.engines.importance import RelationImportance
from c2f_dgl.graph.propagate import Features, Kernel, propagate
from c2f_dgl.tiers.tiered import TieredEmbedding


@dataclass(frozen=True)
class Propagation:
    """Settings of `c2f_dgl.graph.propagate.propagate` for a model.

    Parameters
    ----------
    n_layers : int
        L.
    layer_weights : tuple of L + 1 floats, optional
        beta of each layer; the mean by default (Eq. 6).
    gate_layers : bool
        Mix finer tiers in again after every layer (published code).
    kernel : {"auto", "dgl", "csr"}
    importance : RelationImportance, optional
        Learned factors on the weights of some relations.
    """

    n_layers: int
    layer_weights: tuple[float, ...] | None = None
    gate_layers: bool = False
    kernel: Kernel = "auto"
    importance: RelationImportance | None = None

    def __call__(
        self, graph: dgl.DGLGraph, embedding: EmbeddingLayer, codebooks: Sequence[Tensor]
    ) -> dict[str, Tensor]:
        """H per node type from one (m_k x width) matrix per tier (see `EmbeddingLayer.inputs`)."""
        gate: Callable[[Features], Features] | None = None
        if self.gate_layers and isinstance(embedding, TieredEmbedding) and len(embedding.tiers) > 1:
            gate = embedding.gate_layers
        return propagate(
            graph,
            embedding.inputs(codebooks),
            self.n_layers,
            kernel=self.kernel,
            layer_weights=self.layer_weights,
            after_layer=gate,
            factors=None if self.importance is None else self.importance.factors(),
        )
