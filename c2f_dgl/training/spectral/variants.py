"""Ways to rank with one solution, and the scores of many of them at once.

d first directions are the first d terms of a sum, and the other scalars only rescale what is summed: a block of users
is multiplied once for all the variants that are compared.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from c2f_dgl.dgl_import import dgl
from c2f_dgl.evaluation.products import add_product
from c2f_dgl.evaluation.ranking import mixed, standardised
from c2f_dgl.graph.item_filter import graph_filter
from c2f_dgl.model import item_degrees, item_factors
from c2f_dgl.roles import Roles
from c2f_dgl.training.spectral.solution import Solution


@dataclass(frozen=True, order=True)
class Variant:
    """A way to rank with one solution: its first `rank` directions, with what is mixed in."""

    rank: int
    item_scale: float
    filter_weight: float = 0.0

    def __str__(self) -> str:
        return f"d {self.rank}, item scale {self.item_scale:g}, filter weight {self.filter_weight:g}"


def variant_scores(
    solution: Solution, variants: Sequence[Variant], graph: dgl.DGLGraph, filter_neighbours: int, roles: Roles
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
