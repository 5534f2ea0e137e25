"""What a spectral start chooses, and the steps from one choice to another."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from c2f_dgl.graph.neighbourhood import FilterShape
from c2f_dgl.model import Scalars

# By how much a number moves at a time (rank, cutoff, importance and ridge by a factor).
_EXPONENT, _POWER, _ITEM_SCALE, _WEIGHT = 0.1, 0.5, 0.1, 0.1
_RANK, _CUTOFF, _IMPORTANCE, _RIDGE = 1.4, 1.2, math.sqrt(10), 2.0
FILTER_STEPS = dict(target=0.2, history=0.2, power=0.5, item=0.1)

_MOVES = (-2, -1, -0.5, 0.5, 1, 2)


@dataclass(frozen=True)
class Choice:
    """Everything that is chosen."""

    exponents: tuple[float, float]  # a and b of D_u^(-a) R D_i^(-b)
    importances: tuple[tuple[str, float], ...]  # of the relations that leave theirs to be chosen, by name
    # Singular values from this share of the m-th one on pass the filter. Directions that it leaves half converged are
    # smoother than the exact ones.
    cutoff: float
    rank: int  # d, the number of directions
    power: float  # of the singular values, the weight of directions in scores
    item_scale: float
    filter: FilterShape | None = None
    filter_weight: float = 0.0
    ends: tuple[str, ...] = field(default=(), compare=False)  # what stands at the end of what could be tried, in words

    @property
    def solved_by(self) -> tuple[object, ...]:
        """What needs a solution of its own."""
        return self.exponents, self.importances, self.cutoff

    def scalars(self, layer_weights: tuple[float, ...]) -> Scalars:
        """Those of a model with this choice."""
        importances = dict(self.importances)
        return Scalars(layer_weights, self.exponents, self.item_scale, self.filter, self.filter_weight, importances)

    def __str__(self) -> str:
        relations = "".join(f", importance of {name} {value:.2g}" for name, value in self.importances)
        term = "" if self.filter is None else f", filter of weight {self.filter_weight:g} and {self.filter}"
        return (
            f"exponents {self.exponents[0]:.2g} and {self.exponents[1]:.2g}{relations}, cutoff {self.cutoff:.2g}, "
            f"{self.rank} directions, power {self.power:.2g}, item scale {self.item_scale:.2g}{term}"
        )


def scaled(choice: Choice, moves: Iterable[float] = _MOVES) -> list[Choice]:
    """With item scales so many steps away."""
    return [replace(choice, item_scale=round(choice.item_scale + move * _ITEM_SCALE, 4)) for move in moves]


def powered(choice: Choice, moves: Iterable[float] = (-1, -0.5, 0.5, 1)) -> list[Choice]:
    """With powers so many steps away."""
    return [replace(choice, power=choice.power + move * _POWER) for move in moves]


def ranked(choice: Choice, most: int) -> list[Choice]:
    """With a rank a step lower and higher, `most` at most."""
    ranks = (round(choice.rank / _RANK), min(most, round(choice.rank * _RANK)))
    return [replace(choice, rank=rank) for rank in ranks if rank]


def weighted(choice: Choice, moves: Iterable[float] = _MOVES) -> list[Choice]:
    """With weights of the filter so many steps away, between 0 and 1; as it is without a filter."""
    if choice.filter is None:
        return [choice]
    weights = [round(choice.filter_weight + move * _WEIGHT, 4) for move in moves]
    return [replace(choice, filter_weight=weight) for weight in weights if 0 < weight < 1]


def reshaped(choice: Choice, name: str) -> list[Choice]:
    """With one number of the filter a step lower and higher."""
    assert choice.filter is not None
    value = getattr(choice.filter, name)
    if name == "ridge":
        values = [value / _RIDGE, value * _RIDGE]
    else:
        values = [round(value + step, 4) for step in (-FILTER_STEPS[name], FILTER_STEPS[name])]
    shapes = [replace(choice.filter, **{name: value}) for value in values if name != "power" or value > 0]
    return [replace(choice, filter=shape) for shape in shapes]


def with_exponent(choice: Choice, way: int, *, side: int) -> Choice:
    """With the exponent of users (0) or items (1) a step lower (-1) or higher (1)."""
    exponents = list(choice.exponents)
    exponents[side] = round(exponents[side] + way * _EXPONENT, 4)
    return replace(choice, exponents=(exponents[0], exponents[1]))


def with_cutoff(choice: Choice, way: int) -> Choice:
    """With the cutoff a step lower (-1) or higher (1)."""
    return replace(choice, cutoff=choice.cutoff * _CUTOFF**way)


def with_importance(choice: Choice, way: int, *, relation: str) -> Choice:
    """With the importance of a relation a step lower (-1) or higher (1)."""
    importances = dict(choice.importances)
    importances[relation] *= _IMPORTANCE**way
    return replace(choice, importances=tuple(importances.items()))


def without_relation(choice: Choice, relation: str) -> Choice:
    """With an importance of 0."""
    return replace(choice, importances=tuple({**dict(choice.importances), relation: 0.0}.items()))


def trimmed(choices: Iterable[Choice], *, scale: bool, weight: bool) -> list[Choice]:
    """Each choice with its item scale and its filter's weight as they are and a step lower and higher."""
    scales, weights = ((-1, 0, 1) if free else (0,) for free in (scale, weight))
    return [new for choice in choices for at_scale in scaled(choice, scales) for new in weighted(at_scale, weights)]


def by_work(choice: Choice) -> tuple[object, ...]:
    """Choices that share work stand together in this order."""
    shape = () if choice.filter is None else tuple(vars(choice.filter).values())
    return choice.rank, choice.power, shape, choice.item_scale, choice.filter_weight
