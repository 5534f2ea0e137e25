"""User-item interactions as arrays, whatever they were read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow
import pyarrow.interchange
from scipy.sparse import csr_matrix, issparse

from c2f_dgl.data.columns import Origin, are_dates, counted, index_ids, numbers, require, times
from c2f_dgl.errors import InputError

_DATA_FRAME = Origin("data frame")


@dataclass(frozen=True, eq=False)
class Interactions:
    """Distinct (user, item) pairs, sorted by user and then by item.

    Attributes
    ----------
    users, items : int64 arrays, length n
        Internal indices.
    user_ids, item_ids : arrays, length n_users and n_items
        External ids, by internal index; int64, or object holding str.
    timestamps : array, length n, or None
        Any number that sorts by time.
    notes : tuple of str
        What was mended on the way in, e.g. ``"12 duplicate pairs merged"``.
    n_duplicates : int
        How many repeated pairs were merged away.
    """

    users: npt.NDArray[np.int64]
    items: npt.NDArray[np.int64]
    user_ids: np.ndarray
    item_ids: np.ndarray
    timestamps: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    n_duplicates: int = 0

    @classmethod
    def from_pairs(
        cls,
        users: npt.NDArray[np.int64],
        items: npt.NDArray[np.int64],
        user_ids: np.ndarray,
        item_ids: np.ndarray,
        timestamps: np.ndarray | None = None,
        notes: tuple[str, ...] = (),
    ) -> Interactions:
        """Sort pairs of internal indices and merge repeated ones, keeping the latest timestamp; see the attributes."""
        keys = users * len(item_ids) + items
        if timestamps is None:
            merged = distinct(keys)
        else:
            order = np.lexsort((timestamps, keys))
            keys = keys[order]
            latest = np.append(keys[1:] != keys[:-1], True)[: len(keys)]
            merged, timestamps = keys[latest], timestamps[order][latest]
        n_duplicates = len(keys) - len(merged)
        if n_duplicates:
            notes = (*notes, counted(n_duplicates, "duplicate pair", "merged"))
        users, items = np.divmod(merged, max(len(item_ids), 1))
        return cls(users, items, user_ids, item_ids, timestamps, notes, n_duplicates)

    @classmethod
    def from_frame(
        cls,
        df: Any,
        user: str = "user",
        item: str = "item",
        rating: str | None = None,
        min_rating: float | None = None,
        timestamp: str | None = None,
        *,
        origin: Origin = _DATA_FRAME,
    ) -> Interactions:
        """Take interactions from a table in memory, a row each.

        Parameters
        ----------
        df : DataFrame
            Of pandas, or any other table with ``__arrow_c_stream__`` or ``__dataframe__`` (polars, Arrow, DuckDB).
        user, item : str
            Columns of external ids: whole numbers, or anything that prints as text.
        rating : str, optional
            Column of ratings or counts.
        min_rating : float, optional
            Keep rows with at least this rating; needs `rating`.
        timestamp : str, optional
            Column of times: numbers, dates, or ISO 8601 text.
        origin : Origin
            What the rows were read from, for messages.
        """
        if min_rating is not None and rating is None:
            expected = "rating and min_rating together"
            raise InputError("min_rating needs a rating column", where=origin.where, expected=expected)
        if not is_table(df):
            problem = f"{type(df).__name__} is no data frame"
            raise InputError(problem, where=origin.where, expected="pandas, polars, Arrow")
        named = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
        used = {role: column for role, column in named.items() if column is not None}
        df = as_frame(df, list(used.values()))
        for role, column in used.items():
            require(df.columns, column, role, origin.where)
        users, user_ids = index_ids(df[user], "user", origin)
        items, item_ids = index_ids(df[item], "item", origin)
        stamps = None if timestamp is None else times(df[timestamp], origin, are_dates(df[timestamp], origin))
        notes: tuple[str, ...] = ()
        if rating is not None:
            ratings = numbers(df[rating], "rating", origin)
            if min_rating is not None:
                liked = ratings >= min_rating
                notes = dropped(int((~liked).sum()), len(liked), min_rating)
                # The ids of dropped rows go too: nobody asked for users known only by what they disliked.
                users, user_ids = _compact(users[liked], user_ids)
                items, item_ids = _compact(items[liked], item_ids)
                stamps = None if stamps is None else stamps[liked]
        check_left(len(users), len(df), origin.where)
        return cls.from_pairs(users, items, user_ids, item_ids, stamps, notes)

    @classmethod
    def from_csr(cls, matrix: csr_matrix) -> Interactions:
        """Take interactions from a sparse matrix, users by items: every entry above 0 is one.

        External ids are the row and column numbers. Rows and columns without entries are kept.
        """
        where = "sparse matrix"
        if not issparse(matrix):
            problem = f"{type(matrix).__name__} is not a sparse matrix"
            raise InputError(problem, where=where, expected="a scipy CSR matrix")
        entries = matrix.tocoo()
        values = np.asarray(entries.data, dtype=np.float64)
        if not (values >= 0).all():  # nor is NaN
            first = int(np.argmin(values >= 0))
            position = f"({entries.row[first]}, {entries.col[first]})"
            raise InputError(f"entry {position} is {values[first]:g}", where=where, expected="0 or more")
        positive = values > 0
        if not positive.any():
            raise InputError("no interactions", where=where, expected="at least one entry above 0")
        users, items = (indices[positive].astype(np.int64) for indices in (entries.row, entries.col))
        user_ids, item_ids = (np.arange(n, dtype=np.int64) for n in matrix.shape)
        return cls.from_pairs(users, items, user_ids, item_ids)

    @property
    def n_users(self) -> int:
        """Users, with or without interactions."""
        return len(self.user_ids)

    @property
    def n_items(self) -> int:
        """Items, with or without interactions."""
        return len(self.item_ids)

    def __len__(self) -> int:
        return len(self.users)

    def to_csr(self) -> csr_matrix:
        """The interactions as a binary matrix, n_users x n_items, float32, with sorted column indices."""
        return binary_csr(self.users, self.items, (self.n_users, self.n_items))


def dropped(n_dropped: int, n_rows: int, min_rating: float | None) -> tuple[str, ...]:
    """The note on rows below a rating; none where there are none."""
    return (f"{n_dropped:,} of {n_rows:,} rows below rating {min_rating:g} dropped",) if n_dropped else ()


def check_left(n: int, n_rows: int, where: str | Path) -> None:
    """Refuse `n_rows` rows of which none is left."""
    if not n:
        problem = "no interactions left" if n_rows else "no interactions"
        raise InputError(problem, where=where, expected="at least one row")


def is_table(data: Any) -> bool:
    """Whether `data` is a table by one of the two protocols for it, Arrow's or that of data frames."""
    return hasattr(data, "__arrow_c_stream__") or hasattr(data, "__dataframe__")


