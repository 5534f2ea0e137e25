"""Orders in which the values of a scalar are tried, so that not all of them need be."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

Number = TypeVar("Number", int, float)


def around(values: Sequence[Number], value: Number, steps: int = 1) -> Sequence[Number]:
    """`value` and so many neighbours to each side among ascending `values`."""
    place = values.index(value)
    return values[max(0, place - steps) : place + steps + 1]


def scan(values: Sequence[Number], best_of: Callable[[Sequence[Number]], Number]) -> Number:
    """The best of ascending `values`: of every fourth, for there may be several peaks, and of what is around the best.

    `best_of` tries some values and returns the best of all that it was ever given. The first value is tried too, so
    that none is further than two from one that is.
    """
    first: list[Number] = list(values[::-4])
    first += values[:1]
    before, best = None, best_of(first)
    while best != before:
        before, best = best, best_of(around(values, best, 2))
    return best


def climb(values: Sequence[Number], first: Number, figure: Callable[[Number], float]) -> Number:
    """The best of ascending `values` on the way up from `first`: neighbours are tried while they improve `figure`."""
    tried = {values.index(first): figure(first)}
    while True:
        best = max(tried, key=lambda place: tried[place])
        new = [place for place in (best - 1, best + 1) if 0 <= place < len(values) and place not in tried]
        if not new:
            return values[best]
        tried[new[0]] = figure(values[new[0]])
