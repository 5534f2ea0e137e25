"""Leads of one coarse tier that is trained by gradient, each as a system of the bench beside the same control.

    c2f-dgl bench lastfm --systems "$(python -m benchmarks.leads)" --against benchmarks.leads:base --out DIR

The control: m = 300, d = 128, t = 2, users and items on the same atoms, S from METIS parts, five epochs with S fixed,
then S by matching pursuit after every epoch, BPR with five negatives. Every lead changes one thing and takes as many
epochs. What is no gain is here and not in the package.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.sparse.linalg import svds
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import matching
from benchmarks.matching import Model
from c2f_dgl.baselines.fitting import fitted, layout_of, train_phase
from c2f_dgl.baselines.system import Context, Fitted, GradientSettings, System
from c2f_dgl.config.roles import EdgeType
from c2f_dgl.data.interactions import Entries
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation, RelationImportance, propagated_basis
from c2f_dgl.engines.pairs import dots
from c2f_dgl.graph.entities import normalised
from c2f_dgl.graph.layout import NodeLayout, take_rows
from c2f_dgl.model import Readout, Recommender, item_degrees
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.codebook import random_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training.loss import batch_loss, bpr
from c2f_dgl.training.sampler import Triplets
from c2f_dgl.training.stage import Objective

# Graph with its links and the embedding, to bases and their weights at the start.
Terms = Callable[[dgl.DGLGraph, TieredEmbedding], tuple[list[Tensor], list[float]]]

# Epochs in all, and singular vectors of a low pass.
_EPOCHS, _RANK = 40, 64


class LeadSettings(GradientSettings):
    """The control's."""

    lr: float = 0.02
    epochs: int = _EPOCHS
    patience: int = 1000
    m: int = 300
    d: int = 128
    t: int = 2


_CONTROL = LeadSettings()


@dataclass(frozen=True)
class Lead:
    """What a lead changes; S is an assignment."""

    asks: str  # the question, answered by yes where it ranks better than the control
    settings: LeadSettings = _CONTROL
    start: Callable[[Context[LeadSettings]], Assignment] = matching.anchored_parts  # S before training
    match: Callable[[Model, Context[LeadSettings], int], Assignment] = matching.pursued  # S after an epoch
    updates: Callable[[int, int], bool] = lambda epoch, epochs: epoch >= matching.FIXED  # whether it is matched then
    objective: Callable[[Context[LeadSettings]], Objective] | None = None  # the loss of a step
    terms: Callable[[Context[LeadSettings]], Terms] | None = None  # bases whose weights are trained along
    learned_links: bool = False  # whether links of users and of items to atoms have a trained factor each
    link_scale: float = 1.0  # of the weights of S in the graph
    more: float = 0.0  # values more an entity, spent on atoms: rounded to whole ones

    def train(self, context: Context[LeadSettings]) -> Fitted:
        """One phase of the package's trainer; S is matched between its epochs."""
        if self.more:
            m = context.settings.m + round(self.more * context.n_entities / context.settings.d)
            context = replace(context, settings=context.settings.model_copy(update={"m": m}))
        settings, graph = context.settings, context.graph
        assignment = self.start(context)
        codebook = random_codebook(assignment.n_atoms, settings.d, "xavier", context.generator("codebook"))
        embedding = TieredEmbedding(
            layout_of(context), [Tier("coarse", codebook, assignment)], link_scale=self.link_scale
        )
        links = LinkImportance() if self.learned_links else None
        readout = Readout(item_degrees(graph), context.split.n_users)
        model = Recommender(graph, embedding, Propagation(settings.layers, importance=links), readout)
        if self.terms is not None:
            model.engine = LearnedTerms(embedding, self.terms(context))  # its parameters are the model's
            model.relink()
            model.chosen_scalars = len(model.engine.betas)

        def rematch(epoch: int) -> None:
            if self.updates(epoch, settings.epochs) and epoch < settings.epochs:
                embedding.tiers[0].assign(self.match(model, context, epoch))
                model.relink()

        record = train_phase(
            context,
            model,
            settings.training(),
            objective=None if self.objective is None else self.objective(context),
            after_epoch=rematch,
        )
        return fitted(model, [{**record, "asks": self.asks}])


