"""What a spectral start chooses on validation, in which order.

Chosen are: how many directions are kept (d), the item scale, the importances of further relations, the filter's
cutoff, the weights of directions (a power of their singular values, which the codebook absorbs), the weight of a filter
term. Each is chosen beside the best of the others so far. A cutoff or an importance asks for a solution of its own; the
others are variants of one.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from c2f_dgl.config.schema import CoarseConfig, RunConfig
from c2f_dgl.config.sizes import embedding_size, n_atoms
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation
from c2f_dgl.evaluation.ranking import compare
from c2f_dgl.graph.entities import importance_factors
from c2f_dgl.graph.hetero import entity_layout, in_float64, reweighted
from c2f_dgl.model import Readout, item_degrees
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.codebook import lower_triangular
from c2f_dgl.tiers.spectral import lowpass_weights
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding
from c2f_dgl.training.spectral.solution import Key, Linked, Solution, solve
from c2f_dgl.training.spectral.variants import Variant, variant_scores
from c2f_dgl.training.spectral.walks import around, climb, scan

log = logging.getLogger("c2f_dgl")

# What is tried for scalars that are null, and where the search begins.
_ITEM_SCALES, _FIRST_ITEM_SCALE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), 0.5
_POWERS = (0.0, 0.5, 1.0)
_FILTER_WEIGHTS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
# 0 is tried beside these: a relation that does not help is left out.
_IMPORTANCES, _FIRST_IMPORTANCE = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), 0.1

# Users whose scores set the scale of the codebook.
_SCALE_USERS = 256


@dataclass(frozen=True)
class SpectralStart:
    """E = W T on an assignment, and what goes with it.

    Parameters
    ----------
    assignment : Assignment
        S.
    whitening : Tensor, shape (m, m), float64
        W.
    codebook : Tensor, shape (m, d), float32
        T, lower triangular, such that scores have a variance of 1. d is the number of directions that rank best, at
        most the configured size.
    layer_weights : tuple of L + 1 floats
    item_scale, filter_weight : float
    importances : dict of str to float
        Of the relations that leave theirs to be chosen.
    """

    assignment: Assignment
    whitening: Tensor
    codebook: Tensor
    layer_weights: tuple[float, ...]
    item_scale: float
    filter_weight: float
    importances: dict[str, float]


def spectral_start(
    config: RunConfig,
    coarse: CoarseConfig,
    assignment: Assignment,
    graph: dgl.DGLGraph,
    split: Split,
    columns: Mapping[str, Tensor],
    device: torch.device,
) -> SpectralStart:
    """Solve for the codebook of a first tier (parameters as in a run; `graph` without tiers)."""
    model = config.model
    embedding = TieredEmbedding(
        entity_layout(graph, config.graph.roles),
        [Tier("coarse", torch.zeros(n_atoms(config), embedding_size(config)), assignment)],
        entity_input=model.entity_input,
        link_scale=model.link_scale,
        columns=columns,
    ).to(device)
    search = _Search(config, coarse, embedding, graph, split, device)
    search.choose_rank()
    search.choose_item_scale()
    search.choose_importances()
    search.choose_cutoff()
    plain = search.best.solution
    if plain.values is not None:
        search.choose_power(plain)
    if model.filter_weight is None:
        search.choose_filter_weight(plain)
    found, variant = search.best.solution, search.best.variant
    return SpectralStart(
        assignment,
        found.whitening,
        _at_unit_scale(found, variant, config, graph, split),
        found.layer_weights,
        variant.item_scale,
        variant.filter_weight,
        found.linked.importances,
    )


@dataclass
class _Best:
    """The best so far on validation."""

    solution: Solution
    variant: Variant
    figure: float = -math.inf

    def offer(self, solution: Solution, figures: Mapping[Variant, float], *, ties: bool = False) -> float:
        """Take the best of `figures` where it is better, with `ties` also where it is as good; returns it."""
        variant = max(figures, key=lambda variant: figures[variant])
        figure = figures[variant]
        log.info("%s, %s: %.4f is the best of %d", solution, variant, figure, len(figures))
        if figure > self.figure or (ties and figure == self.figure):
            self.solution, self.variant, self.figure = solution, variant, figure
        return figure


class _Search:
    """The best so far, and the choices that are left: each `choose_...` tries values of one scalar."""

    def __init__(
        self,
        config: RunConfig,
        coarse: CoarseConfig,
        embedding: TieredEmbedding,
        graph: dgl.DGLGraph,
        split: Split,
        device: torch.device,
    ) -> None:
        self.config, self.embedding, self.graph, self.split, self.device = config, embedding, graph, split, device
        self.figures: dict[tuple[Key, Variant], float] = {}
        self.ranks = ranks(embedding_size(config))
        given = config.model.item_scale
        self.item_scales = _ITEM_SCALES if given is None else (given,)
        self.cutoffs, self.first_cutoff = coarse.cutoffs, coarse.cutoffs[len(coarse.cutoffs) // 2]
        self.open = [name for name, relation in config.graph.extra.items() if relation.importance is None]
        scale, weight = _FIRST_ITEM_SCALE if given is None else given, config.model.filter_weight or 0.0
        first = self.solve(self.first_cutoff, self.linked(dict.fromkeys(self.open, _FIRST_IMPORTANCE)))
        self.best = _Best(first, Variant(self.ranks[-1], scale, weight))

    def choose_rank(self) -> None:
        """d, with the item scale that the search begins with."""

        def best_of(tried: Sequence[int]) -> int:
            self.offer(self.best.solution, [replace(self.best.variant, rank=rank) for rank in tried])
            return self.best.variant.rank

        scan(self.ranks, best_of)

    def choose_item_scale(self) -> None:
        """All of them: they cost next to nothing."""
        self.offer(self.best.solution, [replace(self.best.variant, item_scale=scale) for scale in self.item_scales])

    def choose_importances(self) -> None:
        """One relation after the other; 0 where that is as good."""

        def figure(name: str, importance: float) -> float:
            importances = self.best.solution.linked.importances
            if importances[name] == importance:
                return self.best.figure
            solution = self.solve(self.first_cutoff, self.linked({**importances, name: importance}))
            return self.offer_near(solution, ties=importance == 0)

        for name in self.open:
            climb(_IMPORTANCES, _FIRST_IMPORTANCE, partial(figure, name))
            figure(name, 0.0)

    def choose_cutoff(self) -> None:
        """On the relations as they weigh now."""

        def figure(cutoff: float) -> float:
            if cutoff == self.first_cutoff:
                return self.best.figure
            return self.offer_near(self.solve(cutoff, self.best.solution.linked))

        climb(self.cutoffs, self.first_cutoff, figure)

    def choose_power(self, plain: Solution) -> None:
        """Of the singular values of `plain`, which is the best solution with power 1."""
        climb(_POWERS, 1.0, lambda power: self.best.figure if power == 1 else self.offer_near(plain.weighted(power)))

    def choose_filter_weight(self, plain: Solution) -> None:
        """With the scale and the power once more: beside the filter, others may be best."""

        def offer(solution: Solution, weights: Sequence[float]) -> float:
            scales = around(self.item_scales, self.best.variant.item_scale)
            grid = [replace(self.best.variant, item_scale=a, filter_weight=w) for a in scales for w in weights]
            return self.offer(solution, grid)

        offer(self.best.solution, _FILTER_WEIGHTS)
        if plain.values is not None:
            chosen, weights = self.best.solution.power, around(_FILTER_WEIGHTS, self.best.variant.filter_weight)
            climb(_POWERS, chosen, lambda p: self.best.figure if p == chosen else offer(plain.weighted(p), weights))

    def offer_near(self, solution: Solution, *, ties: bool = False) -> float:
        """Offer a solution with the best variant so far and its neighbours in d and item scale; its best figure."""
        best = self.best.variant
        variants = [replace(best, rank=rank) for rank in around(self.ranks, best.rank)]
        variants += [replace(best, item_scale=scale) for scale in around(self.item_scales, best.item_scale)]
        return self.offer(solution, variants, ties=ties)

    def offer(self, solution: Solution, variants: Sequence[Variant], *, ties: bool = False) -> float:
        """Judge variants of a solution, those not yet judged, and take the best if it is; its figure."""
        if new := sorted({variant for variant in variants if (solution.key, variant) not in self.figures}):
            model, roles = self.config.model, self.config.graph.roles
            scores = variant_scores(solution, new, self.graph, model.filter_neighbours, roles)
            figures = compare(scores, self.split.train, self.split.valid, self.config.select, self.device)
            self.figures.update(zip([(solution.key, variant) for variant in new], figures, strict=True))
        judged = {variant: self.figures[solution.key, variant] for variant in variants}
        return self.best.offer(solution, judged, ties=ties)

    def linked(self, importances: dict[str, float]) -> Linked:
        """The graph with some importances of the open relations."""
        weighted = reweighted(self.graph, importance_factors(self.config.graph, importances))
        return Linked(in_float64(self.embedding.link(weighted)), importances)

    def solve(self, cutoff: float, on: Linked) -> Solution:
        """The solution for a cutoff."""
        model, schema = self.config.model, self.config.graph
        propagation = Propagation(model.layers, lowpass_weights(cutoff, model.layers), kernel=model.kernel)
        sides = None if schema.extra else (schema.roles.query, schema.roles.ranked)
        return solve(on, self.embedding, propagation, cutoff, sides)


def ranks(most: int) -> list[int]:
    """`most` and what is left of it in steps of a factor sqrt(2) down to 1, ascending."""
    return sorted({max(1, round(most * 2 ** (-step / 2))) for step in range(2 * most.bit_length() + 1)})


def _at_unit_scale(found: Solution, variant: Variant, config: RunConfig, graph: dgl.DGLGraph, split: Split) -> Tensor:
    """T of the directions that are kept, lower triangular, such that scores have a variance of 1."""
    roles = config.graph.roles
    users, items = (found.features[side][:, : variant.rank] for side in (roles.query, roles.ranked))
    some = torch.as_tensor(split.train.getnnz(axis=1)).nonzero().flatten()[:_SCALE_USERS].to(users.device)
    degree = item_degrees(graph, target=roles.target).to(users.device)
    readout = Readout(degree, split.n_users, item_scale=variant.item_scale)
    spread = readout.scorer(users, items).scores(some).std().clamp_min(torch.finfo(torch.float32).tiny)
    return lower_triangular(found.codebook[:, : variant.rank] / spread.sqrt()).float()
