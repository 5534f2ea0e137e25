"""Users served by id: each is a history, kept in a file of its own beside the model's; and the forms these come in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from c2f_dgl.data.ids import IdMap, id_array, is_missing
from c2f_dgl.errors import InputError
from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.file import USERS, id_tensors, reading, write


class UserHistories:
    """What users (`ids`) have had of a model's `items`: `histories`, n_users x n_items. `added` returns another one."""

    def __init__(self, ids: IdMap, items: IdMap, histories: Csr) -> None:
        self.ids, self.items, self.histories = ids, items, histories

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def none(cls, items: IdMap) -> UserHistories:
        """No users; ids of those that are added are integers or text, as the first one's are."""
        empty = np.zeros(0, dtype=np.int64)
        return cls(IdMap(empty, "user"), items, Csr.from_counts(empty, empty, len(items)))

    @classmethod
    def load(cls, path: str | Path, items: IdMap) -> UserHistories:
        """Read a file of users; raises `InputError` where it is damaged, or of a model with other items."""
        with reading(path, USERS) as file:
            if file.manifest.get("items") != _fingerprint(items):
                raise file.refused("is of a model with other items", "the users that were exported with the model")
            n = file.whole("users", 0, 2**32)
            counts = file.tensor("counts", "U32", (n,)).astype(np.int64)
            columns = file.tensor("items", "U16 U32", (int(counts.sum()),), below=len(items))
            ids = file.ids("user", n)
            histories = Csr.from_counts(counts, columns, len(items))
            keys = histories.rows * len(items) + columns
            if len(np.unique(keys)) < len(keys):
                raise file.refused("a user has an item twice")
        return cls(ids, items, histories)

    def save(self, path: str | Path) -> int:
        """Write a file of users; its bytes come back."""
        kind, tensors = id_tensors(self.ids.ids)
        tensors["counts"] = self.histories.counts.astype(np.uint32)
        tensors["items"] = self.histories.columns.astype(np.uint16 if len(self.items) <= 2**16 else np.uint32)
        return write(path, USERS, {"users": len(self), "ids": kind, "items": _fingerprint(self.items)}, tensors)

    def of(self, users: Any) -> Csr:
        """Histories (n x n_items) of users by id."""
        return self.histories.take(self.ids.rows(users).reshape(-1))

    def added(self, interactions: Any) -> UserHistories:
        """With further interactions of known and new users, in any form that `read_pairs` takes.

        Raises `InputError` where an item is unknown, a user has none, or an id cannot be one of the users'.
        """
        if isinstance(interactions, Mapping):
            empty = next((user for user, history in interactions.items() if len(history) == 0), None)
            if empty is not None:
                raise InputError(f"user {empty!r} has no items", expected="one at least")
        users, items = read_pairs(interactions)
        columns, rows, ids = self.items.rows(items), self.ids.find(users), self.ids
        if (rows < 0).any():
            new = users[rows < 0]
            normalised = None if is_missing(new).any() else ids.normalised(new) if len(ids) else new
            if normalised is None:
                raise InputError(f"user {new.tolist()[0]!r}", expected="ids like those of the known users")
            ids = ids.extended(np.unique(normalised))
            rows = ids.find(users)
        before = self.histories
        pairs = np.concatenate([before.rows, rows]), np.concatenate([before.columns, columns])
        return UserHistories(ids, self.items, Csr.from_pairs(*pairs, (len(ids), len(self.items))))


def _fingerprint(items: IdMap) -> str:
    """What tells a model's items and their order from others."""
    return hashlib.sha256(b"".join(values.tobytes() for values in id_tensors(items.ids)[1].values())).hexdigest()


def read_pairs(data: Any) -> tuple[np.ndarray, np.ndarray]:
    """User and item ids from a mapping, a DataFrame, a pair of arrays or an (n, 2) array (raises `InputError`)."""
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        if missing := [name for name in ("user", "item") if name not in data.columns]:
            raise InputError(f"no column {missing[0]!r}", where="data frame", expected="columns user and item")
        users, items = data["user"].to_numpy(), data["item"].to_numpy()
    elif isinstance(data, Mapping):
        items, lengths = flat(data.values())
        users = np.repeat(id_array(list(data)), lengths)
    elif isinstance(data, tuple) and len(data) == 2:
        users, items = (id_array(ids).reshape(-1) for ids in data)
    else:
        pairs = id_array(data)
        if pairs.ndim != 2 or pairs.shape[1] != 2:
            raise InputError(f"pairs of shape {pairs.shape}", expected="a DataFrame, a mapping, two arrays, or (n, 2)")
        users, items = pairs.T
    if len(users) != len(items):
        raise InputError(f"{len(users):,} users and {len(items):,} items", expected="one item for each user")
    return users, items


def flat(histories: Iterable[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Histories as all of their item ids, and the length of each; text is refused, as no list of its letters."""
    lists: list[list[Any]] = []
    for history in histories:
        if isinstance(history, (str, bytes)) or not isinstance(history, Iterable):
            raise InputError(f"a history is {history!r:.40}", expected="a list of item ids")
        lists.append(list(history))
    lengths = np.fromiter(map(len, lists), dtype=np.int64, count=len(lists))
    return id_array(list(chain.from_iterable(lists))), lengths
