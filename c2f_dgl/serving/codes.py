"""Items as short codes: a coarse meta-embedding and a few fine ones each, or a table of embeddings as it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from c2f_dgl.serving.csr import Csr

# Numbers of a table that are held in float64 at once.
_BLOCK = 2**21


@dataclass(frozen=True, eq=False)
class Rows:
    """Vectors as they are stored: floats, or int8 with a scale a row.

    Attributes
    ----------
    values : float32, float16 or int8 array, shape (n, width)
    scale : float32 array, shape (n,), or None
        With int8 alone.
    """

    values: np.ndarray
    scale: np.ndarray | None = None

    @classmethod
    def stored(cls, matrix: np.ndarray, dtype: str) -> Rows:
        """Round a float matrix (n, width) to ``"float32"``, ``"float16"`` or ``"int8"``."""
        if dtype != "int8":
            return cls(matrix.astype(dtype))
        largest = np.abs(matrix).max(axis=1, initial=0.0)
        scale = (largest / 127).astype(np.float32)
        scale[scale == 0] = 1.0
        return cls(np.rint(matrix / scale[:, None].astype(np.float64)).clip(-127, 127).astype(np.int8), scale)

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        """Columns."""
        return self.values.shape[1]

    def take(self, rows: np.ndarray | slice) -> np.ndarray:
        """Some rows, float64."""
        taken = self.values[rows].astype(np.float64)
        return taken if self.scale is None else taken * self.scale[rows, None]

    def products(self, vectors: np.ndarray, rows: slice) -> np.ndarray:
        """Dot products (n, rows) of `vectors` (n, width), float64, with some rows."""
        found = vectors @ self.values[rows].astype(np.float64).T
        return found if self.scale is None else found * self.scale[rows]


@dataclass(frozen=True, eq=False)
class Level:
    """One codebook of meta-embeddings and the one that each item has of it: E^c, or a part of E^r.

    Attributes
    ----------
    codebook : Rows
        (K, width).
    codes : uint8 or uint16 array, shape (n_items,), or None
        Rows of the codebook; None where the codebook is a table that has a row for each item.
    start : int
        First of the `width` columns of an item's vector that the level adds to.
    """

    codebook: Rows
    codes: np.ndarray | None = None
    start: int = 0

    @property
    def columns(self) -> slice:
        """Where the level adds to an item's vector."""
        return slice(self.start, self.start + self.codebook.width)

    def take(self, items: np.ndarray) -> np.ndarray:
        """Its part (n, width) of the vectors of some items (int, (n,)), float64."""
        return self.codebook.take(items if self.codes is None else self.codes[items])

    def products(self, vectors: np.ndarray, items: np.ndarray | None = None) -> Iterator[tuple[slice, np.ndarray]]:
        """Dot products of `vectors` (n, width) with all or some items, in slices of these."""
        if self.codes is not None:
            tables = self.codebook.products(vectors, slice(None))
            codes = self.codes if items is None else self.codes[items]
            yield slice(None), np.take(tables, codes, axis=1)
            return
        step = max(1, _BLOCK // self.codebook.width)
        for start in range(0, len(self.codebook) if items is None else len(items), step):
            some = slice(start, start + step)
            if items is None:
                yield some, self.codebook.products(vectors, some)
            else:
                yield some, vectors @ self.codebook.take(items[some]).T


@dataclass(frozen=True, eq=False)
class ItemCodes:
    """Vectors of items, z_i = sum over levels of the codebook rows that their codes name.

    Attributes
    ----------
    levels : tuple of Level
        The coarse one first. Full width one upon another is a residual structure, side by side a product structure.
    """

    levels: tuple[Level, ...]

    @classmethod
    def table(cls, matrix: np.ndarray, dtype: str = "float32") -> ItemCodes:
        """Items without codes: vectors (n_items, d) as they are, in float32, float16 or int8."""
        return cls((Level(Rows.stored(matrix, dtype)),))

    @property
    def n_items(self) -> int:
        """Number of items."""
        first = self.levels[0]
        return len(first.codebook if first.codes is None else first.codes)

    @property
    def d(self) -> int:
        """Length of an item's vector."""
        return max(level.columns.stop for level in self.levels)

    def take(self, items: np.ndarray) -> np.ndarray:
        """z of some items (int, (n,)): (n, d), float64."""
        out = np.zeros((len(items), self.d))
        for level in self.levels:
            out[:, level.columns] += level.take(items)
        return out

    def sums(self, histories: Csr, weights: np.ndarray) -> np.ndarray:
        """Sum of weight x z over each history: (n_rows, d), float64; `weights` (n_entries,) in the entries' order."""
        out = np.zeros((histories.n_rows, self.d))
        reached = np.flatnonzero(histories.counts)
        if len(reached):
            starts = histories.pointers[reached]
            for level in self.levels:
                sent = level.take(histories.columns) * weights[:, None]
                out[reached, level.columns] += np.add.reduceat(sent, starts, axis=0)
        return out

    def products(self, vectors: np.ndarray, items: np.ndarray | None = None) -> np.ndarray:
        """Dot products of `vectors` (n, d), float64, with all items, or some (int, (m,)): float64 (n, m)."""
        out = np.zeros((len(vectors), self.n_items if items is None else len(items)))
        for level in self.levels:
            for some, found in level.products(vectors[:, level.columns], items):
                out[:, some] += found
        return out


def degree_levels(degrees: np.ndarray) -> np.ndarray:
    """Log-spaced levels of items by their number of interactions (n,): uint8, of which every one up to the last occurs.

    Degrees of at most some 40 are told apart, larger ones are not: an item's exact degree cannot be read from it.
    """
    logs = np.log1p(degrees)
    rounded = np.rint(255 * logs / max(float(logs.max(initial=0.0)), 1.0))
    return np.unique(rounded, return_inverse=True)[1].astype(np.uint8)


def level_means(levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the `values` of items (n,) in each of the levels that occur, float32."""
    return (np.bincount(levels, values) / np.bincount(levels)).astype(np.float32)
