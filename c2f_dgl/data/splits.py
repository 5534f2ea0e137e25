"""Splits of interactions into training, validation and test sets; all of them seeded, none with a loop."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from c2f_dgl.data.interactions import Interactions, binary_csr
from c2f_dgl.data.side import SideData
from c2f_dgl.errors import InputError
from c2f_dgl.ids import as_text


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
    """

    name: str
    train: csr_matrix
    valid: csr_matrix
    test: csr_matrix
    user_ids: np.ndarray
    item_ids: np.ndarray
    notes: tuple[str, ...] = ()
    side: SideData | None = None

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
            _counted(int(((user_train == 0) & (user_held > 0)).sum()), "user", "without training items"),
            _counted(int(((user_train > 0) & (self.test.getnnz(axis=1) == 0)).sum()), "user", "without test items"),
            _counted(int(((item_train == 0) & (item_held > 0)).sum()), "item", "seen only in what is held out"),
            _counted(isolated, "isolated node", ""),
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


def given_split(
    train: Interactions,
    *,
    valid: Interactions | None = None,
    test: Interactions | None = None,
    seed: int,
    name: str,
) -> Split:
    """Use a split that comes as files, matched by external ids.

    Without `valid` the paper's rule makes one, and a note says so: of each user's n test items, max(1, ceil(n / 3))
    drawn at random validate and the rest tests. Without `test` nothing does. A pair that is also in an earlier set
    (train, then valid, then test) is dropped from the later one, as a model that has seen it would be tested on what it
    was told.

    Parameters
    ----------
    train, valid, test : Interactions
        Each with its own numbering of users and items.
    seed : int
        Of the draw; without effect where `valid` is given.
    name : str

    Raises
    ------
    InputError
        No test pair is left, or, without `valid`, all of them would validate; or neither part is given.
    """
    if test is None and valid is None:
        raise InputError("neither test nor valid", where=name, expected="one of them, or both")
    parts = {"train": train, "valid": valid, "test": test}
    given = {role: part for role, part in parts.items() if part is not None}
    user_ids, users = align_ids([part.user_ids for part in given.values()])
    item_ids, items = align_ids([part.item_ids for part in given.values()])
    shape = (len(user_ids), len(item_ids))
    matrices = {
        role: binary_csr(users[at][part.users], items[at][part.items], shape)
        for at, (role, part) in enumerate(given.items())
    }
    said = dict.fromkeys(note for part in given.values() for note in part.notes)
    notes = [f"{', '.join(role for role, part in given.items() if note in part.notes)}: {note}" for note in said]
    seen = matrices["train"]
    for role in [role for role in matrices if role != "train"]:
        fresh = _without(matrices[role], seen)
        if dropped := matrices[role].nnz - fresh.nnz:
            notes.append(f"{_counted(dropped, 'pair', f'of {role} already in an earlier set')}, dropped from {role}")
        matrices[role], seen = fresh, seen + fresh
    for role in matrices:
        if matrices[role].nnz == 0:
            raise InputError(f"no {role} interactions", where=name, expected=f"{role} pairs that are in no earlier set")
    matrices.setdefault("test", csr_matrix(shape, dtype=np.float32))
    if valid is None:
        per_user = matrices["test"].getnnz(axis=1)
        matrices["valid"], matrices["test"] = _draw(matrices["test"], -(-per_user // 3), np.random.default_rng(seed))
        if matrices["test"].nnz == 0:
            raise InputError(
                "validation, a third of each user's test items and at least one, leaves none to test on",
                where=name,
                expected="a valid file, or users with two test items",
            )
        notes.append("valid drawn from test")
    return Split(name, matrices["train"], matrices["valid"], matrices["test"], user_ids, item_ids, tuple(notes))


def check_part(split: Split, part: Literal["train", "valid", "test"]) -> None:
    """See that a part of a split is not empty.

    Raises
    ------
    InputError
        It is.
    """
    if getattr(split, part).nnz == 0:
        share = "" if part == "train" else f", e.g. from c2f-dgl data split --{part} 0.2"
        raise InputError(f"no {part} interactions", where=split.name, expected=f"a split with some{share}")


def random_split(
    inter: Interactions, *, seed: int, valid: float = 0.1, test: float = 0.2, name: str = "random split"
) -> Split:
    """Hold out a random part of each user's items; every user keeps at least one for training.

    Parameters
    ----------
    inter : Interactions
    seed : int
    valid, test : float
        Fractions of each user's items, rounded to whole items; at random where all histories are so short that none
        would be held out.
    name : str

    Raises
    ------
    InputError
        The fractions are negative or add up to 1 or more.
    """
    _check_fractions(valid, test)
    matrix = inter.to_csr()
    rng = np.random.default_rng(seed)
    per_user = matrix.getnnz(axis=1)
    spare = np.maximum(per_user - 1, 0)
    n_test = np.minimum(_whole(per_user * test, rng), spare)
    n_valid = np.minimum(_whole(per_user * valid, rng), spare - n_test)
    held_out, train = _draw(matrix, n_test + n_valid, rng)
    test_part, valid_part = _draw(held_out, n_test, rng)
    return Split(name, train, valid_part, test_part, inter.user_ids, inter.item_ids, inter.notes)


def _whole(counts: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Rounded (int64); at random, which keeps the sum on average, where nothing would be left of any."""
    rounded = np.floor(counts + 0.5).astype(np.int64)
    return rounded if rounded.any() or not counts.any() else np.floor(counts + rng.random(len(counts))).astype(np.int64)


def leave_last_out(inter: Interactions, *, name: str = "leave-last-out split") -> Split:
    """Test on each user's latest item and validate on the one before it; every user keeps at least one for training.

    Items with the same time count as later the higher their index.

    Raises
    ------
    InputError
        There are no timestamps.
    """
    stamps = _timestamps(inter, name)
    order = np.lexsort((inter.items, stamps, inter.users))
    per_user = np.bincount(inter.users, minlength=inter.n_users)
    # 0 is a user's first item, per_user - 1 the last.
    position = np.empty(len(inter), dtype=np.int64)
    position[order] = np.arange(len(inter)) - np.repeat(np.cumsum(per_user) - per_user, per_user)
    count = per_user[inter.users]
    in_test = (position == count - 1) & (count >= 2)
    in_valid = (position == count - 2) & (count >= 3)
    return _partition(inter, in_valid, in_test, name)


def temporal_split(
    inter: Interactions, *, valid: float = 0.1, test: float = 0.1, name: str = "temporal split"
) -> Split:
    """Cut all interactions at two moments: train before the first, test from the second on.

    Interactions of the same moment stay together, so the fractions are met as nearly as ties allow.

    Parameters
    ----------
    inter : Interactions
        With timestamps.
    valid, test : float
        Fractions of all interactions.
    name : str

    Raises
    ------
    InputError
        There are no timestamps, the fractions are negative or add up to 1 or more, or everything
        happened at one moment so that nothing is left to train on.
    """
    _check_fractions(valid, test)
    stamps = _timestamps(inter, name)
    ordered = np.sort(stamps)
    n_test, n_held_out = (int(np.floor(len(inter) * part + 0.5)) for part in (test, valid + test))
    in_test = _from_nth_last(stamps, ordered, n_test)
    in_held_out = _from_nth_last(stamps, ordered, n_held_out)
    if in_held_out.all():
        raise InputError(
            "no interaction is left for training", where=name, expected="timestamps that differ, or smaller fractions"
        )
    return _partition(inter, in_held_out & ~in_test, in_test, name)


def _from_nth_last(stamps: np.ndarray, ordered: np.ndarray, n: int) -> npt.NDArray[np.bool_]:
    """Mark everything not before the n-th last moment of `ordered`."""
    return stamps >= ordered[-n] if n else np.zeros(len(stamps), dtype=bool)


def _timestamps(inter: Interactions, name: str) -> np.ndarray:
    if inter.timestamps is None:
        raise InputError(
            "a split by time needs timestamps",
            where=name,
            expected="a log with its time column named: --set data.timestamp=NAME",
        )
    return inter.timestamps


def _check_fractions(valid: float, test: float) -> None:
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        raise InputError(
            f"fractions valid = {valid:g} and test = {test:g} leave nothing to train on or are negative",
            expected="0 or more, together below 1",
        )


def _partition(inter: Interactions, in_valid: np.ndarray, in_test: np.ndarray, name: str) -> Split:
    """Build a split from masks over the interactions."""
    shape = (inter.n_users, inter.n_items)
    train, valid, test = (
        binary_csr(inter.users[mask], inter.items[mask], shape) for mask in (~(in_valid | in_test), in_valid, in_test)
    )
    return Split(name, train, valid, test, inter.user_ids, inter.item_ids, inter.notes)


def align_ids(ids: list[np.ndarray]) -> tuple[np.ndarray, list[npt.NDArray[np.int64]]]:
    """Merge sorted id arrays.

    Returns
    -------
    merged : array
        Sorted and distinct.
    positions : list of int64 arrays
        Where the ids of each array stand in `merged`.
    """
    if any(part.dtype == object for part in ids):
        # A file whose text ids all happen to be numbers reads as numbers; they print back exactly as they were.
        ids = [as_text(part) for part in ids]
    merged, inverse = np.unique(np.concatenate(ids), return_inverse=True)
    return merged, np.split(inverse.astype(np.int64), np.cumsum([len(part) for part in ids])[:-1])


def _without(matrix: csr_matrix, other: csr_matrix) -> csr_matrix:
    """Drop from `matrix` the pairs that `other` has too; both binary."""
    rest = matrix - matrix.multiply(other)
    rest.eliminate_zeros()
    rest.sort_indices()
    return csr_matrix(rest, dtype=np.float32)


def _draw(
    matrix: csr_matrix, per_user: npt.NDArray[np.integer], rng: np.random.Generator
) -> tuple[csr_matrix, csr_matrix]:
    """Draw ``per_user[u]`` of user u's items at random, without replacement.

    Returns
    -------
    drawn, rest : csr_matrix, float32
    """
    counts = matrix.getnnz(axis=1)
    users = np.repeat(np.arange(matrix.shape[0]), counts)
    order = np.lexsort((rng.random(matrix.nnz), users))
    rank = np.empty(matrix.nnz, dtype=np.int64)
    rank[order] = np.arange(matrix.nnz) - np.repeat(matrix.indptr[:-1], counts)
    drawn = rank < per_user[users]
    return tuple(  # type: ignore[return-value]
        binary_csr(users[mask], matrix.indices[mask], matrix.shape) for mask in (drawn, ~drawn)
    )


def _counted(count: int, noun: str, rest: str) -> str:
    """Say ``"1 user ..."`` or ``"12 users ..."``; nothing for none."""
    return f"{count:,} {noun}{'s' if count > 1 else ''} {rest}".rstrip() if count else ""


def _gaps(role: str, ids: np.ndarray) -> str:
    """Say that whole-number ids leave numbers out; nothing for text, or for ids that leave none out."""
    if ids.dtype == object or not len(ids) or ids[-1] - ids[0] + 1 == len(ids):
        return ""
    return f"{role} ids have gaps ({len(ids):,} ids from {ids[0]} to {ids[-1]})"
