"""`ServingModel`: recommend, compare and explain from histories, on numpy arrays."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from c2f_dgl.data.ids import IdMap
from c2f_dgl.errors import InputError
from c2f_dgl.serving.codes import ItemCodes, Neighbours
from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.file import MODEL, Tensors, id_tensors, reading, text_tensors, write
from c2f_dgl.serving.users import flat

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("c2f_dgl")

# Scores that are held at once, the most users that they are of, and columns of a group in the search for the largest.
_SCORE_BLOCK, _USER_BLOCK, _GROUP = 2**21, 256, 32


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the items of a history add to a score; ``contributions.sum()`` is the score."""

    item: Any  # int or str
    score: float
    ids: np.ndarray  # (n,): items of the history, the largest contribution first
    contributions: np.ndarray  # (n,), float64
    levels: np.ndarray  # (n, n_levels), float64: what comes through each meta-embedding of the item, the coarse first
    neighbours: np.ndarray  # (n,), float64: what comes as a neighbour of the item

    def to_frame(self) -> pd.DataFrame:
        """One row a history item: item, contribution, level_0 (the coarse one), level_1, ..., neighbour."""
        import pandas as pd

        levels = {f"level_{number}": values for number, values in enumerate(self.levels.T)}
        columns = {"item": self.ids, "contribution": self.contributions, **levels, "neighbour": self.neighbours}
        return pd.DataFrame(columns)


