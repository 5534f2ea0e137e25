"""The spectral start of a run: the codebook solved for, and the few scalars around it chosen on validation.

What is solved and why is in `c2f_dgl.tiers.spectral`. Here one scalar after the other is chosen on validation: how many
directions are kept (d), the importances of further relations, the filter's cutoff, the item scale, the weight of a
filter term.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from c2f_dgl.config.schema import CoarseConfig, RunConfig
from c2f_dgl.config.sizes import embedding_size, n_atoms
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation, propagated_basis
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.graph.entities import importance_factors
from c2f_dgl.graph.hetero import entity_layout, in_float64, reweighted
from c2f_dgl.graph.propagate import Kernel, propagate
from c2f_dgl.model import Readout, graph_filter, item_degrees
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.codebook import lower_triangular
from c2f_dgl.tiers.spectral import graph_codebook, lowpass_weights, ritz_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding

_Number = TypeVar("_Number", int, float)

log = logging.getLogger("c2f_dgl")

# What is tried for scalars that are null, and where the search begins.
_ITEM_SCALES, _FIRST_ITEM_SCALE = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7), 0.5
# 0 is tried beside these: a relation that does not help is left out.
_IMPORTANCES, _FIRST_IMPORTANCE = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0), 0.1
_FILTER_WEIGHTS, _FIRST_FILTER_WEIGHT = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0), 0.4

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
    model, roles = config.model, config.graph.roles
    degree, sides = item_degrees(graph, target=roles.target).to(device), (roles.query, roles.ranked)
    item_scale = _FIRST_ITEM_SCALE if model.item_scale is None else model.item_scale

    def judge(solution: _Solution, rank: int, scale: float, weight: float) -> float:
        term = graph_filter(graph, model.filter_neighbours, scale, roles.target) if weight > 0 else None
        readout = Readout(degree, split.n_users, item_scale=scale, filter=term, filter_weight=weight)
        users, items = (solution.features[node_type][:, :rank].contiguous() for node_type in sides)
        figure = evaluate(readout.scorer(users, items), split.train, split.valid)[config.select]
        log.info(
            "cutoff %g, d %d, item scale %g, filter weight %g: validation %s %.4f",
            *(solution.cutoff, rank, scale, weight, config.select, figure),
        )
        return figure

    embedding = TieredEmbedding(
        entity_layout(graph, roles),
        [Tier("coarse", torch.zeros(n_atoms(config), embedding_size(config)), assignment)],
        entity_input=model.entity_input,
        link_scale=model.link_scale,
        columns=columns,
    ).to(device)

    def linked(importances: dict[str, float]) -> dgl.DGLGraph:
        return in_float64(embedding.link(reweighted(graph, importance_factors(config.graph, importances))))

    def solve(cutoff: float, on: dgl.DGLGraph) -> _Solution:
        weights = lowpass_weights(cutoff, model.layers)
        return _solve(
            on,
            embedding,
            Propagation(model.layers, weights, kernel=model.kernel),
            cutoff,
            sides,
            not config.graph.extra,
        )

    first_cutoff = coarse.cutoffs[len(coarse.cutoffs) // 2]
    open_ = [name for name, relation in config.graph.extra.items() if relation.importance is None]
    importances = dict.fromkeys(open_, _FIRST_IMPORTANCE)
    whole = linked(importances)
    solution = solve(first_cutoff, whole)
    rank = climb(_ranks(embedding_size(config)), embedding_size(config), lambda d: judge(solution, d, item_scale, 0.0))

    def judge_importance(name: str, figures: dict[float, float], importance: float) -> float:
        tried = {**importances, name: importance}
        solved = solution if tried == importances else solve(first_cutoff, linked(tried))
        log.info("importance of %s: %g", name, importance)
        figures[importance] = judge(solved, rank, item_scale, 0.0)
        return figures[importance]

    for name in open_:
        figures: dict[float, float] = {}
        chosen = climb(_IMPORTANCES, importances[name], partial(judge_importance, name, figures))
        if judge_importance(name, figures, 0.0) >= figures[chosen]:
            chosen = 0.0
        if chosen != importances[name]:
            importances[name] = chosen
            whole = linked(importances)
            solution = solve(first_cutoff, whole)
    best, best_figure = solution, -math.inf

    def judge_cutoff(cutoff: float) -> float:
        nonlocal best, best_figure
        solved = solution if cutoff == first_cutoff else solve(cutoff, whole)
        figure = judge(solved, rank, item_scale, 0.0)
        if figure > best_figure:
            best, best_figure = solved, figure
        return figure

    climb(coarse.cutoffs, first_cutoff, judge_cutoff)

    def best_item_scale(weight: float) -> float:
        if model.item_scale is not None:
            return model.item_scale
        return climb(_ITEM_SCALES, item_scale, lambda scale: judge(best, rank, scale, weight))

    item_scale, weight = best_item_scale(0.0), model.filter_weight
    if weight is None:
        weight = climb(_FILTER_WEIGHTS, _FIRST_FILTER_WEIGHT, lambda w: judge(best, rank, item_scale, w))
        item_scale = best_item_scale(weight)  # another one may be best beside the filter
    some = torch.arange(min(split.n_users, _SCALE_USERS), device=device)
    users, items = (best.features[node_type][:, :rank] for node_type in sides)
    scorer = Readout(degree, split.n_users, item_scale=item_scale).scorer(users, items)
    spread = scorer.scores(some).std().clamp_min(torch.finfo(torch.float32).tiny)
    codebook = lower_triangular(best.codebook[:, :rank] / spread.sqrt()).float()
    return SpectralStart(assignment, best.whitening, codebook, best.layer_weights, item_scale, weight, importances)


@dataclass(frozen=True)
class _Solution:
    cutoff: float
    layer_weights: tuple[float, ...]
    whitening: Tensor
    codebook: Tensor
    features: dict[str, Tensor]


def _solve(
    graph: dgl.DGLGraph,
    embedding: TieredEmbedding,
    propagation: Propagation,
    cutoff: float,
    sides: tuple[str, str],
    bipartite: bool,
) -> _Solution:
    """W, T with each direction weighted by the root of its singular value, and H of the entities (float32).

    `sides` are the node types recommended to and ranked, which are all there is where the graph is `bipartite`.
    """
    tier, layout = embedding.tiers[0], embedding.layout
    atoms = torch.eye(tier.size, dtype=torch.float64, device=tier.codebook.device)
    basis = propagated_basis(graph, embedding, propagation, 0, atoms)[: layout.total]
    d = tier.codebook.shape[1]
    if bipartite:
        users, items = (basis[layout.rows(node_type)] for node_type in sides)
        whitening, codebook, values = ritz_codebook(users, items, d)
        codebook = codebook * values.sqrt()
    else:
        whitening, codebook = graph_codebook(basis, partial(_passed, graph, embedding, propagation.kernel), d)
    assert propagation.layer_weights is not None  # a filter's
    features = layout.split((basis @ (whitening @ codebook)).float())
    return _Solution(cutoff, propagation.layer_weights, whitening, codebook, features)


def _passed(graph: dgl.DGLGraph, embedding: TieredEmbedding, kernel: Kernel, x: Tensor) -> Tensor:
    """P X of the entities (N x k); tiers, which weigh next to nothing, neither send nor receive."""
    features = embedding.layout.split(x)
    features.update({tier.name: x.new_zeros(tier.size, x.shape[1]) for tier in embedding.tiers})
    return embedding.layout.stack(propagate(graph, features, 1, kernel=kernel, layer_weights=(0.0, 1.0)))


def _ranks(most: int) -> list[int]:
    """`most` and what is left of it in steps of a factor sqrt(2), ascending."""
    return sorted({max(1, round(most * 2 ** (-step / 2))) for step in range(9)})


def climb(values: Sequence[_Number], first: _Number, figure: Callable[[_Number], float]) -> _Number:
    """The best of ascending `values` on the way up from `first`: neighbours are tried while they improve `figure`."""
    tried = {values.index(first): figure(first)}
    while True:
        best = max(tried, key=lambda place: tried[place])
        new = [place for place in (best - 1, best + 1) if 0 <= place < len(values) and place not in tried]
        if not new:
            return values[best]
        tried[new[0]] = figure(values[new[0]])
