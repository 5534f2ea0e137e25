"""Readers of interaction files: LightGCN's text format, and logs in all the forms of `c2f_dgl.data.tables`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from c2f_dgl.data.columns import Place, find_column, is_place, parsed, require
from c2f_dgl.data.interactions import Interactions, interactions_from_table
from c2f_dgl.data.streams import opened, reading, suffix_of
from c2f_dgl.data.tables import LOG_SUFFIXES, first_line, read_table, separator, wrong_encoding
from c2f_dgl.errors import InputError

# LightGCN's ids are row numbers: one beyond this is a damaged file, not a user.
LARGEST_ID = 2**31 - 1
LIGHTGCN_LINE = "lines of whole numbers: user item item ..."


def read_interactions(path: str | Path, *, timed: bool = False, **options: Any) -> Interactions:
    """Read a file, or a folder of one log, in whichever of the known formats it is.

    What is compressed is unpacked. Logs go by their suffix. Other text is a log if its first line has a tab, comma,
    semicolon or ``::`` or is a JSON object (or `sep` is given), else LightGCN's format.

    Parameters
    ----------
    path : str or Path
    timed : bool
        Whether times are needed, so that their column is guessed where `timestamp` names none.
    **options
        Passed to `read_log`.

    Raises
    ------
    InputError
        See `read_lightgcn` and `read_log`; or options that only a log has were given for a LightGCN file.
    """
    path = Path(path)
    if os.path.isdir(path) or suffix_of(path) in LOG_SUFFIXES or "sep" in options:
        return read_log(path, timed=timed, **options)
    line = first_line(path)
    if separator(line) is not None or line.startswith("{"):
        return read_log(path, timed=timed, **options)
    if options:
        raise InputError(
            f"{', '.join(options)} cannot be used with LightGCN's format, which has no columns",
            where=path,
            expected="a log with columns",
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
    with reading(path, "LightGCN's text"), opened(path) as stream:
        text = stream.read().removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
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
    user: str | int | None = None,
    item: str | int | None = None,
    rating: str | int | None = None,
    min_rating: float | None = None,
    timestamp: str | int | None = None,
    timed: bool = False,
    names: list[str] | None = None,
    sep: str | None = None,
) -> Interactions:
    """Read a log with an interaction a row: Parquet, JSON lines, or delimited text.

    Columns are given by name, or by place counted from 0; those that are not given go by well-known names, and a note
    says which they are. Text has a header unless `names` is given, its first two fields are both numbers, or columns
    are given by place and none of the first line's fields is a well-known name. Without a header the leading columns
    are user, item, rating and timestamp, and rows without a user or an item are left out.

    Parameters
    ----------
    path : str or Path
        A file, or a folder with RecBole's ``.inter`` or with parts in Parquet.
    user, item : str or int, optional
        Columns of the ids (whole numbers or text).
    rating : str or int, optional
        Column of ratings or counts.
    min_rating : float, optional
        Keep rows with at least this rating.
    timestamp : str or int, optional
        Column of times: numbers, or ISO 8601 dates.
    timed : bool
        Whether to guess the column of times; otherwise only a named one is read.
    names : list of str, optional
        Names of all the columns of text without a header.
    sep : str, optional
        The separator of text, one character; by default tab, else comma or semicolon, of which the first line has more.

    Raises
    ------
    InputError
        The file cannot be read, is empty, lacks a column (the message lists those there are), or a row has a missing
        or malformed value.
    """
    path = Path(path)
    given = {"user": user, "item": item, "rating": rating}
    if timed or timestamp is not None:
        given["timestamp"] = timestamp

    def choose(columns: list[str]) -> dict[str, int]:
        found = {role: find_column(columns, column, role, path) for role, column in given.items()}
        taken = {at for role, at in found.items() if given[role] is not None}
        for role, at in found.items():
            if given[role] is None and at in taken:  # somebody knows better what that one is
                found[role] = at = None
            if at is None and role in ("user", "item"):
                require(columns, role, role, path)
        return {role: at for role, at in found.items() if at is not None}

    table = read_table(path, choose, names, sep, numbered=any(map(is_place, given.values())))
    notes, used = list(table.notes), dict(table.names)
    if "rating" in used and min_rating is None:
        kept = "--set data.min_rating=... keeps the liked"
        notes.append(unused_ratings(table.frame["rating"], used.pop("rating"), table.place, kept))
    guessed = [
        f"data.{role}={name}" for role, name in used.items() if given[role] is None and (table.headless or name != role)
    ]
    if guessed:
        notes.append(f"columns guessed: {', '.join(guessed)}" + (" (no header)" if table.headless else ""))
    liked, when = (role if role in used else None for role in ("rating", "timestamp"))
    inter = interactions_from_table(table.frame, table.place, "user", "item", liked, min_rating, when)
    return replace(inter, notes=(*notes, *inter.notes))


def unused_ratings(ratings: pd.Series, name: str, place: Place, hint: str) -> str:
    """Say that a log has ratings which nobody asked for, how low they go, and what would use them."""
    counts = ratings.value_counts()  # there are few different ones
    values = parsed(pd.Series(counts.index), place)
    span = f" ({values.min():g} to {values.max():g})" if values.notna().any() else ""
    low = int(counts.to_numpy()[(values <= 0).to_numpy(dtype=bool, na_value=False)].sum())
    too = f", the {low:,} rated 0 or less too" if low else ""
    return f"ratings in column {name}{span} not used, every row counts{too} ({hint})"


def read_leading(path: str | Path, roles: Sequence[str]) -> tuple[pd.DataFrame, Place]:
    """Read the first columns of a table, in any form that `read_log` takes, whatever they are called.

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

    def choose(columns: list[str]) -> dict[str, int]:
        if len(columns) < len(roles):
            raise InputError(
                f"{len(columns)} columns", where=path, expected=f"at least {len(roles)}: {', '.join(roles)}"
            )
        return {role: at for at, role in enumerate(roles)}

    table = read_table(path, choose)
    return table.frame, table.place


def _bad_token(path: Path, text: bytes) -> InputError:
    """Find the first word of a LightGCN file that is no id, and say what is wrong with it."""
    found = re.search(rb"[^\s]*[^0-9\s][^\s]*|[^0-9 \t\r\n]", text)
    assert found is not None, "only called for text that has a letter which no id has"
    line = text.count(b"\n", 0, found.start()) + 1
    try:
        word = found.group().decode()
    except UnicodeDecodeError:
        return wrong_encoding(path)
    if "\0" in word:
        return wrong_encoding(path)
    if re.fullmatch(r"-\d+", word):
        return InputError(f"id {word[:24]} is negative", where=path, line=line, expected="ids of 0 or more")
    return InputError(f"{word[:24]!r} is not a whole number", where=path, line=line, expected=LIGHTGCN_LINE)
