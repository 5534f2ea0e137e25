"""LightGCN as a plain DGL program: a module with ``forward(graph)``, `multi_update_all` on user and item nodes.

He et al. 2020. For those who come from DGL's examples: nothing of this package's tiers, engines or kernels is in the
model. Each layer sends D^(-1/2)-scaled features over both relations at once, and layers are averaged:

    e_u(l+1) = sum over items i of u of  e_i(l) / sqrt(|N_u| |N_i|)        (and the same for items)

Batches, early stop and evaluation are those of every other system, so its figures can be compared with ``full-64``,
which computes the same with this package's own propagation.

Deviations: none. Runs on a GPU where DGL was built for it, else on the CPU.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from c2f_dgl.baselines.fitting import train_phase
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.dgl_import import dgl
from c2f_dgl.evaluation.ranking import Scorer
from c2f_dgl.graph.propagate import chosen_kernel
from c2f_dgl.training.sampler import Triplets


class DGLSettings(GradientSettings):
    """Hyper-parameters of the plain DGL programs."""

    d: int = Field(64, ge=1, description="d")


class LightGCN(nn.Module):
    """LightGCN on a bipartite heterograph with node types ``user`` and ``item``.

    Parameters
    ----------
    graph : DGLGraph
        Its relations go both ways between users and items.
    d, n_layers : int
    generator : torch.Generator
        Draws the embeddings (Xavier uniform).
    """

    def __init__(self, graph: dgl.DGLGraph, d: int, n_layers: int, generator: torch.Generator) -> None:
        super().__init__()
        self.graph, self.n_layers = graph, n_layers
        n_users, n_items = graph.num_nodes("user"), graph.num_nodes("item")
        table = nn.init.xavier_uniform_(torch.empty(n_users + n_items, d), generator=generator)
        self.embedding = nn.ParameterDict({"user": table[:n_users].clone(), "item": table[n_users:].clone()})

    def forward(self, graph: dgl.DGLGraph) -> dict[str, Tensor]:
        """The mean of all layers' embeddings, per node type."""
        with graph.local_scope():
            norm = {ntype: degree_norm(graph, ntype) for ntype in graph.ntypes}
            h = {ntype: self.embedding[ntype] for ntype in graph.ntypes}
            total = dict(h)
            for _ in range(self.n_layers):
                for ntype in graph.ntypes:
                    graph.nodes[ntype].data["h"] = h[ntype] * norm[ntype]
                copy, add = dgl.function.copy_u("h", "m"), dgl.function.sum("m", "h")
                graph.multi_update_all({etype: (copy, add) for etype in graph.canonical_etypes}, "sum")
                h = {ntype: graph.nodes[ntype].data["h"] * norm[ntype] for ntype in graph.ntypes}
                total = {ntype: total[ntype] + h[ntype] for ntype in graph.ntypes}
            return {ntype: x / (self.n_layers + 1) for ntype, x in total.items()}

    @torch.no_grad()
    def scorer(self) -> Scorer:
        """All embeddings, ready to rank."""
        h = self(self.graph)
        return Scorer(h["user"], h["item"])

    def count_values(self) -> dict[str, int]:
        """Sizes of the parameters, and ``total``."""
        counts = {name: parameter.numel() for name, parameter in self.named_parameters()}
        return {**counts, "total": sum(counts.values())}


def degree_norm(graph: dgl.DGLGraph, ntype: str) -> Tensor:
    """|N|^(-1/2) of the nodes of a type (n x 1); 1 for isolated ones."""
    (etype,) = (etype for etype in graph.canonical_etypes if etype[2] == ntype)
    return graph.in_degrees(etype=etype).clamp(min=1).float().rsqrt()[:, None]


def bpr_loss(model: LightGCN, batch: Triplets, l2: float) -> Tensor:
    """BPR of a batch, and L2 on the embeddings that enter it, per triplet."""
    h = model(model.graph)
    device = h["user"].device
    users, positives, negatives = (
        torch.as_tensor(x, device=device) for x in (batch.users, batch.positives, batch.negatives)
    )
    user = h["user"][users][:, None]
    positive, negative = ((user * h["item"][items]).sum(-1) for items in (positives[:, None], negatives))
    ego = model.embedding
    squares = ego["user"][users].square().sum(-1) + ego["item"][positives].square().sum(-1)
    penalty = squares.mean() + ego["item"][negatives].square().sum(-1).mean()
    return F.softplus(negative - positive).mean() + l2 * penalty


def train_dgl(context: Context[DGLSettings], model: LightGCN) -> Fitted:
    """Train one of the plain programs."""
    if chosen_kernel("auto", context.device) == "dgl":
        model.to(context.device)
        model.graph = model.graph.to(context.device)
    l2 = context.settings.l2
    record = train_phase(
        context, model, context.settings.training(), objective=lambda model, batch: bpr_loss(model, batch, l2)
    )
    counts = model.count_values()
    total = counts.pop("total")
    return Fitted(model.scorer(), counts, 4 * total, [record])


def train(context: Context[DGLSettings]) -> Fitted:
    """LightGCN."""
    settings = context.settings
    return train_dgl(context, LightGCN(context.graph, settings.d, settings.layers, context.generator("table")))


SYSTEMS = (
    System(
        "dgl-lightgcn",
        "LightGCN, plain DGL",
        "He et al. 2020 (SIGIR)",
        DGLSettings(),
        train,
        GRADIENT_SPACE,
        budgeted=False,
    ),
)
