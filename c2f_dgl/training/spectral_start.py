"""The spectral start of a run: the codebook solved for, and the few scalars around it chosen on validation.

What is solved and why is in `c2f_dgl.tiers.spectral`. Chosen on validation: how many directions are kept (d), the
filter's cutoff, the importances of further relations, the item scale, the weights of directions (a power of their
singular values, which the codebook absorbs), the weight of a filter term. Scores of a user block are computed once for
all the values that are compared on one solution: d first directions are the first d terms of a sum, the others only
rescale. A cutoff or an importance asks for a solution of its own.
"""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import torch
from torch import Tensor

from c2f_dgl.config.schema import CoarseConfig, RunConfig
from c2f_dgl.config.sizes import embedding_size, n_atoms
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation, propagated_basis
from c2f_dgl.evaluation.products import add_product
from c2f_dgl.evaluation.ranking import compare, mixed, standardised
from c2f_dgl.graph.entities import importance_factors
from c2f_dgl.graph.hetero import entity_layout, in_float64, reweighted
from c2f_dgl.graph.item_filter import graph_filter
from c2f_dgl.graph.propagate import Kernel, propagate
from c2f_dgl.model import Readout, item_degrees, item_factors
from c2f_dgl.roles import Roles
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.codebook import lower_triangular
from c2f_dgl.tiers.spectral import graph_codebook, lowpass_weights, ritz_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding

_Number = TypeVar("_Number", int, float)
_Key = tuple[float, float, tuple[tuple[str, float], ...]]

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
    model, roles, most = config.model, config.graph.roles, embedding_size(config)
    embedding = TieredEmbedding(
        entity_layout(graph, roles),
        [Tier("coarse", torch.zeros(n_atoms(config), most), assignment)],
        entity_input=model.entity_input,
        link_scale=model.link_scale,
        columns=columns,
    ).to(device)

    def linked(importances: dict[str, float]) -> _Linked:
        changed = reweighted(graph, importance_factors(config.graph, importances))
        return _Linked(in_float64(embedding.link(changed)), importances)

    def solve(cutoff: float, on: _Linked) -> _Solution:
        propagation = Propagation(model.layers, lowpass_weights(cutoff, model.layers), kernel=model.kernel)
        sides = None if config.graph.extra else (roles.query, roles.ranked)
        return _solve(on, embedding, propagation, cutoff, sides)

    judged: dict[tuple[_Key, _Variant], float] = {}

    def judge(solution: _Solution, variants: Sequence[_Variant]) -> dict[_Variant, float]:
        new = sorted({variant for variant in variants if (solution.key, variant) not in judged})
        if new:
            scores = _scores(solution, new, graph, model.filter_neighbours, roles)
            figures = compare(scores, split.train, split.valid, config.select, device)
            judged.update(zip([(solution.key, variant) for variant in new], figures, strict=True))
        return {variant: judged[solution.key, variant] for variant in variants}

    ranks = _ranks(most)
    scales = _ITEM_SCALES if model.item_scale is None else (model.item_scale,)
    first_scale = _FIRST_ITEM_SCALE if model.item_scale is None else model.item_scale
    first_cutoff = coarse.cutoffs[len(coarse.cutoffs) // 2]

    def near(solution: _Solution, *, ties: bool = False) -> float:
        """Offer a solution with what is best so far and its neighbours; the best figure."""
        variant = best.variant
        variants = [replace(variant, rank=rank) for rank in _around(ranks, variant.rank)]
        variants += [replace(variant, item_scale=scale) for scale in _around(scales, variant.item_scale)]
        return best.offer(solution, judge(solution, variants), ties=ties)

    open_ = [name for name, relation in config.graph.extra.items() if relation.importance is None]
    solution = solve(first_cutoff, linked(dict.fromkeys(open_, _FIRST_IMPORTANCE)))
    best = _Best(solution, _Variant(most, first_scale))

    def best_rank(tried: Sequence[int]) -> int:
        best.offer(solution, judge(solution, [_Variant(rank, first_scale) for rank in tried]))
        return best.variant.rank

    scan(ranks, best_rank)
    best.offer(solution, judge(solution, [replace(best.variant, item_scale=scale) for scale in scales]))

    def judge_importance(name: str, importance: float) -> float:
        importances = best.solution.linked.importances
        if importances[name] == importance:
            return best.figure
        return near(solve(first_cutoff, linked({**importances, name: importance})), ties=importance == 0)

    for name in open_:
        climb(_IMPORTANCES, _FIRST_IMPORTANCE, partial(judge_importance, name))
        judge_importance(name, 0.0)

    def judge_cutoff(cutoff: float) -> float:
        return best.figure if cutoff == first_cutoff else near(solve(cutoff, best.solution.linked))

    climb(coarse.cutoffs, first_cutoff, judge_cutoff)
    plain = best.solution
    if plain.values is not None:
        climb(_POWERS, 1.0, lambda power: best.figure if power == 1 else near(plain.weighted(power)))
    if model.filter_weight is None:  # beside the filter, other scales and powers may be best

        def beside_filter(solution: _Solution, weights: Sequence[float]) -> float:
            near_scales = _around(scales, best.variant.item_scale)
            grid = [replace(best.variant, item_scale=a, filter_weight=w) for a in near_scales for w in weights]
            return best.offer(solution, judge(solution, grid))

        beside_filter(best.solution, _FILTER_WEIGHTS)
        if plain.values is not None:
            chosen, weights = best.solution.power, _around(_FILTER_WEIGHTS, best.variant.filter_weight)
            climb(_POWERS, chosen, lambda p: best.figure if p == chosen else beside_filter(plain.weighted(p), weights))

    rank, item_scale = best.variant.rank, best.variant.item_scale
    some = torch.as_tensor(split.train.getnnz(axis=1)).nonzero().flatten()[:_SCALE_USERS].to(device)
    users, items = (best.solution.features[side][:, :rank] for side in (roles.query, roles.ranked))
    readout = Readout(item_degrees(graph, target=roles.target).to(device), split.n_users, item_scale=item_scale)
    spread = readout.scorer(users, items).scores(some).std().clamp_min(torch.finfo(torch.float32).tiny)
    found = best.solution
    codebook = lower_triangular(found.codebook[:, :rank] / spread.sqrt()).float()
    weight = best.variant.filter_weight if model.filter_weight is None else model.filter_weight
    importances = found.linked.importances
    return SpectralStart(assignment, found.whitening, codebook, found.layer_weights, item_scale, weight, importances)


@dataclass(frozen=True, order=True)
class _Variant:
    """A way to rank with one solution: its first `rank` directions, with what is mixed in."""

    rank: int
    item_scale: float
    filter_weight: float = 0.0

    def __str__(self) -> str:
        return f"d {self.rank}, item scale {self.item_scale:g}, filter weight {self.filter_weight:g}"


@dataclass
class _Best:
    """The best so far on validation."""

    solution: _Solution
    variant: _Variant
    figure: float = -math.inf

    def offer(self, solution: _Solution, figures: Mapping[_Variant, float], *, ties: bool = False) -> float:
        """Take the best of `figures` where it is better, with `ties` also where it is as good; returns it."""
        variant = max(figures, key=lambda variant: figures[variant])
        figure = figures[variant]
        log.info("%s, %s: %.4f is the best of %d", solution, variant, figure, len(figures))
        if figure > self.figure or (ties and figure == self.figure):
            self.solution, self.variant, self.figure = solution, variant, figure
        return figure


def _scores(
    solution: _Solution, variants: Sequence[_Variant], graph: dgl.DGLGraph, filter_neighbours: int, roles: Roles
) -> Callable[[Tensor], Iterator[Tensor]]:
    """What `compare` asks for: scores of some users, one matrix per variant; `variants` sorted."""
    sides = (roles.query, roles.ranked)
    degree = item_degrees(graph, target=roles.target).to(solution.features[roles.ranked])
    factors = {scale: item_factors(degree, scale) for scale in {variant.item_scale for variant in variants}}
    filters = any(variant.filter_weight > 0 for variant in variants)
    term = graph_filter(graph, filter_neighbours, roles.target) if filters else None
    steps = [0, *sorted({variant.rank for variant in variants})]
    terms = {
        stop: tuple(solution.features[side][:, start:stop].contiguous() for side in sides)
        for start, stop in itertools.pairwise(steps)
    }

    alone = len(factors) == 1 and not filters  # then the terms can be scaled in place of their sums
    if alone:
        (only,) = factors.values()
        terms = {rank: (of_users, of_items * only[:, None]) for rank, (of_users, of_items) in terms.items()}
    held: list[Tensor] = []  # overwritten at each call: memory that is new to the process is slow to fill

    def scores(users: Tensor) -> Iterator[Tensor]:
        if not held or len(held[0]) < len(users):
            held[:] = [degree.new_empty(len(users), len(degree)) for _ in range(4)]
        summed, embedded, other, given = (memory[: len(users)] for memory in held)
        filtered = None if term is None else torch.as_tensor(term.scores(users.cpu().numpy())).to(degree)
        for rank, alike in itertools.groupby(variants, key=lambda variant: variant.rank):
            user_terms, item_terms = terms[rank]
            add_product(summed, user_terms[users], item_terms, beta=float(rank != variants[0].rank))
            for scale, of_scale in itertools.groupby(alike, key=lambda variant: variant.item_scale):
                weights = [variant.filter_weight for variant in of_scale]
                if alone:
                    yield summed
                    continue
                torch.mul(summed, factors[scale], out=embedded)
                if weights == [0.0]:
                    yield embedded
                    continue
                assert filtered is not None  # a weight is positive
                standardised(embedded)
                standardised(torch.mul(filtered, factors[scale], out=other))
                yield from (mixed(embedded, other, weight, out=given) for weight in weights)

    return scores


def _around(values: Sequence[_Number], value: _Number, steps: int = 1) -> Sequence[_Number]:
    """`value` and so many neighbours to each side among ascending `values`."""
    place = values.index(value)
    return values[max(0, place - steps) : place + steps + 1]


@dataclass(frozen=True)
class _Linked:
    """The entities' graph with the tier, in float64, and the importances of relations that are in its weights."""

    graph: dgl.DGLGraph
    importances: dict[str, float]


@dataclass(frozen=True)
class _Solution:
    linked: _Linked
    cutoff: float
    layer_weights: tuple[float, ...]
    whitening: Tensor
    codebook: Tensor
    features: dict[str, Tensor]
    values: Tensor | None = None
    power: float = 1.0

    @property
    def key(self) -> _Key:
        """What was chosen for it: equal solutions have equal ones."""
        return self.cutoff, self.power, tuple(self.linked.importances.items())

    def weighted(self, power: float) -> _Solution:
        """With directions weighted by another power of their singular values: the codebook absorbs it."""
        assert self.values is not None
        factors = torch.where(self.values > 0, self.values ** ((power - self.power) / 2), 0.0)
        features = {node_type: x * factors.to(x) for node_type, x in self.features.items()}
        return replace(self, codebook=self.codebook * factors, features=features, power=power)

    def __str__(self) -> str:
        chosen = "".join(f", importance of {name} {value:g}" for name, value in self.linked.importances.items())
        return f"cutoff {self.cutoff:g}, power {self.power:g}{chosen}"


def _solve(
    linked: _Linked,
    embedding: TieredEmbedding,
    propagation: Propagation,
    cutoff: float,
    sides: tuple[str, str] | None,
) -> _Solution:
    """W, T with each direction weighted by the root of its singular value, and H of the entities (float32).

    `sides` are the node types recommended to and ranked where these are all there is and the graph is bipartite.
    """
    tier, layout = embedding.tiers[0], embedding.layout
    atoms = torch.eye(tier.size, dtype=torch.float64, device=tier.codebook.device)
    basis = propagated_basis(linked.graph, embedding, propagation, 0, atoms)[: layout.total]
    d = tier.codebook.shape[1]
    if sides is not None:
        users, items = (basis[layout.rows(node_type)] for node_type in sides)
        whitening, codebook, values = ritz_codebook(users, items, d)
        codebook = codebook * values.sqrt()
    else:
        values = None
        whitening, codebook = graph_codebook(basis, partial(_passed, linked.graph, embedding, propagation.kernel), d)
    assert propagation.layer_weights is not None  # a filter's
    features = layout.split((basis @ (whitening @ codebook)).float())
    return _Solution(linked, cutoff, propagation.layer_weights, whitening, codebook, features, values)


def _passed(graph: dgl.DGLGraph, embedding: TieredEmbedding, kernel: Kernel, x: Tensor) -> Tensor:
    """P X of the entities (N x k); tiers, which weigh next to nothing, neither send nor receive."""
    features = embedding.layout.split(x)
    features.update({tier.name: x.new_zeros(tier.size, x.shape[1]) for tier in embedding.tiers})
    return embedding.layout.stack(propagate(graph, features, 1, kernel=kernel, layer_weights=(0.0, 1.0)))


def _ranks(most: int) -> list[int]:
    """`most` and what is left of it in steps of a factor sqrt(2) down to 1, ascending."""
    return sorted({max(1, round(most * 2 ** (-step / 2))) for step in range(2 * most.bit_length() + 1)})


def scan(values: Sequence[_Number], best_of: Callable[[Sequence[_Number]], _Number]) -> _Number:
    """The best of ascending `values`: of every fourth, for there may be several peaks, and of what is around the best.

    `best_of` tries some values and returns the best of all that it was ever given.
    """
    before, best = None, best_of(values[::-4])
    while best != before:
        before, best = best, best_of(_around(values, best, 2))
    return best


def climb(values: Sequence[_Number], first: _Number, figure: Callable[[_Number], float]) -> _Number:
    """The best of ascending `values` on the way up from `first`: neighbours are tried while they improve `figure`."""
    tried = {values.index(first): figure(first)}
    while True:
        best = max(tried, key=lambda place: tried[place])
        new = [place for place in (best - 1, best + 1) if 0 <= place < len(values) and place not in tried]
        if not new:
            return values[best]
        tried[new[0]] = figure(values[new[0]])