class LearnedTerms(nn.Module):
    """An engine that learns the weights of several bases, H = sum_k beta_k M_k E."""

    def __init__(self, embedding: TieredEmbedding, terms: Terms) -> None:
        super().__init__()
        self.embedding, self.terms = [embedding], terms  # in a list: not a part of this module
        self.betas = nn.Parameter(torch.empty(0))

    @torch.no_grad()
    def rebuild(self, graph: dgl.DGLGraph) -> None:
        """Form the bases."""
        embedding = self.embedding[0]
        names = (*embedding.layout.types, embedding.tiers[0].name)
        self.nodes = NodeLayout.of(graph, names)
        self.bases, start = self.terms(graph, embedding)
        if not len(self.betas):
            self.betas = nn.Parameter(torch.tensor(start))

    def entities(self, rows: Tensor) -> Tensor:
        """H of some nodes."""
        combined = sum(beta * basis[rows] for beta, basis in zip(self.betas, self.bases, strict=True))
        assert isinstance(combined, Tensor)
        return combined @ self.embedding[0].tiers[0].coordinates()

    def scores(self, users: Tensor, items: Tensor) -> Tensor:
        """h_u . h_i of users (n,) with items (n, c)."""
        rows, inverse = torch.unique(torch.cat([users, items.flatten()]), return_inverse=True)
        h = self.entities(rows)
        return dots(take_rows(h, inverse[: len(users)]), h, inverse[len(users) :].view(items.shape))

    @torch.no_grad()
    def all_nodes(self) -> dict[str, Tensor]:
        """H of every node type."""
        return self.nodes.split(self.entities(torch.arange(len(self.bases[0]))))


def _each_layer(context: Context[LeadSettings]) -> Terms:
    """A basis of each layer, all weighing the same at the start."""
    n = context.settings.layers + 1
    weights = [tuple(map(float, row)) for row in np.eye(n)]

    def terms(graph: dgl.DGLGraph, embedding: TieredEmbedding) -> tuple[list[Tensor], list[float]]:
        atoms = torch.eye(embedding.tiers[0].size)
        return [propagated_basis(graph, embedding, Propagation(n - 1, row), 0, atoms) for row in weights], [1 / n] * n

    return terms


def _low_pass(context: Context[LeadSettings]) -> Terms:
    """The mean over layers, and V V^T S: S behind an ideal low pass, V the first singular vectors of R~."""
    left, _, right = svds(normalised(context.split.train), k=_RANK, rng=0)
    v = torch.as_tensor(np.concatenate([left, right.T]) / np.sqrt(2), dtype=torch.float32)

    def terms(graph: dgl.DGLGraph, embedding: TieredEmbedding) -> tuple[list[Tensor], list[float]]:
        atoms, n = torch.eye(embedding.tiers[0].size), embedding.layout.total
        propagated, direct = (
            propagated_basis(graph, embedding, Propagation(n_layers), 0, atoms)
            for n_layers in (context.settings.layers, 0)
        )
        return [propagated, torch.cat([v @ (v.T @ direct[:n]), torch.zeros_like(direct[n:])])], [1.0, 1.0]

    return terms


class LinkImportance(RelationImportance):
    """A trained factor on the users' links to atoms, one on the items', each in both directions."""

    def __init__(self) -> None:
        super().__init__({(side, "composed_of", "coarse"): 1.0 for side in ("user", "item")})

    def factors(self) -> dict[EdgeType, Tensor]:
        """By relation, differentiable."""
        values = dict(zip(self.relations, self.log_factor.exp(), strict=True))
        return values | {("coarse", f"composes_{side}", side): factor for (side, _, _), factor in values.items()}


