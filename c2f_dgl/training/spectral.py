"""The spectral start of a run: a codebook solved for, and the few scalars around it chosen on validation.

Chosen are the exponents of users' and items' degrees, importances of further relations, the number of directions that
are kept (d), the power of the singular values that weighs them, the item scale and, with a filter term, its exponents
and weight. Each is chosen by steps up and down beside the best of the others so far, as long as they improve: no range
ends but where the model does. Exponents and importances ask for a solution of their own (`c2f_dgl.tiers.spectral`),
the others are ways to rank with one. Choices are compared on a sample of users.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import groupby

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.config.schema import CoarseConfig, RunConfig
from c2f_dgl.config.sizes import embedding_size, n_atoms
from c2f_dgl.data.splits import Split
from c2f_dgl.dgl_import import dgl
from c2f_dgl.engines import Propagation, propagated_basis
from c2f_dgl.evaluation.products import product
from c2f_dgl.evaluation.ranking import compare, mixed, standardised
from c2f_dgl.graph.entities import importance_factors
from c2f_dgl.graph.hetero import entity_layout, in_float64, reweighted, with_exponents
from c2f_dgl.graph.item_filter import GraphFilter, graph_filter
from c2f_dgl.graph.neighbourhood import FilterShape
from c2f_dgl.graph.propagate import Features, Kernel, propagate
from c2f_dgl.memory import check_memory
from c2f_dgl.model import item_factors
from c2f_dgl.progress import Reporter
from c2f_dgl.tiers.assignment import Assignment
from c2f_dgl.tiers.codebook import lower_triangular
from c2f_dgl.tiers.spectral import graph_codebook, least_cutoff, lowpass_weights, nth_singular_value, ritz_codebook
from c2f_dgl.tiers.tiered import Tier, TieredEmbedding

log = logging.getLogger("c2f_dgl")

# Users that choices are compared on: at least this many, where there are, and as many as take this many scores. N@20 of
# two near choices differs by about 0.03 a user (standard deviation), so of 2,000 the means by 0.0007. The weight of a
# filter is chosen once more on more of them.
_USERS, _SCORES, _CONFIRMING = 2_000, 2**26, 10_000

# A choice is better by at least this much: less is the sample's.
_GAIN = 1.001


# Where scalars that are null begin, and by how much they move at a time (rank, cutoff and importance by a factor).
_EXPONENT, _EXPONENT_STEP = 0.4, 0.1
_CUTOFF, _CUTOFF_STEP = 0.9, 1.2
_IMPORTANCE, _IMPORTANCE_STEP = 0.1, math.sqrt(10)
_POWER, _POWER_STEP = 1.0, 0.5
_ITEM_SCALE, _ITEM_SCALE_STEP = 0.2, 0.1
_FILTERS = (
    FilterShape(item=0.4, power=1.5, history=0.5, target=0.5),
    FilterShape(item=0.5, power=1.5, history=0.0, target=0.0),
    FilterShape(item=0.25, power=2.0, history=0.0, target=0.0),
)
_FILTER_STEPS = dict(target=0.2, history=0.2, power=0.5, item=0.1)
_FILTER_WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7)
_RIDGES, _RIDGE_STEP = (0.25, 2.0), 2.0

# Pairs of items that a ridge regression may take: 1 GiB in float64 with what it needs beside.
_PAIRS = 2**25

# Matrices of entities x atoms in float64 that a solve holds at its peak, about.
_COPIES = 3

# Users whose scores set the scale of the codebook.
_SCALE_USERS = 256


@dataclass(frozen=True, order=True)
class Choice:
    """Everything that is chosen.

    Parameters
    ----------
    exponents : (float, float)
        a and b of D_u^(-a) R D_i^(-b).
    importances : tuple of (str, float)
        Of the relations that leave theirs to be chosen, by name.
    cutoff : float
        Singular values from this share of the m-th one on pass the filter. Directions that it leaves half converged
        are smoother than the exact ones.
    rank : int
        d, the number of directions.
    power : float
        Of the singular values, the weight of directions in scores.
    item_scale : float
    filter : FilterShape, optional
    filter_weight : float
    """

    exponents: tuple[float, float]
    importances: tuple[tuple[str, float], ...]
    cutoff: float
    rank: int
    power: float
    item_scale: float
    filter: FilterShape | None = None
    filter_weight: float = 0.0

    def __str__(self) -> str:
        relations = "".join(f", importance of {name} {value:.2g}" for name, value in self.importances)
        term = "" if self.filter is None else f", filter of weight {self.filter_weight:g} and {self.filter}"
        return (
            f"exponents {self.exponents[0]:.2g} and {self.exponents[1]:.2g}{relations}, cutoff {self.cutoff:.2g}, "
            f"{self.rank} directions, "
            f"power {self.power:.2g}, item scale {self.item_scale:.2g}{term}"
        )


@dataclass(frozen=True)
class Solution:
    """W and T on one weighted graph, the directions of H ordered by their singular values.

    Parameters
    ----------
    graph : DGLGraph
        Entities alone.
    layer_weights : tuple of L + 1 floats
    whitening : Tensor, shape (m, m), float64
        W.
    codebook : Tensor, shape (m, d), float64
        T, with which scores weigh directions by their singular values.
    features : dict of node type to Tensor (n, d), float32
        H.
    values : Tensor, shape (d,), float64
        Singular values over the largest, descending.
    """

    graph: dgl.DGLGraph
    layer_weights: tuple[float, ...]
    whitening: Tensor
    codebook: Tensor
    features: Features
    values: Tensor

    def factors(self, power: float) -> Tensor:
        """What directions of either side are multiplied by (d,) so that scores weigh them by another power."""
        return torch.where(self.values > 0, self.values ** ((power - 1) / 2), 0.0)


@dataclass(frozen=True)
class SpectralStart:
    """E = W T on an assignment, and what was chosen with it.

    Parameters
    ----------
    whitening : Tensor, shape (m, m), float64
        W.
    codebook : Tensor, shape (m, d), float32
        T, lower triangular, such that scores have a variance of 1.
    layer_weights : tuple of L + 1 floats
    choice : Choice
    """

    whitening: Tensor
    codebook: Tensor
    layer_weights: tuple[float, ...]
    choice: Choice


def spectral_start(
    config: RunConfig,
    coarse: CoarseConfig,
    assignment: Assignment,
    graph: dgl.DGLGraph,
    split: Split,
    columns: Mapping[str, Tensor],
    device: torch.device,
    reporter: Reporter,
) -> SpectralStart:
    """Solve for the codebook of a first tier (parameters as in a run; `graph` without tiers).

    Raises
    ------
    InputError
        It needs more memory than is available.
    """
    m, entities = n_atoms(config), split.n_users + split.n_items
    if device.type == "cpu":
        fewer = f"coarse.m below {m:,}, or a smaller model.budget"
        needed = _COPIES * 8 * m * entities
        check_memory(needed, f"a start with {m:,} atoms for {entities:,} entities", where="coarse.m", expected=fewer)
    embedding = TieredEmbedding(
        entity_layout(graph, config.graph.roles),
        [Tier("coarse", torch.zeros(n_atoms(config), embedding_size(config)), assignment)],
        entity_input=config.model.entity_input,
        link_scale=config.model.link_scale,
        columns=columns,
    ).to(device)
    search = _Search(config, coarse, partial(solve, config, embedding, graph), split, device, reporter)
    search.run()
    choice, solution = search.best, search.solution(search.best)
    log.info("chosen: %s: %.4f", choice, search.figures[choice])
    codebook = (solution.codebook * solution.factors(choice.power))[:, : choice.rank]
    users, items = search.sides(solution, choice)
    some = torch.as_tensor(split.train.getnnz(axis=1)).nonzero().flatten()[:_SCALE_USERS].to(users.device)
    scores = (users[some] @ items.T) * search.item_factors(choice.item_scale)
    spread = scores.std().clamp_min(torch.finfo(torch.float32).tiny)
    return SpectralStart(
        solution.whitening, lower_triangular(codebook / spread.sqrt()).float(), solution.layer_weights, choice
    )


def solve(
    config: RunConfig,
    embedding: TieredEmbedding,
    graph: dgl.DGLGraph,
    exponents: tuple[float, float],
    importances: dict[str, float],
    cutoff: float = _CUTOFF,
) -> Solution:
    """Solve for the codebook of the embedding's first tier, on the entities' graph with these weights.

    `cutoff` is the share of the m-th singular value from which the filter passes.
    """
    model, schema, layout, tier = config.model, config.graph, embedding.layout, embedding.tiers[0]
    weighted = reweighted(graph, importance_factors(schema, importances))
    weighted = with_exponents(weighted, dict(zip((schema.roles.query, schema.roles.ranked), exponents, strict=True)))
    apply = partial(_two_layers, weighted, layout.types, schema.roles.ranked, model.kernel)
    n_items, m = weighted.num_nodes(schema.roles.ranked), tier.size
    largest, nth = nth_singular_value(apply, n_items, m, tier.codebook.device)
    passed = min(1.0, max(cutoff * nth / largest, least_cutoff(model.layers)))
    betas = lowpass_weights(passed, model.layers, largest)
    propagation = Propagation(model.layers, betas, kernel=model.kernel)
    linked = in_float64(embedding.link(weighted))
    atoms = torch.eye(m, dtype=torch.float64, device=tier.codebook.device)
    basis = propagated_basis(linked, embedding, propagation, 0, atoms)[: layout.total]
    d = tier.codebook.shape[1]
    if schema.extra:
        pass_on = partial(_passed, linked, embedding, model.kernel)
        whitening, codebook, values = graph_codebook(basis, pass_on, d)
    else:
        users, items = (basis[layout.rows(name)] for name in (schema.roles.query, schema.roles.ranked))
        whitening, codebook, values = ritz_codebook(users, items, d)
        codebook = codebook * values.sqrt()
    features = layout.split((basis @ (whitening @ codebook)).float())
    return Solution(weighted, betas, whitening, codebook, features, values / values[0].clamp_min(1e-300))


def _two_layers(graph: dgl.DGLGraph, types: Sequence[str], ranked: str, kernel: Kernel, x: Tensor) -> Tensor:
    """The ranked nodes' part of P^2 X, X on them alone: B^T B X where there are no further relations."""
    features = {name: x.new_zeros(graph.num_nodes(name), x.shape[1]) for name in types} | {ranked: x}
    return propagate(graph, features, 2, kernel=kernel, layer_weights=(0.0, 0.0, 1.0))[ranked]


