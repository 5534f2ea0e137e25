"""Columns of a log turned into numbers and ids, with errors that say where the bad value stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

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
class Origin:
    """Where the rows of a table came from, for error messages."""

    where: str | Path  # the file, or a name for the table
    unit: str = "row"  # what a row is called; "line" where it is one of a file, "" where nobody knows its place
    place: Callable[[int], int] = int  # of a row, by its position in the table
    decimal: str = "."  # what may stand before the decimals of numbers, beside the point

    def of(self, rows: Callable[[int], int]) -> Origin:
        """The origin of a selection, from the position in the table of each of its rows."""
        return replace(self, place=lambda number: self.place(int(rows(number))))

    def error(self, number: int, problem: str, expected: str) -> InputError:
        """The error for a row; one that is no line of a file is named by its unit."""
        place = self.place(number)
        if self.unit == "line":
            return InputError(problem, where=self.where, line=place, expected=expected)
        named = f"{self.unit} {place}: " if self.unit else ""
        return InputError(f"{named}{problem}", where=self.where, expected=expected)

    def check(
        self, bad: Any, values: Any, problem: str, expected: str, show: Callable[[Any], object] = lambda value: value
    ) -> None:
        """Refuse the first row that is `bad` (bool array); ``{}`` in `problem` is its value, as `show` has it."""
        if bad.any():
            row = int(np.argmax(bad))
            value = values.iloc[row] if isinstance(values, pd.Series) else values[row]
            raise self.error(row, problem.format(show(value)), expected)


def counted(count: int, noun: str, rest: str = "") -> str:
    """``"1 user ..."`` or ``"12 users ..."``; nothing for none."""
    return f"{count:,} {noun}{'s' if count > 1 else ''} {rest}".rstrip() if count else ""


def require(columns: Iterable[object], column: str, role: str, where: str | Path) -> None:
    """Refuse `column`, meant as the `role`, where none or more than one of `columns` is called so."""
    names = [str(name) for name in columns]
    if names.count(column) > 1:
        raise InputError(f"{names.count(column)} columns are called {column!r}", where=where, expected=f"one {role}")
    if column not in names:
        expected = f"one of {', '.join(map(repr, names))}, by --set data.{role}=NAME, or =0, 1, ... by its place"
        raise InputError(f"no column {column!r} for the {role}", where=where, expected=expected)


def find_column(columns: Sequence[str], name: str | int | None, role: str, where: str | Path) -> int | None:
    """Position of the column of that name or number, else of the first well-known name of the role; None without."""
    if name is None:
        plain = [_plain(column) for column in columns]
        known = next((known for known in KNOWN_NAMES[role] if known in plain), None)
        if known is None:
            return None
        name = columns[plain.index(known)]
    if str(name) not in columns and is_number(name) and int(name) < len(columns):
        return int(name)
    require(columns, str(name), role, where)
    return columns.index(str(name))


def choose_columns(columns: Sequence[str], asked: Mapping[str, str | int | None], where: str | Path) -> dict[str, int]:
    """The position of the column of each role that has one: the one asked for, else one with a well-known name.

    Users and items must have one.
    """
    found = {role: find_column(columns, column, role, where) for role, column in asked.items()}
    named = {role for role, column in asked.items() if column is not None}
    taken = {found[role] for role in named}
    # A column that is asked for in one role is not guessed for another.
    chosen = {role: at for role, at in found.items() if at is not None and (role in named or at not in taken)}
    for role in ("user", "item"):
        if role not in chosen:
            require(columns, role, role, where)
    return chosen


def guesses(asked: Mapping[str, str | int | None], used: Mapping[str, str], headless: bool) -> list[str]:
    """The note on the columns in use that nobody asked for, as options that ask for them; none where there are none."""
    guessed = {role: name for role, name in used.items() if asked[role] is None and (headless or name != role)}
    text = ", ".join(f"data.{role}={name}" for role, name in guessed.items())
    return [f"columns guessed: {text}" + (" (no header)" if headless else "")] if guessed else []


def is_number(column: object) -> bool:
    """Whether a column is given by its number, counted from 0."""
    return re.fullmatch("[0-9]{1,4}", str(column)) is not None


def is_known(name: str) -> bool:
    """Whether a name is a well-known one, of any role."""
    return any(_plain(name) in names for names in KNOWN_NAMES.values())


def _plain(name: str) -> str:
    """Small letters and digits of a name, without RecBole's type behind it."""
    return re.sub(r"[\W_]", "", name.partition(":")[0].lower())


