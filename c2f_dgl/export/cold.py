"""Items that nobody has had yet: their vectors by ridge regression from features, coded as the others are.

    t_i z_i ~ X beta,    X features of items, t_i z_i what scores them    (items of the model)

A new item has the least popularity of the model and no neighbours. It is ranked at once; in a history it says what its
vector says.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler

from c2f_dgl.data.tables import read_table
from c2f_dgl.errors import InputError
from c2f_dgl.export.codes import nearest
from c2f_dgl.serving import ItemCodes, Level, Neighbours, Rows, ServingModel

# Ridges tried, by leaving each item out once: features have a variance of 1, or are words that occur or do not.
_RIDGES = np.logspace(-1, 5, 13)

# Words that are kept of a column of text, those of most items.
_WORDS, _WORD = 1_000, r"[^\s,;|]+"


def with_cold_items(model: ServingModel, path: str | Path) -> ServingModel:
    """The model with items added at its end: those of a table of ids and features that it does not have.

    Its first column is an item's id, the others are features: numbers (the mean where one is missing), or words between
    spaces, commas, semicolons and bars. `InputError` for a file that has no feature, fewer than two items of the model
    or no other, a new item twice, or new ids of another type than the model's.
    """
    path = Path(path)
    table = read_table(path, _feature_columns).frame.dropna(subset="item")
    ids, features = table["item"].to_numpy(dtype=object), _numbers(table.drop(columns="item"))
    rows = model.items.find(ids)
    known = rows >= 0
    if known.sum() < 2 or known.all():
        problem = f"has {known.sum():,} items of the model and {(~known).sum():,} others"
        raise InputError(problem, where=path, expected="two of them or more, and an item to add")
    new_ids = model.items.normalised(ids[~known])
    if new_ids is None:
        first = ids[~known][0]
        raise InputError(f"has an item {first!r}", where=path, expected="whole numbers, as the model's ids are")
    weight = model.item_weight[model.degree_level[rows[known]]].astype(np.float64)
    scoring = weight[:, None] * model.codes.take(rows[known])
    found = RidgeCV(_RIDGES).fit(features[known], scoring).predict(features[~known]).reshape(len(new_ids), -1)
    least = model.degree_level.min()
    return ServingModel(
        _with_vectors(model.codes, found / model.item_weight[least]),
        np.append(model.degree_level, np.full(len(new_ids), least)),
        model.history_weight,
        model.item_weight,
        model.items.extended(new_ids),
        neighbours=None if model.neighbours is None else _with_none(model.neighbours, len(new_ids)),
        titles=None if model.titles is None else np.append(model.titles, [""] * len(new_ids)),
        details={**model.details, "cold_items": len(new_ids) + model.details.get("cold_items", 0)},
    )


def _feature_columns(columns: list[str], path: Path) -> dict[str, int]:
    """Places of all columns, the first called ``item``."""
    if len(columns) < 2:
        raise InputError("has one column", where=path, expected="columns: id, features")
    return {"item" if place == 0 else f"feature {place}": place for place in range(len(columns))}


def _numbers(table: pd.DataFrame) -> np.ndarray:
    """Features (n, f), float64: columns of numbers with mean 0 and variance 1, words as 0 or 1."""
    blocks = []
    for _, column in table.items():
        numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
        if numbers.notna().sum() == column.notna().sum():
            blocks.append(StandardScaler().fit_transform(numbers.fillna(numbers.mean()).fillna(0.0).to_frame()))
        else:
            words = CountVectorizer(binary=True, token_pattern=_WORD, max_features=_WORDS)
            blocks.append(words.fit_transform(column.fillna("").astype(str)).toarray())
    return np.concatenate(blocks, axis=1, dtype=np.float64)


def _with_vectors(codes: ItemCodes, vectors: np.ndarray) -> ItemCodes:
    """Codes of further items from their vectors (n, d): of one level after another the nearest row to what is left."""
    left, levels = vectors.copy(), []
    for level in codes.levels:
        part = left[:, level.columns]
        if level.codes is None:
            old, new = level.codebook, Rows.stored(part, str(level.codebook.values.dtype))
            scale = None if old.scale is None or new.scale is None else np.append(old.scale, new.scale)
            levels.append(Level(Rows(np.concatenate([old.values, new.values]), scale), start=level.start))
        else:
            rows = level.codebook.take(slice(None))
            codes_of_part = nearest(part, rows)
            left[:, level.columns] -= rows[codes_of_part]
            added = np.append(level.codes, codes_of_part.astype(level.codes.dtype))
            levels.append(Level(level.codebook, added, level.start))
    return ItemCodes(tuple(levels))


def _with_none(neighbours: Neighbours, n: int) -> Neighbours:
    """Neighbours with n further items, which have none."""
    before, k = neighbours.sources.shape
    sources = np.full((before + n, k), before + n, dtype=np.uint16 if before + n < 2**16 else np.uint32)
    sources[:before] = np.where(neighbours.sources == before, before + n, neighbours.sources)
    levels = np.concatenate([neighbours.levels, np.zeros((n, k), dtype=np.uint8)])
    return Neighbours(sources, levels, neighbours.values, neighbours.history_weight)
