"""A data set with known communities: coarse ones with finer ones inside, and power-law degrees.

Only `Generator.random` is drawn on, whose stream numpy keeps from version to version, so a seed stands for its files.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from c2f_dgl.data.interactions import Interactions, distinct
from c2f_dgl.data.splits import random_split
from c2f_dgl.data.writers import write_lightgcn
from c2f_dgl.errors import InputError
from c2f_dgl.io.files import replacing_folder

Labels = dict[str, npt.NDArray[np.int64]]

# Interactions drawn at a time: bounds the memory that a draw takes.
DRAWN_AT_A_TIME = 1 << 22
# Pairs that come up twice are drawn again. Users whose favourites are used up might do so for long.
MOST_ROUNDS = 64
SAMPLE_SEED = 2024


def generate_planted(
    n_users: int,
    n_items: int,
    n_interactions: int,
    n_coarse: int,
    n_fine_per_coarse: int,
    *,
    seed: int,
    within_fine: float = 0.55,
    within_coarse: float = 0.3,
    activity_exponent: float = 0.5,
    popularity_exponent: float = 0.7,
    min_per_user: int = 8,
) -> tuple[Interactions, Labels]:
    """Draw interactions of users and items that live in fine communities inside coarse ones; and their labels.

    Each interaction stays within the user's fine community with probability `within_fine`, else within the coarse one
    with `within_coarse`, else goes anywhere; there it picks an item by popularity. Activity and popularity fall as
    ``rank ** -exponent``, ranks being random. A few less than `n_interactions` come out where users have used up what
    they would draw. Labels are ``user_coarse``, ``user_fine`` (n_users,), ``item_coarse``, ``item_fine`` (n_items,);
    fine ones count through: coarse = fine // n_fine_per_coarse.
    """
    n_fine = n_coarse * n_fine_per_coarse
    _check(n_users, n_items, n_interactions, n_fine, min_per_user, (within_fine, within_coarse))
    rng = np.random.default_rng(seed)
    user_fine, item_fine = _permutation(n_users, rng) % n_fine, _permutation(n_items, rng) % n_fine
    quotas = _quotas(n_users, n_items, n_interactions, min_per_user, activity_exponent, rng)
    popularity = (1.0 + _permutation(n_items, rng)) ** -popularity_exponent

    # Items in the order of their communities: a fine one is a run inside the run of its coarse one, so that one
    # table of cumulated popularity serves for draws from either and from the whole.
    by_community = np.argsort(item_fine, kind="stable")
    cumulated = np.append(0.0, np.cumsum(popularity[by_community]))
    fine_bounds = np.append(0, np.cumsum(np.bincount(item_fine, minlength=n_fine)))
    coarse_bounds = fine_bounds[::n_fine_per_coarse]
    fine_mass, coarse_mass = cumulated[fine_bounds], cumulated[coarse_bounds]

    def draw(users: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        level, at = rng.random(len(users)), rng.random(len(users))
        fine = user_fine[users]
        coarse = fine // n_fine_per_coarse
        in_fine, in_coarse = level < within_fine, level < within_fine + within_coarse
        low = np.where(in_fine, fine_mass[fine], np.where(in_coarse, coarse_mass[coarse], 0.0))
        high = np.where(in_fine, fine_mass[fine + 1], np.where(in_coarse, coarse_mass[coarse + 1], cumulated[-1]))
        position = np.searchsorted(cumulated, low + at * (high - low), side="right") - 1
        return by_community[np.minimum(position, n_items - 1)]

    # Whole users at a time: repeated pairs are then always within a chunk.
    total = np.cumsum(quotas)
    cuts = np.searchsorted(total, np.arange(DRAWN_AT_A_TIME, total[-1], DRAWN_AT_A_TIME))
    chunks = [chunk for chunk in np.split(np.arange(n_users), np.unique(cuts)) if len(chunk)]
    keys = np.concatenate([_distinct_pairs(chunk, quotas[chunk], n_items, draw) for chunk in chunks])
    users, items = np.divmod(keys, n_items)
    labels = {
        "user_coarse": user_fine // n_fine_per_coarse,
        "user_fine": user_fine,
        "item_coarse": item_fine // n_fine_per_coarse,
        "item_fine": item_fine,
    }
    return Interactions(users, items, np.arange(n_users), np.arange(n_items)), labels


def _distinct_pairs(
    users: npt.NDArray[np.int64],
    quotas: npt.NDArray[np.int64],
    n_items: int,
    draw: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]],
) -> npt.NDArray[np.int64]:
    """Draw `quotas` different items for each of `users` (neighbours); sorted keys, user * n_items + item."""
    settled = []
    keys = np.empty(0, dtype=np.int64)
    missing = quotas
    for _ in range(MOST_ROUNDS):
        drawn_for = np.repeat(users, missing)
        keys = distinct(np.append(keys, drawn_for * n_items + draw(drawn_for)))
        owner = keys // n_items - users[0]
        missing = np.where(missing > 0, quotas - np.bincount(owner, minlength=len(users)), 0)
        # Most users are done after a round or two: later rounds look at the others alone.
        done = missing[owner] == 0
        settled.append(keys[done])
        keys = keys[~done]
        if not len(keys):
            break
    return np.sort(np.concatenate([*settled, keys]))


def _quotas(
    n_users: int, n_items: int, n_interactions: int, min_per_user: int, exponent: float, rng: np.random.Generator
) -> npt.NDArray[np.int64]:
    """How many items each user draws; they add up to `n_interactions` unless a user would draw half of all."""
    activity = np.cumsum((1.0 + _permutation(n_users, rng)) ** -exponent)
    spare = n_interactions - min_per_user * n_users
    # Rounding the running total instead of each share leaves no remainder to hand out.
    quotas = np.diff(np.rint(activity / activity[-1] * spare), prepend=0.0).astype(np.int64) + min_per_user
    return np.minimum(quotas, max(n_items // 2, 1))


def _permutation(n: int, rng: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.argsort(rng.random(n), kind="stable")


def _check(
    n_users: int, n_items: int, n_interactions: int, n_fine: int, least: int, within: tuple[float, float]
) -> None:
    if n_fine < 1 or min(n_users, n_items) < n_fine:
        problem = f"{n_users} users and {n_items} items cannot fill {n_fine} fine communities"
        raise InputError(problem, expected="at least one community, and a user and an item in each")
    most = n_items // 2
    if least < 1 or least > most:
        raise InputError(f"min_per_user = {least}", expected=f"1 to {most}, half of the items")
    if not least * n_users <= n_interactions <= n_users * most:
        expected = f"{least * n_users} ({least} a user) to {n_users * most} (half of all)"
        raise InputError(f"{n_interactions} interactions", expected=expected)
    if not (min(within) >= 0 and sum(within) <= 1):
        problem = f"within_fine = {within[0]:g} and within_coarse = {within[1]:g}"
        raise InputError(problem, expected="probabilities that add up to 1 or less")


def built_in_sample() -> tuple[Interactions, Labels]:
    """The sample that comes with the package (see `write_planted`, which writes it with the same seed)."""
    return generate_planted(1000, 800, 28_000, 6, 4, seed=SAMPLE_SEED)


def write_planted(inter: Interactions, labels: Labels, folder: str | Path, *, seed: int) -> None:
    """Write ``train.txt`` and ``test.txt`` (a fifth of each user's items) in LightGCN's format, and ``labels.tsv``."""
    split = random_split(inter, seed=seed, valid=0.0, test=0.2)
    with replacing_folder(folder) as temporary:
        write_lightgcn(split.train, temporary / "train.txt")
        write_lightgcn(split.test, temporary / "test.txt")
        pd.DataFrame(
            {
                "kind": np.repeat(["user", "item"], [inter.n_users, inter.n_items]),
                "id": np.append(np.arange(inter.n_users), np.arange(inter.n_items)),
                "coarse": np.append(labels["user_coarse"], labels["item_coarse"]),
                "fine": np.append(labels["user_fine"], labels["item_fine"]),
            }
        ).to_csv(temporary / "labels.tsv", sep="\t", index=False, lineterminator="\n")
