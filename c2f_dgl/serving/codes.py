"""What a device model holds of items: short codes (or a table of embeddings as it is), and a few neighbours of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.file import Checked, Tensors

# Numbers of a table that are held in float64 at once, and scores that stay in the processor's cache.
_BLOCK, _CACHED = 2**21, 2**19


@dataclass(frozen=True, eq=False)
class Rows:
    """Vectors as they are stored: floats, or int8 with a scale a row."""

    values: np.ndarray  # (n, width), float32, float16 or int8
    scale: np.ndarray | None = None  # (n,), float32; with int8 alone

    @classmethod
    def stored(cls, matrix: np.ndarray, dtype: str) -> Rows:
        """Round a float matrix (n, width) to ``"float32"``, ``"float16"`` or ``"int8"``."""
        if dtype != "int8":
            return cls(matrix.astype(dtype))
        scale = (np.abs(matrix).max(axis=1, initial=0.0) / 127).astype(np.float32)
        scale[scale == 0] = 1.0
        return cls(np.rint(matrix / scale[:, None].astype(np.float64)).clip(-127, 127).astype(np.int8), scale)

    @classmethod
    def read(cls, file: Checked, name: str, n: int | None, width: int | None) -> Rows:
        """Rows of a file, of any number and width where these are None."""
        values = file.tensor(name, "F32 F16 I8", (n, width), 2**20)
        return cls(values, file.tensor(f"{name}_scale", "F32", (len(values),)) if values.dtype == np.int8 else None)

    def tensors(self, name: str) -> Tensors:
        """As a file holds them."""
        return {name: self.values} | ({} if self.scale is None else {f"{name}_scale": self.scale})

    def __len__(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        return self.values.shape[1]

    def take(self, rows: np.ndarray | slice) -> np.ndarray:
        """Some rows, float64."""
        values = self.values[rows].astype(np.float64)
        return values if self.scale is None else values * self.scale[rows, None]

    def products(self, vectors: np.ndarray, rows: np.ndarray | slice) -> np.ndarray:
        """Dot products (rows, n) of some rows with `vectors` (n, width), float64."""
        products = self.values[rows].astype(np.float64) @ vectors.T
        return products if self.scale is None else products * self.scale[rows, None]


@dataclass(frozen=True, eq=False)
class Level:
    """One codebook of meta-embeddings and the one that each item has of it: E^c, or a part of E^r."""

    codebook: Rows  # (K, width)
    codes: np.ndarray | None = None  # (n_items,), uint8 or uint16; None of a table that has a row for each item
    start: int = 0  # first of the columns of an item's vector that the level adds to

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
            by_code = np.bincount(cells, weights, minlength=n * size).reshape(n, size)
            if self.codebook.scale is not None:
                by_code = by_code * self.codebook.scale
            return by_code @ self.codebook.values.astype(np.float64)
        out = np.zeros((n, self.codebook.width))
        if len(filled := np.flatnonzero(histories.counts)):
            vectors = self.take(histories.columns) * weights[:, None]
            out[filled] = np.add.reduceat(vectors, histories.pointers[filled], axis=0)
        return out

    def products(self, vectors: np.ndarray) -> Callable[[np.ndarray | slice], np.ndarray]:
        """A function of some items to their dot products (items, n) with `vectors` (n, width), float64."""
        if (codes := self.codes) is None:
            return lambda items: self.codebook.products(vectors, items)
        table = self.codebook.products(vectors, slice(None))
        return lambda items: np.take(table, codes[items], axis=0)


@dataclass(frozen=True, eq=False)
class ItemCodes:
    """Vectors of items, z_i = sum over levels of the codebook rows that their codes name, the coarse level first."""

    levels: tuple[Level, ...]

    @classmethod
    def table(cls, matrix: np.ndarray, dtype: str = "float32") -> ItemCodes:
        """Items without codes: vectors (n_items, d) as they are, in float32, float16 or int8."""
        return cls((Level(Rows.stored(matrix, dtype)),))

    @classmethod
    def read(cls, file: Checked, n_items: int) -> ItemCodes:
        """Codes of a file."""
        d = file.whole("d", 1, 2**20)
        starts: Any = file.manifest.get("starts")
        whole = isinstance(starts, list) and all(type(start) is int for start in starts)
        if not whole or not 1 <= len(starts) <= 256:
            raise file.refused("starts of the manifest are not 1 to 256 whole numbers")
        if file.has("table"):
            return cls((Level(Rows.read(file, "table", n_items, d)),))
        levels = []
        for number, start in enumerate(starts):
            codebook = Rows.read(file, f"codebook_{number}", None, None)
            if not 0 <= start <= d - codebook.width:
                raise file.refused(f"level {number} begins at {start}", f"0 to {d - codebook.width}")
            codes = file.tensor(f"code_{number}", "U8 U16", (n_items,), below=len(codebook))
            levels.append(Level(codebook, codes, start))
        item_codes, n_columns = cls(tuple(levels)), sum(level.codebook.width for level in levels)
        if item_codes.d != d or n_columns < d:
            raise file.refused(f"levels of {n_columns} columns reach to column {item_codes.d}", f"all of d = {d}")
        return item_codes

    def tensors(self) -> tuple[Tensors, Tensors]:
        """Codes and codebooks as a file holds them."""
        codes: Tensors = {}
        codebooks: Tensors = {}
        for number, level in enumerate(self.levels):
            codebooks |= level.codebook.tensors("table" if level.codes is None else f"codebook_{number}")
            if level.codes is not None:
                codes[f"code_{number}"] = level.codes
        return codes, codebooks

    @property
    def n_items(self) -> int:
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
        products = [level.products(vectors[:, level.columns]) for level in self.levels]
        out = np.zeros((m, n))  # columns lie in rows, as they are looked up
        step = max(1, min(_CACHED // max(n, 1), _BLOCK // self.d))
        for start in range(0, m, step):
            block = slice(start, start + step)
            for products_of in products:
                out[block] += products_of(block if items is None else items[block])
        return out.T


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Sum over a history's items j of v_j G_ji, with G kept at a few j of each i and rounded to a byte."""

    sources: np.ndarray  # (n_items, k), uint16 or uint32: the j of each i; n_items where there is none
    levels: np.ndarray  # (n_items, k), uint8: of G_ji in `values`
    values: np.ndarray  # (at most 256,), float32: G by level, the weight against the codes in it
    history_weight: np.ndarray  # (at most 256,), float32: v by popularity level

    @classmethod
    def stored(cls, neighbours: Csr, values: np.ndarray, history_weight: np.ndarray) -> Neighbours:
        """Round weights to a byte each: G_ji >= 0 of each entry (n_entries,) of rows i that hold the j."""
        n_items, k = neighbours.n_rows, int(neighbours.counts.max(initial=0))
        sources = np.full((n_items, k), n_items, dtype=np.uint16 if n_items < 2**16 else np.uint32)
        levels = np.zeros((n_items, k), dtype=np.uint8)
        entry = neighbours.rows, np.arange(len(neighbours.columns)) - neighbours.pointers[neighbours.rows]
        largest = max(float(values.max(initial=0.0)), np.finfo(np.float32).tiny)
        sources[entry] = neighbours.columns
        # Squares: most weights are far below the largest.
        levels[entry] = np.rint(255 * np.sqrt(values / largest))
        steps = largest * np.linspace(0, 1, 256) ** 2
        return cls(sources, levels, steps.astype(np.float32), history_weight.astype(np.float32))

    @classmethod
    def read(cls, file: Checked, n_items: int, last_level: int) -> Neighbours:
        """Neighbours of a file, whose items have popularity levels up to `last_level`."""
        sources = file.tensor("neighbours", "U16 U32", (n_items, None), n_items, below=n_items + 1)
        values = file.tensor("neighbour_value", "F32", (None,), 256)
        levels = file.tensor("neighbour_level", "U8", sources.shape, below=len(values))
        weight = file.tensor("neighbour_history_weight", "F32", (None,), 256)
        if len(weight) <= last_level:
            raise file.refused(f"neighbour_history_weight has {len(weight)} values", f"more than {last_level}")
        return cls(sources, levels, values, weight)

    def tensors(self) -> Tensors:
        """As a file holds them."""
        return {
            "neighbours": self.sources,
            "neighbour_level": self.levels,
            "neighbour_value": self.values,
            "neighbour_history_weight": self.history_weight,
        }

    @cached_property
    def _by_source(self) -> tuple[Csr, np.ndarray]:
        """The i that each j is a source of, and the level of each entry."""
        n_items, k = self.sources.shape
        order = np.argsort(self.sources.ravel(), kind="stable")
        counts = np.bincount(self.sources.ravel(), minlength=n_items + 1)[:n_items]
        order = order[: counts.sum()]  # after it those without a source
        targets = (order // max(k, 1)).astype(self.sources.dtype)
        return Csr.from_counts(counts, targets, n_items), self.levels.ravel()[order]

    def add_scores(self, histories: Csr, degree_level: np.ndarray, out: np.ndarray) -> None:
        """Add what histories (n x n_items) say about all items to `out` (n, n_items); `degree_level` is (n_items,)."""
        by_source, levels = self._by_source
        places, counts = by_source.places(histories.columns), by_source.counts[histories.columns]
        weights = np.repeat(self.history_weight[degree_level[histories.columns]].astype(np.float64), counts)
        weights *= self.values[levels[places]]
        np.add.at(out, (np.repeat(histories.rows, counts), by_source.columns[places]), weights)

    def contributions(self, history: np.ndarray, item: int, degree_level: np.ndarray) -> np.ndarray:
        """What each item of a history (int, (n,)) adds to the score of `item`: float64 (n,)."""
        same = history[:, None] == self.sources[item]
        weights = np.where(same, self.values[self.levels[item]].astype(np.float64), 0.0).sum(axis=1)
        return self.history_weight[degree_level[history]] * weights


def degree_levels(degrees: np.ndarray) -> np.ndarray:
    """Log-spaced levels of items by their number of interactions (n,): uint8, of which every one up to the last occurs.

    Degrees up to some 40 have levels of their own.
    """
    logs = np.log1p(degrees)
    rounded = np.rint(255 * logs / max(float(logs.max(initial=0.0)), 1.0))
    return np.unique(rounded, return_inverse=True)[1].astype(np.uint8)


def level_means(levels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Mean of the `values` of items (n,) in each of the levels that occur, float32."""
    return (np.bincount(levels, values) / np.bincount(levels)).astype(np.float32)