def _passed(graph: dgl.DGLGraph, embedding: TieredEmbedding, kernel: Kernel, x: Tensor) -> Tensor:
    """P X of the entities (N x k); tiers, which weigh next to nothing, neither send nor receive."""
    features = embedding.layout.split(x)
    features.update({tier.name: x.new_zeros(tier.size, x.shape[1]) for tier in embedding.tiers})
    return embedding.layout.stack(propagate(graph, features, 1, kernel=kernel, layer_weights=(0.0, 1.0)))


class _OutOfTime(Exception):
    """The search has had its time."""


class _Search:
    """The best choice so far, and the steps away from it.

    Attributes
    ----------
    best : Choice
    figures : dict of Choice to float
        Every choice that was tried, with its validation figure.
    """

    def __init__(
        self,
        config: RunConfig,
        coarse: CoarseConfig,
        solve: Callable[[tuple[float, float], dict[str, float], float], Solution],
        split: Split,
        device: torch.device,
        reporter: Reporter,
    ) -> None:
        self.config, self.coarse, self.split, self.device, self.reporter = config, coarse, split, device, reporter
        self._solve, self._solutions = solve, dict[tuple, Solution]()
        self._degree = torch.as_tensor(split.train.getnnz(axis=0), dtype=torch.float32, device=device)
        self._relevant = sampled_rows(split.valid, max(_USERS, _SCORES // split.n_items), config.seed)
        seconds = math.inf if coarse.search_seconds is None else coarse.search_seconds
        self._deadline = time.monotonic() + seconds
        # Multiplications of a solve: propagation of the atoms, and their Gram matrices.
        m, entities = n_atoms(config), split.n_users + split.n_items
        work = m * (split.train.nnz * (config.model.layers + 1) + entities * m)
        self._solves_left = math.inf if coarse.search_work is None else coarse.search_work * 2**35 // work
        self.figures: dict[Choice, float] = {}
        model = config.model
        given = (model.user_exponent, model.item_exponent)
        exponents = tuple(_EXPONENT if exponent is None else exponent for exponent in given)
        open_ = [name for name, relation in config.graph.extra.items() if relation.importance is None]
        scale = _ITEM_SCALE if model.item_scale is None else model.item_scale
        self.best = Choice(
            exponents,  # type: ignore[arg-type]
            tuple((name, _IMPORTANCE) for name in open_),
            _CUTOFF,
            embedding_size(config),
            _POWER if coarse.power is None else coarse.power,
            scale,
        )
        if model.filter_weight:
            shape = replace(_FILTERS[0], user=exponents[0], ridge=model.filter_ridge or 0.0)  # type: ignore[arg-type]
            self.best = replace(self.best, filter=shape, filter_weight=model.filter_weight)
        self.best = replace(self.best, rank=self.solution(self.best).codebook.shape[1])

    def run(self) -> None:
        """Choose, until there is no better step or no more time.

        Steps end where none of them alone is better, and where depends on which come first. So the filter is chosen
        before what needs further solves and, once more, after it; the better of both is kept.
        """
        self.figures.update(zip([self.best], self._compare([self.best]), strict=True))
        try:
            self._choose_rank()
            self._choose_ranking()
            start = self.best
            self._choose_filter(self._filters())
            self._choose_graph()
            first, self.best = self.best, start
            self._choose_graph()
            if first.filter is not None:
                self._choose_filter([first.filter])
            self.best = max(first, self.best, key=lambda choice: self.figures[choice])
            self._confirm()
        except _OutOfTime:
            self.best = max(self.figures, key=lambda choice: self.figures[choice])
            log.warning("the search ended after %g s, with the best so far", self.coarse.search_seconds)

    def _choose_graph(self) -> None:
        """What weighs the graph, and then once more how its directions rank."""
        self._choose_weights()
        self._choose_rank()
        self._choose_ranking()

    def _choose_rank(self) -> None:
        """All halvings of the largest rank, as a smaller one may need another power."""
        if self.config.model.d is not None:
            return
        most = self.solution(self.best).codebook.shape[1]
        ranks = [max(1, most >> halvings) for halvings in range(6)]
        powers = (-1, 0, 1) if self.coarse.power is None else (0,)
        self._take([replace(_powered(self.best, move), rank=rank) for rank in ranks for move in powers])

    def _choose_ranking(self) -> None:
        """Item scale, power and rank, in turn, until none of them moves."""
        before = None
        while before != self.best:
            before = self.best
            if self.config.model.item_scale is None:
                self._climb(lambda c: [_scaled(c, move) for move in (-2, -1, -0.5, 0.5, 1, 2)])
            if self.coarse.power is None:
                self._climb(lambda c: [_powered(c, move) for move in (-1, -0.5, 0.5, 1)])
            if self.config.model.d is None:
                most = self.solution(self.best).codebook.shape[1]
                self._climb(partial(_ranked, most=most))

    def _choose_weights(self) -> None:
        """Exponents, importances and cutoff: with each, the item scale may move along."""
        model, importances = self.config.model, self.best.importances

        def with_scales(choice: Choice) -> list[Choice]:
            moves = (-1, 0, 1) if model.item_scale is None else (0,)
            return [_scaled(choice, move) for move in moves]

        for side, given in ((1, model.item_exponent), (0, model.user_exponent)):
            if given is None:
                for way in (-1, 1):
                    self._climb(partial(_neighbours, with_scales, partial(_exponent_moved, side=side, way=way)))
        for factor in (1 / _CUTOFF_STEP, _CUTOFF_STEP):
            self._climb(partial(_neighbours, with_scales, partial(_cut, factor=factor)))
        for position, (name, _) in enumerate(importances):
            for factor in (1 / _IMPORTANCE_STEP, _IMPORTANCE_STEP):
                self._climb(
                    partial(_neighbours, with_scales, partial(_importance_moved, position=position, factor=factor))
                )
            absent = _importance_moved(self.best, position, 0.0)
            if self._judge([absent]) >= self.figures[self.best]:
                log.info("%s does not help: it is left out", name)
                self.best = absent

    def _filters(self) -> list[FilterShape]:
        """Shapes of a filter to begin with; none where there is no filter."""
        model = self.config.model
        if not model.filter_neighbours:
            return []
        ridges = [model.filter_ridge or 0.0]
        if model.filter_ridge is None and self.split.n_items**2 <= _PAIRS:
            ridges += _RIDGES
        user = self.best.exponents[0]
        return [replace(shape, user=user, ridge=ridge) for ridge in ridges for shape in _FILTERS]

    def _choose_filter(self, shapes: Sequence[FilterShape]) -> None:
        """The filter's numbers and weight from one of these shapes on, and with them what it stands beside."""
        model, plain = self.config.model, self.best
        if model.filter_weight is not None:
            return
        self._take(
            [replace(plain, filter=shape, filter_weight=weight) for shape in shapes for weight in _FILTER_WEIGHTS]
        )
        before = None
        while self.best.filter is not None and before != self.best:
            before = self.best
            for name, step in _FILTER_STEPS.items():
                self._climb(partial(_filter_moved, name=name, step=step))
            if model.filter_ridge is None and self.best.filter.ridge:
                self._climb(_ridged)
            if model.item_scale is None:
                self._climb(lambda c: [_scaled(c, move) for move in (-1, -0.5, 0.5, 1)])
            if self.coarse.power is None:
                self._climb(lambda c: [_powered(c, move) for move in (-1, 1)])

    def _confirm(self) -> None:
        """The filter's weight on more users."""
        if (
            self.best.filter is None
            or self._relevant is self.split.valid
            or self.config.model.filter_weight is not None
        ):
            return
        self._relevant = sampled_rows(self.split.valid, _CONFIRMING, self.config.seed)
        without = replace(self.best, filter=None, filter_weight=0.0)
        choices = sorted([without, *_weighted(self.best)], key=_by_work)
        self.figures = dict(zip(choices, self._compare(choices), strict=True))
        self.best = max(choices, key=lambda choice: self.figures[choice])

    def _climb(self, neighbours: Callable[[Choice], list[Choice]]) -> None:
        """Go to the best neighbour of the best for as long as that is better."""
        while self._take(neighbours(self.best)):
            pass

    def _take(self, choices: Sequence[Choice]) -> bool:
        """Take the best of some choices of one solution if it is clearly better than the best so far, and say so."""
        if not choices or self._judge(choices) <= self.figures[self.best] * _GAIN:
            return False
        self.best = max(choices, key=lambda choice: self.figures[choice])
        log.info("%.4f: %s", self.figures[self.best], self.best)
        return True

    def _judge(self, choices: Sequence[Choice]) -> float:
        """Compare choices of one solution that were not tried yet; the largest figure of all of them.

        No choice is any good (minus infinity) where it takes a further solve and there is none left.
        """
        new = sorted({choice for choice in choices if choice not in self.figures}, key=_by_work)
        if new:
            if _solved_by(new[0]) not in self._solutions:
                if self._solves_left < 1:
                    return -math.inf
                self._solves_left -= 1
            if time.monotonic() > self._deadline:
                raise _OutOfTime
            self.reporter.note(f"{len(self.figures)} tried, best {self.figures[self.best]:.4f}; trying {new[0]}")
            self.figures.update(zip(new, self._compare(new), strict=True))
        return max(self.figures[choice] for choice in choices)

    def solution(self, choice: Choice) -> Solution:
        """The solution a choice ranks with; two are kept."""
        key = _solved_by(choice)
        if key not in self._solutions:
            kept = _solved_by(self.best)
            self._solutions = {k: solution for k, solution in self._solutions.items() if k == kept}
            self._solutions[key] = self._solve(choice.exponents, dict(choice.importances), choice.cutoff)
        return self._solutions[key]

    def sides(self, solution: Solution, choice: Choice) -> tuple[Tensor, Tensor]:
        """Embeddings of users and items, before the item scale."""
        roles, factors = self.config.graph.roles, solution.factors(choice.power)[: choice.rank].float()
        users, items = (solution.features[name][:, : choice.rank] * factors for name in (roles.query, roles.ranked))
        return users, items

    def item_factors(self, scale: float) -> Tensor:
        """(degree + 1)^scale of the items."""
        return item_factors(self._degree, scale)

    def _compare(self, choices: Sequence[Choice]) -> list[float]:
        """Validation figures of choices of one solution, in the order of `_by_work`: what they share is made once."""
        figures, solution = list[float](), self.solution(choices[0])
        for _, same in groupby(choices, key=lambda c: (c.rank, c.power)):
            alike = list(same)
            filters = {choice.filter: self._filter(solution, choice.filter) for choice in alike if choice.filter}
            scores = partial(self._scores, *self.sides(solution, alike[0]), filters, alike)
            figures += compare(scores, self.split.train, self._relevant, self.config.select, self.device)
        return figures

    def _filter(self, solution: Solution, shape: FilterShape) -> GraphFilter:
        neighbours, target = self.config.model.filter_neighbours, self.config.graph.roles.target
        return graph_filter(solution.graph, neighbours, shape, target)

    def _scores(
        self,
        of_users: Tensor,
        of_items: Tensor,
        filters: Mapping[FilterShape, GraphFilter],
        choices: Sequence[Choice],
        users: Tensor,
    ) -> Iterator[Tensor]:
        """Scores of some users by each choice: they differ in the item scale and the filter alone."""
        plain = product(of_users[users], of_items)
        for shape, alike in groupby(choices, key=lambda c: c.filter):
            if shape is not None:
                filtered = torch.as_tensor(filters[shape].scores(users.cpu().numpy())).to(plain)
                standardised(filtered)
            for scale, same in groupby(alike, key=lambda c: c.item_scale):
                scores = plain * self.item_factors(scale)
                if shape is None:
                    yield scores
                else:
                    standardised(scores)
                    yield from (mixed(scores, filtered, choice.filter_weight) for choice in same)


def sampled_rows(matrix: sp.csr_matrix, n: int, seed: int) -> sp.csr_matrix:
    """`matrix` with the entries of n of its rows that have some, drawn at random; itself where there are no more."""
    rows = np.flatnonzero(matrix.getnnz(axis=1))
    if len(rows) <= n:
        return matrix
    drawn = np.zeros(matrix.shape[0])
    drawn[np.random.default_rng(seed).choice(rows, n, replace=False)] = 1.0
    sample = sp.csr_matrix(sp.diags(drawn) @ matrix)
    sample.eliminate_zeros()
    return sample


def _solved_by(choice: Choice) -> tuple:
    """What a choice's solution depends on."""
    return choice.exponents, choice.importances, choice.cutoff


def _by_work(choice: Choice) -> tuple:
    """Choices that share work stand together in this order."""
    shape = () if choice.filter is None else tuple(vars(choice.filter).values())
    return choice.rank, choice.power, shape, choice.item_scale, choice.filter_weight


def _scaled(choice: Choice, move: float) -> Choice:
    return replace(choice, item_scale=round(choice.item_scale + move * _ITEM_SCALE_STEP, 4))


def _powered(choice: Choice, move: float) -> Choice:
    return replace(choice, power=max(0.0, choice.power + move * _POWER_STEP))


def _ranked(choice: Choice, most: int) -> list[Choice]:
    return [replace(choice, rank=min(most, max(1, round(choice.rank * factor)))) for factor in (0.7, 1.4)]


def _neighbours(
    with_scales: Callable[[Choice], list[Choice]], moved: Callable[[Choice], Choice], choice: Choice
) -> list[Choice]:
    return with_scales(moved(choice))


def _exponent_moved(choice: Choice, side: int, way: int) -> Choice:
    exponents = list(choice.exponents)
    exponents[side] = round(exponents[side] + way * _EXPONENT_STEP, 4)
    return replace(choice, exponents=(exponents[0], exponents[1]))


def _cut(choice: Choice, factor: float) -> Choice:
    return replace(choice, cutoff=choice.cutoff * factor)


def _importance_moved(choice: Choice, position: int, factor: float) -> Choice:
    importances = list(choice.importances)
    name, value = importances[position]
    importances[position] = name, value * factor
    return replace(choice, importances=tuple(importances))


def _filter_moved(choice: Choice, name: str, step: float) -> list[Choice]:
    """One exponent of the filter moved down and up, with the weights around the present one."""
    assert choice.filter is not None
    values = [round(getattr(choice.filter, name) + move, 4) for move in (-step, step)]
    shapes = [replace(choice.filter, **{name: value}) for value in values if name != "power" or value > 0]
    return [weighted for shape in shapes for weighted in _weighted(replace(choice, filter=shape))]


def _ridged(choice: Choice) -> list[Choice]:
    assert choice.filter is not None
    shapes = [replace(choice.filter, ridge=choice.filter.ridge * factor) for factor in (1 / _RIDGE_STEP, _RIDGE_STEP)]
    return [weighted for shape in shapes for weighted in _weighted(replace(choice, filter=shape))]


def _weighted(choice: Choice) -> list[Choice]:
    """The weights of the filter around the present one."""
    weights = [round(choice.filter_weight + change, 4) for change in (-0.1, 0.0, 0.1)]
    return [replace(choice, filter_weight=weight) for weight in weights if 0 < weight < 1]
