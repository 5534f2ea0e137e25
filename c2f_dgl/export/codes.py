"""Codes of items in a number of bytes: a coarse meta-embedding and a few fine ones each, and neighbours beside them.

The coarse codebook E^c covers all columns. Each fine one, of E^r, covers a slice of them and codes what the levels
before it leave; the slices go round and round, the columns that users' vectors use most first. What an item's code
misses counts by t_i^2: that is what it adds to the squared error of the item's scores, so that items which are often
ranked high get codes of their own, and rare ones share theirs. Every level is then fitted again to what all the others
leave (Babenko and Lempitsky, 2014; Martinez et al., 2018).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.ranking import product
from c2f_dgl.export.trial import NEIGHBOURS, Trial
from c2f_dgl.io.progress import Reporter
from c2f_dgl.serving import ItemCodes, Level, Neighbours, Rows

Coded = tuple[ItemCodes, Neighbours | None]

# Most rows of a codebook (a code is a byte), and fewest items a row.
_ROWS, _ITEMS_A_ROW = 256, 8

# What a file says of a tensor, and the tensors of a level.
_HEADER, _TENSORS = 96, 3

# Rounds of k-means of a new level; how often all levels are fitted again, and rounds of each.
_ROUNDS, _AGAIN, _ROUNDS_AGAIN = 8, 2, 2

# What is tried: some of these shares of the columns, and shares of the bytes that go to neighbours.
_COLUMNS, _WIDTHS = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625), 3
SHARES = (0.0, 0.25, 0.5)

# Without most of its neighbours a model ranks best with other weights of directions and items than with them, which
# beside a filter of great weight may be any: steps of the exponents of the directions' energies over the largest, and
# of the items' degrees.
_STEPS = ((1.0, 0.25), (0.5, 0.125))

# How much of N@20 on validation the fewest bytes may lose, and how many doublings are tried.
_LOSS, _DOUBLINGS = 0.02, 7


@dataclass(frozen=True, eq=False)
class Fit:
    """N@20 on validation, levels, how many neighbours an item has, and what they weigh."""

    figure: float
    mix: float
    levels: list[Level]
    neighbours: int

    def stored(self, trial: Trial) -> Coded:
        """Codes and neighbours as a file holds them."""
        codes = ItemCodes(tuple(self.levels))
        if not self.neighbours:
            return codes, None
        term = trial.neighbours.largest(self.neighbours)
        term.weights.sort_indices()
        return codes, term.stored(trial.levels, self.mix)


def fit_codes(
    items: np.ndarray, trial: Trial, n_bytes: int, reporter: Reporter, shares: Sequence[float] = SHARES
) -> Coded:
    """Codes of items X (n_items, d), whose sum over a history is the user, and neighbours where they rank better.

    Together they take `n_bytes`, of which `shares` are tried for neighbours. `InputError` where so few hold no codes.
    """
    vectors, _ = trial.rotated(items)
    with reporter.busy(f"codes of {n_bytes:,} bytes"):
        return _searched(vectors, trial, n_bytes, shares).stored(trial)


def fit_fewest_codes(items: np.ndarray, trial: Trial, reporter: Reporter, figure: float = 0.0) -> Coded | None:
    """`fit_codes` in the fewest bytes, of a least number and its doublings, that lose at most 2 % of N@20; else None.

    `figure` is N@20 on validation of what is coded, where it has neighbours, too.
    """
    vectors, _ = trial.rotated(items)
    with reporter.busy("items as they are"):
        wanted = (1 - _LOSS) * max(trial.figure(vectors)[0], figure)
    rows = _n_rows(len(items))
    least = max(2 * (len(items) + rows * min(vectors.shape[1], 32)), level_bytes(len(items), rows, 1))
    for n_bytes in (least * 2**doubling for doubling in range(_DOUBLINGS)):
        if n_bytes >= vectors.size:
            break
        with reporter.busy(f"codes of {n_bytes:,} bytes"):
            fit = _searched(vectors, trial, n_bytes, SHARES)
        if fit.figure >= wanted:
            return fit.stored(trial)
    return None


def weighted_alone(items: np.ndarray, trial: Trial) -> tuple[np.ndarray, np.ndarray]:
    """Items X (n_items, d) and t (n_items,) as they rank best on validation where few neighbours stand beside them.

    Directions of X are multiplied by a power of the energy that users' vectors have in them, t by one of the items'
    degrees. Steps go up and down from the best exponents so far for as long as they are better.
    """
    vectors, energies = trial.rotated(items)
    figures = dict[tuple[float, float], float]()

    def weighted(exponent: float) -> np.ndarray:
        return (vectors * (energies / energies[0]) ** exponent).astype(np.float32)

    def item_weight(exponent: float) -> np.ndarray:
        return trial.item_weight * (trial.degrees + 1.0) ** exponent

    def compare(direction: float, degrees: list[float]) -> None:
        table = weighted(direction)
        users, z = torch.as_tensor(trial.train @ table), torch.as_tensor(table)
        scales = [torch.as_tensor(item_weight(exponent), dtype=torch.float32) for exponent in degrees]

        def variants(block: Tensor) -> Iterator[Tensor]:
            plain = product(users[block], z)
            return (plain * scale for scale in scales)

        figures.update(zip([(direction, degree) for degree in degrees], trial.compared(variants), strict=True))

    best = (0.0, 0.0)
    for of_directions, of_degrees in _STEPS:
        before = None
        while before != best:
            before = best
            for direction in (best[0] - of_directions, best[0], best[0] + of_directions):
                near = [best[1] + move * of_degrees for move in (-1, 0, 1)]
                if new := [degree for degree in near if (direction, degree) not in figures]:
                    compare(direction, new)
            best = max(figures, key=figures.__getitem__)
    return weighted(best[0]), item_weight(best[1])


def _searched(vectors: np.ndarray, trial: Trial, n_bytes: int, shares: Sequence[float]) -> Fit:
    """The best on validation of a few numbers of columns and of neighbours."""
    n_items, full = vectors.shape
    weights, most = trial.t.astype(np.float64) ** 2, _n_rows(n_items)
    neighbour_bytes = n_items * ((2 if n_items < 2**16 else 4) + 1)
    counts = sorted({min(NEIGHBOURS, int(share * n_bytes) // neighbour_bytes) for share in shares})

    def fit(levels: list[Level], d: int, k: int) -> Fit:
        return Fit(*trial.figure(decoded(levels, d), k), levels, k)

    def fits(rows: int, d: int, counts: list[int], finer: int = 0) -> Iterator[Fit]:
        all_levels = fitted(vectors[:, :d], weights, slices(n_items, rows, d, n_bytes, finer), rows, trial.seed)
        for k in counts:
            left = n_bytes - (k * neighbour_bytes + 4 * _HEADER if k else 0)
            if levels := all_levels[: len(slices(n_items, rows, d, left, finer))]:
                yield fit(levels, d, k)

    # No more than half of the bytes for the coarse codebook, or one column where that is still too much.
    widths = [d for d in (int(full * share) for share in _COLUMNS) if d and 2 * most * (d + 4) <= n_bytes]
    tried = [one for d in widths[:_WIDTHS] for one in fits(most, d, counts)] or list(fits(most, 1, counts))
    if not tried:
        least = level_bytes(n_items, most, 1)
        raise InputError(f"{n_bytes:,} bytes are left for codes of {n_items:,} items", expected=f"{least:,} or more")
    figure = attrgetter("figure")
    best = max(tried, key=figure)
    d, k = best.levels[0].codebook.width, best.neighbours
    # Smaller codebooks of as many slices, and of twice as many.
    best = max([best, *(one for finer in (1, 2) for one in fits(max(1, most // 2), d, [k], finer))], key=figure)
    return max(best, fit(fitted_again(vectors[:, :d], weights, best.levels), d, k), key=figure)


def _n_rows(n_items: int) -> int:
    return min(_ROWS, max(1, n_items // _ITEMS_A_ROW))


def level_bytes(n_items: int, rows: int, width: int) -> int:
    """Bytes of a level in a file."""
    return n_items + rows * (width + 4) + _HEADER * _TENSORS


def slices(n_items: int, rows: int, d: int, n_bytes: int, finer: int = 0) -> list[tuple[int, int]]:
    """Columns of the levels that so many bytes hold: all of the coarse one, then slices, round and round.

    There are as many slices as make the codes of a round weigh about what its codebooks do: of many items the codes
    are what costs, of few the codebooks are. `finer` doubles their number so many times.
    """
    n = min(d, 1 << finer + max(0, (rows * d // n_items).bit_length() - 1))
    stops = np.linspace(0, d, n + 1).astype(int).tolist()
    columns, start, stop = [], 0, d
    while (n_bytes := n_bytes - level_bytes(n_items, rows, stop - start)) >= 0:
        columns.append((start, stop))
        number = (len(columns) - 1) % n
        start, stop = stops[number], stops[number + 1]
    return columns


def fitted(
    vectors: np.ndarray, weights: np.ndarray, columns: list[tuple[int, int]], rows: int, seed: int
) -> list[Level]:
    """One level after another, each k-means of what those before it leave; a row starts at an item drawn by weight."""
    rng, left, levels = np.random.default_rng(seed), vectors.copy(), []
    for start, stop in columns:
        target = left[:, start:stop]
        drawn = rng.choice(len(vectors), rows, replace=False, p=weights / weights.sum())
        level = clustered(target, weights, target[drawn], start, _ROUNDS)
        target -= part(level)
        levels.append(level)
    return levels


def fitted_again(vectors: np.ndarray, weights: np.ndarray, levels: list[Level]) -> list[Level]:
    """Each level again, from where it is, to what all the others leave."""
    levels, left = list(levels), vectors - decoded(levels, vectors.shape[1])
    for number in list(range(len(levels))) * _AGAIN:
        level = levels[number]
        target = left[:, level.columns]
        target += part(level)
        levels[number] = clustered(target, weights, level.codebook.take(slice(None)), level.start, _ROUNDS_AGAIN)
        target -= part(levels[number])
    return levels


def clustered(target: np.ndarray, weights: np.ndarray, centres: np.ndarray, start: int, rounds: int) -> Level:
    """Weighted k-means of `target` (n_items, width) by Lloyd's rounds from `centres`, which are rounded to int8."""
    items, vectors = np.arange(len(target)), target.astype(np.float32)
    codes = nearest(vectors, centres)
    for _ in range(rounds):
        mass = np.bincount(codes, weights, minlength=len(centres))
        used = mass > 0
        total = sp.csr_matrix((weights, (codes, items)), (len(centres), len(target))) @ vectors
        centres = np.where(used[:, None], total / np.where(used, mass, 1.0)[:, None], centres)
        codes = nearest(vectors, centres)
    codebook = Rows.stored(centres, "int8")
    kind = np.uint8 if len(codebook) <= _ROWS else np.uint16
    return Level(codebook, nearest(vectors, codebook.take(slice(None))).astype(kind), start)


def nearest(target: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest of `centres` (K, width) to each row of `target` (n, width): int (n,)."""
    rounded = centres.astype(np.float32)
    return ((rounded**2).sum(axis=1) / 2 - target @ rounded.T).argmin(axis=1)


def part(level: Level) -> np.ndarray:
    """What a level adds to all items' vectors, float32 (n_items, width)."""
    return level.codebook.take(slice(None)).astype(np.float32)[level.codes]


def decoded(levels: list[Level], d: int) -> np.ndarray:
    """Vectors (n_items, d) of codes, float32."""
    out = np.zeros((ItemCodes(tuple(levels)).n_items, d), dtype=np.float32)
    for level in levels:
        out[:, level.columns] += part(level)
    return out
