"""Columns of a log turned into numbers and ids, with errors that say where the bad value stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from c2f_dgl.errors import InputError

# Text that prints back exactly as it was read once it is an int64: "007" or a 30-digit number must stay text.
WHOLE_NUMBER = r"(?:0|-?[1-9][0-9]{0,17})"

# The same as a column of floats has it.
WHOLE_FLOAT = r"(?:0|-?[1-9][0-9]{0,14})\.0"

# What means in text that nothing is there; ids may well be called "NA" or "None".
MISSING = ("", "nan", "NaN", "<NA>")

# What people call the columns, in small letters and digits only; the first that is there is taken.
KNOWN_NAMES = {
    "user": ("user", "userid", "uid", "username", "reviewerid", "customerid", "visitorid", "memberid"),
    "item": (
        *("item", "itemid", "iid", "parentasin", "asin", "movieid", "bookid", "isbn", "artistid", "trackid", "songid"),
        *("productid", "businessid", "gameid", "appid", "animeid", "recipeid", "articleid", "newsid", "videoid"),
        *("venueid", "poiid", "locationid"),
    ),
    "rating": ("rating", "ratings", "overall", "bookrating", "userrating", "stars", "score", "label"),
    "timestamp": ("timestamp", "unixreviewtime", "unixtime", "time", "ts", "datetime", "date", "createdat"),
}


@dataclass(frozen=True)
class Place:
    """Where the rows of a table came from, for error messages.

    Attributes
    ----------
    where : str or Path
        The file, or a name for the table.
    line_of : callable
        Gives the line of a row (counted from 0) in the file; None where lines mean nothing.
    decimal : str
        What may stand before the decimals of numbers, beside the point.
    """

    where: str | Path
    line_of: Callable[[int], int] | None = None
    decimal: str = "."

    def error(self, row: int, problem: str, expected: str) -> InputError:
        """Build the error for `row`; a table without lines names the row instead."""
        if self.line_of is None:
            return InputError(f"row {row}: {problem}", where=self.where, expected=expected)
        return InputError(problem, where=self.where, line=self.line_of(row), expected=expected)


def require(columns: Iterable[object], column: str, role: str, where: str | Path) -> None:
    """Check that `column`, meant as the `role`, is among `columns`.

    Raises
    ------
    InputError
        It is not, and the message lists those there are; or two are called so.
    """
    there = [str(name) for name in columns]
    if there.count(column) > 1:
        raise InputError(f"{there.count(column)} columns are called {column!r}", where=where, expected=f"one {role}")
    if column not in there:
        names = ", ".join(map(repr, there))
        raise InputError(
            f"no column {column!r} for the {role}",
            where=where,
            expected=f"one of {names}, by --set data.{role}=NAME, or =0, 1, ... by its place",
        )


def find_column(columns: Sequence[str], given: str | int | None, role: str, where: str | Path) -> int | None:
    """Find the column of a role: the one of the given name or place, else the first of a well-known name.

    Parameters
    ----------
    columns : sequence of str
    given : str or int, optional
    role : str
        A key of `KNOWN_NAMES`.
    where : str or Path
        For messages.

    Returns
    -------
    int or None
        Its place; None where no name was given and no well-known one is there.

    Raises
    ------
    InputError
        See `require`.
    """
    if given is None:
        plain = [_plain(name) for name in columns]
        found = next((plain.index(name) for name in KNOWN_NAMES[role] if name in plain), None)
        if found is None:
            return None
        given = columns[found]
    if str(given) not in columns and is_place(given) and int(given) < len(columns):
        return int(given)
    require(columns, str(given), role, where)
    return columns.index(str(given))


def is_place(given: object) -> bool:
    """Say whether a column is given by its place, counted from 0."""
    return re.fullmatch("[0-9]{1,4}", str(given)) is not None


def is_known(name: str) -> bool:
    """Say whether a name is a well-known one, of any role."""
    return any(_plain(name) in names for names in KNOWN_NAMES.values())


def _plain(name: str) -> str:
    """Small letters and digits of a name, without RecBole's type behind it."""
    return re.sub(r"[\W_]", "", name.partition(":")[0].lower())


