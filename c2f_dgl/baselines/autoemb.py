"""AutoEmb: a controller weighs candidate sizes for every user and item by how often it occurs.

Zhao, Liu, Fan et al. *AutoEmb: Automated Embedding Dimensionality Search in Streaming Recommendations.* ICDM 2021.

    e~_k = tanh(BN(W_k e_k)), candidate k of d_k entries
    e = g sum_k alpha_k e~_k,  alpha = softmax(controller(popularity)), a network for users, one for items

Controllers minimise the loss on validation, all else that on training, batch by batch in turn (DARTS with xi = 0).

Deviations: the loss is BPR on propagated embeddings. Data do not stream: popularity is the number of training
interactions, and the controllers' other inputs are left out. The paper keeps all candidates, which saves no memory;
here each entity takes one size after the search, the choice of largest total log alpha that meets the budget, and what
is in use is retrained from a new start. W_k has no bias, which batch normalisation takes away. g is one learned number
a kind: no network on top of the embeddings could scale scores.
"""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from c2f_dgl.baselines import tables
from c2f_dgl.baselines.fitting import bpr_loss, build_model, degrees, fit, heldout_sampler, layout_of, search_phase
from c2f_dgl.baselines.system import SEARCH_SPACE, Context, Fitted, SearchSettings, System
from c2f_dgl.graph.layout import NodeLayout
from c2f_dgl.model import Recommender
from c2f_dgl.tiers.codebook import random_codebook
from c2f_dgl.tiers.embedding import ComputedTable
from c2f_dgl.training.sampler import Triplets


class AutoEmbSettings(SearchSettings):
    sizes: tuple[int, ...] = Field((1, 4, 16), min_length=1, description="candidate sizes, ascending")
    d: int = Field(32, ge=1, description="d, the width that all sizes are brought to")
    hidden: int = Field(32, ge=1, description="width of the controllers' hidden layer")
    controller_lr: float = Field(3e-3, gt=0, description="Adam's learning rate of the controllers")


class SoftSizes(ComputedTable):
    """The table while sizes are weighed; popularity (N,) is what the controllers see, scaled to about 1."""

    popularity: Tensor

    def __init__(
        self, layout: NodeLayout, popularity: Tensor, settings: AutoEmbSettings, generator: torch.Generator
    ) -> None:
        super().__init__(layout)
        self.register_buffer("popularity", popularity)
        # Candidates and maps of all sizes of users, then of items.
        self.candidates, self.maps, self.controllers = nn.ParameterList(), nn.ParameterList(), nn.ModuleList()
        self.n_candidates = len(settings.sizes)
        for n in layout.sizes:
            self.candidates.extend(tables.random_table(n, k, settings.std, generator) for k in settings.sizes)
            self.maps.extend(random_codebook(k, settings.d, "xavier", generator) for k in settings.sizes)
            self.controllers.append(tables.indifferent_network(1, settings.hidden, self.n_candidates, generator))
        self.gains = tables.start_gains(layout, settings.std)

    def log_weights(self) -> Tensor:
        """log alpha (N x candidates)."""
        popularity = self.layout.split(self.popularity[:, None]).values()
        logits = [network(x) for network, x in zip(self.controllers, popularity, strict=True)]
        return torch.cat(logits).log_softmax(dim=1)

    def table(self) -> Tensor:
        unified = [tables.unify(e @ w) for e, w in zip(self.candidates, self.maps, strict=True)]
        parts = []
        for number, (kind, weights) in enumerate(self.layout.split(self.log_weights().exp()).items()):
            of_kind = torch.stack(unified[number * self.n_candidates :][: self.n_candidates], dim=1)
            parts.append(self.gains[kind] * (weights[:, :, None] * of_kind).sum(dim=1))
        return torch.cat(parts)


class HardSizes(tables.SizedTable):
    """The table when every entity has one size d_k; choice: index of each entity's size (N,), int64."""

    order: Tensor

    def __init__(
        self, layout: NodeLayout, choice: Tensor, settings: AutoEmbSettings, generator: torch.Generator
    ) -> None:
        super().__init__(layout)
        members: list[Tensor] = []  # of each group: the entities of a kind with a size
        self.kinds: list[str] = []
        self.gains = tables.start_gains(layout, settings.std)
        self.embeddings, self.maps = nn.ParameterList(), nn.ParameterList()
        for node_type, choices in layout.split(choice).items():
            for k, size in enumerate(settings.sizes):
                rows = layout.offset(node_type) + (choices == k).nonzero()[:, 0]
                if len(rows):
                    members.append(rows)
                    self.kinds.append(node_type)
                    self.embeddings.append(tables.random_table(len(rows), size, settings.std, generator))
                    self.maps.append(random_codebook(size, settings.d, "xavier", generator))
        # Groups are computed one below the other; where each entity's row is then.
        self.register_buffer("order", torch.cat(members).argsort())

    def table(self) -> Tensor:
        groups = zip(self.kinds, self.embeddings, self.maps, strict=True)
        return torch.cat([self.gains[kind] * tables.unify(e @ w) for kind, e, w in groups]).index_select(0, self.order)

    def count_values(self) -> dict[str, int]:
        count = lambda part: sum(x.numel() for x in part)
        return {"embeddings": count(self.embeddings), "maps": count(self.maps), "gains": len(self.gains)}


def train(context: Context[AutoEmbSettings]) -> Fitted:
    """Learn the controllers and the candidates on two levels, choose sizes, retrain."""
    settings, layout = context.settings, layout_of(context)
    maps_and_gains = len(layout.types) * (sum(settings.sizes) * settings.d + 1)
    budget = context.left_for_entities(settings.sizes[0], maps_and_gains)
    popularity = degrees(context).log1p()
    popularity = (popularity - popularity.mean()) / popularity.std().clamp_min(1e-6)
    soft = SoftSizes(layout, popularity, settings, context.generator("table"))
    model = build_model(context, soft, settings.layers)
    upper = list(soft.controllers.parameters())
    lower = [*soft.candidates, *soft.maps, *soft.gains.values()]
    optimizer = torch.optim.Adam(upper, lr=settings.controller_lr)
    sampler, rng = heldout_sampler(context, settings.negatives), context.rng("controllers")
    batch_size = max(1, settings.batch_size // settings.negatives)

    def objective(model: Recommender[SoftSizes], batch: Triplets) -> Tensor:
        on_valid = bpr_loss(model, sampler.epoch(batch_size, batch_size, rng), 0.0)
        for parameter, gradient in zip(upper, torch.autograd.grad(on_valid, upper), strict=True):
            parameter.grad = gradient
        optimizer.step()
        # What the lower level's step leaves on the controllers is replaced above before it is ever used.
        return bpr_loss(model, batch, settings.l2)

    record = search_phase(context.within(0.5), model, "two levels", objective=objective, parameters=lower)
    with torch.no_grad():
        choice = tables.allocate(soft.log_weights().cpu(), torch.tensor(settings.sizes), budget)
    record["sizes"] = tables.size_counts(layout, choice, len(settings.sizes))
    return fit(context, HardSizes(layout, choice, settings, context.generator("retrain")), "retrain", [record])


_GRID = {**SEARCH_SPACE, "sizes": ((1, 4, 16), (1, 2, 8), (1, 8, 32))}
SYSTEMS = (System("autoemb", "AutoEmb", "Zhao et al. 2021 (ICDM)", AutoEmbSettings(), train, _GRID),)