def index_ids(values: pd.Series, role: str, origin: Origin) -> tuple[npt.NDArray[np.int64], np.ndarray]:
    """Each row's position (int64) among the distinct ids of a column, and these ids, sorted: int64, or object of str.

    Whole numbers stay numbers (also where they are written as text, or all as floats such as ``3.0`` because one was
    missing once); anything else is text. Missing ids, negative ones and fractions are refused.
    """
    codes, distinct = pd.factorize(raw_ids(values, role, origin))
    first = origin.of(lambda code: int(np.argmax(codes == code)))
    ids, rank = np.unique(final_ids(pd.Series(distinct), role, first), return_inverse=True)
    return rank.astype(np.int64)[codes], ids


def raw_ids(values: pd.Series, role: str, origin: Origin) -> pd.Series:
    """A column of ids, or some of its rows, as int64 or as text; what is missing or no id is refused."""
    origin.check(values.isna(), values, f"the {role} is missing (empty or NaN)", "an id in every row")
    if isinstance(values.dtype, pd.CategoricalDtype):
        values = values.astype(values.cat.categories.dtype)
    if kind_of(values) != "numbers":
        return values.astype("string")
    if pd.api.types.is_float_dtype(values.dtype):
        floats = values.to_numpy(dtype=np.float64)
        # Beyond 2**53 a float no longer tells neighbouring ids apart.
        inexact = (floats != np.floor(floats)) | (np.abs(floats) > 2**53)
        origin.check(inexact, floats, f"{role} id {{}} is not an exact whole number", "whole numbers or text")
    origin.check(values > np.iinfo(np.int64).max, values, f"{role} id {{}} is too large", "below 2**63")
    values = values.astype(np.int64)
    origin.check(values < 0, values, *_negative(role))
    return values


def _negative(role: str) -> tuple[str, str]:
    return f"{role} id {{}} is negative", "ids of 0 or more, or text"


def final_ids(raw: pd.Series, role: str, origin: Origin) -> np.ndarray:
    """Distinct `raw_ids` of a whole log as int64 where all are whole numbers, else as an object array of str."""
    if kind_of(raw) == "numbers":
        return raw.to_numpy()
    if raw.str.fullmatch(WHOLE_FLOAT).all():
        raw = raw.str.removesuffix(".0")
    elif not raw.str.fullmatch(WHOLE_NUMBER).all():
        return raw.to_numpy(dtype=object)
    ids = raw.astype(np.int64).to_numpy()
    origin.check(ids < 0, ids, *_negative(role))
    return ids


def kind_of(values: pd.Series) -> str:
    """What a column's values are to us: ``"numbers"`` and ``"text"`` of any width, or ``"times"``."""
    dtype = values.cat.categories.dtype if isinstance(values.dtype, pd.CategoricalDtype) else values.dtype
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_bool_dtype(dtype):
        return "numbers"
    return "times" if pd.api.types.is_datetime64_any_dtype(dtype) else "text"


def parsed(values: pd.Series, origin: Origin) -> pd.Series:
    """A column as numbers, NaN where there is none; with decimal commas where the origin has them."""
    numeric = pd.to_numeric(values, errors="coerce")
    if origin.decimal == "." or pd.api.types.is_numeric_dtype(values.dtype) or numeric.notna().all():
        return numeric
    return pd.to_numeric(values.str.replace(origin.decimal, ".", regex=False), errors="coerce")


def numbers(values: pd.Series, role: str, origin: Origin) -> np.ndarray:
    """A column as finite numbers, int64 or float64; what is missing or no number is refused."""
    column = parsed(values, origin)
    bad = ~np.isfinite(column.to_numpy(dtype=np.float64, na_value=np.nan))
    origin.check(bad, values, f"{role} {{}} is not a number", "a number in every row", _quoted)
    return column.to_numpy(dtype=np.int64 if pd.api.types.is_integer_dtype(column.dtype) else np.float64)


def are_dates(values: pd.Series, origin: Origin) -> bool:
    """Whether a column of times holds dates: it has no number. One date among numbers is a fault of its row."""
    return kind_of(values) == "times" or (kind_of(values) == "text" and parsed(values, origin).isna().all())


def times(values: pd.Series, origin: Origin, dated: bool) -> np.ndarray:
    """A column of times as numbers, int64 or float64: the numbers themselves, or of dates the microseconds since 1970.

    Dates count in UTC; nanoseconds would not reach beyond the year 2262. What is neither number nor date is refused.
    """
    if not dated:
        return numbers(values, "timestamp", origin)
    dates = pd.to_datetime(values, errors="coerce", utc=True, format="ISO8601")
    expected = "a number or an ISO 8601 date in every row"
    origin.check(dates.isna(), values, "timestamp {} is not a time", expected, _quoted)
    return dates.dt.tz_localize(None).astype("datetime64[us]").astype(np.int64).to_numpy()


def _quoted(value: object) -> str:
    """A bad value for a message; a missing one is called NaN."""
    return "NaN" if pd.isna(value) else repr(value)  # type: ignore[call-overload]
