"""Codes of items in a number of bytes: a coarse meta-embedding and a few fine ones each, and neighbours beside them.

The coarse codebook E^c covers all columns. Each fine one, of E^r, covers a slice of them and codes what the levels
before it leave; the slices go round and round, the columns that users' vectors use most first. What an item's code
misses counts by t_i^2: that is what it adds to the squared error of the item's scores, so that items which are often
ranked high get codes of their own, and rare ones share theirs. Every level is then fitted again to what all the others
leave (Babenko and Lempitsky, 2014; Martinez et al., 2018).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.products import product
from c2f_dgl.evaluation.ranking import compare
from c2f_dgl.graph.neighbourhood import FilterShape, item_filter, largest_of_rows
from c2f_dgl.progress import Reporter
from c2f_dgl.serving import Csr, ItemCodes, Level, Neighbours, Rows
from c2f_dgl.serving.codes import degree_levels, level_means
from c2f_dgl.training.search import sampled_rows

# Most rows of a codebook (a code is a byte), and fewest items a row.
_ROWS, _ITEMS_A_ROW = 256, 8

# What a file says of a tensor, and the tensors of a level.
_HEADER, _TENSORS = 96, 3

# Rounds of k-means of a new level; how often all levels are fitted again, and rounds of each.
_ROUNDS, _AGAIN, _ROUNDS_AGAIN = 8, 2, 2

# What is tried: some of these shares of the columns; shares of the bytes that go to neighbours, and most of these; the
# spread of the neighbours' scores over that of the codes'.
_COLUMNS, _WIDTHS = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125, 0.0625), 3
_SHARES, _NEIGHBOURS, _MIXES = (0.0, 0.25, 0.5), 16, (0.08, 0.15, 0.3)
_CHOOSING_USERS, _SPREAD_USERS = 2_000, 256

# Without most of its neighbours a model ranks best with other weights of directions and items than with them: exponents
# tried of the directions' energies over the largest, and of the items' degrees.
_DIRECTIONS, _DEGREES = (0.0, 0.1, 0.2, 0.3), (-0.45, -0.3, -0.15, 0.0)

# G of the neighbours, row i of which holds the j: (walks_ij / (d_i d_j)^(1/2))^(3/2) d_i^f, and e of their histories.
_FILTER, _TARGET = FilterShape(user=0.4, item=0.5, power=1.5, history=0.4), 0.4

# How much of N@20 on validation may be lost where no number of bytes is given, and how many doublings are tried.
_LOSS, _DOUBLINGS = 0.02, 7


@dataclass(frozen=True, eq=False)
class _Fit:
    """Levels, how many neighbours an item and what they weigh, and N@20 on validation."""

    figure: float
    levels: list[Level]
    neighbours: int
    mix: float


def fit_codes(
    items: np.ndarray,
    history_weight: np.ndarray,
    item_weight: np.ndarray,
    train: sp.csr_matrix,
    valid: sp.csr_matrix,
    n_bytes: int | None,
    seed: int,
    reporter: Reporter,
    *,
    shares: Sequence[float] = _SHARES,
    figure: float = 0.0,
) -> tuple[ItemCodes, Neighbours | None]:
    """Codes of items, and neighbours of them where these are worth their bytes.

    Columns, levels and neighbours are those of a few that rank best for some users on `valid`.

    Parameters
    ----------
    items : float array, shape (n_items, d)
        X: the vector of a user is the sum of ``history_weight * X`` over the history. Codes are best of items that
        have their weight in them, with a `history_weight` of 1 (`Teacher.weighted`).
    history_weight, item_weight : float arrays, shape (n_items,)
        w, and t of ``t_i (u . X_i)``.
    train, valid : csr_matrix, shape (n_users, n_items)
        Histories, and what is to be found by them.
    n_bytes : int, optional
        Of codes, codebooks and neighbours together; without it the fewest, of a least number and its doublings, that
        lose at most 2 % of `figure`; the items in int8 where those do not.
    seed : int
    reporter : Reporter
    shares : sequence of float
        Of the bytes, those that may go to neighbours: (0.0,) for none.
    figure : float
        N@20 on `valid` of what is coded, where it has neighbours, too.

    Raises
    ------
    InputError
        So few bytes hold no codes.
    """
    trial = _Trial(history_weight, item_weight, train, valid, seed)
    vectors, _ = _rotated(items, _normalised(trial, items))
    if n_bytes is not None:
        with reporter.busy(f"codes of {n_bytes:,} bytes"):
            return trial.stored(_searched(vectors, trial, n_bytes, seed, shares))
    with reporter.busy("items as they are"):
        wanted = (1 - _LOSS) * max(trial.figures(vectors)[0][0], figure)
    rows = _n_rows(len(items))
    least = max(2 * (len(items) + rows * min(vectors.shape[1], 32)), _level_bytes(len(items), rows, 1))
    for n_bytes in (least * 2**doubling for doubling in range(_DOUBLINGS)):
        if n_bytes >= vectors.size:
            break
        with reporter.busy(f"codes of {n_bytes:,} bytes"):
            found = _searched(vectors, trial, n_bytes, seed, shares)
        if found.figure >= wanted:
            return trial.stored(found)
    return ItemCodes.table(items, "int8"), None


def weighted_alone(
    items: np.ndarray, item_weight: np.ndarray, train: sp.csr_matrix, valid: sp.csr_matrix, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Items X (n_items, d) and t (n_items,) as they rank best on validation where few neighbours stand beside them.

    Directions of X are multiplied by a power of the energy that users' vectors have in them, t by one of the items'
    degrees. Parameters as in `fit_codes`, with a history weight of 1.
    """
    trial = _Trial(np.ones(len(items)), item_weight, train, valid, seed)
    vectors, energies = _rotated(items, _normalised(trial, items))
    factors = [(train.getnnz(axis=0) + 1.0) ** exponent for exponent in _DEGREES]
    tried = []
    for exponent in _DIRECTIONS:
        weighted = (vectors * (energies / energies[0]) ** exponent).astype(np.float32)
        users, table = torch.as_tensor(trial.composed(weighted)), torch.as_tensor(weighted)
        scales = [torch.as_tensor(trial.t * factor, dtype=torch.float32) for factor in factors]
        figures = trial.compared(partial(_scaled, users, table, scales))
        tried += [(figure, weighted, item_weight * factor) for figure, factor in zip(figures, factors, strict=True)]
    _, weighted, t = max(tried, key=lambda found: found[0])
    return weighted, t


