"""LightGCN on any heterograph, as a module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from c2f_dgl.config.roles import EdgeType
from c2f_dgl.dgl_import import dgl
from c2f_dgl.graph.hetero import with_norm
from c2f_dgl.graph.propagate import Kernel, propagate


class HeteroLightGCNConv(nn.Module):
    r"""Light graph convolution over all relations of a heterograph, k layers combined.

    .. math::
        H^{(l+1)} = D^{-1/2} A D^{-1/2} H^{(l)}, \qquad H = \sum_{l=0}^{k} \beta_l H^{(l)}

    where A holds the edges of all relations and D their weighted in-degrees (out-degrees of nodes that nothing
    reaches). Nothing is learned.

    Parameters
    ----------
    k : int
        Number of layers.
    layer_weights : sequence of k + 1 floats, optional
        :math:`\beta`; the mean over layers by default.
    kernel : {"auto", "dgl", "csr", "bfloat16"}
        Sparse product: DGL's message passing, or torch's on DGL's structure.

    Example
    -------
    >>> conv = HeteroLightGCNConv(k=2)
    >>> h = conv(g, {"user": torch.randn(g.num_nodes("user"), 16), "item": torch.randn(g.num_nodes("item"), 16)})
    >>> h["user"].shape
    torch.Size([3, 16])
    """

    def __init__(self, k: int = 3, layer_weights: Sequence[float] | None = None, kernel: Kernel = "auto") -> None:
        super().__init__()
        self._k, self._kernel = k, kernel
        self._layer_weights = None if layer_weights is None else tuple(layer_weights)

    def forward(
        self,
        graph: dgl.DGLGraph,
        feat: Mapping[str, Tensor],
        edge_weight: Mapping[str | EdgeType, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """H of every node type, (N_t, D), from H(0), `feat`; errors are those of `c2f_dgl.propagate`.

        Messages go along edges: an undirected relation needs both directions. Weights above 0 of a relation, (E_r,),
        are `edge_weight` or edge data ``weight``, else ones; gradients reach them on the ``dgl`` kernel, which ``auto``
        takes then.
        """
        if not feat:
            raise ValueError("no features")
        like = next(iter(feat.values()))
        weights = {graph.to_canonical_etype(etype): weight for etype, weight in (edge_weight or {}).items()}
        prepared = graph.local_var()
        for etype in graph.canonical_etypes:
            ones = torch.ones(graph.num_edges(etype), device=graph.device)
            weight = weights.get(etype, graph.edges[etype].data.get("weight", ones))
            # A copy: what `propagate` derives from a weight it keeps while that lives, and the caller may change it.
            prepared.edges[etype].data["weight"] = weight.to(like.dtype, copy=True)
        prepared = prepared.to(torch.device("cpu"))  # norms are computed there; the kernels move what they need
        with_norm(prepared)
        return propagate(prepared, feat, self._k, kernel=self._kernel, layer_weights=self._layer_weights)

    def extra_repr(self) -> str:
        return f"k={self._k}, kernel={self._kernel}"