def index_ids(values: pd.Series, role: str, place: Place) -> tuple[npt.NDArray[np.int64], np.ndarray]:
    """Number the ids of a column.

    Whole numbers stay numbers (also where they are written as text, or all as floats such as ``3.0`` because one was
    missing once); anything else is text. Ids are numbered in sorted order, so the order of the rows does not matter.

    Parameters
    ----------
    values : Series, length n
        External ids.
    role : str
        ``"user"`` or ``"item"``, for messages.
    place : Place
        Where the rows came from.

    Returns
    -------
    codes : int64 array, length n
        Position of each row's id in `ids`.
    ids : array, sorted and distinct
        int64, or object holding str.

    Raises
    ------
    InputError
        An id is missing, negative, or a fraction.
    """
    missing = values.isna()
    if missing.any():
        raise place.error(int(np.argmax(missing)), f"the {role} is missing (empty or NaN)", "an id in every row")
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if not pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_bool_dtype(values.dtype):
        values = values.astype("string")
    codes, distinct = pd.factorize(values)
    ids = _sortable(pd.Series(distinct), role, lambda code: int(np.argmax(codes == code)), place)
    order = np.argsort(ids, kind="stable")
    rank = np.empty(len(ids), dtype=np.int64)
    rank[order] = np.arange(len(ids))
    return rank[codes], ids[order]


def _sortable(distinct: pd.Series, role: str, row_of: Callable[[int], int], place: Place) -> np.ndarray:
    """Give distinct ids as int64 where all are whole numbers, else as an object array of str."""
    if pd.api.types.is_float_dtype(distinct.dtype):
        numbers = distinct.to_numpy(dtype=np.float64)
        # Beyond 2**53 a float no longer tells neighbouring ids apart.
        odd = (numbers != np.floor(numbers)) | (np.abs(numbers) > 2**53)
        if odd.any():
            code = int(np.argmax(odd))
            raise place.error(
                row_of(code), f"{role} id {numbers[code]} is not an exact whole number", "whole numbers or text"
            )
    elif pd.api.types.is_integer_dtype(distinct.dtype):
        if len(distinct) and distinct.max() > np.iinfo(np.int64).max:
            raise place.error(row_of(int(distinct.argmax())), f"{role} id {distinct.max()} is too large", "below 2**63")
    elif distinct.str.fullmatch(WHOLE_FLOAT).all():
        distinct = distinct.str.removesuffix(".0")
    elif not distinct.str.fullmatch(WHOLE_NUMBER).all():
        return distinct.to_numpy(dtype=object)
    ids = distinct.astype(np.int64).to_numpy()
    if len(ids) and ids.min() < 0:
        code = int(np.argmin(ids))
        raise place.error(row_of(code), f"{role} id {ids[code]} is negative", "ids of 0 or more, or text")
    return ids


def parsed(values: pd.Series, place: Place) -> pd.Series:
    """Give a column as numbers, NaN where there is none; with decimal commas where the place has them."""
    numeric = pd.to_numeric(values, errors="coerce")
    if place.decimal == "." or pd.api.types.is_numeric_dtype(values.dtype) or numeric.notna().all():
        return numeric
    return pd.to_numeric(values.str.replace(place.decimal, ".", regex=False), errors="coerce")


def numbers(values: pd.Series, role: str, place: Place) -> np.ndarray:
    """Give a column as finite numbers.

    Returns
    -------
    int64 or float64 array, length n

    Raises
    ------
    InputError
        A value is missing or is not a number.
    """
    found = parsed(values, place)
    bad = ~np.isfinite(found.to_numpy(dtype=np.float64, na_value=np.nan))
    if bad.any():
        row = int(np.argmax(bad))
        raise place.error(row, f"{role} {_shown(values.iloc[row])} is not a number", "a number in every row")
    return found.to_numpy(dtype=np.int64 if pd.api.types.is_integer_dtype(found.dtype) else np.float64)


def times(values: pd.Series, place: Place) -> np.ndarray:
    """Give a column of times as numbers that sort by time: the numbers themselves, or of dates the time since 1970.

    Dates count in UTC, in microseconds: nanoseconds do not reach beyond the year 2262.

    Returns
    -------
    int64 or float64 array, length n

    Raises
    ------
    InputError
        A value is missing, or neither a number nor a date.
    """
    dated = pd.api.types.is_datetime64_any_dtype(values.dtype)
    # One date among the numbers is a fault of that row; a column without any number is a column of dates.
    if not dated and (pd.api.types.is_numeric_dtype(values.dtype) or parsed(values, place).notna().any()):
        return numbers(values, "timestamp", place)
    dates = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
    bad = dates.isna().to_numpy()
    if bad.any():
        row = int(np.argmax(bad))
        raise place.error(
            row, f"timestamp {_shown(values.iloc[row])} is not a time", "a number or an ISO 8601 date in every row"
        )
    return dates.dt.tz_localize(None).astype("datetime64[us]").astype(np.int64).to_numpy()


def _shown(value: object) -> str:
    """Quote a bad value for a message; a missing one is called NaN."""
    return "NaN" if pd.isna(value) else repr(value)  # type: ignore[call-overload]
