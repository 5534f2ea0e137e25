"""LightGCN and NGCF as plain DGL programs, without this package's tiers, engines or kernels.

Batches, early stop and evaluation are those of every other system: LightGCN computes what ``full-64`` does. They run on
a GPU where DGL was built for it, else on the CPU.

    LightGCN (He et al. 2020)    e_u(l+1) = sum over items i of u of  e_i(l) / sqrt(|N_u| |N_i|),  layers averaged
    NGCF (Wang et al. 2019)      e_u(l+1) = LeakyReLU( W1 e_u + sum_i (W1 e_i + W2 (e_i * e_u)) / sqrt(|N_u| |N_i|) ),
                                 then message dropout; layers L2-normalised and side by side, *: elementwise

W1 and W2 have a bias, as in the published code. Deviations of NGCF: node dropout, off by default in the paper, is left
out; L2 is on the batch's input embeddings, as for all systems, and not on the final ones and the weights.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from c2f_dgl.baselines.fitting import fitted, train_phase
from c2f_dgl.baselines.system import GRADIENT_SPACE, Context, Fitted, GradientSettings, System
from c2f_dgl.dgl_import import dgl
from c2f_dgl.evaluation.ranking import Scorer
from c2f_dgl.graph.propagate import chosen_kernel
from c2f_dgl.training.sampler import Triplets


class DGLSettings(GradientSettings):
    d: int = Field(64, ge=1, description="d")


class NGCFSettings(DGLSettings):
    dropout: float = Field(0.1, ge=0, lt=1, description="message dropout")


class LightGCN(nn.Module):
    """LightGCN on a bipartite heterograph with node types ``user`` and ``item``, whose relations go both ways."""

    def __init__(self, graph: dgl.DGLGraph, d: int, n_layers: int, generator: torch.Generator) -> None:
        super().__init__()
        self.graph, self.n_layers = graph, n_layers
        n_users, n_items = graph.num_nodes("user"), graph.num_nodes("item")
        table = nn.init.xavier_uniform_(torch.empty(n_users + n_items, d), generator=generator)
        self.embedding = nn.ParameterDict({"user": table[:n_users].clone(), "item": table[n_users:].clone()})

    def forward(self, graph: dgl.DGLGraph) -> dict[str, Tensor]:
        """The mean of all layers' embeddings, per node type."""
        h = dict(self.embedding.items())
        total = dict(h)
        for _ in range(self.n_layers):
            h = neighbour_sums(graph, h)
            total = {ntype: total[ntype] + h[ntype] for ntype in h}
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

    def count_bytes(self) -> int:
        """4 bytes a learned value."""
        return 4 * self.count_values()["total"]


class NGCF(LightGCN):
    """NGCF on a bipartite heterograph; parameters and losses of `LightGCN`, another ``forward``."""

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
        h = dict(self.embedding.items())
        layers = {ntype: [x] for ntype, x in h.items()}
        for linear, interaction in zip(self.linear, self.interaction, strict=True):
            # e_u does not depend on i: both terms need the one sum, and no edge holds a d-vector.
            for ntype, neighbours in neighbour_sums(graph, h).items():
                x = F.leaky_relu(linear(h[ntype] + neighbours) + interaction(h[ntype] * neighbours), 0.2)
                h[ntype] = F.dropout(x, self.dropout, self.training and torch.is_grad_enabled())
                layers[ntype].append(F.normalize(h[ntype]))
        return {ntype: torch.cat(xs, dim=1) for ntype, xs in layers.items()}


def neighbour_sums(graph: dgl.DGLGraph, h: dict[str, Tensor]) -> dict[str, Tensor]:
    """sum_i h_i / sqrt(|N_u| |N_i|) over the neighbours of every node (n x d), per node type; 0 for isolated ones."""
    copy, add = dgl.function.copy_u("h", "m"), dgl.function.sum("m", "h")
    degree = {etype[2]: graph.in_degrees(etype=etype) for etype in graph.canonical_etypes}
    norm = {ntype: of_type.clamp(min=1).float().rsqrt()[:, None] for ntype, of_type in degree.items()}
    with graph.local_scope():
        for ntype in graph.ntypes:
            graph.nodes[ntype].data["h"] = h[ntype] * norm[ntype]
        graph.multi_update_all({etype: (copy, add) for etype in graph.canonical_etypes}, "sum")
        return {ntype: graph.nodes[ntype].data["h"] * norm[ntype] for ntype in graph.ntypes}


def bpr_loss(model: LightGCN, batch: Triplets, l2: float) -> Tensor:
    """BPR of a batch, and L2 on the embeddings that enter it, per triplet."""
    h = model(model.graph)
    rows = (batch.users, batch.positives, batch.negatives)
    users, positives, negatives = (torch.as_tensor(x, device=h["user"].device) for x in rows)
    user = h["user"][users][:, None]
    positive, negative = ((user * h["item"][items]).sum(-1) for items in (positives[:, None], negatives))
    ego = model.embedding
    squares = ego["user"][users].square().sum(-1) + ego["item"][positives].square().sum(-1)
    penalty = squares.mean() + ego["item"][negatives].square().sum(-1).mean()
    return F.softplus(negative - positive).mean() + l2 * penalty


def train(context: Context[DGLSettings], program: Callable[..., LightGCN] = LightGCN) -> Fitted:
    """Train one of the plain programs."""
    settings = context.settings
    model = program(context.graph, settings.d, settings.layers, context.generator("table"))
    if chosen_kernel("auto", context.device) == "dgl":
        model.to(context.device)
        model.graph = model.graph.to(context.device)
    objective = lambda model, batch: bpr_loss(model, batch, settings.l2)
    record = train_phase(context, model, settings.training(), objective=objective)
    return fitted(model, [record])


def train_ngcf(context: Context[NGCFSettings]) -> Fitted:
    """NGCF (Wang et al. 2019)."""
    torch.manual_seed(int(context.rng("dropout").integers(2**31)))  # F.dropout takes no generator
    return train(context, partial(NGCF, dropout=context.settings.dropout))


_LIGHTGCN, _NGCF = "He et al. 2020 (SIGIR)", "Wang et al. 2019 (SIGIR)"
_NGCF_GRID = {**GRADIENT_SPACE, "dropout": (0.0, 0.1, 0.3)}
SYSTEMS = (
    System("dgl-lightgcn", "LightGCN, plain DGL", _LIGHTGCN, DGLSettings(), train, GRADIENT_SPACE, budgeted=False),
    System("dgl-ngcf", "NGCF, plain DGL", _NGCF, NGCFSettings(), train_ngcf, _NGCF_GRID, budgeted=False),
)
