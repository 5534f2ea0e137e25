"""The search for the scalars of a spectral start on validation.

Steps go up and down from the best choice so far, as long as they are better: no range ends but where the model does.
Exponents, importances and the cutoff ask for a solution of their own, the others are ways to rank with one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.config.schema import RunConfig
from c2f_dgl.config.sizes import embedding_size, n_atoms, n_neighbours
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import product
from c2f_dgl.evaluation.sampling import sampled_rows
from c2f_dgl.graph.item_filter import GraphFilter, graph_filter
from c2f_dgl.graph.neighbourhood import FilterShape
from c2f_dgl.io import ranks
from c2f_dgl.io.progress import Reporter
from c2f_dgl.model import item_factors
from c2f_dgl.training.choice import (
    FILTER_STEPS,
    Choice,
    by_work,
    powered,
    ranked,
    reshaped,
    scaled,
    trimmed,
    weighted,
    with_cutoff,
    with_exponent,
    with_importance,
    without_relation,
)
from c2f_dgl.training.comparison import Candidates, Comparison
from c2f_dgl.training.solution import Solution

log = logging.getLogger("c2f_dgl")

# Users that choices are compared on. N@20 of two near choices differs by about 0.03 a user (standard deviation), so of
# 3,000 the means by 0.0005. The best of them are compared once more, on more users.
_USERS, _CONFIRMING = 3_000, 10_000

# Items of each user that each of some rankings proposes.
_EACH = 64

# A choice is better by at least this much: less is the sample's.
_GAIN = 1.001

# What steps of the filter from one start take, roughly, in multiplications for a user and an item.
_WORK_OF_START = 2**8

# Where scalars that are null begin.
_EXPONENT, _CUTOFF, _IMPORTANCE, _POWER, _ITEM_SCALE = 0.4, 0.9, 0.1, 1.0, 0.2
_FILTERS = (
    FilterShape(item=0.4, power=1.5, history=0.5, target=0.5),
    FilterShape(item=0.5, power=1.5, history=0.0, target=0.0),
    FilterShape(item=0.25, power=2.0, history=0.0, target=0.0),
)
_FILTER_WEIGHTS = (0.1, 0.2, 0.3, 0.5, 0.7)
_RIDGES = (0.25, 2.0)

# Pairs of items that a ridge regression may take: 1 GiB in float64 with what it needs beside.
_PAIRS = 2**25


class OutOfTime(Exception):
    """The search has had its time."""


class Search:
    """The best choice so far, and the steps away from it; `solve` gives the solution that a choice ranks with."""

    def __init__(
        self,
        config: RunConfig,
        solve: Callable[[Choice], Solution],
        split: Split,
        device: torch.device,
        reporter: Reporter,
    ) -> None:
        assert config.coarse is not None
        self.config, self.model, self.coarse = config, config.model, config.coarse
        self.split, self.device, self.reporter = split, device, reporter
        self._solve, self._solutions = solve, dict[tuple[object, ...], Solution]()
        self._degree = torch.as_tensor(split.train.getnnz(axis=0), dtype=torch.float32, device=device)
        self._deadline = time.monotonic() + (self.coarse.search_seconds or math.inf)
        # Multiplications of a solve: propagation of the atoms, and their Gram matrices.
        m, entities = n_atoms(config), split.n_users + split.n_items
        work = m * (split.train.nnz * (self.model.layers + 1) + entities * m)
        allowed = math.inf if self.coarse.search_work is None else self.coarse.search_work * 2**35
        self._solves_left = allowed // work
        self._refused = False  # whether a choice was not tried for want of solutions
        self.figures: dict[Choice, float] = {}  # of every choice that was tried, on a sample of validation users
        self.best = self._first()
        self._first_solved = self.best.solved_by
        self.best = replace(self.best, rank=self.solution(self.best).codebook.shape[1])
        self._sample = sampled_rows(split.valid, _USERS, config.seed)
        self._comparison = self._compared(self._sample, self._proposals())
        n_users = max(1, int((self._sample.getnnz(axis=1) > 0).sum()))
        self._most_starts = max(1, round(min(allowed / (_WORK_OF_START * n_users * split.n_items), len(_FILTERS) + 1)))

    def _first(self) -> Choice:
        """What the options say, and where the others begin."""
        model, power = self.model, self.coarse.power
        user, item = (_EXPONENT if a is None else a for a in (model.user_exponent, model.item_exponent))
        free = [name for name, relation in self.config.graph.extra.items() if relation.importance is None]
        choice = Choice(
            (user, item),
            tuple((name, _IMPORTANCE) for name in free),
            _CUTOFF,
            embedding_size(self.config),
            _POWER if power is None else power,
            _ITEM_SCALE if model.item_scale is None else model.item_scale,
        )
        if not model.filter_weight:
            return choice
        shape = replace(_FILTERS[0], user=user, ridge=model.filter_ridge or 0.0)
        return replace(choice, filter=shape, filter_weight=model.filter_weight)

    def run(self) -> None:
        """Choose, until there is no better step or no more time."""
        self.figures[self.best] = self._comparison.figures(self.solution(self.best), [self.best])[0]
        try:
            self._choose_rank()
            self._settle()
            # Where steps end depends on which come first: both orders are tried, and the better end is kept.
            plain = self.best
            self._choose_filter(self._shapes(), self._most_starts)
            self._choose_graph()
            filter_first, self.best = self.best, plain
            self._choose_graph()
            self._choose_filter([filter_first.filter] if filter_first.filter else [], 1)
            self.best = max(filter_first, self.best, key=self.figures.__getitem__)
            self._confirm()
        except OutOfTime:
            self.best = max(self.figures, key=self.figures.__getitem__)
            log.warning("the search ended after %g s, with the best so far", self.coarse.search_seconds)
        if ends := self._ends():
            log.warning("chosen at the end of what could be tried: %s", "; ".join(ends))
            self.best = replace(self.best, ends=ends)

    def _ends(self) -> tuple[str, ...]:
        """Which numbers of the best are the first or last that could be tried, and what gives them more room."""
        best, solution = self.best, self.solution(self.best)
        most, ends = solution.codebook.shape[1], []
        if self.model.d is None and best.rank in (1, most):
            ends.append(f"{best.rank} directions of 1 to {most} (model.budget)")
        if self.model.filter_weight is None and len(weighted(best, (-0.5, 0.5))) < 1 + (best.filter is not None):
            ends.append(f"filter weight {best.filter_weight:g} of 0 to 1")
        if best.filter is not None and self.model.filter_weight is None and len(reshaped(best, "power")) < 2:
            ends.append(f"filter power {best.filter.power:g}, above 0")
        if solution.least:
            ends.append("the least cutoff (model.layers)")
        if self._refused:
            ends.append("exponents and cutoff, for want of further solutions (coarse.search_work)")
        return tuple(ends)

    def _settle(self) -> None:
        """Take steps that need no further solution in turn, until none of them is better."""
        model, before = self.model, None
        steps = list[Callable[[Choice], list[Choice]]]()
        if model.item_scale is None:
            steps.append(scaled)
        if self.coarse.power is None:
            steps.append(lambda choice: self._trimmed(powered(choice)))
        if model.d is None:
            most = self.solution(self.best).codebook.shape[1]
            steps.append(lambda choice: self._trimmed(ranked(choice, most)))
        if self.best.filter is not None and model.filter_weight is None:
            ridge = ["ridge"] * (model.filter_ridge is None and self.best.filter.ridge > 0)
            steps.append(weighted)
            steps += [partial(self._reshaped, name=name) for name in (*FILTER_STEPS, *ridge)]
        while before != self.best:
            before = self.best
            for step in steps:
                self._climb(step)

    def _choose_rank(self) -> None:
        """Halve the largest rank: a smaller one may need another power."""
        if self.model.d is None:
            ranks = [max(1, self.best.rank >> halvings) for halvings in range(6)]
            powers = powered(self.best, (-1, 0, 1) if self.coarse.power is None else (0,))
            self._take(self._trimmed(replace(choice, rank=rank) for choice in powers for rank in ranks))

    def _choose_filter(self, shapes: list[FilterShape], most: int) -> None:
        """A filter from each shape to begin with, and steps from each: which of them ends best shows at the end alone.

        Those with a ridge, which take the longest, have one start. Of the starts the `most` best are taken.
        """
        if self.model.filter_weight is not None:
            return
        plain, starts, ends = self.best, list[Choice](), [self.best]
        shapes = [replace(shape, user=plain.exponents[0]) for shape in shapes]
        groups = [[shape] for shape in shapes if not shape.ridge] + [[shape for shape in shapes if shape.ridge]]
        for near in filter(None, groups):
            filtered = [replace(plain, filter=shape, filter_weight=w) for shape in near for w in _FILTER_WEIGHTS]
            choices = [new for choice in filtered for new in (choice, *self._scaled(choice))]
            self._best_figure(choices)
            starts.append(max(choices, key=self.figures.__getitem__))
        for start in sorted(starts, key=self.figures.__getitem__, reverse=True)[:most]:
            self.best = start
            self._settle()
            ends.append(self.best)
        self.best = plain
        self._take(ends)

    def _shapes(self) -> list[FilterShape]:
        """Shapes of a filter to begin with; none where there is no filter."""
        model = self.model
        ridges = [model.filter_ridge or 0.0]
        if model.filter_ridge is None and self.split.n_items**2 <= _PAIRS:
            ridges += _RIDGES
        user, shapes = self.best.exponents[0], _FILTERS if n_neighbours(self.config) else ()
        return [replace(shape, user=user, ridge=ridge) for ridge in ridges for shape in shapes]

    def _choose_graph(self) -> None:
        """What weighs the graph, and then once more how its directions rank."""
        before = self.best
        for side, exponent in ((1, self.model.item_exponent), (0, self.model.user_exponent)):
            if exponent is None:
                self._climb_either_way(partial(with_exponent, side=side))
        self._climb_either_way(with_cutoff)
        for name, _ in self.best.importances:
            self._climb_either_way(partial(with_importance, relation=name))
            absent = without_relation(self.best, name)
            if self._best_figure([absent]) >= self.figures[self.best]:
                log.info("%s does not help: it is left out", name)
                self.best = absent
        if before != self.best:
            self._choose_rank()
            self._settle()

    def _confirm(self) -> None:
        """Further solutions and the filter compared without them on more users; its weight and the item scale anew."""
        if self._sample is self.split.valid:
            return
        best, free = [self.best], self.model.filter_weight is None
        if self.best.solved_by != self._first_solved:
            of_first = [choice for choice in self.figures if choice.solved_by == self._first_solved]
            best.append(max(of_first, key=self.figures.__getitem__))
        shapes = {choice.filter for choice in best if choice.filter}
        plain = [replace(choice, filter=None, filter_weight=0.0) for choice in best if choice.filter and free]
        if len(best) + len(plain) == 1:
            return
        items = {choice: self.solution(choice).items[:, : choice.rank].contiguous() for choice in best}

        def proposals(users: Tensor) -> Iterator[Tensor]:
            for choice in best:
                scores = product(self.solution(choice).coefficients(users, choice.rank, choice.power), items[choice])
                yield scores * item_factors(self._degree, choice.item_scale)
            for shape in shapes:
                yield torch.as_tensor(self._filter(shape).scores(users.cpu().numpy())).to(self._degree)

        self._comparison = self._compared(sampled_rows(self.split.valid, _CONFIRMING, self.config.seed), proposals)
        figures = {choice: self._comparison.figures(self.solution(choice), [choice])[0] for choice in (*best, *plain)}
        self.figures, self.best = figures, max(figures, key=figures.__getitem__)
        if self.best.filter is not None and free:
            self._climb(lambda choice: [new for near in (choice, *self._scaled(choice)) for new in weighted(near)])

    def _scaled(self, choice: Choice) -> list[Choice]:
        return scaled(choice, (-1, 1)) if self.model.item_scale is None else []

    def _trimmed(self, choices: Iterable[Choice]) -> list[Choice]:
        return trimmed(choices, scale=self.model.item_scale is None, weight=self.model.filter_weight is None)

    def _reshaped(self, choice: Choice, name: str) -> list[Choice]:
        return self._trimmed(reshaped(choice, name))

    def _climb(self, neighbours: Callable[[Choice], list[Choice]]) -> None:
        """Go to the best neighbour of the best for as long as that is better."""
        while self._take(neighbours(self.best)):
            pass

    def _climb_either_way(self, moved: Callable[[Choice, int], Choice]) -> None:
        """Steps that need a solution each, first down, then up."""
        for way in (-1, 1):
            while self._take(self._trimmed([moved(self.best, way)])):
                pass

    def _take(self, choices: Sequence[Choice]) -> bool:
        """Take the best of some choices of one solution if it is clearly better than the best so far, and say so."""
        if not choices or self._best_figure(choices) <= self.figures[self.best] * _GAIN:
            return False
        self.best = max(choices, key=self.figures.__getitem__)
        log.info("%.4f: %s", self.figures[self.best], self.best)
        return True

    def _best_figure(self, choices: Sequence[Choice]) -> float:
        """The largest figure of choices of one solution; those that were not tried yet are compared.

        Minus infinity where that takes a further solution and there is none left.
        """
        new = sorted({choice for choice in choices if choice not in self.figures}, key=by_work)
        if new:
            if new[0].solved_by not in self._solutions:
                if self._solves_left < 1:
                    self._refused = True
                    return -math.inf
                self._solves_left -= 1
                self._comparison.forget_directions()  # solving needs the memory
            if ranks.decided(time.monotonic() > self._deadline):
                raise OutOfTime
            best = max(self.figures.values(), default=0.0)
            self.reporter.note(f"{len(self.figures)} tried, best {best:.4f}; trying {new[0]}")
            self.figures.update(zip(new, self._comparison.figures(self.solution(new[0]), new), strict=True))
        return max(self.figures[choice] for choice in choices)

    def solution(self, choice: Choice) -> Solution:
        """The solution a choice ranks with; the first, that of the best and the last are kept."""
        key, kept = choice.solved_by, (self._first_solved, self.best.solved_by)
        if key not in self._solutions:
            self._solutions = {k: solution for k, solution in self._solutions.items() if k in kept}
            self._solutions[key] = self._solve(choice)
        return self._solutions[key]

    def _compared(self, relevant: sp.csr_matrix, proposals: Callable[[Tensor], Iterator[Tensor]]) -> Comparison:
        with self.reporter.bar("proposing items") as report:
            candidates = Candidates.ranked_first(proposals, _EACH, self.split.train, relevant, self.device, report)
        return Comparison(candidates, self._degree, self._filter, self.config.select)

    def _proposals(self) -> Callable[[Tensor], Iterator[Tensor]]:
        """Scores of some users (int64) by choices around those to begin with, as far apart as any may end."""
        solution, rank = self.solution(self.best), self.best.rank
        with self.reporter.busy("weighing items against items"):
            terms = [self._filter(shape) for shape in self._shapes()]

        def proposals(users: Tensor) -> Iterator[Tensor]:
            for power, d in ((0.0, rank), (1.0, rank), (2.0, rank), (1.0, max(1, rank >> 3))):
                scores = product(solution.coefficients(users, d, power), solution.items[:, :d])
                for scale in (0.0, 0.5):
                    yield scores * item_factors(self._degree, scale)
            for term in terms:
                yield torch.as_tensor(term.scores(users.cpu().numpy())).to(self._degree)

        return proposals

    def _filter(self, shape: FilterShape) -> GraphFilter:
        graph, target = self.solution(self.best).graph, self.config.graph.roles.target
        return graph_filter(graph, n_neighbours(self.config), shape, target)
