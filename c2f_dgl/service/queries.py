"""What requests ask of a `ServingModel`, many at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from c2f_dgl.serving import IdMap, ServingModel

_USER_BLOCK = 256


class UnknownError(LookupError):
    """An id that the model does not know."""

    def __init__(self, role: str, value: int | str) -> None:
        super().__init__(f"no {role} {value!r:.80}")


@dataclass(frozen=True)
class Ranked:
    """Best first: external ids and their scores, as JSON takes them."""

    ids: list[Any]
    scores: list[float]


@dataclass(frozen=True)
class Ranking:
    """The k best items of the user in a row."""

    row: int
    k: int
    exclude_seen: bool


@dataclass(frozen=True)
class FoldIn:
    """The k best items for a history of known items, given as rows."""

    history: np.ndarray
    k: int
    exclude_seen: bool


@dataclass(frozen=True)
class Neighbours:
    """The k nearest to the user or item in a row."""

    row: int
    k: int


@dataclass(frozen=True, eq=False)
class Precomputed:
    """The k best unseen items of every user.

    Attributes
    ----------
    rows : int32 array, shape (n_users, k)
        Rows of items, -1 where none is left.
    scores : float32 array, shape (n_users, k)
    """

    rows: np.ndarray
    scores: np.ndarray

    @classmethod
    def of(cls, model: ServingModel, k: int, progress: Callable[[int, int], None] | None = None) -> Precomputed:
        """Rank all items for all users, in blocks of users; `progress` is called with those done and all."""
        k = min(k, model.n_items)
        rows = np.empty((model.n_users, k), dtype=np.int32)
        scores = np.empty((model.n_users, k), dtype=np.float32)
        for start in range(0, model.n_users, _USER_BLOCK):
            block = slice(start, start + _USER_BLOCK)
            items, scores[block] = model.recommend(model.users.ids[block], k)
            there = scores[block] > -np.inf
            rows[block] = -1
            rows[block][there] = model.items.find(items[there])
            if progress is not None:
                progress(min(block.stop, model.n_users), model.n_users)
        return cls(rows, scores)

    def look_up(self, model: ServingModel, query: Ranking) -> Ranked | None:
        """Answer of a query, None where it asks for more than was computed."""
        if not query.exclude_seen or query.k > self.rows.shape[1] < model.n_items:
            return None
        rows = self.rows[query.row, : query.k]
        n = int((rows >= 0).sum())
        return Ranked(model.items.ids[rows[:n]].tolist(), self.scores[query.row, :n].tolist())


def known_rows(ids: IdMap, values: Sequence[int | str]) -> np.ndarray:
    """Rows of external ids, each an integer or text, whichever the model has.

    Raises
    ------
    UnknownError
        Names the first that is unknown.
    """
    if ids.are_text:
        wanted = np.array([str(value) for value in values], dtype=object)
    else:
        wanted = np.array([_whole(value) for value in values], dtype=np.int64)
    rows = ids.find(wanted)
    if (rows < 0).any():
        raise UnknownError(ids.role, values[int(np.argmax(rows < 0))])
    return rows


def _whole(value: int | str) -> int:
    """An id of the integers from 0 to 2^63 - 1; -1, which is no id, for anything else."""
    if isinstance(value, str):
        if not (value.isascii() and value.isdigit() and len(value) < 20) or (value[0] == "0" and value != "0"):
            return -1
        value = int(value)
    return value if 0 <= value < 2**63 else -1


def recommend(model: ServingModel, queries: Sequence[Ranking]) -> list[Ranked]:
    """Answers of queries, those that exclude what was seen ranked together, and the others."""

    def rank(some: Sequence[Ranking], k: int, exclude_seen: bool) -> tuple[np.ndarray, np.ndarray]:
        users = model.users.ids[[query.row for query in some]]
        return model.recommend(users, k, exclude_seen=exclude_seen)

    return _by_exclusion(queries, rank)


def recommend_many(
    model: ServingModel,
    users: Sequence[int | str],
    k: int,
    exclude_seen: bool,
    candidates: Sequence[int | str] | None,
) -> tuple[list[Any], list[Ranked]]:
    """The model's ids of some users, and the k best items of each, of all items or of candidates.

    Raises
    ------
    UnknownError
        An id is unknown.
    """
    ids = model.users.ids[known_rows(model.users, users)]
    some = None if candidates is None else model.items.ids[known_rows(model.items, candidates)]
    found = model.recommend(ids, k, exclude_seen=exclude_seen, candidates=some)
    return ids.tolist(), list(map(ranked, *found))


def fold_in(model: ServingModel, queries: Sequence[FoldIn]) -> list[Ranked]:
    """As `recommend`, for users known by their history alone."""

    def rank(some: Sequence[FoldIn], k: int, exclude_seen: bool) -> tuple[np.ndarray, np.ndarray]:
        histories = [model.items.ids[query.history] for query in some]
        return model.recommend_history(histories, k, exclude_seen=exclude_seen)

    return _by_exclusion(queries, rank)


def similar_items(model: ServingModel, queries: Sequence[Neighbours]) -> list[Ranked]:
    """Items nearest by cosine."""
    return _cut(queries, *model.similar_items(model.items.ids[[q.row for q in queries]], _most(queries)))


def similar_users(model: ServingModel, queries: Sequence[Neighbours]) -> list[Ranked]:
    """Users nearest by cosine."""
    return _cut(queries, *model.similar_users(model.users.ids[[q.row for q in queries]], _most(queries)))


def ranked(ids: np.ndarray, scores: np.ndarray) -> Ranked:
    """Without the missing ranks at the end."""
    n = int((scores > -np.inf).sum())
    return Ranked(ids[:n].tolist(), scores[:n].tolist())


def _by_exclusion(queries: Sequence[Any], rank: Callable[..., tuple[np.ndarray, np.ndarray]]) -> list[Ranked]:
    answers: dict[int, Ranked] = {}
    for exclude_seen in (True, False):
        places = [place for place, query in enumerate(queries) if query.exclude_seen == exclude_seen]
        if places:
            some = [queries[place] for place in places]
            answers |= zip(places, _cut(some, *rank(some, _most(some), exclude_seen)), strict=True)
    return [answers[place] for place in range(len(queries))]


def _most(queries: Sequence[Any]) -> int:
    return max(query.k for query in queries)


def _cut(queries: Sequence[Any], ids: np.ndarray, scores: np.ndarray) -> list[Ranked]:
    """A longer list begins with the shorter one, so each query takes its k of the longest."""
    return [ranked(ids[n, : query.k], scores[n, : query.k]) for n, query in enumerate(queries)]
