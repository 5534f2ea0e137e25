"""NGCF as a plain DGL program: messages with weights and interactions of the two ends, layers side by side.

Wang et al. 2019, Neural Graph Collaborative Filtering:

    m_(u<-i)  = (W1 e_i + W2 (e_i * e_u)) / sqrt(|N_u| |N_i|)        *: elementwise
    e_u(l+1)  = LeakyReLU( W1 e_u + sum over i of m_(u<-i) ),        then message dropout, and L2-normalised
    e_u       = e_u(0) | e_u(1) | ... | e_u(L)                       side by side

e_u does not depend on i, so the sum of the second term is W2 (e_u * sum_i e_i / sqrt(..)): both terms need the one
sum that `multi_update_all` gives, and no edge holds a d-vector. W1 and W2 have a bias, as in the published code.

Deviations: layers have the embeddings' width d = 64 as in the paper; its node dropout, off by default there, is left
out; L2 is on the input embeddings of the batch, as for all systems, and not on the final ones and the weights.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from c2f_dgl.baselines.dgl_lightgcn import DGLSettings, LightGCN, degree_norm, train_dgl
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, System
from c2f_dgl.dgl_import import dgl


class NGCFSettings(DGLSettings):
    """Hyper-parameters of NGCF."""

    dropout: float = Field(0.1, ge=0, lt=1, description="message dropout")


class NGCF(LightGCN):
    """NGCF on a bipartite heterograph; parameters and losses of `LightGCN`, another ``forward``.

    Parameters
    ----------
    graph, d, n_layers, generator
        As of `LightGCN`.
    dropout : float
        Share of a layer's outputs that is dropped in training.
    """

    def __init__(self, graph: dgl.DGLGraph, d: int, n_layers: int, generator: torch.Generator, dropout: float) -> None:
        super().__init__(graph, d, n_layers, generator)
        self.dropout = dropout
        self.linear = nn.ModuleList([nn.Linear(d, d) for _ in range(n_layers)])
        self.interaction = nn.ModuleList([nn.Linear(d, d) for _ in range(n_layers)])
        for layer in (*self.linear, *self.interaction):
            nn.init.xavier_uniform_(layer.weight, generator=generator)
            nn.init.zeros_(layer.bias)

    def forward(self, graph: dgl.DGLGraph) -> dict[str, Tensor]:
        """All layers' embeddings side by side (n x (L + 1) d), per node type."""
        with graph.local_scope():
            norm = {ntype: degree_norm(graph, ntype) for ntype in graph.ntypes}
            h = {ntype: self.embedding[ntype] for ntype in graph.ntypes}
            layers = {ntype: [x] for ntype, x in h.items()}
            for linear, interaction in zip(self.linear, self.interaction, strict=True):
                for ntype in graph.ntypes:
                    graph.nodes[ntype].data["h"] = h[ntype] * norm[ntype]
                copy, add = dgl.function.copy_u("h", "m"), dgl.function.sum("m", "h")
                graph.multi_update_all({etype: (copy, add) for etype in graph.canonical_etypes}, "sum")
                for ntype in graph.ntypes:
                    neighbours = graph.nodes[ntype].data["h"] * norm[ntype]
                    x = F.leaky_relu(linear(h[ntype] + neighbours) + interaction(h[ntype] * neighbours), 0.2)
                    h[ntype] = F.dropout(x, self.dropout, self.training and torch.is_grad_enabled())
                    layers[ntype].append(F.normalize(h[ntype]))
            return {ntype: torch.cat(xs, dim=1) for ntype, xs in layers.items()}


def train(context: Context[NGCFSettings]) -> Fitted:
    """NGCF."""
    settings = context.settings
    torch.manual_seed(int(context.rng("dropout").integers(2**31)))  # F.dropout takes no generator
    generator = context.generator("table")
    return train_dgl(context, NGCF(context.graph, settings.d, settings.layers, generator, settings.dropout))


SYSTEMS = (
    System(
        "dgl-ngcf",
        "NGCF, plain DGL",
        "Wang et al. 2019 (SIGIR)",
        NGCFSettings(),
        train,
        {**GRADIENT_SPACE, "dropout": (0.0, 0.1, 0.3)},
        budgeted=False,
    ),
)
