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

import argparse
import itertools
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import scipy.sparse as sp

from c2f_dgl.data.catalogue import load_dataset
from c2f_dgl.data.splits import Split
from c2f_dgl.evaluation.ranking import evaluate
from c2f_dgl.evaluation.served import Served
from c2f_dgl.export import codes as fitting
from c2f_dgl.export.trial import Trial
from c2f_dgl.io.files import write_text
from c2f_dgl.io.progress import Reporter
from c2f_dgl.serving import ItemCodes, Level, Neighbours, ServingModel
from c2f_dgl.serving.codes import degree_levels, level_means
from c2f_dgl.training.folder import processor, versions

RESULTS = Path(__file__).parent / "results" / "device"

_RANK, _OVERSAMPLED, _ROUNDS, _EXPONENT = 512, 40, 10, 0.4
_POWERS, _SCALES, _COLUMNS = (0.5, 1.0, 1.5), (0.2, 0.3, 0.4), (512, 256, 128, 64, 32)

# Dense tables decode to a matrix, codes to themselves.
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

    def best(self, some: Iterator[tuple[np.ndarray, Shrunk]]) -> Shrunk | None:
        """That whose vectors rank best on validation; None of none."""
        trial = self.trial
        tried = [(trial.figure(vectors)[0], number, found) for number, (vectors, found) in enumerate(some)]
        return max(tried)[2] if tried else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("--bytes", type=int, nargs="+", default=[100_000, 250_000, 500_000, 1_000_000, 2_000_000])
    parser.add_argument("--systems", nargs="+", default=list(SYSTEMS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[2024])
    arguments = parser.parse_args()
    for seed in arguments.seeds:
        split = load_dataset(arguments.dataset, seed=seed)
        path = RESULTS / f"{split.name}-{seed}.json"
        record = json.loads(path.read_text()) if path.exists() else {"data": split.name, "seed": seed, "rows": []}
        items, record["teacher"] = teacher(split, seed)
        for n_bytes in arguments.bytes:
            for name in arguments.systems:
                if any(row["system"] == name and row["budget"] == n_bytes for row in record["rows"]):
                    continue
                started = time.perf_counter()
                found = SYSTEMS[name](items, n_bytes - split.n_items)
                seconds = round(time.perf_counter() - started, 1)
                if found is None:
                    continue
                row = {"system": name, "budget": n_bytes, **figures(items, found), "seconds": seconds}
                record["rows"].append(row)
                print(name, row["bytes"], *(f"{row[part]['ndcg@20']:.4f}" for part in ("valid", "test")), flush=True)
                path.parent.mkdir(parents=True, exist_ok=True)
                write_text(
                    path, json.dumps({**record, "processor": processor(), "versions": versions()}, indent=2) + "\n"
                )


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

    def made(d: int, power: float, scale: float) -> Items:
        vectors = v[:, :d] * (s[:d] / s[0]) ** ((power - 1) / 2) * d_i[:, None] ** -_EXPONENT
        return Items(vectors.astype(np.float32), (d_i + 1) ** scale * d_i**_EXPONENT, split, seed)

    def figure(d: int, power: float, scale: float) -> float:
        items = made(d, power, scale)
        return items.trial.figure(items.vectors)[0]

    widths = [d for d in _COLUMNS if d < rank] + [rank]
    chosen = max(itertools.product(widths, _POWERS, _SCALES), key=lambda exponents: figure(*exponents))
    best = made(*chosen)
    record = dict(zip(("d", "power", "item_scale"), chosen, strict=True))
    return best, {**record, **figures(best, (ItemCodes.table(best.vectors), None, best.vectors.nbytes))}


def figures(items: Items, found: Shrunk) -> dict[str, Any]:
    """Bytes, and accuracy as it is served."""
    codes, near, size = found
    level, every = degree_levels(items.split.train.getnnz(axis=0)), np.arange(len(items.vectors))
    weights = level_means(level, np.ones(len(every))), level_means(level, items.item_weight)
    ranker = Served(ServingModel(codes, level, *weights, every, neighbours=near), items.split.train, every)
    parts = {"valid": items.split.valid, "test": items.split.test}
    found_figures = {name: evaluate(ranker, items.split.train, part, (20,)) for name, part in parts.items()}
    return {
        "bytes": size + len(every),
        "d": codes.d,
        "levels": sum(part.codes is not None for part in codes.levels),
        "neighbours": 0 if near is None else near.sources.shape[1],
        **found_figures,
    }


def _ours(shares: tuple[float, ...]) -> Callable[[Items, int], Shrunk | None]:
    def fit(items: Items, n_bytes: int) -> Shrunk | None:
        codes, near = fitting.fit_codes(items.vectors, items.trial, n_bytes, Reporter(quiet=True), shares)
        size = sum(_level_bytes(level) for level in codes.levels)
        return codes, near, size + (0 if near is None else near.sources.nbytes + near.levels.nbytes)

    return fit


def _coarse(items: Items, n_bytes: int) -> Shrunk | None:
    n, weights = len(items.vectors), items.item_weight**2

    def tried() -> Iterator[tuple[np.ndarray, Shrunk]]:
        for d in _columns(items):
            small, large = (n_bytes - n) // (d + 4), (n_bytes - 2 * n) // (d + 4)
            rows = min(large if large > 256 else min(small, 256), n // 2)
            if rows >= 2:
                level = fitting.fitted(items.vectors[:, :d], weights, [(0, d)], rows, items.seed)[0]
                yield fitting.part(level), (ItemCodes((level,)), None, _level_bytes(level))

    return items.best(tried())


def _level_bytes(level: Level) -> int:
    assert level.codes is not None and level.codebook.scale is not None
    return level.codes.nbytes + level.codebook.values.nbytes + level.codebook.scale.nbytes


def _product(rotated: bool) -> Callable[[Items, int], Shrunk | None]:
    def fit(items: Items, n_bytes: int) -> Shrunk | None:
        n = len(items.vectors)

        def tried() -> Iterator[tuple[np.ndarray, Shrunk]]:
            for d in _columns(items):
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
                found = quantizer.decode(quantizer.compute_codes(x))
                yield found, (ItemCodes.table(found), None, m * n + 256 * d)

        return items.best(tried())

    return fit


def _truncated(bits: int) -> Callable[[Items, int], Shrunk | None]:
    def fit(items: Items, n_bytes: int) -> Shrunk | None:
        n = len(items.vectors)
        scale_bytes = 0 if bits == 32 else 4
        d = min(items.vectors.shape[1], (n_bytes - scale_bytes * n) * 8 // (bits * n))
        if d < 1:
            return None
        x = items.vectors[:, :d].astype(np.float64)
        if bits < 32:
            step = np.abs(x).max(axis=1, keepdims=True).clip(1e-30) / (2 ** (bits - 1) - 1)
            x = np.rint(x / step) * step
        return ItemCodes.table(x), None, n * scale_bytes + (n * d * bits + 7) // 8

    return fit


def _pruned(items: Items, n_bytes: int) -> Shrunk | None:
    n, full = items.vectors.shape
    each = 2 if full <= 256 else 3
    kept = (n_bytes - 2 * n) // each
    if kept < n:
        return None
    # By what an entry adds to the scores of its item.
    size = np.abs(items.vectors * items.item_weight[:, None]).ravel()
    kept = min(kept, size.size)
    x = np.zeros(n * full, dtype=np.float32)
    largest = np.argpartition(-size, kept - 1)[:kept]
    x[largest] = items.vectors.ravel()[largest]
    return ItemCodes.table(x.reshape(n, full)), None, kept * each + 2 * n


def _columns(items: Items) -> list[int]:
    """A few numbers of columns."""
    full = items.vectors.shape[1]
    return sorted({full, full * 3 // 4, full // 2, full // 4})


SYSTEMS: dict[str, Callable[[Items, int], Shrunk | None]] = {
    "ours": _ours(fitting.SHARES),
    "fine": _ours((0.0,)),
    "coarse": _coarse,
    "opq": _product(True),
    "pq": _product(False),
    "int8": _truncated(8),
    "int4": _truncated(4),
    "float32": _truncated(32),
    "pruned": _pruned,
}


if __name__ == "__main__":
    main()