class ServingModel:
    """A device model: what a history says about all items, from codes of the items alone.

    A user with history h has the vector u = sum over j in h of w_j z_j, and item i scores t_i (u . z_i), and what the
    neighbours add. Items of equal scores are ordered by their rows. ``model.items`` maps external ids to rows:
    ``model.items.ids``, ``model.items.find(ids)``.
    """

    def __init__(
        self,
        codes: ItemCodes,  # z
        degree_level: np.ndarray,  # popularity of each item (n_items,), uint8
        history_weight: np.ndarray,  # w by popularity (n_levels,), float32
        item_weight: np.ndarray,  # t, likewise
        item_ids: np.ndarray | IdMap,  # external ids, int or str
        *,
        neighbours: Neighbours | None = None,
        titles: np.ndarray | None = None,  # what items are called, for people
        details: Mapping[str, Any] | None = None,  # JSON-able: data, preset, figures and what else the writer knows
    ) -> None:
        self.codes, self.degree_level, self.neighbours = codes, degree_level, neighbours
        self.history_weight, self.item_weight = history_weight, item_weight
        self.items = item_ids if isinstance(item_ids, IdMap) else IdMap(item_ids, "item")
        self.titles, self.details = titles, dict(details or {})

    @property
    def n_items(self) -> int:
        return len(self.items)

    @classmethod
    def load(cls, path: str | Path) -> ServingModel:
        """Read a model file; raises `InputError` where there is none, or it is damaged or of another version."""
        with reading(path, MODEL) as file:
            n = file.whole("items", 1, 2**32 - 1)
            codes = ItemCodes.read(file, n)
            w, t = (file.tensor(name, "F32", (None,), 256) for name in ("history_weight", "item_weight"))
            levels = file.tensor("degree_level", "U8", (n,), below=min(len(w), len(t)))
            neighbours = Neighbours.read(file, n, int(levels.max())) if file.has("neighbours") else None
            ids = file.ids("item", n)
            titles = file.texts("titles", n) if file.has("titles") else None
            details = file.manifest.get("details")
            if not isinstance(details, dict):
                raise file.refused("the manifest holds no details")
        return cls(codes, levels, w, t, ids, neighbours=neighbours, titles=titles, details=details)

    def save(self, path: str | Path) -> dict[str, int]:
        """Write a model file, in the place of one that is there; the bytes of each of its parts come back."""
        kind, ids = id_tensors(self.items.ids)
        codes, codebooks = self.codes.tensors()
        weights = {"history_weight": self.history_weight, "item_weight": self.item_weight}
        parts: dict[str, Tensors] = {
            "codes": codes,
            "codebooks": codebooks,
            "neighbours": {} if self.neighbours is None else self.neighbours.tensors(),
            "ids": ids,
            "titles": {} if self.titles is None else text_tensors("titles", self.titles),
            "weights": {"degree_level": self.degree_level, **weights},
        }
        starts = [level.start for level in self.codes.levels]
        manifest = {"items": self.n_items, "d": self.codes.d, "starts": starts, "ids": kind, "details": self.details}
        size = write(path, MODEL, manifest, {name: values for part in parts.values() for name, values in part.items()})
        sizes = {name: sum(values.nbytes for values in part.values()) for name, part in parts.items()}
        return {**sizes, "manifest": size - sum(sizes.values())}

    def recommend(
        self, history: Iterable[Any], k: int = 10, *, exclude_seen: bool = True, candidates: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The at most k best items for a history, and their scores; see `recommend_many`."""
        items, scores = self.recommend_many([history], k, exclude_seen=exclude_seen, candidates=candidates)
        ranked = scores[0] > -np.inf
        return items[0, ranked], scores[0, ranked]

    def recommend_many(
        self, histories: Iterable[Iterable[Any]], k: int = 10, *, exclude_seen: bool = True, candidates: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items for each of several histories.

        Parameters
        ----------
        histories : iterable of iterables of item ids
            An item that occurs twice counts once; unknown ones are left out, with a warning.
        k : int
            Cut to the number of candidates.
        exclude_seen : bool
            Leave out the items of the history.
        candidates : array-like of item ids, optional
            Recommend only these; all items by default.

        Returns
        -------
        items, scores : arrays, shape (n, k)
            Best first. Where fewer than k items are left, the rest are -1 (None for text ids) with score -inf.
        """
        return self.recommend_rows(self.histories(histories), k, exclude_seen=exclude_seen, candidates=candidates)

    def recommend_rows(
        self, histories: Csr, k: int = 10, *, exclude_seen: bool = True, candidates: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """As `recommend_many`, for histories (n x n_items) of rows of items."""
        columns = np.arange(self.n_items)
        if candidates is not None:
            columns = np.unique(self.items.rows(candidates).reshape(-1))
            if len(columns) == 0:
                raise InputError("no candidates", expected="at least one item")
        k = min(_whole(k), len(columns))
        column_of = np.full(self.n_items, -1)
        column_of[columns] = np.arange(len(columns))
        best, values = np.empty((histories.n_rows, k), dtype=np.int64), np.empty((histories.n_rows, k))
        for rows in self.blocks(histories.n_rows):
            block = histories.take(np.arange(rows.start, rows.stop))
            scores = self.scores(block, None if candidates is None else columns)
            if exclude_seen:
                seen = column_of[block.columns]
                scores[block.rows[seen >= 0], seen[seen >= 0]] = -np.inf
            best[rows], values[rows] = top_columns(scores, k)
        ids = self.items.ids[columns[best]]
        ids[values == -np.inf] = np.array(None if self.items.are_text else -1)
        return ids, values

    def scores(self, histories: Csr, items: np.ndarray | None = None) -> np.ndarray:
        """Scores (n, m), float64, of all items, or of some rows (int, (m,)), for histories (n x n_items)."""
        scores = self.codes.products(self.vectors(histories), items)
        scores *= self.item_weight.astype(np.float64)[self.degree_level if items is None else self.degree_level[items]]
        if self.neighbours is not None:
            near = scores if items is None else np.zeros((histories.n_rows, self.n_items))
            self.neighbours.add_scores(histories, self.degree_level, near)
            if items is not None:
                scores += near[:, items]
        return scores

    def vectors(self, histories: Csr) -> np.ndarray:
        """u (n, d), float64, of histories (n x n_items)."""
        weights = self.history_weight[self.degree_level[histories.columns]].astype(np.float64)
        return self.codes.sums(histories, weights)

    def blocks(self, n: int) -> Iterator[slice]:
        """Slices of n histories whose scores of all items are held at once."""
        size = min(_USER_BLOCK, max(1, _SCORE_BLOCK // self.n_items))
        return (slice(start, min(start + size, n)) for start in range(0, n, size))

    def histories(self, histories: Iterable[Iterable[Any]]) -> Csr:
        """Histories of item ids as rows (n x n_items), without those that are unknown, of which a warning is logged."""
        items, lengths = flat(histories)
        rows = self.items.find(items)
        if (rows < 0).any():
            first = items[rows < 0][:1].tolist()[0]
            log.warning("%d of %d items of histories are unknown, and left out: %r", (rows < 0).sum(), len(rows), first)
        users = np.repeat(np.arange(len(lengths)), lengths)
        return Csr.from_pairs(users[rows >= 0], rows[rows >= 0], (len(lengths), self.n_items))

    def explain(self, history: Iterable[Any], item: Any) -> Explanation:
        """What each item of a history adds to the score of an item."""
        return self.explain_rows(self.histories([history]).columns, int(self.items.rows(item)))

    def explain_rows(self, history: np.ndarray, item: int) -> Explanation:
        """As `explain`, for a history (int, (n,)) and an item in rows."""
        weights = self.history_weight[self.degree_level[history]].astype(np.float64)
        vectors = self.codes.take(history) * (weights * float(self.item_weight[self.degree_level[item]]))[:, None]
        scored = np.array([item])
        levels = np.stack([vectors[:, level.columns] @ level.take(scored)[0] for level in self.codes.levels], axis=1)
        near = np.zeros(len(history))
        if self.neighbours is not None:
            near = self.neighbours.contributions(history, item, self.degree_level)
        total = levels.sum(axis=1) + near
        order = np.argsort(-np.abs(total), kind="stable")
        ids = self.items.ids[history[order]]
        return Explanation(self.items.ids[item], float(total.sum()), ids, total[order], levels[order], near[order])

    def similar_items(self, items: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k items nearest to each item by cosine of their vectors, and the cosines: (n, k), or (k,) for one id."""
        rows = self.items.rows(items).reshape(-1)
        k = min(_whole(k), self.n_items - 1)
        best, values = np.empty((len(rows), k), dtype=np.int64), np.empty((len(rows), k))
        for block in self.blocks(len(rows)):
            queries = rows[block]
            cosines = self.codes.products(self.codes.take(queries) / self._lengths[queries, None]) / self._lengths
            cosines[np.arange(len(queries)), queries] = -np.inf
            best[block], values[block] = top_columns(cosines, k)
        ids = self.items.ids[best]
        return (ids, values) if np.ndim(items) else (ids[0], values[0])

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Lengths (n_items,) of the items' vectors, 1 where they are 0."""
        lengths = np.empty(self.n_items)
        for block in self.blocks(self.n_items):
            lengths[block] = np.linalg.norm(self.codes.take(np.arange(block.start, block.stop)), axis=1)
        return np.where(lengths > 0, lengths, 1.0)


def _whole(k: Any) -> int:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InputError(f"k = {k!r}", expected="a whole number of 1 or more")
    return int(k)


def top_columns(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Columns and values (n, k) of the k largest `scores` (n, m), without NaN, of each row.

    Larger ones come first, of equal ones the lower column.
    """
    n, m = scores.shape
    size = min(_GROUP, m // max(k, 1))
    least = np.full((n, 1), -np.inf)
    if size > 1 and k:
        # k groups have an entry that is no less than the k-th of the groups' largest, and so have the k largest.
        width, (row, column) = m // size, scores.strides
        grouped = as_strided(scores, (n, size, width), (row, width * column, column), writeable=False)
        least = np.partition(grouped.max(axis=1), width - k, axis=1)[:, width - k, None]
    rows, columns = np.nonzero(scores >= least)
    order = np.lexsort((-scores[rows, columns], rows))  # stable: of equal ones the lower column stays first
    starts = np.searchsorted(rows, np.arange(n))
    best = columns[order[starts[:, None] + np.arange(k)]]
    return best, np.take_along_axis(scores, best, axis=1)
