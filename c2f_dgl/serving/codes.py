"""Items as short codes: a coarse meta-embedding and a few fine ones each, or a table of embeddings as it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from c2f_dgl.serving.csr import Csr

# Numbers of a table that are held in float64 at once, and scores that stay in the processor's cache.
_BLOCK, _CACHED = 2**21, 2**19


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

    def products(self, vectors: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """Dot products (rows, n) of some rows with `vectors` (n, width), float64."""
        found = self.values[rows].astype(np.float64) @ vectors.T
        return found if self.scale is None else found * self.scale[rows, None]


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

    def sums(self, histories: Csr, weights: np.ndarray) -> np.ndarray:
        """Its part (n_rows, width) of weighted sums over histories (see `ItemCodes.sums`)."""
        n, size = histories.n_rows, len(self.codebook)
        # Counting codes first, where that holds fewer numbers than the vectors of all entries.
        if self.codes is not None and n * size <= len(weights) * self.codebook.width:
            cells = histories.rows * size + self.codes[histories.columns]
            said = np.bincount(cells, weights, minlength=n * size).reshape(n, size)
            if self.codebook.scale is not None:
                said = said * self.codebook.scale
            return said @ self.codebook.values.astype(np.float64)
        out = np.zeros((n, self.codebook.width))
        if len(reached := np.flatnonzero(histories.counts)):
            sent = self.take(histories.columns) * weights[:, None]
            out[reached] = np.add.reduceat(sent, histories.pointers[reached], axis=0)
        return out


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
        for level in self.levels:
            out[:, level.columns] += level.sums(histories, weights)
        return out

    def products(self, vectors: np.ndarray, items: np.ndarray | None = None) -> np.ndarray:
        """Dot products of `vectors` (n, d), float64, with all items, or some (int, (m,)): float64 (n, m)."""
        n, m = len(vectors), self.n_items if items is None else len(items)
        slices = [vectors[:, level.columns] for level in self.levels]
        # Of codebooks a product each, to look up by code; the columns of `out` lie in rows, as they are looked up.
        tables = [
            None if level.codes is None else level.codebook.products(part, slice(None))
            for level, part in zip(self.levels, slices, strict=True)
        ]
        out = np.zeros((m, n))
        step = max(1, min(_CACHED // max(n, 1), _BLOCK // self.d))
        for start in range(0, m, step):
            some = slice(start, start + step)
            at = some if items is None else items[some]
            for level, part, table in zip(self.levels, slices, tables, strict=True):
                if level.codes is None or table is None:
                    out[some] += level.codebook.products(part, at)
                else:
                    out[some] += np.take(table, level.codes[at], axis=0)
        return out.T


def degree_levels(degrees: np.ndarray) -> np.ndarray:
    """Log-spaced levels of items by their number of interactions (n,): uint8, of which every one up to the last occurs.

    Degrees up to some 40 have levels of their own; of larger ones several share a level.
    """
    logs = np.log1p(degrees)
    rounded = np.rint(255 * logs / max(float(logs.max(initial=0.0)), 1.0))
    return np.unique(rounded, return_inverse=True)[1].astype(np.uint8)


def level_means(levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the `values` of items (n,) in each of the levels that occur, float32."""
    return (np.bincount(levels, values) / np.bincount(levels)).astype(np.float32)
