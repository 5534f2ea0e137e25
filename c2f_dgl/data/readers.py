"""Readers of interaction files: LightGCN's text format, and logs as CSV, TSV or Parquet."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet

from c2f_dgl.data.columns import MISSING, Place, require
from c2f_dgl.data.interactions import Interactions, interactions_from_table
from c2f_dgl.errors import InputError

# LightGCN's ids are row numbers: one beyond this is a damaged file, not a user.
LARGEST_ID = 2**31 - 1
LIGHTGCN_LINE = "lines of whole numbers: user item item ..."
PARQUET_SUFFIXES = {".parquet", ".pq"}
LOG_SUFFIXES = {".csv", ".tsv", *PARQUET_SUFFIXES}
# First bytes of gzip, zip, bzip2, xz and zstd.
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
SEPARATORS = ("\t", ",", ";")
# What follows the columns that have a name.
_NAMELESS = "\0"
# Names for the leading columns of a log without a header; MovieLens, Amazon and HetRec all write them in this order.
DEFAULT_NAMES = ("user", "item", "rating", "timestamp")


def read_interactions(path: str | Path, **options: Any) -> Interactions:
    """Read a file in whichever of the known formats it is.

    Parquet, CSV and TSV go by their suffix. Other text is a log if its first line has a tab, comma or semicolon (or
    `sep` is given), else LightGCN's format.

    Parameters
    ----------
    path : str or Path
    **options
        Passed to `read_log`.

    Raises
    ------
    InputError
        See `read_lightgcn` and `read_log`; or options that only a log has were given for a LightGCN file.
    """
    path = Path(path)
    is_log = path.suffix.lower() in LOG_SUFFIXES or "sep" in options
    if is_log or any(mark in _first_line(path) for mark in SEPARATORS):
        return read_log(path, **options)
    if options:
        raise InputError(
            f"{', '.join(options)} cannot be used with LightGCN's format, which has no columns",
            where=path,
            expected="a CSV, TSV or Parquet log",
        )
    return read_lightgcn(path)


def read_lightgcn(path: str | Path) -> Interactions:
    """Read LightGCN's text format: a line a user, ``user item item ...``, separated by blanks.

    A line may hold a user alone (a user without items). Where ids run from 0 without gaps they are the internal
    indices; otherwise the numbers are external ids and the indices are made compact.

    Raises
    ------
    InputError
        The file cannot be read, is empty, or holds something that is not an id from 0 to 2**31 - 1.
    """
    path = Path(path)
    text = read_bytes(path).removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if text.translate(None, b"0123456789 \t\n"):
        raise _bad_token(path, text)
    letters = np.frombuffer(text, dtype=np.uint8)
    digit = letters >= ord("0")
    edges = np.flatnonzero(np.diff(digit, prepend=False, append=False))
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        raise InputError("the file is empty", where=path, expected=LIGHTGCN_LINE)
    # Tokens before each line end, so tokens in each line.
    line_ends = np.append(np.flatnonzero(letters == ord("\n")), len(letters))
    tokens_before = np.searchsorted(starts, line_ends)
    per_line = np.diff(tokens_before, prepend=0)
    # Ten digits are the most that an id below 2**31 has, and always fit into an int64.
    too_long = ends - starts > 10
    ids = np.zeros(len(starts), dtype=np.int64) if too_long.any() else np.fromstring(text, dtype=np.int64, sep=" ")
    too_large = too_long | (ids > LARGEST_ID)
    if too_large.any():
        token = int(np.argmax(too_large))
        raise InputError(
            f"id {text[starts[token] : ends[token]][:24].decode()} is absurdly large",
            where=path,
            line=int(np.searchsorted(tokens_before, token, side="right")) + 1,
            expected=f"ids from 0 to {LARGEST_ID}",
        )
    written = per_line > 0
    first = (tokens_before - per_line)[written]
    is_user = np.zeros(len(ids), dtype=bool)
    is_user[first] = True
    user_ids, line_users = np.unique(ids[first], return_inverse=True)
    item_ids, items = np.unique(ids[~is_user], return_inverse=True)
    if not len(items):
        raise InputError("no user has an item", where=path, expected=LIGHTGCN_LINE)
    users = np.repeat(line_users, per_line[written] - 1)
    return Interactions.from_pairs(users.astype(np.int64), items.astype(np.int64), user_ids, item_ids)


def read_log(
    path: str | Path,
    *,
    user: str = "user",
    item: str = "item",
    rating: str | None = None,
    min_rating: float | None = None,
    timestamp: str | None = None,
    names: list[str] | None = None,
    sep: str | None = None,
) -> Interactions:
    """Read a log with an interaction a row: Parquet by its suffix, else delimited text in UTF-8.

    Text has a header unless `names` is given or its first two fields are both numbers; without either the leading
    columns are called ``user``, ``item``, ``rating``, ``timestamp``.

    Parameters
    ----------
    path : str or Path
    user, item : str
        Columns of the ids (whole numbers or text).
    rating : str, optional
        Column of ratings or counts.
    min_rating : float, optional
        Keep rows with at least this rating; needs `rating`.
    timestamp : str, optional
        Column of times: numbers, or ISO 8601 dates.
    names : list of str, optional
        Names of all the columns of a file without a header.
    sep : str, optional
        The separator, one character; by default tab, comma or semicolon, whichever the first line has.

    Raises
    ------
    InputError
        The file cannot be read, is empty, is not UTF-8, lacks a column (the message lists those there are), or a
        row has a missing or malformed value.
    """
    path = Path(path)
    roles = {"user": user, "item": item, "rating": rating, "timestamp": timestamp}
    wanted = {role: column for role, column in roles.items() if column is not None}
    table, place = _read_table(path, wanted, names, sep)
    return interactions_from_table(table, place, user, item, rating, min_rating, timestamp)


def read_leading(path: str | Path, roles: Sequence[str]) -> tuple[pd.DataFrame, Place]:
    """Read the first columns of a table, Parquet or delimited text as `read_log` takes it, whatever they are called.

    Parameters
    ----------
    path : str or Path
    roles : sequence of str
        What the columns are for; their names in the result.

    Raises
    ------
    InputError
        The file cannot be read, or has too few columns.
    """
    path = Path(path)
    table, place = _read_table(path, {}, None, None)
    if table.shape[1] < len(roles):
        raise InputError(f"{table.shape[1]} columns", where=path, expected=f"at least {len(roles)}: {', '.join(roles)}")
    return table.iloc[:, : len(roles)].set_axis(list(roles), axis=1), place


def _read_table(
    path: Path, wanted: dict[str, str], names: list[str] | None, sep: str | None
) -> tuple[pd.DataFrame, Place]:
    """A table with the wanted columns (by role; any others too), and where its rows stand."""
    if path.suffix.lower() in PARQUET_SUFFIXES:
        return _read_parquet(path, wanted), Place(path)
    if sep is not None and (len(sep) != 1 or sep in "\r\n"):
        raise InputError(f"a separator {sep!r}", where=path, expected="one character, no line end")
    if names is not None and len(set(names)) < len(names):
        raise InputError("two columns have the same name", where="names", expected="a name of its own for each")
    first = _first_line(path)
    sep = sep or next((mark for mark in SEPARATORS if mark in first), ",")
    fields = first.split(sep)
    if names is None and len(fields) >= 2 and all(_is_number(field) for field in fields[:2]):
        names = [*DEFAULT_NAMES[: len(fields)], *(f"column {n}" for n in range(5, len(fields) + 1))]

    def line_of(row: int) -> int:
        # Only ever run for an error message. Blank lines count as lines but are no rows.
        with path.open("rb") as lines:
            filled = (n for n, line in enumerate(lines, start=1) if line.strip(b"\r\n "))
            return next(islice(filled, row + (names is None), None))

    return _read_text(path, sep, names, wanted), Place(path, line_of)


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises
    ------
    InputError
        The file is missing, is a directory or a pipe, or may not be read.
    """
    _check_regular(path)
    try:
        return path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error) from error


