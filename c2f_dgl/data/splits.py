"""Training, validation and test interactions: split by rule and by seed, without a loop, and what is odd in them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from c2f_dgl.data.columns import counted
from c2f_dgl.data.ids import as_text
from c2f_dgl.data.interactions import Interactions, binary_csr
from c2f_dgl.data.side import SideData
from c2f_dgl.errors import InputError

Protocol = Literal["paper", "full-test"]

# Of a user's training items, what validates where validation is drawn from them.
_VALID_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class Split:
    """Three binary matrices over the same users and items, no pair in two of them.

    Attributes
    ----------
    train, valid, test : csr_matrix, n_users x n_items, float32
        Ones, with sorted column indices.
    user_ids, item_ids : arrays, length n_users and n_items
        External ids, by internal index; int64, or object holding str.
    notes : tuple of str
        What was mended on the way in.
    side : SideData, optional
        Further relations, node types and features.
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

    def merged(self) -> Split:
        """Train and valid together as the training part, and nothing that validates."""
        train, none = csr_matrix(self.train + self.valid), csr_matrix(self.valid.shape, dtype=np.float32)
        train.sort_indices()
        return replace(self, train=train, valid=none, valid_from_train=False)

    def summary(self) -> str:
        """One line on what the split holds, and everything odd about it."""
        held_out = self.valid + self.test
        n_total = self.train.nnz + held_out.nnz
        user_train, item_train = self.train.getnnz(axis=1) > 0, self.train.getnnz(axis=0) > 0
        user_held, item_held = held_out.getnnz(axis=1) > 0, held_out.getnnz(axis=0) > 0
        no_test = user_train & (self.test.getnnz(axis=1) == 0)
        odd = [
            counted((user_held & ~user_train).sum(), "user", "without training items"),
            counted(no_test.sum() if self.test.nnz else 0, "user", "without test items"),
            counted((item_held & ~item_train).sum(), "item", "seen only in what is held out"),
            counted((~user_train & ~user_held).sum() + (~item_train & ~item_held).sum(), "isolated node"),
            _gaps("user", self.user_ids),
            _gaps("item", self.item_ids),
            *self.notes,
        ]
        density = 100 * n_total / max(self.n_users * self.n_items, 1)
        sizes = (
            f"{self.name}: {self.n_users:,} users, {self.n_items:,} items, {n_total:,} interactions "
            f"({self.train.nnz:,} train, {self.valid.nnz:,} valid, {self.test.nnz:,} test; {density:.3g}% dense)"
        )
        return "; ".join([sizes, *filter(None, odd)])


def _gaps(role: str, ids: np.ndarray) -> str:
    """The note that whole-number ids leave numbers out; nothing for text, or for ids that leave none out."""
    if ids.dtype == object or not len(ids) or ids[-1] - ids[0] + 1 == len(ids):
        return ""
    return f"{role} ids have gaps ({len(ids):,} ids from {ids[0]} to {ids[-1]})"


def check_part(split: Split, part: Literal["train", "valid", "test"]) -> None:
    """Refuse a split one part of which is empty."""
    if getattr(split, part).nnz == 0:
        command = "" if part == "train" else f", e.g. from c2f-dgl data split --{part} 0.2"
        raise InputError(f"no {part} interactions", where=split.name, expected=f"a split with some{command}")


