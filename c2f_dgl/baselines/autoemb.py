"""AutoEmb: a controller weighs candidate sizes for every user and item by how often it occurs.

Source: Zhao, Liu, Fan et al. *AutoEmb: Automated Embedding Dimensionality Search in Streaming
Recommendations.* ICDM 2021.

    e~_k = tanh(BN(W_k e_k))                    candidate k of d_k entries, brought to one width
    alpha = softmax(controller(popularity))     a network for users, one for items
    e = g sum_k alpha_k e~_k                    soft selection

    upper level: controllers minimise the loss on validation;  lower level: all else minimises the loss on training

The two levels alternate batch by batch, with the first-order approximation of the upper gradient (DARTS with xi = 0).

Deviations
----------
- The loss is BPR on propagated embeddings. Data do not stream: popularity is the number of training interactions, and
  the controllers' other inputs (earlier weights and losses) are left out.
- The paper keeps all candidates, which saves no memory. Here each entity takes one size after the search: the choice
  with the largest total log alpha that meets the budget, together with the W_k that are used. Embeddings and W_k are
  retrained from a new start.
- No bias in W_k: batch normalisation takes it away. In the search it is over all entities of a kind, afterwards over
  those of a kind and a size.
- Selected embeddings are multiplied by one learned number a kind, g: no network on top of them could scale scores.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from pydantic import Field
from torch import Tensor, nn

from c2f_dgl.baselines.fitting import build_model, fitted, layout_of, train_phase
from c2f_dgl.baselines.masked import allocate, random_table
from c2f_dgl.baselines.searching import (
    SEARCH_SPACE,
    SearchSettings,
    degrees,
    heldout_sampler,
    search_loss,
    search_phase,
)
from c2f_dgl.baselines.system import Context, Fitted, System
from c2f_dgl.baselines.unified import (
    SizedTable,
    how_many,
    indifferent_network,
    left_for_embeddings,
    start_gains,
    unify,
    xavier,
)
from c2f_dgl.embedding import ComputedTable
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.model import Recommender
from c2f_dgl.training.sampler import Triplets


class AutoEmbSettings(SearchSettings):
    """Hyper-parameters of AutoEmb."""

    sizes: tuple[int, ...] = Field((1, 4, 16), min_length=1, description="candidate sizes, ascending")
    d: int = Field(32, ge=1, description="d, the width that all sizes are brought to")
    hidden: int = Field(32, ge=1, description="width of the controllers' hidden layer")
    controller_lr: float = Field(3e-3, gt=0, description="Adam's learning rate of the controllers")


class SoftSizes(ComputedTable):
    """The table while sizes are weighed.

    Parameters
    ----------
    layout : NodeLayout
    popularity : Tensor, shape (N,)
        What the controllers see, scaled to about 1.
    sizes : sequence of int
        d_k.
    d, hidden, std
        See `AutoEmbSettings`.
    generator : torch.Generator
    """

    popularity: Tensor

    def __init__(
        self,
        layout: NodeLayout,
        popularity: Tensor,
        sizes: Sequence[int],
        d: int,
        hidden: int,
        std: float,
        generator: torch.Generator,
    ) -> None:
        super().__init__(layout)
        self.register_buffer("popularity", popularity)
        self.candidates = nn.ModuleDict()
        self.maps = nn.ModuleDict()
        self.controllers = nn.ModuleDict()
        for node_type, n in zip(layout.types, layout.sizes, strict=True):
            self.candidates[node_type] = nn.ParameterList([random_table(n, k, std, generator) for k in sizes])
            self.maps[node_type] = nn.ParameterList([xavier(k, d, generator) for k in sizes])
            # All sizes weigh the same at the start.
            self.controllers[node_type] = indifferent_network(1, hidden, len(sizes), generator)
        self.gains = start_gains(layout, std)

    def log_weights(self) -> Tensor:
        """log alpha (N x candidates)."""
        parts = [
            self.controllers[node_type](self.popularity[self.layout.rows(node_type), None]).log_softmax(dim=1)
            for node_type in self.layout.types
        ]
        return torch.cat(parts)

    def table(self) -> Tensor:
        """e (N x d)."""
        parts = []
        for node_type, weights in self.layout.split(self.log_weights().exp()).items():
            candidates = cast("nn.ParameterList", self.candidates[node_type])
            maps = cast("nn.ParameterList", self.maps[node_type])
            unified = torch.stack([unify(e @ w) for e, w in zip(candidates, maps, strict=True)], dim=1)
            parts.append(self.gains[node_type] * (weights[:, :, None] * unified).sum(dim=1))
        return torch.cat(parts)


class HardSizes(SizedTable):
    """The table when every entity has one size.

    Parameters
    ----------
    layout : NodeLayout
    choice : Tensor, shape (N,), int64
        Index of each entity's size.
    sizes : sequence of int
        d_k.
    d, std
        See `AutoEmbSettings`.
    generator : torch.Generator
    """

    order: Tensor

    def __init__(
        self, layout: NodeLayout, choice: Tensor, sizes: Sequence[int], d: int, std: float, generator: torch.Generator
    ) -> None:
        super().__init__(layout)
        rows, kinds = [], []
        self.gains = start_gains(layout, std)
        self.embeddings, self.maps = nn.ParameterList(), nn.ParameterList()
        for node_type in layout.types:
            own = layout.rows(node_type)
            for k, size in enumerate(sizes):
                members = own.start + (choice[own] == k).nonzero()[:, 0]
                if len(members):
                    rows.append(members)
                    kinds.append(node_type)
                    self.embeddings.append(random_table(len(members), size, std, generator))
                    self.maps.append(xavier(size, d, generator))
        self.kinds = tuple(kinds)
        # Groups are computed one below the other; where each entity's row is then.
        self.register_buffer("order", torch.cat(rows).argsort())

    def table(self) -> Tensor:
        """e (N x d)."""
        groups = zip(self.kinds, self.embeddings, self.maps, strict=True)
        return torch.cat([self.gains[kind] * unify(e @ w) for kind, e, w in groups]).index_select(0, self.order)

    def count_values(self) -> dict[str, int]:
        """Embeddings at their sizes, the maps in use, and g."""
        return {
            "embeddings": sum(e.numel() for e in self.embeddings),
            "maps": sum(w.numel() for w in self.maps),
            "gains": len(self.gains),
        }


def train(context: Context[AutoEmbSettings]) -> Fitted:
    """Learn the controllers and the candidates on two levels, choose sizes, retrain."""
    settings, layout = context.settings, layout_of(context)
    sizes, n_maps = torch.tensor(settings.sizes), len(layout.types)
    rest = n_maps * (sum(settings.sizes) * settings.d + 1)
    budget = left_for_embeddings(context, rest, settings.sizes[0], "autoemb")
    generator, popularity = context.generator("table"), degrees(context).log1p()
    popularity = (popularity - popularity.mean()) / popularity.std().clamp_min(1e-6)
    soft = SoftSizes(layout, popularity, settings.sizes, settings.d, settings.hidden, settings.std, generator)
    model = build_model(context, soft, settings.layers)
    upper = list(soft.controllers.parameters())
    lower = [parameter for name, parameter in soft.named_parameters() if not name.startswith("controllers.")]
    optimizer = torch.optim.Adam(upper, lr=settings.controller_lr)
    held_out = heldout_sampler(context, settings.negatives)
    rng, batch_size = context.rng("controllers"), max(1, settings.batch_size // settings.negatives)

    def objective(model: Recommender[SoftSizes], batch: Triplets) -> Tensor:
        on_valid = search_loss(model, held_out.epoch(batch_size, batch_size, rng), 0.0)
        for parameter, gradient in zip(upper, torch.autograd.grad(on_valid, upper), strict=True):
            parameter.grad = gradient
        optimizer.step()
        # What the lower level's step leaves on the controllers is replaced above before it is ever used.
        return search_loss(model, batch, settings.l2)

    record = search_phase(context, model, "two levels", objective=objective, parameters=lower)
    with torch.no_grad():
        choice = allocate(soft.log_weights().cpu(), sizes, budget)
    record["sizes"] = how_many(layout, choice, len(sizes))
    hard = HardSizes(layout, choice, settings.sizes, settings.d, settings.std, context.generator("retrain"))
    chosen = build_model(context, hard, settings.layers)
    return fitted(chosen, [record, train_phase(context, chosen, settings.training(), "retrain")])


SYSTEMS = (
    System(
        "autoemb",
        "AutoEmb",
        "Zhao et al. 2021 (ICDM)",
        AutoEmbSettings(),
        train,
        {**SEARCH_SPACE, "sizes": ((1, 4, 16), (1, 2, 8), (1, 8, 32))},
    ),
)