def _check_regular(path: Path) -> None:
    """Refuse a pipe before it is opened: what is looked at is read more than once, and a pipe only gives once."""
    # os.path: where a folder may not be entered it answers no, and pathlib raises.
    if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
        raise InputError("this is a pipe or a device", where=path, expected="a file, which can be read more than once")


def _unreadable(path: Path, error: OSError) -> InputError:
    if isinstance(error, FileNotFoundError):
        return InputError("no such file", where=path, expected="a file of interactions, or of a relation")
    if isinstance(error, IsADirectoryError):
        return InputError("this is a directory", where=path, expected="a file")
    return InputError(f"cannot read: {error.strerror or error}", where=path, expected="a readable file")


def _first_line(path: Path) -> str:
    """Give the first line that is not blank."""
    _check_regular(path)
    try:
        with path.open(encoding="utf-8-sig") as lines:
            line = next((line for line in lines if line.strip()), None)
    except OSError as error:
        raise _unreadable(path, error) from error
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path) from error
    if line is None:
        raise InputError("the file is empty", where=path, expected="interactions")
    return line.rstrip("\r\n")


def _is_number(field: str) -> bool:
    return re.fullmatch(r'\s*("?)[+-]?\d+(\.\d+)?([eE][+-]?\d+)?\1\s*', field) is not None


