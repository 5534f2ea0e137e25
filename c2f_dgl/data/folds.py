"""Several splits of one log: windows that roll through time, and groups of users that a model does not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from c2f_dgl.data.interactions import Interactions
from c2f_dgl.data.splits import Split, check_fractions, partition, random_split, timestamps_of
from c2f_dgl.errors import InputError


def rolling_splits(
    inter: Interactions, folds: int = 3, *, valid: float = 0.1, test: float = 0.1, name: str = "rolling split"
) -> list[Split]:
    """Temporal splits that test on one window of time after the other, the last on that with the last interaction.

    A window has the share `test` of all interactions, as nearly as ties allow; the share `valid` before it validates,
    and all that is earlier trains. What is later than the window is left out. All have the same users and items.
    """
    _check_folds(folds)
    check_fractions(valid + (folds - 1) * test, test)
    stamps = timestamps_of(inter, name)
    ordered, n = np.sort(stamps), len(inter)
    first = [n - int(np.floor(test * (folds - fold) * n + 0.5)) for fold in range(folds)]  # of each window, by time
    since = lambda position: stamps >= ordered[min(max(position, 0), n - 1)]
    splits = []
    for fold, start in enumerate(first):
        late = since(first[fold + 1]) if fold + 1 < folds else np.zeros(n, dtype=bool)
        in_test = since(start) & ~late
        held_out = since(start - int(np.floor(valid * n + 0.5)))
        if not in_test.any() or held_out.all():
            problem = f"nothing is left to {'train' if in_test.any() else 'test'} on"
            expected = "fewer folds, smaller fractions or times that differ"
            raise InputError(f"{problem} in fold {fold + 1} of {folds}", where=name, expected=expected)
        known = replace(inter, users=inter.users[~late], items=inter.items[~late], timestamps=stamps[~late])
        masks = (held_out & ~in_test)[~late], in_test[~late]
        splits.append(partition(known, *masks, f"{name}, {fold + 1} of {folds}"))
    return splits


def user_folds(
    inter: Interactions,
    folds: int = 5,
    *,
    seed: int,
    valid: float = 0.1,
    test: float = 0.2,
    name: str = "folds of users",
) -> list[tuple[Split, Split]]:
    """Users drawn into groups, each of which is in turn unknown to a model (strong generalisation): a pair for each.

    The first of a pair is `random_split` of all other users, to train on; the second that of the group's users, whose
    training part is the history to fold in and whose test part is to be found. Both have all items.
    """
    _check_folds(folds)
    if folds > inter.n_users:
        raise InputError(f"{folds} folds of {inter.n_users:,} users", where=name, expected="a user for each fold")
    group = np.random.default_rng(seed).permutation(np.arange(inter.n_users) % folds)

    def split_of(chosen: np.ndarray, what: str) -> Split:
        kept, row = chosen[inter.users], np.cumsum(chosen) - 1  # users are renumbered
        stamps = None if inter.timestamps is None else inter.timestamps[kept]
        users, ids = row[inter.users[kept]], inter.user_ids[chosen]
        theirs = replace(inter, users=users, items=inter.items[kept], user_ids=ids, timestamps=stamps)
        return random_split(theirs, seed=seed, valid=valid, test=test, name=f"{name}, {what}")

    of = range(folds)
    return [(split_of(group != n, f"{n + 1} of {folds}"), split_of(group == n, f"new users of {n + 1}")) for n in of]


def _check_folds(folds: int) -> None:
    if folds < 2:
        raise InputError(f"{folds} folds", expected="2 or more")
