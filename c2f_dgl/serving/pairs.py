"""Users and items in the forms that people have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from typing import Any

import numpy as np

from c2f_dgl.data.ids import id_array
from c2f_dgl.errors import InputError


def read_pairs(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """User and item ids from a mapping, a DataFrame, a pair of arrays or an (n, 2) array.

    Raises
    ------
    InputError
        `data` is none of these, or not as many users as items.
    """
    users, items = _columns_of(data)
    if len(users) != len(items):
        raise InputError(f"{len(users):,} users and {len(items):,} items", expected="one item for each user")
    return users, items


def flat(histories: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Histories as all of their item ids, and the length of each.

    Raises
    ------
    InputError
        One is no list: text is one id, and no list of its letters.
    """
    lists = list(map(_listed, histories))
    lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    return id_array(list(chain.from_iterable(lists))), lengths


def _columns_of(data: Any) -> tuple[np.ndarray, np.ndarray]:
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        missing = [name for name in ("user", "item") if name not in data.columns]
        if missing:
            raise InputError(f"no column {missing[0]!r}", where="data frame", expected="columns user and item")
        return data["user"].to_numpy(), data["item"].to_numpy()
    if isinstance(data, Mapping):
        items, lengths = flat(data.values())
        return np.repeat(id_array(list(data)), lengths), items
    if isinstance(data, tuple) and len(data) == 2:
        return id_array(data[0]).reshape(-1), id_array(data[1]).reshape(-1)
    pairs = id_array(data)
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise InputError(f"pairs of shape {pairs.shape}", expected="a DataFrame, a mapping, two arrays, or (n, 2)")
    return pairs[:, 0], pairs[:, 1]


def _listed(history: Any) -> list[Any]:
    if isinstance(history, (str, bytes)) or not isinstance(history, Iterable):
        raise InputError(f"a history is {history!r:.40}", expected="a list of item ids")
    return list(history)
