"""For whom a model is good and for whom it is bad: metrics by groups of users or items, with bootstrap intervals."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from scipy import stats

from c2f_dgl.data.ids import IdMap
from c2f_dgl.data.readers import read_leading
from c2f_dgl.data.splits import Split
from c2f_dgl.errors import InputError
from c2f_dgl.evaluation.metrics import PAPERS, check_groups
from c2f_dgl.evaluation.ranking import HeldOut, Ranker, top_items

_RESAMPLES, _HELD_AT_ONCE = 999, 2**22

_GROUPS = 4


@dataclass(frozen=True)
class Slice:
    """Figures of some users, or of all users as to some of their held-out items."""

    name: str
    users: int  # with something held out
    degree: float  # training interactions of the slice's users or items, the median
    figures: dict[str, tuple[float, float, float]]  # the mean over users, and its 95 % interval; NaN of one user


@dataclass(frozen=True)
class Groups:
    """A name for every user or every item."""

    side: str  # "user" or "item"
    names: list[str]
    of: np.ndarray  # (n_users,) or (n_items,), int: position in `names`, -1 for none


def groups_by(split: Split, by: str) -> Groups:
    """Users by ``activity``, items by ``popularity`` or ``known``, either by a table: ``users=FILE`` or ``items=FILE``.

    Activity makes groups of about as many users, popularity of about as many training interactions.
    """
    check_groups(by)
    side, is_file, path = by.partition("=")
    if is_file:
        return _of_file(Path(path), side.removesuffix("s"), split)
    if by == "activity":
        degrees = split.train.getnnz(axis=1)
        return _by_degree("user", degrees, np.ones(len(degrees)))
    degrees = split.train.getnnz(axis=0)
    if by == "popularity":
        return _by_degree("item", degrees, degrees)
    return Groups("item", ["known items", "cold items"], (degrees == 0).astype(np.int64))


def evaluate_slices(
    scorer: Ranker,
    split: Split,
    relevant: sp.csr_matrix,
    groups: Groups,
    cutoffs: Sequence[int],
    names: Sequence[str] = PAPERS,
    seen: sp.csr_matrix | None = None,
) -> list[Slice]:
    """Metrics by group, of those with somebody to evaluate; in a group of items only these count as relevant."""
    users = HeldOut(relevant).users
    items, scores = top_items(scorer, users, max(cutoffs), split.train if seen is None else seen)
    degrees, slices = split.train.getnnz(axis=1 if groups.side == "user" else 0), []
    for number, name in enumerate(groups.names):
        inside = (groups.of == number).astype(np.float32)
        kept = sp.csr_matrix(sp.diags(inside) @ relevant if groups.side == "user" else relevant @ sp.diags(inside))
        held_out = HeldOut(kept)
        if not len(held_out.users):
            continue
        rows = np.searchsorted(users, held_out.users)
        metrics = held_out.metrics(held_out.users, items[rows], scores[rows], cutoffs, names)
        figures = {metric: interval(values) for metric, values in metrics.items()}
        slices.append(Slice(name, len(rows), float(np.median(degrees[inside > 0])), figures))
    return slices


def interval(values: np.ndarray) -> tuple[float, float, float]:
    """The mean of a figure over users (n,), and its 95 % bootstrap interval (percentiles); NaN of one user."""
    if len(values) < 2:
        return float(values.mean()), float("nan"), float("nan")
    batch = max(1, _HELD_AT_ONCE // len(values))
    options: dict[str, Any] = {"n_resamples": _RESAMPLES, "batch": batch, "method": "percentile"}
    bounds = stats.bootstrap((values,), np.mean, rng=np.random.default_rng(0), **options).confidence_interval
    return float(values.mean()), float(bounds.low), float(bounds.high)


def _by_degree(side: str, degrees: np.ndarray, weights: np.ndarray) -> Groups:
    """Groups by number of training interactions, each of about as much weight; those of none apart."""
    order = np.sort(degrees[degrees > 0])
    heavy = np.cumsum(weights[np.argsort(degrees, kind="stable")][len(degrees) - len(order) :])
    at = np.searchsorted(heavy, heavy[-1] * np.arange(1, _GROUPS) / _GROUPS)
    bounds = np.unique(np.concatenate([order[:1], order[at] + 1, order[-1:] + 1]))
    of = np.searchsorted(bounds, degrees, side="right")
    other = "item" if side == "user" else "user"
    spans = [(low, high - 1) for low, high in itertools.pairwise(bounds.tolist())]
    texts = [f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in [(0, 0), *spans]]
    return Groups(side, [f"{side}s of {text} {other}{'' if text == '1' else 's'}" for text in texts], of)


def _of_file(path: Path, side: str, split: Split) -> Groups:
    frame, _ = read_leading(path, (side, "group"), numbered=True)
    ids = IdMap(split.user_ids if side == "user" else split.item_ids, side)
    rows = ids.find(frame[side].to_numpy(dtype=object))
    if not (rows >= 0).any():
        raise InputError(f"names no {side} of {split.name}", where=path, expected=f"columns: id of a {side}, group")
    names, group = np.unique(frame["group"].astype(str).to_numpy(dtype=object), return_inverse=True)
    of = np.full(len(ids), -1)
    of[rows[rows >= 0]] = group[rows >= 0]
    return Groups(side, names.tolist(), of)