def _scored(model: Model, batch: Triplets, l2: float) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of each positive and then its negatives (n x (1 + k)), the negatives, and the L2 term."""
    users, positives, negatives = (torch.as_tensor(x).long() for x in (batch.users, batch.positives, batch.negatives))
    items = torch.cat([positives[:, None], negatives], dim=1)
    scores = model.engine.scores(users, items + model.embedding.layout.offset("item"))
    return scores, negatives, batch_loss(model, batch, "bpr", l2) - batch_loss(model, batch, "bpr", 0.0)


def _hardest(context: Context[LeadSettings]) -> Objective:
    """BPR against the negative with the highest score alone."""

    def objective(model: Model, batch: Triplets) -> Tensor:
        scores, _, penalty = _scored(model, batch, context.settings.l2)
        return bpr(scores[:, 0], scores[:, 1:].max(dim=1, keepdim=True).values) + penalty

    return objective


def _popular(context: Context[LeadSettings]) -> Objective:
    """Negatives drawn in proportion to the root of their degree; where one was seen the uniform one stays."""
    train, rng = context.split.train.sorted_indices(), context.rng("popular negatives")
    seen, n_items = Entries(train), train.shape[1]
    mass = np.cumsum(np.sqrt(train.getnnz(axis=0)))

    def objective(model: Model, batch: Triplets) -> Tensor:
        drawn = np.searchsorted(mass, rng.random(batch.negatives.shape) * mass[-1], side="right").clip(max=n_items - 1)
        known = seen.hold(seen.key(batch.users[:, None], drawn))
        batch = replace(batch, negatives=np.where(known, batch.negatives, drawn))
        return batch_loss(model, batch, "bpr", context.settings.l2)

    return objective


def _near_start(context: Context[LeadSettings]) -> Objective:
    """BPR, and the squared distance of E to what it was before the first step, weighted as L2 is."""
    start: list[Tensor] = []

    def objective(model: Model, batch: Triplets) -> Tensor:
        codebook = model.embedding.tiers[0].codebook
        if not start:
            start.append(codebook.detach().clone())
        distance = (codebook - start[0]).square().sum(dim=1).mean()
        return batch_loss(model, batch, "bpr", context.settings.l2) + context.settings.l2 * distance

    return objective


def _margin(context: Context[LeadSettings]) -> Objective:
    """BPR that weights a negative by the root of its degree, mean 1."""
    weight = (torch.as_tensor(context.split.train.getnnz(axis=0), dtype=torch.float32) + 1).sqrt()
    weight /= weight.mean()

    def objective(model: Model, batch: Triplets) -> Tensor:
        scores, negatives, penalty = _scored(model, batch, context.settings.l2)
        return (F.softplus(scores[:, 1:] - scores[:, :1]) * weight[negatives]).mean() + penalty

    return objective


LEADS = {
    "base": Lead(""),
    "every-5": Lead("Is S better updated every fifth epoch?", updates=lambda n, of: n >= matching.FIXED and n % 5 == 0),
    "once": Lead("Is S better updated once, after the fixed epochs?", updates=lambda n, of: n == matching.FIXED),
    "frozen": Lead("Do updates better stop halfway?", updates=lambda n, of: matching.FIXED <= n < of // 2),
    "apart": Lead(
        "Are atoms of their own for users and items better?", start=matching.apart, match=matching.pursued_apart
    ),
    "by-degree": Lead("Is t by degree (3 or 1) better than t = 2 for all?", match=matching.pursued_by_degree),
    "lighter": Lead("Do meta nodes that weigh a tenth against neighbours help?", link_scale=0.1),
    "heavier": Lead("Do meta nodes that weigh ten times as much help?", link_scale=10.0),
    "near-start": Lead("Does a pull of E towards its start help?", objective=_near_start),
    "wider": Lead("Do as many values more in E, for 50 atoms more, pay?", LeadSettings(m=350)),
    "wider-quarter": Lead("Do as many values more in E as a third atom for a quarter of the entities pay?", more=0.25),
    "wider-residual": Lead("Do as many values more in E as a third atom for every entity pay?", more=1.0),
    "residual": Lead("Does a third, residual atom an entity pay?", LeadSettings(t=3)),
    "four": Lead("Do two more atoms an entity pay (t = 4)?", LeadSettings(t=4)),
    "subset": Lead(
        "Does a third atom for the quarter of entities that two leave worst pay?", match=matching.pursued_by_need
    ),
    "fine-subset": Lead(
        "Do 50 fine atoms, for the quarter of entities that two coarse ones leave worst, pay?",
        LeadSettings(m=300 + matching.FINE),
        start=lambda context: matching.anchored_parts(context, context.settings.m - matching.FINE),
        match=matching.fine_by_need,
    ),
    "annealed": Lead("Does noise in the matching that is annealed to nothing pay?", match=matching.annealed),
    "learned-links": Lead("Does a trained weight of the links to atoms (a number a side) pay?", learned_links=True),
    "low-pass": Lead("Does an ideal low pass (64 singular vectors) beside the layers pay?", terms=_low_pass),
    "nested": Lead(
        "Does a hierarchical code (a parent and one of its 4 children) pay?",
        start=matching.nested,
        match=matching.best_child,
    ),
    "layers": Lead("Do learned layer weights (L + 1 numbers) pay?", terms=_each_layer),
    "hardest": Lead("Does the hardest of the 5 negatives alone pay?", objective=_hardest),
    "popular": Lead("Do negatives drawn by the root of their popularity pay?", objective=_popular),
    "weighted": Lead("Do negatives weighted by the root of their popularity pay?", objective=_margin),
}

_SYSTEMS = {
    name: System(f"lead-{name}", lead.asks or "control", "this package", lead.settings, lead.train, {}, budgeted=False)
    for name, lead in LEADS.items()
}


def __getattr__(name: str) -> System:
    """``benchmarks.leads:every_5`` and so on, as `--systems` names them."""
    try:
        return _SYSTEMS[name.replace("_", "-")]
    except KeyError:
        raise AttributeError(f"no lead {name}") from None


if __name__ == "__main__":
    print(",".join(f"benchmarks.leads:{name.replace('-', '_')}" for name in LEADS))
