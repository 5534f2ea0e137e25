"""Bytes against accuracy of device models: codes of ours beside other ways to make a table of items small.

    python -m benchmarks.device DATASET [--bytes 100000 250000 ...] [--systems ours ...] [--seeds 2024 ...]

All systems shrink one teacher, the truncated SVD of D_u^(-2/5) R D_i^(-2/5) with the power of its singular values and
the exponent of its items' degrees chosen on validation; a user is the sum of what their history decodes to. Bytes are
those of codes, codebooks, neighbours and a byte of popularity an item. Rotations cost nothing, for products stay as
they are. Where a system leaves the number of columns open, validation chooses it.

A record goes to benchmarks/results/device/<data>-<seed>.json; what it holds already is left out.

- ours: codes and neighbours; fine: a coarse and fine codes alone; coarse: one codebook, as large as fits
- pq, opq: faiss, codebooks counted in int8
- int8, int4, float32: a truncated SVD, with a scale an item; pruned: the entries of the SVD largest by magnitude, a
  byte of value and a place each
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import faiss
import numpy as np
import scipy.sparse as sp

from benchmarks import measure
from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.evaluation.served import Served
from c2f_dgl.export import codes as fitting
from c2f_dgl.export.trial import Trial
from c2f_dgl.io.progress import Reporter
from c2f_dgl.serving import ItemCodes, Level, Neighbours, ServingModel
from c2f_dgl.serving.codes import degree_levels, level_means
from c2f_dgl.training.folder import processor, versions

_RANK, _OVERSAMPLED, _ROUNDS, _EXPONENT = 512, 40, 10, 0.4
_POWERS, _SCALES, _COLUMNS = (0.5, 1.0, 1.5), (0.2, 0.3, 0.4), (512, 256, 128, 64, 32)

# What a system makes of the items, and its bytes. Dense tables decode to a matrix, codes to themselves.
Shrunk = tuple[ItemCodes, Neighbours | None, int]


@dataclass(frozen=True, eq=False)
class Items:
    """The teacher: vectors (n_items, d) with what a history weighs them by in them, and t (n_items,)."""

    vectors: np.ndarray
    item_weight: np.ndarray
    split: Split
    seed: int

    @property
    def trial(self) -> Trial:
        """How vectors rank on validation."""
        return Trial(self.item_weight, self.split.train, self.split.valid, self.seed)

    def best(self, tried: Iterator[tuple[np.ndarray, Shrunk]]) -> Shrunk | None:
        """That whose vectors rank best on validation, the last of equals; None of none."""
        trial = self.trial
        scored = [(trial.figure(vectors)[0], number, shrunk) for number, (vectors, shrunk) in enumerate(tried)]
        return max(scored)[2] if scored else None

    @property
    def widths(self) -> list[int]:
        """A few numbers of columns."""
        full = self.vectors.shape[1]
        return sorted({full, full * 3 // 4, full // 2, full // 4})


def main(
    dataset: str,
    bytes: Sequence[int] = (100_000, 250_000, 500_000, 1_000_000, 2_000_000),
    systems: Sequence[str] = (),
    seeds: Sequence[int] = (2024,),
) -> None:
    for seed in seeds:
        split = load_dataset(dataset, seed=seed)
        name = f"{split.name}-{seed}"
        record = measure.read("device", name) or {"data": split.name, "seed": seed, "rows": []}
        items, record["teacher"] = teacher(split, seed)
        for budget, system in itertools.product(bytes, systems or SYSTEMS):
            if any(row["system"] == system and row["budget"] == budget for row in record["rows"]):
                continue
            started = time.perf_counter()
            shrunk = SYSTEMS[system](items, budget - split.n_items)
            seconds = round(time.perf_counter() - started, 1)
            if shrunk is None:
                continue
            row = {"system": system, "budget": budget, **figures(items, shrunk), "seconds": seconds}
            record["rows"].append(row)
            print(system, row["bytes"], *(f"{row[part]['ndcg@20']:.4f}" for part in ("valid", "test")), flush=True)
            measure.keep("device", name, {**record, "processor": processor(), "versions": versions()})


def teacher(split: Split, seed: int) -> tuple[Items, dict[str, Any]]:
    """The SVD at the exponents that rank best on validation, and its record."""
    train = split.train.astype(np.float32)
    d_u, d_i = (np.maximum(train.getnnz(axis=axis), 1.0) for axis in (1, 0))
    matrix = sp.csr_matrix(sp.diags(d_u**-_EXPONENT) @ train @ sp.diags(d_i**-_EXPONENT), dtype=np.float32)
    rank = min(_RANK, min(matrix.shape) // 2)
    basis = np.random.default_rng(seed).standard_normal((matrix.shape[1], rank + _OVERSAMPLED)).astype(np.float32)
    for _ in range(_ROUNDS):
        basis = np.linalg.qr(matrix.T @ (matrix @ basis))[0]
    _, s, vt = np.linalg.svd(matrix @ basis, full_matrices=False)
    s, v = s[:rank], basis @ vt[:rank].T

    def at(d: int, power: float, scale: float) -> Items:
        vectors = v[:, :d] * (s[:d] / s[0]) ** ((power - 1) / 2) * d_i[:, None] ** -_EXPONENT
        return Items(vectors.astype(np.float32), (d_i + 1) ** scale * d_i**_EXPONENT, split, seed)

    def score(exponents: tuple[int, float, float]) -> float:
        items = at(*exponents)
        return items.trial.figure(items.vectors)[0]

    widths = [d for d in _COLUMNS if d < rank] + [rank]
    chosen = max(itertools.product(widths, _POWERS, _SCALES), key=score)
    best = at(*chosen)
    record = dict(zip(("d", "power", "item_scale"), chosen, strict=True))
    return best, {**record, **figures(best, (ItemCodes.table(best.vectors), None, best.vectors.nbytes))}


def figures(items: Items, shrunk: Shrunk) -> dict[str, Any]:
    """Bytes, and accuracy as it is served."""
    codes, near, size = shrunk
    train, n_items = items.split.train, len(items.vectors)
    level, every = degree_levels(train.getnnz(axis=0)), np.arange(n_items)
    weights = level_means(level, np.ones(n_items)), level_means(level, items.item_weight)
    ranker = Served(ServingModel(codes, level, *weights, every, neighbours=near), train, every)
    return {
        "bytes": size + n_items,
        "d": codes.d,
        "levels": sum(part.codes is not None for part in codes.levels),
        "neighbours": 0 if near is None else near.sources.shape[1],
        "valid": evaluate(ranker, train, items.split.valid, (20,)),
        "test": evaluate(ranker, train, items.split.test, (20,)),
    }


def ours(items: Items, n_bytes: int, shares: tuple[float, ...]) -> Shrunk:
    """The package's codes; `shares` of the bytes may go to neighbours."""
    codes, near = fitting.fit_codes(items.vectors, items.trial, n_bytes, Reporter(quiet=True), shares)
    size = sum(_level_bytes(level) for level in codes.levels)
    return codes, near, size + (0 if near is None else near.sources.nbytes + near.levels.nbytes)


