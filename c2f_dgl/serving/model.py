"""`ServingModel`: recommend, compare and explain from histories, on numpy arrays."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from c2f_dgl.data.ids import IdMap
from c2f_dgl.errors import InputError
from c2f_dgl.serving.codes import ItemCodes, Level, Rows
from c2f_dgl.serving.csr import Csr
from c2f_dgl.serving.file import MODEL, Checked, Tensors, id_tensors, reading, text_tensors, write
from c2f_dgl.serving.neighbours import Neighbours
from c2f_dgl.serving.pairs import flat
from c2f_dgl.serving.ranking import top_columns

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger("c2f_dgl")

# Scores that are held at once, and the most users that they are of.
_SCORE_BLOCK, _USER_BLOCK = 2**21, 256

_FLOATS = "F32 F16 I8"


@dataclass(frozen=True, eq=False)
class Explanation:
    """What the items of a history add to a score; ``contributions.sum()`` is the score.

    Attributes
    ----------
    item : int or str
        The item that is scored.
    score : float
    ids : array, shape (n,)
        Items of the history, the largest contribution first.
    contributions : float64 array, shape (n,)
    levels : float64 array, shape (n, n_levels)
        Of the contributions what comes through each meta-embedding of the scored item, the coarse one first.
    neighbours : float64 array, shape (n,)
        And what comes as a neighbour of the scored item.
    """

    item: Any
    score: float
    ids: np.ndarray
    contributions: np.ndarray
    levels: np.ndarray
    neighbours: np.ndarray

    def to_frame(self) -> pd.DataFrame:
        """One row a history item: item, contribution, level_0 (the coarse one), level_1, ..., neighbour."""
        import pandas as pd

        levels = {f"level_{number}": values for number, values in enumerate(self.levels.T)}
        columns = {"item": self.ids, "contribution": self.contributions, **levels, "neighbour": self.neighbours}
        return pd.DataFrame(columns)


class ServingModel:
    """A device model: what a history says about all items, from codes of the items alone.

    A user with history h has the vector u = sum over j in h of w_j z_j, and item i scores t_i (u . z_i), and what the
    neighbours add. Items of equal scores are ordered by their rows.

    Parameters
    ----------
    codes : ItemCodes
        z.
    degree_level : uint8 array, shape (n_items,)
        Popularity of each item.
    history_weight, item_weight : float32 arrays, shape (n_levels,)
        w and t by popularity.
    item_ids : array, shape (n_items,)
        External ids: int, or str.
    neighbours : Neighbours, optional
    titles : sequence of str, optional
        What items are called, for people.
    details : mapping, optional
        JSON-able: ``data``, ``preset``, figures and what else the writer knows.

    Attributes
    ----------
    items : IdMap
        External ids: ``model.items.ids``, ``model.items.find(ids)``.
    """

    def __init__(
        self,
        codes: ItemCodes,
        degree_level: np.ndarray,
        history_weight: np.ndarray,
        item_weight: np.ndarray,
        item_ids: np.ndarray,
        *,
        neighbours: Neighbours | None = None,
        titles: np.ndarray | None = None,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        self.codes, self.degree_level, self.neighbours = codes, degree_level, neighbours
        self.history_weight, self.item_weight = history_weight, item_weight
        self.items, self.titles, self.details = IdMap(item_ids, "item"), titles, dict(details or {})

    @property
    def n_items(self) -> int:
        """Number of items."""
        return len(self.items)

    # The file --------------------------------------------------------------------------------------------------

    @classmethod
    def load(cls, path: str | Path) -> ServingModel:
        """Read a model file.

        Raises
        ------
        InputError
            No such file, damaged, or of another version.
        """
        with reading(path, MODEL) as file:
            n = file.whole("items", 1, 2**32 - 1)
            codes = _read_codes(file, n)
            w, t = (file.tensor(name, "F32", (None,), 256) for name in ("history_weight", "item_weight"))
            levels = file.below(file.tensor("degree_level", "U8", (n,)), "degree_level", min(len(w), len(t)))
            neighbours = _read_neighbours(file, n, int(levels.max())) if file.has("neighbours") else None
            ids = file.ids("ids", n, file.choice("ids", ("integers", "text")))
            titles = file.texts("titles", n) if file.has("titles") else None
            details = file.manifest.get("details")
            if not isinstance(details, dict):
                raise file.refused("the manifest holds no details")
        try:
            return cls(codes, levels, w, t, ids, neighbours=neighbours, titles=titles, details=details)
        except InputError as error:
            raise InputError(str(error), where=path) from error

    def save(self, path: str | Path) -> dict[str, int]:
        """Write a model file, in the place of one that is there.

        Returns
        -------
        dict
            Bytes of each part: ``codes``, ``codebooks``, ``weights`` (with the popularity), ``neighbours``, ``ids``,
            ``titles`` and ``manifest``.
        """
        kind, ids = id_tensors(self.items.ids)
        parts: dict[str, Tensors] = {"codes": {}, "codebooks": {}, "neighbours": {}, "ids": ids, "titles": {}}
        for number, level in enumerate(self.codes.levels):
            name = "table"
            if level.codes is not None:
                name, parts["codes"][f"code_{number}"] = f"codebook_{number}", level.codes
            parts["codebooks"][name] = level.codebook.values
            if level.codebook.scale is not None:
                parts["codebooks"][f"{name}_scale"] = level.codebook.scale
        weights = {"history_weight": self.history_weight, "item_weight": self.item_weight}
        parts["weights"] = {"degree_level": self.degree_level, **weights}
        if (near := self.neighbours) is not None:
            parts["neighbours"] = {
                "neighbours": near.sources,
                "neighbour_level": near.levels,
                "neighbour_value": near.values,
                "neighbour_history_weight": near.history_weight,
            }
        if self.titles is not None:
            parts["titles"] = text_tensors("titles", self.titles)
        starts = [level.start for level in self.codes.levels]
        manifest = {"items": self.n_items, "d": self.codes.d, "starts": starts, "ids": kind, "details": self.details}
        tensors = {name: values for part in parts.values() for name, values in part.items()}
        size = write(path, MODEL, manifest, tensors)
        sizes = {part: sum(values.nbytes for values in some.values()) for part, some in parts.items()}
        return {**sizes, "manifest": size - sum(sizes.values())}

    # Ranking ---------------------------------------------------------------------------------------------------

    def recommend(
        self, history: Iterable[Any], k: int = 10, *, exclude_seen: bool = True, candidates: Any = None
    ) -> tuple[np.ndarray, np.ndarray]:
        """The k best items for a history; see `recommend_many`.

        Returns
        -------
        items, scores : arrays, shape (at most k,)
        """
        items, scores = self.recommend_many([history], k, exclude_seen=exclude_seen, candidates=candidates)
        there = scores[0] > -np.inf
        return items[0, there], scores[0, there]

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

        Raises
        ------
        InputError
            A candidate is unknown, or k is not a positive whole number.
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
        place = np.full(self.n_items, -1)
        place[columns] = np.arange(len(columns))
        best, values = np.empty((histories.n_rows, k), dtype=np.int64), np.empty((histories.n_rows, k))
        for rows in self.blocks(histories.n_rows):
            some = histories.take(np.arange(rows.start, rows.stop))
            scores = self.scores(some, None if candidates is None else columns)
            if exclude_seen:
                at = place[some.columns]
                scores[some.rows[at >= 0], at[at >= 0]] = -np.inf
            best[rows], values[rows] = top_columns(scores, k)
        ids = self.items.ids[columns[best]]
        ids[values == -np.inf] = np.array(None if self.items.are_text else -1)
        return ids, values

    def scores(self, histories: Csr, items: np.ndarray | None = None) -> np.ndarray:
        """Scores (n, m), float64, of all items, or of some rows (int, (m,)), for histories (n x n_items)."""
        taken = slice(None) if items is None else items
        scores = self.codes.products(self.vectors(histories), items)
        scores *= self.item_weight.astype(np.float64)[self.degree_level[taken]]
        if self.neighbours is not None:
            said = scores if items is None else np.zeros((histories.n_rows, self.n_items))
            self.neighbours.add_scores(histories, self.degree_level, said)
            if items is not None:
                scores += said[:, items]
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
        """What each item of a history adds to the score of an item.

        Raises
        ------
        InputError
            The item is unknown.
        """
        return self.explain_rows(self.histories([history]).columns, int(self.items.rows(item)))

    def explain_rows(self, history: np.ndarray, item: int) -> Explanation:
        """As `explain`, for a history (int, (n,)) and an item in rows."""
        weights = self.history_weight[self.degree_level[history]].astype(np.float64)
        sent = self.codes.take(history) * (weights * float(self.item_weight[self.degree_level[item]]))[:, None]
        wanted = np.array([item])
        levels = np.stack([sent[:, level.columns] @ level.take(wanted)[0] for level in self.codes.levels], axis=1)
        near = np.zeros(len(history))
        if self.neighbours is not None:
            near = self.neighbours.contributions(history, item, self.degree_level)
        total = levels.sum(axis=1) + near
        order = np.argsort(-np.abs(total), kind="stable")
        ids = self.items.ids[history[order]]
        return Explanation(self.items.ids[item], float(total.sum()), ids, total[order], levels[order], near[order])

    def similar_items(self, items: Any, k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """The k items nearest to each item by cosine of their vectors, without itself; neighbours have no part in it.

        Parameters
        ----------
        items : id, or array-like of ids
        k : int

        Returns
        -------
        items, similarities : arrays, shape (n, k); for a single id, (k,)
        """
        rows = self.items.rows(items).reshape(-1)
        k = min(_whole(k), self.n_items - 1)
        best, values = np.empty((len(rows), k), dtype=np.int64), np.empty((len(rows), k))
        for block in self.blocks(len(rows)):
            some = rows[block]
            cosines = self.codes.products(self.codes.take(some) / self._lengths[some, None]) / self._lengths
            cosines[np.arange(len(some)), some] = -np.inf
            best[block], values[block] = top_columns(cosines, k)
        ids = self.items.ids[best]
        return (ids, values) if np.ndim(items) else (ids[0], values[0])

    @cached_property
    def _lengths(self) -> np.ndarray:
        """Lengths (n_items,) of the items' vectors, 1 where they are 0."""
        lengths = np.empty(self.n_items)
        for some in self.blocks(self.n_items):
            lengths[some] = np.linalg.norm(self.codes.take(np.arange(some.start, some.stop)), axis=1)
        return np.where(lengths > 0, lengths, 1.0)