def as_frame(table: Any, columns: Sequence[str] = ()) -> pd.DataFrame:
    """A table as a data frame of pandas: of `columns` where all are there, else of all of them."""
    if isinstance(table, pd.DataFrame):
        return table
    read = pyarrow.table if hasattr(table, "__arrow_c_stream__") else pyarrow.interchange.from_dataframe
    arrow = read(table)
    if columns and set(columns) <= set(arrow.column_names):
        arrow = arrow.select(list(dict.fromkeys(columns)))
    return arrow.to_pandas()


def _compact(codes: npt.NDArray[np.int64], ids: np.ndarray) -> tuple[npt.NDArray[np.int64], np.ndarray]:
    """Renumber `codes` so that every id left in `ids` is used."""
    used, codes = np.unique(codes, return_inverse=True)
    return codes.astype(np.int64), ids[used]


def distinct(keys: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Sort and drop repeats: `np.unique`, without the hash table that makes numpy 2.3 slower on many integers."""
    keys = np.sort(keys)
    return keys[np.append(True, keys[1:] != keys[:-1])[: len(keys)]]


def binary_csr(users: npt.NDArray[np.integer], items: npt.NDArray[np.integer], shape: tuple[int, int]) -> csr_matrix:
    """A float32 matrix of ones with sorted column indices from distinct pairs."""
    matrix = csr_matrix((np.ones(len(users), dtype=np.float32), (users, items)), shape=shape)
    matrix.sort_indices()
    return matrix


class Entries:
    """The stored entries of a matrix whose rows have ascending columns, asked for many at once by binary search."""

    def __init__(self, matrix: csr_matrix) -> None:
        self.shape = matrix.shape
        rows = np.repeat(np.arange(matrix.shape[0], dtype=np.int64), np.diff(matrix.indptr))
        self.keys = rows * matrix.shape[1] + matrix.indices  # ascending

    def key(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Keys of pairs, which must lie within the matrix; the arrays broadcast."""
        return rows.astype(np.int64) * self.shape[1] + columns

    def hold(self, keys: np.ndarray) -> np.ndarray:
        """Whether there is an entry, by key."""
        if not len(self.keys):
            return np.zeros(keys.shape, dtype=bool)
        return np.equal(self.keys[np.searchsorted(self.keys, keys).clip(max=len(self.keys) - 1)], keys)
