"""The parts of a data set: training, validation and test interactions, and what is odd about them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.sparse import csr_matrix

from c2f_dgl.data.side import SideData


@dataclass(frozen=True, eq=False)
class Split:
    """Three binary matrices over the same users and items, no pair in two of them.

    Attributes
    ----------
    name : str
        The data set's name, or that of its file.
    train, valid, test : csr_matrix, n_users x n_items, float32
        Ones, with sorted column indices.
    user_ids, item_ids : arrays, length n_users and n_items
        External ids, by internal index; int64, or object holding str.
    notes : tuple of str
        What was mended on the way in.
    side : SideData, optional
        Further relations, node types and features (see `c2f_dgl.data.relations`).
    valid_from_train : bool
        Whether `valid` was drawn from a given training part, so that train and valid together are what others train on.
    """

    name: str
    train: csr_matrix
    valid: csr_matrix
    test: csr_matrix
    user_ids: np.ndarray
    item_ids: np.ndarray
    notes: tuple[str, ...] = ()
    side: SideData | None = None
    valid_from_train: bool = False

    @property
    def n_users(self) -> int:
        """Users, with or without interactions."""
        return self.train.shape[0]

    @property
    def n_items(self) -> int:
        """Items, with or without interactions."""
        return self.train.shape[1]

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the shape, of the three matrices' indices and of `side`; ids do not enter."""
        digest = hashlib.sha256(np.array(self.train.shape, dtype="<i8").tobytes())
        for part in (self.train, self.valid, self.test):
            # scipy picks 32 or 64 bit indices by size; the digest must not.
            digest.update(part.indptr.astype("<i8").tobytes())
            digest.update(part.indices.astype("<i8").tobytes())
        if self.side is not None:
            digest.update(self.side.digest())
        return digest.hexdigest()

    def summary(self) -> str:
        """Say in one line what the split holds, and everything odd about it."""
        total = self.train.nnz + self.valid.nnz + self.test.nnz
        held_out = self.valid + self.test
        user_train, user_held = self.train.getnnz(axis=1), held_out.getnnz(axis=1)
        item_train, item_held = self.train.getnnz(axis=0), held_out.getnnz(axis=0)
        # Users and items that nobody has interactions for count once, as isolated.
        isolated = int(((user_train + user_held) == 0).sum() + ((item_train + item_held) == 0).sum())
        odd = [
            counted(int(((user_train == 0) & (user_held > 0)).sum()), "user", "without training items"),
            counted(int(((user_train > 0) & (self.test.getnnz(axis=1) == 0)).sum()), "user", "without test items"),
            counted(int(((item_train == 0) & (item_held > 0)).sum()), "item", "seen only in what is held out"),
            counted(isolated, "isolated node", ""),
            _gaps("user", self.user_ids),
            _gaps("item", self.item_ids),
            *self.notes,
        ]
        density = 100 * total / max(self.n_users * self.n_items, 1)
        return "; ".join(
            [
                f"{self.name}: {self.n_users:,} users, {self.n_items:,} items, {total:,} interactions "
                f"({self.train.nnz:,} train, {self.valid.nnz:,} valid, {self.test.nnz:,} test; {density:.3g}% dense)",
                *filter(None, odd),
            ]
        )


def counted(count: int, noun: str, rest: str) -> str:
    """Say ``"1 user ..."`` or ``"12 users ..."``; nothing for none."""
    return f"{count:,} {noun}{'s' if count > 1 else ''} {rest}".rstrip() if count else ""


def _gaps(role: str, ids: np.ndarray) -> str:
    """Say that whole-number ids leave numbers out; nothing for text, or for ids that leave none out."""
    if ids.dtype == object or not len(ids) or ids[-1] - ids[0] + 1 == len(ids):
        return ""
    return f"{role} ids have gaps ({len(ids):,} ids from {ids[0]} to {ids[-1]})"
