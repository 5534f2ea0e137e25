"""Splits of interactions into training, validation and test sets; all of them seeded, none with a loop."""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_matrix

from c2f_dgl.data.interactions import Interactions, binary_csr
from c2f_dgl.data.parts import Split, counted
from c2f_dgl.errors import InputError
from c2f_dgl.ids import as_text

Protocol = Literal["paper", "full-test"]

# Of a user's training items, what validates where validation is drawn from them.
_VALID_SHARE = 0.1


def given_split(
    train: Interactions,
    *,
    valid: Interactions | None = None,
    test: Interactions | None = None,
    seed: int,
    name: str,
    protocol: Protocol = "paper",
) -> Split:
    """Use a split that comes as files, matched by external ids.

    Without `valid` the protocol makes one, and a note says so. ``paper``: of each user's n test items,
    max(1, ceil(n / 3)) drawn at random validate and the rest tests. ``full-test``, the literature's: all test items
    test, and a tenth of each user's training items, rounded at random to a whole number that leaves one for training,
    validates; so it is under ``paper`` where no user has two test items. Without `test` nothing tests. A pair that is
    also in an earlier set (train, then valid, then test) is dropped from the later one, as a model that has seen it
    would be tested on what it was told.

    Parameters
    ----------
    train, valid, test : Interactions
        Each with its own numbering of users and items.
    seed : int
        Of the draw; without effect where `valid` is given.
    name : str
    protocol : {"paper", "full-test"}
        Likewise.

    Raises
    ------
    InputError
        No test pair is left, neither part is given, validation is to come from users with one training item each, or
        there is no such protocol.
    """
    if test is None and valid is None:
        raise InputError("neither test nor valid", where=name, expected="one of them, or both")
    if protocol not in get_args(Protocol):
        raise InputError(f"no protocol {protocol!r}", where=name, expected=" or ".join(get_args(Protocol)))
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
            notes.append(f"{counted(dropped, 'pair', f'of {role} already in an earlier set')}, dropped from {role}")
        matrices[role], seen = fresh, seen + fresh
    for role in matrices:
        if matrices[role].nnz == 0:
            raise InputError(f"no {role} interactions", where=name, expected=f"{role} pairs that are in no earlier set")
    matrices.setdefault("test", csr_matrix(shape, dtype=np.float32))
    valid_from_train = False
    if valid is None:
        rng, per_user = np.random.default_rng(seed), matrices["test"].getnnz(axis=1)
        too_few = bool(per_user.max() < 2)
        valid_from_train = too_few or protocol == "full-test"
        if valid_from_train:
            matrices["valid"], matrices["train"] = _draw_from_train(matrices["train"], rng, name)
            notes.append("valid drawn from train" + (", no user has two test items" if too_few else ""))
        else:
            matrices["valid"], matrices["test"] = _draw(matrices["test"], -(-per_user // 3), rng)
            notes.append("valid drawn from test")
    train_part, valid_part, test_part = (matrices[role] for role in parts)
    return Split(
        name, train_part, valid_part, test_part, user_ids, item_ids, tuple(notes), valid_from_train=valid_from_train
    )


def _draw_from_train(train: csr_matrix, rng: np.random.Generator, name: str) -> tuple[csr_matrix, csr_matrix]:
    """A tenth of each user's training items, rounded at random, one at least over all users; and the rest."""
    per_user = train.getnnz(axis=1)
    n_valid = np.minimum(_at_random(_VALID_SHARE * per_user, rng), np.maximum(per_user - 1, 0))
    if not n_valid.any():
        n_valid[per_user.argmax()] = per_user.max() > 1
    if not n_valid.any():
        raise InputError(
            "no user has a training item to spare for validation",
            where=name,
            expected="a valid file, or users with two training items",
        )
    return _draw(train, n_valid, rng)


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
    return rounded if rounded.any() or not counts.any() else _at_random(counts, rng)


def _at_random(counts: np.ndarray, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    """Rounded up or down at random, so that each is kept on average."""
    return np.floor(counts + rng.random(len(counts))).astype(np.int64)


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
