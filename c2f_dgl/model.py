"""The recommender: tiers that compose H(0), a propagation, and a readout that turns H into scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Generic

import torch
from torch import Tensor, nn
from typing_extensions import TypeVar

from c2f_dgl.config.roles import DEFAULT_ROLES, EdgeType, Roles
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Engine, EngineName, Propagation, make_engine
from c2f_dgl.evaluation.ranking import Scorer
from c2f_dgl.graph.hetero import exponent_of
from c2f_dgl.graph.item_filter import GraphFilter
from c2f_dgl.graph.layout import take_rows
from c2f_dgl.graph.neighbourhood import FilterShape
from c2f_dgl.tiers.embedding import EmbeddingLayer
from c2f_dgl.tiers.tiered import TieredEmbedding

Layer = TypeVar("Layer", bound=EmbeddingLayer, default=TieredEmbedding)


@dataclass(frozen=True)
class Scalars:
    """Numbers of a model that are neither trained by gradient nor part of a tier."""

    layer_weights: tuple[float, ...] | None = None  # beta of each of the L + 1 layers; None for their mean
    exponents: tuple[float, float] = (0.5, 0.5)  # a and b of D_u^(-a) R D_i^(-b)
    item_scale: float = 0.0
    filter: FilterShape | None = None
    filter_weight: float = 0.0
    importances: Mapping[str, float] = field(default_factory=dict)  # of relations whose importance no option gives


class Readout(nn.Module):
    """score(u, i) = h_u . h_i (degree_i + 1)^a + b_u + b_i (Eq. 8 where a = 0 and without biases).

    Biases start at N(0, 1), as in the published code. Losses do not see the filter, a further term where all items are
    ranked (see `Scorer`).
    """

    scale: Tensor | None

    def __init__(
        self,
        item_degree: Tensor,  # training interactions of each item (n_items,)
        n_users: int,
        *,
        item_scale: float = 0.0,  # a, not trained
        biases: bool = False,  # learn b, one value per user and item
        seed: int = 0,  # of the biases
        filter: GraphFilter | None = None,
        filter_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.item_scale, self.filter, self.filter_weight = item_scale, filter, filter_weight
        self.register_buffer("scale", item_factors(item_degree, item_scale) if item_scale else None)
        self.n_users = n_users
        self.bias: nn.Parameter | None = None
        if biases:
            generator = torch.Generator().manual_seed(seed)
            self.bias = nn.Parameter(torch.randn(n_users + len(item_degree), generator=generator).to(item_degree))

    def scores(self, dots: Tensor, users: Tensor, items: Tensor) -> Tensor:
        """Scores from h_u . h_i (n, c) of users (n,) with items (n, c), or (1, c) for items they have in common."""
        if self.scale is not None:
            dots = dots * self.scale[items]
        if self.bias is None:
            return dots
        bias = self.bias[:, None]
        return dots + take_rows(bias, users) + take_rows(bias, self.n_users + items)[..., 0]

    def scorer(self, h_users: Tensor, h_items: Tensor) -> Scorer:
        """What serves: all users' and all items' embeddings, scaled, with the items' biases."""
        items = h_items if self.scale is None else h_items * self.scale[:, None]
        bias = None if self.bias is None else self.bias.detach()[self.n_users :]
        return Scorer(h_users, items, bias, self.filter, self.filter_weight)


class Recommender(nn.Module, Generic[Layer]):
    """An embedding layer (tiers, if nothing else is said), propagation and readout on one graph of entities."""

    def __init__(
        self,
        graph: dgl.DGLGraph,  # of the entities: the embedding's relations are linked to it
        embedding: Layer,
        propagation: Propagation,
        readout: Readout,
        engine: EngineName = "auto",
        chosen_scalars: int = 0,  # how many of the `Scalars` were chosen from data, and so count as learned
        roles: Roles = DEFAULT_ROLES,
        importances: Mapping[str, float] | None = None,  # of relations by name, in the weights of `graph` already
        memory_budget: float | None = None,  # bytes that the collapsed engine's basis may take
    ) -> None:
        super().__init__()
        self.embedding, self.propagation, self.readout = embedding, propagation, readout
        self.chosen_scalars, self.roles = chosen_scalars, roles
        self._chosen_importances = dict(importances or {})
        self.importance = propagation.importance  # a module: its values are among the parameters
        self.engine: Engine = make_engine(engine, embedding, propagation, memory_budget)
        self.graph = graph
        self.relink()
        self.register_load_state_dict_post_hook(_relink)  # assignments are part of the state

    def relink(self, first: int = 0) -> None:
        """Rebuild the relations of tier number `first` and below, and what the engine derives from them."""
        self.graph = self.embedding.link(self.graph, first)
        self.engine.rebuild(self.graph)

    def scorer(self) -> Scorer:
        """The model as it is now, ready to rank."""
        features = self.engine.all_nodes()
        return self.readout.scorer(features[self.roles.query], features[self.roles.ranked])

    def importances(self) -> dict[str, float]:
        """Importances of relations that no option gives, chosen or learned, by name."""
        learned = {} if self.importance is None else self.importance.values()
        return {**self._chosen_importances, **learned}

    def scalars(self) -> Scalars:
        """The numbers beside what is trained by gradient."""
        readout = self.readout
        return Scalars(
            self.propagation.layer_weights,
            (exponent_of(self.graph, self.roles.query), exponent_of(self.graph, self.roles.ranked)),
            readout.item_scale,
            None if readout.filter is None else readout.filter.term.shape,
            readout.filter_weight,
            self.importances(),
        )

    def count_values(self) -> dict[str, int]:
        """Everything learned, per part, and ``total``."""
        counts = self.embedding.count_values()
        if self.readout.bias is not None:
            counts["biases"] = self.readout.bias.numel()
        if self.chosen_scalars:
            counts["chosen scalars"] = self.chosen_scalars
        if self.importance is not None:
            counts["importances"] = self.importance.log_factor.numel()
        return {**counts, "total": sum(counts.values())}

    def count_bytes(self) -> int:
        """Bytes that store everything learned."""
        embedded = sum(self.embedding.count_values().values())
        return self.embedding.count_bytes() + 4 * (self.count_values()["total"] - embedded)


def _relink(model: Any, _: object) -> None:
    model.relink()


def item_degrees(graph: dgl.DGLGraph, target: EdgeType = DEFAULT_ROLES.target) -> Tensor:
    """Number of training interactions of each item (n_items,), float32."""
    return graph.in_degrees(etype=target).float()


def item_factors(degree: Tensor, item_scale: float) -> Tensor:
    """(degree_i + 1)^a (n_items,), what multiplies an item's scores."""
    return (degree + 1) ** item_scale
