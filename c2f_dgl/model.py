"""The recommender: tiers that compose H(0), a propagation, and a readout that turns H into scores."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Engine, EngineName, Propagation, make_engine
from c2f_dgl.evaluation.ranking import Scorer
from c2f_dgl.graph.hetero import INTERACTS
from c2f_dgl.graph.item_filter import ItemFilter, item_filter
from c2f_dgl.graph.layout import take_rows
from c2f_dgl.tiers.tiered import TieredEmbedding


class Readout(nn.Module):
    """score(u, i) = h_u . h_i (degree_i + 1)^a + b_u + b_i (Eq. 8 where a = 0 and without biases).

    Parameters
    ----------
    item_degree : Tensor, shape (n_items,)
        Number of training interactions of each item.
    n_users : int
    item_scale : float
        a, not trained. A positive one does what a bias per item does, with one number.
    biases : bool
        Learn b, one value per user and item, started at N(0, 1) as the published code does. b_u changes no ranking
        and gets no gradient from pairwise losses; it is there because it is part of that model.
    filter : ItemFilter, optional
        A further score term where all items are ranked (see `Scorer`). Losses do not see it.
    filter_weight : float
        Its weight, not trained.
    """

    scale: Tensor | None

    def __init__(
        self,
        item_degree: Tensor,
        n_users: int,
        *,
        item_scale: float = 0.0,
        biases: bool = False,
        seed: int = 0,
        filter: ItemFilter | None = None,
        filter_weight: float = 0.0,
    ) -> None:
        super().__init__()
        self.item_scale, self.filter, self.filter_weight = item_scale, filter, filter_weight
        self.register_buffer("scale", (item_degree + 1) ** item_scale if item_scale else None)
        self.n_users = n_users
        self.bias: nn.Parameter | None = None
        if biases:
            generator = torch.Generator().manual_seed(seed)
            self.bias = nn.Parameter(torch.randn(n_users + len(item_degree), generator=generator).to(item_degree))

    def items(self, h: Tensor, items: Tensor) -> Tensor:
        """Scaled embeddings of `items` from their propagated ones `h` (same leading shape)."""
        return h if self.scale is None else h * self.scale[items][..., None]

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
        items = self.items(h_items, torch.arange(len(h_items), device=h_items.device))
        bias = None if self.bias is None else self.bias.detach()[self.n_users :]
        return Scorer(h_users, items, bias, self.filter, self.filter_weight)


class Recommender(nn.Module):
    """Tiers, propagation and readout on one interaction graph.

    Parameters
    ----------
    graph : DGLGraph
        The interaction graph; the tiers' relations are linked to it here and by `relink`.
    embedding : TieredEmbedding
    propagation : Propagation
    readout : Readout
    engine : {"auto", "collapsed", "message_passing"}
    chosen_scalars : int
        How many of the layer weights, the item scale and the filter's weight were chosen from data, and so count as
        learned.
    memory_budget : float, optional
        Bytes that the collapsed engine's basis may take.
    """

    def __init__(
        self,
        graph: dgl.DGLGraph,
        embedding: TieredEmbedding,
        propagation: Propagation,
        readout: Readout,
        engine: EngineName = "auto",
        chosen_scalars: int = 0,
        memory_budget: float | None = None,
    ) -> None:
        super().__init__()
        self.embedding, self.propagation, self.readout = embedding, propagation, readout
        self.chosen_scalars = chosen_scalars
        self.engine: Engine = make_engine(engine, embedding, propagation, memory_budget)
        self.graph = graph
        self.relink()

    def relink(self, first: int = 0) -> None:
        """Rebuild the relations of tier number `first` and below, and what the engine derives from them."""
        self.graph = self.embedding.link(self.graph, first)
        self.engine.rebuild(self.graph)

    def scorer(self) -> Scorer:
        """The model as it is now, ready to rank."""
        features = self.engine.all_nodes()
        return self.readout.scorer(features["user"], features["item"])

    def count_values(self) -> dict[str, int]:
        """Everything learned, per part, and ``total``."""
        counts = self.embedding.count_values()
        if self.readout.bias is not None:
            counts["biases"] = self.readout.bias.numel()
        if self.chosen_scalars:
            counts["chosen scalars"] = self.chosen_scalars
        return {**counts, "total": sum(counts.values())}


def item_degrees(graph: dgl.DGLGraph, dtype: torch.dtype = torch.float32) -> Tensor:
    """Number of training interactions of each item (n_items,)."""
    return graph.in_degrees(etype=INTERACTS).to(dtype)


def graph_filter(graph: dgl.DGLGraph, n_neighbours: int, item_scale: float) -> ItemFilter | None:
    """The filter term of a model, its scores scaled like those of the embeddings; None for 0 neighbours."""
    if n_neighbours == 0:
        return None
    return item_filter(graph, n_neighbours).scaled(((item_degrees(graph) + 1) ** item_scale).numpy())