def _scaled(users: Tensor, items: Tensor, scales: Sequence[Tensor], some: Tensor) -> Iterator[Tensor]:
    plain = product(users[some], items)
    return (plain * scale for scale in scales)


def _normalised(trial: _Trial, items: np.ndarray) -> np.ndarray:
    """Users' vectors as normalisation of the graph has them: their directions are those of its singular vectors."""
    share = np.maximum(trial.train.getnnz(axis=1), 1.0) ** -_FILTER.user
    return trial.composed(items) * share[:, None]


class _Trial:
    """How codes rank on validation, for some of its users."""

    def __init__(
        self,
        history_weight: np.ndarray,
        item_weight: np.ndarray,
        train: sp.csr_matrix,
        valid: sp.csr_matrix,
        seed: int,
    ) -> None:
        degrees = train.getnnz(axis=0)
        self.levels = degree_levels(degrees)
        # What a file holds of an item's weights is the mean of its level.
        self.w, self.t = (level_means(self.levels, x)[self.levels] for x in (history_weight, item_weight))
        self.train, self.valid = train.astype(np.float32), sampled_rows(valid, _CHOOSING_USERS, seed)
        self._degrees = np.maximum(degrees, 1.0)
        self._sources = (self._degrees**-_FILTER.history).astype(np.float32)

    def composed(self, vectors: np.ndarray) -> np.ndarray:
        """Vectors (n_users, d) of the users whose histories are given, float32."""
        return self.train @ (vectors * self.w[:, None]).astype(np.float32)

    @cached_property
    def nearest(self) -> sp.csr_matrix:
        """G, row i of which holds the j, float32."""
        found = item_filter(Csr(self.train.indptr, self.train.indices, self.train.shape[1]), _NEIGHBOURS, _FILTER)
        return sp.csr_matrix(sp.diags(self._degrees**_TARGET) @ found.weights, dtype=np.float32)

    def near(self, k: int) -> sp.csr_matrix:
        """The k entries of each row of G that say most."""
        g = self.nearest
        rows = np.repeat(np.arange(g.shape[0]), np.diff(g.indptr))
        kept = largest_of_rows(rows, g.data * self._sources[g.indices], k)
        return sp.csr_matrix((g.data[kept], (rows[kept], g.indices[kept])), g.shape)

    def fit(self, levels: list[Level], vectors: np.ndarray, k: int) -> _Fit:
        """Levels that decode to `vectors` (n_items, d), and k neighbours weighted as is best."""
        figures, mixes = self.figures(vectors, k)
        place = int(np.argmax(figures))
        return _Fit(figures[place], levels, k, mixes[place])

    def figures(self, vectors: np.ndarray, k: int = 0) -> tuple[list[float], list[float]]:
        """N@20 of vectors (n_items, d) with k neighbours at some weights, and these weights."""
        z = vectors.astype(np.float32)
        users, items = torch.as_tensor(self.composed(z)), torch.as_tensor(z * self.t[:, None])
        if not k:
            return self.compared(lambda some: [users[some] @ items.T]), [0.0]
        histories, g = self.train @ sp.diags(self._sources), self.near(k).T.tocsr()

        def parts(some: Tensor) -> tuple[Tensor, Tensor]:
            said = (histories[some.numpy()] @ g).toarray()
            return users[some] @ items.T, torch.as_tensor(said, dtype=torch.float32)

        sample = torch.as_tensor(np.flatnonzero(self.valid.getnnz(axis=1))[:_SPREAD_USERS])
        spreads = [part.std(dim=1).clamp_min(1e-30) for part in parts(sample)]
        mixes = [mix * float((spreads[0] / spreads[1]).median()) for mix in _MIXES]

        def variants(some: Tensor) -> Iterator[Tensor]:
            plain, said = parts(some)
            return (plain + mix * said for mix in mixes)

        return self.compared(variants), mixes

    def stored(self, found: _Fit) -> tuple[ItemCodes, Neighbours | None]:
        """Codes and neighbours as a file holds them."""
        codes = ItemCodes(tuple(found.levels))
        if not found.neighbours:
            return codes, None
        g = self.near(found.neighbours)
        weights = Csr.from_counts(np.diff(g.indptr), g.indices, g.shape[0])
        return codes, Neighbours.stored(weights, found.mix * g.data, level_means(self.levels, self._sources))

    def compared(self, variants: Callable[[Tensor], Iterable[Tensor]]) -> list[float]:
        """N@20 on validation of some ways to score."""
        return compare(variants, self.train, self.valid, "ndcg@20", torch.device("cpu"))