def _bad_token(path: Path, text: bytes) -> InputError:
    """Find the first word of a LightGCN file that is no id, and say what is wrong with it."""
    found = re.search(rb"[^\s]*[^0-9\s][^\s]*|[^0-9 \t\r\n]", text)
    assert found is not None, "only called for text that has a letter which no id has"
    line = text.count(b"\n", 0, found.start()) + 1
    try:
        word = found.group().decode()
    except UnicodeDecodeError:
        return _wrong_encoding(path)
    if "\0" in word:
        return _wrong_encoding(path)
    if re.fullmatch(r"-\d+", word):
        return InputError(f"id {word[:24]} is negative", where=path, line=line, expected="ids of 0 or more")
    return InputError(f"{word[:24]!r} is not a whole number", where=path, line=line, expected=LIGHTGCN_LINE)


def _wrong_encoding(path: Path) -> InputError:
    """Name the first line that is not UTF-8 text; a file of NULs (UTF-16, binary) is decodable but no text."""
    raw = path.read_bytes()
    try:
        at = raw.decode().find("\0")
    except UnicodeDecodeError as error:
        at = error.start
    if raw.startswith(_COMPRESSED):
        return InputError("this is compressed", where=path, expected="plain text, or Parquet")
    return InputError("this is not UTF-8 text", where=path, line=raw.count(b"\n", 0, at) + 1, expected="UTF-8")


def _read_parquet(path: Path, wanted: dict[str, str]) -> pd.DataFrame:
    """Read the wanted columns (by role) of a Parquet file, or all of them if none is wanted by name."""
    _check_regular(path)
    try:
        columns = pyarrow.parquet.read_schema(path).names
        for role, column in wanted.items():
            require(columns, column, role, path)
        table = pyarrow.parquet.read_table(path, columns=list(dict.fromkeys(wanted.values())) or None)
        return table.to_pandas(ignore_metadata=True)  # with it an index of pandas would be no column
    except pyarrow.ArrowInvalid as error:
        raise InputError("not a Parquet file, or a truncated one", where=path, expected="Parquet") from error
    except OSError as error:
        raise _unreadable(path, IsADirectoryError() if path.is_dir() else error) from error


def _without_last(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """The columns that have a name, where lines end with a separator; a field more in them is refused."""
    if table[_NAMELESS].notna().any():
        n = table.shape[1] - 1
        raise InputError(
            f"every line has a field more than the {n} columns that have a name",
            where=path,
            expected="a name for each column (one for the row numbers, too)",
        )
    return table.drop(columns=_NAMELESS)


def _read_text(path: Path, sep: str, names: list[str] | None, wanted: dict[str, str]) -> pd.DataFrame:
    """Read the wanted columns (by role) of delimited text, as text, so that ids such as ``007`` survive."""
    try:
        columns = names or list(pd.read_csv(path, sep=sep, nrows=0, skipinitialspace=True, encoding="utf-8-sig"))
        for role, column in wanted.items():
            require(columns, column, role, path)
        # No `usecols`: with it pandas no longer sees a line with a field too many, and reads the wrong fields.
        read = partial(
            pd.read_csv,
            path,
            sep=sep,
            header=None if names else 0,
            index_col=False,
            dtype="string",
            # Ids may well be called "NA" or "None"; only these mean that nothing is there.
            keep_default_na=False,
            na_values=list(MISSING),
            skipinitialspace=True,
            encoding="utf-8-sig",
        )
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                return read(names=names)
        except pd.errors.ParserWarning:  # every line has more fields than there are columns
            return _without_last(read(names=[*columns, _NAMELESS]), path)
    except UnicodeDecodeError as error:
        raise _wrong_encoding(path) from error
    except pd.errors.ParserError as error:
        line = re.search(r"line (\d+)", str(error))
        raise InputError(
            f"cannot be split at {sep!r}: {str(error).removeprefix('Error tokenizing data. C error: ')}",
            where=path,
            line=int(line.group(1)) if line else None,
            expected="the same number of fields in every line",
        ) from error