def coarse(items: Items, n_bytes: int) -> Shrunk | None:
    """One codebook, as large as fits."""

    weights = items.trial.t.astype(np.float64) ** 2

    def tried() -> Iterator[tuple[np.ndarray, Shrunk]]:
        n = len(items.vectors)
        for d in items.widths:
            small, large = (n_bytes - n) // (d + 4), (n_bytes - 2 * n) // (d + 4)
            rows = min(large if large > 256 else min(small, 256), n // 2)
            if rows >= 2:
                level = fitting.fitted(items.vectors[:, :d], weights, [(0, d)], rows, items.seed)[0]
                yield fitting.part(level), (ItemCodes((level,)), None, _level_bytes(level))

    return items.best(tried())


def _level_bytes(level: Level) -> int:
    assert level.codes is not None and level.codebook.scale is not None
    return level.codes.nbytes + level.codebook.values.nbytes + level.codebook.scale.nbytes


def product(items: Items, n_bytes: int, rotated: bool) -> Shrunk | None:
    """Product quantisation by faiss, optimised by a rotation or not, with 256 centres in int8 a slice."""

    def tried() -> Iterator[tuple[np.ndarray, Shrunk]]:
        n = len(items.vectors)
        for d in items.widths:
            m = min(d, (n_bytes - 256 * d) // n)
            if m < 1 or n < 256:
                continue
            d -= d % m
            x = np.ascontiguousarray(items.vectors[:, :d])
            quantizer: Any = faiss.ProductQuantizer(d, m, 8)
            quantizer.cp.min_points_per_centroid = 1  # few items are no reason to warn
            if rotated:
                rotation: Any = faiss.OPQMatrix(d, m)
                rotation.niter, rotation.pq = 10, quantizer
                rotation.train(x)
                x = rotation.apply(x)
            quantizer.train(x)
            decoded = quantizer.decode(quantizer.compute_codes(x))
            yield decoded, (ItemCodes.table(decoded), None, m * n + 256 * d)

    return items.best(tried())


def truncated(items: Items, n_bytes: int, bits: int) -> Shrunk | None:
    """As many columns as fit, with a scale an item below 32 bits."""
    n, scale_bytes = len(items.vectors), 0 if bits == 32 else 4
    d = min(items.vectors.shape[1], (n_bytes - scale_bytes * n) * 8 // (bits * n))
    if d < 1:
        return None
    x = items.vectors[:, :d].astype(np.float64)
    if bits < 32:
        step = np.abs(x).max(axis=1, keepdims=True).clip(1e-30) / (2 ** (bits - 1) - 1)
        x = np.rint(x / step) * step
    return ItemCodes.table(x), None, n * scale_bytes + (n * d * bits + 7) // 8


def pruned(items: Items, n_bytes: int) -> Shrunk | None:
    """The entries that add most to the scores of their items."""
    n, full = items.vectors.shape
    entry_bytes = 2 if full <= 256 else 3
    count = (n_bytes - 2 * n) // entry_bytes
    if count < n:
        return None
    size = np.abs(items.vectors * items.item_weight[:, None]).ravel()
    count = min(count, size.size)
    x = np.zeros(n * full, dtype=np.float32)
    largest = np.argpartition(-size, count - 1)[:count]
    x[largest] = items.vectors.ravel()[largest]
    return ItemCodes.table(x.reshape(n, full)), None, count * entry_bytes + 2 * n


SYSTEMS: dict[str, Callable[[Items, int], Shrunk | None]] = {
    "ours": partial(ours, shares=fitting.SHARES),
    "fine": partial(ours, shares=(0.0,)),
    "coarse": coarse,
    "opq": partial(product, rotated=True),
    "pq": partial(product, rotated=False),
    "int8": partial(truncated, bits=8),
    "int4": partial(truncated, bits=4),
    "float32": partial(truncated, bits=32),
    "pruned": pruned,
}


if __name__ == "__main__":
    measure.command(main)