def _read_codes(file: Checked, n: int) -> ItemCodes:
    d, starts = file.whole("d", 1, 2**20), file.manifest.get("starts")
    if not isinstance(starts, list) or not 1 <= len(starts) <= 256 or not all(type(start) is int for start in starts):
        raise file.refused("starts of the manifest are not 1 to 256 whole numbers")
    if file.has("table"):
        return ItemCodes((Level(_read_rows(file, "table", n, d)),))
    levels = []
    for number, start in enumerate(starts):
        codebook = _read_rows(file, f"codebook_{number}", None, None)
        if not 0 <= start <= d - codebook.width:
            raise file.refused(f"level {number} begins at {start}", f"0 to {d - codebook.width}")
        codes = file.tensor(f"code_{number}", "U8 U16", (n,))
        levels.append(Level(codebook, file.below(codes, f"code_{number}", len(codebook)), start))
    found = ItemCodes(tuple(levels))
    columns = sum(level.codebook.width for level in levels)
    if found.d != d or columns < d:
        raise file.refused(f"levels of {columns} columns reach to column {found.d}", f"all of d = {d}")
    return found


def _read_rows(file: Checked, name: str, n: int | None, d: int | None) -> Rows:
    values = file.tensor(name, _FLOATS, (n, d), 2**20)
    return Rows(values, file.tensor(f"{name}_scale", "F32", (len(values),)) if values.dtype == np.int8 else None)


def _read_neighbours(file: Checked, n: int, last_level: int) -> Neighbours:
    sources = file.below(file.tensor("neighbours", "U16 U32", (n, None), n), "neighbours", n + 1)
    values = file.tensor("neighbour_value", "F32", (None,), 256)
    levels = file.below(file.tensor("neighbour_level", "U8", sources.shape), "neighbour_level", len(values))
    weight = file.tensor("neighbour_history_weight", "F32", (None,), 256)
    if len(weight) <= last_level:
        raise file.refused(f"neighbour_history_weight has {len(weight)} values", f"more than {last_level}")
    return Neighbours(sources, levels, values, weight)


def _whole(k: Any) -> int:
    if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k < 1:
        raise InputError(f"k = {k!r}", expected="a whole number of 1 or more")
    return int(k)