def given_split(
    train: Interactions,
    *,
    valid: Interactions | None = None,
    test: Interactions | None = None,
    seed: int,
    name: str,
    protocol: Protocol = "paper",
) -> Split:
    """The split of given parts, whose external ids are matched; without `test` nothing tests.

    Without `valid` the protocol draws it. ``paper``: of each user's n test items max(1, ceil(n / 3)). ``full-test``,
    and where no user has two test items: of each user's training items a tenth, rounded at random, that leaves one. A
    pair that is also in an earlier part (train, then valid, then test) is dropped from the later one.
    """
    if test is None and valid is None:
        raise InputError("neither test nor valid", where=name, expected="one of them, or both")
    if protocol not in get_args(Protocol):
        raise InputError(f"no protocol {protocol!r}", where=name, expected=" or ".join(get_args(Protocol)))
    parts = {role: part for role, part in (("train", train), ("valid", valid), ("test", test)) if part is not None}
    user_ids, users = align_ids([part.user_ids for part in parts.values()])
    item_ids, items = align_ids([part.item_ids for part in parts.values()])
    shape = (len(user_ids), len(item_ids))
    matrices = {
        role: binary_csr(users[n][part.users], items[n][part.items], shape)
        for n, (role, part) in enumerate(parts.items())
    }
    texts = dict.fromkeys(note for part in parts.values() for note in part.notes)
    notes = [f"{', '.join(role for role, part in parts.items() if text in part.notes)}: {text}" for text in texts]
    seen = matrices["train"]
    for role, matrix in list(matrices.items())[1:]:
        fresh = csr_matrix(matrix - matrix.multiply(seen), dtype=np.float32)
        fresh.eliminate_zeros()
        fresh.sort_indices()
        if n_dropped := matrix.nnz - fresh.nnz:
            notes.append(f"{counted(n_dropped, 'pair', f'of {role} already in an earlier set')}, dropped from {role}")
        matrices[role], seen = fresh, seen + fresh
    for role, matrix in matrices.items():
        if matrix.nnz == 0:
            raise InputError(f"no {role} interactions", where=name, expected=f"{role} pairs that are in no earlier set")
    matrices.setdefault("test", csr_matrix(shape, dtype=np.float32))
    valid_from_train = False
    if valid is None:
        rng, per_user = np.random.default_rng(seed), matrices["test"].getnnz(axis=1)
        too_few = bool(per_user.max() < 2)
        valid_from_train = too_few or protocol == "full-test"
        if valid_from_train:
            n_valid = _training_items_to_validate(matrices["train"].getnnz(axis=1), rng, name)
            matrices["valid"], matrices["train"] = _draw(matrices["train"], n_valid, rng)
            notes.append("valid drawn from train" + (", no user has two test items" if too_few else ""))
        else:
            matrices["valid"], matrices["test"] = _draw(matrices["test"], -(-per_user // 3), rng)
            notes.append("valid drawn from test")
    three = matrices["train"], matrices["valid"], matrices["test"]
    return Split(name, *three, user_ids, item_ids, tuple(notes), valid_from_train=valid_from_train)


def _training_items_to_validate(per_user: np.ndarray, rng: np.random.Generator, name: str) -> npt.NDArray[np.int64]:
    """A tenth of each user's number of training items, rounded at random, one at least over all users."""
    spare = np.maximum(per_user - 1, 0)
    if not spare.any():
        problem = "no user has a training item to spare for validation"
        raise InputError(problem, where=name, expected="a valid file, or users with two training items")
    n_valid = np.minimum(_rounded_at_random(_VALID_SHARE * per_user, rng), spare)
    if not n_valid.any():
        n_valid[spare.argmax()] = 1
    return n_valid


def random_split(
    inter: Interactions, *, seed: int, valid: float = 0.1, test: float = 0.2, name: str = "random split"
) -> Split:
    """Hold out random fractions of each user's items; every user keeps at least one for training.

    Fractions are rounded to whole items; at random where all histories are so short that none would be held out.
    """
    check_fractions(valid, test)
    per_user, rng = np.bincount(inter.users, minlength=inter.n_users), np.random.default_rng(seed)
    spare = np.maximum(per_user - 1, 0)
    n_test = np.minimum(_rounded(per_user * test, rng), spare)
    n_valid = np.minimum(_rounded(per_user * valid, rng), spare - n_test)
    return _drawn_split(inter, n_valid, n_test, rng, name)


def _drawn_split(
    inter: Interactions, n_valid: np.ndarray, n_test: np.ndarray, rng: np.random.Generator, name: str
) -> Split:
    """A split that validates and tests on so many of each user's items, drawn at random."""
    held_out, train = _draw(inter.to_csr(), n_test + n_valid, rng)
    test, valid = _draw(held_out, n_test, rng)
    return Split(name, train, valid, test, inter.user_ids, inter.item_ids, inter.notes)


def _rounded(counts: np.ndarray, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Counts rounded; at random, which keeps the sum on average, where nothing would be left of any."""
    rounded = np.floor(counts + 0.5).astype(np.int64)
    return rounded if rounded.any() or not counts.any() else _rounded_at_random(counts, rng)


def _rounded_at_random(counts: np.ndarray, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Counts rounded up or down at random, so that each is kept on average."""
    return np.floor(counts + rng.random(len(counts))).astype(np.int64)


def leave_last_out(inter: Interactions, *, k: int = 1, name: str = "leave-last-out split") -> Split:
    """Test on each user's latest k items and validate on the k before; every user keeps at least one for training.

    Items with the same time count as later the higher their index. Who has too few for both validates on fewer.
    """
    per_user, n_valid, n_test = _k_each(inter, k)
    order = np.lexsort((inter.items, timestamps_of(inter, name), inter.users))
    from_last = per_user[inter.users] - _ranks_within(inter.users, order, per_user)  # 1 is the last
    in_test, held_out = (from_last <= n[inter.users] for n in (n_test, n_valid + n_test))
    return partition(inter, held_out & ~in_test, in_test, name)


def leave_k_out(inter: Interactions, *, k: int = 1, seed: int, name: str = "leave-k-out split") -> Split:
    """Test on k of each user's items drawn at random and validate on k others, as `leave_last_out` counts them."""
    _, n_valid, n_test = _k_each(inter, k)
    return _drawn_split(inter, n_valid, n_test, np.random.default_rng(seed), name)


def _k_each(inter: Interactions, k: int) -> tuple[npt.NDArray[np.int64], ...]:
    """How many items each user has, and how many of them validate and test: k, but one is left for training."""
    if k < 1:
        raise InputError(f"k = {k}", expected="items to leave out of each user, 1 or more")
    per_user = np.bincount(inter.users, minlength=inter.n_users)
    spare = np.maximum(per_user - 1, 0)
    n_test = np.minimum(k, spare)
    return per_user, np.minimum(2 * k, spare) - n_test, n_test


def temporal_split(
    inter: Interactions, *, valid: float = 0.1, test: float = 0.1, name: str = "temporal split"
) -> Split:
    """Cut all interactions at two moments: train before the first, test from the second on.

    Interactions of the same moment stay together, so the fractions of all are met as nearly as ties allow.
    """
    check_fractions(valid, test)
    stamps = timestamps_of(inter, name)
    ordered = np.sort(stamps)
    counts = (int(np.floor(len(inter) * part + 0.5)) for part in (test, valid + test))
    in_test, held_out = (stamps >= ordered[-n] if n else np.zeros(len(stamps), dtype=bool) for n in counts)
    if held_out.all():
        expected = "timestamps that differ, or smaller fractions"
        raise InputError("no interaction is left for training", where=name, expected=expected)
    return partition(inter, held_out & ~in_test, in_test, name)


def timestamps_of(inter: Interactions, name: str) -> np.ndarray:
    """The times of interactions (raises `InputError` where they have none)."""
    if inter.timestamps is None:
        expected = "a log with its time column named: --set data.timestamp=NAME"
        raise InputError("a split by time needs timestamps", where=name, expected=expected)
    return inter.timestamps


def check_fractions(valid: float, test: float) -> None:
    """Raise `InputError` for fractions that leave nothing."""
    if not (valid >= 0 and test >= 0 and valid + test < 1):
        problem = f"fractions valid = {valid:g} and test = {test:g} leave nothing to train on or are negative"
        raise InputError(problem, expected="0 or more, together below 1")


def partition(inter: Interactions, in_valid: np.ndarray, in_test: np.ndarray, name: str) -> Split:
    """The split of masks over the interactions."""
    shape = (inter.n_users, inter.n_items)
    train, valid, test = (
        binary_csr(inter.users[mask], inter.items[mask], shape) for mask in (~(in_valid | in_test), in_valid, in_test)
    )
    return Split(name, train, valid, test, inter.user_ids, inter.item_ids, inter.notes)


def align_ids(ids: list[np.ndarray]) -> tuple[np.ndarray, list[npt.NDArray[np.int64]]]:
    """Sorted id arrays merged into one, sorted and distinct, and the positions in it of each array's ids."""
    if any(part.dtype == object for part in ids):
        # A file whose text ids all happen to be numbers reads as numbers; they print back exactly as they were.
        ids = [as_text(part) for part in ids]
    merged, inverse = np.unique(np.concatenate(ids), return_inverse=True)
    return merged, np.split(inverse.astype(np.int64), np.cumsum([len(part) for part in ids])[:-1])


def _draw(
    matrix: csr_matrix, per_user: npt.NDArray[np.integer], rng: np.random.Generator
) -> tuple[csr_matrix, csr_matrix]:
    """``per_user[u]`` of user u's items drawn at random, without replacement, and the rest."""
    counts = matrix.getnnz(axis=1)
    users = np.repeat(np.arange(matrix.shape[0]), counts)
    drawn = _ranks_within(users, np.lexsort((rng.random(matrix.nnz), users)), counts) < per_user[users]
    chosen, rest = (binary_csr(users[mask], matrix.indices[mask], matrix.shape) for mask in (drawn, ~drawn))
    return chosen, rest


def _ranks_within(users: np.ndarray, order: np.ndarray, per_user: np.ndarray) -> npt.NDArray[np.int64]:
    """Each entry's rank, from 0, among its user's, where `order` sorts entries by user and then by rank."""
    ranks = np.empty(len(users), dtype=np.int64)
    ranks[order] = np.arange(len(users)) - np.repeat(np.cumsum(per_user) - per_user, per_user)
    return ranks
