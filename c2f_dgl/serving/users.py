"""Users served by id: each is a history, kept in a file of its own beside the model's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from c2f_dgl.data.ids import IdMap, is_missing
from c2f_dgl.errors import InputError
from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.file import USERS, id_tensors, reading, write
from c2f_dgl.serving.pairs import read_pairs


class UserHistories:
    """What users have had, as rows of a model's items. It never changes: `added` returns another one.

    Parameters
    ----------
    ids : IdMap
        Of the users.
    items : IdMap
        Of the model.
    histories : Csr, n_users x n_items
    """

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
        """Read a file of users of the model that has these items.

        Raises
        ------
        InputError
            No such file, damaged, or of a model with other items.
        """
        with reading(path, USERS) as file:
            if file.manifest.get("items") != _fingerprint(items):
                raise file.refused("is of a model with other items", "the users that were exported with the model")
            n = file.whole("users", 0, 2**32)
            counts = file.tensor("counts", "U32", (n,)).astype(np.int64)
            columns = file.tensor("items", "U16 U32", (int(counts.sum()),))
            ids = file.ids("ids", n, file.choice("ids", ("integers", "text")))
            histories = Csr.from_counts(counts, file.below(columns, "items", len(items)), len(items))
            keys = histories.rows * len(items) + columns
            if len(np.unique(keys)) < len(keys):
                raise file.refused("a user has an item twice")
        try:
            return cls(IdMap(ids, "user"), items, histories)
        except InputError as error:
            raise InputError(str(error), where=path) from error

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

        Raises
        ------
        InputError
            An item is unknown, a user has none, or an id cannot be one of the users'.
        """
        if isinstance(interactions, Mapping):
            without = next((user for user, history in interactions.items() if len(history) == 0), None)
            if without is not None:
                raise InputError(f"user {without!r} has no items", expected="one at least")
        users, items = read_pairs(interactions)
        columns, rows, ids = self.items.rows(items), self.ids.find(users), self.ids
        if (rows < 0).any():
            new = users[rows < 0]
            fresh = None if is_missing(new).any() else ids.normalised(new) if len(ids) else new
            if fresh is None:
                raise InputError(f"user {new.tolist()[0]!r}", expected="ids like those of the known users")
            ids = ids.extended(np.unique(fresh))
            rows = ids.find(users)
        before = self.histories
        pairs = np.concatenate([before.rows, rows]), np.concatenate([before.columns, columns])
        return UserHistories(ids, self.items, Csr.from_pairs(*pairs, (len(ids), len(self.items))))


def _fingerprint(items: IdMap) -> str:
    """What tells a model's items and their order from others."""
    digest = hashlib.sha256()
    for part in id_tensors(items.ids)[1].values():
        digest.update(part.tobytes())
    return digest.hexdigest()
