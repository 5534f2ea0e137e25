"""Small device models, made by hand."""

from __future__ import annotations

import numpy as np

from c2f_dgl.serving import Csr, ItemCodes, Level, Neighbours, Rows, ServingModel
from c2f_dgl.serving.codes import degree_levels, level_means

STRUCTURES = ("residual", "product", "mixed", "table", "float16 table", "int8 table")


def coded(
    seed: int = 0, *, structure: str = "mixed", near: bool = True, n_items: int = 20, d: int = 6, text: bool = False
) -> ServingModel:
    """A model of random codes; ids are 100, 101, ... or ``item-0``, ``item-1``, ..."""
    rng = np.random.default_rng(seed)
    if structure.endswith("table"):
        codes = ItemCodes.table(rng.normal(size=(n_items, d)), structure.removesuffix("table").strip() or "float32")
    else:
        slices = {
            "residual": [(0, d), (0, d), (0, d)],
            "product": [(0, 2), (2, d)],
            "mixed": [(0, d), (0, 2), (2, d), (1, 4)],
        }[structure]
        levels = []
        for number, (start, stop) in enumerate(slices):
            size, kind = (300, np.uint16) if number == 1 else (5, np.uint8)
            codebook = Rows.stored(rng.normal(size=(size, stop - start)), ("int8", "float16", "float32")[number % 3])
            levels.append(Level(codebook, rng.integers(0, size, n_items).astype(kind), start))
        codes = ItemCodes(tuple(levels))
    degrees = rng.integers(1, 200, n_items)
    levels_ = degree_levels(degrees)
    neighbours = None
    if near:
        rows, columns = rng.integers(0, n_items, (2, 3 * n_items))
        weights = Csr.from_pairs(rows, columns, (n_items, n_items))
        neighbours = Neighbours.stored(weights, rng.random(len(weights.columns)), level_means(levels_, degrees**-0.2))
    ids = np.array([f"item-{n}" for n in range(n_items)], dtype=object) if text else np.arange(n_items) + 100
    titles = np.array([f"The {n}th – ünder" for n in range(n_items)], dtype=object) if text else None
    weights_ = level_means(levels_, degrees**-0.4), level_means(levels_, (degrees + 1) ** 0.2)
    return ServingModel(codes, levels_, *weights_, ids, neighbours=neighbours, titles=titles, details={"data": "made"})


def dense_scores(model: ServingModel, histories: Csr) -> np.ndarray:
    """Scores by decoded tables and dense matrices alone."""
    n = model.n_items
    z = np.zeros((n, model.codes.d))
    for level in model.codes.levels:
        book = level.codebook.values.astype(np.float64)
        if level.codebook.scale is not None:
            book = book * level.codebook.scale[:, None].astype(np.float64)
        z[:, level.start : level.start + book.shape[1]] += book if level.codes is None else book[level.codes]
    r = np.zeros((histories.n_rows, n))
    r[histories.rows, histories.columns] = 1
    w, t = (x.astype(np.float64)[model.degree_level] for x in (model.history_weight, model.item_weight))
    scores = ((r * w) @ z) @ z.T * t
    if (near := model.neighbours) is not None:
        g = np.zeros((n + 1, n))
        for target in range(n):
            np.add.at(g[:, target], near.sources[target], near.values[near.levels[target]])
        scores += (r * near.history_weight.astype(np.float64)[model.degree_level]) @ g[:n]
    return scores