def _searched(vectors: np.ndarray, trial: _Trial, n_bytes: int, seed: int, shares: Sequence[float]) -> _Fit:
    """The best on validation of a few numbers of columns and of neighbours."""
    n_items, full = vectors.shape
    weights, most = trial.t.astype(np.float64) ** 2, _n_rows(n_items)
    neighbour = (2 if n_items < 2**16 else 4) + 1
    counts = sorted({min(_NEIGHBOURS, int(share * n_bytes) // (neighbour * n_items)) for share in shares})

    def fits(rows: int, d: int, some_counts: list[int], finer: int = 0) -> Iterator[_Fit]:
        slices = _slices(n_items, rows, d, n_bytes, finer)
        levels = _fitted(vectors[:, :d], weights, slices, rows, seed)
        for k in some_counts:
            left = n_bytes - (k * neighbour * n_items + 4 * _HEADER if k else 0)
            if some := levels[: len(_slices(n_items, rows, d, left, finer))]:
                yield trial.fit(some, _decoded(some, n_items, d), k)

    # No more than half of the bytes for the coarse codebook, or one column where that is still too much.
    widths = [d for d in (int(full * share) for share in _COLUMNS) if d and 2 * most * (d + 4) <= n_bytes]
    found = [fit for d in widths[:_WIDTHS] for fit in fits(most, d, counts)] or list(fits(most, 1, counts))
    if not found:
        least = _level_bytes(n_items, most, 1)
        raise InputError(f"{n_bytes:,} bytes are left for codes of {n_items:,} items", expected=f"{least:,} or more")
    best = max(found, key=_figure)
    d, k = best.levels[0].codebook.width, best.neighbours
    # Smaller codebooks of as many slices, and of twice as many.
    best = max([best, *(fit for finer in (1, 2) for fit in fits(max(1, most // 2), d, [k], finer))], key=_figure)
    levels = _again(vectors[:, :d], weights, best.levels)
    return max(best, trial.fit(levels, _decoded(levels, n_items, d), k), key=_figure)


def _figure(fit: _Fit) -> float:
    return fit.figure


def _rotated(items: np.ndarray, users: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Items (n_items, d) in the directions in which `users` (n_users, d) are largest: products stay as they are.

    With the users' energies in them, descending.
    """
    values, directions = np.linalg.eigh(users.T.astype(np.float64) @ users.astype(np.float64))
    least = 1e-12 * max(values[-1], np.finfo(np.float64).tiny)
    first = min(int(np.searchsorted(values, least, side="right")), len(values) - 1)
    directions, values = directions[:, first:][:, ::-1], values[first:][::-1]
    return (items @ directions).astype(np.float32), np.maximum(values, least)


def _n_rows(n_items: int) -> int:
    return min(_ROWS, max(1, n_items // _ITEMS_A_ROW))


def _level_bytes(n_items: int, rows: int, width: int) -> int:
    return n_items + rows * (width + 4) + _HEADER * _TENSORS


def _slices(n_items: int, rows: int, d: int, n_bytes: int, finer: int = 0) -> list[tuple[int, int]]:
    """Columns of the levels that so many bytes hold: all of the coarse one, then slices, round and round.

    There are as many slices as make the codes of a round weigh about what its codebooks do: of many items the codes
    are what costs, of few the codebooks are. `finer` doubles their number so many times.
    """
    n = min(d, 1 << finer + max(0, (rows * d // n_items).bit_length() - 1))
    stops = np.linspace(0, d, n + 1).astype(int).tolist()
    found, start, stop = [], 0, d
    while (n_bytes := n_bytes - _level_bytes(n_items, rows, stop - start)) >= 0:
        found.append((start, stop))
        place = (len(found) - 1) % n
        start, stop = stops[place], stops[place + 1]
    return found


def _fitted(
    vectors: np.ndarray,
    weights: np.ndarray,
    slices: list[tuple[int, int]],
    rows: int,
    seed: int,
) -> list[Level]:
    """One level after another, each k-means of what those before it leave; a row starts at an item drawn by weight."""
    rng, left, levels = np.random.default_rng(seed), vectors.copy(), []
    for start, stop in slices:
        target = left[:, start:stop]
        drawn = rng.choice(len(vectors), rows, replace=False, p=weights / weights.sum())
        level = _clustered(target, weights, target[drawn], start, _ROUNDS)
        target -= _part(level)
        levels.append(level)
    return levels


def _again(vectors: np.ndarray, weights: np.ndarray, levels: list[Level]) -> list[Level]:
    """Each level again, from where it is, to what all the others leave."""
    levels, left = list(levels), vectors - _decoded(levels, *vectors.shape)
    for place in list(range(len(levels))) * _AGAIN:
        level = levels[place]
        target = left[:, level.columns]
        target += _part(level)
        levels[place] = _clustered(target, weights, level.codebook.take(slice(None)), level.start, _ROUNDS_AGAIN)
        target -= _part(levels[place])
    return levels


def _clustered(target: np.ndarray, weights: np.ndarray, centres: np.ndarray, start: int, rounds: int) -> Level:
    """Weighted k-means of `target` (n_items, width) by Lloyd's rounds from `centres`, which are rounded to int8."""
    items, sums = np.arange(len(target)), target.astype(np.float32)
    codes = _nearest(sums, centres)
    for _ in range(rounds):
        mass = np.bincount(codes, weights, minlength=len(centres))
        used = mass > 0
        total = sp.csr_matrix((weights, (codes, items)), (len(centres), len(target))) @ sums
        centres = np.where(used[:, None], total / np.where(used, mass, 1.0)[:, None], centres)
        codes = _nearest(sums, centres)
    book = Rows.stored(centres, "int8")
    kind = np.uint8 if len(book) <= _ROWS else np.uint16
    return Level(book, _nearest(sums, book.take(slice(None))).astype(kind), start)


def _nearest(target: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """The nearest of `centres` (K, width) to each row of `target` (n, width): int (n,)."""
    near = centres.astype(np.float32)
    return ((near**2).sum(axis=1) / 2 - target @ near.T).argmin(axis=1)


def _part(level: Level) -> np.ndarray:
    """What a level adds to all items' vectors, float32 (n_items, width)."""
    return level.codebook.take(slice(None)).astype(np.float32)[level.codes]


def _decoded(levels: list[Level], n_items: int, d: int) -> np.ndarray:
    """Vectors (n_items, d) of codes, float32."""
    out = np.zeros((n_items, d), dtype=np.float32)
    for level in levels:
        out[:, level.columns] += _part(level)
    return out
